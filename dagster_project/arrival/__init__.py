"""Arrival: from files in the landing folder to rows of text in the raw tables, nothing lost.

Here belongs all that touches a delivered file: finding it, archiving its bytes, checking them, and
loading its rows as they stand. What a value means does not: that is the staging models' business.

What arrives files is imported when it is asked for: the process that reads one Parquet file does without.
"""

from typing import TYPE_CHECKING, Any

from dagster_project.arrival.report import (
    ArrivalError,
    DeliveryReport,
    GateResult,
    Limits,
    Refusal,
)

if TYPE_CHECKING:
    from dagster_project.arrival.arriving import arrive, rebuild

__all__ = [
    "ArrivalError",
    "DeliveryReport",
    "GateResult",
    "Limits",
    "Refusal",
    "arrive",
    "rebuild",
]


def __getattr__(name: str) -> Any:
    if name not in ("arrive", "rebuild"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dagster_project.arrival import arriving

    return getattr(arriving, name)
