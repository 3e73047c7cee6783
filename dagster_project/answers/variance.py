"""`variance`: why the value of percent-off coupons changed, as a bridge whose effects add up (R10)."""

from __future__ import annotations

from decimal import Decimal

from dagster_project.answers.asking import (
    Connection,
    Row,
    facts,
    month_from,
    month_in,
    months_from,
    of_plan,
    rows,
)

EFFECTS = (
    "bill_effect_amount",
    "rate_effect_amount",
    "start_effect_amount",
    "end_effect_amount",
)
_AMOUNTS = (
    "bill_amount",
    "previous_percent_off_amount",
    *EFFECTS,
    "delta_amount",
    "percent_off_amount",
)
MONTHS = 12
_SCOPES = {
    "all": "true",
    "workspace": "workspace_id = ?",
    # A bridge from month to month needs the same workspaces in each.
    "program": "workspace_id in (select workspace_id from marts.dim_coupon_redemptions"
    " where program = ? and discount_type = 'percent_off' and is_honoured)",
}


def variance(
    connection: Connection,
    scope: str,
    name: str,
    wanted: str | None,
    months: int = MONTHS,
    plan: str | None = None,
) -> Row:
    """Return the bridge of one month, or of the last ones, by currency.

    Args:
        connection: The release.
        scope: `all`, `program` or `workspace`.
        name: Which program or workspace.
        wanted: A month as 2024-02; None for the last months.
        months: How many of the last ones; fewer where the mart begins later.
        plan: Only workspaces on this plan.

    Raises:
        NotThere: There is no such month.
    """
    (span,) = rows(
        connection,
        "select min(variance_month) as first, max(variance_month) as last"
        " from marts.fct_percent_off_variance_monthly",
    )
    if wanted is not None:
        first = last = month_in(wanted, span["first"], span["last"])
    elif span["last"] is not None:
        last = span["last"]
        first = max(span["first"], month_from(last, 1 - months))
    else:
        return {**facts(connection), "scope": scope, "name": name or None, "currencies": []}
    values = [] if scope == "all" else [name]
    of_marts = (
        f"from marts.fct_percent_off_variance_monthly where {_SCOPES[scope]} and {of_plan(plan)}"
    )
    added = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in _AMOUNTS)
    found = rows(
        connection,
        f"select currency, variance_month as month, count(*) as workspaces, {added} {of_marts}"
        " and variance_month between ? and ? group by currency, variance_month"
        " order by currency, variance_month",
        [*values, first, last],
    )
    movers = (
        rows(
            connection,
            f"select currency, workspace_id, {', '.join(_AMOUNTS)} {of_marts}"
            " and variance_month = ? order by abs(delta_amount) desc, workspace_id",
            [*values, first],
        )
        if first == last
        else []
    )
    currencies = []
    for currency in dict.fromkeys(row["currency"] for row in found):
        by_month = {row["month"]: row for row in found if row["currency"] == currency}
        of_months = []
        for at in months_from(first, last):
            row = by_month.get(at, {"workspaces": 0, **dict.fromkeys(_AMOUNTS, Decimal("0.00"))})
            of_months.append({"month": at, **{one: row[one] for one in ("workspaces", *_AMOUNTS)}})
        currencies.append(
            {
                "currency": currency,
                "bridge": {
                    "from_month": month_from(first, -1),
                    "to_month": last,
                    "previous_percent_off_amount": of_months[0]["previous_percent_off_amount"],
                    **{one: sum((row[one] for row in of_months), Decimal(0)) for one in EFFECTS},
                    "delta_amount": sum((row["delta_amount"] for row in of_months), Decimal(0)),
                    "percent_off_amount": of_months[-1]["percent_off_amount"],
                },
                "months": of_months,
                "workspaces": [
                    {name: value for name, value in row.items() if name != "currency"}
                    for row in movers
                    if row["currency"] == currency
                ],
            }
        )
    return {
        **facts(connection),
        "scope": scope,
        "name": name or None,
        "from_month": first,
        "to_month": last,
        "currencies": currencies,
    }


def sums(found: list[Row]) -> Row:
    """Add up the amounts of rows of one currency."""
    return {one: sum((row[one] for row in found), Decimal("0.00")) for one in _AMOUNTS}
