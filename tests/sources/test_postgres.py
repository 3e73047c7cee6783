"""A pull from Postgres: what it delivers, what it refuses before it delivers anything, what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dagster_project.settings import Settings
from dagster_project.sources import deliveries, postgres
from dagster_project.sources.errors import PullError, SetUpWrong
from tests.sources.delivered import files, newest
from tests.sources.postgres_server import binaries

Run = Callable[[str], None]

WORKSPACES = (
    "create table ws (id text, name text, made timestamptz, changed timestamptz);"
    "insert into ws values"
    " ('w1', 'Äpfel, \"große\"', '2025-01-10 09:00+01', '2025-02-01 00:00+00'),"
    " ('w2', null, '2025-01-11 12:30:15.25+00', '2025-02-02 00:00+00')"
)
SELECT = (
    "select id as workspace_id, name as workspace_name, made as created_at, changed as updated_at"
)


def written(folder: Path, **selects: str) -> postgres.SourcesFile:
    path = folder / "sources.toml"
    path.write_text(
        "".join(f'[{feed}]\nselect = """{sql}"""\n' for feed, sql in selects.items()), "utf-8"
    )
    return postgres.read_file(path)


def test_rows_arrive_as_the_contract_writes_them(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    report = postgres.pull(settings, written(tmp_path, workspaces=f"{SELECT} from ws;"))
    assert report.delivered == {"workspaces": 2}
    assert newest(settings.landing)["workspaces"] == {
        "w1": {
            "workspace_id": "w1",
            "workspace_name": 'Äpfel, "große"',
            "created_at": "2025-01-10 08:00:00+00",
            "updated_at": "2025-02-01 00:00:00+00",
        },
        "w2": {
            "workspace_id": "w2",
            "created_at": "2025-01-11 12:30:15.25+00",
            "updated_at": "2025-02-02 00:00:00+00",
        },
    }


def test_the_same_rows_are_delivered_once(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    source = written(tmp_path, workspaces=f"{SELECT} from ws order by id")
    postgres.pull(settings, source)
    assert postgres.pull(settings, source).delivered == {}
    assert len(files(settings.landing)) == 1


def test_a_select_that_names_since_is_asked_for_changed_rows_only(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    source = written(
        tmp_path, workspaces=f"{SELECT} from ws where changed >= {postgres.SINCE} order by id"
    )
    assert postgres.pull(settings, source).delivered == {"workspaces": 2}
    assert postgres.pull(settings, source).delivered == {}
    database("update ws set name = 'Renamed', changed = now() where id = 'w2'")
    assert postgres.pull(settings, source).delivered == {"workspaces": 1}
    assert newest(settings.landing)["workspaces"]["w2"]["workspace_name"] == "Renamed"
    assert postgres.pull(settings, source, everything=True).delivered == {"workspaces": 2}


def test_a_row_that_a_running_transaction_changed_is_asked_for_later(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    import psycopg

    database(WORKSPACES)
    path = tmp_path / "sources.toml"
    path.write_text(
        'overlap = "0 seconds"\n[workspaces]\nselect = "'
        f'{SELECT} from ws where changed >= {postgres.SINCE}"\n'
    )
    source = postgres.read_file(path)
    with psycopg.connect() as slow:
        slow.execute("update ws set name = 'Late', changed = now() where id = 'w1'")
        postgres.pull(settings, source)
    assert postgres.pull(settings, source).delivered == {"workspaces": 1}
    assert newest(settings.landing)["workspaces"]["w1"]["workspace_name"] == "Late"


def test_a_row_that_a_replica_has_not_replayed_yet_is_asked_for_later(
    database: Run, replica: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    path = tmp_path / "sources.toml"
    path.write_text(
        'overlap = "0 seconds"\n[workspaces]\nselect = "'
        f'{SELECT} from ws where changed >= {postgres.SINCE}"\n'
    )
    source = postgres.read_file(path)
    with (
        psycopg.connect(autocommit=True) as primary,
        psycopg.connect(autocommit=True, port=int(replica)) as connection,
        monkeypatch.context() as patched,
    ):

        def replayed() -> None:
            row = primary.execute("select pg_current_wal_lsn()::text").fetchone()
            assert row is not None
            until = time.monotonic() + 30
            behind = "select pg_last_wal_replay_lsn() < %s::pg_lsn"
            while connection.execute(behind, row).fetchone() == (True,):
                assert time.monotonic() < until
                time.sleep(0.02)

        patched.setenv("PGPORT", replica)
        primary.execute(WORKSPACES)
        replayed()
        assert postgres.pull(settings, source).delivered == {"workspaces": 2}
        connection.execute("select pg_wal_replay_pause()")
        primary.execute("update ws set name = 'Late', changed = now() where id = 'w1'")
        postgres.pull(settings, source)
        connection.execute("select pg_wal_replay_resume()")
        replayed()
        assert postgres.pull(settings, source).delivered == {"workspaces": 1}
        assert newest(settings.landing)["workspaces"]["w1"]["workspace_name"] == "Late"


def test_a_replica_that_has_replayed_nothing_is_asked_for_everything_again(
    database: Run, replica: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(
        tmp_path,
        workspaces="select 'w1' as workspace_id, now() as created_at, now() as updated_at"
        f" where now() >= {postgres.SINCE}",
    )
    with monkeypatch.context() as patched:
        patched.setenv("PGPORT", replica)
        for _ in range(2):
            assert postgres.pull(settings, source).since == {"workspaces": "-infinity"}


def test_another_select_is_asked_for_everything_again(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    condition = f"from ws where changed >= {postgres.SINCE}"
    postgres.pull(settings, written(tmp_path, workspaces=f"{SELECT} {condition}"))
    other = f"{SELECT.replace('name as', 'upper(name) as')} {condition}"
    assert postgres.pull(settings, written(tmp_path, workspaces=other)).delivered == {
        "workspaces": 2
    }


def test_another_database_is_asked_for_everything(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    source = written(tmp_path, workspaces=f"{SELECT} from ws where changed >= {postgres.SINCE}")
    postgres.pull(settings, source)
    [place] = settings.home.rglob("state.json")
    state = json.loads(place.read_text("utf-8"))
    state["workspaces"]["database"] += " of another server"
    place.write_text(json.dumps(state), "utf-8")
    database("update ws set name = 'Renamed' where id = 'w2'")
    assert postgres.pull(settings, source).delivered == {"workspaces": 2}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            "1.5::double precision as list_amount",
            "list_amount must be amount and is double precision",
        ),
        ("12::money as list_amount", "list_amount must be amount and is money"),
        ("1200::bigint as list_amount", "list_amount / 100.0"),
        ("now() as period_start", "period_start must be date and is timestamp with time zone"),
        ("1.0::numeric as invoice_id", "invoice_id must be id and is numeric"),
        ("array[1] as mtus", "mtus must be whole and is integer[]"),
        ("'{}'::jsonb as plan", "plan must be text and is jsonb; cast it to text"),
        ("interval '1 month' as billing_interval", "billing_interval must be enum and is interval"),
        ("'w'::character(9) as workspace_id", "cast(workspace_id as text) removes"),
        ("array['a'] as plan", "plan must be text and is text[]"),
        ("null as list_amount, 'x'::bytea as plan", "plan must be text and is bytea"),
        ("1", "column ?column? is not in the feed"),
        ('1.0 as "List_Amount"', "did you mean list_amount?"),
        ("1 as discountable_amout", "did you mean discountable_amount?"),
        ("'a' as plan, 'b' as plan", "column plan occurs more than once"),
        ("'USD' as currency", "column workspace_id is missing"),
    ],
)
def test_a_column_of_another_type_is_named_before_anything_is_delivered(
    database: Run, settings: Settings, tmp_path: Path, columns: str, told: str
) -> None:
    database(WORKSPACES)
    source = written(tmp_path, workspaces=f"{SELECT} from ws", invoices=f"select {columns}")
    with pytest.raises(PullError, match="invoices") as caught:
        postgres.pull(settings, source)
    assert told in str(caught.value)
    assert files(settings.landing) == []


def test_domains_and_enumerations_count_as_what_they_are_made_of(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(
        WORKSPACES + "; create domain money_cents as numeric(12,2); create domain name_of as text;"
        " create type term as enum ('once', 'forever')"
    )
    select = (
        "select 'c'::name_of as coupon_id, 'C' as coupon_name, 'special' as program,"
        " 'amount_off' as discount_type, 5::money_cents as amount_off, 'EUR' as currency,"
        " 'once'::term as duration, now() as updated_at"
    )
    postgres.pull(settings, written(tmp_path, coupons=select))
    assert newest(settings.landing)["coupons"]["c"]["amount_off"] == "5.00"


def test_a_view_with_arrays_and_json_beside_its_columns_is_read_like_a_table(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(
        WORKSPACES
        + "; alter table ws add tags text[] default '{a,b}', add more jsonb default '{}';"
        " create view shown as select * from ws;"
        " create materialized view kept as select id, name, made, changed from shown"
    )
    for relation in ("shown", "kept"):
        source = written(tmp_path, workspaces=f"{SELECT} from {relation} -- all of it")
        postgres.pull(settings, source, everything=True)
    assert set(newest(settings.landing)["workspaces"]) == {"w1", "w2"}


def test_values_that_are_no_amount_or_instant_arrive_as_they_are_for_the_contract_to_refuse(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database("create table c (id text, off numeric, at timestamp)")
    database(
        "insert into c values ('nan', 'NaN', '2025-01-01'), ('much', 'Infinity', '2025-01-01'),"
        " ('ever', 5, 'infinity'), ('zoneless', 5.10, '2025-01-01 08:30')"
    )
    select = (
        "select id as coupon_id, id as coupon_name, 'special' as program,"
        " 'amount_off' as discount_type, off as amount_off, 'EUR' as currency,"
        " 'once' as duration, at as updated_at from c"
    )
    postgres.pull(settings, written(tmp_path, coupons=select))
    rows = newest(settings.landing)["coupons"]
    assert rows["nan"]["amount_off"] == "NaN"
    assert rows["much"]["amount_off"] == "Infinity"
    assert rows["ever"]["updated_at"] == "infinity"
    assert rows["zoneless"]["updated_at"] == "2025-01-01 08:30:00"
    assert rows["zoneless"]["amount_off"] == "5.10"


# -- What stops a pull -----------------------------------------------------------------------------


def many(run: Run, rows: int = 200_000) -> str:
    run(
        "create table ws as select 'ws_' || i as id, repeat('n', 90) as name,"
        " timestamptz '2024-01-01' as made, timestamptz '2025-01-01' as changed"
        f" from generate_series(1, {rows}) as i"
    )
    return f"{SELECT} from ws where changed >= {postgres.SINCE}"


@pytest.mark.parametrize(
    ("ended_with", "told"),
    [
        ("pg_cancel_backend", "The SELECT of workspaces stopped: canceling statement"),
        ("pg_terminate_backend", "The SELECT of workspaces stopped"),
    ],
)
def test_a_copy_that_is_stopped_halfway_delivers_nothing_and_is_asked_for_again(
    database: Run,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ended_with: str,
    told: str,
) -> None:
    source = written(tmp_path, workspaces=many(database))
    copied = postgres._copied

    def stopped(connection: Any, sql: str) -> Iterator[memoryview]:
        for number, line in enumerate(copied(connection, sql)):
            yield line
            if number == 1_000:
                database(f"select {ended_with}({connection.info.backend_pid})")

    with monkeypatch.context() as patched, pytest.raises(PullError, match=told) as caught:
        patched.setattr(postgres, "_copied", stopped)
        postgres.pull(settings, source)
    assert "nothing was delivered" in str(caught.value)
    assert list(settings.landing.glob("*/*")) == []
    assert postgres.pull(settings, source).delivered == {"workspaces": 200_000}


def test_a_delivery_that_fails_leaves_the_instant_of_changes_where_it_was(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    condition = f"from ws where changed >= {postgres.SINCE} order by id"
    source = written(tmp_path, workspaces=f"{SELECT} {condition}")
    postgres.pull(settings, source)
    state = settings.home / "pulls" / "postgres" / "state.json"
    before = state.read_text("utf-8")
    database("update ws set name = 'Renamed', changed = now() where id = 'w2'")

    def busy() -> AbstractContextManager[None]:
        raise PullError("A refresh is running.", "Wait for it to end.")

    with pytest.raises(PullError, match="refresh is running"):
        postgres.pull(settings, source, exclusively=busy)
    assert state.read_text("utf-8") == before
    assert len(files(settings.landing)) == 1
    assert postgres.pull(settings, source).delivered == {"workspaces": 1}
    assert not list(settings.landing.glob("*/.*")), "nothing is left aside"


def test_a_pull_goes_on_from_the_last_after_a_restart(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    condition = f"from ws where changed >= {postgres.SINCE} order by id"
    source = written(tmp_path, workspaces=f"{SELECT} {condition}")
    assert postgres.pull(settings, source).since == {"workspaces": "-infinity"}
    again = postgres.pull(settings, postgres.read_file(source.path)).since["workspaces"]
    assert again > "2026", "an instant, from what the pull before left"
    (settings.home / "pulls" / "postgres" / "state.json").write_text("{half")
    with pytest.raises(PullError, match=r"state.json is damaged.*Remove it"):
        postgres.pull(settings, source)


def test_a_value_with_quotes_in_it_is_left_out_of_messages() -> None:
    import psycopg

    error = psycopg.errors.InvalidTextRepresentation(
        'invalid input syntax for type integer: "Ann "Bee" Sea"'
    )
    said = postgres._said(error, is_about_rows=True)
    assert said == "invalid input syntax for type integer: …"


def test_a_failure_in_the_second_feed_delivers_nothing_of_the_first(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    database(WORKSPACES)
    source = written(
        tmp_path,
        workspaces=f"{SELECT} from ws",
        redemptions="select 'r' as redemption_id, 'c' as coupon_id, 'w' as workspace_id,"
        " (now() + cast('x' || id as interval)) as redeemed_at, now() as updated_at from ws",
    )
    with pytest.raises(PullError, match="redemptions") as caught:
        postgres.pull(settings, source)
    assert "xw1" not in str(caught.value)  # a value of a row may be personal data
    assert list(settings.landing.glob("*/*")) == []


def test_nothing_can_be_written(database: Run, settings: Settings, tmp_path: Path) -> None:
    database(
        WORKSPACES + "; create function sly() returns text language sql as"
        " $$ insert into ws values ('w3', '', now(), now()) returning id $$"
    )
    with pytest.raises(PullError, match="read-only transaction"):
        postgres.pull(
            settings, written(tmp_path, workspaces=f"{SELECT.replace(' id ', ' sly() ')} from ws")
        )


def test_a_killed_pull_is_finished_by_the_next(
    database: Run, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(WORKSPACES)
    source = written(tmp_path, workspaces=f"{SELECT} from ws")

    def killed(listed: Path) -> list[deliveries.Part]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(deliveries, "_finish", killed)
        postgres.pull(settings, source)
    assert files(settings.landing) == []
    assert deliveries.is_unfinished(settings.home)
    postgres.pull(settings, source)
    assert set(newest(settings.landing)["workspaces"]) == {"w1", "w2"}
    assert not deliveries.is_unfinished(settings.home)


def test_a_database_that_does_not_answer_is_explained(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGPASSWORD", "not-to-be-shown")
    with pytest.raises(PullError, match="Set PGHOST") as caught:
        postgres.pull(settings, written(tmp_path, workspaces="select 1"))
    assert "not-to-be-shown" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no SELECT"),
        ("[invoice]\nselect = 'select 1'", "no feed 'invoice'"),
        ("[invoices]\nsql = 'select 1'", "has no select"),
        ("[invoices]\nselect = 'select 1'\nwatermark = 'x'", "'watermark'"),
        ("overlap = 'long'\n[invoices]\nselect = 'select 1'", "overlap"),
        ("[invoices", "is not TOML"),
    ],
)
def test_a_file_of_selects_that_is_wrong_is_explained(
    tmp_path: Path, content: str, told: str
) -> None:
    path = tmp_path / "sources.toml"
    path.write_text(content)
    with pytest.raises(SetUpWrong) as caught:
        postgres.read_file(path)
    assert told in str(caught.value)


def test_many_rows_cost_little_more_than_with_psql_and_no_memory(
    database: Run, settings: Settings, tmp_path: Path
) -> None:
    rows = 200_000
    database(
        "create table ws as select 'ws_' || i as id, 'Name ' || i as name,"
        " timestamptz '2024-01-01' + i * interval '1 second' as made, now() as changed"
        f" from generate_series(1, {rows}) as i"
    )
    source = written(tmp_path, workspaces=f"{SELECT} from ws")
    script = (
        "import resource, sys, time; from pathlib import Path;"
        "from dagster_project.settings import Settings; from dagster_project.sources import postgres;"
        "import psycopg;"
        "home, landing, file = map(Path, sys.argv[1:]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; began = time.perf_counter();"
        "postgres.pull(Settings(home=home, landing=landing), postgres.read_file(file));"
        "print(time.perf_counter() - began,"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    ours, psqls, grown = [], [], 0
    for number in range(3):
        began = time.perf_counter()
        subprocess.run(
            [
                *(str(binaries() / "psql"), "--quiet", "--no-psqlrc", "--command"),
                f"\\copy ({SELECT} from ws) to '{tmp_path / 'psql.csv'}' csv header",
            ],
            check=True,
        )
        psqls.append(time.perf_counter() - began)
        told = subprocess.run(
            [
                *(sys.executable, "-c", script, str(tmp_path / f"home-{number}")),
                *(str(tmp_path / f"landing-{number}"), str(source.path)),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        ours.append(float(told[0]))
        grown = max(grown, int(told[1]))
    assert grown < 64 * 1024, "in kilobytes; the file alone has 15 MB"
    # A quarter of a second is what a pull costs beside its rows: connecting, checking, its records.
    assert min(ours) < 1.5 * min(psqls) + 0.25
