"""In whatever order files come, come again, correct, void and are rebuilt, the marts end the same.

A state machine delivers real files to a landing folder. Its own idea of what is current is a
dictionary; the marts built from the warehouse must equal the reference model on that dictionary.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import duckdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dagster_project.arrival import arrive, rebuild
from dagster_project.feeds import feeds
from dagster_project.refresh import acceptances
from tests.dbt.compiled import CompiledModels
from tests.reference import histories, model
from tests.reference.agreement import KEYS, differences

Record = dict[str, object]

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_VERSION = datetime(2025, 7, 1)


@pytest.fixture(scope="module", autouse=True)
def _models(compiled_folder: Path) -> None:
    """Put the models for the histories' as-of date where Hypothesis's own class finds them."""
    Deliveries.models = CompiledModels(compiled_folder, histories.AS_OF)


class Deliveries(RuleBasedStateMachine):
    """Deliveries to a landing folder, and what must result from them."""

    models: ClassVar[CompiledModels]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="deliveries-"))
        self.landing, self.home = self.folder / "landing", self.folder / "home"
        self.known: dict[str, list[Record]] = {}
        self.current: dict[str, dict[str, Record]] = {feed: {} for feed in feeds()}
        self.coupons: list[Record] = []  # every version, in the order of arrival
        self.files: list[Path] = []
        self.delivered: set[tuple[str, bytes]] = set()
        self.clock = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @initialize(worlds=st.lists(histories.workspace_histories(), min_size=1, max_size=4))
    def records_exist(self, worlds: list[histories.Records]) -> None:
        self.known = {feed: list(rows) for feed, rows in histories.combine(worlds).items()}
        # Nothing is delivered yet, but a warehouse is there from the first run on.
        for feed in feeds():
            (self.landing / feed).mkdir(parents=True)
        self.arrives()

    def arrives(self) -> None:
        self.clock += 1
        now = BEGAN + timedelta(minutes=self.clock)
        reports = arrive(self.landing, self.home, f"run-{self.clock}", now, with_gate=False)
        assert all(report.verdict in ("loaded", "known") for report in reports), reports

    def deliver(self, feed: str, records: list[Record], form: str) -> None:
        rows = histories.as_deliveries({feed: records})[feed]
        path = self.landing / feed / f"{len(self.files):04d}.{form}"
        with path.open("w", encoding="utf-8", newline="") as file:
            if form == "csv":
                writer = csv.DictWriter(file, fieldnames=feeds()[feed].column_names)
                writer.writeheader()
                writer.writerows(rows)
            else:
                for row in rows:
                    file.write(json.dumps({k: v or None for k, v in row.items()}) + "\n")
        os.utime(path, (1_700_000_000 + self.clock, 1_700_000_000 + self.clock))
        self.files.append(path)
        if (feed, path.read_bytes()) in self.delivered:  # the same bytes again change nothing
            self.arrives()
            return
        self.delivered.add((feed, path.read_bytes()))
        if feed == "coupons":
            self.coupons += records
        key_names = [column.name for column in feeds()[feed].columns if column.key]
        for record in records:
            key = "\n".join(str(record[name]) for name in key_names)
            held = self.current[feed].get(key)
            if held is None or held["updated_at"] <= record["updated_at"]:  # type: ignore[operator]
                self.current[feed][key] = record
        self.arrives()

    @rule(
        feed=st.sampled_from(histories.FEEDS),
        share=st.integers(1, 3),
        offset=st.integers(0, 2),
        version=st.integers(-2, 4),
        form=st.sampled_from(["csv", "jsonl"]),
    )
    def records_are_delivered(
        self, feed: str, share: int, offset: int, version: int, form: str
    ) -> None:
        records = [
            {**record, "updated_at": FIRST_VERSION + timedelta(days=version)}
            for record in self.known[feed][offset % share :: share]
        ]
        if records:
            self.deliver(feed, records, form)

    @rule(version=st.integers(-1, 6), status=st.sampled_from(["void", "paid", "draft"]))
    def invoices_are_restated(self, version: int, status: str) -> None:
        records = [
            {**record, "status": status, "updated_at": FIRST_VERSION + timedelta(days=version)}
            for record in self.known["invoices"][::4]
        ]
        if records:
            self.deliver("invoices", records, "csv")

    @rule(version=st.integers(-1, 6))
    def redemptions_are_revoked(self, version: int) -> None:
        records = [
            {
                **record,
                "revoked_at": record["redeemed_at"],
                "updated_at": FIRST_VERSION + timedelta(days=version),
            }
            for record in self.known["redemptions"][::3]
        ]
        if records:
            self.deliver("redemptions", records, "jsonl")

    @precondition(lambda self: self.files)
    @rule(which=st.integers(0, 30))
    def a_file_comes_again_under_another_name(self, which: int) -> None:
        path = self.files[which % len(self.files)]
        shutil.copyfile(path, path.with_name(f"again-{self.clock}{path.suffix}"))
        self.arrives()

    @precondition(lambda self: self.files)
    @rule()
    def a_run_finds_nothing_new(self) -> None:
        self.arrives()

    @precondition(lambda self: self.files)
    @rule()
    def the_warehouse_is_rebuilt(self) -> None:
        rebuild(self.home)

    @precondition(lambda self: self.files)
    @rule()
    def the_warehouse_is_lost(self) -> None:
        (self.home / "build" / "warehouse.duckdb").unlink()
        self.arrives()

    @precondition(lambda self: self.files)
    @rule()
    def the_marts_are_built(self) -> None:
        models = self.models
        records = {feed: list(current.values()) for feed, current in self.current.items()}
        expected = model.publish(records | {"coupons": self.coupons}, models.as_of)
        warehouse = self.home / "build" / "warehouse.duckdb"
        with duckdb.connect(str(warehouse)) as connection:
            for schema in ("marts", "intermediate", "staging"):
                connection.execute(f"drop schema if exists {schema} cascade")
            acceptances.load(connection, self.home / "accepted_findings.csv")
            models.build(connection)
            unaccounted = connection.execute(
                "select * from intermediate.int_deliveries_reconciled where physical_rows <>"
                " accepted_rows + superseded_rows + duplicate_rows + rejected_rows"
            ).fetchall()
            found = {
                name: connection.execute(f"select * from marts.{name}").to_arrow_table().to_pylist()
                for name in KEYS
            }
        assert unaccounted == []
        for name in KEYS:
            assert differences(name, found[name], expected[name]) == []


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    max_examples=9,
    stateful_step_count=14,
)
