"""`explain`: why the charge of one invoice is what it is, step by step, from the marts alone.

Discounts (R6), draws and balances (R7, R9) are read from the marts, which calculate them. Only the reason
why a redemption does *not* cover an invoice (R2, R3, R5) is judged here, since no mart has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from dagster_project.answers import bill_bridge, words
from dagster_project.answers.asking import Connection, Row, facts, has_table, rows
from dagster_project.answers.findings import GIVEN_TOO_LITTLE, GIVEN_TOO_MUCH
from dagster_project.answers.lineage import credit_notes, standing
from dagster_project.answers.terms import versions_of
from dagster_project.answers.values import amount, count, day, moment, moment_beside, money, places
from dagster_project.answers.workspace import redemptions_of
from dagster_project.settings import add_months

ZERO = Decimal(0)
_MOST_REASONS = 4


def explain(connection: Connection, invoice_id: str) -> Row:
    """Collect the facts about an invoice that is known to count."""
    (invoice,) = rows(
        connection, "select * from marts.fct_discounted_charges where invoice_id = ?", [invoice_id]
    )
    workspace_id = invoice["workspace_id"]
    named = rows(
        connection,
        "select workspace_name from marts.dim_workspaces where workspace_id = ?",
        [workspace_id],
    )
    all_bills = rows(
        connection,
        "select * from marts.fct_discounted_charges where workspace_id = ?"
        " order by issued_at, invoice_id",
        [workspace_id],
    )
    applications = rows(
        connection,
        "select * from marts.fct_discount_applications where invoice_id = ?"
        " order by application_rank",
        [invoice_id],
    )
    redemptions = redemptions_of(connection, workspace_id)
    considered = [_considered(one, invoice, all_bills, applications) for one in redemptions]
    for row in considered:
        row["terms_changed"] = versions_of(connection, row["coupon_id"])
    grants = _grants(connection, invoice, redemptions)
    for redemption, row in zip(redemptions, considered, strict=True):
        if row["is_covered"] and row["discount_type"] == "credit":
            row["words"] += _credit_words(redemption, invoice, grants)
    found = rows(
        connection,
        "select * from marts.fct_audit_findings where invoice_id = ?"
        " and not starts_with(finding_type, 'acceptance_') order by finding_id",
        [invoice_id],
    )
    before = _bill_before(all_bills, invoice)
    data: Row = {
        **facts(connection),
        "is_counted": True,
        "standing": standing(
            connection,
            "invoices",
            invoice_id,
            invoice.get("delivery_id"),
            invoice.get("delivery_row"),
        ),
        "invoice": invoice,
        "workspace_name": named[0]["workspace_name"] if named else None,
        "redemptions": considered,
        "discounts": applications,
        "grants": grants,
        "expected": {
            "list_amount": invoice["list_amount"],
            "discount_amount": invoice["discount_amount"],
            "credit_amount": invoice["credit_amount"],
            "net_amount": invoice["net_amount"],
        },
        "billed": {
            "list_amount": invoice["list_amount"],
            "discount_amount": invoice["billed_discount_amount"],
            "credit_amount": invoice["billed_credit_amount"],
            "net_amount": invoice["billed_net_amount"],
            "total_amount": invoice.get("billed_total_amount"),
        },
        "credit_notes": credit_notes(connection, invoice_id),
        "findings": found,
        "bill_before": before,
        "bridge": _bridge(connection, before, invoice, applications, redemptions, considered),
    }
    data["answer"] = conclusion(data)
    return data


def _bill_before(all_bills: Sequence[Row], invoice: Row) -> Row | None:
    """Return the previous bill of the same subscription and currency; None if there is none.

    Bills below zero are not compared.
    """
    if invoice["list_amount"] < 0:
        return None
    same = [
        bill
        for bill in all_bills
        if bill["currency"] == invoice["currency"]
        and bill.get("subscription_id") == invoice.get("subscription_id")
        and bill["list_amount"] >= 0
        and _order(bill) < _order(invoice)
    ]
    return same[-1] if same else None


def _bridge(
    connection: Connection,
    before: Row | None,
    invoice: Row,
    applications: Sequence[Row],
    redemptions: Sequence[Row],
    considered: Sequence[Row],
) -> list[Row]:
    """Return the steps from the net charge of the previous bill to that of this one."""
    if before is None:
        return []
    applied_before = rows(
        connection,
        "select * from marts.fct_discount_applications where invoice_id = ?"
        " order by application_rank",
        [before["invoice_id"]],
    )
    reasons = {row["redemption_id"]: row["reason"] for row in considered}
    known = [{**row, "reason": reasons[row["redemption_id"]]} for row in redemptions]
    return bill_bridge.bridge(before, invoice, applied_before, applications, known)


def _order(bill: Row) -> tuple[datetime, str]:
    return bill["issued_at"], bill["invoice_id"]


def verdict(redemption: Row, invoice: Row, bills: Sequence[Row]) -> tuple[str, str, str] | None:
    """Return why a redemption does not cover an invoice: rule, code and words; None if it covers it.

    Args:
        redemption: As `redemptions_of` returns it.
        invoice: A row of `fct_discounted_charges`, of the same workspace.
        bills: All bills of that workspace, by (issued_at, invoice_id).
    """
    if not redemption["is_honoured"]:
        return "R2", redemption["refusal_reason"], f"it is refused: {redemption['refusal']}"
    return _outside(redemption, invoice) or _used_up(redemption, invoice, bills)


def _outside(redemption: Row, invoice: Row) -> tuple[str, str, str] | None:
    """Judge by R3 and R5, except for the number of uses."""
    starts, ends, issued = redemption["started_at"], redemption["ends_at"], invoice["issued_at"]
    if ends is not None and ends <= starts:
        return (
            "R3",
            "never_in_force",
            f"it was never in force: its end, {moment(ends)}, is not after its start",
        )
    if issued < starts:
        return "R3", "not_started", f"it does not start before {moment_beside(starts, issued)}"
    if ends is not None and issued >= ends:
        return (
            "R3",
            "ended",
            f"it ended {moment_beside(ends, issued)} because {words.ENDINGS[redemption['ended_by']]}",
        )
    if invoice["list_amount"] < 0:
        return "R5", "negative_bill", "a bill below zero is covered by no coupon"
    subscription = redemption.get("subscription_id")
    if subscription is not None and subscription != invoice.get("subscription_id"):
        billed = invoice.get("subscription_id") or "none"
        text = f"it is for subscription {subscription} only, and this bill is for {billed}"
        return "R5", "subscription", text
    plan, interval = redemption["applies_to_plan"], redemption["applies_to_interval"]
    if plan is not None and plan != invoice["plan"]:
        return "R5", "plan", f"it is for plan {plan} only, and this bill is for {invoice['plan']}"
    if interval is not None and interval != invoice["billing_interval"]:
        text = f"it is for bills by the {interval} only, and this bill is {words.interval(invoice)}"
        return "R5", "billing_interval", text
    code = redemption["coupon_currency"]
    if redemption["discount_type"] != "percent_off" and code != invoice["currency"]:
        return (
            "R5",
            "currency",
            f"it is for bills in {code} only, and this bill is in {invoice['currency']}",
        )
    return None


def _used_up(redemption: Row, invoice: Row, bills: Sequence[Row]) -> tuple[str, str, str] | None:
    """Judge by the limit on uses (R3): once, or n invoices; one with nothing to take off is not a use."""
    limit = 1 if redemption["duration"] == "once" else redemption["duration_invoices"]
    if limit is None:
        return None
    used = [
        bill
        for bill in bills
        if _order(bill) < _order(invoice)
        and _acts_on(redemption, bill) > 0
        and _outside(redemption, bill) is None
    ]
    if len(used) < limit:
        return None
    ids = [bill["invoice_id"] for bill in used[:limit]]
    which = f"the first {limit} bills, last on {ids[-1]}"
    if limit <= 3:
        which = f"{'one bill' if limit == 1 else which.split(',')[0]}: {', '.join(ids)}"
    return "R3", "used_up", f"it is used up, on {which}"


def _acts_on(redemption: Row, bill: Row) -> Decimal:
    """Return how much of a bill a redemption may act on (R6, R7)."""
    is_credit = redemption["discount_type"] == "credit"
    given = bill.get("creditable_amount" if is_credit else "discountable_amount")
    listed: Decimal = bill["list_amount"]
    return listed if given is None else min(listed, given)


def _considered(
    redemption: Row, invoice: Row, bills: Sequence[Row], applications: Sequence[Row]
) -> Row:
    why_not = verdict(redemption, invoice, bills)
    applied = [row for row in applications if row["redemption_id"] == redemption["redemption_id"]]
    text = "covers this bill"
    if why_not is not None:
        text = why_not[2]
        would_cover = redemption["is_known_coupon"] and _outside(redemption, invoice) is None
        if why_not[0] == "R2" and would_cover:
            text += "; by its own dates it would have covered this bill"
    elif redemption["discount_type"] != "credit" and not applied:
        text += (
            ", which has nothing to take off"
            if _acts_on(redemption, invoice) <= 0
            else ", but there is nothing left to take off"
        )
    months = None
    if why_not is None and redemption["discount_type"] == "amount_off":
        months = (
            bill_bridge.months_counted(invoice) if redemption["amount_off_per"] == "month" else None
        )
        if months is not None:
            off = money(redemption["amount_off"], invoice["currency"])
            text += (
                f"; {count(months, 'month')} counted from {day(invoice['period_start'])} to"
                f" {day(invoice['period_end'])}, {off} each"
            )
    return {
        "redemption_id": redemption["redemption_id"],
        "coupon_id": redemption["coupon_id"],
        "months_counted": months,
        "coupon_name": redemption["coupon_name"],
        "discount_type": redemption["discount_type"],
        "offer": redemption["offer"],
        "is_derived": redemption["is_derived"],
        "started_at": redemption["started_at"],
        "ends_at": redemption["ends_at"],
        "is_covered": why_not is None,
        "rule": why_not[0] if why_not else "R5",
        "reason": why_not[1] if why_not else "covered",
        "words": text,
        "base_amount": applied[0]["base_amount"] if applied else None,
        "discount_amount": applied[0]["discount_amount"] if applied else None,
        "remaining_amount": applied[0]["remaining_amount"] if applied else None,
    }


def _grants(connection: Connection, invoice: Row, redemptions: Sequence[Row]) -> list[Row]:
    """Return each grant that covers the invoice, in the order of draws, with balances before and after."""
    if has_table(connection, "fct_credit_draws"):
        grants = rows(connection, _DRAWS, [invoice["invoice_id"]])
    else:
        grants = rows(connection, _DRAWS_OF_THE_LEDGER, [invoice["invoice_id"]])
    priorities = {row["redemption_id"]: row["credit_priority"] for row in redemptions}
    left = invoice["list_amount"] - invoice["discount_amount"]
    for grant in grants:
        left -= grant["drawn_amount"]
        grant["credit_priority"] = priorities[grant["redemption_id"]]
        grant["remaining_amount"] = left
    return grants


_DRAWS = """
    with ends as (
        select grant_id, max(grant_ends_at) as ends_at
        from marts.fct_credit_burndown_monthly group by grant_id
    )
    select draws.grant_id, draws.redemption_id, grants.coupon_id, draws.currency,
        grants.effective_at as granted_at, ends.ends_at, draws.balance_before_amount,
        draws.draw_amount as drawn_amount,
        draws.balance_before_amount - draws.draw_amount as balance_after_amount,
        draws.billed_balance_before_amount as balance_as_billed_amount
    from marts.fct_credit_draws as draws
    inner join marts.fct_credit_ledger as grants
        on draws.grant_id = grants.grant_id and grants.entry_type = 'grant'
    left join ends on draws.grant_id = ends.grant_id
    where draws.invoice_id = ?
    order by draws.draw_rank
