"""The tests run the models as dbt compiles them, on whatever day and in whatever time zone."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dagster_project.refresh.compiled import of_one_database
from tests.dbt.compiled import ALL, COMPILE, CompiledModels, manifest
from tests.dbt.warehouse import dbt

LEAP_DAY = date(2024, 2, 29)
# The calendar of Apia skips 30 December 2011, and that of Kiritimati the last day of 1994.
LEFT_OUT = date(2011, 12, 30)
ABROAD = [
    ("Asia/Kathmandu", LEAP_DAY),
    ("America/St_Johns", LEAP_DAY),
    ("Pacific/Apia", date(2011, 12, 29)),
    ("Pacific/Apia", date(2011, 12, 31)),
    ("Pacific/Kiritimati", date(1994, 12, 30)),
    # At -10:40, the only offset since 1972 that is not a whole number of quarter hours.
    ("Pacific/Kiritimati", date(1979, 3, 31)),
    # After 2037, which pytz does not cover: summer time there, the day on which it begins, and a leap day.
    ("America/New_York", date(2040, 6, 30)),
    ("Europe/Berlin", date(2099, 3, 29)),
    ("Australia/Sydney", date(2040, 2, 29)),
]


def compiled_by_dbt(
    folder: Path, warehouse: Path, as_of: date, selected: str, *options: str, **given: Any
) -> dict[str, str]:
    outcome = dbt(
        warehouse,
        as_of,
        *COMPILE,
        *(selected, *options),
        manifest=manifest(folder),
        **given,
    )
    return {
        of_one_database(result.node.relation_name): of_one_database(result.node.compiled_code)
        for result in outcome.result.results
    }


@pytest.mark.parametrize(("zone", "as_of"), [("UTC", LEAP_DAY), ("Pacific/Apia", LEFT_OUT)])
def test_models_for_a_day_are_those_that_dbt_compiles_for_it(
    compiled_folder: Path, tmp_path: Path, zone: str, as_of: date
) -> None:
    compiled = compiled_by_dbt(
        compiled_folder,
        tmp_path / "warehouse.duckdb",
        as_of,
        *(ALL, "--full-refresh"),
        time_zone=zone,
    )
    assert len(compiled) > 50
    assert CompiledModels(compiled_folder, as_of, zone).queries == compiled


def test_models_that_carry_on_are_those_that_dbt_compiles(
    compiled_folder: Path, tmp_path: Path
) -> None:
    zone, before = "Pacific/Apia", date(2011, 12, 29)
    compiled = compiled_by_dbt(
        compiled_folder,
        tmp_path / "warehouse.duckdb",
        *(LEFT_OUT, ALL),
        kept={"delivery_sequence": 17, "as_of_date": before.isoformat()},
        time_zone=zone,
    )
    assert CompiledModels(compiled_folder, LEFT_OUT, zone).queries_since(17, before) == compiled


@pytest.mark.parametrize(("zone", "as_of"), ABROAD, ids=str)
def test_a_day_ends_for_dbt_where_the_reference_model_ends_it(
    compiled_folder: Path, tmp_path: Path, zone: str, as_of: date
) -> None:
    [(relation, query)] = compiled_by_dbt(
        compiled_folder,
        tmp_path / "warehouse.duckdb",
        as_of,
        "int_invoices_counted",
        time_zone=zone,
    ).items()
    assert CompiledModels(compiled_folder, as_of, zone).queries[relation] == query
