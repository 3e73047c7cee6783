"""What every page first says about its release, and the choices a page offers.

The facts of the release, its checks and open findings, and the currencies, months and plans of its bills
belong here. The subject of a page is in an answer of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from dagster_project.answers.asking import (
    Connection,
    Row,
    facts,
    has_column,
    has_table,
    month_to_come,
    rows,
)
from dagster_project.answers.findings import totals_by_type
from dagster_project.answers.outlook import MONTHS
from dagster_project.answers.words import PROGRAMS, is_open
from dagster_project.settings import add_months

_WITHOUT_BILLS = ("fct_audit_findings", "fct_credit_burndown_monthly", "fct_upcoming_expirations")
"""Marts whose currency need not have a bill."""


def glance(connection: Connection) -> Row:
    """Return a release's identity and a summary of its content.

    Returns:
        `release_id`, `as_of_date`, `checks`, `checks_not_passed`, `checks_standing`, `open_findings`; and the
        choices of a page: `currencies`, the one with most bills first, also those of findings, credit and
        expirations without a bill, `months` (newest first), `plans`, `programs`, `months_to_come`, in which
        promotions can run out, and `finding_types`.
    """
    checked = checks(connection)
    counted_bills = (
        "select currency, bridge_month as billing_month, plan, invoices as bills"
        " from marts.fct_charge_bridge_monthly"
        if has_table(connection, "fct_charge_bridge_monthly")
        else "select currency, billing_month, plan, count(*) as bills"
        " from marts.fct_discounted_charges group by all"
    )
    bills = rows(connection, f"{counted_bills} order by all")
    counted = {
        row["currency"]: 0
        for row in rows(
            connection,
            " union ".join(f"select currency from marts.{one}" for one in _WITHOUT_BILLS)
            + " order by currency",
        )
        if row["currency"] is not None
    }
    for row in bills:
        counted[row["currency"]] = counted.get(row["currency"], 0) + row["bills"]
    of_release, kinds = facts(connection), totals_by_type(connection, {})
    end = month_to_come(of_release["as_of_date"])
    return {
        **of_release,
        "checks": len(checked),
        "checks_not_passed": sum(row["status"] != "pass" for row in checked),
        "checks_standing": sum(row["is_standing"] for row in checked),
        "open_findings": sum(row["findings"] for row in kinds if is_open(row)),
        "finding_types": sorted({row["finding_type"] for row in kinds}),
        "months_to_come": [add_months(end, one).date() for one in range(MONTHS + 1)],
        "currencies": sorted(counted, key=lambda currency: (-counted[currency], currency)),
        "months": sorted({row["billing_month"] for row in bills}, reverse=True),
        "plans": sorted({row["plan"] for row in bills if row["plan"] is not None}),
        "programs": list(PROGRAMS),
    }


def names(connection: Connection, workspace_ids: Iterable[str]) -> dict[str, str]:
    """Return the names of workspaces by id; a workspace that is not on record is left out."""
    wanted = sorted(set(workspace_ids))
    if not wanted:
        return {}
    marks = ", ".join("?" for _ in wanted)
    found = rows(
        connection,
        "select workspace_id, workspace_name from marts.dim_workspaces"
        f" where workspace_id in ({marks}) and workspace_name is not null",
        wanted,
    )
    return {row["workspace_id"]: row["workspace_name"] for row in found}


def checks(connection: Connection) -> list[Row]:
    """Return every check of a release, failed checks first.

    Returns:
        What `release.checks` says; `is_standing` is true for a check that an earlier refresh ran on the same rows.
    """
    is_standing = "false"
    if has_column(connection, "checks", "checked_at", "release"):
        is_standing = "coalesce(checked_at < created_at, false)"
    return rows(
        connection,
        "select name, table_name, severity, status, failures, description, checked_by,"
        f" {is_standing} as is_standing from release.checks cross join release.release"
        " order by status = 'pass', checked_by, name, table_name",
    )
