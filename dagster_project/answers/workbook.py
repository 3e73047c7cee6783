"""Relations of a release as sheets of a workbook: types, formats, filters, widths, and nothing rounded.

XlsxWriter writes the workbook with one sample row per sheet, which defines the look of each kind of
cell; DuckDB writes the text of all rows, which replace the sample row. Rows never become Python objects,
so a sheet of a million rows takes the memory of a sheet of ten.

Turning a value into a cell belongs here. What is exported, and the text of the first sheet, does not.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipFile

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name

from dagster_project.answers.asking import Connection
from dagster_project.answers.values import FORMULA_SIGNS, clean, places
from dagster_project.quoting import literal, literals, quote

SHEET_NAME: Final = 31
"""The most characters that the name of a sheet may have."""
EXACT_DIGITS: Final = 15
"""How many digits of a number a spreadsheet stores."""

_SHEET_ROWS = 1_048_576
_CELL_TEXT = 32_767
_BATCH = 2_000
_WIDEST, _NARROWEST = 60, 8
_LINE, _LINE_HEIGHT = 58, 15  # characters of a line in the widest column, and its height in points
_LARGE = 2_000_000_000  # bytes of a sheet's text above which the archive may need ZIP64
_COMPRESSION = 3  # a higher level saves a tenth of the size at twice the time

_INSTANT, _DAY, _TEXT = "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd", "@"
_WHOLE, _PERCENT = "#,##0", "General"  # `0.####` shows 20 as `20.` in Excel
_QUOTED = "'@"  # text, marked to stay text when someone edits the cell
_PLAIN = ""
_ALIGNED = {
    **dict.fromkeys(("number", "amount", "double", "day", "instant"), "right"),
    "text": "left",
    "boolean": "center",
}
"""How the cells and the heading of a column are aligned, by its kind."""
_EPOCH = "date '1899-12-30'"
_FIRST_DAY = "date '1900-03-01'"  # before it, a spreadsheet counts a day that never existed
_LAST_DAY = "date '9999-12-31'"
_ODD = r"[\p{C}\p{Zl}\p{Zp}\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}\x{FFFE}\x{FFFF}]"
_WIDE = r"[\x{1100}-\x{115F}\x{2E80}-\x{A4CF}\x{AC00}-\x{D7A3}\x{F900}-\x{FAFF}\x{FE30}-\x{FE4F}\x{FF00}-\x{FF60}\x{1F300}-\x{1FAFF}]"


@dataclass(frozen=True)
class Part:
    """Some of the rows of a sheet, few enough to sort in memory.

    Attributes:
        relation: The rows in their order, as SQL.
        rows: The number of rows.
    """

    relation: str
    rows: int


@dataclass(frozen=True)
class Sheet:
    """A relation that becomes a sheet, or several if its rows do not fit on one.

    Attributes:
        name: The sheet's name, at most `SHEET_NAME` characters.
        relation: What the sheet shows, as quoted SQL.
        frozen: How many of the first columns stay in view.
        parts: The same rows in their order, a part at a time, if the relation is in no order or
            would have to be sorted whole.
    """

    name: str
    relation: str
    frozen: int = 0
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Written:
    """What was written to a sheet.

    Attributes:
        name: The sheet's name.
        rows: Its number of rows, without the heading.
        as_text: By column, how many numbers are text because they have more digits than a spreadsheet
            stores.
    """

    name: str
    rows: int
    as_text: Mapping[str, int]


@dataclass
class _Column:
    """A column and the needs of its cells.

    Attributes:
        name: The column's name.
        kind: `text`, `number`, `amount`, `double`, `boolean`, `day` or `instant`.
        source: SQL for its value.
        place: The letters of its column on the sheet.
        scale: Decimal places of its type.
        facts: Counts about its values.
        formats: The number of a style in the workbook, by the key of its format.
    """

    name: str
    kind: str
    source: str
    place: str
    scale: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)


def write(
    path: Path,
    connection: Connection,
    sheets: Sequence[Sheet],
    first: Callable[[xlsxwriter.Workbook, Sequence[Written]], None] | None = None,
    told: Callable[[str, int], None] = lambda name, rows: None,
) -> list[Written]:
    """Write a workbook.

    Args:
        path: The file; replaced if it exists.
        connection: The connection that has the relations.
        sheets: The workbook's sheets, in order.
        first: Writes sheets that come before all others; gets the workbook and what the others will hold.
        told: Called after each sheet with its name and number of rows.
    """
    found = [_Sheet(connection, sheet) for sheet in sheets]
    written = [one.written for one in found]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".workbook-") as folder:
        frame = Path(folder, "frame.xlsx")
        book = xlsxwriter.Workbook(str(frame), {"tmpdir": folder, "strings_to_formulas": False})
        if first is not None:
            first(book, written)
        begun = len(book.worksheets())
        styles: dict[str, Format] = {}
        parts: list[tuple[_Sheet, int]] = []
        for one in found:
            for number in range(one.sheets):
                one.begin(book, styles, number)
                parts.append((one, number))
        book.close()
        with (
            ZipFile(frame) as source,
            ZipFile(path, "w", ZIP_DEFLATED, compresslevel=_COMPRESSION) as target,
        ):
            for name in source.namelist():
                match = re.fullmatch(r"xl/worksheets/sheet([0-9]+)\.xml", name)
                number = int(match.group(1)) - 1 - begun if match else -1
                if number < 0:
                    target.writestr(name, source.read(name))
                    continue
                one, part = parts[number]
                text = source.read(name).decode("utf-8")
                with target.open(name, "w", force_zip64=one.is_large) as file:
                    for piece in one.texts(text, part):
                        file.write(piece.encode("utf-8"))
                if part == one.sheets - 1:
                    told(one.sheet.name, one.written.rows)
    return written


class _Sheet:
    """A relation being written to a sheet, or to several."""

    def __init__(self, connection: Connection, sheet: Sheet) -> None:
        """Describe the relation's columns and find out what their cells need."""
        self.sheet = sheet
        self._connection = connection
        described = connection.execute(f"describe (from {sheet.relation})").fetchall()
        self._columns = [
            _column(str(row[0]), str(row[1]), place) for place, row in enumerate(described)
        ]
        self._currency = next((one for one in self._columns if one.name == "currency"), None)
        rows = self._count()
        self.written = Written(
            sheet.name,
            rows,
            {one.name: one.facts["long"] for one in self._columns if one.facts.get("long")},
        )
        self.sheets = max(1, -(-rows // (_SHEET_ROWS - 1)))
        self.is_large = rows * len(self._columns) * 100 > _LARGE

    def _count(self) -> int:
        facts: list[tuple[_Column, str, str]] = [
            (column, name, sql)
            for column in self._columns
            for name, sql in _facts(column, self._currency).items()
        ]
        selected = ", ".join(["count(*)", *(sql for _, _, sql in facts)])
        row = self._connection.execute(f"select {selected} from {self.sheet.relation}").fetchone()
        assert row is not None
        for (column, name, _), value in zip(facts, row[1:], strict=True):
            column.facts[name] = value
        return int(row[0])

    def begin(self, book: xlsxwriter.Workbook, styles: dict[str, Format], number: int) -> None:
        """Add the sheet with its heading, and a row with a cell of every style it uses."""
        name = self.sheet.name
        sheet: Any = book.add_worksheet(
            name if not number else f"{name[: SHEET_NAME - 4]} {number + 1}"
        )
        for place, column in enumerate(self._columns):
            properties = _head(column)
            head = styles.setdefault(repr(properties), book.add_format(properties))
            sheet.write_string(0, place, column.name, head)
            sheet.set_column(place, place, _width(column))
            if column.facts.get("long"):
                sheet.write_comment(
                    0,
                    place,
                    f"{column.facts['long']:,} numbers of this column have more than {EXACT_DIGITS}"
                    " digits. A spreadsheet would round them, so they are text here: exact,"
                    " but left out of sums.",
                )
        self._kinds = [(column, key) for column in self._columns for key in _formats(column)]
        for place, (column, key) in enumerate(self._kinds):
            properties = _properties(column, key)
            style = styles.setdefault(repr(properties), book.add_format(properties))
            sheet.write_blank(1, place, None, style)
        sheet.freeze_panes(1, self.sheet.frozen)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        if self._columns:
            sheet.autofilter(0, 0, self._rows_on(number), len(self._columns) - 1)

    def _rows_on(self, number: int) -> int:
        return min(self.written.rows - number * (_SHEET_ROWS - 1), _SHEET_ROWS - 1)

    def texts(self, frame: str, number: int) -> Iterator[str]:
        """Yield the text of the sheet: the frame's, with the rows in place of the sample row."""
        sample = re.search(r'<row r="2".*?</row>', frame, re.DOTALL)
        assert sample is not None
        used = re.findall(r'<c r="[A-Z]+2"(?: s="([0-9]+)")?', sample.group())
        for (column, key), style in zip(self._kinds, used, strict=True):
            column.formats[key] = style or "0"
        last = f"{self._columns[-1].place}{self._rows_on(number) + 1}"
        before = re.sub(
            r'<dimension ref="[^"]*"/>', f'<dimension ref="A1:{last}"/>', frame[: sample.start()]
        )
        yield before
        yield from self._rows(number)
        yield frame[sample.end() :]

    def _rows(self, number: int) -> Iterator[str]:
        cells = ", ".join(cell(column, self._currency) for column in self._columns)
        names = ", ".join(f"{column.source} as {quote(_alias(column))}" for column in self._columns)
        height = _height([column for column in self._columns if _is_prose(column)])
        begun = 2 - number * (_SHEET_ROWS - 1)  # number of the part's first row on this sheet
        for part in self.sheet.parts or (Part(self.sheet.relation, self.written.rows),):
            if begun <= _SHEET_ROWS and begun + part.rows > 2:
                cursor = self._connection.execute(
                    f"""select concat('<row r="', n, '"', {height}, '>', {cells}, '</row>') from (
                        select {names}, row_number() over () + {begun - 1} as n
                        from {part.relation}
                    ) where n between 2 and {_SHEET_ROWS}"""
                )
                while batch := cursor.fetchmany(_BATCH):
                    yield "".join(row[0] for row in batch)
            begun += part.rows


def _alias(column: _Column) -> str:
    return f"{column.place}_"


def _column(name: str, kind: str, place: int) -> _Column:
    letters = xl_col_to_name(place)
    value = quote(name)
    if kind == "BOOLEAN":
        return _Column(name, "boolean", value, letters)
    if kind == "DATE":
        return _Column(name, "day", value, letters)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return _Column(name, "instant", f"timezone('UTC', {value})", letters)
    if kind.startswith("TIMESTAMP"):
        return _Column(name, "instant", f"cast({value} as timestamp)", letters)
    if kind.startswith("DECIMAL"):
        scale = int(kind[:-1].split(",")[1])
        if scale == 2:
            return _Column(name, "amount", value, letters, scale)
        return _Column(name, "number", value, letters, scale)
    if kind in ("DOUBLE", "FLOAT"):
        return _Column(name, "double", value, letters)
    if re.fullmatch("U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER", kind):
        return _Column(name, "number", value, letters)
    return _Column(name, "text", f"cast({value} as varchar)", letters)


def _facts(column: _Column, currency: _Column | None) -> dict[str, str]:
    """Return SQL for what must be known of a column before its cells can be written."""
    value = column.source
    if column.kind == "text":
        return {
            "length": f"max(case when strlen({value}) = length({value}) then length({value})"
            f" else length(regexp_replace({value}, '{_WIDE}', 'xx', 'g')) end)",
            "is_marked": f"bool_or(regexp_matches({value}, '[&<>]'))",
            "is_formula": f"bool_or({_begins_like_a_formula(value)})",
            "is_spaced": f"bool_or({_needs_its_space(value)})",
            "is_escaped": f"bool_or(contains({value}, '_x'))",
            "is_long": f"bool_or(length({value}) > {_CELL_TEXT})",
            "odd": f"list(distinct regexp_extract_all({value}, '{_ODD}'))"
            f" filter (where regexp_matches({value}, '{_ODD}'))",
        }
    if column.kind in ("number", "amount"):
        facts = {
            "least": f"min({value})",
            "most": f"max({value})",
            "long": f"count(*) filter (where {_is_long(column, value)})",
        }
        if column.kind == "amount" and currency is not None:
            facts["currencies"] = f"list(distinct {currency.source})"
        return facts
    return {}


def _formats(column: _Column) -> list[str]:
    """Return keys of the formats a column's cells may have: `kind` or `kind|number format`."""
    if column.kind == "text":
        return [_TEXT, _QUOTED]
    if column.kind == "boolean":
        return ["boolean"]
    if column.kind == "day":
        return [_DAY, _TEXT]
    if column.kind == "instant":
        return [_INSTANT, _TEXT]
    if column.kind == "double":
        return ["General", _TEXT]
    if column.kind == "number":
        return [number_format(column.name, column.scale, None), _TEXT]
    currencies = column.facts.get("currencies") or [None]
    found = {number_format(column.name, column.scale, code) for code in [None, *currencies]}
    found |= {number_format(column.name, column.scale, code, True) for code in currencies}
    return [*sorted(found), _TEXT]


def _head(column: _Column) -> dict[str, Any]:
    align = _ALIGNED[column.kind]
    indent = {"indent": 1} if align == "left" else {}
    return {"bold": True, "bottom": 1, "valign": "top", "align": align, **indent}


def _is_prose(column: _Column) -> bool:
    """Return whether a column has sentences, which wrap; a long id does not."""
    is_long = column.kind == "text" and int(column.facts["length"] or 0) > _WIDEST
    return is_long and column.name.endswith("description")


def _height(prose: Sequence[_Column]) -> str:
    """Return SQL for the height of a row; LibreOffice does not adjust it, so wrapped lines would overlap."""
    if not prose:
        return "''"
    lines = ", ".join(
        f"ceil(coalesce(length({quote(_alias(column))}), 0) / {_LINE})" for column in prose
    )
    return f"""' ht="' || cast({_LINE_HEIGHT} * greatest(1, {lines}) as integer) || '" customHeight="1"'"""


def _properties(column: _Column, key: str) -> dict[str, Any]:
    """Return the properties of a style; text is indented so it does not touch a number before it."""
    found: dict[str, Any] = {"num_format": key, "valign": "top", "align": _ALIGNED[column.kind]}
    if key == "boolean":
        # LibreOffice shows a boolean as a number unless its format says otherwise; Excel needs no format.
        found["num_format"] = '"TRUE";"TRUE";"FALSE"'
    if key == _QUOTED:
        found |= {"num_format": _TEXT, "quote_prefix": True}
    if found["align"] == "left":
        found["indent"] = 1
    if _is_prose(column):
        found["text_wrap"] = True
    return found


def number_format(column: str, scale: int, currency: str | None, is_whole: bool = False) -> str:
    """Return the number format of a column's cells.

    Args:
        column: The column's name.
        scale: The column's decimal places.
        currency: The currency of the amount, if it has one.
        is_whole: Whether the value has no decimal places, as in a currency without any.
    """
    if column.endswith(("_percent", "percent_off")):
        return _PERCENT
    if not scale:
        return _WHOLE
    number = "#,##0" if is_whole and places(currency) == 0 else f"#,##0.{'0' * scale}"
    code = currency or ""
    if len(code) == 3 and code.isascii() and code.isalpha():
        return f"[${code}] {number}"
    return number


def _width(column: _Column) -> float:
    """Return the width of a column: its widest value, or its heading with the filter button."""
    needed = len(column.name) + 4
    if column.kind == "text":
        needed = max(needed, int(column.facts["length"] or 0) + 3)
    elif column.kind in ("number", "amount"):
        ends = [one for one in (column.facts["least"], column.facts["most"]) if one is not None]
        code = 4 if column.facts.get("currencies") else 0
        needed = max([needed, *(len(f"{Decimal(one):,}") + code + 2 for one in ends)])
    elif column.kind in ("day", "instant"):
        needed = max(needed, 12 if column.kind == "day" else 21)
    return max(_NARROWEST, min(needed, _WIDEST))


def cell(column: _Column, currency: _Column | None) -> str:
    """Return SQL for the text of one cell; null leaves the cell out."""
    value = quote(_alias(column))
    where = f"'<c r=\"{column.place}' || n || '\""
    if column.kind == "boolean":
        style = column.formats["boolean"]
        return f"""{where} s="{style}" t="b"><v>' || cast({value} as tinyint) || '</v></c>'"""
    if column.kind == "text":
        return _text_cell(column, value, where)
    as_text = _plain_text(column, where, f"cast({value} as varchar)")
    if column.kind == "day":
        number = f"date_diff('day', {_EPOCH}, {value})"
        is_exact = f"{value} between {_FIRST_DAY} and {_LAST_DAY}"
        shown = _number_cell(where, column.formats[_DAY], number)
    elif column.kind == "instant":
        number = f"(epoch_us({value}) / 86400000000 + 25569)"
        is_exact = f"{value} >= {_FIRST_DAY} and {value} < {_LAST_DAY}"
        as_text = _plain_text(column, where, f"replace(cast({value} as varchar), ' ', 'T')")
        shown = _number_cell(where, column.formats[_INSTANT], number)
    elif column.kind == "double":
        is_exact = f"isfinite({value})"
        shown = _number_cell(where, column.formats["General"], value)
    else:
        is_exact = f"not ({_is_long(column, value)})"
        shown = f"{where} s=\"' || {_style(column, value, currency)} || '\"><v>' || {value} || '</v></c>'"
        if not column.facts["long"]:
            return shown
    return f"case when {is_exact} then {shown} else {as_text} end"


def _number_cell(where: str, style: str, number: str) -> str:
    return f"""{where} s="{style}"><v>' || {number} || '</v></c>'"""


def _plain_text(column: _Column, where: str, text: str) -> str:
    """Return SQL for a cell whose text needs no escaping."""
    style = column.formats[_TEXT]
    return f"""{where} s="{style}" t="inlineStr"><is><t>' || {text} || '</t></is></c>'"""


def _style(column: _Column, value: str, currency: _Column | None) -> str:
    """Return SQL for the style of a number: that of its currency, if it has one."""
    codes = column.facts.get("currencies") or []
    if column.kind == "number" or currency is None:
        return literal(column.formats[number_format(column.name, column.scale, None)])
    cases = []
    for code in codes:
        of_code = f"{quote(_alias(currency))} is not distinct from {literals([code])}"
        usual = column.formats[number_format(column.name, column.scale, code)]
        whole = column.formats[number_format(column.name, column.scale, code, True)]
        if whole != usual:
            cases.append(f"when {of_code} and {value} = trunc({value}) then '{whole}'")
        cases.append(f"when {of_code} then '{usual}'")
    rest = column.formats[number_format(column.name, column.scale, None)]
    return f"case {' '.join(cases)} else '{rest}' end" if cases else literal(rest)


def _is_long(column: _Column, value: str) -> str:
    """Return SQL for whether a number has more digits than a spreadsheet keeps, not counting outer zeros."""
    digits = f"replace(trim(cast({value} as varchar), '-0.'), '.', '')"
    return (
        f"(abs({value}) >= 1e{EXACT_DIGITS - column.scale} and length({digits}) > {EXACT_DIGITS})"
    )


def _begins_like_a_formula(value: str) -> str:
    return f"substr({value}, 1, 1) in ({literals(FORMULA_SIGNS)})"


def _needs_its_space(value: str) -> str:
    return f"regexp_matches({value}, '^\\s|\\s$|[\\t\\n]|  ')"


def _text_cell(column: _Column, value: str, where: str) -> str:
    facts = column.facts
    text, style = value, f"'{column.formats[_TEXT]}'"
    if facts["is_formula"]:
        style = (
            f"case when {_begins_like_a_formula(value)} then '{column.formats[_QUOTED]}'"
            f" else {style} end"
        )
    if facts["is_long"]:
        text = (
            f"case when length({text}) > {_CELL_TEXT}"
            f" then left({text}, {_CELL_TEXT - 1}) || '…' else {text} end"
        )
    if facts["is_escaped"]:
        text = rf"regexp_replace({text}, '_(x[0-9A-Fa-f]{{4}}_)', '_x005F_\1', 'g')"
    for sign in sorted({sign for found in facts["odd"] or () for sign in found}):
        if sign not in "\t\n":
            shown = literal(clean(sign))
            text = f"replace({text}, chr({ord(sign)}), {shown})"
    if facts["is_marked"]:
        for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = f"replace({text}, '{sign}', '{entity}')"
    space = ""
    if facts["is_spaced"]:
        space = f"' || if({_needs_its_space(value)}, ' xml:space=\"preserve\"', '') || '"
    return f"{where} s=\"' || {style} || '\" t=\"inlineStr\"><is><t{space}>' || {text} || '</t></is></c>'"


class Page:
    """A sheet of lines and small tables, written from the top down."""

    def __init__(self, book: xlsxwriter.Workbook, name: str) -> None:
        """Add the sheet to a workbook."""
        self._book = book
        self._sheet: Any = book.add_worksheet(name)
        self._row = 0
        self._widths: dict[int, int] = {}
        self._formats: dict[str, Format] = {}

    def title(self, text: str) -> None:
        """Write the title of the page."""
        self._put(0, text, {"bold": True, "font_size": 14})
        self._row += 1

    def heading(self, text: str) -> None:
        """Write the title of the next part, after an empty line."""
        self._row += 1
        self._put(0, text, {"bold": True, "bottom": 1})
        self._row += 1

    def line(self, label: str, value: object) -> None:
        """Write a value after its label."""
        self._put(0, label, {})
        broad = self._widths.get(1, 0)
        self._cell(1, "", value, None)
        self._widths[1] = broad  # nothing follows it, so it may be longer than its column
        self._row += 1

    def note(self, text: str) -> None:
        """Write a sentence, across the columns."""
        self._sheet.write_string(self._row, 0, _storable(text), self._format({"italic": True}))
        self._row += 1

    def link(self, sheet: str, rows: int) -> None:
        """Write a line that links to a sheet."""
        where = f"internal:'{sheet}'!A1"
        self._sheet.write_url(self._row, 0, where, string=sheet)
        self._widths[0] = max(self._widths.get(0, 0), len(sheet))
        self._cell(1, "rows", rows, None)
        self._row += 1

    def block(self, title: str, columns: Sequence[str], found: Iterable[Mapping[str, Any]]) -> None:
        """Write a small table under its title; amounts are those of the row's currency."""
        found = list(found)
        self.heading(title)
        for place, name in enumerate(columns):
            is_number = any(isinstance(row[name], Decimal | int) for row in found)
            shown = name.removesuffix("_amount").replace("_", " ")
            self._put(place, shown, {"align": "right" if is_number else "left", "italic": True})
        self._row += bool(columns)
        for row in found:
            for place, name in enumerate(columns):
                self._cell(place, name, row[name], row.get("currency"))
            self._row += 1

    def end(self) -> None:
        """Set the widths, and make this the sheet that is shown first."""
        for place, width in self._widths.items():
            self._sheet.set_column(place, place, max(_NARROWEST, min(width + 2, _WIDEST)))
        self._sheet.hide_gridlines(2)
        self._sheet.fit_to_pages(1, 0)
        self._sheet.activate()

    def _put(self, place: int, text: str, properties: Mapping[str, Any]) -> None:
        stored = _storable(text)
        self._sheet.write_string(self._row, place, stored, self._format(properties))
        self._widths[place] = max(self._widths.get(place, 0), len(stored))

    def _cell(self, place: int, name: str, value: object, currency: str | None) -> None:
        if value is None:
            return
        if isinstance(value, Decimal | int) and not isinstance(value, bool):
            text = f"{Decimal(value):f}"
            if len(text.strip("-0.").replace(".", "")) <= EXACT_DIGITS:
                scale = 2 if isinstance(value, Decimal) else 0
                whole = value == int(value)
                key = number_format(name, scale, currency, is_whole=whole)
                self._sheet.write_number(self._row, place, value, self._format({"num_format": key}))
                self._widths[place] = max(self._widths.get(place, 0), len(f"{value:,}") + 6)
                return
            self._put(place, text, {"num_format": _TEXT, "align": "right"})
        elif isinstance(value, datetime):
            self._sheet.write_datetime(
                self._row, place, value, self._format({"num_format": _INSTANT, "align": "left"})
            )
        elif isinstance(value, date):
            self._sheet.write_datetime(
                self._row, place, value, self._format({"num_format": _DAY, "align": "left"})
            )
        else:
            self._put(place, str(value), {"num_format": _TEXT})

    def _format(self, properties: Mapping[str, Any]) -> Format:
        key = repr(sorted(properties.items()))
        if key not in self._formats:
            self._formats[key] = self._book.add_format(dict(properties))
        return self._formats[key]


def _storable(text: str) -> str:
    """Return text that a workbook can hold: control characters escaped, cut to a cell's length."""
    safe = "".join(sign if sign.isprintable() or sign in "\t\n" else clean(sign) for sign in text)
    return safe if len(safe) <= _CELL_TEXT else safe[: _CELL_TEXT - 1] + "…"
