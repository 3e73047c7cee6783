"""`workspace`: every past, present and future coupon of an account, its credit, bills and findings.

A support agent reads this to a customer.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from dagster_project.answers import words
from dagster_project.answers.asking import Connection, Row, facts, has_column, rows
from dagster_project.answers.burndown import grants_left
from dagster_project.answers.expiring import running_out
from dagster_project.answers.outlook import bill_changes
from dagster_project.answers.terms import versions_of

BILLS = 12

_STANDINGS = {
    "active": "now",
    "exhausted": "now",
    "scheduled": "to come",
    "expired": "past",
    "revoked": "past",
    "ineligible": "past",
    "refused": "refused",
}


def redemptions_of(connection: Connection, workspace_id: str) -> list[Row]:
    """Return every redemption of a workspace in the order of redemption, with the terms of its coupon."""
    once_per = "coupons.once_per"
    if not has_column(connection, "dim_coupons", "once_per"):  # a release of an earlier version
        once_per = "'user' as once_per"
    found = rows(
        connection,
        f"""
        select redemptions.*, coupons.coupon_id is not null as is_known_coupon,
            coupons.coupon_name, coupons.percent_off, coupons.amount_off,
            coupons.amount_off_per, coupons.credit_amount, coupons.credit_period_months,
            coupons.credit_max_periods, coupons.credit_priority,
            coupons.currency as coupon_currency, coupons.applies_to_plan,
            coupons.applies_to_interval, coupons.duration, coupons.duration_months,
            coupons.duration_invoices, coupons.redeem_by, coupons.max_redemptions,
            coupons.follow_up_coupon_id, {once_per},
            following.coupon_id is not null as is_follow_up_known
        from marts.dim_coupon_redemptions as redemptions
        left join marts.dim_coupons as coupons using (coupon_id)
        left join marts.dim_coupons as following
            on coupons.follow_up_coupon_id = following.coupon_id
        where redemptions.workspace_id = ?
        order by redemptions.redeemed_at, redemptions.redemption_id
        """,
        [workspace_id],
    )
    for redemption in found:
        coupon = {**redemption, "currency": redemption["coupon_currency"]}
        redemption["offer"] = words.offer(coupon) if redemption["is_known_coupon"] else None
        redemption["refusal"] = (
            None if redemption["is_honoured"] else words.refusal(redemption, found)
        )
    return found


def workspace(connection: Connection, workspace_id: str) -> Row:
    """Collect the facts about a workspace that is known to exist."""
    known = rows(
        connection, "select * from marts.dim_workspaces where workspace_id = ?", [workspace_id]
    )
    grants = grants_left(connection, "burndown.workspace_id = ?", [workspace_id])
    ending = {
        row["redemption_id"]: row
        for row in rows(
            connection,
            "select redemption_id, monthly_rise_amount, is_followed_up, runs_out_at, runs_out_by,"
            " rise_amount"
            f" from {running_out(connection)} where workspace_id = ?",
            [workspace_id],
        )
    }
    ledgers = {
        row["redemption_id"]: row
        for row in rows(
            connection,
            """
            select redemption_id, currency,
                cast(sum(amount) filter (where entry_type = 'grant') as decimal(18, 2))
                    as granted_amount,
                cast(coalesce(-sum(amount) filter (where entry_type = 'draw'), 0)
                    as decimal(18, 2)) as drawn_amount,
                cast(coalesce(-sum(amount) filter (where entry_type = 'expire'), 0)
                    as decimal(18, 2)) as expired_amount,
                cast(coalesce(-sum(amount) filter (where entry_type = 'forfeit'), 0)
                    as decimal(18, 2)) as forfeited_amount,
                max(effective_at) filter (where entry_type in ('expire', 'forfeit')) as lapsed_at
            from marts.fct_credit_ledger where workspace_id = ? group by redemption_id, currency
            """,
            [workspace_id],
        )
    }
    coupons = []
    for found in redemptions_of(connection, workspace_id):
        coming = ending.get(found["redemption_id"], {})
        coupons.append(
            {
                "standing": _STANDINGS[found["status"]],
                **{name: found[name] for name in _COUPON_COLUMNS},
                "terms_changed": versions_of(connection, found["coupon_id"]),
                "uses_left": found.get("uses_left"),
                "monthly_rise_to_expect": coming.get("monthly_rise_amount"),
                "rise_to_expect": coming.get("rise_amount"),
                "runs_out_at": coming.get("runs_out_at"),
                "runs_out_by": coming.get("runs_out_by"),
                "is_followed_up": coming.get(
                    "is_followed_up",
                    False
                    if found["follow_up_coupon_id"]
                    and (
                        not found["is_follow_up_known"]
                        or found["follow_up_coupon_id"] == found["coupon_id"]
                    )
                    else None,
                ),
                "is_follow_up_known": bool(found["is_follow_up_known"]),
                **{name: ledgers.get(found["redemption_id"], {}).get(name) for name in _CREDIT},
                "grants_left": [
                    {name: value for name, value in grant.items() if name not in _OF_ALL_GRANTS}
                    for grant in grants
                    if grant["redemption_id"] == found["redemption_id"]
                ],
            }
        )
    bills = rows(
        connection,
        f"select {', '.join(_BILL_COLUMNS)} from marts.fct_discounted_charges"
        " where workspace_id = ? order by issued_at desc, invoice_id desc limit ?",
        [workspace_id, BILLS],
    )
    findings = rows(
        connection,
        "select * from marts.fct_audit_findings where workspace_id = ?"
        " order by occurred_at desc, finding_id",
        [workspace_id],
    )
    left: dict[str, Decimal] = {}
    for coupon in coupons:
        if coupon["credit_balance_amount"]:
            code = str(coupon["currency"])
            left[code] = left.get(code, Decimal(0)) + coupon["credit_balance_amount"]
    events = [_next_event(coupon) for coupon in coupons if coupon["standing"] != "past"] + [
        {**grant, "next_event": "lapse", "next_event_at": grant["grant_ends_at"]}
        for grant in grants
        if grant["grant_ends_at"] is not None and grant["projected_breakage_amount"] != 0
    ]
    events = [event for event in events if event["next_event"] is not None]
    upcoming = min(events, key=lambda event: event["next_event_at"] or datetime.max, default=None)
    return {
        **facts(connection),
        "workspace_id": workspace_id,
        "workspace": known[0] if known else None,
        "coupons": coupons,
        "credit_left": [
            {"currency": currency, "balance_amount": balance} for currency, balance in left.items()
        ],
        "next_event": upcoming and {name: upcoming[name] for name in _EVENT},
        "bill_changes": bill_changes(connection, workspace_id),
        "bills": bills,
        "bill_totals": _totals(bills),
        "findings": [row for row in findings if words.is_open(row)],
        "findings_accepted": [row for row in findings if not words.is_open(row)],
    }


def _next_event(coupon: Row) -> Row:
    """Return the next event of a redemption: a scheduled one, or that it runs out (R12) if that is earlier.

    The end of a redemption that is already used up changes nothing, unless a follow-up begins then.
    """
    event = {name: coupon[name] for name in _EVENT}
    is_end = event["next_event"] not in (None, "start", "grant")
    is_followed_up = (
        event["next_event"] == "expiry"
        and coupon["follow_up_coupon_id"] is not None
        and coupon["is_followed_up"] is not False
    )
    if coupon["status"] == "exhausted" and is_end and not is_followed_up:
        return {**event, "next_event": None, "next_event_at": None}
    runs_out_at = coupon["runs_out_at"]
    if coupon["runs_out_by"] in ("uses", "credit") and (
        event["next_event_at"] is None or runs_out_at < event["next_event_at"]
    ):
        return {**event, "next_event": coupon["runs_out_by"], "next_event_at": runs_out_at}
    return event


_EVENT = ("redemption_id", "coupon_id", "next_event", "next_event_at")
_OF_ALL_GRANTS = ("redemption_id", "coupon_id", "workspace_id")
_COUPON_COLUMNS = (
    "redemption_id",
    "coupon_id",
    "coupon_name",
    "program",
    "discount_type",
    "currency",
    "offer",
    "status",
    "redeemed_at",
    "started_at",
    "ends_at",
    "ended_by",
    "is_honoured",
    "refusal_reason",
    "refusal",
    "is_derived",
    "invoices_discounted",
    "last_discounted_invoice_at",
    "first_list_rate_invoice_at",
    "discount_to_date_amount",
    "credit_to_date_amount",
    "credit_balance_amount",
    "next_event",
    "next_event_at",
    "follow_up_coupon_id",
)
_CREDIT = ("granted_amount", "drawn_amount", "expired_amount", "forfeited_amount", "lapsed_at")
AMOUNTS = (
    "list_amount",
    "discount_amount",
    "credit_amount",
    "net_amount",
    "billed_net_amount",
)
_BILL_COLUMNS = (
    "invoice_id",
    "issued_at",
    "currency",
    "status",
    *AMOUNTS,
    "billed_discount_amount",
    "billed_credit_amount",
    "audit_status",
)


def _totals(bills: list[Row]) -> list[Row]:
    return [
        {
            "currency": currency,
            "bills": len(of_currency),
            **{name: sum((bill[name] for bill in of_currency), Decimal(0)) for name in AMOUNTS},
        }
        for currency in dict.fromkeys(bill["currency"] for bill in bills)
        for of_currency in [[bill for bill in bills if bill["currency"] == currency]]
    ]
