"""The quotes of a CSV file: where a record begins and ends, and where that is undecidable.

The grammar of one line, and the consequences of a line that breaks it, belong here. A quote is at the
beginning and at the end of a value, and doubled within one; anything else was written by a tool with
rules of its own, whose records may continue in the lines that follow.

When a line breaks the grammar, two readings of the next line are followed: that a record begins with it,
and that it continues a value in quotes. Lines are trusted again once the second reading breaks the
grammar or would never end, so that only the first is left; until then they are set apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dagster_project.arrival.report import Refusal

QUOTE_REMEDY = 'write a quote inside a quoted value as "", and quote every value that has one'
BACKSLASH_REMEDY = (
    'write a quote inside a value as "" and no backslash before it (Spark: option("escape", "\\""); '
    "MariaDB: fields escaped by '' with values that have no quotes, or a client that writes CSV; "
    "pandas: doublequote=True without escapechar; Redshift: format csv), and deliver the file again"
)

_QUOTED = r'"(?:[^"]+|"")*+"'
_FIELD = rf'(?:{_QUOTED}|[^",\r\n]*+)'
_REST = r'(?:[^"]+|"")*+'
_COMPLETE = re.compile(rf"{_FIELD}(?:,{_FIELD})*+")
_OPEN = re.compile(rf'(?:{_FIELD},)*+"{_REST}')
_STILL_OPEN = re.compile(_REST)
_CLOSED = re.compile(rf'{_REST}"(?:,{_FIELD})*+')
_REOPENED = re.compile(rf'{_REST}"(?:,{_FIELD})*?,"{_REST}')
_ONE_FIELD = re.compile(rf"({_QUOTED}|[^,\r\n]*)(?:,|\r\n?|\n|$)")

BETWEEN, INSIDE = "between records", "inside quotes"


@dataclass(frozen=True)
class Doubt:
    """Lines that are set apart.

    Attributes:
        first_line: Number of the first, from 1.
        last_line: Number of the last.
        problem: Why.
    """

    first_line: int
    last_line: int
    problem: str


def is_well_formed(text: str) -> bool:
    """Return whether the quotes of a record, of one line or more, are where they should be."""
    return _COMPLETE.fullmatch(text.rstrip("\r\n")) is not None


def quoted_fields(text: str) -> list[bool]:
    """Return whether each field of a well-formed record is in quotes."""
    text = text.rstrip("\r\n")
    found: list[bool] = []
    place = 0
    while True:
        match = _ONE_FIELD.match(text, place)
        assert match is not None, "any text begins with a field"
        found.append(match[1].startswith('"'))
        place = match.end()
        if place >= len(text) and not match[0].endswith(","):
            return found


def not_closed(text: str, line: int, row: int) -> Refusal:
    """Return the refusal of a file in which a quote is opened and its end is unknown.

    Args:
        text: The record, as far as it was read.
        line: Number of the line it begins in.
        row: Its number as a row.
    """
    reason = f"a quote opened in line {line} (row {row}) is not closed properly"
    if has_escaped_quote(text):
        return Refusal(f"{reason}: its quotes are escaped by backslashes", BACKSLASH_REMEDY)
    return Refusal(reason, f"close every quote; {QUOTE_REMEDY}")


def has_escaped_quote(text: str) -> bool:
    """Return whether a backslash precedes a quote."""
    return '\\"' in text


def doubtful_lines(lines: Iterable[str]) -> list[Doubt]:
    """Judge all lines of a file in which one breaks the grammar.

    Args:
        lines: Its lines, with their ends.

    Returns:
        The lines to be set apart, in their order.

    Raises:
        Refusal: If a quote is escaped by a backslash, since then no value of the file that has one
            can be trusted, or if reading never becomes certain again.
    """
    judge = _Judge()
    for line in lines:
        judge.read(line)
    return judge.end()


def _step(state: str, line: str) -> str | None:
    """Return the state after a line, None if the line breaks the grammar in this state."""
    if state == BETWEEN:
        if _COMPLETE.fullmatch(line):
            return BETWEEN
        return INSIDE if _OPEN.fullmatch(line) else None
    if _STILL_OPEN.fullmatch(line):
        return INSIDE
    if _CLOSED.fullmatch(line):
        return BETWEEN
    return INSIDE if _REOPENED.fullmatch(line) else None


class _Judge:
    """A reader that follows the lines of a file in the readings that are left."""

    def __init__(self) -> None:
        self._doubts: list[Doubt] = []
        self._number = self._record = 0
        self._line_of_record = 1
        self._readings = {BETWEEN: BETWEEN}  # by the state after the broken line, the state now
        self._broken = 0  # the last line that is known to be no record, while in doubt
        self._is_closing = False

    def read(self, raw: str) -> None:
        """Take one line."""
        self._number += 1
        line = raw.rstrip("\r\n")
        if self._is_closing:
            self._close(raw, line)
        elif self._broken:
            self._doubt(raw, line)
        else:
            self._trust(raw, line)

    def end(self) -> list[Doubt]:
        """Return the lines to set apart.

        Raises:
            Refusal: If a quote is never closed.
        """
        states = set(self._readings.values())
        if self._is_closing or BETWEEN not in states:
            raise not_closed("", self._line_of_record, self._record)
        return self._doubts

    def _trust(self, raw: str, line: str) -> None:
        state = self._readings[BETWEEN]
        if state == BETWEEN:
            self._line_of_record = self._number
            self._record += 1 if line else 0
        after = _step(state, line)
        if after is not None:
            self._readings[BETWEEN] = after
        elif state == INSIDE:
            raise not_closed(raw, self._line_of_record, self._record - 1)
        else:
            what = (
                "text after a closing quote"
                if _begins_quoted(line)
                else "a quote inside a value that does not begin with one"
            )
            self._break(raw, what)

    def _break(self, raw: str, what: str) -> None:
        """Set this line apart, and follow both readings of the next."""
        if has_escaped_quote(raw):
            raise Refusal(
                f"line {self._number}: {what}, its quotes are escaped by backslashes",
                BACKSLASH_REMEDY,
            )
        self._doubts.append(Doubt(self._number, self._number, what))
        self._broken = self._line_of_record = self._number
        self._readings = {BETWEEN: BETWEEN, INSIDE: INSIDE}
        self._is_closing = False

    def _set_apart(self, last_line: int) -> None:
        """Set the lines since the broken one apart."""
        if last_line > self._broken:
            self._doubts.append(
                Doubt(
                    self._broken + 1,
                    last_line,
                    f"it may belong to the record that is broken in line {self._broken}: nobody can"
                    " tell where that ends",
                )
            )

    def _doubt(self, raw: str, line: str) -> None:
        readings = {
            start: after
            for start, state in self._readings.items()
            if (after := _step(state, line)) is not None
        }
        if not readings:
            self._set_apart(self._number - 1)
            self._break(raw, "a quote that is neither opened nor closed")
        elif INSIDE not in readings:  # the lines since then are records
            self._readings = {BETWEEN: readings[BETWEEN]}
            self._broken = 0
            self._line_of_record = self._number
        elif BETWEEN not in readings or len(set(readings.values())) == 1:
            state = readings[INSIDE]
            self._set_apart(self._number)
            self._readings = {BETWEEN: state}
            self._is_closing = state == INSIDE
            self._broken = self._number if self._is_closing else 0
        else:
            self._readings = readings

    def _close(self, raw: str, line: str) -> None:
        """Take a line of a record that is known to be broken and to continue."""
        after = _step(INSIDE, line)
        if after is None:
            self._break(raw, "a quote that is neither opened nor closed")
            return
        self._set_apart(self._number)
        self._broken = self._number
        if after == BETWEEN:
            self._is_closing, self._broken = False, 0
            self._readings = {BETWEEN: BETWEEN}


def _begins_quoted(line: str) -> bool:
    """Return whether the part that breaks a line's grammar follows a value in quotes."""
    match = re.match(rf"(?:{_FIELD},)*+", line)
    return match is not None and line[match.end() : match.end() + 1] == '"'
