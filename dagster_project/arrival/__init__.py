"""Arrival: from files in the landing folder to rows of text in the raw tables, nothing lost.

Here belongs all that touches a delivered file: finding it, archiving its bytes, checking them, and
loading its rows as they stand. What a value means does not: that is the staging models' business.
"""

from dagster_project.arrival.arriving import arrive, rebuild
from dagster_project.arrival.report import (
    ArrivalError,
    DeliveryReport,
    GateResult,
    Limits,
    Refusal,
)

__all__ = [
    "ArrivalError",
    "DeliveryReport",
    "GateResult",
    "Limits",
    "Refusal",
    "arrive",
    "rebuild",
]
