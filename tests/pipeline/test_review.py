"""Strict runs, the reviewed file and rebuilding, by the commands that a person would give."""

from __future__ import annotations

from pathlib import Path

from dagster_project.releases import open_release
from tests.pipeline.conftest import in_process


def served(home: Path) -> str:
    return str((home / "current").readlink())


def test_a_strict_run_publishes_nothing_while_billing_errors_are_open(own_home: Path) -> None:
    before = served(own_home)
    result = in_process("run", "--home", own_home, "--strict")
    assert result.returncode == 1
    assert "finding discount_after_expiry: " in result.stderr
    assert "finding coupon_terms_changed: " in result.stderr
    remedy = " ".join(result.stderr.partition("What to do:")[2].split())
    assert "`coupon-ledger findings --review open`" in remedy
    assert "accepted_findings.csv" in remedy
    assert "is still current" in result.stderr
    assert served(own_home) == before


def test_a_strict_run_publishes_once_every_error_is_accepted(own_home: Path) -> None:
    before = served(own_home)
    with open_release(own_home) as connection:
        findings = connection.execute(
            "select finding_id from marts.fct_audit_findings"
            " where severity = 'error' or finding_type = 'coupon_terms_changed'"
        ).fetchall()
    lines = [f"{finding_id},agreed,R. Roe,2026-06-30" for (finding_id,) in findings]
    reviewed = "\n".join(["finding_id,reason,approved_by,until", *lines])
    (own_home / "accepted_findings.csv").write_text(reviewed, "utf-8")
    result = in_process("run", "--home", own_home, "--strict")
    assert result.returncode == 0, result.stderr
    assert served(own_home) != before
    with open_release(own_home) as connection:
        still_listed = connection.execute(
            "select count(*) from marts.fct_audit_findings where review_status = 'accepted'"
        ).fetchone()
    assert still_listed == (len(findings),)


def test_a_faulty_reviewed_file_stops_the_run_and_says_where(own_home: Path) -> None:
    before = served(own_home)
    (own_home / "accepted_findings.csv").write_text("finding_id,reason\n", "utf-8")
    result = in_process("run", "--home", own_home)
    assert result.returncode == 1
    assert "accepted_findings.csv" in result.stderr
    assert "approved_by, until" in result.stderr
    assert served(own_home) == before


def test_a_rebuild_from_the_archive_gives_the_same_release(own_home: Path) -> None:
    before = served(own_home)
    (own_home / "build" / "warehouse.duckdb").unlink()
    result = in_process("rebuild", "--home", own_home)
    assert result.returncode == 0, result.stderr
    again = in_process("run", "--home", own_home)
    assert again.returncode == 0, again.stderr
    assert served(own_home) == before
