"""The suites of a feed, built from its columns.

What all feeds have in common belongs here. A feed's own module adds what the columns alone do not say.
Two frames are checked: *rows*, the delivered text of a batch with every number beside it as an integer;
and *facts*, one row of integers about the whole file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.expectations.expectation import Expectation

from dagster_project.feeds import Column, Feed, feeds, type_pattern, value_types
from expectations.kinds import (
    AllBetween,
    AllGiven,
    AllInSet,
    AllMatch,
    ColumnsPresent,
    NoneMatch,
)

ERROR = "critical"
WARN = "warning"
AMOUNT_PLACES = 2
MOST_UNREADABLE_PERCENT = 50
MOST_UNKNOWN_PERCENT = 5
MOST_ALIKE_PERCENT = 50
USUAL_PERCENT = (50, 200)


@dataclass(frozen=True)
class Share:
    """A statement that may be true of some rows by chance, but of at most half unless the whole file is wrong.

    Attributes:
        column: The derived column: 1 where it is true of a row, 0 where not, empty where it is not asked.
        check: Name of the check.
        remedy: What the supplier can do if it fails.
    """

    column: str
    check: str
    remedy: str

    @property
    def fact_name(self) -> str:
        """The fact: percent of the rows asked for which it is true, rounded up."""
        return f"{self.column}_percent"


@dataclass(frozen=True, eq=False)
class Contract:
    """What is checked in a batch of one feed.

    Attributes:
        feed: The feed.
        more_rows: Expectations about rows that the columns alone do not say.
        derive: Adds the integer columns that `more_rows` and `shares` need to a frame of rows.
        shares: Statements that are checked by how many rows of a file they are true of.
        refers_to: By column, the feed whose key it holds.
        totals: Amount columns whose average is compared with recent deliveries.
    """

    feed: Feed
    more_rows: Sequence[Expectation] = ()
    derive: Callable[[pd.DataFrame], pd.DataFrame] = field(default=lambda rows: rows)
    shares: Sequence[Share] = ()
    refers_to: dict[str, str] = field(default_factory=dict)
    totals: Sequence[str] = ()

    def rows_suite(self, columns: Sequence[str]) -> gx.ExpectationSuite:
        """Return the expectations about the rows.

        Args:
            columns: Columns of the frame; expectations about others are left out.
        """
        asked: list[Expectation] = [_columns_present(self.feed)]
        for column in self.feed.columns:
            asked += column_expectations(column)
        asked += self.more_rows
        return _suite(f"{self.feed.name}.rows", asked, columns)

    def facts_suite(self, facts: Sequence[str]) -> gx.ExpectationSuite:
        """Return the expectations about the whole file.

        Args:
            facts: Facts that are known; expectations about others are left out.
        """
        key = "_".join(self.feed.key_names)
        asked = [
            fact("malformed_percent", "records_have_all_fields", ERROR, 0, MOST_UNREADABLE_PERCENT),
            fact("malformed_rows", "no_record_is_malformed", WARN, 0, 0),
            fact("repeated_keys", f"{key}_is_unique_in_the_file", WARN, 0, 0),
            fact("rows_percent_of_usual", "row_count_is_as_usual", WARN, *USUAL_PERCENT),
        ]
        asked += [
            fact(
                unreadable_fact(name),
                f"{name}_is_mostly_readable",
                ERROR,
                0,
                MOST_UNREADABLE_PERCENT,
            )
            for name in self.feed.required_names
        ]
        asked += [
            fact(unknown_fact(name), f"{name}_is_mostly_known", WARN, 0, MOST_UNKNOWN_PERCENT)
            for name in self.refers_to
        ]
        asked += [
            fact(usual_fact(name), f"average_{name}_is_as_usual", WARN, *USUAL_PERCENT)
            for name in self.totals
        ]
        asked += [
            fact(one.fact_name, one.check, WARN, 0, MOST_ALIKE_PERCENT) for one in self.shares
        ]
        return _suite(f"{self.feed.name}.facts", asked, facts)


def contract(name: str) -> Feed:
    """Return the feed of this name, for the module of its contract."""
    return feeds()[name]


def unreadable_fact(column: str) -> str:
    """Name the fact: percent of rows whose value is missing or unreadable."""
    return f"{column}_unreadable_percent"


def unknown_fact(column: str) -> str:
    """Name the fact: percent of rows that refer to something never delivered."""
    return f"{column}_unknown_percent"


def usual_fact(column: str) -> str:
    """Name the fact: average of an amount, in percent of recent deliveries' average."""
    return f"{column}_percent_of_usual"


