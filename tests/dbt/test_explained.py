"""The reason given to people why a redemption does not cover a bill agrees with the models."""

from __future__ import annotations

import duckdb
import pytest

from dagster_project.answers.asking import rows
from dagster_project.answers.explain import verdict
from dagster_project.answers.workspace import redemptions_of
from tests.dbt.conftest import Built

REASONS = {
    *("never_in_force", "not_started", "ended", "used_up"),
    *("negative_bill", "subscription", "plan", "billing_interval", "currency"),
}
"""The reasons that are put into words besides refusals (R2)."""
SOME = (
    "workspace_id in (select workspace_id from marts.dim_workspaces"
    " qualify row_number() over (order by workspace_id) % 2 = 0)"
)
"""Every other workspace: more than a thousand with bills."""


@pytest.fixture(scope="module")
def judged(built: Built) -> dict[tuple[str, str], str | None]:
    """Why each redemption of some workspaces does not cover each bill; None if it does."""
    found: dict[tuple[str, str], str | None] = {}
    with duckdb.connect(str(built.path), read_only=True) as connection:
        bills_of: dict[str, list[dict[str, object]]] = {}
        for bill in rows(
            connection, "from marts.fct_discounted_charges order by issued_at, invoice_id"
        ):
            bills_of.setdefault(bill["workspace_id"], []).append(bill)
        redeemed = rows(
            connection,
            f"select distinct workspace_id from marts.dim_coupon_redemptions where {SOME}",
        )
        for workspace_id in (row["workspace_id"] for row in redeemed):
            bills = bills_of.get(workspace_id, [])
            for redemption in redemptions_of(connection, workspace_id) if bills else ():
                for bill in bills:
                    why = verdict(redemption, bill, bills)
                    found[redemption["redemption_id"], str(bill["invoice_id"])] = why and why[1]
    return found


def test_what_is_said_to_cover_a_bill_is_what_the_models_let_cover_it(
    built: Built, judged: dict[tuple[str, str], str | None]
) -> None:
    with duckdb.connect(str(built.path), read_only=True) as connection:
        covered = set(
            connection.execute(
                "select redemption_id, invoice_id from"
                f" intermediate.int_redemption_invoices_covered where not is_expected and {SOME}"
            ).fetchall()
        )
    said = {pair for pair, why in judged.items() if why is None}
    assert len(covered) > 1000
    assert sorted(said - covered)[:5] == []
    assert sorted(covered - said)[:5] == []


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_every_reason_occurs_in_the_generated_worlds(
    judged: dict[tuple[str, str], str | None], reason: str
) -> None:
    assert reason in judged.values()
