"""`expiring`: promotions and credit that run out next, and by how much the bills will rise."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from dagster_project.answers import words
from dagster_project.answers.asking import (
    Connection,
    Row,
    end_of,
    facts,
    has_column,
    of_plan,
    rows,
    zone_of,
)
from dagster_project.answers.burndown import grants_left, lapsing
from dagster_project.answers.outlook import bill_changes
from dagster_project.answers.values import day_in
from dagster_project.settings import add_months

_MOST = 10  # workspaces listed one by one


def expiring(
    connection: Connection,
    within_months: int,
    program: str | None,
    sort: Literal["amount", "date"] = "date",
    top: int | None = None,
) -> Row:
    """Return the redemptions in force, and credit, that run out within some months of the as-of date (R12).

    Args:
        connection: The release.
        within_months: 1 to 12.
        program: Only this one.
        sort: By the day they run out; or by currency and amount (rise of the bill, or lapse), largest first.
        top: How many promotions and grants to list, for each currency if they are sorted by amount;
            totals are of all.
    """
    of_release = facts(connection)
    until = add_months(end_of(connection, of_release["as_of_date"]), within_months)
    last_day = day_in(until, zone_of(connection))
    found = _running_out_before(connection, until, program)
    more_granted = {
        row["redemption_id"]: row["next_event_at"]
        for row in rows(
            connection,
            "select redemption_id, next_event_at from marts.dim_coupon_redemptions"
            " where next_event = 'grant'",
        )
    }
    rises = {row["redemption_id"]: row["monthly_rise_amount"] for row in found}
    (used_up,) = rows(
        connection,
        "select count(*) as redemptions, count(distinct workspace_id) as workspaces"
        " from marts.dim_coupon_redemptions where status = 'exhausted'"
        + (" and program = ?" if program else ""),
        [program] if program else [],
    )
    grants = sorted(
        (
            {
                **grant,
                "next_grant_at": more_granted.get(grant["redemption_id"]),
                "monthly_rise_amount": rises.get(grant["redemption_id"]),
            }
            for grant in grants_left(
                connection,
                "coupons.program = ?" if program else "true",
                [program] if program else [],
            )
            if grant["runs_out_on"] is not None and grant["runs_out_on"] < last_day
        ),
        key=lambda grant: (grant["runs_out_on"], grant["grant_id"]),
    )
    return {
        **of_release,
        "within_months": within_months,
        "until": until,
        "program": program,
        "sort": sort,
        "top": top,
        "used_up": used_up,
        "counted_in_bills": _counted_in_bills(connection, program),
        "totals_by_month": _totals(found, "ends_month"),
        "totals_by_currency": _totals(found),
        "expirations": _chosen(found, "monthly_rise_amount", sort, top),
        "credit_totals_by_currency": [
            {
                "currency": currency,
                "grants": len(of_currency),
                "balance_amount": sum((one["balance_amount"] for one in of_currency), Decimal(0)),
                "projected_breakage_amount": lapsing(of_currency),
            }
            for currency in sorted({grant["currency"] for grant in grants})
            for of_currency in [[one for one in grants if one["currency"] == currency]]
        ],
        "credit_running_out": _chosen(grants, "projected_breakage_amount", sort, top),
    }


def _running_out_before(
    connection: Connection, until: datetime, program: str | None, plan: str | None = None
) -> list[Row]:
    """Return the redemptions that run out before an instant, earliest first."""
    return rows(
        connection,
        "select ending.*, workspaces.workspace_name"
        f" from {running_out(connection)} as ending"
        " left join marts.dim_workspaces as workspaces using (workspace_id)"
        f" where ending.runs_out_at < ? and {of_plan(plan, 'ending.workspace_id')}"
        + (" and ending.program = ?" if program else "")
        + " order by ending.runs_out_at, ending.redemption_id",
        [until, *([program] if program else [])],
    )


def calendar(
    connection: Connection, currency: str, program: str | None = None, plan: str | None = None
) -> Row:
    """Return what runs out in one currency within twelve months, by month, and the revenue behind it.

    Args:
        connection: The release.
        currency: The currency.
        program: Only this one.
        plan: Only workspaces on this plan.

    Returns:
        `expirations`, the largest rise first, and `months`, the totals of each month, both with
        `behind_amount`: what the workspaces were charged in the last twelve months. In total:
        `redemptions`, `followed_up`, `monthly_rise_amount`, `workspaces` charged in those months and
        `behind_amount`, in which each workspace counts once.
    """
    end = end_of(connection, facts(connection)["as_of_date"])
    of_all = _running_out_before(connection, add_months(end, 12), program, plan)
    found = [row for row in of_all if row["currency"] == currency]
    behind = _revenue_behind(connection, found, currency)
    months = []
    for row in _totals(found, "ends_month"):
        ids = {one["workspace_id"] for one in found if one["ends_month"] == row["ends_month"]}
        months.append({**row, "behind_amount": _added(behind.get(one) for one in ids)})
    return {
        "redemptions": len(found),
        "followed_up": sum(bool(row["is_followed_up"]) for row in found),
        "monthly_rise_amount": _added(row["monthly_rise_amount"] for row in months),
        "workspaces": len(behind),
        "behind_amount": _added(behind.values()),
        "months": months,
        "expirations": [
            {**row, "behind_amount": behind.get(row["workspace_id"])}
            for row in _chosen(found, "monthly_rise_amount", "amount", None)
        ],
    }


def _added(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((one or Decimal(0) for one in amounts), Decimal("0.00"))


def ending(
    connection: Connection, before: datetime, redemption_ids: Collection[str] | None = None
) -> Row:
    """Return how many promotions run out before an instant, for how many workspaces, and the rise of bills.

    Args:
        connection: The release.
        before: At most twelve months after the as-of date.
        redemption_ids: Only these.

    Returns:
        `redemptions`, `workspaces`, `followed_up`, and `rises` by currency.
    """
    chosen = f"{running_out(connection)} where runs_out_at < ?"
    values: list[object] = [before]
    if redemption_ids is not None:
        chosen += f" and list_contains([{', '.join('?' * len(redemption_ids))}], redemption_id)"
        values += redemption_ids
    (found,) = rows(
        connection,
        "select count(*) as redemptions, count(distinct workspace_id) as workspaces,"
        f" count(*) filter (where is_followed_up) as followed_up from {chosen}",
        values,
    )
    found["rises"] = rows(
        connection,
        "select currency, cast(sum(monthly_rise_amount) as decimal(18, 2)) as monthly_rise_amount"
        f" from {chosen} and monthly_rise_amount is not null"
        " group by currency having sum(monthly_rise_amount) <> 0 order by currency",
        values,
    )
    return found


def ahead(connection: Connection, days: int, known: Collection[str]) -> Row:
    """Return the redemptions that run out soon after the as-of date, and their effect on bills in words.

    Args:
        connection: The release.
        days: How many days to look ahead, at most 365.
        known: Redemptions already reported.

    Returns:
        As `ending`, for the redemptions that are new, or for all if none is; `until`, the last day;
        `redemption_ids`, all of them; `new`; and `workspaces_ahead`, the largest rise first, each with
        the sentences of `outlook` that name one of these redemptions.
    """
    until = facts(connection)["as_of_date"] + timedelta(days=days)
    before = end_of(connection, until)
    found = rows(
        connection,
        "select redemption_id, workspace_id, currency, monthly_rise_amount"
        f" from {running_out(connection)} where runs_out_at < ? order by redemption_id",
        [before],
    )
    new = [row["redemption_id"] for row in found if row["redemption_id"] not in known]
    told = [row for row in found if row["redemption_id"] in new] or found
    largest = sorted(
        told, key=lambda row: (-(row["monthly_rise_amount"] or Decimal(0)), row["redemption_id"])
    )
    ids = {row["redemption_id"] for row in told}
    return {
        **ending(connection, before, ids),
        "until": until,
        "redemption_ids": [row["redemption_id"] for row in found],
        "new": new,
        "workspaces_ahead": [
            {"workspace_id": workspace_id, "words": _sentences(connection, workspace_id, ids)}
            for workspace_id in list(dict.fromkeys(row["workspace_id"] for row in largest))[:_MOST]
        ],
    }


def _sentences(
    connection: Connection, workspace_id: str, redemption_ids: Collection[str]
) -> list[str]:
    """Return the sentences of `outlook` on how these redemptions change the bills of a workspace."""
    changes = bill_changes(connection, workspace_id)
    first = {row["currency"]: row for row in reversed(changes)}
    return [
        words.bill_change(row, is_first=row is first[row["currency"]])
        for row in changes
        if any(one["redemption_id"] in redemption_ids for one in row["reasons"])
    ]


def _revenue_behind(
    connection: Connection, found: Iterable[Row], currency: str
) -> dict[str, Decimal]:
    """Return what workspaces were charged in one currency in the last twelve months, by workspace.

    Args:
        connection: The release.
        found: Redemptions that run out; only their workspaces are returned.
        currency: The currency.
    """
    end = end_of(connection, facts(connection)["as_of_date"])
    charged = rows(  # the same query for each currency, which `remembering` runs once
        connection,
        "select currency, workspace_id, cast(sum(net_amount) as decimal(18, 2)) as net_amount"
        " from marts.fct_discounted_charges where issued_at >= ?"
        f" and workspace_id in (select workspace_id from {running_out(connection)})"
        " group by currency, workspace_id",
        [add_months(end, -12)],
    )
    ids = {row["workspace_id"] for row in found}
    return {
        row["workspace_id"]: row["net_amount"]
        for row in charged
        if row["currency"] == currency and row["workspace_id"] in ids
    }


def _counted_in_bills(connection: Connection, program: str | None) -> int:
    """Count the active promotions limited in uses whose last use is on no expected bill."""
    if not has_column(connection, "dim_coupon_redemptions", "uses_left"):
        return 0
    (found,) = rows(
        connection,
        "select count(*) as redemptions from marts.dim_coupon_redemptions where status = 'active'"
        " and uses_left is not null and ends_at is null and redemption_id not in"
        " (select redemption_id from marts.fct_upcoming_expirations)"
        + (" and program = ?" if program else ""),
        [program] if program else [],
    )
    return int(found["redemptions"])


def _chosen(found: list[Row], by: str, sort: str, top: int | None) -> list[Row]:
    """Return the items to list, in the order asked for."""
    if sort == "date":
        return found[:top]
    largest = sorted(
        found, key=lambda row: (row["currency"] or "~", row[by] is None, -(row[by] or Decimal(0)))
    )
    return [
        row
        for currency in dict.fromkeys(row["currency"] for row in largest)
        for row in [row for row in largest if row["currency"] == currency][:top]
    ]


def running_out(connection: Connection) -> str:
    """Return SQL for the redemptions that run out, whatever version made the release.

    In a release of an earlier version a redemption runs out only when it ends, and its run rate is taken as
    the rise, because there is no outlook.
    """
    if has_column(connection, "fct_upcoming_expirations", "runs_out_at"):
        return "marts.fct_upcoming_expirations"
    return (
        "(select *, ends_at as runs_out_at, 'end' as runs_out_by,"
        " run_rate_amount as monthly_rise_amount, cast(null as decimal(18, 2)) as rise_amount from marts.fct_upcoming_expirations)"
    )


def is_used_up(row: Row) -> bool:
    """Return whether a redemption in force is used up; a release of an earlier version does not say."""
    return row.get("status") == "exhausted"


def _totals(found: list[Row], *by: str) -> list[Row]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in found:
        groups.setdefault((*(row[name] for name in by), row["currency"]), []).append(row)
    return [
        {
            **dict(zip((*by, "currency"), key, strict=True)),
            "redemptions": len(group),
            "workspaces": len({row["workspace_id"] for row in group}),
            "followed_up": sum(bool(row["is_followed_up"]) for row in group),
            "used_up": sum(map(is_used_up, group)),
            **{
                name: sum(
                    (row[name] or Decimal(0) for row in group if not is_used_up(row)),
                    Decimal("0.00"),
                )
                for name in ("run_rate_amount", "monthly_rise_amount")
            },
        }
        for key, group in groups.items()
    ]
