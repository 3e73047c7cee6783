"""Two bills side by side: the months of a period, prorations, and the bridge from one bill to the next.

Everything here is calculated from the mart rows passed in; nothing is queried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from dagster_project.answers import words
from dagster_project.answers.asking import Row
from dagster_project.answers.values import places
from dagster_project.settings import add_months

ZERO = Decimal(0)


def _instant(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, datetime.min.time())


def months_counted(invoice: Mapping[str, Any]) -> int:
    """Return the months of a bill's period, at least one (R6)."""
    start, end = _instant(invoice["period_start"]), _instant(invoice["period_end"])
    months = max(1, (end.year - start.year) * 12 + end.month - start.month + 1)
    while months > 1 and add_months(start, months) > end:
        months -= 1
    return months


def is_prorated(invoice: Mapping[str, Any]) -> bool:
    """Return whether the period of a bill is not a whole billing interval."""
    start, end = _instant(invoice["period_start"]), _instant(invoice["period_end"])
    units = invoice.get("interval_count") or 1
    match invoice["billing_interval"]:
        case "day":
            return end != start + timedelta(days=units)
        case "week":
            return end != start + timedelta(days=7 * units)
        case "month":
            return end != add_months(start, units)
        case "year":
            return end != add_months(start, 12 * units)
        case _:
            return False


def _unit(invoice: Row) -> Decimal:
    """Return the smallest unit of the currency of a bill."""
    return Decimal(1).scaleb(-places(invoice["currency"]))


def _days(invoice: Mapping[str, Any]) -> int:
    return (_instant(invoice["period_end"]) - _instant(invoice["period_start"])).days


def bridge(
    before: Row,
    invoice: Row,
    applied_before: Sequence[Row],
    applied: Sequence[Row],
    redemptions: Sequence[Row],
) -> list[Row]:
    """Return the steps from the net charge of one bill to that of a later one; they sum to the difference.

    Args:
        before: The earlier bill, a row of `fct_discounted_charges`.
        invoice: The later one.
        applied_before: The coupons applied to the earlier bill, rows of `fct_discount_applications`.
        applied: Those applied to the later one.
        redemptions: The redemptions of the workspace, each with `reason`: why it does not cover the later bill.

    Returns:
        `kind`, `about` and `amount` of each step that is not zero.
    """
    steps: list[Row] = []

    def step(kind: str, about: str, amount: Decimal) -> None:
        if amount:
            steps.append({"kind": kind, "about": about, "amount": amount})

    own, own_before = _discountable(invoice), _discountable(before)
    prorated = ZERO
    if is_prorated(before) != is_prorated(invoice) and _days(before) and own_before:
        whole = own_before * _days(invoice) / _days(before)
        by_days = whole.quantize(_unit(invoice), ROUND_HALF_UP) - own_before
        # A stub billed in full, or a change of plan, is not explained by its days.
        if abs(own - own_before - by_days) < abs(own - own_before):
            prorated = by_days
    step("price_or_usage", "price or usage", own - own_before - prorated)
    step("proration", f"proration, {_days(before)} → {_days(invoice)} days", prorated)
    rest = invoice["list_amount"] - own - (before["list_amount"] - own_before)
    step("proration", "proration or other lines that no coupon acts on", rest)
    steps += _of_discounts(applied_before, applied, redemptions, _unit(invoice))
    step("credit", "credit", before["credit_amount"] - invoice["credit_amount"])
    return steps


def _discountable(invoice: Row) -> Decimal:
    given = invoice.get("discountable_amount")
    listed: Decimal = invoice["list_amount"]
    return listed if given is None else given


def _of_discounts(
    applied_before: Sequence[Row],
    applied: Sequence[Row],
    redemptions: Sequence[Row],
    unit: Decimal,
) -> list[Row]:
    """Return the discounts' effects on the charge, by promotion (R4)."""
    known = {row["redemption_id"]: row for row in redemptions}

    def promotion(row: Row) -> str:
        redemption = known.get(row["redemption_id"], {})
        return str(redemption.get("promotion_id") or row["redemption_id"])

    steps: list[Row] = []
    for name in dict.fromkeys(map(promotion, (*applied_before, *applied))):
        was = [row for row in applied_before if promotion(row) == name]
        is_now = [row for row in applied if promotion(row) == name]
        given_before = sum((row["discount_amount"] for row in was), ZERO)
        given = sum((row["discount_amount"] for row in is_now), ZERO)
        coupons = " and ".join(dict.fromkeys(row["coupon_id"] for row in (is_now or was)))
        parts: list[tuple[str, str, Decimal]] = []
        if not was:
            parts.append(("coupon_began", f"{coupons} began", given))
        elif not is_now:
            parts.append(("coupon_ended", f"{coupons} {_ended(known, was[0])}", -given_before))
        elif {row["redemption_id"] for row in was} == {row["redemption_id"] for row in is_now}:
            about = f"{coupons} on another amount"
            parts.append(("same_coupon", about, given - given_before))
        else:
            parts += _followed(known, was, is_now, given_before, given, unit)
        steps += [
            {"kind": kind, "about": about, "amount": -change}
            for kind, about, change in parts
            if change
        ]
    return steps


def _followed(
    known: Mapping[str, Row],
    was: Sequence[Row],
    is_now: Sequence[Row],
    given_before: Decimal,
    given: Decimal,
    unit: Decimal,
) -> list[tuple[str, str, Decimal]]:
    """Return the effects of the bill and of the percentage where a follow-up took over (R10)."""
    base_before, base = was[0]["base_amount"], is_now[0]["base_amount"]
    of_bill = ZERO
    if base_before:
        of_bill = (given_before * (base - base_before) / base_before).quantize(unit, ROUND_HALF_UP)

    def offer(row: Row) -> str:
        percent = known.get(row["redemption_id"], {}).get("percent_off")
        named = str(row["coupon_id"])
        return named if percent is None else f"{named} {words.percent(percent)}"

    return [
        ("same_coupon", f"{was[0]['coupon_id']} on another amount", of_bill),
        (
            "percentage",
            f"percentage, {offer(was[0])} → {offer(is_now[0])}",
            given - given_before - of_bill,
        ),
    ]


def _ended(known: Mapping[str, Row], row: Row) -> str:
    """Return why a coupon that was applied before is not applied now."""
    reason = known.get(row["redemption_id"], {}).get("reason")
    return {"ended": "ended", "used_up": "used up"}.get(str(reason), "does not apply here")
