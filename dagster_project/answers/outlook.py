"""`outlook`: expected bills month by month, beside past bills, and why they change (R12).

What every answer about the future shares belongs here: when and by what a promotion runs out, and the
amounts of a workspace's bills over time.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

from dagster_project.answers.asking import (
    Connection,
    Row,
    facts,
    has_table,
    month_to_come,
    of_plan,
    rows,
    zone_of,
)
from dagster_project.answers.values import day_in
from dagster_project.settings import add_months, first_instant

MONTHS = 12
AMOUNTS = (
    "list_amount",
    "percent_off_amount",
    "amount_off_amount",
    "credit_amount",
    "net_amount",
)
_MART = "fct_bill_outlook_monthly"
_IN_FORCE = "('active', 'scheduled', 'exhausted')"


def outlook(connection: Connection, scope: str, name: str, plan: str | None = None) -> Row:
    """Return past and expected bills, month by month, of the workspaces that have an outlook (R12).

    Args:
        connection: The release.
        scope: `all`, `program` or `workspace`.
        name: Which program or workspace.
        plan: Only workspaces on this plan.

    Returns:
        `currencies`, each with `months`: twelve past and twelve expected ones, in one list. A month that
        is not over is in it twice, as billed and as expected. `changes` only for a workspace.
    """
    of_release = facts(connection)
    to_come = month_to_come(of_release["as_of_date"])
    first, last = add_months(to_come, -MONTHS), add_months(to_come, MONTHS)
    every, values = _workspaces(connection, scope, name)
    chosen = f"select workspace_id from ({every}) where {of_plan(plan)}"
    sums = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)
    found = rows(
        connection,
        f"""
        with chosen as ({chosen}),

        put_together as (
            select currency, billing_month as month, false as is_expected, 1 as bills,
                {", ".join(AMOUNTS)}
            from marts.fct_discounted_charges
            where workspace_id in (from chosen) and billing_month >= ?
            union all by name
            select currency, outlook_month as month, true as is_expected, expected_bills as bills,
                {", ".join(AMOUNTS)}
            from marts.{_MART}
            where workspace_id in (from chosen) and outlook_month < ?
        )

        select currency, month, is_expected, cast(sum(bills) as bigint) as bills, {sums}
        from put_together group by currency, month, is_expected order by currency, month, is_expected
        """,
        [*values, first.date(), last.date()],
    )
    (counted,) = rows(
        connection, f"select count(distinct workspace_id) as workspaces from ({chosen})", values
    )
    return {
        **of_release,
        "scope": scope,
        "name": name or None,
        "workspaces": counted["workspaces"],
        "currencies": [
            _of_currency(currency, [row for row in found if row["currency"] == currency])
            for currency in dict.fromkeys(row["currency"] for row in found)
        ],
        "changes": bill_changes(connection, name) if scope == "workspace" else [],
    }


def _of_currency(currency: str, months: list[Row]) -> Row:
    return {
        "currency": currency,
        "months": months,
        **{
            kind: {
                one: sum(
                    (row[one] for row in months if row["is_expected"] is is_expected),
                    Decimal("0.00"),
                )
                for one in AMOUNTS
            }
            for kind, is_expected in (("totals_before", False), ("totals_expected", True))
        },
    }


def _workspaces(connection: Connection, scope: str, name: str) -> tuple[str, list[str]]:
    """Return SQL for the workspaces to show, and the values of its placeholders."""
    if scope == "workspace":
        return "select cast(? as varchar) as workspace_id", [name]
    ahead = f"select distinct workspace_id from marts.{_MART}"
    if scope == "all":
        return ahead, []
    return (
        f"""{ahead} where workspace_id in (
            select redemptions.workspace_id
            from marts.dim_coupon_redemptions as redemptions
            inner join marts.dim_coupons as coupons using (coupon_id)
            left join marts.dim_coupons as following
                on coupons.follow_up_coupon_id = following.coupon_id
            where redemptions.is_honoured and redemptions.status in {_IN_FORCE}
                and ? in (coupons.program, following.program)
        )""",
        [name],
    )


def bill_changes(connection: Connection, workspace_id: str) -> list[Row]:
    """Return the amount of a workspace's next bills, and each later month with a change, with its reasons.

    Args:
        connection: The release; one of an earlier version has no outlook, and nothing is returned.
        workspace_id: The workspace.

    Returns:
        By currency, the first month with an expected bill, and every month whose bills differ because
        something starts, is granted or runs out: `month`, `bills`, `list_amount`, `discount_amount`,
        `credit_amount`, `net_amount`, `before_amount` (net of the bills before) and `reasons`.
    """
    if not has_table(connection, _MART):
        return []
    expected = rows(
        connection,
        "select currency, outlook_month as month, expected_bills as bills, list_amount,"
        " discount_amount, credit_amount, net_amount"
        f" from marts.{_MART} where workspace_id = ? order by currency, outlook_month",
        [workspace_id],
    )
    zone = zone_of(connection)
    reasons = _reasons(connection, workspace_id, zone) if expected else []
    changes: list[Row] = []
    for currency in dict.fromkeys(row["currency"] for row in expected):
        series = [row for row in expected if row["currency"] == currency]
        before = rows(
            connection,
            "select billing_month as month, cast(sum(net_amount) as decimal(18, 2)) as net_amount"
            " from marts.fct_discounted_charges where workspace_id = ? and currency = ?"
            " and billing_month < ? group by billing_month order by billing_month desc limit 1",
            [workspace_id, currency, series[0]["month"]],
        )
        for earlier, row in pairwise([before[0] if before else {}, *series]):
            why = [
                one for one in reasons if _is_between(one, earlier.get("month"), row["month"], zone)
            ]
            is_first = row is series[0]
            differs = row["net_amount"] != earlier.get("net_amount")
            if is_first or (differs and why):
                changes.append(
                    {
                        **row,
                        "before_amount": earlier.get("net_amount"),
                        "reasons": [
                            {
                                name: value
                                for name, value in one.items()
                                if name != "last_benefit_at"
                            }
                            for one in (why if differs else [])
                        ],
                    }
                )
    return changes


def _reasons(connection: Connection, workspace_id: str, zone: ZoneInfo) -> list[Row]:
    """Return what runs out, starts or is granted: `coupon_id`, `event`, `at`, `follow_up_coupon_id`.

    The event `drawn` means that a grant is used up and the same redemption grants more credit later.
    """
    running_out = rows(
        connection,
        "select redemption_id, coupon_id, runs_out_by as event, runs_out_at as at, last_benefit_at,"
        " case when is_followed_up then follow_up_coupon_id end as follow_up_coupon_id"
        " from marts.fct_upcoming_expirations where workspace_id = ?",
        [workspace_id],
    )
    to_come = rows(
        connection,
        "select redemption_id, coupon_id, next_event as event, next_event_at as at,"
        " cast(null as timestamp) as last_benefit_at,"
        " cast(null as varchar) as follow_up_coupon_id"
        " from marts.dim_coupon_redemptions where workspace_id = ? and is_honoured"
        " and next_event in ('start', 'grant')",
        [workspace_id],
    )
    followed_up = rows(
        connection,
        "select redemptions.redemption_id, redemptions.coupon_id, 'follow_up' as event,"
        " redemptions.ends_at as at, cast(null as timestamp) as last_benefit_at,"
        " coupons.follow_up_coupon_id"
        " from marts.dim_coupon_redemptions as redemptions"
        " inner join marts.dim_coupons as coupons using (coupon_id)"
        " inner join marts.dim_coupons as following"
        " on coupons.follow_up_coupon_id = following.coupon_id"
        " and coupons.coupon_id <> following.coupon_id"
        " where redemptions.workspace_id = ? and redemptions.status = 'exhausted'"
        " and redemptions.ended_by = 'expiry'",
        [workspace_id],
    )
    drawn = rows(
        connection,
        "select burned.redemption_id, burned.coupon_id, 'drawn' as event,"
        " burned.projected_exhaustion_date as at, cast(null as varchar) as follow_up_coupon_id"
        " from marts.fct_credit_burndown_monthly as burned"
        " inner join marts.dim_coupon_redemptions as redemptions using (redemption_id)"
        " where burned.workspace_id = ? and redemptions.next_event = 'grant'"
        " and burned.projected_exhaustion_date is not null"
        " and burned.burn_month = (select max(burn_month) from marts.fct_credit_burndown_monthly)",
        [workspace_id],
    )
    for row in drawn:  # the mart has the day of the bill, in the reporting time zone
        row["at"] = row["last_benefit_at"] = first_instant(row["at"], zone)
    return sorted(
        [*running_out, *to_come, *followed_up, *drawn],
        key=lambda one: (one["at"], one["redemption_id"]),
    )


def _is_between(reason: Row, earlier: date | None, month: date, zone: ZoneInfo) -> bool:
    """Return whether an event can change a month's bills from those of the previous month with bills.

    A promotion runs out after the last bill on which it gives something. Credit may give less than usual
    on that bill, which is a change of its own. A promotion may start after the bill of its month.
    """
    after, at, last = earlier or date.min, _first_day(reason["at"], zone), reason["last_benefit_at"]
    if reason["event"] in ("start", "grant", "follow_up"):
        return after <= at <= month
    if last is None:
        return False
    if reason["event"] in ("credit", "drawn") and (after < at <= month or after <= at < month):
        return True
    return after <= _first_day(last, zone) < month


def _first_day(at: datetime, zone: ZoneInfo) -> date:
    return day_in(at, zone).replace(day=1)
