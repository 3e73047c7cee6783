"""The message about a total that does not fit says in which workspace, month and delivery to look."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from dagster_project.refresh.blaming import with_places
from dagster_project.releases import candidate
from dagster_project.releases.gate import Problem
from tests.dbt.compiled import CompiledModels
from tests.dbt.test_staging import VALID
from tests.dbt.warehouse import candidate_of, fill_raw

RECONCILES = Problem(
    "test", "assert_charges_reconcile_with_deliveries", "fail", "1 row does not hold", "a.sql"
)
LARGEST = "9999999999999.99"


def invoice(number: int, month: int, workspace: str, **changes: str) -> dict[str, str]:
    """A valid invoice of a workspace for a month of 2025."""
    return {
        **VALID["invoices"],
        "invoice_id": f"in_{number}",
        "workspace_id": workspace,
        "period_start": f"2025-{month:02}-01",
        "period_end": f"2025-{month + 1:02}-01",
        "issued_at": f"2025-{month:02}-01T06:00:00Z",
        **changes,
    }


@pytest.fixture(scope="module")
def built(compiled: CompiledModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of three deliveries with an invoice each."""
    path = tmp_path_factory.mktemp("blamed") / "warehouse.duckdb"
    fill_raw(path, [{"invoices": [invoice(n, n, f"ws_{n}")]} for n in (1, 2, 3)])
    with duckdb.connect(str(path)) as connection:
        compiled.build(connection)
        candidate.begin(candidate_of(path))
        connection.execute(f"attach '{candidate_of(path)}' as candidate")
        connection.execute(
            "create table candidate.marts.fct_discounted_charges as from marts.fct_discounted_charges"
        )
    return path


@pytest.fixture
def warehouse(built: Path, tmp_path: Path) -> Path:
    """A copy of it, and of its marts, that may be damaged."""
    shutil.copy(candidate_of(built), tmp_path)
    return Path(shutil.copy(built, tmp_path))


def delivery_of(warehouse: Path, invoice_id: str) -> str:
    """The name of the file an invoice came in."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        found = connection.execute(
            "select file_name from raw.invoices join raw.deliveries using (delivery_sequence)"
            " where invoice_id = ?",
            [invoice_id],
        ).fetchone()
    assert found is not None
    return str(found[0])


@pytest.mark.parametrize(
    "damage",
    [
        "update marts.fct_discounted_charges set list_amount = list_amount + 0.01"
        " where invoice_id = 'in_2'",
        "update marts.fct_discounted_charges set billed_credit_amount = 1 where invoice_id = 'in_2'",
        "delete from marts.fct_discounted_charges where invoice_id = 'in_2'",
    ],
)
def test_a_difference_from_the_deliveries_is_reported_with_its_place(
    warehouse: Path, damage: str
) -> None:
    with duckdb.connect(str(candidate_of(warehouse))) as connection:
        connection.execute(damage)
    (told,) = with_places([RECONCILES], warehouse, candidate_of(warehouse))
    place = f"workspace ws_2, month 2025-02, delivery {delivery_of(warehouse, 'in_2')}:"
    assert told.message.startswith(f"the first difference is in {place}")
    assert told.message.endswith("(1 row does not hold)")


def test_without_a_difference_or_for_another_problem_nothing_is_made_up(warehouse: Path) -> None:
    other = Problem("model", "dim_coupons", "error", "Binder Error: no such column", "b.sql")
    marts = candidate_of(warehouse)
    assert with_places([RECONCILES, other], warehouse, marts) == [RECONCILES, other]
    assert with_places([RECONCILES], warehouse.with_name("none.duckdb"), marts) == [RECONCILES]


def test_a_total_that_does_not_fit_its_type_is_reported_with_its_place(
    compiled: CompiledModels, tmp_path: Path
) -> None:
    path = tmp_path / "warehouse.duckdb"
    amounts = {"list_amount": LARGEST, "total_amount": LARGEST, "discount_amount": "0.00"}
    many = [invoice(n, 5, "ws_many", **amounts) for n in range(1_100)]
    fill_raw(path, [{"invoices": [invoice(9_999, 6, "ws_other", **amounts)]}, {"invoices": many}])
    with duckdb.connect(str(path)) as connection, pytest.raises(duckdb.Error) as raised:
        compiled.build(connection)
    candidate.begin(candidate_of(path))
    failed = Problem("model", "any", "error", str(raised.value), "c.sql")
    (told,) = with_places([failed], path, candidate_of(path))
    place = f"workspace ws_many, month 2025-05, delivery {delivery_of(path, 'in_7')}:"
    assert told.message.startswith(
        f"a total does not fit its type, the largest amounts are in {place}"
    )
