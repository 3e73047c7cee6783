"""Tables made from the dbt project's YAML and from the settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from dagster_project.answers.config import config
from dagster_project.feeds import Column, feeds
from dagster_project.product import DBT_PROJECT
from dagster_project.releases import restatements
from dagster_project.settings import Settings


def inputs() -> str:
    """Describe the columns of every feed."""
    parts = []
    for feed in feeds().values():
        rows = (
            (
                f"`{column.name}`",
                _type(column),
                "yes" if column.required else "",
                _cell(column.description),
            )
            for column in feed.columns
        )
        head = ("column", "type", "required", "meaning")
        parts.append(f"## {feed.name}\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def _type(column: Column) -> str:
    values = ", ".join(f"`{value}`" for value in column.values)
    kind = f"{column.type}: {values}" if values else column.type
    return f"{kind}, identifies the record" if column.key else kind


def required() -> str:
    """Name the required columns of each feed."""
    rows = (
        (f"`{feed.name}`", ", ".join(f"`{name}`" for name in feed.required_names))
        for feed in feeds().values()
    )
    return _table(("feed", "required columns"), rows)


def marts() -> str:
    """Describe the columns of every mart."""
    parts = []
    for mart in _marts():
        rows = (
            (f"`{one['name']}`", f"`{one['data_type']}`", _cell(one["description"]))
            for one in mart["columns"]
        )
        key = ", ".join(f"`{name}`" for name in mart["config"]["meta"]["primary_key"])
        text = f"{_cell(mart['description'])} Key: {key}."
        parts.append(
            f"## {mart['name']}\n\n{text}\n\n{_table(('column', 'type', 'meaning'), rows)}"
        )
    return "\n\n".join(parts)


def mart_list() -> str:
    """Name every mart with what a row of it is."""
    rows = (
        (f"[`{mart['name']}`](marts.md#{mart['name']})", _grain(mart["description"]))
        for mart in _marts()
    )
    return _table(("mart", "one row per"), rows)


def _grain(description: str) -> str:
    sentence = _cell(description).split(". ")[0].removesuffix(".")
    return sentence.removeprefix("One row per ").split(":")[0].split(";")[0]


def _marts() -> Iterator[dict[str, Any]]:
    for path in sorted((DBT_PROJECT / "models" / "marts").rglob("*.yml")):
        yield from yaml.safe_load(path.read_text("utf-8")).get("models", [])
    # The mart that the release itself makes, from the closed months.
    types = dict(one.strip().split(" ", 1) for one in _each_type(restatements.TYPES))
    yield {
        "name": restatements.NAME,
        "description": restatements.DESCRIPTION,
        "config": {"meta": {"primary_key": restatements.KEY}},
        "columns": [
            {"name": name, "description": text, "data_type": types[name]}
            for name, text in restatements.COLUMNS.items()
        ],
    }


def _each_type(types: str) -> list[str]:
    """Split a list of column definitions at the commas that are not inside brackets."""
    return re.split(r",(?![^(]*\))", types)


def settings() -> str:
    """List every setting with its default."""
    rows = (
        (f"`{one['name'].upper()}`", _default(one), _cell(one["description"]))
        for one in config(Settings(), {})["settings"]
    )
    return _table(("after `COUPON_LEDGER_`", "default", "meaning"), rows)


def _default(one: dict[str, Any]) -> str:
    import json

    known = {
        "home": "see [data homes](#data-homes)",
        "landing": "the sample",
        "owners": "see [owners](#owners)",
    }
    value = one["default"]
    if one["name"] in known:
        return known[one["name"]]
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(head)
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


TABLES: dict[str, Callable[[], str]] = {
    "inputs": inputs,
    "required": required,
    "marts": marts,
    "mart-list": mart_list,
    "settings": settings,
}
"""The functions that make the text between `<!-- generated: NAME -->` and `<!-- end -->`, by name."""