"""

# A release of an earlier version has neither the other grants that covered the bill nor balances as billed.
_DRAWS_OF_THE_LEDGER = """
    select draws.grant_id, draws.redemption_id, draws.coupon_id, draws.currency,
        grants.effective_at as granted_at, null::timestamp as ends_at,
        draws.balance_amount - draws.amount as balance_before_amount,
        -draws.amount as drawn_amount, draws.balance_amount as balance_after_amount,
        null::decimal(18, 2) as balance_as_billed_amount
    from marts.fct_credit_ledger as draws
    inner join marts.fct_credit_ledger as grants
        on draws.grant_id = grants.grant_id and grants.entry_type = 'grant'
    where draws.entry_type = 'draw' and draws.invoice_id = ?
    order by granted_at, draws.grant_id
"""


def _credit_words(redemption: Row, invoice: Row, grants: Sequence[Row]) -> str:
    """Return, as a clause, why the grants of a covering redemption paid nothing (R7); empty if they paid."""
    own = [row for row in grants if row["redemption_id"] == redemption["redemption_id"]]
    if any(row["drawn_amount"] for row in own):
        return ""
    if any(row["balance_before_amount"] for row in own):
        return ", which left nothing for it to pay"
    if own:
        return ", but its credit was used up before"
    months = redemption["credit_period_months"]
    number = 1
    while months and add_months(redemption["started_at"], number * months) <= invoice["issued_at"]:
        number += 1
    begins = add_months(redemption["started_at"], (number - 1) * (months or 0))
    if redemption["redeem_by"] is not None and begins > redemption["redeem_by"]:
        return (
            f", but has no credit on that day: the next would have been granted {day(begins)},"
            f" after the coupon closed on {day(redemption['redeem_by'])}"
        )
    return ", but no credit of it is valid on that day"


def conclusion(data: Row) -> list[str]:
    """Explain in sentences why the charge differs from what someone expected."""
    invoice = data["invoice"]
    code = invoice["currency"]
    net, billed = invoice["net_amount"], invoice["billed_net_amount"]
    found = data["findings"]
    sentences: list[str] = []
    right = "It is right" if billed == net else "By the rules"
    if found:
        changed = _changed_since(data)
        lead = "By the terms that hold now: " if changed else "Billing made a mistake. "
        sentences += [f"{lead}{row['description']}" for row in found[:1]]
        sentences += changed
        sentences += [row["description"] for row in found[1:]]
        sentences += [f"{words.accepted(row)}." for row in found if not words.is_open(row)]
        if billed == net:
            sentences.append(f"Before tax it should come to {money(net, code)}.")
        elif _is_judged(data):
            sentences.append(
                f"Before tax it should have come to {money(net, code)}; {money(billed, code)} was"
                f" billed, {money(abs(billed - net), code)} too"
                f" {'much' if billed > net else 'little'}."
            )
        else:
            sentences.append(f"Before tax it comes to {money(net, code)}.")
            sentences.append(_differs_without_finding(data, code, net, billed))
    elif invoice["discount_amount"] == 0 and invoice["credit_amount"] == 0:
        sentences.append(
            f"{right}: the bill is at list price, {money(net, code)} before tax, because"
            f" {_why_list(data)}."
        )
    else:
        parts = [f"list {amount(invoice['list_amount'], code)}"]
        if invoice["discount_amount"]:
            of = ", ".join(dict.fromkeys(row["coupon_id"] for row in data["discounts"]))
            parts.append(f"less {amount(invoice['discount_amount'], code)} of discount ({of})")
        if invoice["credit_amount"]:
            of = ", ".join(
                dict.fromkeys(row["coupon_id"] for row in data["grants"] if row["drawn_amount"])
            )
            parts.append(f"less {amount(invoice['credit_amount'], code)} of credit ({of})")
        sentences.append(f"{right}: {', '.join(parts)} is {money(net, code)} before tax.")
    if not found and billed != net:
        sentences.append(_differs_without_finding(data, code, net, billed))
    sentences += _what_else(data)
    before = data["bill_before"]
    if before is not None:
        sentences.append(_compared(before, invoice, code))
    return sentences


def _is_judged(data: Row) -> bool:
    """Return whether a finding says that the discount or credit of a bill is wrong by these terms.

    In a what-if, findings are about the recorded terms, and so are the variances.
    """
    invoice = data["invoice"]
    difference = invoice["billed_discount_amount"] - invoice["discount_amount"]
    kinds = {*GIVEN_TOO_LITTLE, *GIVEN_TOO_MUCH}
    return invoice["discount_variance_amount"] == difference and any(
        row["finding_type"] in kinds for row in data["findings"]
    )


def _changed_since(data: Row) -> list[str]:
    """Return sentences about coupons, started by then, whose terms changed after the bill was issued."""
    issued = data["invoice"]["issued_at"]
    sentences = []
    for row in data["redemptions"]:
        since = [one for one in row["terms_changed"] if one["updated_at"] > issued]
        if since and row["started_at"] <= issued:
            first = since[0]
            sentences.append(
                f"The terms of {row['coupon_id']} were changed after this bill was issued:"
                f" {words.changed_terms(first)} by the version of {day(first['updated_at'])}"
                f" ({first['file_name']}, row {first['delivery_row']}). Terms apply to earlier bills"
                " too, so this need not be a billing error: ask for a separate coupon for the"
                " new terms, or accept the finding."
            )
    return sentences


def _why_list(data: Row) -> str:
    if data["invoice"]["list_amount"] == 0:
        return "its list price is zero"
    if not data["redemptions"]:
        return "no coupon has ever been redeemed on this account"
    if any(row["is_covered"] for row in data["redemptions"]):
        return "what covers it has nothing left to give"
    return "no coupon on the account covers it"


def _differs_without_finding(data: Row, code: str, net: Decimal, billed: Decimal) -> str:
    invoice, grants = data["invoice"], data["grants"]
    left = invoice["list_amount"] - invoice["billed_discount_amount"]
    drawn = invoice["billed_credit_amount"]
    by_rule = sum((grant["balance_before_amount"] for grant in grants), ZERO)
    as_billed = sum((grant["balance_as_billed_amount"] or ZERO for grant in grants), ZERO)
    is_known = all(grant["balance_as_billed_amount"] is not None for grant in grants)
    reasons = []
    if drawn > left and drawn != invoice["credit_amount"]:
        reasons.append(
            f"{money(drawn, code)} of credit was drawn where the bill had"
            f" {money(left, code)} left after the billed discount; what the grants had left"
            " covered it, so the rules raise no finding for it (R9)"
        )
    is_other = is_known and min(left, by_rule) != min(left, as_billed)
    if drawn != invoice["credit_amount"] and is_other:
        reasons.append(
            "earlier bills drew another amount of credit than they should have: before this one"
            f" {money(as_billed, code)} was left as billed, {money(by_rule, code)} by the rules"
            + ("" if reasons else "; judged against what was left as billed, this draw is right")
        )
    off, which = money(abs(billed - net), code), "more" if billed > net else "less"
    if reasons:
        return f"{money(billed, code)} was billed, {off} {which}, because {'. Besides, '.join(reasons)}."
    # Discount and credit may each differ by a minor unit (R9); in a what-if, by the other terms too.
    if abs(billed - net) > 2 * Decimal(1).scaleb(-places(code)):
        return f"By the recorded terms {money(billed, code)} was billed, {off} {which}."
    return f"{money(billed, code)} was billed; the difference of {off} is rounding, not a finding."


def _what_else(data: Row) -> list[str]:
    """Return sentences about coupons that give nothing here, those that end nearest to the bill first."""
    drawn = {row["redemption_id"] for row in data["grants"] if row["drawn_amount"]}
    idle = [
        row
        for row in data["redemptions"]
        if row["discount_amount"] is None and row["redemption_id"] not in drawn
    ]
    issued = data["invoice"]["issued_at"]
    idle.sort(key=lambda row: abs((row["ends_at"] or row["started_at"]) - issued))
    sentences = [
        f"{row['coupon_id']} gives nothing here: {_clause(row)}." for row in idle[:_MOST_REASONS]
    ]
    if len(idle) > _MOST_REASONS:
        sentences.append(
            f"{count(len(idle) - _MOST_REASONS, 'more coupon')} above give nothing either."
        )
    return sentences


def _clause(row: Row) -> str:
    return f"it {row['words']}" if row["is_covered"] else str(row["words"])


def _compared(before: Row, invoice: Row, code: str) -> str:
    which = f"the bill before, {before['invoice_id']} of {day(before['issued_at'])}"
    change = invoice["net_amount"] - before["net_amount"]
    if not change:
        return f"It comes to the same as {which}."
    return f"It is {money(abs(change), code)} {'more' if change > 0 else 'less'} than {which}."
