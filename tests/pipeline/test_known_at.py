"""What was known at an earlier instant can be published again, beside what is served."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dagster_project import releases
from dagster_project.arrival import arrive
from dagster_project.cli import app
from dagster_project.cli import run as cli_run
from dagster_project.cli.run import refresh_known_at
from dagster_project.refresh import known_at
from dagster_project.releases import files
from dagster_project.sample import generate_sample
from dagster_project.settings import Settings
from tests import crashes
from tests.pipeline.conftest import NOW, HandMade, TwoDays


class TestLayingOut:
    """The data home of an instant holds what had arrived by then, and nothing later."""

    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A home into which coupons came first and everything else an hour later."""
        folder = tmp_path_factory.mktemp("known")
        generate_sample(12, 8, 7, folder)
        home = folder / "home"
        HandMade(home).write().publish()
        shutil.rmtree(home / "build")
        (folder / "first").mkdir()
        shutil.copytree(folder / "landing" / "coupons", folder / "first" / "coupons")
        arrive(folder / "first", home, "1", NOW, with_gate=False)
        arrive(folder / "landing", home, "2", NOW + timedelta(hours=1), with_gate=False)
        return home

    @pytest.mark.parametrize(
        ("text", "known"),
        [
            ("2026-04-01T05:00:00Z", 2),
            ("2026-04-01T07:00:00+02:00", 2),
            ("2026-04-01T05:59:59.999999", 2),
            ("2026-04-01T06:00:00Z", 9),
            ("2026-04-02 00:00", 9),
        ],
    )
    def test_what_had_arrived_is_known(self, home: Path, text: str, known: int) -> None:
        instant = known_at.resolve(home, text)
        prepared = known_at.prepare(Settings(home=home), instant)
        assert (prepared.known, prepared.deliveries) == (known, 9)
        again = known_at.prepare(Settings(home=home), instant)
        assert again == prepared
        reports = arrive(again.settings.landing, again.settings.home, "3", NOW, with_gate=False)
        assert [report.verdict for report in reports].count("loaded") == known

    def test_a_release_knew_what_it_lists_whatever_the_clock_said(self, tmp_path: Path) -> None:
        generate_sample(12, 8, 7, tmp_path)
        landing, home = tmp_path / "landing", tmp_path / "home"
        (landing / "invoices").rename(tmp_path / "invoices")
        release_id = crashes.refresh(home, landing)
        (tmp_path / "invoices").rename(landing / "invoices")
        arrive(landing, home, "later", NOW - timedelta(days=1), with_gate=False)
        instant = known_at.resolve(home, release_id)
        prepared = known_at.prepare(Settings(home=home), instant)
        with releases.open_release(home, release_id) as connection:
            listed = connection.execute("select count(*) from release.deliveries").fetchone()
        assert (prepared.known,) == listed
        assert prepared.known < prepared.deliveries

    def test_an_archive_that_lacks_what_a_release_was_made_from_is_told(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (release_id,) = files.release_ids(home)
        assert not refresh_known_at(Settings(home=home), release_id)
        told = capsys.readouterr().err
        assert "not in the archive, such as invoices/a.csv" in told
        assert "from a backup" in told

    def test_the_day_is_that_of_the_release_of_then(self, home: Path) -> None:
        (release_id,) = files.release_ids(home)
        assert known_at.resolve(home, release_id) == known_at.Instant(
            NOW, date(2026, 3, 31), release_id
        )
        assert known_at.resolve(home, "2026-04-01T06:00Z").as_of == date(2026, 3, 31)
        assert known_at.resolve(home, "2026-03-01T06:00Z").as_of is None

    @pytest.mark.parametrize("given", [False, True])
    def test_strict_and_always_hold_here_too(
        self, home: Path, given: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[bool, bool]] = []

        def refreshed(settings: Settings, as_of: date, *, always: bool = False) -> bool:
            asked.append((settings.strict, always))
            return True

        monkeypatch.setattr(cli_run, "refresh", refreshed)
        options = ["--strict", "--always"] if given else []
        command = ["run", "--home", str(home), "--known-at", "2026-04-01T06:00Z", *options]
        assert CliRunner().invoke(app, command).exit_code == 0
        assert asked == [(given, given)]

    def test_nothing_known_is_told(self, home: Path) -> None:
        with pytest.raises(ValueError, match="the first came at 2026-04-01T05:00:00Z"):
            refresh_known_at(Settings(home=home), "2026-03-31T00:00Z")

    @pytest.mark.parametrize("text", ["yesterday", "2026-04-01", "2026-04-01T25:00Z"])
    def test_what_is_no_instant_is_told(self, home: Path, text: str) -> None:
        with pytest.raises(ValueError, match="--known-at"):
            known_at.resolve(home, text)

    def test_a_release_that_is_not_there_is_told(self, home: Path) -> None:
        with pytest.raises(releases.NoRelease):
            known_at.resolve(home, "20200101T000000Z-00000000")


class TestTheRealRun:
    """A run at the instant of an old release gives that release's content."""

    def test_it_gives_the_old_content_and_touches_nothing_else(
        self, two_days: TwoDays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = Settings(home=tmp_path / "home")
        shutil.copytree(two_days.home, settings.home, symlinks=True)
        served, after = files.current_release(settings.home), crashes.contents(settings.home)
        assert after != two_days.contents
        assert after["marts", "fct_restatements"][0] > 0
        with releases.open_release(settings.home) as connection:
            told = connection.execute(
                "select distinct file_name from marts.fct_restatements where file_name is not null"
            ).fetchall()
        assert told
        assert "Changed in closed months" in two_days.told[1]

        assert refresh_known_at(settings, two_days.first)
        shown = capsys.readouterr().out
        assert "As known at" in shown and "deliveries" in shown
        (side,) = (settings.home / "known-at").iterdir()
        assert crashes.contents(side) == two_days.contents
        assert crashes.contents(settings.home) == after
        assert files.current_release(settings.home) == served
