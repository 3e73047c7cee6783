"""`findings`: what billing got wrong, filtered, with totals by type and currency."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from dagster_project.answers import layout, words
from dagster_project.answers.asking import Connection, Row, facts, has_column, rows
from dagster_project.answers.layout import amount, count, day


def findings(connection: Connection, wanted: Mapping[str, str | None], limit: int) -> Row:
    """The findings that pass the filters, the largest amount at stake of each currency first.

    Args:
        connection: The release.
        wanted: Values by column: `finding_type`, `severity`, `workspace_id`, `review_status`.
        limit: How many to list; totals are of all.
    """
    filters = {name: value for name, value in wanted.items() if value is not None}
    found = "marts.fct_audit_findings"
    if not has_column(connection, "fct_audit_findings", "review_status"):
        found = f"(select *, 'open' as review_status from {found})"
    where = " and ".join(["true", *(f"{name} = ?" for name in filters)])
    values = list(filters.values())
    totals = rows(
        connection,
        "select finding_type, severity, review_status, currency, count(*) as findings,"
        " cast(sum(amount_at_stake) as decimal(18, 2)) as amount_at_stake"
        f" from {found} where {where} group by all order by all",
        values,
    )
    listed = rows(
        connection,
        f"""
        select * from {found} where {where}
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


def tell(data: Row) -> str:
    """The findings as text."""
    filtered = ", ".join(data["filters"].values())
    title = f"{count(data['total'], 'finding')} in what billing did"
    lines = layout.heading(title + (f" ({filtered})" if filtered else ""), data)
    if not data["total"]:
        return "\n".join(lines)
    is_reviewed = any(not words.is_open(row) for row in data["totals_by_type"])
    review = ["review"] if is_reviewed else []
    lines += ["", "By type"]
    lines += layout.table(
        ["type", "severity", *review, ">number", ">at stake", ""],
        [
            [
                row["finding_type"],
                row["severity"],
                *([row["review_status"]] if is_reviewed else []),
                f"{row['findings']:,}",
                amount(row["amount_at_stake"], row["currency"]),
                row["currency"] or "",
            ]
            for row in data["totals_by_type"]
        ],
    )
    lines += ["", "By currency"]
    lines += layout.table(
        ["currency", *review, ">number", ">at stake"],
        [
            [
                row["currency"] or "none",
                *([row["review_status"]] if is_reviewed else []),
                f"{row['findings']:,}",
                amount(row["amount_at_stake"], row["currency"]),
            ]
            for row in data["totals_by_currency"]
        ],
    )
    shown = len(data["findings"])
    lines += ["", "Each, the most at stake first"]
    for row in data["findings"]:
        where = f"  {row['workspace_id']}" if row["workspace_id"] else ""
        lines += layout.wrap(f"{day(row['occurred_at'])}{where}  {row['finding_type']}", "  ")
        lines += layout.wrap(row["description"], "    ")
        if not words.is_open(row):
            lines += layout.wrap(words.accepted(row), "    ")
    if shown < data["total"]:
        lines += ["", f"and {data['total'] - shown:,} more: --limit N lists more of them"]
    return "\n".join(lines)
