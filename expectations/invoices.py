"""What is checked in a batch of invoices beyond its columns: that it adds up, and whom it bills."""

import pandas as pd

from expectations.building import Contract, Share, contract, holds

PARTS = ("list_amount", "discount_amount", "credit_amount", "tax_amount", "total_amount")
PERIOD = ("period_start", "period_end")
DAY_LETTERS = len("2026-01-31")
"""How many letters a day has; it may be delivered as its midnight."""


def derive(rows: pd.DataFrame) -> pd.DataFrame:
    """Add columns for statements about a row: 1 if true, 0 if false, empty if a value is unreadable.

    `adds_up`: total = list - discount - credit + tax. `period_is_ordered`: the period ends after it starts.
    `inclusive_end`, of bills by the month or year: the end is the last day of the period, not the day
    after it. A prorated bill may end on that day by chance, most bills of a file may not.
    """
    listed, discount, credit, tax, total = (rows[f"{name}_number"] for name in PARTS)
    first, end = (rows[name].astype("string").str[:DAY_LETTERS] for name in PERIOD)
    ends_later = end > first
    start, next_day = (
        pd.to_datetime(day, format="%Y-%m-%d", errors="coerce") for day in (first, end)
    )
    next_day += pd.Timedelta(days=1)
    is_inclusive = (next_day.dt.day == start.dt.day) & (next_day > start)
    is_by_month = (
        rows["billing_interval"].isin(["month", "year"]) & start.notna() & next_day.notna()
    )
    return rows.assign(
        adds_up=(total == listed - discount - credit + tax).astype("Int64"),
        period_is_ordered=ends_later.astype("Int64"),
        inclusive_end=is_inclusive.astype("Int64").where(is_by_month),
    )


INVOICES = Contract(
    feed=contract("invoices"),
    derive=derive,
    more_rows=(
        holds("adds_up", "invoice_adds_up", PARTS),
        holds("period_is_ordered", "period_ends_after_it_starts", PERIOD),
    ),
    shares=(
        Share(
            "inclusive_end",
            "period_end_is_exclusive",
            "deliver the day after the last day of the period billed: dollar-off per month counts the"
            " months up to it",
        ),
    ),
    refers_to={"workspace_id": "workspaces"},
    totals=("list_amount",),
)
