"""A workspace with very many bills and coupons costs no more than as many pairs in many workspaces."""

from __future__ import annotations

import resource

import duckdb
import pytest

from tests.dbt.compiled import CompiledModels
from tests.dbt.warehouse import fill_raw_tables

COUPONS = {
    "percent_off": "'1' as percent_off",
    "amount_off": "'0.01' as amount_off, 'USD' as currency",
    "credit": "'0.05' as credit_amount, 12 as credit_period_months, 2 as credit_max_periods, 'USD' as currency",
}


def deliver(
    connection: duckdb.DuckDBPyConnection, kind: str, workspaces: int, bills: int, coupons: int
) -> None:
    """Fill raw tables: in each workspace every coupon acts on every bill, all of 2021."""
    fill_raw_tables(connection, [])
    connection.execute(
        "insert into raw.deliveries (delivery_sequence, delivery_id, feed, arrived_at, verdict)"
        " select number, feed, feed, '2025-01-01', 'loaded' from (values (1, 'workspaces'),"
        " (2, 'coupons'), (3, 'redemptions'), (4, 'invoices')) as given (number, feed)"
    )
    start, bill = (
        "'2020-01-01T00:00:00Z'",
        "date '2021-02-01' + cast(bill.range * 300 / $bills as int)",
    )
    for feed, columns, source in (
        ("workspaces", f"range as workspace_id, {start} as created_at", "range($workspaces)"),
        (
            "coupons",
            "'c' || range as coupon_id, range as coupon_name, 'special' as program,"
            f" 'forever' as duration, '{kind}' as discount_type, {COUPONS[kind]}",
            "range($coupons)",
        ),
        (
            "redemptions",
            "'r' || workspace.range || '_' || coupon.range as redemption_id, workspace.range as workspace_id,"
            f" 'c' || coupon.range as coupon_id, {start} as redeemed_at",
            "range($workspaces) as workspace, range($coupons) as coupon",
        ),
        (
            "invoices",
            "'i' || workspace.range || '_' || bill.range as invoice_id, workspace.range as workspace_id,"
            " 'paid' as status, 'team' as plan, 'month' as billing_interval, 'USD' as currency,"
            f" {bill} as period_start, {bill} + 31 as period_end, {bill} as issued_at,"
            " '100.00' as list_amount, '0.00' as discount_amount, '0.00' as credit_amount,"
            " '0.00' as tax_amount, '100.00' as total_amount, 1 as mtus",
            "range($workspaces) as workspace, range($bills) as bill",
        ),
    ):  # fmt: skip
        sequence = ["workspaces", "coupons", "redemptions", "invoices"].index(feed) + 1
        values = {"workspaces": workspaces, "bills": bills, "coupons": coupons}
        connection.execute(
            f"insert into raw.{feed} by name select {sequence} as delivery_sequence,"
            f" row_number() over () as row_number, {start} as updated_at, {columns} from {source}",
            {name: value for name, value in values.items() if f"${name}" in columns + source},
        )


def processors_seconds(models: CompiledModels, kind: str, *shape: int) -> tuple[float, int]:
    """The processors' seconds of building all models, and the number of amounts of coupons on bills in the result."""
    with models.database() as connection:
        deliver(connection, kind, *shape)
        before = resource.getrusage(resource.RUSAGE_SELF)
        models.build(connection)
        after = resource.getrusage(resource.RUSAGE_SELF)
        given = "int_credit_draws" if kind == "credit" else "int_discounts_applied"
        [row] = connection.execute(f"select count(*) from intermediate.{given}").fetchall()
    return (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        int(row[0]),
    )


@pytest.mark.parametrize(
    ("kind", "bills", "coupons"),
    [("percent_off", 4_000, 40), ("amount_off", 4_000, 40), ("credit", 2_000, 8)],
)
def test_one_workspace_of_all_pairs_costs_at_most_twice_what_they_cost_in_a_hundred(
    kind: str, bills: int, coupons: int, compiled: CompiledModels
) -> None:
    spread, pairs = processors_seconds(compiled, kind, 100, bills // 100, coupons)
    together, as_many = processors_seconds(compiled, kind, 1, bills, coupons)
    assert pairs == as_many > bills
    assert together <= 2 * spread
