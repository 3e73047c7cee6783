"""The dbt project keeps its own rules: layers, names, contracts, descriptions, keys that exist."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dagster_project.feeds import feeds

DBT_DIR = Path(__file__).resolve().parents[2] / "dbt"
MODELS = {path.stem: path for path in (DBT_DIR / "models").rglob("*.sql")}
YAML_FILES = [
    path
    for folder in ("models", "seeds", "tests")
    for path in sorted((DBT_DIR / folder).rglob("*.yml"))
]
REFERENCE = re.compile(r"ref\('(\w+)'\)")
WRITTEN_ONCE = {"fct_discounted_charges", "fct_credit_ledger"}


def layer(name: str) -> str:
    return MODELS[name].relative_to(DBT_DIR / "models").parts[0]


def documents(key: str) -> dict[str, Any]:
    """The entries under a key of all YAML files, by name."""
    return {
        entry["name"]: entry
        for path in YAML_FILES
        for entry in yaml.safe_load(path.read_text("utf-8")).get(key, [])
    }


def references(name: str) -> set[str]:
    return set(REFERENCE.findall(MODELS[name].read_text("utf-8")))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_reads_only_its_own_layer_and_the_one_below(name: str) -> None:
    allowed = {
        "staging": {"staging"},
        "intermediate": {"staging", "intermediate"},
        "marts": {"staging", "intermediate"},
    }[layer(name)]
    for reference in references(name) & MODELS.keys():
        # Large marts are written only once, and other marts read them.
        is_written_once = layer(name) == "marts" and reference in WRITTEN_ONCE
        assert layer(reference) in allowed or is_written_once, f"{name} reads {reference}"
        assert not (reference.startswith("base_") and layer(name) != "staging"), reference
    assert layer(name) == "staging" or "current_versions(" not in MODELS[name].read_text("utf-8")


def test_every_mart_is_read_by_an_exposure() -> None:
    read = {
        mart
        for exposure in documents("exposures").values()
        for reference in exposure["depends_on"]
        for mart in REFERENCE.findall(reference)
    }
    assert read == {name for name in MODELS if layer(name) == "marts"}


def test_only_staging_reads_the_feeds() -> None:
    # This model counts the delivered rows themselves.
    readers = {
        name for name, path in MODELS.items() if "source('billing'" in path.read_text("utf-8")
    }
    assert {name for name in readers if layer(name) != "staging"} == {"int_deliveries_reconciled"}


def test_models_are_named_for_their_layer() -> None:
    patterns = {
        "staging": r"(stg|base)_(billing|arrival)__[a-z_]+",
        "intermediate": r"int_[a-z_]+",
        "marts": r"(fct|dim)_[a-z_]+",
    }
    for name in MODELS:
        assert re.fullmatch(patterns[layer(name)], name), name


def test_every_model_has_a_description_that_states_its_grain() -> None:
    described = documents("models")
    assert described.keys() == MODELS.keys()
    for name, entry in described.items():
        assert entry["description"].startswith("One row per "), name


def test_every_singular_data_test_says_what_it_checks() -> None:
    described = documents("data_tests")
    assert described.keys() == {path.stem for path in (DBT_DIR / "tests/singular").rglob("*.sql")}
    assert all(entry["description"] for entry in described.values())


def test_every_mart_column_has_a_type_and_a_description_and_every_mart_a_key() -> None:
    for name, entry in documents("models").items():
        if layer(name) != "marts":
            continue
        columns = {column["name"]: column for column in entry["columns"]}
        assert all(column["description"] and column["data_type"] for column in columns.values())
        key = entry["config"]["meta"]["primary_key"]
        assert set(key) <= columns.keys()
        tests = [test for test in entry["data_tests"] if "primary_key" in test]
        assert tests[0]["primary_key"]["arguments"]["columns"] == key, name


def test_contracts_of_the_marts_are_enforced() -> None:
    project = yaml.safe_load((DBT_DIR / "dbt_project.yml").read_text("utf-8"))
    assert project["models"]["coupon_ledger"]["marts"]["+contract"] == {"enforced": True}


def test_no_mart_has_a_personal_column() -> None:
    personal = {
        column.name for feed in feeds().values() for column in feed.columns if column.personal
    }
    assert personal == {"owner_user_id", "user_id"}
    for name, entry in documents("models").items():
        if layer(name) == "marts":
            assert not personal & {column["name"] for column in entry["columns"]}, name


def test_dim_coupons_has_the_columns_of_the_feed_and_where_the_record_stands() -> None:
    columns = [column["name"] for column in documents("models")["dim_coupons"]["columns"]]
    assert columns == [*feeds()["coupons"].column_names, "delivery_id", "delivery_row"]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_keys_are_keys_dbt_knows(path: Path) -> None:
    # On DuckDB, dbt does not report a misspelt key, which makes a test vanish.
    schema = json.loads(
        resources.files("dbt").joinpath("jsonschemas/resources/latest.json").read_text("utf-8")
    )
    document = json.loads(json.dumps(yaml.safe_load(path.read_text("utf-8")), default=str))
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(document))
    assert [f"{list(error.path)}: {error.message[:200]}" for error in errors] == []


def test_a_misspelt_key_would_be_seen() -> None:
    schema = json.loads(
        resources.files("dbt").joinpath("jsonschemas/resources/latest.json").read_text("utf-8")
    )
    document = {
        "version": 2,
        "models": [{"name": "m", "columns": [{"name": "c", "data_test": ["unique"]}]}],
    }
    assert list(jsonschema.Draft7Validator(schema).iter_errors(document))


def test_money_is_never_a_float() -> None:
    floating = re.compile(r"\b(double|float|real|avg\s*\(|median\s*\()", re.IGNORECASE)
    for path in [*MODELS.values(), *(DBT_DIR / "macros").rglob("*.sql")]:
        assert not floating.search(path.read_text("utf-8")), path


def test_there_is_no_clock_in_the_sql() -> None:
    clock = re.compile(
        r"current_date|current_timestamp|\bnow\(|run_started_at|today\(", re.IGNORECASE
    )
    for path in [*MODELS.values(), *(DBT_DIR / "macros").rglob("*.sql")]:
        assert not clock.search(path.read_text("utf-8")), path
