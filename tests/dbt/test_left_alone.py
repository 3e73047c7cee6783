"""What a build that carries on does not build: models whose SQL and inputs are those of the previous build."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from dagster_project.feeds import feeds
from dagster_project.refresh.left_alone import left_alone
from tests.dbt.compiled import CompiledModels

SOURCES = (*feeds(), "deliveries", "malformed_rows", "accepted_findings")
_RELATION = re.compile(r'"warehouse"\."(\w+)"\."(\w+)"')
CHANGES: list[tuple[str, ...]] = [
    (),
    *((source,) for source in SOURCES),
    ("invoices", "deliveries"),
]


def unchanged(compiled: CompiledModels, changed: tuple[str, ...], *, is_same_day: bool) -> set[str]:
    """The names of the models that are left alone when some sources have changed."""
    before = dict.fromkeys(SOURCES, "as before")
    now = before | dict.fromkeys(changed, "changed")
    found = left_alone(compiled.manifest, before, now, is_same_day=is_same_day)
    return {unique_id.rpartition(".")[2] for unique_id in found}


def test_if_nothing_has_changed_all_models_are_left_alone(compiled: CompiledModels) -> None:
    nodes = compiled.manifest["nodes"].values()
    assert unchanged(compiled, (), is_same_day=True) == {
        node["name"] for node in nodes if node["resource_type"] in ("model", "seed")
    }


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.parametrize("is_same_day", [True, False])
def test_such_a_model_reads_only_what_has_not_changed(
    compiled: CompiledModels, changed: tuple[str, ...], is_same_day: bool
) -> None:
    left = unchanged(compiled, changed, is_same_day=is_same_day)
    known = {model.relation.replace('"', "").rpartition(".")[2] for model in compiled._next_day}
    for model in compiled._next_day:
        name = model.unique_id.rpartition(".")[2]
        if name not in left:
            continue
        for schema, read in _RELATION.findall(model.query + model.forgets):
            if schema == "raw":
                assert read not in changed, f"{name} reads {read}"
            elif read in known:
                assert read in left or read == name, f"{name} reads {read}"


def test_such_a_model_has_the_same_sql_on_both_days(compiled: CompiledModels) -> None:
    left = unchanged(compiled, (), is_same_day=False)
    days = (compiled.as_of, compiled.as_of + timedelta(days=1))
    differing = {
        model.unique_id.rpartition(".")[2]
        for model in compiled._next_day
        if len({compiled._on(model.query, day) for day in days}) > 1
    }
    assert differing and not differing & left
    assert "stg_billing__invoices" in left, "of which a day without deliveries changes nothing"


def test_a_feed_without_deliveries_is_not_read_again(compiled: CompiledModels) -> None:
    left = unchanged(compiled, ("invoices", "deliveries"), is_same_day=True)
    assert "base_billing__invoices" not in left
    assert "base_billing__redemptions" in left
    assert not {name for name in left if name.startswith(("fct_", "dim_"))}
