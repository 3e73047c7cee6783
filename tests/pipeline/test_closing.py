"""Month close: what was certified is kept, and what changes afterwards is listed."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project import releases
from dagster_project.answers.closes import moves
from dagster_project.answers.closes import restatements as listed
from dagster_project.answers.findings import reviewed
from dagster_project.cli import app
from dagster_project.cli.close import tell_restated
from dagster_project.refresh import dbt_build
from dagster_project.releases import candidate, files, restatements
from dagster_project.releases.closing import open_errors, pack_of
from dagster_project.settings import Settings
from tests.pipeline.conftest import AS_OF, NOW, HandMade

MARCH = date(2026, 3, 1)
LATER = NOW + timedelta(days=10)
CHARGES = [("in_1", "USD", "120.00"), ("in_2", "EUR", "80.50")]


def restated(home: Path, columns: str = "record_key, column_name, currency") -> list[Any]:
    """What the release served lists as changed."""
    with releases.open_release(home) as connection:
        return connection.execute(
            f"select {columns}, closed_amount, current_amount, delta_amount"
            " from marts.fct_restatements where column_name = 'list_amount' order by all"
        ).fetchall()


@pytest.fixture
def closed(hand_made: HandMade) -> HandMade:
    """A home with one release, which closes March."""
    hand_made.publish()
    releases.close(hand_made.home, MARCH, by="Ada", now=NOW)
    return hand_made


def place(
    hand_made: HandMade, invoice_id: str, workspace: str, plan: str, subscription: str | None
) -> None:
    """Set the workspace, plan and subscription of a charge in the build."""
    with duckdb.connect(str(hand_made.candidate)) as connection:
        for name in ("workspace_id", "plan", "subscription_id"):
            connection.execute(
                f"alter table marts.fct_discounted_charges add column if not exists {name} varchar"
            )
        connection.execute(
            "update marts.fct_discounted_charges set workspace_id = ?, plan = ?,"
            " subscription_id = ? where invoice_id = ?",
            [workspace, plan, subscription, invoice_id],
        )


def with_findings(hand_made: HandMade, *findings: tuple[str, str, str, str | None, str]) -> None:
    """Put findings into the build: id, severity, review status, invoice and day."""
    hand_made.marts["fct_audit_findings"] = ("finding_id",)
    hand_made.statuses["model.p.fct_audit_findings"] = "success"
    hand_made.write_results()
    with duckdb.connect(str(hand_made.candidate)) as connection:
        connection.execute(
            "create or replace table marts.fct_audit_findings (finding_id varchar,"
            " severity varchar, review_status varchar, invoice_id varchar, occurred_at timestamp)"
        )
        connection.executemany(
            "insert into marts.fct_audit_findings values (?, ?, ?, ?, ?)", findings
        )


def _take_from_history(home: Path) -> None:
    """Remove the closes from the history."""
    path = files.history_path(home)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"register"' not in line), "utf-8")


class TestRegister:
    """Who closed what with which release is recorded in a register that only grows."""

    def test_a_close_is_recorded_with_its_fingerprints(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        closing = releases.close(hand_made.home, MARCH, by="Ada", now=NOW)
        (line,) = files.closes_path(hand_made.home).read_text("utf-8").splitlines()
        written = json.loads(line)
        assert (written["event"], written["month"], written["by"]) == ("closed", "2026-03", "Ada")
        assert written["release_id"] == published.release_id
        assert datetime.fromisoformat(written["at"]) == NOW
        with releases.open_release(hand_made.home) as connection:
            rows = connection.execute(
                "select table_schema || '.' || table_name, row_count, fingerprint"
                " from release.tables"
            ).fetchall()
        assert written["fingerprints"] == {name: [count, found] for name, count, found in rows}
        assert releases.closed_months(hand_made.home) == {MARCH: closing}

    def test_a_reopening_is_recorded_and_the_month_can_be_closed_again(
        self, closed: HandMade
    ) -> None:
        home = closed.home
        releases.reopen(home, MARCH, by="Bob", now=LATER, reason="a late credit note")
        assert releases.closed_months(home) == {}
        releases.close(home, MARCH, by="Ada", now=LATER)
        entries = releases.register(home)
        assert [(entry.event, entry.by) for entry in entries] == [
            ("closed", "Ada"),
            ("reopened", "Bob"),
            ("closed", "Ada"),
        ]
        assert entries[1].reason == "a late credit note"

    def test_what_makes_no_sense_is_refused(self, closed: HandMade) -> None:
        home = closed.home
        wrong: list[tuple[Callable[[], object], str]] = [
            (lambda: releases.close(home, MARCH, by="Bob", now=LATER), "was closed .* by Ada"),
            (lambda: releases.close(home, date(2026, 4, 1), by="A", now=NOW), "before the end of"),
            (lambda: releases.close(home, date(2026, 2, 1), by=" ", now=NOW), "--by NAME"),
            (
                lambda: releases.reopen(home, date(2026, 2, 1), by="A", now=NOW, reason="r"),
                "2026-02 is not closed; closed months: 2026-03",
            ),
            (lambda: releases.reopen(home, MARCH, by="A", now=NOW, reason=""), "--reason"),
            (
                lambda: releases.close(home, MARCH, by="A", now=NOW, release_id="2031"),
                "no release",
            ),
        ]
        for call, said in wrong:
            with pytest.raises(releases.ReleaseError, match=said):
                call()
        assert len(releases.register(home)) == 1

    def test_a_damaged_release_closes_nothing(self, hand_made: HandMade) -> None:
        published = hand_made.publish()
        published.path.chmod(0o600)
        with duckdb.connect(str(published.path)) as connection:
            connection.execute("update marts.fct_discounted_charges set list_amount = 99")
        with pytest.raises(releases.ReleaseError, match="damaged"):
            releases.close(hand_made.home, MARCH, by="Ada", now=NOW)
        assert releases.register(hand_made.home) == []

    def test_a_line_cut_by_a_crash_closes_nothing(self, closed: HandMade) -> None:
        path = files.closes_path(closed.home)
        path.write_text(path.read_text("utf-8")[:-30], "utf-8")
        _take_from_history(closed.home)  # written after the line, so the crash was before it
        assert releases.closed_months(closed.home) == {}
        releases.close(closed.home, MARCH, by="Ada", now=NOW)
        assert list(releases.closed_months(closed.home)) == [MARCH]

    @pytest.mark.parametrize("is_witnessed", [True, False], ids=["history kept", "history lost"])
    @pytest.mark.parametrize(
        ("what", "said", "is_last"),
        [
            ("removed", "Line 2 .* does not follow", False),
            ("changed", "Line 2 .* does not follow", False),
            ("put in", "Line 3 .* does not follow", False),
            ("removed", "lost its end", True),
            ("changed", "lost its end", True),
            ("put in", "Line 4 .* does not follow", True),
        ],
    )
    def test_lines_that_were_changed_removed_or_put_in_are_noticed(
        self, closed: HandMade, what: str, said: str, is_last: bool, is_witnessed: bool
    ) -> None:
        home = closed.home
        path = files.closes_path(home)
        releases.reopen(home, MARCH, by="Bob", now=LATER, reason="a late credit note")
        releases.close(home, MARCH, by="Ada", now=LATER)
        lines = path.read_text("utf-8").splitlines()
        assert len(releases.register(home)) == 3
        place = 2 if is_last else 1
        if what == "removed":
            del lines[place]
        elif what == "changed":
            lines[place] = lines[place].replace("Bob", "Eve").replace("Ada", "Eve")
            said = "Line 3 .* does not follow" if not is_last else said
        else:
            lines.insert(place + 1, lines[place].replace(', "previous"', ', "later"'))
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        if not is_witnessed:
            files.history_path(home).unlink()
        if is_last and what != "put in" and not is_witnessed:
            releases.register(home)  # removing the witness too goes unnoticed
            return
        with pytest.raises(releases.ReleaseError, match=rf"closes\.jsonl.*{said}|{said}"):
            releases.register(home)
        with pytest.raises(releases.ReleaseError, match=r"closes\.jsonl"):
            closed.write().publish(LATER)

    def test_a_register_of_an_earlier_version_goes_on(self, closed: HandMade) -> None:
        path = files.closes_path(closed.home)
        line = json.loads(path.read_text("utf-8"))
        del line["previous"]
        path.write_text(json.dumps(line) + "\n", "utf-8")
        _take_from_history(closed.home)
        releases.reopen(closed.home, MARCH, by="Bob", now=LATER, reason="a late credit note")
        assert [entry.event for entry in releases.register(closed.home)] == ["closed", "reopened"]
        path.write_text(path.read_text("utf-8").replace("Ada", "Eve"), "utf-8")
        with pytest.raises(releases.ReleaseError, match=r"Line 2 .* does not follow"):
            releases.register(closed.home)


class TestOpenErrors:
    """A month with errors that nobody has reviewed is not certified, unless somebody says why."""

    def test_an_open_error_of_the_month_is_in_the_way_and_no_other_is(
        self, hand_made: HandMade
    ) -> None:
        with_findings(
            hand_made,
            ("a", "error", "accepted", "in_1", "2026-03-01"),
            ("b", "warn", "open", "in_1", "2026-03-01"),
            ("c", "error", "open", None, "2026-02-28 23:59:59"),
            ("d", "error", "open", None, "2026-04-01"),
        )
        hand_made.publish()
        assert releases.close(hand_made.home, MARCH, by="Ada", now=NOW).open_errors == 0

    def test_months_of_errors_begin_in_the_reporting_time_zone_and_notes_have_their_own(
        self, hand_made: HandMade
    ) -> None:
        with_findings(
            hand_made,
            ("a", "error", "open", None, "2026-02-28 18:14:59"),
            ("b", "error", "open", None, "2026-02-28 18:15:00"),
            ("c", "error", "open", None, "2026-03-31 18:15:00"),
            ("note", "error", "open", "in_1", "2026-04-01"),
        )
        with duckdb.connect(str(hand_made.candidate)) as connection:
            for table, column in (
                ("fct_audit_findings", "credit_note_id varchar"),
                ("fct_audit_findings", "finding_type varchar"),
                ("fct_audit_findings", "currency varchar"),
                ("fct_audit_findings", "amount_at_stake decimal(18, 2)"),
            ):
                connection.execute(f"alter table marts.{table} add column {column}")
            connection.execute(
                "update marts.fct_audit_findings set credit_note_id = 'n' where finding_id = 'note'"
            )
        hand_made.publish(reporting_time_zone="Asia/Kathmandu")
        with releases.open_release(hand_made.home) as connection:
            months = [date(2026, month, 1) for month in (2, 3, 4)]
            found = [open_errors(connection, month) for month in months]
            shown = [reviewed(connection, "USD", 9, month=month)["total"] for month in months]
        assert found == [1, 1, 2]
        assert shown == found

    @pytest.mark.parametrize(
        ("invoice_id", "day"),
        [("in_1", "2026-04-01"), (None, "2026-03-31 23:59:59"), (None, "2026-03-01")],
        ids=["of a bill of the month", "on its last day", "on its first day"],
    )
    def test_it_is_closed_over_an_error_only_with_a_reason_which_is_recorded(
        self, hand_made: HandMade, invoice_id: str | None, day: str
    ) -> None:
        with_findings(hand_made, ("e", "error", "open", invoice_id, day))
        hand_made.publish()
        home = hand_made.home
        with pytest.raises(releases.ReleaseError, match=r"1 finding of severity error is open"):
            releases.close(home, MARCH, by="Ada", now=NOW)
        with pytest.raises(releases.ReleaseError, match="--reason"):
            releases.close(home, MARCH, by="Ada", now=NOW, with_open_findings=True)
        assert releases.register(home) == []
        releases.close(
            home, MARCH, by="Ada", now=NOW, with_open_findings=True, reason="credit note to come"
        )
        (entry,) = releases.register(home)
        assert (entry.open_errors, entry.reason) == (1, "credit note to come")

    def test_a_reason_is_recorded_also_where_nothing_is_open(self, hand_made: HandMade) -> None:
        hand_made.publish()
        home = hand_made.home
        releases.close(home, MARCH, by="Ada", now=NOW, with_open_findings=True, reason="looked at")
        (entry,) = releases.register(home)
        assert (entry.open_errors, entry.reason) == (0, "looked at")

    def test_the_month_is_shown_before_it_is_refused(self, hand_made: HandMade) -> None:
        with_findings(hand_made, ("e", "error", "open", "in_1", "2026-03-05"))
        hand_made.publish()
        home = ("--home", str(hand_made.home))
        ask = CliRunner().invoke
        shown = ask(app, ["close", "2026-03", "--by", "Ada", *home])
        assert shown.exit_code == 1
        assert [line.split() for line in shown.stdout.splitlines()[3:11]] == [
            ["EUR", "USD"],
            ["invoices", "1", "1"],
            ["list", "80.50", "120.00"],
            ["discounts", "0.00", "0.00"],
            ["credit", "0.00", "0.00"],
            ["net,", "before", "tax", "80.50", "120.00"],
            ["billing", "errors", "0.00", "0.00"],
            ["billed,", "before", "tax", "80.50", "120.00"],
        ]
        assert "Open findings of severity error in the month: 1" in shown.stdout
        assert "--with-open-findings --reason TEXT" in shown.stderr
        reason = ("--with-open-findings", "--reason", "waiting for billing")
        shown = ask(app, ["close", "2026-03", "--by", "Ada", *reason, *home])
        assert shown.exit_code == 0
        assert "2026-03 is closed" in shown.stdout
        told = ask(app, ["closes", *home]).stdout
        assert "with 1 finding of severity error open" in told
        assert "reason: waiting for billing" in told

    def test_a_reason_without_the_option_it_is_for_is_a_slip(self, hand_made: HandMade) -> None:
        hand_made.publish()
        arguments = ["close", "2026-03", "--by", "Ada", "--reason", "r"]
        shown = CliRunner().invoke(app, [*arguments, "--home", str(hand_made.home)])
        assert (shown.exit_code, releases.register(hand_made.home)) == (2, [])


class TestKept:
    """A release that closed a month is never pruned."""

    @pytest.mark.parametrize("is_reopened", [False, True])
    def test_pruning_spares_it(self, closed: HandMade, is_reopened: bool) -> None:
        (first,) = files.release_ids(closed.home)
        if is_reopened:
            releases.reopen(closed.home, MARCH, by="Bob", now=LATER, reason="why not")
        for amount in ("1.00", "2.00"):
            closed.charges = [("in_1", "USD", amount)]
            closed.write().publish(LATER)
        pruned = releases.prune(closed.home, 1, LATER)
        assert pruned.spared == {first: "it closed 2026-03"}
        assert len(pruned.removed) == 1
        assert releases.verify(closed.home, first).problems == ()


def written(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, str]:
    """Write one file of a close pack, which needs an open release."""
    (found,) = connection.execute("select count(*) from marts.fct_discounted_charges").fetchall()
    (folder / "bills.txt").write_text(str(found[0]), "utf-8")
    return {"workbook": "it has no marts"}


class TestPack:
    """A close keeps a pack beside its release: whole, or not at all."""

    def test_it_has_what_was_written_the_fingerprints_and_the_line_of_the_register(
        self, hand_made: HandMade
    ) -> None:
        published = hand_made.publish()
        closing = releases.close(hand_made.home, MARCH, by="Ada", now=NOW, pack=written)
        pack = pack_of(hand_made.home, closing)
        assert pack is not None and pack.parent == published.path.parent
        assert {path.name for path in pack.iterdir()} == {
            "bills.txt", "fingerprints.json", "register.json",
        }  # fmt: skip
        (line,) = files.closes_path(hand_made.home).read_bytes().splitlines(keepends=True)
        assert (pack / "register.json").read_bytes() == line
        about = json.loads((pack / "fingerprints.json").read_text("utf-8"))
        assert about["release_id"] == published.release_id
        assert about["tables"] == json.loads(line)["fingerprints"]
        assert about["left_out"] == {"workbook": "it has no marts"}
        assert about["files"] == {"bills.txt": hashlib.sha256(b"2").hexdigest()}
        assert {stat.S_IMODE(path.stat().st_mode) for path in pack.iterdir()} == {0o440}

    def test_pruning_keeps_it_after_a_reopening_too(self, hand_made: HandMade) -> None:
        hand_made.publish()
        closing = releases.close(hand_made.home, MARCH, by="Ada", now=NOW, pack=written)
        releases.reopen(hand_made.home, MARCH, by="Bob", now=LATER, reason="why not")
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write().publish(LATER)
        releases.prune(hand_made.home, 1, LATER)
        pack = pack_of(hand_made.home, closing)
        assert pack is not None and (pack / "bills.txt").read_text("utf-8") == "2"
        assert releases.verify(hand_made.home, closing.release_id).problems == ()

    def test_where_it_cannot_be_made_nothing_is_closed(self, hand_made: HandMade) -> None:
        def broken(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, str]:
            written(connection, folder)
            raise OSError("no space left on device")

        published = hand_made.publish()
        with pytest.raises(OSError, match="no space"):
            releases.close(hand_made.home, MARCH, by="Ada", now=NOW, pack=broken)
        assert releases.closed_months(hand_made.home) == {}
        assert list(published.path.parent.glob("close-*")) == []

    @pytest.mark.parametrize("is_recorded", [False, True])
    def test_a_killed_close_leaves_it_to_the_next_writer(
        self, hand_made: HandMade, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
    ) -> None:
        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        published = hand_made.publish()
        with monkeypatch.context() as patched:
            name = "finish_pack" if is_recorded else "append_line"
            patched.setattr(files, name, killed)
            with pytest.raises(KeyboardInterrupt):
                releases.close(hand_made.home, MARCH, by="Ada", now=NOW, pack=written)
        assert [path.suffix for path in published.path.parent.glob("close-*")] == [".tmp"]
        releases.prune(hand_made.home, 1, LATER)
        packs = [pack_of(hand_made.home, one) for one in releases.register(hand_made.home)]
        assert list(published.path.parent.glob("close-*")) == packs
        assert len(packs) == is_recorded
        assert all(pack and (pack / "register.json").is_file() for pack in packs)


class TestNeverSilent:
    """A served release never has other amounts for a closed month without listing them."""

    @pytest.fixture
    def three(self, hand_made: HandMade) -> list[str]:
        """Three releases: March is closed with the second, and the third lists what changed since."""
        ids = []
        for amount in ("1.00", "2.00", "3.00"):
            hand_made.charges = [("in_1", "USD", amount)]
            ids.append(hand_made.write().publish().release_id)
            if amount == "2.00":
                releases.close(hand_made.home, MARCH, by="Ada", now=NOW)
        return ids

    def test_a_release_from_before_the_close_is_not_restored_silently(
        self, hand_made: HandMade, three: list[str]
    ) -> None:
        home = hand_made.home
        with pytest.raises(releases.ReleaseError, match=r"closed since.*2026-03 \(3\).*--anyway"):
            releases.restore(home, three[0], LATER)
        assert files.current_release(home) == three[2]
        releases.restore(home, three[0], LATER, is_forced=True)
        assert files.current_release(home) == three[0]

    def test_what_certifies_the_month_or_lists_the_changes_is_restored(
        self, hand_made: HandMade, three: list[str]
    ) -> None:
        for release_id in (three[1], three[2]):
            releases.restore(hand_made.home, release_id, LATER)
            assert files.current_release(hand_made.home) == release_id

    def test_a_month_closed_again_with_another_release_is_not_restored_silently(
        self, hand_made: HandMade, three: list[str]
    ) -> None:
        releases.reopen(hand_made.home, MARCH, by="Bob", now=LATER, reason="a credit note")
        releases.close(hand_made.home, MARCH, by="Ada", now=LATER)
        with pytest.raises(releases.ReleaseError, match="closed since"):
            releases.restore(hand_made.home, three[1], LATER)

    def test_a_month_before_the_first_invoice_is_a_slip(self, hand_made: HandMade) -> None:
        hand_made.publish()
        with pytest.raises(releases.ReleaseError, match=r"2025-03 .* first invoice.* 2026-03"):
            releases.close(hand_made.home, date(2025, 3, 1), by="Ada", now=NOW)
        assert releases.register(hand_made.home) == []


class TestRestatements:
    """What differs from a closed month is in every later release, amount by amount."""

    AMOUNTS = {
        "fct_credit_ledger": "amount",
        "fct_credit_notes": "amount",
        "fct_credit_draws": "draw_amount",
        "fct_discount_applications": "discount_amount",
        "fct_credit_burndown_monthly": "drawn_amount",
        "fct_percent_off_variance_monthly": "bill_amount",
        "fct_program_budget_monthly": "given_amount",
    }

    def test_nothing_closed_nothing_restated(self, hand_made: HandMade) -> None:
        hand_made.publish()
        hand_made.charges = [("in_1", "USD", "1.00")]
        hand_made.write().publish(LATER)
        assert restated(hand_made.home) == []

    def test_the_table_is_described_and_fingerprinted(self, hand_made: HandMade) -> None:
        hand_made.publish()
        with releases.open_release(hand_made.home) as connection:
            columns = connection.execute(
                "select column_name, comment from duckdb_columns()"
                " where table_name = 'fct_restatements' order by column_index"
            ).fetchall()
            promised = connection.execute(
                "select row_count, primary_key from release.tables"
                " where table_name = 'fct_restatements'"
            ).fetchall()
        assert [name for name, _ in columns] == list(restatements.COLUMNS)
        assert all(comment.startswith(restatements.COLUMNS[name]) for name, comment in columns)
        assert promised == [(0, ", ".join(restatements.KEY))]

    def test_closing_alone_changes_nothing(self, closed: HandMade) -> None:
        assert not closed.publish(LATER).is_new

    def test_changed_gone_added_and_another_currency(self, closed: HandMade) -> None:
        closed.charges = [
            ("in_1", "USD", "100.00"),
            ("in_2", "GBP", "80.50"),
            ("in_3", "USD", "7.00"),
        ]
        closed.write().publish(LATER)
        assert restated(closed.home) == [
            ("in_1", "list_amount", "USD", Decimal("120.00"), Decimal("100.00"), Decimal("-20.00")),
            ("in_2", "list_amount", "EUR", Decimal("80.50"), None, Decimal("-80.50")),
            ("in_2", "list_amount", "GBP", None, Decimal("80.50"), Decimal("80.50")),
            ("in_3", "list_amount", "USD", None, Decimal("7.00"), Decimal("7.00")),
        ]
        (first, _) = files.release_ids(closed.home)
        assert restated(closed.home, "distinct closed_month, closed_release_id, table_name")[0][
            :3
        ] == (MARCH, first, "fct_discounted_charges")
        assert releases.verify(closed.home).problems == ()

    def test_what_is_counted_elsewhere_is_listed_though_the_total_is_the_same(
        self, hand_made: HandMade
    ) -> None:
        hand_made.charges = [("in_1", "USD", "310.00"), ("in_2", "USD", "45.00")]
        hand_made.write()
        place(hand_made, "in_1", "ws_a", "team", None)
        place(hand_made, "in_2", "ws_a", "team", "s-1")
        hand_made.publish()
        releases.close(hand_made.home, MARCH, by="Ada", now=NOW)
        place(hand_made, "in_1", "ws_b", "team", "s-9")
        hand_made.publish(LATER)
        with releases.open_release(hand_made.home) as connection:
            found = connection.execute(
                "select record_key, column_name, currency, closed_value, current_value,"
                " closed_amount, current_amount, delta_amount from marts.fct_restatements"
                " order by all"
            ).fetchall()
            assert found == [
                ("in_1", "subscription_id", "USD", None, "s-9", None, None, None),
                ("in_1", "workspace_id", "USD", "ws_a", "ws_b", None, None, None),
            ]
            (counted,) = listed(connection)
            told = tell_restated([counted], moves(connection))
        assert (counted["amounts"], counted["moved"]) == (0, 2)
        assert counted["net_delta_amount"] == 0
        assert told == [
            "Changed in closed months",
            "  Moved to another workspace, plan or subscription, which alone changes no total:",
            "  2026-03  bill in_1, 310.00 USD net: subscription none → s-9",
            "  2026-03  bill in_1, 310.00 USD net: workspace ws_a → ws_b",
            "  one by one in marts.fct_restatements",
        ]

    def test_an_amount_of_zero_that_comes_or_goes_with_its_row_is_no_change(
        self, closed: HandMade
    ) -> None:
        closed.charges = [CHARGES[0], ("in_3", "USD", "0.00"), ("in_4", "USD", "0.01")]
        closed.write().publish(LATER)
        with releases.open_release(closed.home) as connection:
            found = connection.execute(
                "select distinct record_key, column_name, delta_amount from marts.fct_restatements"
                " order by all"
            ).fetchall()
        names = ("billed_net_amount", "list_amount", "net_amount")
        assert found == [
            *(("in_2", name, Decimal("-80.50")) for name in names),
            *(("in_4", name, Decimal("0.01")) for name in names),
        ]

    def test_another_month_is_not_restated(self, closed: HandMade) -> None:
        closed.charges = [*CHARGES, ("in_4", "USD", "9.00")]
        closed.write()
        with duckdb.connect(str(closed.candidate)) as connection:
            connection.execute(
                "update marts.fct_discounted_charges set billing_month = '2026-04-01'"
                " where invoice_id = 'in_4'"
            )
        assert closed.publish(LATER).is_new
        assert restated(closed.home) == []

    def test_a_month_closed_again_is_compared_with_its_new_release(self, closed: HandMade) -> None:
        closed.charges = [("in_1", "USD", "100.00"), CHARGES[1]]
        closed.write().publish(LATER)
        assert len(restated(closed.home)) == 1
        releases.reopen(closed.home, MARCH, by="Bob", now=LATER, reason="corrected")
        closed.publish(LATER)
        assert restated(closed.home) == []
        releases.close(closed.home, MARCH, by="Ada", now=LATER)
        closed.charges = [("in_1", "USD", "101.00"), CHARGES[1]]
        closed.write().publish(LATER)
        assert [row[-1] for row in restated(closed.home)] == [Decimal("1.00")]

    @pytest.mark.parametrize(
        ("arrived", "told"),
        [
            pytest.param(
                {"invoices": ["in_1"]},
                {
                    "list": "invoices",
                    "discount": "invoices",
                    "another's": "invoices",
                    "program": "invoices",
                },
                id="a corrected invoice",
            ),
            pytest.param(
                {"redemptions": ["r_1"]},
                {"discount": "redemptions", "another's": "redemptions", "program": "redemptions"},
                id="a revoked redemption",
            ),
            pytest.param(
                {"redemptions": ["r_2"], "invoices": ["in_1"]},
                {"list": "invoices", "discount": None, "another's": None, "program": None},
                id="an invoice, and a redemption that was moved away",
            ),
            pytest.param(
                {"redemptions": ["r_9"], "invoices": ["in_1"]},
                {"list": "invoices", "discount": "invoices", "another's": "invoices"},
                id="an invoice, and a redemption of another workspace",
            ),
            pytest.param(
                {"redemptions": ["r_9"], "invoices": ["in_1"], "refused now": ["r_1"]},
                {"list": "invoices", "discount": None, "another's": None, "program": None},
                id="an invoice, and a redemption of another workspace by which one is refused",
            ),
            pytest.param(
                {"redemptions": ["r_5"], "refused now": ["r_1~follow-up"]},
                {"discount": "redemptions", "another's": "redemptions", "program": "redemptions"},
                id="a redemption of another workspace by which a follow-up is refused",
            ),
            pytest.param(
                {"coupons": ["C1"]},
                {"discount": "coupons", "another's": "coupons", "program": "coupons"},
                id="a corrected coupon",
            ),
            pytest.param(
                {"coupons": ["C2"]},
                {"discount": "coupons", "another's": "coupons", "program": "coupons"},
                id="a corrected follow-up",
            ),
            pytest.param(
                {"coupons": ["C3"], "invoices": ["in_1"]},
                {"list": "invoices", "discount": None, "another's": None, "program": None},
                id="an invoice, and the follow-up of a follow-up",
            ),
            pytest.param(
                {"invoices": ["in_8"]},
                {"discount": "invoices", "another's": "invoices", "program": "invoices"},
                id="an invoice that was moved away",
            ),
            pytest.param(
                {"workspaces": ["ws_1"]},
                {"discount": "workspaces", "another's": "workspaces", "program": "workspaces"},
                id="a workspace that was unknown",
            ),
            pytest.param(
                {"invoices": ["in_1"], "redemptions": ["r_1"]},
                {"list": "invoices", "discount": None, "another's": None, "program": None},
                id="an invoice and a redemption",
            ),
            pytest.param(
                {"credit_notes": ["of_1"]},
                {
                    "list": None,
                    "discount": None,
                    "credited": "credit_notes",
                    "another's credited": "credit_notes",
                    "after notes": "credit_notes",
                    "bridge": "credit_notes",
                    "budget": None,
                },
                id="a credit note",
            ),
            pytest.param(
                {"credit_notes": ["of_1"], "invoices": ["in_2"]},
                {
                    "list": "invoices",
                    "another's": "invoices",
                    "credited": "credit_notes",
                    "another's credited": "invoices",
                    "bridge": None,
                    "bridge list": "invoices",
                },
                id="a credit note and another invoice",
            ),
            pytest.param(
                {"credit_notes": ["of_1"], "invoices": ["in_1"]},
                {"list": "invoices", "credited": None, "after notes": None, "bridge": None},
                id="a credit note and its invoice",
            ),
            pytest.param(
                {"credit_notes": ["of_2"], "invoices": ["in_1"]},
                {"list": "invoices", "credited": None, "after notes": None, "bridge": None},
                id="an invoice, and a credit note that was moved away",
            ),
            pytest.param(
                {"budgets": ["spec|ial"], "invoices": ["in_1"]},
                {"list": "invoices", "program": "invoices", "budget": "budgets"},
                id="a budget and an invoice",
            ),
            pytest.param(
                {"invoices": ["in_9"], "coupons": ["C9"], "redemptions": ["r_9"]},
                {"list": None, "discount": None, "another's": None, "program": None},
                id="only what does not bear on the month",
            ),
        ],
    )
    def test_the_delivery_that_caused_it_is_told(
        self, closed: HandMade, arrived: dict[str, list[str]], told: dict[str, str | None]
    ) -> None:
        """in_1 and in_2 are of ws_1, which has C1, followed by C2 and C3; all else comes after March.

        When March was closed, in_8 and r_2 were of ws_1, and of_2 of in_1.
        """
        closed.charges = [("in_1", "USD", "100.00"), ("in_2", "EUR", "81.00")]
        closed.write()
        programs = (
            "create table marts.fct_program_performance_monthly as select 'spec|ial' as program,"
            " 'USD' as currency, date '2026-03-01' as performance_month,"
            " cast({0} as decimal(18, 2)) as discount_amount;"
            "create table marts.fct_charge_bridge_monthly as select 'USD' as currency,"
            " date '2026-03-01' as bridge_month, cast({0} as decimal(18, 2)) as list_amount,"
            " cast({0} as decimal(18, 2)) as credited_amount;"
            "create table marts.fct_program_budget_monthly as select 'spec|ial' as program,"
            " 'USD' as currency, date '2026-03-01' as budget_month,"
            " cast({0} as decimal(18, 2)) as budget_amount"
        )
        redeemed = (
            "create table marts.dim_coupon_redemptions as select redemption_id, coupon_id, workspace_id,"
            " started_at::timestamp as started_at, coalesce(redemption_id not in ({0}), true) as"
            " is_honoured from (values ('r_1', 'C1', 'ws_1', '2026-03-31'), ('r_2', 'C1', {1}),"
            " ('r_1~follow-up', 'C2', 'ws_1', '2026-03-31'), ('r_9', 'C9', 'ws_9', '2026-04-01'),"
            " ('r_1~follow-up~follow-up', 'C3', 'ws_1', '2026-03-31'))"
            " as redeemed (redemption_id, coupon_id, workspace_id, started_at)"
        )
        sequences = {
            "workspaces": 2,
            "coupons": 3,
            "redemptions": 4,
            "invoices": 5,
            "credit_notes": 6,
            "budgets": 7,
        }
        with duckdb.connect(str(closed.warehouse)) as connection:
            for feed, sequence in {**sequences, "another": 9}.items():
                connection.execute(
                    "insert into intermediate.int_deliveries_reconciled by name select * replace"
                    f" ({sequence} as delivery_sequence, '{feed}' as delivery_id,"
                    f" '{feed}/late.csv' as file_name, timestamp '2001-01-01' as arrived_at)"
                    " from intermediate.int_deliveries_reconciled where delivery_id = 'd1'"
                )
            for feed, columns, values in (
                ("workspaces", "workspace_id", "('ws_1'), ('ws_9')"),
                ("coupons", "coupon_id", "('C1'), ('C2'), ('C3'), ('C9')"),
                (
                    "redemptions",
                    "redemption_id, coupon_id, user_id",
                    "('r_1', 'C1', 'u'), ('r_2', 'C1', null), ('r_5', 'C2', null), ('r_9', 'C9', 'u')",
                ),
                (
                    "invoices",
                    "invoice_id, workspace_id, issued_at",
                    "('in_1', 'ws_1', timestamp '2026-03-01'),"
                    " ('in_2', 'ws_1', timestamp '2026-03-31 23:59:59'),"
                    " ('in_8', 'ws_9', timestamp '2026-04-01'), ('in_9', 'ws_9', timestamp '2026-04-01')",
                ),
                (
                    "credit_notes",
                    "credit_note_id, invoice_id",
                    "('of_1', 'in_1'), ('of_2', 'in_9'), ('of_9', 'in_9')",
                ),
                (
                    "budgets",
                    "program, currency, month",
                    "('spec|ial', 'USD', date '2026-03-01'), ('startup', 'USD', date '2026-03-01')",
                ),
            ):  # fmt: skip
                late = ", ".join(f"'{name}'" for name in arrived.get(feed, [])) or "null"
                connection.execute(
                    f"create table staging.base_billing__{feed} as select *, if("
                    f"{columns.split(',')[0]} in ({late}), {sequences[feed]}, 1)::bigint as"
                    " delivery_sequence, row_number() over () as row_number, null::varchar as"
                    f" rejection_reasons from (values {values}) as delivered ({columns})"
                )
                # Neither rejected nor superseded rows count.
                connection.execute(
                    f"insert into staging.base_billing__{feed} select * exclude (n) replace (9 as"
                    f" delivery_sequence, if(n = 0, 'no good', null) as rejection_reasons)"
                    f" from staging.base_billing__{feed}, range(2) as copies (n)"
                )
            connection.execute(
                "create table staging.stg_billing__repeated_rows as select unnest(['workspaces',"
                " 'coupons', 'redemptions', 'invoices', 'credit_notes', 'budgets']) as feed,"
                " 9::bigint as delivery_sequence,"
                " range as row_number, 'superseded' as fate from range(1, 20)"
            )
        with duckdb.connect(str(closed.candidate)) as connection:
            connection.execute(
                "alter table marts.fct_discounted_charges add column workspace_id varchar;"
                "alter table marts.fct_discounted_charges add column credited_amount decimal(18, 2);"
                "alter table marts.fct_discounted_charges"
                " add column billed_net_after_notes_amount decimal(18, 2);"
                "update marts.fct_discounted_charges set workspace_id = 'ws_1', discount_amount = 1,"
                " credited_amount = 1, billed_net_after_notes_amount = 1"
            )
            connection.execute(programs.format(2))
            refused = ", ".join(f"'{name}'" for name in arrived.get("refused now", [])) or "null"
            connection.execute(redeemed.format(refused, "'ws_9', '2026-04-01'"))
        (first,) = files.release_ids(closed.home)
        with duckdb.connect(str(files.release_path(closed.home, first))) as connection:
            connection.execute(programs.format(1))
            connection.execute(redeemed.format("null", "'ws_1', '2026-03-31'"))
            connection.execute(
                "create table marts.dim_workspaces as select 'ws_9' as workspace_id;"
                "create table marts.fct_credit_notes as select * from (values ('of_2', 'in_1'))"
                " as noted (credit_note_id, invoice_id);"
                "alter table marts.fct_discounted_charges add column workspace_id varchar;"
                "insert into marts.fct_discounted_charges by name"
                " select 'in_8' as invoice_id, 'ws_1' as workspace_id, timestamp '2026-03-31' as issued_at"
            )
            connection.execute(
                "alter table marts.fct_discounted_charges add column credited_amount decimal(18, 2);"
                "alter table marts.fct_discounted_charges"
                " add column billed_net_after_notes_amount decimal(18, 2)"
            )
        keys = {
            "fct_discounted_charges": ("invoice_id",),
            "fct_program_performance_monthly": ("program", "performance_month"),
            "fct_charge_bridge_monthly": ("currency", "bridge_month"),
            "fct_program_budget_monthly": ("program", "currency", "budget_month"),
        }
        with duckdb.connect() as connection:
            connection.execute(f"attach '{closed.warehouse}' as build")
            candidate.attach(connection, closed.candidate)
            restatements.compute(connection, closed.home, keys)
            rows = connection.execute(
                f"select record_key, column_name, file_name from {restatements.SOURCE}"
            ).fetchall()
        found = {(key, column): file for key, column, file in rows}
        names = {
            "list": ("in_1", "list_amount"),
            "discount": ("in_1", "discount_amount"),
            "another's": ("in_2", "discount_amount"),
            "program": (r"spec\|ial|2026-03-01", "discount_amount"),
            "credited": ("in_1", "credited_amount"),
            "another's credited": ("in_2", "credited_amount"),
            "after notes": ("in_1", "billed_net_after_notes_amount"),
            "bridge": ("USD|2026-03-01", "credited_amount"),
            "bridge list": ("USD|2026-03-01", "list_amount"),
            "budget": (r"spec\|ial|USD|2026-03-01", "budget_amount"),
        }
        assert {name: found[names[name]] for name in told} == {
            name: feed and f"{feed}/late.csv" for name, feed in told.items()
        }

    def test_ids_with_a_vertical_bar_are_told_apart(self, closed: HandMade) -> None:
        (first,) = files.release_ids(closed.home)
        for path, amount in ((files.release_path(closed.home, first), 10), (closed.candidate, 20)):
            with duckdb.connect(str(path)) as connection:
                connection.execute(
                    "alter table marts.fct_discounted_charges add column workspace_id varchar;"
                    "insert into marts.fct_discounted_charges by name"
                    " select unnest(['a|b', 'a']) as invoice_id, 'USD' as currency,"
                    " date '2026-03-01' as billing_month;"
                    "create table marts.fct_discount_applications as"
                    " select invoice_id, redemption_id, amount::decimal(18, 2) as discount_amount"
                    f" from (values ('a|b', 'c', {amount}), ('a', 'b|c', 20))"
                    " as given (invoice_id, redemption_id, amount)"
                )
        with duckdb.connect() as connection:
            candidate.attach(connection, closed.candidate)
            restatements.compute(
                connection,
                closed.home,
                {"fct_discount_applications": ("invoice_id", "redemption_id")},
            )
            rows = connection.execute(
                f"select record_key, closed_amount, current_amount from {restatements.SOURCE}"
            ).fetchall()
        assert rows == [(r"a\|b|c", Decimal(10), Decimal(20))]

    @pytest.mark.parametrize("what", ["gone", "altered", "a line of nonsense"])
    def test_nothing_is_published_against_a_damaged_close(
        self, closed: HandMade, what: str
    ) -> None:
        (first,) = files.release_ids(closed.home)
        closed.charges = [("in_1", "USD", "100.00")]
        closed.write()
        second = closed.publish(LATER).release_id
        path = files.release_path(closed.home, first)
        if what == "gone":
            path.unlink()
        elif what == "altered":
            path.chmod(0o600)
            with duckdb.connect(str(path)) as connection:
                connection.execute("update release.tables set fingerprint = 'other'")
        else:
            files.append_line(files.closes_path(closed.home), {"event": "shut"})
        closed.charges = [("in_1", "USD", "99.00")]
        with pytest.raises(releases.ReleaseError, match=r"2026-03|closes\.jsonl"):
            closed.write().publish(LATER)
        assert files.current_release(closed.home) == second

    def test_every_mart_is_compared_or_says_why_not(self, tmp_path: Path) -> None:
        manifest = dbt_build.prepare(Settings(home=tmp_path)).manifest
        marts = {
            node["alias"]: set(node["columns"])
            for node in manifest["nodes"].values()
            if node["resource_type"] == "model" and node["schema"] == "marts"
        }
        assert set(marts) == set(restatements.MONTHS) | set(restatements.STATES)
        assert set().union(*(marts[name] for name in restatements.MONTHS)) >= restatements.OUTLOOK

    def test_all_marts_of_the_sample_are_compared(self, sample_run: Any, tmp_path: Path) -> None:
        home = tmp_path / "home"
        shutil.copytree(sample_run.home, home, symlinks=True)
        month = date(2025, 6, 1)
        closing = releases.close(
            home, month, by="Ada", now=NOW, with_open_findings=True, reason="a test of all marts"
        )
        keys = _keys(home)
        with duckdb.connect() as connection:
            connection.execute(f"attach '{home / 'build' / 'warehouse.duckdb'}' as build")
            connection.execute(f"attach '{home / 'build' / 'candidate.duckdb'}' as candidate")
            restatements.compute(connection, home, keys)
            unchanged = connection.execute(f"from {restatements.SOURCE}").fetchall()
            assert unchanged == []
            counted = set()
            for table, moment in restatements.MONTHS.items():
                where = f"{moment} = '{month}'"
                if moment == "invoice_month":
                    where = (
                        "invoice_id in (select invoice_id from candidate.marts.fct_discounted_charges"
                        f" where billing_month = '{month}')"
                    )
                amount = self.AMOUNTS.get(table, "credit_amount")
                (changed,) = connection.execute(
                    f"update candidate.marts.{table} set {amount} = {amount} + 1 where {where}"
                ).fetchall()
                if changed[0]:
                    counted.add(table)
            restatements.compute(connection, home, keys)
            found = connection.execute(
                "select distinct table_name, currency is not null, delta_amount,"
                f" closed_release_id from {restatements.SOURCE} order by all"
            ).fetchall()
        assert counted >= set(restatements.MONTHS) - {
            "fct_credit_notes",
            "fct_program_budget_monthly",
        }
        assert found == [
            (table, True, Decimal("1.00"), closing.release_id) for table in sorted(counted)
        ]


def _keys(home: Path) -> dict[str, tuple[str, ...]]:
    with releases.open_release(home) as connection:
        rows = connection.execute(
            "select table_name, primary_key from release.tables where table_schema = 'marts'"
        ).fetchall()
    return {str(name): tuple(str(key).split(", ")) for name, key in rows}


class TestCommands:
    """The same from the command line."""

    def ask(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    def test_what_changed_since_is_told(self, hand_made: HandMade) -> None:
        first = hand_made.publish().release_id
        hand_made.charges = [("in_1", "USD", "100.00"), ("in_2", "EUR", "80.50")]
        second = hand_made.write().publish().release_id
        home = ("--home", str(hand_made.home))
        shown = self.ask("close", "2026-03", "--by", "Ada", "--release", first, *home).stdout
        assert f"In the current release, {second}, 3 values of 2026-03 differ" in shown
        assert "No amount of the closed months has changed" in self.ask("closes", *home).stdout
        hand_made.publish(LATER)
        data = json.loads(self.ask("closes", "--json", *home).stdout)
        assert data["closed_months"] == ["2026-03"]
        (entry,) = data["entries"]
        assert (entry["event"], entry["release_id"], entry["by"]) == ("closed", first, "Ada")
        assert entry["holds_now"] is True and entry["at"].endswith("Z")
        assert data["restated"] == [
            {
                "closed_month": "2026-03",
                "currency": "USD",
                "file_name": None,
                "amounts": 3,
                "moved": 0,
                "net_delta_amount": "-20.00",
            }
        ]
        shown = self.ask("closes", *home).stdout
        assert shown.splitlines()[-4:] == [
            "Changed in closed months",
            "  month         amounts  net charges",
            "  2026-03  USD        3       -20.00",
            "  one by one in marts.fct_restatements",
        ]

    def test_a_delivery_is_told_with_the_amounts_it_explains(self) -> None:
        with duckdb.connect(":memory:") as connection:
            connection.execute("create schema release; create schema marts")
            connection.execute(
                "create table release.tables as select 'marts' as table_schema, 'fct_restatements' as table_name"
            )
            connection.execute(
                "create table marts.fct_restatements as select date '2026-03-01' as closed_month,"
                " 'USD' as currency, 'fct_discounted_charges' as table_name,"
                " 'net_amount' as column_name, 0.01::decimal(18, 2) as delta_amount,"
                " case when n < 18 then 'invoices/late.csv' when n < 26 then 'coupons/'"
                " || (n // 2) || '.csv' end as file_name , null::varchar as closed_value, null::varchar as current_value from range(1544) as numbers (n)"
            )
            connection.execute(
                "insert into marts.fct_restatements select closed_month, 'EUR', table_name,"
                " column_name, delta_amount, null, null, null from marts.fct_restatements limit 2"
            )
            assert tell_restated(listed(connection), {"total": 0, "listed": []}) == [
                "Changed in closed months",
                "  month         amounts  net charges",
                "  2026-03  EUR        2        +0.02",
                "  2026-03  USD    1,544       +15.44",
                "                     18               from invoices/late.csv",
                "                      2               from coupons/10.csv",
                "                      2               from coupons/11.csv",
                "                      4               from 2 other files",
                "  one by one in marts.fct_restatements",
            ]

    def test_close_list_and_reopen(self, hand_made: HandMade) -> None:
        release_id = hand_made.publish().release_id
        home = ("--home", str(hand_made.home))
        assert "No month has been closed" in self.ask("closes", *home).stdout
        shown = self.ask("close", "2026-03", "--by", "Ada", *home)
        assert shown.exit_code == 0
        assert f"2026-03 is closed with release {release_id}, by Ada" in shown.stdout
        assert "* 2026-03  closed " in self.ask("closes", *home).stdout
        shown = self.ask("reopen", "2026-03", "--by", "Bob", "--reason", "late invoice", *home)
        assert shown.exit_code == 0
        listed = self.ask("closes", *home).stdout
        assert "  2026-03  reopened" in listed and "reason: late invoice" in listed
        assert "* 2026-03" not in listed
        assert max(map(len, listed.splitlines())) <= 80

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (("close", "March", "--by", "Ada"), 2, "YYYY-MM"),
            (("close", "2026-13", "--by", "Ada"), 2, "YYYY-MM"),
            (("close", "2026-03"), 2, "--by"),
            (("close", "2026-03", "--by", "Ada", "--release", "2031"), 2, "no release"),
            (("close", "2026-04", "--by", "Ada"), 1, "before the end of 2026-04"),
            (
                ("reopen", "2026-03", "--by", "Ada", "--reason", "r"),
                1,
                "is not closed; no month is closed.",
            ),
        ],
    )
    def test_what_is_wrong_is_told(
        self, hand_made: HandMade, arguments: tuple[str, ...], code: int, said: str
    ) -> None:
        hand_made.publish()
        shown = self.ask(*arguments, "--home", str(hand_made.home))
        assert shown.exit_code == code
        assert said in shown.stderr
        assert date(2026, 3, 31) == AS_OF
