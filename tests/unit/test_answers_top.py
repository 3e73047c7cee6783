"""The largest of a release are listed in one order, whatever the order of its rows."""

from __future__ import annotations

from itertools import permutations

import duckdb

from dagster_project.answers.top import top

_RELEASE = """
    create schema release;
    create schema marts;
    create table release.release as select 'r' as release_id, date '2025-06-30' as as_of_date;
    create table marts.dim_workspaces as select 'w' as workspace_id, 'W' as workspace_name;
    create table marts.fct_discounted_charges (workspace_id varchar, currency varchar,
        billing_month date, list_amount decimal(18, 2), discount_amount decimal(18, 2),
        credit_amount decimal(18, 2));
    create table marts.fct_credit_burndown_monthly (grant_id varchar, workspace_id varchar,
        currency varchar, burn_month date, closing_amount decimal(18, 2),
        projected_breakage_amount decimal(18, 2), projected_exhaustion_date date);
    create table marts.fct_upcoming_expirations (workspace_id varchar, currency varchar,
        redemption_id varchar, coupon_id varchar, program varchar, runs_out_at timestamp,
        runs_out_by varchar, is_followed_up boolean, rise_amount decimal(18, 2),
        monthly_rise_amount decimal(18, 2), status varchar);
"""


def test_equal_rises_of_a_workspace_are_listed_by_redemption() -> None:
    for order in permutations(("first", "second", "third")):
        with duckdb.connect() as connection:
            connection.execute(_RELEASE)
            for redemption_id in order:
                connection.execute(
                    "insert into marts.fct_upcoming_expirations values ('w', 'USD', ?, 'c',"
                    " 'special', '2025-09-30', 'end', false, 60, 60, 'active')",
                    [redemption_id],
                )
            for most in (1, 2, 3):
                rises = top(connection, most, None)["rises"]
                listed = [row["redemption_id"] for row in rises]
                assert listed == ["first", "second", "third"][:most]
