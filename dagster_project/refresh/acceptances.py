"""The reviewed file of accepted findings: read, checked, and loaded into the warehouse for dbt.

A person has looked into a finding and accepts it, for a reason and until a day. The models decide what
that means for the finding.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

TABLE = "accepted_findings"
COLUMNS = ("finding_id", "reason", "approved_by", "until")


class AcceptancesUnreadable(Exception):
    """The reviewed file is not what it should be; the message says where and what to do."""


@dataclass(frozen=True)
class Acceptance:
    """One entry of the reviewed file.

    Attributes:
        finding_id: The finding, as `fct_audit_findings` names it.
        reason: Why it is accepted.
        approved_by: Who accepts it.
        until: The last day of the acceptance.
    """

    finding_id: str
    reason: str
    approved_by: str
    until: date


def read(path: Path) -> list[Acceptance]:
    """Return the entries of a reviewed file; none where the file does not exist.

    Args:
        path: A CSV file with the columns finding_id, reason, approved_by, until (YYYY-MM-DD).

    Raises:
        AcceptancesUnreadable: The file cannot be read, a column or value is missing, a day is not a date,
            or a finding occurs twice.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise AcceptancesUnreadable(
                    f"{path}: the header lacks {', '.join(missing)}; it must be {','.join(COLUMNS)}."
                )
            entries: dict[str, Acceptance] = {}
            for row in reader:
                entry = _entry(path, reader.line_num, row)
                if entry.finding_id in entries:
                    raise AcceptancesUnreadable(
                        f"{path}, line {reader.line_num}: finding_id {entry.finding_id!r} occurs"
                        " twice; keep one entry."
                    )
                entries[entry.finding_id] = entry
    except (UnicodeDecodeError, csv.Error) as error:
        raise AcceptancesUnreadable(f"{path} is not a CSV file in UTF-8: {error}.") from error
    except OSError as error:
        raise AcceptancesUnreadable(f"{path} cannot be read: {error.strerror}.") from error
    return list(entries.values())


def _entry(path: Path, line: int, row: dict[str, str]) -> Acceptance:
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    for name, value in values.items():
        if not value:
            raise AcceptancesUnreadable(f"{path}, line {line}: {name} is empty; fill it in.")
    try:
        until = date.fromisoformat(values["until"])
    except ValueError:
        raise AcceptancesUnreadable(
            f"{path}, line {line}: until is {values['until']!r}; write the day as YYYY-MM-DD."
        ) from None
    return Acceptance(values["finding_id"], values["reason"], values["approved_by"], until)


def load(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Replace the accepted findings in the warehouse with the file's entries.

    Args:
        connection: The warehouse, open for writing.
        path: The reviewed file; it need not exist.

    Raises:
        AcceptancesUnreadable: As `read`; the warehouse is unchanged.
    """
    entries = read(path)
    connection.execute("create schema if not exists raw")
    connection.execute("begin")
    connection.execute(
        f"create or replace table raw.{TABLE} (finding_id varchar, reason varchar,"
        " approved_by varchar, until varchar)"
    )
    for entry in entries:
        connection.execute(
            f"insert into raw.{TABLE} values (?, ?, ?, ?)",
            [entry.finding_id, entry.reason, entry.approved_by, entry.until.isoformat()],
        )
    connection.execute("commit")
