"""The rules in words: what a coupon gives, why it is refused, what a finding is called.

Phrases belong here, each in one place; the conditions behind them do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from dagster_project.answers.values import (
    amount,
    count,
    day,
    moment,
    moment_beside,
    money,
    month,
)

PROGRAMS: Final = ("accelerator", "non_profit", "special", "startup")

SEVERITIES: Final = ("error", "warn")

REFUSALS: Final = {
    "unknown_coupon": "there is no such coupon",
    "unknown_workspace": "there is no such workspace",
    "redeemed_after_close": "the coupon could no longer be redeemed",
    "duplicate_for_workspace": "the workspace had redeemed this coupon before",
    "duplicate_for_user": "the same person had redeemed this coupon before",
    "prior_coupon": "the coupon is only for those who had no other before",
    "over_redeemed": "the coupon had been redeemed as often as it may be",
}

FINDING_TYPES: Final = (
    *REFUSALS,
    "follow_up_not_immediate",
    "discount_after_expiry",
    "discount_on_refused_redemption",
    "discount_without_coupon",
    "over_discounted",
    "under_discounted",
    "credit_over_drawn",
    "credit_under_drawn",
    "invoice_does_not_add_up",
    "coupon_terms_changed",
    "credited_beyond_bill",
    "credit_note_without_invoice",
    "acceptance_expired",
    "acceptance_unmatched",
)

REVIEWS: Final = ("open", "accepted")

ENDINGS: Final = {
    "expiry": "its time ran out",
    "revocation": "it was revoked",
    "eligibility": "eligibility ended",
}

ENDINGS_TO_COME: Final = {
    "expiry": "its time runs out",
    "revocation": "it is revoked",
    "eligibility": "eligibility ends",
}

RATE_EFFECT: Final = "also more or less taken off first by another coupon, and rounding"
"""What is in the rate effect of the variance besides another percentage (R10)."""

NEXT_EVENTS: Final = {
    "start": "starts",
    "grant": "grants more credit",
    "lapse": "has credit that lapses",
    "expiry": "expires",
    "revocation": "is revoked",
    "eligibility": "ends with its eligibility",
    "uses": "has its last use",
    "credit": "is used up",
}


def is_open(finding: Mapping[str, Any]) -> bool:
    """Return whether nobody has accepted a finding; in a release made before reviews existed, all are open."""
    return bool(finding.get("review_status", "open") == "open")


def accepted(finding: Mapping[str, Any]) -> str:
    """Return who accepted a finding, until when and why."""
    return (
        f"Accepted by {finding['accepted_by']} until {day(finding['accepted_until'])}:"
        f" {finding['accepted_reason']}"
    )


TERMS: Final = {
    "discount_type": "type",
    "percent_off": "percentage",
    "amount_off": "amount off",
    "amount_off_per": "amount off per",
    "credit_amount": "credit",
    "credit_period_months": "months of a grant",
    "credit_max_periods": "grants at most",
    "credit_priority": "priority of its credit",
    "currency": "currency",
    "applies_to_plan": "plan",
    "applies_to_interval": "billing interval",
    "duration": "duration",
    "duration_months": "months",
    "duration_invoices": "bills",
    "redeem_by": "redeem by",
    "max_redemptions": "redemptions at most",
    "requires_no_prior_coupon": "only without a coupon before",
    "once_per": "once per",
    "follow_up_coupon_id": "follow-up",
}
"""The columns of a coupon's terms: what it gives, for how long, to what and whom."""


