"""The changed terms of a question as a person gives them: files, options, days and names, each checked on its own.

A row names its record and the columns that change; the other columns stay as recorded. `asked_records` checks whether
the record exists and the change makes sense.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import yaml

from dagster_project.feeds import feeds
from dagster_project.releases import files
from dagster_project.settings import first_instant

FEEDS: Final = ("coupons", "redemptions")
"""The feeds whose rows are terms."""
WITHDRAWN: Final = "withdrawn"
"""The column of a row that withdraws its record."""
TRUE: Final = ("true", "t", "1", "yes")
FALSE: Final = ("false", "f", "0", "no")
"""The words for true and false, in lower case; case does not matter."""

Record = dict[str, str]


class WrongTerms(Exception):
    """The question does not make sense as asked; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Change:
    """One row of a question.

    Attributes:
        feed: `coupons` or `redemptions`.
        values: The key and the columns that change, as text.
        is_withdrawn: Whether the record is withdrawn.
        place: Where the row was given, for messages.
    """

    feed: str
    values: Mapping[str, str]
    is_withdrawn: bool
    place: str


def read(path: Path) -> list[Change]:
    """Read the changed terms of a file.

    CSV has rows of one feed. YAML and JSON have lists of rows by feed, or one list of rows.

    Raises:
        WrongTerms: The file cannot be read, or has no rows of these feeds.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            content: Any = _table(text)
        elif path.suffix.lower() == ".json":
            content = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_once)
        elif path.suffix.lower() in (".yaml", ".yml"):
            content = yaml.load(text, _Texts)  # noqa: S506 (every scalar as its text)
        else:
            raise WrongTerms(f"{path} is neither .csv, .yaml nor .json; name it so.")
    except OSError as error:
        raise WrongTerms(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise WrongTerms(
            f"{path} is not UTF-8: byte {error.start + 1} is no character. Save it as UTF-8."
        ) from None
    except (ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise WrongTerms(f"{path} cannot be read as {path.suffix[1:].upper()}: {told}") from None
    by_feed = content if isinstance(content, dict) else {"": content}
    changes = []
    for feed, rows in by_feed.items():
        if feed not in ("", *FEEDS):
            raise WrongTerms(f"{path}: {unknown('list of rows', str(feed), FEEDS)}")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise WrongTerms(f"{path}: give rows as a list, each with its columns by name.")
        for number, row in enumerate(rows, 1):
            place = f"{path.name}, {feed or 'row'} {number}"
            values = {str(name): _text(value, place) for name, value in row.items()}
            changes.append(_change(feed or _feed_of(values, place), values, place))
    if not changes:
        raise WrongTerms(f"{path} has no rows. Give rows of coupons or redemptions.")
    return changes


def _table(text: str) -> list[Record]:
    """Return the rows of a CSV file by the names of its columns.

    Raises:
        ValueError: A row has more or fewer values than there are columns, or two columns have the same name.
    """
    lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    if not lines:
        return []
    header, *body = lines
    found = []
    for number, values in enumerate(body, 1):
        if len(values) != len(header):
            has = "1 value" if len(values) == 1 else f"{len(values)} values"
            raise ValueError(f"row {number} has {has} for {len(header)} columns")
        found.append(_once(list(zip(header, values, strict=True))))
    return found


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs of names and values as a dictionary.

    Raises:
        ValueError: A name occurs twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


class _Texts(yaml.BaseLoader):
    """Loads every scalar as text, and refuses a mapping in which a name occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        _once([(str(name), None) for name in names])
        return dict(super().construct_mapping(node, deep=deep))


def of_coupon(coupon_id: str, settings_of: Sequence[str]) -> list[Change]:
    """Return the change of one coupon given as `column=value`.

    Raises:
        WrongTerms: One of them has another form, sets a column twice, or sets one that does not exist.
    """
    values = {"coupon_id": coupon_id}
    for text in settings_of:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise WrongTerms(f"--set {text}: give COLUMN=VALUE, such as percent_off=15.")
        if name.strip() == "coupon_id":
            raise WrongTerms(f"--set {text}: name the coupon with --coupon alone.")
        if name.strip() in values:
            raise WrongTerms(f"--set {text}: {name.strip()} is set twice; set it once.")
        values[name.strip()] = value.strip()
    return [_change("coupons", values, f"coupon {coupon_id}")]


