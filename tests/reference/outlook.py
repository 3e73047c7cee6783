"""What bills to expect, and what coupons and credit will do to them: rule R12.

The expected bills, the calculation over them, and its results for a redemption, a grant and a workspace,
which the marts show, belong here. Nothing here repeats another rule: the outlook is the calculation of
`rules` at a later instant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from tests.reference.rules import (
    RECURRING_INTERVALS,
    Coupon,
    Gift,
    Grant,
    Invoice,
    LaterTerms,
    Records,
    Redemption,
    ReportingCalendar,
    State,
    add_months,
    calculate,
    count_invoices,
    currency_of,
    earliest,
    grant_start,
    month_before,
    month_of,
    own_end,
    round_half_away,
    status_of,
)

MONTHS_AHEAD = 24
MONTHS_LISTED = 12
DAYS_OF_GRACE = 15
BILLS_OF_A_MEAN = 3

Line = tuple[str, str | None, str, str, int, str]


def line_of(bill: Invoice) -> Line | None:
    """R12: the line of bills that a bill above zero belongs to; None where bills do not recur."""
    if bill.list_minor <= 0 or bill.billing_interval not in RECURRING_INTERVALS:
        return None
    return (
        bill.workspace_id,
        bill.subscription_id,
        bill.plan,
        bill.billing_interval,
        bill.interval_count,
        bill.currency,
    )


def intervals_after(instant: datetime, interval: str, count: int, times: int) -> datetime | None:
    """R12: an instant some billing intervals on, months clamped; None when past the year 9999."""
    if interval == "day":
        return instant + timedelta(days=count * times)
    if interval == "week":
        return instant + timedelta(days=7 * count * times)
    return add_months(instant, count * times * (12 if interval == "year" else 1))


def mean(amounts: Sequence[int]) -> int:
    """R12: the mean, rounded half away from zero."""
    return round_half_away(sum(amounts), len(amounts))


def expected_bills(counted: Sequence[Invoice], now: datetime, horizon: datetime) -> list[Invoice]:
    """R12: the bills that running lines lead to expect, from the end of the as-of day to the horizon.

    Args:
        counted: The counted invoices in the order in which they are served.
        now: The end of the as-of day.
        horizon: The end of the outlook.
    """
    lines: dict[Line, list[Invoice]] = defaultdict(list)
    for invoice in counted:
        line = line_of(invoice)
        if line is not None:
            lines[line].append(invoice)
    bills = []
    for (_, _, _, interval, count, _), of_line in lines.items():
        last = of_line[-1]
        due = intervals_after(last.issued_at, interval, count, 1)
        if due is not None and due + timedelta(days=DAYS_OF_GRACE) < now:
            continue
        recent = of_line[-1:] if interval == "year" else of_line[-BILLS_OF_A_MEAN:]
        number = 1
        while due is not None and due < horizon:
            if due >= now:
                start = datetime.combine(due.date(), time())
                end = intervals_after(start, interval, count, 1)
                bills.append(
                    Invoice(
                        invoice_id=f"{last.invoice_id}~expected-{number:04d}",
                        workspace_id=last.workspace_id,
                        status="expected",
                        plan=last.plan,
                        billing_interval=interval,
                        interval_count=count,
                        subscription_id=last.subscription_id,
                        currency=last.currency,
                        period_start=start.date(),
                        period_end=date.max if end is None else end.date(),
                        issued_at=due,
                        list_minor=mean([bill.list_minor for bill in recent]),
                        discountable_given=mean([bill.discountable for bill in recent]),
                        creditable_given=mean(
                            [
                                bill.list_minor
                                if bill.creditable_given is None
                                else bill.creditable_given
                                for bill in recent
                            ]
                        ),
                        is_expected=True,
                    )
                )
            number += 1
            due = intervals_after(last.issued_at, interval, count, number)
    return bills


# ------------------------------------------------------------------------------ looking at a bill


@dataclass(eq=False)
class Outlook:
    """R12: the calculation at the horizon, over counted and expected bills.

    Attributes:
        now: The end of the as-of day.
        horizon: The end of the outlook.
        state: What the rules make of all these bills.
        given: Per bill, counted or expected, what all redemptions give on it, in minor units.
        followed_up: The redemptions that an honoured one follows by then.
    """

    now: datetime
    horizon: datetime
    state: State
    given: dict[str, int] = field(default_factory=dict)
    followed_up: set[Redemption] = field(default_factory=set)

    def expected_of(self, workspace_id: str) -> list[Invoice]:
        """The expected bills of a workspace in the order in which they are served."""
        bills = self.state.invoices_of_workspace.get(workspace_id, [])
        return [bill for bill in bills if bill.is_expected]


def look_ahead(
    records: Records,
    coupons: Mapping[str, Coupon],
    now: datetime,
    later: LaterTerms | None = None,
) -> Outlook:
    """R12: calculate over counted and expected bills with the redemptions known at the as-of day."""
    horizon = add_months(now, MONTHS_AHEAD)
    if horizon is None:
        raise ValueError(f"{now} + {MONTHS_AHEAD} months is past the year 9999")
    bills = count_invoices(records.get("invoices", ()), now)
    bills += expected_bills(bills, now, horizon)
    bills.sort(key=lambda bill: bill.key)
    state = calculate(records, coupons, now, horizon, bills, later)
    outlook = Outlook(now, horizon, state)
    for bill in bills:
        outlook.given[bill.invoice_id] = bill.discount_given + bill.credit_given
    for follow_up in state.honoured:
        outlook.followed_up.update(follow_up.follows)
    return outlook


def workspaces_concerned(state: State, outlook: Outlook) -> set[str]:
    """R12: the workspaces with something active or scheduled, or a follow-up or grant to come.

    Args:
        state: The calculation at the end of the as-of day.
        outlook: The calculation at the horizon.
    """
    concerned = {
        redemption.workspace_id
        for redemption in state.honoured
        if status_of(redemption, state.now) in ("active", "scheduled")
    }
    for redemption in outlook.state.honoured:
        if redemption.is_derived and redemption.start >= outlook.now:
            concerned.add(redemption.workspace_id)
        if any(grant.start >= outlook.now for grant in redemption.grants):
            concerned.add(redemption.workspace_id)
    return concerned


# ------------------------------------------------------------------------- what ends, and with what


def leaves_all_grants_at_zero(redemption: Redemption, bill: Invoice) -> bool:
    """R12: whether nothing is left of a credit after a bill, in any grant issued or to come."""
    if grant_start(redemption, len(redemption.grants) + 1) is not None:
        return False
    return all(grant.left_after(bill) == 0 for grant in redemption.grants)


def last_benefit(redemption: Redemption) -> tuple[Gift, Gift] | None:
    """R12: what the redemption gave on L, and on the last bill on which it gives something."""
    if not redemption.gifts:
        return None
    last = redemption.gifts[-1]
    bill = last.invoice
    if (
        redemption.known_coupon.discount_type == "credit"
        and leaves_all_grants_at_zero(redemption, bill)
        and bill.net > 0
    ):
        for gift in reversed(redemption.gifts):
            if gift.invoice is not bill and line_of(gift.invoice) == line_of(bill) is not None:
                return gift, last
    return last, last


def per_month(amount: int, bill: Invoice) -> int:
    """R12: an amount of one bill spread over the months of its billing interval."""
    times, parts = {"month": (1, 1), "year": (1, 12), "week": (52, 12), "day": (365, 12)}[
        bill.billing_interval
    ]
    return round_half_away(amount * times, parts * bill.interval_count)


def rise_after(redemption: Redemption, outlook: Outlook) -> tuple[Invoice | None, int | None]:
    """R12: L, and by how much the bill after the redemption's last benefit rises.

    The rise is None where there is no such bill, or where L is in another currency than the row.
    """
    found = last_benefit(redemption)
    if found is None:
        return None, None
    benefit, last = found[0].invoice, found[1].invoice
    if line_of(benefit) is None or benefit.currency != currency_of(redemption):
        return benefit, None
    for bill in outlook.expected_of(redemption.workspace_id):
        if line_of(bill) == line_of(benefit) and bill.key > last.key:
            return benefit, outlook.given[benefit.invoice_id] - outlook.given[bill.invoice_id]
    return benefit, None


def end_of_last_grant(redemption: Redemption) -> datetime | None:
    """R12: when the last grant of a credit ends, issued or to come; None where it never does."""
    number = 1
    while grant_start(redemption, number + 1) is not None:
        number += 1
    return earliest(own_end(redemption, number), redemption.end)


def runs_out(redemption: Redemption) -> tuple[datetime, str] | None:
    """R12: when an active redemption runs out and by what; None when it does not.

    Args:
        redemption: As the outlook has it.
    """
    is_credit = redemption.known_coupon.discount_type == "credit"
    possible: list[tuple[datetime, str]] = []
    end = end_of_last_grant(redemption) if is_credit else redemption.end
    if end is not None:
        possible.append((end, "end"))
    if redemption.uses_left == 0 and redemption.used_on[-1].is_expected:
        possible.append((redemption.used_on[-1].issued_at, "uses"))
    if is_credit:
        for gift in redemption.gifts:
            if gift.invoice.is_expected and leaves_all_grants_at_zero(redemption, gift.invoice):
                possible.append((gift.invoice.issued_at, "credit"))
                break
    return min(possible, key=lambda one: one[0]) if possible else None


def exhaustion_date(grant: Grant, calendar: ReportingCalendar) -> date | None:
    """R12: the day of the expected bill that takes a grant's balance to zero; None without one."""
    for bill, _ in grant.draws:
        if bill.is_expected and grant.left_after(bill) == 0:
            return calendar.day_of(bill.issued_at)
    return None


def breakage(grant: Grant, horizon: datetime) -> int | None:
    """R12: what is left of a grant at its end; None where it has no end before the horizon."""
    if grant.end is None or grant.end >= horizon:
        return None
    return grant.expired + grant.forfeited


def run_rate(
    by_month: Mapping[date, int], start: datetime, as_of: date, calendar: ReportingCalendar
) -> int | None:
    """R12: the mean over the last three months that have ended, from the month of the start on."""
    total = months = 0
    month = month_of(as_of)
    if calendar.end_of_month(month) > calendar.end_of(as_of):
        month = month_before(month)
    for _ in range(3):
        if month >= calendar.month_of(start):
            total += by_month.get(month, 0)
            months += 1
        month = month_before(month)
    return round_half_away(total, months) if months else None
