"""`bridge`: from the list price of bills to the amounts billed and kept, by month, plan or program."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Literal

from dagster_project.answers.asking import Connection, Row, facts, month_in, rows

AMOUNTS = (
    "list_amount",
    "percent_off_amount",
    "amount_off_amount",
    "credit_amount",
    "net_amount",
    "billing_error_amount",
    "billed_net_amount",
    "credited_amount",
    "billed_net_after_notes_amount",
)
GIVEN = ("percent_off_amount", "amount_off_amount", "credit_amount")
_MART = "marts.fct_charge_bridge_monthly"


def bridge(connection: Connection, wanted: str | None, by: Literal["month", "plan"]) -> Row:
    """Return the bridge of each currency: its total, its parts, and what each program gave.

    Args:
        connection: The release.
        wanted: Only this month, as 2024-02.
        by: Whether the parts are months or plans.

    Raises:
        NotThere: There is no such month.
    """
    (span,) = rows(
        connection, f"select min(bridge_month) as first, max(bridge_month) as last from {_MART}"
    )
    at: date | None = None
    if wanted is not None:
        at = month_in(wanted, span["first"], span["last"])
    where, values = ("bridge_month = ?", [at]) if at else ("true", [])
    part = "bridge_month" if by == "month" else "plan"
    sums = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)
    found = rows(
        connection,
        f"select currency, {part} as {by}, cast(sum(invoices) as bigint) as invoices, {sums}"
        f" from {_MART} where {where} group by currency, {part} order by currency, {part}",
        values,
    )
    programs = given_by_program(connection, at)
    return {
        **facts(connection),
        "month": at,
        "by": by,
        "currencies": [
            {
                "currency": currency,
                "invoices": sum(row["invoices"] for row in parts),
                **{one: sum((row[one] for row in parts), Decimal("0.00")) for one in AMOUNTS},
                "given_amount": sum((row[one] for row in parts for one in GIVEN), Decimal("0.00")),
                "parts": parts,
                "programs": [row for row in programs if row["currency"] == currency],
            }
            for currency in dict.fromkeys(row["currency"] for row in found)
            for parts in [[row for row in found if row["currency"] == currency]]
        ],
    }


def given_by_program(connection: Connection, at: date | None, plan: str | None = None) -> list[Row]:
    """Return what each program gave, by discount type and in total; the amounts add up to those of the bridge.

    Args:
        connection: The release.
        at: Only on bills of this month.
        plan: Only on bills of this plan.
    """
    wanted: dict[str, object] = {"billing_month": at, "plan": plan}
    given, values = (
        _given(wanted)
        if any(value is not None for value in wanted.values())
        else (f"with given as ({GIFTS})", [])
    )
    return rows(
        connection,
        f"{given} select program, currency, {_BY_TYPE},"
        " cast(sum(amount) as decimal(18, 2)) as given_amount"
        " from given group by program, currency order by program, currency",
        values,
    )


def gifts(
    connection: Connection,
    program: str,
    at: date,
    currency: str,
    plan: str | None,
    limit: int,
) -> Row:
    """Return the bills on which a program gave something, the largest gift first.

    Args:
        connection: The release.
        program: The program.
        at: Only bills of this month.
        currency: Only of this currency.
        plan: Only of this plan.
        limit: How many bills to list.

    Returns:
        `total`, the number of bills; `workspaces`, the number of workspaces; `gifts`, each a bill with
        `workspace_id`, `workspace_name`, `plan`, amounts by discount type, `given_amount` and `net_amount`.
    """
    given, values = _given({"billing_month": at, "currency": currency, "plan": plan}, program)
    (counted,) = rows(
        connection,
        f"{given} select count(distinct invoice_id) as total,"
        " count(distinct workspace_id) as workspaces from given",
        values,
    )
    found = rows(
        connection,
        f"""{given}, of_bills as (
            select invoice_id, workspace_id, plan, net_amount, {_BY_TYPE},
                cast(sum(amount) as decimal(18, 2)) as given_amount
            from given group by invoice_id, workspace_id, plan, net_amount
        )
        select of_bills.*, workspaces.workspace_name from of_bills
        left join marts.dim_workspaces as workspaces using (workspace_id)
        order by given_amount desc, invoice_id limit ?
        """,
        [*values, limit],
    )
    return {**counted, "gifts": found}


GIFTS = """
    select coupons.program, applications.currency, applications.redemption_id,
        coupons.discount_type, applications.discount_amount as amount
    from marts.fct_discount_applications as applications
    inner join marts.dim_coupons as coupons using (coupon_id)
    union all
    select coupons.program, ledger.currency, ledger.redemption_id, 'credit', -ledger.amount
    from marts.fct_credit_ledger as ledger
    inner join marts.dim_coupons as coupons using (coupon_id)
    where ledger.entry_type = 'draw'
"""
"""SQL for every gift without a join to its bill, which would take ten times as long."""

_BY_TYPE = ", ".join(
    f"cast(coalesce(sum(amount) filter (where discount_type = '{kind}'), 0)"
    f" as decimal(18, 2)) as {kind}_amount"
    for kind in ("percent_off", "amount_off", "credit")
)


def _given(wanted: dict[str, object], program: str | None = None) -> tuple[str, list[object]]:
    """Return SQL for every gift on a bill, and the values of its placeholders.

    Args:
        wanted: Values that the bills must have, by column; None takes all.
        program: Only gifts of this program.
    """
    filters = {f"charges.{name}": value for name, value in wanted.items() if value is not None} | (
        {"coupons.program": program} if program else {}
    )
    where = " and ".join(["true", *(f"{name} = ?" for name in filters)])
    columns = (
        "coupons.program, charges.currency, charges.invoice_id, charges.workspace_id, charges.plan,"
        " charges.net_amount"
    )
    given = f"""
        with given as (
            select {columns}, coupons.discount_type, applications.discount_amount as amount
            from marts.fct_discount_applications as applications
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            where {where}
            union all
            select {columns}, 'credit', -ledger.amount
            from marts.fct_credit_ledger as ledger
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            where ledger.entry_type = 'draw' and {where}
        )"""
    return given, [*filters.values(), *filters.values()]
