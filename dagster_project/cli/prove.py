"""`prove`: a folder with everything that an invoice, a redemption or a total rests on, for an auditor."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.answers import words
from dagster_project.answers.as_csv import write_csv
from dagster_project.answers.values import amount, clean, count, day, moment, money, month
from dagster_project.cli import layout
from dagster_project.cli.explain import tell as tell_explained
from dagster_project.cli.explain import tell_not_counted, tell_standing
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    ReleaseOption,
    complain,
    explained,
    settings_of_home,
    wrong,
)
from dagster_project.cli.reading import as_argument, opened
from dagster_project.cli.releases import tell_sound

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection, Row


def prove(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="ID | MART MONTH COLUMN",
            help="An invoice or a redemption (invoice:ID or redemption:ID where one id is both); or a"
            " mart, a month as YYYY-MM and an amount column.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must be empty.")
    ],
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Write what a bill, a redemption or a total rests on.

    Rows as delivered, steps of the calculation, fingerprints.
    """
    from dagster_project.answers import proof
    from dagster_project.answers import releases as verified
    from dagster_project.releases.files import is_what_if
    from dagster_project.releases.questions import is_of_question

    if len(what) not in (1, 3):
        wrong("Give an invoice, a redemption, or a mart with its month and column.")
    if release is not None and is_what_if(release):
        wrong("A what-if is an assumption and proves nothing; name a release with --release ID.")
    with explained():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            wrong(f"{out} is not an empty folder; name another one with --out.")
    settings = settings_of_home(home)
    if is_of_question(settings.home):
        recorded = settings.home.resolve().parents[1]
        wrong(f"A what-if is an assumption and proves nothing; name {recorded} with --home.")
    with opened(home, release) as connection:
        data = proof.of_total(connection, *what) if len(what) == 3 else _of(connection, what[0])
        data["release"] = proof.release_facts(connection)
        names = proof.files(connection)
    with explained():
        data["verification"] = verified.verify(settings.home, data["release"]["release_id"])
    written = ["proof.txt", "proof.json"]
    if data["kind"] == "total":
        listed = data.pop("listed")
        tables = {"rows.csv": listed}
    else:
        data["raw_rows"] = _raw_rows(settings.home, data.pop("rows"), names)
        tables = {"raw_rows.csv": [_flat(row) for row in data["raw_rows"]]}
        if data["coupon_versions"]:
            tables["coupon_versions.csv"] = data["coupon_versions"]
    with explained():
        out.mkdir(parents=True, exist_ok=True)
        for name, found in tables.items():
            _write_csv(out / name, found)
        (out / "proof.txt").write_text(tell(data) + "\n", "utf-8")
        from dagster_project.answers.as_json import as_json

        (out / "proof.json").write_text(as_json(data), "utf-8")
    written += tables
    if json:
        print(as_json({"folder": str(out), "files": written}))
    else:
        print(f"{out}: {', '.join(written)}")
    if data["verification"]["problems"]:
        complain(
            "The release is damaged; this proves nothing. `coupon-ledger verify` shows what is wrong."
        )
        raise typer.Exit(1)


def _of(connection: Connection, wanted: str) -> Row:
    """Return the proof of an invoice or a redemption.

    Raises:
        NotThere: It is neither.
        Exit: It may be either (2).
    """
    from dagster_project.answers import asking, proof

    found = asking.record(connection, wanted)
    if len(found) > 1:
        wrong(
            f"{wanted!r} is an invoice and a redemption; ask for"
            f" {as_argument(f'invoice:{wanted}')} or {as_argument(f'redemption:{wanted}')}."
        )
    ((kind, record_id),) = found
    prove_it = proof.of_invoice if kind == "invoice" else proof.of_redemption
    return prove_it(connection, record_id)


def _raw_rows(home: Path, places: Sequence[Row], names: Mapping[str, Row]) -> list[Row]:
    """Return each row as delivered, read from the archived file, with the file and its sha256.

    Raises:
        Exit: The archive lacks what the release was made from (1).
    """
    from dagster_project.arrival.archive import Archive
    from dagster_project.arrival.delivered import rows_delivered
    from dagster_project.arrival.report import ArrivalError

    archive = Archive(home / "archive", home / "build" / "tmp")
    by_delivery: dict[str, set[int]] = {}
    for place in places:
        by_delivery.setdefault(place["delivery_id"], set()).add(place["row_number"])
    contents: dict[tuple[str, int], Mapping[str, Any]] = {}
    for delivery_id, numbers in by_delivery.items():
        with tempfile.TemporaryDirectory() as work:
            try:
                found = rows_delivered(archive, delivery_id, numbers, Path(work))
            except ArrivalError as error:
                complain(str(error))
                raise typer.Exit(1) from None
        missing = numbers - found.keys()
        if missing:
            file = names[delivery_id]["file_name"]
            complain(f"{file} has no row {min(missing)}; restore the archive from a backup.")
            raise typer.Exit(1)
        contents |= {(delivery_id, number): row for number, row in found.items()}
    return [
        {
            **place,
            "file_name": names[place["delivery_id"]]["file_name"],
            "sha256": names[place["delivery_id"]]["sha256"],
            "arrived_at": names[place["delivery_id"]]["arrived_at"],
            "row_as_delivered": contents[place["delivery_id"], place["row_number"]],
        }
        for place in places
    ]


def _flat(row: Row) -> Row:
    return {**row, "row_as_delivered": json.dumps(row["row_as_delivered"], ensure_ascii=False)}


