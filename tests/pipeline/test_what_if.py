"""A what-if gives what a delivery of its terms would have given, and is never served."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from dagster_project.answers import what_if as question
from dagster_project.cli import app
from dagster_project.cli.run import refresh
from dagster_project.dashboard.blocks import Chosen, Table
from dagster_project.dashboard.pages import PAGES
from dagster_project.refresh import what_if
from dagster_project.refresh.changes import of_coupon
from dagster_project.releases import answering, files
from dagster_project.releases.errors import Busy, ReleaseError
from dagster_project.releases.read import reading
from dagster_project.settings import Settings
from tests import crashes
from tests.pipeline import ahead

# Where a record was delivered, and what bills are judged by.
LEFT_OUT = {
    "dim_coupons": ("updated_at", "delivery_id", "delivery_row"),
    "dim_coupon_redemptions": ("delivery_id", "delivery_row"),
    "fct_discounted_charges": (
        "discount_variance_amount",
        "credit_variance_amount",
        "audit_status",
    ),
    "fct_charge_bridge_monthly": (
        "billing_error_amount",
        "billed_net_amount",
        "billed_net_after_notes_amount",
    ),
}
JUDGED = ("fct_audit_findings", "fct_restatements")
ADDED = {
    "redemption_id": "added-1",
    "coupon_id": "HALF",
    "workspace_id": "ws_bills",
    "redeemed_at": "2026-06-01T00:00:00Z",
}


@dataclass(frozen=True)
class Asked:
    """A data home, and the same history delivered with other terms to another one."""

    home: Path
    delivered: Path


def ask(home: Path, *arguments: str | Path) -> Result:
    """Run `what-if` in this process."""
    return CliRunner().invoke(app, ["what-if", *map(str, arguments), "--home", str(home)])


@pytest.fixture(scope="module")
def asked(ahead_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """A release, a question about it, and the release of a delivery with the terms asked about."""
    folder = tmp_path_factory.mktemp("what_if")
    recorded = Settings(home=folder / "home")
    shutil.copytree(ahead_home, recorded.home, symlinks=True)
    coupons = [
        {**row, "percent_off": "30"} if row["coupon_id"] == "SIXTY" else row
        for row in ahead.coupons()
    ]
    redemptions = [row for row in ahead.redemptions() if row["redemption_id"] != "queue-2"]
    redemptions.append({**ADDED, "updated_at": "2026-06-30T00:00:00Z"})
    landing = ahead.write(folder / "other", coupons=coupons, redemptions=redemptions)
    delivered = Settings(home=folder / "delivered", landing=landing)
    assert refresh(delivered, ahead.AS_OF)
    question = folder / "question.json"
    rows = {
        "coupons": [{"coupon_id": "SIXTY", "percent_off": 30}],
        "redemptions": [{"redemption_id": "queue-2", "withdrawn": True}, ADDED],
    }
    question.write_text(json.dumps(rows), "utf-8")
    before = crashes.contents(recorded.home)
    shown = ask(recorded.home, question, "--name", "other")
    assert shown.exit_code == 0, shown.output
    assert "3 workspaces affected" in shown.stdout, (
        "only what the question can change is calculated"
    )
    assert crashes.contents(recorded.home) == before
    assert (recorded.home / "what-if").stat().st_mode & 0o077 == 0
    return Asked(recorded.home, delivered.home)


def differences(before: Path, after: Path) -> dict[str, int]:
    """Count the rows of each mart that only one of two releases has, judgements aside."""
    found = {}
    with duckdb.connect() as connection:
        for name, path in (("a", before), ("b", after)):
            connection.execute(f"attach '{path}' as {name} (read_only)")
        marts = connection.execute(
            "select table_name from duckdb_tables() where database_name = 'a'"
            " and schema_name = 'marts'"
        ).fetchall()
        assert len(marts) > 15
        for (mart,) in marts:
            if mart in JUDGED:
                continue
            left_out = LEFT_OUT.get(mart)
            columns = f"* exclude ({', '.join(left_out)})" if left_out else "*"
            one, other = (f"select {columns} from {side}.marts.{mart}" for side in "ab")
            (count,) = connection.execute(
                f"select count(*) from (({one} except all {other}) union all"
                f" ({other} except all {one}))"
            ).fetchall()[0]
            if count:
                found[mart] = count
    return found


def release(home: Path, name: str | None = None) -> Path:
    """Return the DuckDB file of the release served, or of a question."""
    return files.release_path(home, files.resolve(home, name and f"what-if/{name}"))


class TestTheAnswer:
    """A question gives the release that a delivery of its terms would have given."""

    def test_it_is_what_a_delivery_of_these_terms_gives(self, asked: Asked) -> None:
        assert differences(release(asked.home), release(asked.delivered))
        assert differences(release(asked.home, "other"), release(asked.delivered)) == {}

    def test_bills_are_judged_by_the_recorded_terms(self, asked: Asked) -> None:
        with duckdb.connect() as connection:
            for name, path in (("a", release(asked.home)), ("b", release(asked.home, "other"))):
                connection.execute(f"attach '{path}' as {name} (read_only)")
            for question in (
                "select * from {}.marts.fct_audit_findings order by all",
                "select invoice_id, audit_status, discount_variance_amount, credit_variance_amount"
                " from {}.marts.fct_discounted_charges order by all",
                "select * from {}.release.coupon_versions order by all",
                "select currency, bridge_month, plan, billing_error_amount"
                " from {}.marts.fct_charge_bridge_monthly order by all",
            ):
                one, other = (connection.execute(question.format(side)).fetchall() for side in "ab")
                assert one == other

    def test_recorded_terms_give_the_recorded_release(self, asked: Asked, tmp_path: Path) -> None:
        file = tmp_path / "name.csv"
        file.write_text("coupon_id,coupon_name\nHALF,Another name\n", "utf-8")
        shown = ask(asked.home, file, "--name", "name")
        assert shown.exit_code == 0, shown.output
        assert differences(release(asked.home), release(asked.home, "name")) == {"dim_coupons": 2}
        assert "no bill, past or expected, would be different" in " ".join(shown.stdout.split())

    def test_a_withdrawn_coupon_is_as_if_it_had_never_been(
        self, asked: Asked, tmp_path: Path
    ) -> None:
        file = tmp_path / "without.yaml"
        terms = "- {coupon_id: THEN-45, withdrawn: true}\n- {coupon_id: SIXTY, coupon_name: Six}\n"
        file.write_text(f"coupons:\n{terms}", "utf-8")
        shown = ask(asked.home, file, "--name", "without", "--json")
        assert shown.exit_code == 0, shown.output
        (moved,) = json.loads(shown.stdout)["workspaces"]
        # From August on, eleven of the next twelve bills of 200.00 are at list.
        assert (moved["workspace_id"], moved["past_net_change"]) == ("ws_follow", "0.00")
        assert moved["expected_net_change"] == "990.00"
        with duckdb.connect(str(release(asked.home, "without")), read_only=True) as connection:
            named = connection.execute(
                "select coupon_id from marts.dim_coupons where coupon_id = 'THEN-45'"
                " or follow_up_coupon_id = 'THEN-45' union all select redemption_id from"
                " marts.dim_coupon_redemptions where coupon_id = 'THEN-45'"
            ).fetchall()
        assert named == []

    def test_terms_from_a_day_on_leave_earlier_bills(self, asked: Asked) -> None:
        shown = ask(
            asked.home,
            *("--coupon", "SIXTY", "--set", "percent_off=50", "--from", "2026-05-01"),
            *("--name", "from-may"),
        )
        assert shown.exit_code == 0, shown.output
        told = " ".join(shown.stdout.split())
        assert "SIXTY: percent_off 60 → 50, on bills issued from 2026-05-01 on" in told
        # Of five bills of 200.00 two are later, and one that comes before the follow-up.
        assert "ws_follow Follow +40.00 +20.00 USD" in told
        explained = CliRunner().invoke(
            app,
            [
                *("explain", "ws_follow-2026-04-05", "--release", "what-if/from-may"),
                *("--home", str(asked.home)),
            ],
        )
        told = " ".join(explained.stdout.split())
        assert "Earlier bills are as recorded, whatever terms are shown." in told
        assert "less 120.00 of discount (SIXTY)" in told
        side = asked.home / "what-if" / "from-may"
        assert not list(side.glob("build/*.duckdb")), "the build is not needed any more"

    def test_what_would_have_ended_before_that_day_is_refused(
        self, asked: Asked, tmp_path: Path
    ) -> None:
        file = tmp_path / "ends.csv"
        file.write_text("redemption_id,ends_at\nhalf-1,2026-04-15\n", "utf-8")
        shown = ask(asked.home, file, "--name", "ends", "--from", "2026-05-01")
        assert shown.exit_code == 1
        told = " ".join(shown.stderr.split())
        assert "What was settled before 2026-05-01 would change" in told
        assert "redemption half-1 ends_at 2026-09-01 00:00:00, what if 2026-04-15 00:00:00" in told
        assert "what-if/ends" not in files.what_ifs(asked.home)
        assert not (asked.home / "what-if" / "ends").exists()

    def test_a_follow_up_that_is_expected_before_that_day_is_not_displaced(
        self, asked: Asked, tmp_path: Path
    ) -> None:
        file = tmp_path / "displaced.csv"
        file.write_text(
            "redemption_id,coupon_id,workspace_id,redeemed_at,starts_at\n"
            "later-1,THEN-45,ws_follow,2026-06-01,2027-02-01\n",
            "utf-8",
        )
        shown = ask(asked.home, file, "--name", "displaced", "--from", "2027-01-01")
        assert shown.exit_code == 1, shown.output
        told = " ".join(shown.stderr.split())
        assert "What was settled before 2027-01-01 would change" in told
        assert "follow-1~follow-up is a follow-up that nobody recorded" in told
        # Before the follow-up is due nothing is settled.
        shown = ask(asked.home, file, "--name", "displaced", "--from", "2026-08-01")
        assert shown.exit_code == 0, shown.output

    def test_files_of_an_answer_say_what_was_asked(self, asked: Asked, tmp_path: Path) -> None:
        told = "SIXTY: percent_off 60 → 30"
        answer = ("--release", "what-if/other", "--home", str(asked.home))
        page = tmp_path / "report.html"
        written = CliRunner().invoke(app, ["report", "--out", str(page), *answer])
        assert written.exit_code == 0, written.output
        text = page.read_text("utf-8")
        assert "<title>Coupon Ledger, as of 2026-06-30, what-if/other</title>" in text
        assert f"what-if/other: {told}" in text
        for kind in ("xlsx", "parquet"):
            written = CliRunner().invoke(
                app, ["export", "--format", kind, "--out", str(tmp_path), *answer]
            )
            assert written.exit_code == 0, written.output
        (file,) = tmp_path.glob("coupon-ledger-what-if-other-*.xlsx")
        summary = openpyxl.load_workbook(file)["summary"]
        lines = {row[0]: row[1] for row in summary.iter_rows(max_col=2, values_only=True)}
        assert told in str(lines["What if"])
        metadata = parquet.read_schema(tmp_path / "dim_coupons.parquet").metadata
        assert told in metadata[b"what_if"].decode()
        # What billing would have charged is in the bridge alone: a question corrects no bill.
        begin = list(lines).index("From list to what was billed and kept, all bills exported")
        assert "billed net" in [cell.value for cell in summary[begin + 2]]
        single = ("export", "--workspace", "ws_follow", "--out", str(tmp_path / "one"))
        assert CliRunner().invoke(app, [*single, *answer]).exit_code == 0
        (file,) = (tmp_path / "one").glob("*.xlsx")
        cells = [
            value
            for row in openpyxl.load_workbook(file)["summary"].iter_rows(values_only=True)
            for value in row
        ]
        assert "net" in cells
        assert "billed net" not in cells

    def test_a_question_that_is_refused_leaves_an_earlier_one_and_its_answer(
        self, asked: Asked
    ) -> None:
        def what_ifs() -> Any:
            told = CliRunner().invoke(app, ["releases", "--json", "--home", str(asked.home)])
            return json.loads(told.stdout)["what_ifs"]

        question = ("--coupon", "SIXTY", "--name", "retried", "--set")
        assert ask(asked.home, *question, "percent_off=55").exit_code == 0
        before = what_ifs()
        refused = ask(asked.home, *question, "percent_off=155")
        assert refused.exit_code == 2
        assert "percent_off is above 100" in refused.stderr
        assert what_ifs() == before
        unheard = ("--coupon", "SIXTY", "--name", "unheard", "--set", "percent_off=x")
        assert ask(asked.home, *unheard).exit_code == 2
        assert what_ifs() == before, "a question that was refused is not listed"
        for name, code in (("retried", 0), ("retried", 2), ("../x", 2), ("retry", 2)):
            removed = CliRunner().invoke(
                app, ["what-if", "--remove", name, "--home", str(asked.home)]
            )
            assert removed.exit_code == code, removed.output
            assert not (asked.home / "what-if" / "retried").exists()

    def test_a_question_that_could_not_be_published_leaves_nothing(
        self, asked: Asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        question = ("--coupon", "SIXTY", "--set", "percent_off=5", "--name", "killed")

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as context:
            context.setattr(answering, "serve", killed)
            assert ask(asked.home, *question).exit_code != 0
        side = asked.home / "what-if" / "killed"
        assert "what-if/killed" not in files.what_ifs(asked.home)
        assert not (side / "build").exists()
        assert ask(asked.home, *question).exit_code == 0
        assert len(files.release_ids(side)) == 1
        assert not list(files.releases_dir(side).glob("*.tmp"))

    def test_a_question_for_which_the_disk_has_no_space_leaves_nothing(
        self, asked: Asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: Path, copy: Path) -> None:
            copy.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(copy))

        monkeypatch.setattr(shutil, "copyfile", full)
        question = ("--coupon", "SIXTY", "--set", "percent_off=5", "--name", "crowded")
        refused = ask(asked.home, *question)
        assert refused.exit_code == 1
        assert "No space left on device" in refused.stderr
        assert not (asked.home / "what-if" / "crowded").exists()

    def test_an_answer_that_is_not_written_as_calculated_is_not_served(
        self, asked: Asked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forgets(*_: object) -> None:
            pass

        monkeypatch.setattr(answering, "_change", forgets)
        shown = ask(
            asked.home, "--coupon", "SIXTY", "--set", "percent_off=5", "--name", "unwritten"
        )
        assert shown.exit_code == 1
        assert "was not written as calculated" in shown.stderr
        assert "what-if/unwritten" not in files.what_ifs(asked.home)

    def test_a_question_beside_a_running_refresh_waits_for_its_end(self, asked: Asked) -> None:
        holding = (
            "import sys; from pathlib import Path;"
            " from dagster_project.releases.lock import one_writer\n"
            "with one_writer(Path(sys.argv[1]), 'coupon-ledger run'):\n"
            "    print('held', flush=True); sys.stdin.read()"
        )
        change = of_coupon("SIXTY", ["percent_off=5"])
        told = []
        with subprocess.Popen(
            [sys.executable, "-c", holding, str(asked.home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as refreshing:
            assert refreshing.stdin and refreshing.stdout
            assert refreshing.stdout.readline() == "held\n"
            with (
                pytest.raises(Busy),
                what_if.prepared(Settings(home=asked.home), "beside", change),
            ):
                pytest.fail("it was asked")

            def ended(message: str) -> None:
                told.append(message)
                refreshing.stdin.close()  # type: ignore[union-attr]

            with what_if.prepared(
                Settings(home=asked.home), "beside", change, waiting=ended
            ) as question:
                assert question.question.recorded_release_id == files.current_release(asked.home)
        (message,) = told
        assert "is running" in message and "coupon-ledger run" in message


class TestReading:
    """Every reading command reads it by its name; nothing serves it."""

    def test_commands_read_it_beside_what_is_recorded(self, asked: Asked) -> None:
        def run(*arguments: str) -> Result:
            return CliRunner().invoke(app, [*arguments, "--home", str(asked.home)])

        current = files.current_release(asked.home)
        assert current is not None
        shown = run("workspace", "ws_queue", "--release", "what-if/other")
        assert "SECOND-800" not in shown.stdout and shown.exit_code == 0
        assert "ws_queue" in run("outlook", "ws_queue", "--release", "what-if/other").stdout
        assert run("diff", current, "what-if/other").exit_code == 0
        assert run("verify", "what-if/other").exit_code == 0
        assert "what-if/other of" in " ".join(run("releases").stdout.split())
        for command in (
            "findings",
            "expiring",
            "burndown",
            "variance",
            "programs",
            "bridge",
            "top",
            "cohorts",
        ):
            shown = run(command, "--release", "what-if/other")
            assert shown.exit_code == 0, shown.output
            said = " ".join(shown.stdout.split())
            assert said.startswith("what-if/other: SIXTY: percent_off 60 → 30; "), said
        asked_about = json.loads(
            run("workspace", "ws_queue", "--release", "what-if/other", "--json").stdout
        )["what_if"]
        assert asked_about["terms"][0] == "SIXTY: percent_off 60 → 30"
        assert "what_if" not in json.loads(run("workspace", "ws_queue", "--json").stdout)
        written = run("export", "--out", str(asked.home / "out"), "--release", "what-if/other")
        assert written.exit_code == 0, written.output
        assert files.current_release(asked.home) == current
        for refused in (
            ("restore", "what-if/other"),
            ("close", "2026-05", "--by", "Ada", "--release", "what-if/other"),
        ):
            told = run(*refused)
            assert told.exit_code != 0
            assert "answers a question about other terms" in told.output
        unknown = run("programs", "--release", "what-if/othre")
        assert unknown.exit_code != 0 and "what-if/other" in unknown.stderr

    def test_its_own_data_home_is_verified_as_it_is(self, asked: Asked, tmp_path: Path) -> None:
        side = tmp_path / "what-if" / "other"
        shutil.copytree(asked.home / "what-if" / "other", side, symlinks=True)

        def verified() -> Result:
            return CliRunner().invoke(app, ["verify", "--home", str(side)])

        assert (verified().exit_code, "is sound" in verified().output) == (0, True)
        database = files.release_path(side, files.resolve(side, None))
        database.chmod(0o600)
        with duckdb.connect(str(database)) as connection:
            connection.execute(
                "update marts.dim_coupons set percent_off = 31 where percent_off = 30"
            )
        assert verified().exit_code == 1
        assert "table dim_coupons has" in verified().output
        (side / "question.json").write_text("{", "utf-8")  # it is a question still
        assert "Parquet" not in verified().output

    def test_its_own_data_home_is_told_apart_and_records_nothing(
        self, asked: Asked, tmp_path: Path
    ) -> None:
        side = asked.home / "what-if" / "other"
        before = crashes.contents(side)
        shown = CliRunner().invoke(app, ["expiring", "--home", str(side)])
        assert shown.output.startswith("what-if/other: ")
        for command in (
            ["prove", "in_queue_1", "--out", str(tmp_path / "proof")],
            ["close", "2026-03", "--by", "somebody"],
            ["prune", "--keep", "1"],
        ):
            refused = CliRunner().invoke(app, [*command, "--home", str(side)])
            told = " ".join(refused.output.split())
            assert refused.exit_code != 0 and "is an assumption" in told, command
            assert f"{asked.home}" in told.replace(str(side), ""), command
        assert crashes.contents(side) == before

    @pytest.mark.parametrize("shown", ["recorded", "what-if/other", "another"])
    def test_the_page_ahead_has_it_beside_what_is_recorded(self, asked: Asked, shown: str) -> None:
        recorded = files.current_release(asked.home)
        assert recorded is not None
        with reading(asked.home, recorded) as before, reading(asked.home, "what-if/other") as after:
            (told,) = [
                one
                for one in question.what_if(asked.home, recorded, "what-if/other", "other", [])[
                    "currencies"
                ]
                if one["currency"] == "USD"
            ]
            chosen = Chosen(
                "USD", home=asked.home, release=recorded if shown == "recorded" else shown
            )
            blocks = PAGES["ahead"][1](after if shown == "what-if/other" else before, chosen)
        beside = [one for one in blocks if isinstance(one, Table) and one.name == "beside_other"]
        if shown == "another":  # a release that nothing was asked about
            assert beside == []
            return
        for name in ("discount_amount", "credit_amount", "net_amount"):
            sides = {
                side: sum(row[f"{side}_{name}"] for row in beside[0].rows)
                for side in ("recorded", "what_if", "change")
            }
            assert sides == told["ahead"][name]
        assert sides["change"] != 0


class TestWhatMakesNoSense:
    """A question that cannot be asked says what is wrong, and changes nothing."""

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("--coupon", "SIXTI", "--set", "percent_off=5"), "Did you mean SIXTY"),
            (("--coupon", "SIXTY", "--set", "percent_of=5"), "Did you mean percent_off"),
            (
                ("--coupon", "SIXTY", "--set", "follow_up_coupon_id=QXZ"),
                'List them: coupon-ledger query "from dim_coupons".',
            ),
            (("--coupon", "SIXTY", "--set", "percent_off=60.00"), "nothing would change"),
            (("--coupon", "SIXTY", "--set", "program=specail"), "Did you mean special"),
            (("--coupon", "SIXTY", "--set", "follow_up_coupon_id=THEN-44"), "Did you mean THEN-45"),
            (("--coupon", "SIXTY", "--set", "percent_off"), "give COLUMN=VALUE"),
            (("--coupon", "SIXTY", "--set", "coupon_id=HALF"), "name the coupon with --coupon"),
            (
                ("--coupon", "SIXTY", "--set", "percent_off=5", "--set", "percent_off=6"),
                "percent_off is set twice",
            ),
            (("--coupon", "SIXTY"), "Give a FILE"),
            (("missing.csv",), "cannot be read"),
            (("--coupon", "SIXTY", "--set", "percent_off=5", "--from", "May"), "give a day"),
            (
                ("--coupon", "SIXTY", "--set", "percent_off=5", "--from", "2029-01-01"),
                "up to 24 months after 2026-06-30",
            ),
            (
                ("--coupon", "SIXTY", "--set", "once_per=workspace", "--from", "2026-05-01"),
                "once_per cannot change with --from",
            ),
            (("--remove", "other", "--coupon", "SIXTY"), "goes alone"),
        ],
    )
    def test_it_is_told(self, asked: Asked, arguments: tuple[str, ...], told: str) -> None:
        shown = ask(asked.home, "--name", "wrong", *arguments)
        assert (shown.exit_code, shown.stdout) == (2, "")
        assert told in shown.stderr
        assert not (asked.home / "what-if" / "wrong").exists()

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("a.csv", "coupon_id,percent_off\n", "has no rows"),
            ("a.txt", "x", "neither .csv, .yaml nor .json"),
            ("a.json", "{", "cannot be read as JSON"),
            ("a.json", '[{"coupon_id": "\\ud800"}]', "coupon_id: the value is not UTF-8"),
            ("a.yaml", "invoices: []", "no list of rows 'invoices'"),
            ("a.json", '[{"percent_off": 5}]', "no coupon_id or redemption_id"),
            ("a.csv", "coupon_id,percent_off\nHALF,5\nHALF,6\n", "has two rows"),
            (
                "a.csv",
                "redemption_id,coupon_id,workspace_id,redeemed_at\nr,HALF,ws_bils,2026-06-01\n",
                "Did you mean ws_bills",
            ),
            (
                "a.csv",
                "redemption_id,workspace_id\nhalf-9,ws_bills\n",
                "give coupon_id, redeemed_at",
            ),
            (
                "a.csv",
                "redemption_id,coupon_id,workspace_id,redeemed_at\nr,HALF,ws_bills,2026-07-01\n",
                "would not be known yet",
            ),
            (
                "a.json",
                '{"coupons": [{"coupon_id": "HALF", "withdrawn": true}], "redemptions": [{'
                '"redemption_id": "bills-1", "coupon_id": "HALF"}]}',
                "its coupon HALF is withdrawn",
            ),
            ("a.csv", "coupon_id,once_per,duration\nHALF,,repeating\n", "nothing would change"),
            ("a.yaml", "coupons: {coupon_id: HALF}", "give rows as a list"),
            ("a.yaml", "- {coupon_id: HALF, coupon_id: SIXTY}", "'coupon_id' is given twice"),
            ("a.json", '[{"coupon_id": "HALF", "coupon_id": "SIXTY"}]', "is given twice"),
            ("a.csv", "coupon_id,coupon_id\nHALF,SIXTY\n", "is given twice"),
            ("a.csv", "coupon_id,percent_off\nHALF\n", "row 1 has 1 value for 2 columns"),
            ("a.csv", "coupon_id;percent_off\nHALF;5\n", "no coupon_id or redemption_id"),
            ("a.json", "[" * 100_000, "cannot be read as JSON"),
            ("a.yaml", "- {coupon_id: HALF, withdrawn: flase}", "give true or false"),
            ("a.yaml", "- {coupon_id: HALF, percent_off: [5]}", "is not one value"),
            (
                "a.csv",
                "coupon_id,percent_off,user_id\nHALF,5,u1\n",
                "no column of coupons named 'user_id'",
            ),
        ],
    )
    def test_a_file_is_told_what_is_wrong_with_it(
        self, asked: Asked, tmp_path: Path, name: str, content: str, told: str
    ) -> None:
        (tmp_path / name).write_text(content, "utf-8")
        shown = ask(asked.home, tmp_path / name, "--name", "wrong")
        assert shown.exit_code == 2
        assert told in shown.stderr

    @pytest.mark.parametrize("name", ["../up", "", "a/b", "-x", "x" * 65])
    def test_a_name_is_one_of_a_folder(self, asked: Asked, name: str) -> None:
        shown = ask(asked.home, "--coupon", "SIXTY", "--set", "percent_off=5", f"--name={name}")
        assert shown.exit_code == 2
        assert "--name" in shown.stderr

    def test_a_file_that_is_not_utf_8_is_told(self, asked: Asked, tmp_path: Path) -> None:
        file = tmp_path / "latin.csv"
        file.write_bytes("coupon_id,coupon_name\nHALF,Café\n".encode("latin-1"))
        shown = ask(asked.home, file, "--name", "wrong")
        assert shown.exit_code == 2
        assert "is not UTF-8: byte 31 is no character. Save it as UTF-8." in shown.stderr

    @pytest.mark.parametrize("kind", ["coupons", "redemptions"])
    def test_what_had_ended_by_that_day_cannot_be_withdrawn_from_it(
        self, asked: Asked, tmp_path: Path, kind: str
    ) -> None:
        key = {"coupons": "coupon_id: QUARTER-OFF", "redemptions": "redemption_id: yearly-1"}[kind]
        file = tmp_path / "ended.yaml"
        file.write_text(f"{kind}: [{{{key}, withdrawn: true}}]", "utf-8")
        shown = ask(asked.home, file, "--name", "wrong", "--from", "2026-08-01")
        assert shown.exit_code == 2, shown.output
        assert "nothing would change" in shown.stderr
        shown = ask(asked.home, file, "--name", "ended", "--from", "2026-07-31")
        assert shown.exit_code == 0, shown.output

    def test_terms_that_break_the_contract_publish_nothing(
        self, asked: Asked, tmp_path: Path
    ) -> None:
        file = tmp_path / "much.csv"
        same, wrong = "HALF,50,false", "SIXTY,130,perhaps"
        header = "coupon_id,percent_off,requires_no_prior_coupon"
        file.write_text(f"{header}\n{same}\n{wrong}\n", "utf-8")
        shown = ask(asked.home, file, "--name", "much")
        assert shown.exit_code == 2
        told = " ".join(shown.stderr.split())
        assert "break the contract of the feeds: coupon SIXTY: percent_off is above 100" in told
        assert "requires_no_prior_coupon is not true or false" in told
        assert files.what_ifs(asked.home).count("what-if/much") == 0

    def test_a_build_that_is_not_the_release_is_told(self, asked: Asked, tmp_path: Path) -> None:
        home = tmp_path / "home"
        shutil.copytree(asked.home, home, symlinks=True)
        with duckdb.connect(str(home / "build" / "warehouse.duckdb")) as connection:
            connection.execute("delete from raw.deliveries where feed = 'budgets'")
        change = of_coupon("SIXTY", ["percent_off=5"])
        with what_if.prepared(Settings(home=asked.home), "late", change) as question:
            assert question.question.terms
        with (
            pytest.raises(ReleaseError, match="not of the same state"),
            what_if.prepared(Settings(home=home), "late", change),
        ):
            pytest.fail("it was asked")
