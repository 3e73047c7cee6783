"""Where to look for the cause of a wrong total: the workspace, month and delivery.

Queries on the tables of a failed build belong here. They are never run on a build that succeeded, because
they would only slow it down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from dagster_project.releases import candidate
from dagster_project.releases.gate import Problem

_RECONCILES = "assert_charges_reconcile_with_deliveries"
_TOO_LARGE = re.compile(
    r"out of range|overflow|could not cast .* to decimal|NUMERIC_VALUE_OUT_OF_RANGE|ARITHMETIC_OVERFLOW",
    re.IGNORECASE,
)
_FIRST_DIFFERENCE = """
with
delivered as (
    select
        counted.invoice_id,
        counted.workspace_id,
        counted.billing_month,
        counted.delivery_sequence,
        cast(texts.list_amount as decimal(18, 2)) as list_amount,
        cast(texts.discount_amount as decimal(18, 2)) as discount_amount,
        cast(texts.credit_amount as decimal(18, 2)) as credit_amount
    from intermediate.int_invoices_counted as counted
    inner join raw.invoices as texts
        on counted.delivery_sequence = texts.delivery_sequence and counted.delivery_row = texts.row_number
)
select
    coalesce(delivered.workspace_id, charged.workspace_id) as workspace_id,
    strftime(coalesce(delivered.billing_month, charged.billing_month), '%Y-%m') as month,
    coalesce(deliveries.file_name, charged.delivery_id) as delivery
from delivered
full outer join candidate.marts.fct_discounted_charges as charged on delivered.invoice_id = charged.invoice_id
left join raw.deliveries as deliveries on delivered.delivery_sequence = deliveries.delivery_sequence
where
    delivered.list_amount is distinct from charged.list_amount
    or delivered.discount_amount is distinct from charged.billed_discount_amount
    or delivered.credit_amount is distinct from charged.billed_credit_amount
order by all
limit 1
"""
_LARGEST = """
select
    workspace_id,
    strftime(billing_month, '%Y-%m') as month,
    arg_max(file_name, abs(cast(list_minor as hugeint))) as delivery
from intermediate.int_invoices_counted
inner join raw.deliveries using (delivery_sequence)
group by workspace_id, billing_month, currency
order by sum(abs(cast(list_minor as hugeint))) desc, workspace_id, month
limit 1
"""


def with_places(problems: Sequence[Problem], warehouse: Path, marts: Path) -> list[Problem]:
    """Return the problems; those about totals say where to look.

    Args:
        problems: Why a build is not published.
        warehouse: Where it was built. If another engine built it, the tables are not there, and nothing is added.
        marts: The candidate with its marts.
    """
    return [replace(one, message=_with_place(one, warehouse, marts)) for one in problems]


def _with_place(problem: Problem, warehouse: Path, marts: Path) -> str:
    if problem.kind == "test" and problem.name == _RECONCILES and problem.status == "fail":
        question, words = _FIRST_DIFFERENCE, "the first difference is"
    elif problem.kind == "model" and _TOO_LARGE.search(problem.message):
        question, words = _LARGEST, "a total does not fit its type, the largest amounts are"
    else:
        return problem.message
    try:
        with duckdb.connect(str(warehouse), read_only=True) as connection:
            candidate.attach(connection, marts)
            found = connection.execute(question).fetchone()
    except duckdb.Error:  # the tables it queries were not built
        return problem.message
    if found is None:
        return problem.message
    workspace, month, delivery = (_printable(value) for value in found)
    return (
        f"{words} in workspace {workspace}, month {month}, delivery {delivery}: correct the amounts"
        f" there and deliver them again ({problem.message})"
    )


def _printable(value: object) -> str:
    """Return a name from the source without invisible characters."""
    return "".join(sign if sign.isprintable() else "·" for sign in str(value))
