"""The questions people ask a release, each a reading command: text for 80 columns, or JSON.

Here belongs one module per command or small group: it asks the open release (`asking`), puts the
facts into a plain dictionary, which is the JSON, and tells that dictionary as text (`layout`, `words`).
Only what the release holds is used; nothing here calculates a charge. Publishing does not belong here.
"""
