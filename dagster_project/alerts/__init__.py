"""Alerts: what a person must know, sent once, to where the person wants it.

Noticing (`watch`), deciding what is news (`fold`), writing texts without secrets and personal data
(`alert`, `wording`), sending (`send`) and the occasions for all that (`occasions`) belong here. Deciding
whether a build may be published does not (`releases`).
"""

from dagster_project.alerts.alert import Alert, Kind

__all__ = ["Alert", "Kind"]
