"""Which models a build that carries on does not build, because nothing they depend on has changed.

A model depends on its code, on models and sources, and, if its SQL names the as-of date, on that date. A build that
carries on has the same code as the previous build (`carrying_on`). The current content of each source is compared
with its content then: for a feed, its deliveries, whose rows never change; for any other table of schema raw, its
rows. Which data tests are skipped is decided after models are built (`standing`).

References are looked up in the text of a model's SQL and of the macros it names, because dbt records only those that
it meets when it parses the project as a build from nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import duckdb

from dagster_project.feeds import feeds
from dagster_project.quoting import quote
from dagster_project.releases.fingerprint import sum_of_hashes

_WORD = re.compile(r"\w+")
_REFERENCE = re.compile(r"""\bref\(\s*['"](\w+)['"]\s*\)""")
_KEPT = re.compile(r"""\bkept\(\s*['"](\w+)['"]\s*\)""")
_OF_THIS_BUILD = re.compile(r"\b(?:kept|came_since)\(")  # the previous build, or arrivals since
_DAY = re.compile(r"\bas_of_date\b")  # every macro that depends on the day leads to this name
_BUILT = ("model", "seed")


def states_of_sources(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return an identifier of what each table of schema raw holds, by name.

    Args:
        connection: The warehouse.
    """
    states = dict.fromkeys(feeds(), "")
    states |= connection.execute(
        "select feed, sha256(string_agg(concat_ws(' ', delivery_sequence, delivery_id), ','"
        " order by delivery_sequence)) from raw.deliveries where verdict = 'loaded' group by feed"
    ).fetchall()
    others = connection.execute(
        "select table_name from duckdb_tables() where database_name = current_database()"
        " and schema_name = 'raw' order by table_name"
    ).fetchall()
    for (name,) in others:
        if name not in states:
            rows, hashes = sum_of_hashes(connection, f"raw.{quote(name)}")
            states[name] = f"{rows} {hashes}"
    return states


def left_alone(
    manifest: Mapping[str, Any],
    before: Mapping[str, str],
    now: Mapping[str, str],
    *,
    is_same_day: bool,
) -> tuple[str, ...]:
    """Return the unique ids of the models and seeds that need not be built, each after all it reads.

    Args:
        manifest: dbt's manifest.
        before: `states_of_sources` after the previous build.
        now: `states_of_sources` now.
        is_same_day: Whether the previous build had the same as-of date.
    """
    changed_sources = {
        name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
    }
    nodes = {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in _BUILT
    }
    by_name = {str(node["name"]): unique_id for unique_id, node in nodes.items()}
    macros = macros_of(manifest)
    is_any_change = bool(changed_sources) or not is_same_day
    found: dict[str, bool] = {}

    def is_changed(unique_id: str) -> bool:
        if unique_id.startswith("source."):
            return unique_id.split(".")[-1] in changed_sources
        if unique_id not in nodes:
            return True
        if unique_id not in found:
            node = nodes[unique_id]
            texts = list(texts_of(node, macros))
            found[unique_id] = (
                (not is_same_day and names_day(texts))
                or (is_any_change and depends_on_build(texts[:1]))
                or any(map(is_changed, parents_of(node, texts, by_name) - {unique_id}))
            )
        return found[unique_id]

    for unique_id in nodes:
        is_changed(unique_id)
    return tuple(unique_id for unique_id, has_changed in found.items() if not has_changed)


def macros_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each macro of the project, by name."""
    return {
        str(macro["name"]): str(macro["macro_sql"])
        for macro in manifest["macros"].values()
        if macro["package_name"] == manifest["metadata"]["project_name"]
    }


def texts_of(node: Mapping[str, Any], macros: Mapping[str, str]) -> Iterator[str]:
    """Yield the SQL of a node with its hooks, then that of every macro it names, directly or not.

    Args:
        node: A model or data test of the manifest.
        macros: As `macros_of` returns them.
    """
    config = node["config"]
    hooks = [
        str(hook["sql"]) for when in ("pre-hook", "post-hook") for hook in config.get(when) or []
    ]
    text = "\n".join([str(node.get("raw_code") or ""), *hooks])
    yield text
    waiting, seen = [text], set[str]()
    while waiting:
        for name in set(_WORD.findall(waiting.pop())) & macros.keys() - seen:
            seen.add(name)
            waiting.append(macros[name])
            yield macros[name]


def names_day(texts: Iterable[str]) -> bool:
    """Return whether SQL depends on the as-of date."""
    return any(map(_DAY.search, texts))


def depends_on_build(texts: Iterable[str]) -> bool:
    """Return whether SQL refers to the previous build or to what has arrived since."""
    return any(map(_OF_THIS_BUILD.search, texts))


def keeping_rows(manifest: Mapping[str, Any]) -> set[str]:
    """Return the unique ids of the models that keep some of their rows when they are built again.

    These are the incremental models, and those whose previous rows another model takes over.

    Args:
        manifest: dbt's manifest.
    """
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    taken_over = {name for node in models for name in _KEPT.findall(str(node["raw_code"]))}
    return {
        str(node["unique_id"])
        for node in models
        if node["config"].get("materialized") == "incremental" or node["name"] in taken_over
    }


def adding_rows(manifest: Mapping[str, Any]) -> set[str]:
    """Return the unique ids of the models that keep all their rows when they are built again, and add others.

    Args:
        manifest: dbt's manifest.
    """
    return {
        str(node["unique_id"])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
        and node["config"].get("materialized") == "incremental"
        and not node["config"].get("pre-hook")
    }


def parents_of(
    node: Mapping[str, Any], texts: Iterable[str], by_name: Mapping[str, str]
) -> set[str]:
    """Return the unique ids of everything that a node reads.

    Args:
        node: A model or data test of the manifest.
        texts: As `texts_of` yields them.
        by_name: Unique ids of models and seeds by name.
    """
    named = {name for text in texts for name in _REFERENCE.findall(text)}
    parents = set(node["depends_on"].get("nodes", []))
    return parents | {by_name[name] for name in named & by_name.keys()}
