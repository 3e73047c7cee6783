"""`variance`: why the value of percent-off coupons changed, as a bridge whose effects add up (R10)."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows

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
    connection: Connection, scope: str, name: str, wanted: str | None, months: int = MONTHS
) -> Row:
    """Return the bridge of one month, or of the last ones, by currency.

    Args:
        connection: The release.
        scope: `all`, `program` or `workspace`.
        name: Which program or workspace.
        wanted: A month as 2024-02; None for the last months.
        months: How many of the last ones.

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
        first = _month_before(last, months - 1)
    else:
        return {**facts(connection), "scope": scope, "name": name or None, "currencies": []}
    values = [] if scope == "all" else [name]
    found = rows(
        connection,
        "select * exclude (effective_percent) from marts.fct_percent_off_variance_monthly"
        f" where variance_month between ? and ? and {_SCOPES[scope]}"
        " order by currency, variance_month, workspace_id",
        [first, last, *values],
    )
    currencies = []
    for currency in dict.fromkeys(row["currency"] for row in found):
        of_currency = [row for row in found if row["currency"] == currency]
        of_months = []
        at = first
        while at <= last:
            of_month = [row for row in of_currency if row["variance_month"] == at]
            of_months.append({"month": at, "workspaces": len(of_month), **sums(of_month)})
            at = (at + timedelta(days=31)).replace(day=1)
        currencies.append(
            {
                "currency": currency,
                "bridge": {
                    "from_month": _month_before(first, 1),
                    "to_month": last,
                    "previous_percent_off_amount": of_months[0]["previous_percent_off_amount"],
                    **{one: sum((row[one] for row in of_months), Decimal(0)) for one in EFFECTS},
                    "delta_amount": sum((row["delta_amount"] for row in of_months), Decimal(0)),
                    "percent_off_amount": of_months[-1]["percent_off_amount"],
                },
                "months": of_months,
                "workspaces": _movers(of_currency, first == last),
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


def _month_before(of: date, months: int) -> date:
    place = of.year * 12 + of.month - 1 - months
    return date(place // 12, place % 12 + 1, 1)


def sums(found: list[Row]) -> Row:
    """Add up the amounts of some rows, which are of one currency."""
    return {one: sum((row[one] for row in found), Decimal("0.00")) for one in _AMOUNTS}


def _movers(found: list[Row], is_one_month: bool) -> list[Row]:
    """Return the workspaces of one month, the largest change first."""
    if not is_one_month:
        return []
    names = ("workspace_id", *_AMOUNTS)
    return sorted(
        ({one: row[one] for one in names} for row in found),
        key=lambda row: (-abs(row["delta_amount"]), row["workspace_id"]),
    )