def checked_name(name: str) -> str:
    """Return the name of a question, which is also that of its folder.

    Raises:
        WrongTerms: It cannot be the name of a folder.
    """
    if not re.fullmatch(files.WHAT_IF_NAME, name):
        raise WrongTerms(
            f"--name {name}: give at most 64 letters, digits, dots, dashes and underscores, a letter"
            " or digit first."
        )
    return name


def checked_day(text: str) -> date:
    """Return the day from which terms change.

    Raises:
        WrongTerms: The text is not a day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise WrongTerms(f"--from {text}: give a day as YYYY-MM-DD.") from None


def first_of_bills(holds_from: date | None, as_of: date, zone: str) -> datetime | None:
    """Return the first instant of a day in the reporting time zone.

    Raises:
        WrongTerms: The day is before 1970 or after the outlook.
    """
    if holds_from is None:
        return None
    if not date(1970, 1, 1) <= holds_from < as_of + timedelta(days=730):
        raise WrongTerms(
            f"--from {holds_from}: bills are looked at up to 24 months after {as_of}, the as-of date;"
            " give a day from 1970-01-01 to then."
        )
    return first_instant(holds_from, ZoneInfo(zone))


def unknown(kind: str, wanted: str, known: Iterable[str], listed_by: str = "") -> str:
    """Say that there is no such thing, and suggest those that may be meant.

    Args:
        kind: What it would be, in the singular.
        wanted: The name asked for.
        known: The names that exist, or those of them that are similar.
        listed_by: The command that lists all names, if `known` has only the similar ones.
    """
    names = list(known)
    near = get_close_matches(wanted.casefold(), [name.casefold() for name in names], 3, 0.5)
    meant = [name for name in names if name.casefold() in near]
    if meant:
        hint = f"Did you mean {' or '.join(meant)}?"
    elif listed_by:
        hint = f"List them: {listed_by}"
    else:
        hint = f"Use one of: {', '.join(names)}."
    return f"there is no {kind} {wanted!r}. {hint if names else ''}".strip()


def _change(feed_name: str, values: dict[str, str], place: str) -> Change:
    """Return a row as a change, without `updated_at`.

    Raises:
        WrongTerms: A column or value is not one of the feed, or the key is missing.
    """
    feed = feeds()[feed_name]
    withdrawn = values.pop(WITHDRAWN, "").casefold()
    if withdrawn not in ("", *TRUE, *FALSE):
        raise WrongTerms(f"{place}, {WITHDRAWN}: give true or false, not {withdrawn!r}.")
    for name, value in values.items():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # undecodable bytes of an argument, a lone surrogate in JSON
            raise WrongTerms(f"{place}, {name}: the value is not UTF-8.") from None
        if name not in feed.column_names:
            known = [*feed.column_names, WITHDRAWN]
            raise WrongTerms(f"{place}: {unknown(f'column of {feed_name} named', name, known)}")
        column = feed.column(name)
        if column.values and value and value not in column.values:
            raise WrongTerms(f"{place}, {name}: {unknown('value', value, column.values)}")
    values.pop("updated_at", None)
    if not values.get(feed.key.name):
        raise WrongTerms(f"{place}: it names no {feed.key.name}.")
    return Change(feed_name, values, withdrawn in TRUE, place)


def _feed_of(values: Mapping[str, str], place: str) -> str:
    """Return the feed of a row by its key; redemption_id comes first, since a redemption names its coupon too."""
    if "redemption_id" in values:
        return "redemptions"
    if "coupon_id" in values:
        return "coupons"
    raise WrongTerms(
        f"{place}: it is neither of coupons nor of redemptions: it has no coupon_id or redemption_id, but"
        f" {', '.join(map(repr, values)) or 'nothing'}."
    )


def _text(value: object, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.strip()
    raise WrongTerms(f"{place}: {value!r} is not one value.")