def _write_csv(path: Path, found: Sequence[Row]) -> None:
    names = list(found[0]) if found else []
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, names, [list(row.values()) for row in found])


def tell(data: Row) -> str:
    """Lay out the proof as text: the number and its steps, the rows as delivered, the release."""
    if data["kind"] == "total":
        lines = _tell_total(data)
    elif data["kind"] == "redemption":
        lines = _tell_redemption(data)
    else:
        tell_one = tell_explained if data["is_counted"] else tell_not_counted
        lines = tell_one(data).split("\n")
    if data["kind"] != "total":
        lines += ["", "Coupon versions"]
        lines += [
            line
            for row in data["coupon_versions"]
            for line in layout.wrap(
                f"{row['coupon_id']}, version {row['version_number']} of {day(row['updated_at'])}"
                f"{', current' if row['is_current'] else ''}: {words.offer(row)}"
                f" ({row['file_name']}, row {row['delivery_row']})",
                "  ",
                "    ",
            )
        ] or ["  none"]
        lines += ["", "Rows as delivered, without personal data"]
        for row in data["raw_rows"]:
            lines += layout.wrap(
                f"{row['feed']} {row['record_id']}, {row['version']}: {row['file_name']}, row"
                f" {row['row_number']}, arrived {moment(row['arrived_at'])}",
                "  ",
                "    ",
            )
            lines.append(f"    sha256 {row['sha256']}")
            lines += layout.wrap(
                ", ".join(f"{name}={value}" for name, value in row["row_as_delivered"].items()),
                "    ",
                "      ",
            )
    release = data["release"]
    lines += [
        "",
        "The release",
        f"  {release['release_id']}, as of {release['as_of_date']}, made"
        f" {moment(release['created_at'])}",
        f"  content {release['content_hash']}",
        f"  calculated by {clean(release['code_version'])}",
        *layout.table(
            ["table", ">rows", "fingerprint"],
            [
                [
                    f"{row['table_schema']}.{row['table_name']}",
                    f"{row['row_count']:,}",
                    row["fingerprint"],
                ]
                for row in release["tables"]
            ],
        ),
        "",
        "Verification",
        *_verified(data["verification"]),
    ]
    return "\n".join(lines)


def _verified(found: Row) -> list[str]:
    if found["is_sound"]:
        return layout.wrap(tell_sound(found), "  ")
    return [
        *layout.wrap(f"Release {found['release_id']} is damaged; this proves nothing.", "  "),
        *(line for problem in found["problems"] for line in layout.wrap(problem, "  ", "    ")),
    ]


def _tell_total(data: Row) -> list[str]:
    lines = layout.heading(f"{data['mart']}.{data['column']} of {month(data['month'])}", data)
    lines += layout.table(
        ["currency", ">rows", ">total", ">sum of rows.csv"],
        [
            [
                row["currency"] or "none",
                f"{row['rows']:,}",
                amount(row["total"], row["currency"]),
                amount(data["listed_totals"].get(row["currency"]), row["currency"]),
            ]
            for row in data["totals"]
        ],
    )
    return [*lines, "  rows.csv lists each row; amounts of different currencies are never added."]


def _tell_redemption(data: Row) -> list[str]:
    redemption = data["redemption"]
    code = redemption["currency"]
    lines = layout.heading(f"Redemption {redemption['redemption_id']}", data)
    lines += tell_standing(data["standing"])
    if redemption["is_derived"]:
        lines += layout.wrap(
            f"Derived: it follows {data['derived_from']}, which expired; no row has it (R4)"
        )
    lines += layout.wrap(
        f"Coupon {redemption['coupon_id']} on workspace {redemption['workspace_id']}, redeemed"
        f" {moment(redemption['redeemed_at'])}, {redemption['status']}"
    )
    span = f"from {moment(redemption['started_at'])}"
    span += f" to {moment(redemption['ends_at'])}" if redemption["ends_at"] else ", no end"
    if redemption["is_honoured"]:
        lines += layout.wrap(f"In force {span}")
    else:
        lines += layout.wrap(f"Refused: {redemption['refusal']} (R2)")
        lines += layout.wrap(f"By its own dates it would be in force {span}")
    if data["discounts"]:
        lines += ["", "Discounts, bill by bill (R6)"]
        lines += layout.table(
            ["issued", "invoice", ">of", ">taken off", ">leaves"],
            [
                [
                    day(row["issued_at"]),
                    row["invoice_id"],
                    amount(row["base_amount"], row["currency"]),
                    money(row["discount_amount"], row["currency"]),
                    amount(row["remaining_amount"], row["currency"]),
                ]
                for row in data["discounts"]
            ],
        )
    if data["credit_entries"]:
        lines += ["", "Credit, entry by entry (R7)"]
        lines += layout.table(
            ["day", "entry", "invoice", ">amount", ">balance"],
            [
                [
                    day(row["effective_at"]),
                    f"{row['entry_type']} {row['grant_id']}",
                    row["invoice_id"] or "",
                    amount(row["amount"], row["currency"]),
                    amount(row["balance_amount"], row["currency"]),
                ]
                for row in data["credit_entries"]
            ],
        )
    lines += layout.wrap(
        f"To date: {count(redemption['invoices_discounted'] or 0, 'bill')} discounted, discount"
        f" {money(redemption['discount_to_date_amount'], code)}, credit"
        f" {money(redemption['credit_to_date_amount'], code)}"
    )
    return lines
