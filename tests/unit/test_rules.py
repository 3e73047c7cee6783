"""The table of the rules names models, tests and functions of the reference model that exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import yaml

DBT_DIR = Path(__file__).resolve().parents[2] / "dbt"
RULES = (DBT_DIR / "rules.md").read_text("utf-8")
COLUMNS = ("rule", "models", "unit tests", "data tests", "reference")


def table() -> dict[str, dict[str, list[str]]]:
    """The names in the table, by rule and column."""
    rows = {}
    for line in re.findall(r"(?m)^\| (?:R\d+|Deliveries) \|.*$", RULES):
        rule, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[rule] = {
            column: re.findall(r"`([^`]+)`", cell)
            for column, cell in zip(COLUMNS[1:], cells, strict=True)
        }
    return rows


def named(column: str) -> set[str]:
    return {name for row in table().values() for name in row[column]}


def test_every_rule_has_a_row_with_its_models_unit_tests_data_tests_and_reference() -> None:
    rules = re.findall(r"(?m)^\*\*(R\d+) ", RULES)
    assert [*rules, "Deliveries"] == list(table())
    for rule in rules:
        assert all(table()[rule].values()), rule


def test_the_models_exist() -> None:
    models = {path.stem for path in (DBT_DIR / "models").rglob("*.sql")}
    assert named("models") <= models
    rules_of_models = {
        path.stem
        for path in (DBT_DIR / "models" / "intermediate").rglob("*.sql")
        if path.parent.name != "carrying_on"
    }
    told_elsewhere = {
        *("int_benefits_given", "int_redemption_benefits_totalled", "int_redemption_run_rates"),
        *("int_redemption_findings_raised", "int_coupon_findings_raised"),
        *("int_rows_superseded", "int_invoices_not_counted", "int_coupon_versions_delivered"),
    }
    assert rules_of_models - named("models") == told_elsewhere


def test_the_unit_tests_exist_and_each_is_in_the_table() -> None:
    there = {
        test["name"]
        for path in (DBT_DIR / "models").rglob("*__unit_tests.yml")
        for test in yaml.safe_load(path.read_text("utf-8"))["unit_tests"]
    }
    assert named("unit tests") == there


def test_the_data_tests_exist_and_each_is_in_the_table() -> None:
    there = {path.stem for path in (DBT_DIR / "tests" / "singular").rglob("*.sql")}
    sources = {name for name in there if name.startswith("assert_source_")}
    assert named("data tests") == there - sources


def test_the_reference_has_the_functions() -> None:
    for name in named("reference"):
        module, function = name.split(".")
        assert hasattr(importlib.import_module(f"tests.reference.{module}"), function), name
