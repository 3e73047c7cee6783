"""`workspace`: the account as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers import words
from dagster_project.answers.values import amount, clean, count, day, day_of, money
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_RUN_OUT = {
    "end": "when it ends",
    "uses": "after its last use",
    "credit": "once its credit is used up",
}
_ENDS_BEFORE_EXPIRY = {
    "revocation": "this coupon is revoked before it expires",
    "eligibility": "eligibility ends before this coupon expires",
}
_TITLES = {
    "now": "Coupons in force",
    "to come": "Coupons to come",
    "past": "Past coupons",
    "refused": "Refused coupons, which give nothing",
}


def workspace(
    workspace_id: Annotated[str, typer.Argument(metavar="WS", help="The workspace.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show the coupons, credit, bills and findings of a workspace."""
    from dagster_project.answers import asking
    from dagster_project.answers import workspace as account

    with opened(home, release) as connection:
        found = asking.workspace(connection, workspace_id)
        answer(account.workspace(connection, found), tell, json)


def tell(data: Row) -> str:
    """Lay out the account as text."""
    known = data["workspace"]
    name = known and known["workspace_name"]
    lines = layout.heading(
        f"Workspace {data['workspace_id']}" + (f": {name}" if name else ""), data
    )
    if known is None:
        lines += layout.wrap(
            "No record of this workspace was delivered; what follows comes from bills and"
            " redemptions that name it."
        )
    else:
        lines += layout.wrap(
            f"Created {day(known['created_at'])}, first bill {day(known['first_invoice_at'])},"
            f" last bill {day(known['last_invoice_at'])}"
        )
    lines += ["", *_today(data)]
    for standing, title in _TITLES.items():
        coupons = [coupon for coupon in data["coupons"] if coupon["standing"] == standing]
        if coupons:
            lines += ["", title]
            for coupon in reversed(coupons) if standing == "past" else coupons:
                lines += _coupon(coupon)
    lines += ["", *_bills(data)]
    lines += ["", *_findings(data)]
    return "\n".join(lines)


def _today(data: Row) -> list[str]:
    active = [coupon for coupon in data["coupons"] if coupon["status"] == "active"]
    if active:
        text = "Today: " + "; ".join(f"{one['coupon_id']}, {one['offer']}" for one in active) + "."
    elif not data["coupons"]:
        text = "Today: list price. No coupon has ever been redeemed on this account."
    else:
        text = "Today: list price; nothing is taken off."
        over = [
            coupon
            for coupon in data["coupons"]
            if (coupon["standing"] == "past" and _is_ever_in_force(coupon))
            or coupon["status"] == "exhausted"
        ]
        if over:
            latest = max(
                over, key=lambda one: one["last_discounted_invoice_at"] or one["started_at"]
            )
            if latest["status"] == "exhausted":
                text += f" {latest['coupon_id']} {_exhausted(latest)}."
            else:
                text += (
                    f" {latest['coupon_id']} ended on {day(latest['ends_at'])} because"
                    f" {words.ENDINGS[latest['ended_by']]}."
                )
    lines = layout.wrap(text, hanging="  ")
    credit = data["credit_left"]
    lines += layout.wrap(
        "Credit left: "
        + (", ".join(money(row["balance_amount"], row["currency"]) for row in credit) or "none")
        + "."
    )
    event = data["next_event"]
    uses = [
        f"{one['coupon_id']} has {count(one['uses_left'], 'bill')} left"
        for one in active
        if one["uses_left"]
    ]
    lines += layout.wrap(
        f"Next: {event['coupon_id']} {words.NEXT_EVENTS[event['next_event']]}"
        f" on {day(event['next_event_at'])}."
        if event
        else f"Next: no day is known; {'; '.join(uses)}."
        if uses
        else "Next: nothing is scheduled.",
        hanging="  ",
    )
    from dagster_project.cli.outlook import tell_changes

    return lines + tell_changes(data["bill_changes"])


def _is_ever_in_force(coupon: Row) -> bool:
    """Return whether a coupon was or will be in force, that is, whether its end is after its start (R3)."""
    return coupon["ends_at"] is None or bool(coupon["started_at"] < coupon["ends_at"])


def _exhausted(coupon: Row) -> str:
    """Return how a coupon in force came to have nothing left (R11)."""
    if coupon["expired_amount"]:
        rest = money(coupon["expired_amount"], coupon["currency"])
        return (
            f"has no credit left: {rest} expired unused on {day(coupon['lapsed_at'])}, and no more"
            " is granted"
        )
    return "is used up"


