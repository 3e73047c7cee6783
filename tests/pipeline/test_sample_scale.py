"""Large samples: a smaller one, copied. What the rules make of it they make of every copy.

The marts are built from the delivered files, so the formats and groupings are tested too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.arrival import arrive
from dagster_project.cli import app
from dagster_project.refresh import acceptances
from dagster_project.sample.scale import Grouping, LargeFormat, generate_large_sample
from tests.dbt.compiled import CompiledModels
from tests.reference.agreement import KEYS
from tests.unit.test_sample import files_of

MONTHS, SEED, COPIES = 24, 5, 3
BASE_INVOICES = 1500
LAST_DAY = date(2025, 6, 30)
# The marts about all workspaces together, with the columns that grow with the copies.
MULTIPLIED = {
    "fct_program_performance_monthly": {
        "active_workspaces",
        "new_redemptions",
        "ended_redemptions",
        "list_amount",
        "discount_amount",
        "credit_amount",
        "net_amount",
    },
    "dim_coupons": {"max_redemptions"},
    "fct_charge_bridge_monthly": {
        "invoices",
        "list_amount",
        "percent_off_amount",
        "amount_off_amount",
        "credit_amount",
        "net_amount",
        "billing_error_amount",
        "billed_net_amount",
        "credited_amount",
        "billed_net_after_notes_amount",
    },
    "fct_program_budget_monthly": {"given_amount", "expected_amount"},
}
EMPTY = ("fct_credit_notes",)
"""The marts of which large samples have no rows."""

Marts = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def compiled(compiled_folder: Path) -> CompiledModels:
    return CompiledModels(compiled_folder, LAST_DAY)


def marts_of(compiled: CompiledModels, home: Path, *landings: Path) -> Marts:
    for landing in landings:
        reports = arrive(landing, home, "test", datetime(2026, 1, 1, tzinfo=UTC))
        assert {report.verdict for report in reports} == {"loaded"}
    with duckdb.connect(str(home / "build" / "warehouse.duckdb")) as connection:
        acceptances.load(connection, home / "accepted_findings.csv")
        compiled.build(connection)
        assert connection.execute("from staging.stg_billing__rejected_rows").fetchall() == []
        return {
            name: connection.execute(f"from marts.{name}").to_arrow_table().to_pylist()
            for name in KEYS
        }


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    made = generate_large_sample(
        BASE_INVOICES * COPIES, MONTHS, SEED, folder, base_invoices=BASE_INVOICES
    )
    assert (made.copies, made.last_day) == (COPIES, LAST_DAY)
    return folder


@pytest.fixture(scope="module")
def large_marts(
    compiled: CompiledModels, large: Path, tmp_path_factory: pytest.TempPathFactory
) -> Marts:
    return marts_of(compiled, tmp_path_factory.mktemp("large-home"), large / "landing")


@pytest.fixture(scope="module")
def single_marts(compiled: CompiledModels, tmp_path_factory: pytest.TempPathFactory) -> Marts:
    folder = tmp_path_factory.mktemp("one-copy")
    generate_large_sample(BASE_INVOICES, MONTHS, SEED, folder, file_format="csv")
    return marts_of(compiled, folder / "home", folder / "landing")


def without_copy(value: Any) -> Any:
    """An id as the smaller sample has it; other values unchanged."""
    if not isinstance(value, str):
        return value
    return re.sub(r"((?:ws|usr|rdm|in)_\w+)-\d+", r"\1", value)


def counted(rows: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """The number of times that each row occurs.

    A finding's own id and sentence, and where a row was delivered, are left out; so are changes of the
    terms of coupons, which are not copied.
    """
    return Counter(
        tuple(
            without_copy(value)
            for name, value in row.items()
            if name not in ("finding_id", "description", "delivery_id", "delivery_row")
        )
        for row in rows
        if row.get("finding_type") != "coupon_terms_changed"
    )


@pytest.mark.parametrize("name", [name for name in KEYS if name not in {*MULTIPLIED, *EMPTY}])
def test_a_mart_of_copies_has_every_row_of_one_copy_as_often(
    large_marts: Marts, single_marts: Marts, name: str
) -> None:
    one = counted(single_marts[name])
    assert one
    assert counted(large_marts[name]) == {row: COPIES * count for row, count in one.items()}


@pytest.mark.parametrize("name", MULTIPLIED)
def test_totals_of_copies_are_those_of_one_copy_times_the_copies(
    large_marts: Marts, single_marts: Marts, name: str
) -> None:
    wanted = [
        {
            column: COPIES * value if column in MULTIPLIED[name] and value is not None else value
            for column, value in row.items()
        }
        for row in single_marts[name]
    ]
    assert wanted
    assert counted(large_marts[name]) == counted(wanted)


def test_the_truth_of_one_copy_is_found_in_all(large: Path, large_marts: Marts) -> None:
    truth = json.loads((large / "truth.json").read_text("utf-8"))
    assert truth["copies"] == COPIES
    expected = {
        (entry["type"], f"{entry['record_id']}-{copy}")
        for entry in [*truth["errors"], *truth["refused_redemptions"]]
        if entry["type"] != "coupon_terms_changed"
        for copy in range(1, COPIES + 1)
    }
    found = [
        (row["finding_type"], row["invoice_id"] or row["redemption_id"])
        for row in large_marts["fct_audit_findings"]
        if row["finding_type"] != "coupon_terms_changed"
    ]
    assert "over_redeemed" in {kind for kind, _ in found}
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.parametrize(
    ("file_format", "grouping", "hold_back"),
    [("parquet", "single", True), ("csv", "month", False), ("csv", "year", True)],
)
def test_every_format_and_grouping_holds_the_same(
    compiled: CompiledModels,
    single_marts: Marts,
    tmp_path: Path,
    file_format: LargeFormat,
    grouping: Grouping,
    hold_back: bool,
) -> None:
    made = generate_large_sample(
        BASE_INVOICES, MONTHS, SEED, tmp_path, file_format=file_format, grouping=grouping,
        hold_back=hold_back,
    )  # fmt: skip
    paths = [path for path in (tmp_path / "landing/invoices").iterdir() if "yen" not in path.name]
    assert {path.suffix for path in paths} == {f".{file_format}"}
    if grouping == "single":
        assert [path.stem for path in paths] == ["invoices"]
    if grouping == "month":
        months = [path for path in paths if re.fullmatch(r"invoices-\d{4}-\d{2}", path.stem)]
        assert len(months) == MONTHS
    landings = [tmp_path / "landing", *([tmp_path / "next"] if hold_back else [])]
    files = [path for landing in landings for path in landing.rglob("*") if path.is_file()]
    assert len(files) == made.files
    found = marts_of(compiled, tmp_path / "home", *landings)
    for name, rows in single_marts.items():
        assert counted(found[name]) == counted(rows), name


def test_what_is_held_back_is_what_happened_in_the_last_month(tmp_path: Path) -> None:
    generate_large_sample(30_000, MONTHS, SEED, tmp_path, hold_back=True)
    held = str(tmp_path / "next/invoices/*.parquet")
    kept = str(tmp_path / "landing/invoices/*.parquet")
    month = "timestamptz '2025-06-01 00:00:00Z'"
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select count(*) filter (issued_at >= {month}), count(*) filter (issued_at < {month}),"
            f" min(updated_at) >= {month} from read_parquet('{held}', union_by_name = true)"
        ).fetchone()
        assert rows is not None
        assert rows[0] > 30
        assert rows[1] > 0, "no earlier invoice was restated in the last month"
        assert rows[2] is True
        late = connection.execute(
            "select count(*) from read_parquet(?, union_by_name = true)"
            f" where issued_at >= {month}",
            [kept],
        ).fetchone()
    assert late == (0,)


def test_the_same_arguments_give_the_same_files(large: Path, tmp_path: Path) -> None:
    generate_large_sample(
        BASE_INVOICES * COPIES, MONTHS, SEED, tmp_path, base_invoices=BASE_INVOICES
    )
    assert files_of(tmp_path) == files_of(large)
    for path in (tmp_path / "landing").rglob("*.*"):
        twin = large / path.relative_to(tmp_path)
        assert path.stat().st_mtime_ns == twin.stat().st_mtime_ns


def test_about_as_many_invoices_as_asked_for_are_made(tmp_path: Path) -> None:
    made = generate_large_sample(20_000, 36, 1, tmp_path)
    assert made.copies == 1
    assert abs(made.invoices - 20_000) < 1_000


@pytest.mark.parametrize(
    ("invoices", "months", "hold_back"), [(0, 3, False), (9, 0, False), (9, 1, True)]
)
def test_too_small_a_number_is_refused(
    tmp_path: Path, invoices: int, months: int, hold_back: bool
) -> None:
    with pytest.raises(ValueError, match="needs at least 1 invoice and"):
        generate_large_sample(invoices, months, 1, tmp_path, hold_back=hold_back)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--files", "single"], "need --invoices"),
        (["--hold-back"], "need --invoices"),
        (["--invoices", "500", "--workspaces", "9"], "not both"),
        (["--invoices", "500", "--months", "1", "--hold-back"], "--months 2 or more"),
    ],
)
def test_options_that_do_not_fit_together_are_explained(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["sample", "--out", str(tmp_path / "new"), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "new").exists()


def test_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "new"
    arguments = ["sample", "--out", str(out), "--invoices", "400", "--months", "6", "--hold-back"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"--landing {out / 'landing'} --home DIR --as-of 2023-12-31" in result.output
    assert str(out / "next") in result.output
