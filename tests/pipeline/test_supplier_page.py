"""The page for the supplier says what arrived and what to correct, and runs nothing it was sent."""

from __future__ import annotations

import html
from pathlib import Path

import duckdb

from dagster_project.dashboard import supplier_page
from dagster_project.releases import open_release
from tests.pipeline.conftest import SampleRun, in_process


def test_the_page_names_every_file_and_every_rejected_row(
    sample_run: SampleRun, tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    result = in_process("deliveries", "--home", sample_run.home, "--page", target)
    assert result.returncode == 0, result.stderr
    text = target.read_text("utf-8")
    with open_release(sample_run.home) as connection:
        files = connection.execute("select file_name from release.deliveries").fetchall()
        rejected = connection.execute(
            "select distinct reasons from release.rejected_rows"
        ).fetchall()
    assert files
    assert all(name in text for (name,) in files)
    assert rejected
    assert all(reason in text for (reason,) in rejected)
    before, inside = text.split("<details>")
    assert "record is malformed" in before
    assert "<summary>" in inside
    broken = '<td class="number bad">'
    assert broken in before
    assert broken not in inside.split("</details>")[0]


def test_every_check_that_a_file_did_not_pass_is_listed_with_what_it_found(
    sample_run: SampleRun, tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    in_process("deliveries", "--home", sample_run.home, "--page", target)
    page = html.unescape(target.read_text("utf-8"))
    told = " ".join(in_process("deliveries", "--home", sample_run.home).stdout.split())
    with open_release(sample_run.home) as connection:
        counted = connection.execute(
            "select table_name, name, severity, failures from release.checks"
            " where checked_by = 'supplier gate' and failures > 0 order by all"
        ).fetchall()
        listed = connection.execute(
            "select feed, name, severity, count(*) from release.delivery_checks group by all order by all"
        ).fetchall()
        found = connection.execute(
            "select strftime(arrived_at, '%Y-%m-%d %H:%M'), file_name, name, observed"
            " from release.delivery_checks join release.deliveries using (delivery_id, feed, file_name)"
        ).fetchall()
    assert counted
    assert counted == listed
    assert len(found) == sum(count for *_, count in listed)
    assert ("invoices/invoices-2023h2.csv", "list_amount_is_readable") in {
        (file, name) for _, file, name, _ in found
    }
    for arrived, file, name, observed in found:
        row = f'>{arrived}</td><td class="file">{file}</td><td>{name.replace("_", " ")}</td>'
        assert row in page
        assert f">{observed}</td>" in page
        assert f"Checks failed by {file}: " in told
        assert f"{name} ({observed})" in told


def test_what_was_delivered_is_escaped() -> None:
    with duckdb.connect() as connection:
        connection.execute("create schema release")
        connection.execute(
            "create table release.release as select 'r' as release_id, date '2026-01-01' as as_of_date"
        )
        connection.execute(
            "create table release.deliveries as select 'd' as delivery_id, timestamp '2026-01-01' as arrived_at,"
            " '<b>.csv' as file_name, 'invoices' as feed, 'refused' as verdict,"
            " '<script>alert(1)</script>' as refusal_reason, '<i>' as notes, null::bigint as physical_rows,"
            " 0 as accepted_rows, 0 as superseded_rows, 0 as duplicate_rows, 0 as rejected_rows"
        )
        connection.execute(
            "create table release.rejected_rows as select 'invoices' as feed, 'no' as reasons,"
            " '<b>.csv' as file_name, 1 as row_number, '{{ 7 * 7 }}<script>' as record"
        )
        connection.execute(
            "create table release.checks as select 'x' as name, 'warn' as severity, 0 as failures,"
            " 'invoices' as table_name, 'supplier gate' as checked_by"
        )
        connection.execute(
            "create table release.delivery_checks as select 'd' as delivery_id, 'invoices' as feed,"
            " '<b>.csv' as file_name, 'x' as name, 'warn' as severity, 'such as <script>' as observed from range(201)"
        )
        text = supplier_page.page(connection)
    assert "<script>" not in text
    assert "{{ 7 * 7 }}&lt;script&gt;" in text
    assert text.count("such as &lt;script&gt;") == 200
    assert "<p>and 1 more</p>" in text