def _coupon(coupon: Row) -> list[str]:
    currency = coupon["currency"]
    named = f": {coupon['coupon_name']}" if coupon["coupon_name"] else ""
    lines = layout.wrap(f"{coupon['coupon_id']}{named} [{coupon['status']}]", "  ", "    ")
    about = [coupon["offer"]] if coupon["offer"] else []
    if coupon["is_derived"]:
        about.append("follows an expired coupon, no redemption on record")
    if about:
        lines += layout.wrap("; ".join(about), "    ")
    if not coupon["is_honoured"]:
        return [
            *lines,
            *layout.wrap(
                f"redeemed {day(coupon['redeemed_at'])} ({coupon['redemption_id']})", "    "
            ),
            *layout.wrap(f"refused: {coupon['refusal']}", "    ", "      "),
        ]
    for changed in coupon["terms_changed"]:
        lines += layout.wrap(
            f"terms changed: {words.changed_terms(changed)} by the version of"
            f" {day(changed['updated_at'])} ({changed['file_name']}, row {changed['delivery_row']});"
            " they hold for earlier bills too",
            "    ",
            "      ",
        )
    span = f"from {day(coupon['started_at'])}"
    if coupon["ends_at"] is None:
        span += ", no end" if coupon["uses_left"] is None else ", no end date"
    elif not _is_ever_in_force(coupon):
        span = (
            f"never in force: its end, {day(coupon['ends_at'])}, is not after its start,"
            f" {day(coupon['started_at'])}"
        )
    else:
        ended = coupon["standing"] == "past"
        why = (words.ENDINGS if ended else words.ENDINGS_TO_COME)[coupon["ended_by"]]
        span += f" until {day(coupon['ends_at'])}, {'ended because' if ended else 'when'} {why}"
    if coupon["uses_left"] is not None and coupon["standing"] != "past":
        span += f", {count(coupon['uses_left'], 'bill')} left"
    lines += layout.wrap(f"{span} ({coupon['redemption_id']})", "    ")
    lines += layout.wrap(_given(coupon), "    ")
    if coupon["granted_amount"] is not None:
        lapsed = [
            f"{noun} {money(coupon[name], currency)}"
            for name, noun in (
                ("drawn_amount", "drawn"),
                ("expired_amount", "expired"),
                ("forfeited_amount", "forfeited"),
                ("credit_balance_amount", "left"),
            )
            if coupon[name]
        ]
        lines += layout.wrap(
            f"credit granted {money(coupon['granted_amount'], currency)}: {', '.join(lapsed)}",
            "    ",
            "      ",
        )
    for grant in coupon["grants_left"]:
        text = f"{grant['grant_id']}: {money(grant['balance_amount'], grant['currency'])} left"
        ends_on = day(grant["grant_ends_at"])
        if _is_used_up_before_its_end(grant):
            text += f", used up by the bill of {day(grant['projected_exhaustion_date'])}"
            text += f"; it ends on {ends_on}" if grant["grant_ends_at"] is not None else ""
        elif grant["grant_ends_at"] is not None:
            text += f", lapses on {ends_on}"
            if grant["projected_breakage_amount"]:
                text += f" with about {amount(grant['projected_breakage_amount'], currency)} left"
        lines += layout.wrap(text, "    ", "      ")
    if coupon["next_event"] is not None and coupon["next_event"] != coupon["ended_by"]:
        lines += layout.wrap(
            f"next: {words.NEXT_EVENTS[coupon['next_event']]} on {day(coupon['next_event_at'])}",
            "    ",
        )
    if coupon["monthly_rise_to_expect"] is not None and coupon["status"] != "exhausted":
        lines += layout.wrap(
            f"{_RUN_OUT[coupon['runs_out_by']]} ({day(coupon['runs_out_at'])}), {_rise(coupon)}",
            "    ",
        )
    if coupon["follow_up_coupon_id"] and coupon["standing"] in ("now", "to come"):
        why_not = _why_not_followed_up(coupon)
        lines += layout.wrap(
            f"{coupon['follow_up_coupon_id']} does not follow: {why_not}"
            if why_not
            else f"then {coupon['follow_up_coupon_id']} follows",
            "    ",
            "      ",
        )
    return lines


