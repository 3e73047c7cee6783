"""The invoices a workspace gets and their cost before coupons: trial, months, years, the end.

The base price is billed in advance, MTUs above those included once their month is over. The first bill
comes the day after a trial of 14 days, later bills on its anniversaries, clamped to the month's end. A
workspace that gives notice pays its last, shorter period by the day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from dagster_project.sample.billing import Bill
from dagster_project.sample.moments import DAY, day_in_month, month_of, month_start
from dagster_project.sample.prices import BUSINESS, PRICES, TEAM, rounded_share

TRIAL_DAYS: Final = 14
MOST_MTUS: Final = 600_000

# Share of the usual MTUs, January to December.
SEASONS: Final = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    (0.94, 0.92, 0.96, 0.97, 0.98, 0.96, 0.93, 0.95, 1.0, 1.04, 1.22, 1.27),
    (1.05, 1.06, 1.05, 1.03, 1.0, 0.86, 0.72, 0.78, 1.12, 1.12, 1.1, 0.95),
)


@dataclass(slots=True)
class Workspace:
    """An invented workspace: its identity, how it pays and how it grows.

    Attributes:
        number: 1 for the first.
        created_at: Seconds since 1970.
        tax_rate: Thousandths of a percent.
        billing_second: Second of the day at which it is billed.
        mtus: MTUs of its first month in the sample, before season and chance.
        growth: Factor from a month to the next, fading to 1.
        cancelled_on: Day number of its end, if it gives notice.
        business_from: Day number from which it is on the business plan.
        paused: Numbers of the billing periods without service or bill.
        bills_zero: Whether a yearly customer's month without overage is invoiced at 0.00.
        is_dormant: Created, and never billed.
        is_shown: Whether it shows one thing to a reader, so no error is planted.
        void_bill: Position of a bill to void and re-issue.
        restated_bill: Position of a bill to restate.
        scenario: Name of what it shows.
    """

    number: int
    workspace_id: str
    workspace_name: str
    owner_user_id: str
    created_at: int
    currency: str
    billing_interval: str
    tax_rate: int
    billing_second: int
    mtus: int
    growth: float
    season: int
    cancelled_on: int | None = None
    business_from: int | None = None
    paused: frozenset[int] = field(default_factory=frozenset)
    bills_zero: bool = False
    is_dormant: bool = False
    is_shown: bool = False
    void_bill: int | None = None
    restated_bill: int | None = None
    scenario: str = "list_price"

    @property
    def anchor(self) -> int:
        """Day number of the first bill, the day after the trial."""
        return self.created_at // DAY + TRIAL_DAYS


def bills(workspace: Workspace, first_day: int, last_day: int, rng: Random) -> Iterator[Bill]:
    """Yield the invoices of a workspace in the order they are issued, status still open.

    Args:
        workspace: The workspace.
        first_day: Day number of the sample's first day; earlier periods are not billed.
        last_day: Its last day; later invoices are not issued yet.
        rng: Chance.

    Yields:
        Invoices before coupons, with growing `issued_at`.
    """
    if workspace.is_dormant:
        return
    anchor = workspace.anchor
    anchor_month = month_of(anchor)
    day_of_month = anchor - month_start(anchor_month) + 1
    period = max(0, month_of(first_day) - anchor_month)
    if day_in_month(anchor_month + period, day_of_month) < first_day:
        period += 1
    is_yearly = workspace.billing_interval == "year"
    season = SEASONS[workspace.season]
    level, growth = float(workspace.mtus), workspace.growth
    stop = last_day + 1 if workspace.cancelled_on is None else workspace.cancelled_on
    sequence = 0
    # A customer from before the sample has MTUs of a month that is not in the sample.
    used: int | None = workspace.mtus if period > 0 else None

    while True:
        month = anchor_month + period
        start = day_in_month(month, day_of_month)
        if start > last_day or start > stop:
            return
        end = day_in_month(month + 1, day_of_month)
        previous = day_in_month(month - 1, day_of_month)
        is_last = start < stop < end and stop <= last_day
        issued_at = start * DAY + workspace.billing_second + int(rng.random() * 600)
        plan = TEAM
        if workspace.business_from is not None and start >= workspace.business_from:
            plan = BUSINESS
        prices = PRICES[plan, workspace.currency]
        overage = 0 if used is None else prices.overage(used)
        is_paused = period in workspace.paused

        if is_yearly:
            if period > 0 and (overage or (workspace.bills_zero and used is not None)):
                sequence += 1
                yield _bill(workspace, sequence, plan, "month", previous, start, 1, overage, used,
                            issued_at)  # fmt: skip
            if period % 12 == 0 and start < stop:
                sequence += 1
                yield _bill(workspace, sequence, plan, "year", start,
                            day_in_month(month + 12, day_of_month), 12, 12 * prices.base, None,
                            issued_at + 900)  # fmt: skip
        elif not is_paused and start < stop:
            base = prices.base
            if is_last:
                base = rounded_share(base, stop - start, end - start)
            sequence += 1
            yield _bill(workspace, sequence, plan, "month", start, stop if is_last else end, 1,
                        base + overage, used, issued_at)  # fmt: skip
        elif start == stop and overage:
            sequence += 1
            yield _bill(workspace, sequence, plan, "month", previous, start, 1, overage, used,
                        issued_at)  # fmt: skip
        if start == stop:
            return

        level = min(level * growth, MOST_MTUS)
        growth = 1.0 + (growth - 1.0) * 0.97
        used = int(level * season[month % 12] * (0.9 + 0.2 * rng.random()))
        if is_paused:
            used = None
        if is_last:
            if used is not None:
                used = used * (stop - start) // (end - start)
                overage = prices.overage(used)
                if overage:
                    sequence += 1
                    issued_at = stop * DAY + workspace.billing_second
                    yield _bill(workspace, sequence, plan, "month", start, stop, 1, overage, used,
                                issued_at)  # fmt: skip
            return
        period += 1


def _bill(
    workspace: Workspace,
    sequence: int,
    plan: str,
    interval: str,
    period_start: int,
    period_end: int,
    months: int,
    list_amount: int,
    mtus: int | None,
    issued_at: int,
) -> Bill:
    return Bill(
        f"in_{workspace.number:05d}_{sequence:03d}",
        plan,
        interval,
        workspace.currency,
        period_start,
        period_end,
        months,
        list_amount,
        mtus,
        issued_at,
        "open",
    )
