"""The questions people ask of a release, each a function that returns a dictionary of plain values.

Each module answers one command: it queries the open release (`asking`) and puts the facts into a plain
dictionary of Decimal, dates, text, numbers, lists and dictionaries. `cli/` and `dashboard/` present that
dictionary as text, JSON (`as_json`) or a page. Amounts come from the release; only sums, the steps between
two bills, and why a coupon does not cover a bill (`explain`) are calculated here. Publishing does not
belong here.
"""
