"""Credit of one currency: by month, expected use and lapse by quarter, and each grant with credit left."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from dagster_project.answers.asking import Connection, Row, zone_of
from dagster_project.answers.burndown import burndown
from dagster_project.answers.values import day_in
from dagster_project.answers.values import quarter as quarter_of

MONTHS = 24


def credit(
    connection: Connection, currency: str, program: str | None = None, plan: str | None = None
) -> Row:
    """Return the credit of a currency.

    Args:
        connection: The release.
        currency: The currency.
        program: Only this one.
        plan: Only workspaces on this plan.

    Returns:
        `months`, up to 24, oldest first; `quarters`, each with `expected_use_amount` by the quarter in
        which a grant runs out and `lapsing_amount` by the quarter in which it ends, or under the quarter
        None without such a day; `grants`, those with something left, each with `days_left`.
    """
    scope = "program" if program else "all"
    data = burndown(connection, scope, program or "", MONTHS, plan)
    as_of: date = data["as_of_date"]
    found = next((one for one in data["currencies"] if one["currency"] == currency), None)
    grants = [
        {
            **grant,
            "days_left": None
            if grant["runs_out_on"] is None
            else (grant["runs_out_on"] - as_of).days,
        }
        for grant in (found["grants_left"] if found else [])
    ]
    grants.sort(
        key=lambda grant: (grant["days_left"] is None, grant["days_left"], grant["grant_id"])
    )
    zone = zone_of(connection)
    quarters: dict[str | None, Row] = {}
    for grant in grants:
        ends = grant["grant_ends_at"]
        for name, value, on in (
            ("expected_use_amount", grant["expected_use_amount"], grant["runs_out_on"]),
            ("lapsing_amount", grant["projected_breakage_amount"], ends and day_in(ends, zone)),
        ):
            if not value:
                continue
            quarter = None if on is None else quarter_of(on)
            row = quarters.setdefault(
                quarter,
                {
                    "quarter": quarter,
                    "expected_use_amount": Decimal("0.00"),
                    "lapsing_amount": Decimal("0.00"),
                },
            )
            row[name] += value
    return {
        "release_id": data["release_id"],
        "as_of_date": as_of,
        "currency": currency,
        "program": program,
        "plan": plan,
        "months": found["months"] if found else [],
        "closing_amount": found["closing_amount"] if found else Decimal("0.00"),
        "projected_breakage_amount": (
            found["projected_breakage_amount"] if found else Decimal("0.00")
        ),
        "quarters": sorted(
            quarters.values(), key=lambda row: (row["quarter"] is None, row["quarter"] or "")
        ),
        "grants": grants,
    }
