"""Which form is expected of a value that cannot be read, and what it looks like instead.

Advice for the person who exports the files belongs here: the option of the exporting tool, if the tool
can be recognised.
"""

from __future__ import annotations

import re

from dagster_project.feeds import Column, type_pattern, value_types

_SIGNED = "write no plus, and a minus before the first digit"
_LOOKS_LIKE = [
    (
        re.compile(r"[0-9]{9,10}(?:[.][0-9]+)?|[0-9]{13}(?:[.][0-9]+)?|[0-9]{16}|[0-9]{19}"),
        ("instant", "date"),
        'it looks like a number since an epoch: write text (pandas: to_json(date_format="iso"); Spark:'
        " cast to timestamp; JavaScript: toISOString())",
    ),
    (
        re.compile(r"[0-9]{5}(?:[.][0-9]+)?"),
        ("instant", "date"),
        "it looks like the day number of a spreadsheet: give the cells the format YYYY-MM-DD hh:mm:ss",
    ),
    (
        re.compile(r"[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{2,4}.*"),
        ("instant", "date"),
        "day and month are ambiguous: write the year first",
    ),
    (
        re.compile(
            r".*(?<![a-z])(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec).*",
            re.IGNORECASE | re.DOTALL,
        ),
        ("instant", "date"),
        "it has the name of a month: write its number",
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{2}"),
        ("instant", "date"),
        "it is a month: write its first day",
    ),
    (
        re.compile(r".*[0-9]\s?[ap][.]?m[.]?", re.IGNORECASE),
        ("instant",),
        "it has a clock of twelve hours: write hours from 0 to 23",
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].+"),
        ("date",),
        "it looks like an instant that is not midnight or has an offset: cast it to a date",
    ),
    (
        re.compile(r"-?[0-9.]*[0-9],[0-9]{1,2}"),
        ("amount", "decimal", "whole"),
        "it looks like a decimal comma: write a point (LibreOffice and Excel: an English locale)",
    ),
    (
        re.compile(r"-?[0-9]{1,3}(?:[,'’_\s][0-9]{3})+(?:[.,][0-9]+)?"),
        ("amount", "decimal", "whole"),
        "it has thousands separators: write the digits alone",
    ),
    (
        re.compile(r"-?[0-9.]+[eE][+-]?[0-9]+"),
        ("amount", "decimal", "whole"),
        "it has an exponent: write all digits (R: options(scipen = 999); Ruby: to_s('F'); pandas:"
        " float_format='%.2f')",
    ),
    (
        re.compile(r"[+][0-9.]+|[0-9.,]+-|[(][0-9.,]+[)]"),
        ("amount", "decimal", "whole"),
        _SIGNED,
    ),
    (
        re.compile(r"-?(?:[.][0-9]+|[0-9]+[.])"),
        ("amount", "decimal"),
        "write a digit before and after the point",
    ),
    (
        re.compile(r"\s*[-–—]\s*"),
        ("amount", "decimal", "whole"),
        "a dash is no number: write 0, or leave it empty where nothing is known",
    ),
    (
        re.compile(r"\s.*|.*\s", re.DOTALL),
        ("amount", "decimal", "whole", "date", "instant", "currency", "boolean", "enum"),
        "it has blanks around it: write the value alone",
    ),
    (
        re.compile(r"-?[0-9]+[.][0-9]*[1-9]"),
        ("whole",),
        "it has places",
    ),
    (
        re.compile(r"[$€£¥].*|.*[$€£¥]|[A-Z]{3} .*|.* [A-Z]{3}"),
        ("amount", "decimal"),
        "it has a currency sign: write the number alone, and the currency in its own column",
    ),
    (
        re.compile(r"-?[0-9.,]+\s?%"),
        ("amount", "decimal", "whole"),
        "it has a percent sign: write the number alone",
    ),
    (
        re.compile(r"(?:quarter|3[ -]?month)(?:s|ly)?", re.IGNORECASE),
        ("enum",),
        "a quarter is three months: write month, and 3 as interval_count of an invoice",
    ),
    (
        re.compile(r"yes|no|y|n|on|off|[01][.]0", re.IGNORECASE),
        ("boolean",),
        "write true or false",
    ),
]


def form_of(column: Column) -> str:
    """Say in words what a value of a column must be."""
    if column.values:
        return f"one of {', '.join(column.values)}"
    if column.type == "id":
        return "an id of 1 to 200 characters without control characters"
    if column.type == "text":
        return "text"
    return type_pattern(column, "form")


def explanation_of(column: Column, value: str | None) -> str:
    """Say which form is expected, and what a value looks like instead.

    Args:
        column: The column.
        value: What was delivered; None if it is missing or may not be looked at.
    """
    expected = f"expected: {form_of(column)}"
    if value is None:
        return expected
    types = value_types()
    if value in types["missing_words"]:
        return (
            f"{expected}; it is a word for a missing value: leave it empty (R: na = ''; pandas:"
            " na_rep='')"
        )
    if column.type == "id" and re.fullmatch(types["id"]["through_a_float"], value):
        return (
            f"{expected}; a whole number went through a float: export it as text or as an integer"
            " (pandas: astype('Int64'))"
        )
    if value.lower() in column.values:
        return f"{expected}; write it in small letters"
    for pattern, kinds, advice in _LOOKS_LIKE:
        if column.type in kinds and pattern.fullmatch(value):
            if advice == _SIGNED and {column.minimum, column.exclusive_minimum} != {None}:
                advice = "it is never below zero here: write the digits alone"
            return f"{expected}; {advice}"
    return expected
