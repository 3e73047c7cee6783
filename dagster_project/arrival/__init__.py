"""Arrival: from files in the landing folder to rows of text or values, nothing lost.

Everything that touches a delivered file belongs here: finding it, archiving its bytes, checking them, and
loading its rows unchanged. The meaning of a value does not: the staging models define it.

Code that loads files is imported on demand, because the process that reads Parquet files does not need it.
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
