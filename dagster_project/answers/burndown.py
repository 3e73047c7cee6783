"""`burndown`: how credit is used up month by month, and when the rest runs out or lapses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from dagster_project.answers.asking import (
    Connection,
    Row,
    facts,
    month_from,
    of_plan,
    rows,
    zone_of,
)
from dagster_project.answers.values import day_in

_AMOUNTS = (
    "opening_amount",
    "granted_amount",
    "drawn_amount",
    "expired_amount",
    "forfeited_amount",
    "closing_amount",
)
_GRANT = ("grant_id", "redemption_id", "coupon_id", "workspace_id", "currency")
LAST_MONTHS = """(
    select * from marts.fct_credit_burndown_monthly
    where burn_month = (select max(burn_month) from marts.fct_credit_burndown_monthly)
)"""
"""SQL for the rows of the last month: the grants that had not ended, the only ones with something left."""

_SCOPES = {
    "all": "true",
    "workspace": "burndown.workspace_id = ?",
    "program": "coupons.program = ?",
}


def burndown(
    connection: Connection, scope: str, name: str, months: int, plan: str | None = None
) -> Row:
    """Return credit by currency and month, and each grant with something left.

    Args:
        connection: The release.
        scope: `all`, `program` or `workspace`.
        name: Which program or workspace.
        months: How many months, counted back from the last with any credit.
        plan: Only workspaces on this plan.
    """
    values = [] if scope == "all" else [name]
    chosen = f"{_SCOPES[scope]} and {of_plan(plan, 'burndown.workspace_id')}"
    of_months = rows(
        connection,
        f"""
        select burndown.currency, burndown.burn_month, count(*) as grants,
            {", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in _AMOUNTS)}
        from marts.fct_credit_burndown_monthly as burndown
        left join marts.dim_coupons as coupons using (coupon_id)
        where {chosen}
        group by burndown.currency, burndown.burn_month
        order by burndown.currency, burndown.burn_month
        """,
        values,
    )
    grants = grants_left(connection, chosen, values)
    currencies = []
    for currency in dict.fromkeys(row["currency"] for row in of_months):
        series = _filled([row for row in of_months if row["currency"] == currency])
        shown = series[-months:]
        left = [row for row in grants if row["currency"] == currency]
        currencies.append(
            {
                "currency": currency,
                "opening_amount": shown[0]["opening_amount"],
                **{one: sum((row[one] for row in shown), Decimal(0)) for one in _AMOUNTS[1:-1]},
                "closing_amount": shown[-1]["closing_amount"],
                "balance_amount": sum((row["balance_amount"] for row in left), Decimal("0.00")),
                "projected_breakage_amount": lapsing(left),
                "months_before": len(series) - len(shown),
                "months": shown,
                "grants_left": left,
            }
        )
    return {**facts(connection), "scope": scope, "name": name or None, "currencies": currencies}


def grants_left(connection: Connection, condition: str, values: list[str]) -> list[Row]:
    """Return the grants with something left, the largest first, and the day each runs out.

    Args:
        connection: The release; one of an earlier version does not have the end of a grant.
        condition: SQL on the marts `burndown` and `coupons`.
        values: The values of its placeholders.

    Returns:
        `runs_out_on` is the day on which the grant is used up (R12), or ends, whichever is
        first; None if neither is known.
    """
    found = rows(
        connection,
        f"""
        select burndown.* from {LAST_MONTHS} as burndown
        left join marts.dim_coupons as coupons using (coupon_id)
        where burndown.closing_amount > 0 and {condition}
        order by burndown.currency, burndown.closing_amount desc, burndown.grant_id
        """,
        values,
    )
    left = []
    zone = zone_of(connection)
    for row in found:
        ends_at = row.get("grant_ends_at")
        days = [row["projected_exhaustion_date"], ends_at and day_in(ends_at, zone)]
        left.append(
            {
                **{name: row[name] for name in _GRANT},
                "balance_amount": row["closing_amount"],
                "expected_use_amount": _expected_use(row),
                "run_rate_amount": row["run_rate_amount"],
                "grant_ends_at": ends_at,
                "projected_exhaustion_date": row["projected_exhaustion_date"],
                "projected_breakage_amount": row["projected_breakage_amount"],
                "runs_out_on": min((one for one in days if one), default=None),
            }
        )
    return left


def _expected_use(row: Row) -> Decimal | None:
    """Return what expected bills will draw from a grant (R12); None if that is unknown."""
    balance, breakage = row["closing_amount"], row["projected_breakage_amount"]
    assert isinstance(balance, Decimal)
    if breakage is not None:
        return Decimal(balance - breakage)
    return balance if row["projected_exhaustion_date"] is not None else None


def roll_forward(connection: Connection, scope: str, name: str, months: int) -> Row:
    """Return credit by program, currency and month: opening + granted - drawn - lapsed = closing.

    Args:
        connection: The release.
        scope: `all`, `program` or `workspace`.
        name: Which program or workspace.
        months: How many months, counted from the last with credit in the program.
    """
    found = rows(
        connection,
        f"""
        select coupons.program, burndown.currency, burndown.burn_month, count(*) as grants,
            {", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in _AMOUNTS)}
        from marts.fct_credit_burndown_monthly as burndown
        left join marts.dim_coupons as coupons using (coupon_id)
        where {_SCOPES[scope]}
        group by coupons.program, burndown.currency, burndown.burn_month
        order by coupons.program, burndown.currency, burndown.burn_month
        """,
        [] if scope == "all" else [name],
    )
    programs = []
    for program, currency in dict.fromkeys((row["program"], row["currency"]) for row in found):
        series = _filled(
            [row for row in found if (row["program"], row["currency"]) == (program, currency)]
        )
        shown = series[-months:]
        programs.append(
            {
                "program": program,
                "currency": currency,
                "opening_amount": shown[0]["opening_amount"],
                **{one: sum((row[one] for row in shown), Decimal(0)) for one in _AMOUNTS[1:-1]},
                "closing_amount": shown[-1]["closing_amount"],
                "months_before": len(series) - len(shown),
                "months": shown,
            }
        )
    return {**facts(connection), "scope": scope, "name": name or None, "programs": programs}


def lapsing(grants: Iterable[Row], before: datetime | None = None) -> Decimal:
    """Return how much of the grants of one currency will lapse unused; every answer uses this definition.

    Args:
        grants: As `grants_left` returns them.
        before: Only grants that end before this instant.
    """
    return sum(
        (
            grant["projected_breakage_amount"] or Decimal(0)
            for grant in grants
            if before is None
            or (grant["grant_ends_at"] is not None and grant["grant_ends_at"] < before)
        ),
        Decimal("0.00"),
    )


def _filled(series: list[Row]) -> list[Row]:
    """Return the months without gaps, up to the last with a movement or something left."""
    filled: list[Row] = []
    for row in series:
        while filled:
            following = month_from(filled[-1]["burn_month"], 1)
            if following >= row["burn_month"]:
                break
            zeros = dict.fromkeys(_AMOUNTS, Decimal("0.00"))
            filled.append({**row, "burn_month": following, "grants": 0, **zeros})
        filled.append(row)
    while len(filled) > 1 and not any(filled[-1][one] for one in _AMOUNTS):
        filled.pop()
    return filled
