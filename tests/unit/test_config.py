"""`config` lists every setting, where it comes from and what may be a typing error; never a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dagster_project.answers.config import SECRET, config
from dagster_project.cli import app
from dagster_project.product import product_version
from dagster_project.settings import Settings, descriptions

HOOK = "https://hooks.example.com/services/very-private"


def told(monkeypatch: pytest.MonkeyPatch, home: Path, **environment: str) -> dict[str, Any]:
    """The answer if the environment has these variables."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return config(Settings(home=home), environment, ["home"])


def setting(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = (one for one in found["settings"] if one["name"] == name)
    return {key: one[key] for key in ("value", "source", "default")}


def test_every_setting_is_listed_and_described() -> None:
    found = config(Settings(), {})
    assert [one["name"] for one in found["settings"]] == list(Settings.model_fields)
    assert all(one["description"].endswith((".", "secret.")) for one in found["settings"])
    assert descriptions().keys() == Settings.model_fields.keys()
    assert {one["source"] for one in found["settings"]} == {"default"}
    assert all(one["value"] == one["default"] for one in found["settings"])
    json.dumps(found)


def test_a_setting_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = told(monkeypatch, tmp_path, COUPON_LEDGER_THREADS="7", coupon_ledger_strict="true")
    default = {"value": "4GB", "source": "default", "default": "4GB"}
    assert setting(found, "threads") == {"value": 7, "source": "environment", "default": 2}
    assert setting(found, "strict")["source"] == "environment"
    assert setting(found, "memory_limit") == default
    assert setting(found, "home")["source"] == "option"
    assert setting(found, "home")["value"] == str(tmp_path)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conf = {"spark.hadoop.fs.s3a.secret.key": "very-private", "spark.executor.cores": "2"}
    found = told(
        monkeypatch,
        tmp_path,
        COUPON_LEDGER_ALERT_WEBHOOK_URL=HOOK,
        COUPON_LEDGER_SPARK_CONF=json.dumps(conf),
        COUPON_LEDGER_SPARK_MASTER="spark://me:very-private@host:7077",
    )
    assert "very-private" not in json.dumps(found)
    assert setting(found, "alert_webhook_url")["value"] == SECRET
    assert setting(found, "spark_conf")["value"]["spark.executor.cores"] == "2"
    assert setting(found, "spark_master")["value"] == f"spark://me:{SECRET}@host:7077"


def test_an_unknown_setting_is_named_with_what_is_near_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = told(
        monkeypatch, tmp_path, COUPON_LEDGER_THREDS="3", COUPON_LEDGER_QQ="1", OTHER_HOME="x"
    )
    assert [one["variable"] for one in found["unknown"]] == [
        "COUPON_LEDGER_QQ",
        "COUPON_LEDGER_THREDS",
    ]
    nothing, near = (one["near"] for one in found["unknown"])
    assert nothing == []
    assert near[0] == "COUPON_LEDGER_THREADS"


def test_what_the_configuration_of_dagster_reads_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_db: {hostname: {env: COUPON_LEDGER_PG_HOST}}}}", "utf-8"
    )
    names = {"COUPON_LEDGER_PG_HOST": "db", "COUPON_LEDGER_PG_HOTS": "db"}
    found = told(monkeypatch, tmp_path, **names)
    assert [one["variable"] for one in found["unknown"]] == ["COUPON_LEDGER_PG_HOTS"]


def test_the_command_lists_one_setting_a_line_and_answers_in_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COUPON_LEDGER_MEMORY_LIMIT", "3GB")
    monkeypatch.setenv("COUPON_LEDGER_STRICKT", "1")
    monkeypatch.setenv("COUPON_LEDGER_SPARK_MASTER", "spark://a\x1b[31m")
    shown = CliRunner().invoke(app, ["config", "--home", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    (line,) = (one for one in shown.stdout.splitlines() if "MEMORY_LIMIT" in one)
    assert line.split() == [
        *("COUPON_LEDGER_MEMORY_LIMIT", "3GB"),
        *("(environment;", "default", "4GB)"),
    ]
    assert "COUPON_LEDGER_STRICKT: did you mean COUPON_LEDGER_STRICT?" in shown.stdout
    assert "\x1b" not in shown.stdout
    answered = CliRunner().invoke(app, ["config", "--json"])
    assert json.loads(answered.stdout)["unknown"][0]["near"] == ["COUPON_LEDGER_STRICT"]


def test_the_program_shows_its_version() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"coupon-ledger {product_version()}\n")
