"""The feeds as data, read from the dbt source file, the only place where they are defined.

The form of a column is defined there; this module only adds types.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from dagster_project.product import DBT_PROJECT

ColumnType = Literal[
    "id", "text", "enum", "boolean", "instant", "date", "amount", "decimal", "whole", "currency"
]

SOURCES_FILE = DBT_PROJECT / "models/staging/_billing__sources.yml"
TYPES_FILE = DBT_PROJECT / "dbt_project.yml"


@dataclass(frozen=True)
class Column:
    """One column of a feed.

    Attributes:
        name: Column name as in the header of a delivery.
        type: What its text must be; see the top of the source file.
        description: One sentence for people.
        required: Whether it may not be empty, and must be in the header.
        key: Whether it identifies the record, alone or with the other columns of the key.
        personal: Whether it is personal data, which never leaves the warehouse.
        values: The values an enum allows, else empty.
        signed: Whether a number may carry a minus sign.
        minimum: Least number allowed, if any.
        exclusive_minimum: Number that must be exceeded, if any.
        maximum: Greatest number allowed, if any.
        digits: Digits an `amount` may have before the point.
        places: Decimal places of a `decimal`, else None.
        default: Text that an empty value stands for, if any.
    """

    name: str
    type: ColumnType
    description: str
    required: bool = False
    key: bool = False
    personal: bool = False
    values: tuple[str, ...] = ()
    signed: bool = False
    minimum: int | None = None
    exclusive_minimum: int | None = None
    maximum: int | None = None
    digits: int = 13
    places: int | None = None
    default: str | None = None


@dataclass(frozen=True)
class Feed:
    """One feed: its name, what a row is, and its columns in the order of the contract."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> Column:
        """The column that identifies a record, or the first of several that do so together."""
        return next(column for column in self.columns if column.key)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the columns that together identify a record."""
        return tuple(column.name for column in self.columns if column.key)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns, in the order of the contract."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the column with a name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def required_names(self) -> tuple[str, ...]:
        """Names of the columns a header must have."""
        return tuple(column.name for column in self.columns if column.required)


def _column(entry: dict[str, object]) -> Column:
    meta = dict(entry["config"]["meta"])  # type: ignore[index]
    meta["values"] = tuple(meta.get("values", ()))
    if "default" in meta:
        default = meta["default"]
        meta["default"] = str(default).lower() if isinstance(default, bool) else str(default)
    return Column(name=str(entry["name"]), description=str(entry["description"]), **meta)


@cache
def value_types() -> dict[str, Any]:
    """Return what the text of each column type must be: lists of words, and named patterns."""
    types: dict[str, Any] = _yaml(TYPES_FILE)["vars"]["value_types"]
    return types


def type_pattern(column: Column, which: str = "pattern") -> str:
    """Return the pattern that text of a column's type must match, from the macro of this name.

    Args:
        column: The column.
        which: Name of the pattern, if the type has several.
    """
    pattern = str(value_types()[column.type][which])
    return pattern.replace("DIGITS", str(column.digits)).replace("PLACES", str(column.places or 0))


def _yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text("utf-8"), loader)  # noqa: S506


@cache
def feeds() -> dict[str, Feed]:
    """Return the feeds by name, in the order of the contract."""
    tables = _yaml(SOURCES_FILE)["sources"][0]["tables"]
    return {
        table["name"]: Feed(
            name=table["name"],
            description=table["description"],
            columns=tuple(_column(entry) for entry in table["columns"]),
        )
        for table in tables
    }
