"""Alerts: what a person must hear of, told once, where they want to hear it.

Here belongs noticing (`watch`), deciding what is news (`fold`), writing it so that no secret and no
personal data is in it (`alert`, `wording`), sending (`send`) and the occasions on which that happens
(`occasions`). Deciding whether a build may be published does not (`releases`).
"""

from dagster_project.alerts.alert import Alert, Kind

__all__ = ["Alert", "Kind"]
