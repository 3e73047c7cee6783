"""`findings`: what billing got wrong, filtered, with totals by type and currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal

from dagster_project.answers.asking import (
    Connection,
    Row,
    bills_of_program,
    facts,
    has_column,
    month_in,
    rows,
)
from dagster_project.answers.words import is_open
from dagster_project.quoting import literal, literals
from dagster_project.releases.closing import month_of_finding


def findings(connection: Connection, wanted: Mapping[str, str | None], limit: int) -> Row:
    """Return the findings that pass the filters, the largest amount at stake of each currency first.

    Args:
        connection: The release.
        wanted: Values by column: `finding_type`, `severity`, `workspace_id`, `review_status`; and `month`,
            as 2024-02, in which a close counts them.
        limit: How many to list; totals are of all.

    Raises:
        NotThere: The release has neither bills nor findings in that month or later, or before it.
    """
    filters = {name: value for name, value in wanted.items() if value is not None}
    totals = totals_by_type(connection, filters)
    where, values = _where(connection, filters)
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
                "amount_at_stake": sum_of_known(row["amount_at_stake"] for row in group),
            }
            for (currency, status_of_group), group in sorted(
                by_currency.items(),
                key=lambda item: (item[0][0] is None, item[0][0] or "", item[0][1]),
            )
        ],
        "findings": listed,
    }


def sum_of_known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum of the amounts that are known: 0.00 of none at all, None where there are only unknown ones."""
    given = list(amounts)
    known = [one for one in given if one is not None]
    return sum(known, Decimal("0.00")) if known or not given else None


def totals_by_type(connection: Connection, filters: Mapping[str, str]) -> list[Row]:
    """Return number and amount at stake by type, severity, review and currency.

    Args:
        connection: The release.
        filters: Values by column, and `month`.
    """
    where, values = _where(connection, filters)
    return rows(
        connection,
        "select finding_type, severity, review_status, currency, count(*) as findings,"
        " cast(sum(amount_at_stake) as decimal(18, 2)) as amount_at_stake"
        f" from {_source(connection)} where {where} group by all order by all",
        values,
    )


def reviewed(
    connection: Connection,
    currency: str,
    limit: int,
    *,
    month: date | None = None,
    plan: str | None = None,
    program: str | None = None,
    finding_type: str | None = None,
) -> Row:
    """Return the findings in one currency, and those without a currency, with their effect on bills.

    Args:
        connection: The release.
        currency: The currency; findings about redemptions and coupons have none.
        limit: How many to list, the largest amount at stake first.
        month: Only those of this month, as a close counts them.
        plan: Only those about bills of this plan.
        program: Only those about a coupon of this program, or, where they name none, about a bill on which
            the program gave something.
        finding_type: Only those of this type.

    Returns:
        `totals`, by type, severity and review: `findings`, `amount_at_stake`, `effect_amount` (what was
        billed too much above zero, too little below; None where no discount or credit of a bill is in
        question) and `oldest_at`; `total`; `findings`, each with its `effect_amount` too; and `open`, the
        `findings`, `amount_at_stake` (None where it is unknown of all) and `effect_amount` of those that
        are not accepted.
    """
    with_effects = f"""
        select findings.*,
            case
                when findings.finding_type in ({literals(GIVEN_TOO_LITTLE)}) then findings.amount_at_stake
                when findings.finding_type in ({literals(GIVEN_TOO_MUCH)}) then -findings.amount_at_stake
            end as effect_amount
        from {_source(connection)} as findings
        {"" if plan is None else _BILLS}
        where (findings.currency = ? or findings.currency is null)
    """
    values: list[object] = [currency]
    if month is not None:
        with_effects += f" and {of_month(connection, literal(month.isoformat()))}"
    for column, value in (("charges.plan", plan), ("findings.finding_type", finding_type)):
        if value is not None:
            with_effects += f" and {column} = ?"
            values.append(value)
    if program is not None:
        with_effects += f" and {of_program('findings', literal(program))}"
    totals = rows(
        connection,
        "select finding_type, severity, review_status, count(*) as findings,"
        " cast(sum(amount_at_stake) as decimal(18, 2)) as amount_at_stake,"
        " cast(sum(effect_amount) as decimal(18, 2)) as effect_amount,"
        f" min(occurred_at) as oldest_at from ({with_effects}) group by all order by all",
        values,
    )
    listed = rows(
        connection,
        f"select * from ({with_effects})"
        " order by amount_at_stake desc nulls last, occurred_at desc, finding_id limit ?",
        [*values, limit],
    )
    still_open = [row for row in totals if is_open(row)]
    return {
        **facts(connection),
        "open": {
            "findings": sum(row["findings"] for row in still_open),
            "amount_at_stake": sum_of_known(row["amount_at_stake"] for row in still_open),
            "effect_amount": sum(
                (row["effect_amount"] or Decimal(0) for row in still_open), Decimal("0.00")
            ),
        },
        "totals": totals,
        "total": sum(row["findings"] for row in totals),
        "findings": listed,
    }


_BILLS = """
    left join marts.fct_discounted_charges as charges on findings.invoice_id = charges.invoice_id
"""
"""Findings are few beside bills, which are joined only where a filter is about them."""
GIVEN_TOO_LITTLE = ("under_discounted", "credit_under_drawn")
"""Types of findings about bills with less discount or credit than was due: they billed too much."""
GIVEN_TOO_MUCH = (
    "over_discounted",
    "discount_after_expiry",
    "discount_on_refused_redemption",
    "discount_without_coupon",
    "credit_over_drawn",
)
"""Types of findings about bills with more discount or credit than was due: they billed too little."""


def of_month(connection: Connection, month: str) -> str:
    """Return SQL for the findings that a close of a month counts.

    Args:
        connection: The release.
        month: SQL for its first day.
    """
    return f"finding_id in (select finding_id from ({_months(connection)}) where month = {month})"


def _months(connection: Connection) -> str:
    return (
        f"select findings.finding_id, {month_of_finding(connection)} as month"
        f" from marts.fct_audit_findings as findings {_BILLS}"
    )


def of_program(findings: str, program: str) -> str:
    """Return SQL for the findings about a coupon of a program, or about what it gave.

    A finding that names no coupon is about every program that gave something on its bill.

    Args:
        findings: What the mart is called where the condition stands.
        program: SQL for the program.
    """
    return f"""(
        {findings}.coupon_id in (select coupon_id from marts.dim_coupons where program = {program})
        or {findings}.coupon_id is null and {findings}.invoice_id in {bills_of_program(program)}
    )"""


def _where(connection: Connection, filters: Mapping[str, str]) -> tuple[str, list[object]]:
    """Return SQL for the findings that pass the filters, and its values."""
    columns = {name: value for name, value in filters.items() if name != "month"}
    conditions, values = [f"{name} = ?" for name in columns], list[object](columns.values())
    if "month" in filters:
        (span,) = rows(
            connection,
            f"select min(month) as first, max(month) as last from (select month from ({_months(connection)})"
            " union all select billing_month from marts.fct_discounted_charges)",
        )
        month = month_in(filters["month"], span["first"], span["last"])
        conditions.append(of_month(connection, literal(month.isoformat())))
    return " and ".join(["true", *conditions]), values


def _source(connection: Connection) -> str:
    """Return SQL for the mart; one made before reviews existed has only open findings."""
    if has_column(connection, "fct_audit_findings", "review_status"):
        return "marts.fct_audit_findings"
    return "(select *, 'open' as review_status from marts.fct_audit_findings)"