def term(name: str, value: Any, currency: str | None, other: Any) -> str:
    """Return one term of a coupon as people write it.

    Args:
        name: The term.
        value: What it is.
        currency: The currency of the coupon.
        other: What it was before, or is afterwards.
    """
    if value is None:
        return "none"
    if name == "percent_off":
        return percent(value)
    if name in ("amount_off", "credit_amount"):
        return money(value, currency)
    if name == "redeem_by":
        return moment_beside(value, other or value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def changed_terms(change: Mapping[str, Any]) -> str:
    """Return the old and new terms of a changed coupon.

    Args:
        change: As `terms.versions_of` returns it.
    """
    return ", ".join(
        f"{TERMS[one['name']]} {one['before']} → {one['after']}" for one in change["changes"]
    )


def change_of_terms(change: Mapping[str, Any]) -> str:
    """Return a change of terms in a sentence: coupon, terms, version, and its effect.

    Args:
        change: As `terms.changed` returns it.
    """
    text = (
        f"{change['coupon_id']}: {changed_terms(change)}, by the version of"
        f" {day(change['updated_at'])} ({change['file_name']}, row {change['delivery_row']})"
    )
    if change["release_before"] is None:
        return f"{text}."
    since = f"since release {change['release_before']}"
    if not change["differing"]:
        return f"{text}; it changes no bill {since}."
    differing = " and ".join(
        f"{money(abs(row['given_delta_amount']), row['currency'])}"
        f" {'less' if row['given_delta_amount'] < 0 else 'more'} on {count(row['bills'], 'bill')}"
        for row in change["differing"]
    )
    return f"{text}; {since} it gives {differing}."


def percent(value: Decimal) -> str:
    """Return a percentage without trailing zeros."""
    text = f"{value:f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"


def offer(coupon: Mapping[str, Any]) -> str:
    """Return what a coupon gives, in one phrase.

    Args:
        coupon: A row of `dim_coupons`, with `subscription_id` where it is a redemption's.
    """
    currency = coupon["currency"]
    if coupon["discount_type"] == "percent_off":
        parts = [f"{percent(coupon['percent_off'])} off"]
    elif coupon["discount_type"] == "amount_off":
        per = "each month" if coupon["amount_off_per"] == "month" else "each bill"
        parts = [f"{money(coupon['amount_off'], currency)} off {per}"]
    else:
        parts = [f"{money(coupon['credit_amount'], currency)} of credit"]
        periods = coupon["credit_max_periods"] or 1
        if coupon["credit_period_months"] is not None:
            parts[0] += f" for {count(coupon['credit_period_months'], 'month')}"
            if periods > 1:
                parts[0] += f", granted up to {periods} times"
    if coupon["duration"] == "once":
        parts.append("one bill only")
    elif coupon["duration_invoices"] is not None:
        parts.append(f"the first {count(coupon['duration_invoices'], 'bill')}")
    elif coupon["duration_months"] is not None:
        months, period = coupon["duration_months"], coupon["credit_period_months"]
        if period is None:
            parts.append(f"for {count(months, 'month')}")
        elif months < period * (coupon["credit_max_periods"] or 1):
            parts.append(f"for {count(months, 'month')} in all")
    if coupon["applies_to_plan"] is not None:
        parts.append(f"{coupon['applies_to_plan']} plan only")
    if coupon["applies_to_interval"] is not None:
        parts.append(f"{coupon['applies_to_interval']}ly bills only")
    if coupon.get("subscription_id") is not None:
        parts.append(f"subscription {coupon['subscription_id']} only")
    return ", ".join(parts)


def interval(bill: Mapping[str, Any]) -> str:
    """Return how often a bill recurs, in one phrase.

    Args:
        bill: A row with `billing_interval` and, except in releases of earlier versions, `interval_count`.
    """
    every, times = bill["billing_interval"], bill.get("interval_count") or 1
    if every == "once":
        return "not recurring"
    return f"by the {every}" if times == 1 else f"every {times:,} {every}s"


def refusal(redemption: Mapping[str, Any], all_of_workspace: list[dict[str, Any]]) -> str:
    """Return why a redemption is refused, with the facts (R2).

    Args:
        redemption: A row of `dim_coupon_redemptions` with `redeem_by`, `max_redemptions` and `once_per` of
            its coupon.
        all_of_workspace: All such rows of its workspace, in the order of redemption.
    """
    reason = redemption["refusal_reason"]
    text = REFUSALS.get(reason, str(reason))
    order = (redemption["redeemed_at"], redemption["redemption_id"])
    # A redemption on record is judged against earlier ones on record; a derived one against all on record and
    # earlier derived ones (R4).
    judged_against = [
        other
        for other in all_of_workspace
        if (
            (redemption["is_derived"] and not other["is_derived"])
            or (other["redeemed_at"], other["redemption_id"]) < order
        )
        and (redemption["is_derived"] or not other["is_derived"])
    ]
    if reason == "redeemed_after_close" and redemption["redeem_by"] is not None:
        at, closed = redemption["redeemed_at"], redemption["redeem_by"]
        if day(at) == day(closed):
            return (
                f"{text}: it was redeemed at {moment_beside(at, closed)}, the coupon closed at"
                f" {moment_beside(closed, at)}"
            )
        return f"{text}: it was redeemed on {day(at)}, the coupon closed on {day(closed)}"
    if reason == "duplicate_for_workspace":
        same = [other for other in judged_against if other["coupon_id"] == redemption["coupon_id"]]
        if redemption.get("once_per") == "subscription":
            text = "the subscription had redeemed this coupon before"
            of = redemption["subscription_id"]
            same = [other for other in same if other["subscription_id"] == of]
            if of is None:
                text = "the workspace had redeemed this coupon before, for no subscription"
        if same and (same[0]["redeemed_at"], same[0]["redemption_id"]) > order:
            text = "the workspace has a redemption of this coupon of its own"
        if same:
            return f"{text}, on {day(same[0]['redeemed_at'])} ({same[0]['redemption_id']})"
    if reason == "prior_coupon":
        others = [
            other
            for other in judged_against
            if other["coupon_id"] != redemption["coupon_id"]
            and other["follow_up_coupon_id"] != redemption["coupon_id"]
        ]
        if others:
            return (
                f"{text}; {others[0]['coupon_id']} was redeemed on {day(others[0]['redeemed_at'])}"
            )
        return f"{text}; the person who redeemed it had, on another workspace"
    if reason == "over_redeemed" and redemption["max_redemptions"] is not None:
        return f"{text}, {count(redemption['max_redemptions'], 'time')}"
    return text


RUNNING_OUT: Final = {
    "end": "ends on",
    "uses": "has its last use with the bill of",
    "credit": "is used up by the bill of",
    "drawn": "has no credit left after the bill of",
    "start": "starts on",
    "grant": "grants more credit on",
    "follow_up": "ends on",
}
"""What happens to a redemption on a future day, by `runs_out_by` or `next_event`."""


def change(reason: Mapping[str, Any]) -> str:
    """Return why bills change, such as `HALF ends on 2026-03-01, then REST-40 follows`.

    Args:
        reason: As `answers.outlook.bill_changes` returns it.
    """
    text = f"{reason['coupon_id']} {RUNNING_OUT[reason['event']]} {day(reason['at'])}"
    follows = reason["follow_up_coupon_id"]
    return f"{text}, then {follows} follows" if follows else text


def running_out(row: Mapping[str, Any], until: date) -> str:
    """Return how many promotions run out by a day, and by how much bills rise.

    Args:
        row: As `answers.expiring.ending` returns it.
        until: The last day.
    """
    moves = []
    for verb, sign in (("rise", 1), ("fall", -1)):
        amounts = [
            money(abs(one["monthly_rise_amount"]), one["currency"])
            for one in row["rises"]
            if one["monthly_rise_amount"] * sign > 0
        ]
        moves += [f"{verb} by {', '.join(amounts)} a month"] if amounts else []
    return (
        f"Running out by {until}: {count(row['redemptions'], 'promotion')} on"
        f" {count(row['workspaces'], 'workspace')}, {row['followed_up']:,} with a follow-up;"
        f" {'bills ' + ' and '.join(moves) if moves else 'no bill rises'}"
    )


def bill_change(row: Mapping[str, Any], *, is_first: bool) -> str:
    """Return the amount of bills from a month on, and why.

    Args:
        row: As `answers.outlook.bill_changes` returns it.
        is_first: Whether it is the first month with an expected bill.
    """
    currency, before = row["currency"], row["before_amount"]
    when = "Next bill" if row["bills"] == 1 else f"Next {row['bills']} bills"
    text = f"{when}, {month(row['month'])}: " if is_first else f"From {month(row['month'])}: "
    text += f"{money(row['net_amount'], currency)} net"
    given = [
        f"{amount(row[name], currency)} {noun}"
        for name, noun in (("discount_amount", "discount"), ("credit_amount", "credit"))
        if row[name]
    ]
    text += f" (list {amount(row['list_amount'], currency)}"
    text += "".join(f", less {one}" for one in given) + ")"
    if before is not None and row["reasons"]:
        text += f", {amount(before, currency)} before"
    return text + (": " + "; ".join(map(change, row["reasons"])) if row["reasons"] else "") + "."


def acted_on(invoice: Mapping[str, Any]) -> str:
    """Return which part of a bill coupons and credit may act on, empty if all of it (R6, R7)."""
    code, text = invoice["currency"], ""
    if invoice["list_amount"] < 0:
        return ": money back; coupons and credit do not act on it"
    discountable, creditable = invoice.get("discountable_amount"), invoice.get("creditable_amount")
    if discountable is not None and discountable != invoice["list_amount"]:
        text += f"; coupons may act on {money(discountable, code)}"
    if creditable is not None:
        text += f"{' and' if text else ';'} credit may pay at most {money(creditable, code)}"
    return text


def does_not_count(invoice: Mapping[str, Any], as_of: date) -> list[str]:
    """Return why a bill on record does not count, and which of its amounts do not count either (R1).

    Args:
        invoice: As `lineage.not_counted` returns it.
        as_of: Last day whose events count.
    """
    code = invoice["currency"]
    meaning = {
        "void": "It is void, so it takes no discount, draws no credit and uses up no coupon, as if it"
        " had never existed (R1).",
        "draft": "It is a draft, so it takes no discount, draws no credit and uses up no coupon until it"
        " is finalized (R1).",
        "after_as_of_date": f"It was issued {moment(invoice['issued_at'])}, after the as-of date"
        f" {as_of}, so it does not count yet (R1). A run as of that day or later counts it.",
    }[invoice["reason"]]
    told = [meaning]
    shown = [
        f"{noun} of {money(invoice[name], code)}"
        for name, noun in (
            ("billed_discount_amount", "a discount"),
            ("billed_credit_amount", "credit"),
        )
        if invoice[name]
    ]
    if shown:
        text = (
            f"It shows {' and '.join(shown)}, which {'does' if len(shown) == 1 else 'do'} not count"
        )
        if invoice["reason"] != "void":
            told.append(f"{text} yet.")
        elif invoice["billed_credit_amount"]:
            told.append(f"{text} either: credit that it drew can be drawn again.")
        else:
            told.append(f"{text} either.")
    return told