def _why_not_followed_up(coupon: Row) -> str:
    """Return why the follow-up that the terms of a coupon name will not follow (R4); empty if it will."""
    if not _is_ever_in_force(coupon):
        return "this coupon is never in force"
    if coupon["ended_by"] is None:
        is_counted = coupon["uses_left"] is not None
        return "this coupon has no end date" + (
            ", and using it up is not an expiry" if is_counted else ""
        )
    if coupon["ended_by"] != "expiry":
        return _ENDS_BEFORE_EXPIRY[coupon["ended_by"]]
    if coupon["follow_up_coupon_id"] == coupon["coupon_id"]:
        return "no coupon follows itself"
    if coupon["is_followed_up"] is not False:
        return ""
    if not coupon["is_follow_up_known"]:
        return "there is no such coupon"
    return "it would be refused then, or follows another coupon first"


def _rise(coupon: Row) -> str:
    """Return by how much a bill rises or falls once a redemption has run out, and how much that is a month."""
    monthly, currency = coupon["monthly_rise_to_expect"], coupon["currency"]
    rise = monthly if coupon["rise_to_expect"] is None else coupon["rise_to_expect"]
    if not rise:
        return "the bill does not rise"
    change, by_month = money(abs(rise), currency), money(abs(monthly), currency)
    which = "more" if rise > 0 else "less"
    if rise == monthly:
        return f"expect {change} {which} a month"
    return f"expect {change} {which} a bill, {by_month} a month"


def _is_used_up_before_its_end(grant: Row) -> bool:
    """Return whether a grant is expected to be used up before what is left of it lapses."""
    exhaustion, ends_at = grant["projected_exhaustion_date"], grant["grant_ends_at"]
    return exhaustion is not None and (ends_at is None or exhaustion <= day_of(ends_at))


def _given(coupon: Row) -> str:
    if coupon["invoices_discounted"] == 0:
        return "no bill discounted" + (" yet" if coupon["standing"] != "past" else "")
    amounts = [
        f"{money(coupon[name], coupon['currency'])} of {noun}"
        for name, noun in (
            ("discount_to_date_amount", "discount"),
            ("credit_to_date_amount", "credit"),
        )
        if coupon[name]
    ]
    text = (
        f"{' and '.join(amounts) or 'discount'} on {count(coupon['invoices_discounted'], 'bill')}"
    )
    text += f", last {day(coupon['last_discounted_invoice_at'])}"
    if coupon["first_list_rate_invoice_at"] is not None:
        text += f"; first bill at list {day(coupon['first_list_rate_invoice_at'])}"
    return text


def _bills(data: Row) -> list[str]:
    from dagster_project.answers.workspace import AMOUNTS

    bills = data["bills"]
    if not bills:
        return ["No bill counts yet."]
    found = {row["invoice_id"] for row in data["findings"]}
    currencies = [row["currency"] for row in data["bill_totals"]]
    body = []
    for bill in bills:
        code = bill["currency"]
        body.append(
            [
                day(bill["issued_at"]),
                bill["invoice_id"],
                *([code] if len(currencies) > 1 else []),
                *(amount(bill[name], code) for name in AMOUNTS),
                "!" if bill["invoice_id"] in found else "",
            ]
        )
    for total in data["bill_totals"]:
        code = total["currency"]
        body.append(
            [
                "total",
                count(total["bills"], "bill"),
                *([code] if len(currencies) > 1 else []),
                *(amount(total[name], code) for name in AMOUNTS),
                "",
            ]
        )
    of = f" in {clean(currencies[0])}" if len(currencies) == 1 else ""
    title = "The last bill" if len(bills) == 1 else f"The last {len(bills)} bills"
    lines = layout.wrap(f"{title}{of}, before tax (net: as it should be; billed: as it was)")
    lines += layout.table(
        [
            "issued",
            "invoice",
            *([""] if len(currencies) > 1 else []),
            ">list",
            ">discounts",
            ">credit",
            ">net",
            ">billed",
            "",
        ],
        body,
    )
    if any(bill["invoice_id"] in found for bill in bills):
        lines.append("  ! has an open finding; why: coupon-ledger explain INVOICE")
    return lines


def _findings(data: Row) -> list[str]:
    lines = [f"Open findings: {len(data['findings']) or 'none'}"]
    for row in data["findings"]:
        lines += layout.wrap(f"{day(row['occurred_at'])}  {row['description']}", "  ", " " * 14)
    if data["findings_accepted"]:
        lines += ["", f"Findings accepted: {len(data['findings_accepted'])}"]
    for row in data["findings_accepted"]:
        lines += layout.wrap(f"{day(row['occurred_at'])}  {row['description']}", "  ", " " * 14)
        lines += layout.wrap(words.accepted(row), " " * 14)
    return lines
