"""The questions people ask a release, each a function that returns a dictionary of plain values.

Here belongs one module per command: it asks the open release (`asking`) and puts the facts into a plain
dictionary of Decimal, dates, text, numbers, lists and dictionaries. `cli/` and `dashboard/` lay the same
dictionary out, as text, JSON (`as_json`) or a page. What an amount is, the release says; calculated here
are sums, and why a coupon does not cover a bill (`explain`). Publishing does not belong here.
"""
