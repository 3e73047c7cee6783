"""An accepted finding is moved, not hidden; an entry that has run out or fits nothing is reported."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dagster_project.refresh import acceptances
from tests.dbt.compiled import CompiledModels
from tests.reference import histories


def test_acceptances_move_findings_and_are_reported_when_stale(
    compiled: CompiledModels, tmp_path: Path
) -> None:
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
        assert acceptances.load(connection, reviewed) == 3
        compiled.build(connection)
        statuses = dict(
            connection.execute(
                "select finding_id, review_status from marts.fct_audit_findings"
            ).fetchall()
        )
    assert before is not None
    assert len(statuses) == before[0] + 2
    assert statuses[last_day] == "accepted"
    assert statuses[run_out] == "open"
    assert statuses[f"acceptance_expired:{run_out}"] == "open"
    assert statuses["acceptance_unmatched:nothing"] == "open"
