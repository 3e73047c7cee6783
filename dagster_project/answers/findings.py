"""`findings`: what billing got wrong, filtered, with totals by type and currency."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dagster_project.answers.asking import Connection, Row, facts, has_column, rows


def findings(connection: Connection, wanted: Mapping[str, str | None], limit: int) -> Row:
    """Return the findings that pass the filters, the largest amount at stake of each currency first.

    Args:
        connection: The release.
        wanted: Values by column: `finding_type`, `severity`, `workspace_id`, `review_status`.
        limit: How many to list; totals are of all.
    """
    filters = {name: value for name, value in wanted.items() if value is not None}
    totals = totals_by_type(connection, filters)
    where, values = _where(filters)
    listed = rows(
        connection,
        f"""
        select * from {_source(connection)} where {where}
        order by currency nulls last, amount_at_stake desc nulls last, occurred_at desc, finding_id
        limit ?
        """,
        [*values, limit],
    )
    by_currency: dict[tuple[str | None, str], list[Row]] = {}
    for row in totals:
        by_currency.setdefault((row["currency"], row["review_status"]), []).append(row)
    return {
        **facts(connection),
        "filters": filters,
        "total": sum(row["findings"] for row in totals),
        "totals_by_type": totals,
        "totals_by_currency": [
            {
                "currency": currency,
                "review_status": status_of_group,
                "findings": sum(row["findings"] for row in group),
                "amount_at_stake": sum(
                    (row["amount_at_stake"] or Decimal(0) for row in group), Decimal("0.00")
                ),
            }
            for (currency, status_of_group), group in sorted(
                by_currency.items(),
                key=lambda item: (item[0][0] is None, item[0][0] or "", item[0][1]),
            )
        ],
        "findings": listed,
    }


def totals_by_type(connection: Connection, filters: Mapping[str, str]) -> list[Row]:
    """Return number and amount at stake by type, severity, review and currency.

    Args:
        connection: The release.
        filters: Values by column.
    """
    where, values = _where(filters)
    return rows(
        connection,
        "select finding_type, severity, review_status, currency, count(*) as findings,"
        " cast(sum(amount_at_stake) as decimal(18, 2)) as amount_at_stake"
        f" from {_source(connection)} where {where} group by all order by all",
        values,
    )


def _where(filters: Mapping[str, str]) -> tuple[str, list[str]]:
    return " and ".join(["true", *(f"{name} = ?" for name in filters)]), list(filters.values())


def _source(connection: Connection) -> str:
    """Return SQL for the mart; one made before reviews existed has only open findings."""
    if has_column(connection, "fct_audit_findings", "review_status"):
        return "marts.fct_audit_findings"
    return "(select *, 'open' as review_status from marts.fct_audit_findings)"
