"""Whatever is done to deliveries while they arrive, every record is accounted for and the next run is healthy.

Deliveries, manifests, folders and names are changed at random, with arrivals in between, some of which are
killed. A seed identifies a history. `make mutations HISTORIES=2000` runs many; by default there are a few.
`MUTATED_HISTORIES=2000 pytest tests/pipeline/test_arrival_mutations.py -k 1234` runs one again.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_project.arrival import rebuild, warehouse
from dagster_project.arrival.archive import Archive
from tests.pipeline.test_arrival import (
    INVOICE,
    WORKSPACE,
    Home,
    Killed,
    csv_bytes,
    invoice,
    invoices_table,
    jsonl_bytes,
    parquet_bytes,
    typed_invoices,
)

HISTORIES = int(os.environ.get("MUTATED_HISTORIES", "6"))
STEPS = 14
PIECES = [
    b'"',
    b'\\"',
    b"\\N",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"{",
    b"]",
    b"NULL",
    b"1e999",
    b"\xe2\x80",
]
NAMES = ["a.csv", "b.CSV.gz", "c.jsonl", "d.json", "e.parquet", "f.ndjson.gz", "g.xlsx", "h", "'; drop.csv", "é\n.csv"]  # fmt: skip
FOLDERS = ["", "", "export/", "export/currency=EUR/", "x/y/", "_temporary/", "n" * 200 + "/"]


def content(chance: random.Random) -> bytes:
    """A valid file of one of the formats, often of another one than its name says."""
    rows = [invoice(chance.randrange(50)) for _ in range(chance.randrange(1, 40))]
    array = b"[" + jsonl_bytes(rows).strip().replace(b"\n", b",") + b"]"
    found: bytes = chance.choice(
        [
            csv_bytes(rows),
            csv_bytes(rows, "\r\n").replace(b"team", b'"te,""am"'),
            jsonl_bytes(rows),
            array,
            parquet_bytes(invoices_table()),
            parquet_bytes(typed_invoices("UTC")),
            csv_bytes([WORKSPACE]),
            csv_bytes([{name: text for name, text in INVOICE.items() if name != "currency"}]),
        ]
    )
    return gzip.compress(found) if chance.random() < 0.2 else found


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same bytes with some changed, added, lost or doubled."""
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.randrange(60))
        data = chance.choice(
            [
                data[:at] + chance.choice(PIECES) + data[at:],
                data[:at] + data[to:],
                data[:to] + data[at:],
                data[:at],
                data[:at] + chance.randbytes(3) + data[to:],
            ]
        )
    return data


def write(path: Path, data: bytes) -> None:
    """Write a file, but not into a FIFO, which would wait for a reader, and not through a link.

    Raises:
        OSError: A FIFO, a link or a folder is in the way.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags), "wb") as file:
        file.write(data)


def change(landing: Path, chance: random.Random) -> None:
    """Do one thing to the landing folder."""
    feed = landing / chance.choice(["invoices", "invoices", "workspaces", "coupons", "other"])
    path = feed / (chance.choice(FOLDERS) + chance.choice(NAMES))
    beside = path.with_name(path.name + ".manifest.json")
    kind = chance.randrange(10)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind < 5:
            write(path, mutated(content(chance), chance))
        elif kind == 5:
            texts = [b'{"rows": 1}', b'{"rows": 1e99999999999999999999}', b"[" * 5000, b"", b"\xff"]
            write(beside, mutated(chance.choice(texts), chance))
        elif kind == 6:
            place = chance.choice([beside, path])
            chance.choice([os.mkdir, os.mkfifo])(place)
        elif kind == 7:
            path.symlink_to(chance.choice(["/etc/hosts", "nothing", path.name, "a.csv"]))
        elif kind == 8:
            write(path.parent / chance.choice(["_SUCCESS", ".hidden.csv", "x.crc"]), b"")
        elif feed.exists():
            victim = chance.choice(sorted(feed.rglob("*")) or [feed])
            shutil.rmtree(
                victim
            ) if victim.is_dir() and not victim.is_symlink() else victim.unlink()
    except OSError:
        return  # something is in the way, as it may be for a supplier


def arrive_killed(home: Home, point: int) -> None:
    """Let a run die at a step that writes."""
    steps = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > point:
                raise Killed
            return function(*arguments, **options)

        return step

    with pytest.MonkeyPatch.context() as patched:
        for name in ("load_rows", "write_deliveries", "notes_of"):
            patched.setattr(warehouse, name, counting(getattr(warehouse, name)))
        for name in ("store", "write_record"):
            patched.setattr(Archive, name, counting(getattr(Archive, name)))
        patched.setattr(os, "replace", counting(os.replace))
        try:
            home.arrive(settle_seconds=0)
        except Killed:
            return


def unaccounted(home: Home) -> list[tuple[Any, ...]]:
    """Loaded deliveries whose records are not all either loaded or set apart."""
    return home.rows(
        "with loaded as (select delivery_sequence from raw.invoices union all select"
        " delivery_sequence from raw.workspaces union all select delivery_sequence from raw.coupons"
        " union all select delivery_sequence from raw.malformed_rows), counted as (select"
        " delivery_sequence, count(*) as found from loaded group by all) select file_name,"
        " physical_rows, found from raw.deliveries left join counted using (delivery_sequence)"
        " where physical_rows <> coalesce(found, 0) and verdict = 'loaded'"
        " or found > 0 and verdict <> 'loaded'"
    )


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_arrives_is_accounted_for_and_the_next_run_is_healthy(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    home = Home(tmp_path)
    for _ in range(STEPS):
        change(home.landing, chance)
        if chance.random() < 0.3:
            arrive_killed(home, chance.randrange(12))
        elif chance.random() < 0.3:
            home.arrive(settle_seconds=0)
    home.arrive(settle_seconds=0)
    assert unaccounted(home) == []
    home.land(f"invoices/good-{seed}.csv", csv_bytes([invoice(1_000)]))
    reports = home.arrive(settle_seconds=0)
    assert [
        report.verdict for report in reports if report.file_name == f"invoices/good-{seed}.csv"
    ] == ["loaded"]
    assert {report.verdict for report in reports} <= {"loaded", "known", "refused"}
    before = home.everything()
    assert not any("unexpected error" in str(report.reason) for report in reports)
    rebuild(home.path)
    assert home.everything() == before