def number_name(column: Column) -> str:
    """Name the integer beside a numeric column of the rows frame."""
    return f"{column.name}_number"


def places(column: Column) -> int | None:
    """Return the decimal places by which a numeric column becomes an integer; None if not numeric.

    Amounts are in hundredths whatever their currency: only their relation to each other is checked.
    """
    match column.type:
        case "amount":
            return AMOUNT_PLACES
        case "decimal":
            return column.places
        case "whole":
            return 0
        case _:
            return None


def pattern(column: Column) -> str | None:
    """Return the pattern of a column's text; None if any text will do.

    The currency of an amount does not matter, because the staging models check for too many places.
    """
    types = value_types()
    match column.type:
        case "id":
            words = "|".join(types["missing_words"])
            number = types["id"]["through_a_float"]
            return rf"(?!(?:{words}|{number})$)[^\x00-\x1f\x7f]{{1,200}}"
        case "boolean":
            return f"(?i:{'|'.join([*types['boolean']['true'], *types['boolean']['false']])})"
        case "instant":
            with_offset = type_pattern(column, "with_offset")
            return f"{with_offset}|{type_pattern(column, 'without_offset')}"
        case "currency" | "date" | "whole" | "amount" | "decimal":
            return type_pattern(column)
        case "text" | "enum":
            return None


def column_expectations(column: Column) -> list[Expectation]:
    """Return what the rows are expected to say in one column, all of it as warnings."""
    asked: list[Expectation] = []
    if column.required:
        asked.append(
            AllGiven(column=column.name, **_about(f"{column.name}_is_given", WARN, column.name))
        )
    text = pattern(column)
    if text is not None:
        asked.append(
            AllMatch(
                column=column.name,
                regex=f"^(?:{text})$",
                **_about(readable_check(column.name), WARN, column.name),
            )
        )
    if column.values:
        asked.append(
            AllInSet(
                column=column.name,
                value_set=list(column.values),
                **_about(readable_check(column.name), WARN, column.name),
            )
        )
    asked += _range(column)
    return asked


def readable_check(column: str) -> str:
    """Name the check that a column's text is what it must be."""
    return f"{column}_is_readable"


def given_check(column: str) -> str:
    """Name the check that a column is not empty."""
    return f"{column}_is_given"


def _range(column: Column) -> list[Expectation]:
    scale = places(column)
    least = column.minimum if column.exclusive_minimum is None else column.exclusive_minimum
    if scale is None or (least is None and column.maximum is None):
        return []
    factor = 10**scale
    return [
        AllBetween(
            column=number_name(column),
            min_value=None if least is None else least * factor,
            max_value=None if column.maximum is None else column.maximum * factor,
            strict_min=column.exclusive_minimum is not None,
            **_about(f"{column.name}_is_in_range", WARN, column.name),
        )
    ]


def holds(column: str, name: str, about: Sequence[str]) -> Expectation:
    """Expect a statement about several columns to be true, which is when a derived column is 1.

    Args:
        column: The derived column.
        name: Name of the check.
        about: The delivered columns that it depends on.
    """
    return AllInSet(column=column, value_set=[1], **_about(name, WARN, *about))


def avoids(column: str, regex: str, name: str) -> Expectation:
    """Expect a column never to contain a text."""
    return NoneMatch(column=column, regex=regex, **_about(name, WARN, column))


def fact(column: str, name: str, severity: str, least: int, most: int) -> Expectation:
    """Expect a fact about the whole file to be between two numbers."""
    return AllBetween(
        column=column, min_value=least, max_value=most, **_about(name, severity, column)
    )


def _columns_present(feed: Feed) -> Expectation:
    return ColumnsPresent(
        column_set=list(feed.required_names),
        exact_match=False,
        **_about("required_columns_are_present", ERROR),
    )


def _about(name: str, severity: str, *columns: str) -> dict[str, Any]:
    return {"severity": severity, "meta": {"check": name, "columns": list(columns)}}


def _suite(name: str, asked: Sequence[Expectation], columns: Sequence[str]) -> gx.ExpectationSuite:
    return gx.ExpectationSuite(
        name=name,
        expectations=[
            expectation.copy()
            for expectation in asked
            if set((expectation.meta or {})["columns"]) <= set(columns)
        ],
    )
