"""An accepted finding is moved, not hidden; an entry that has expired or matches nothing is reported."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dagster_project.refresh import acceptances
from tests.dbt.compiled import CompiledModels
from tests.reference import histories


@pytest.mark.parametrize(
    ("zone", "midnight"),
    [("UTC", timedelta()), ("America/St_Johns", timedelta(hours=2, minutes=30))],
)
def test_acceptances_move_findings_and_are_reported_when_stale(
    compiled_folder: Path, tmp_path: Path, zone: str, midnight: timedelta
) -> None:
    compiled = CompiledModels(compiled_folder, histories.AS_OF, zone)
    records = histories.combine(histories.sample_worlds(40, seed=77))
    with compiled.built([histories.as_deliveries(records)]) as connection:
        rows = connection.execute(
            "select finding_id from marts.fct_audit_findings order by finding_id limit 2"
        ).fetchall()
        before = connection.execute("select count(*) from marts.fct_audit_findings").fetchone()
        for schema in ("marts", "intermediate", "staging"):
            connection.execute(f"drop schema {schema} cascade")
        today, yesterday = compiled.as_of, compiled.as_of - timedelta(days=1)
        (last_day,), (run_out,) = rows
        reviewed = tmp_path / "accepted_findings.csv"
        reviewed.write_text(
            "finding_id,reason,approved_by,until\n"
            f"{last_day},agreed,A,{today}\n{run_out},agreed,A,{yesterday}\nnothing,agreed,A,{today}\n",
            "utf-8",
        )
        acceptances.load(connection, reviewed)
        compiled.build(connection)
        statuses = dict(
            connection.execute(
                "select finding_id, review_status from marts.fct_audit_findings"
            ).fetchall()
        )
        [(occurred_at,)] = connection.execute(
            "select occurred_at from marts.fct_audit_findings where finding_type = 'acceptance_expired'"
        ).fetchall()
    assert before is not None
    assert len(statuses) == before[0] + 2
    assert statuses[last_day] == "accepted"
    assert statuses[run_out] == "open"
    assert statuses[f"acceptance_expired:{run_out}"] == "open"
    assert statuses["acceptance_unmatched:nothing"] == "open"
    assert occurred_at == datetime.combine(yesterday, datetime.min.time()) + midnight
