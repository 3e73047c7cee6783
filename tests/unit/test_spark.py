"""How Spark is configured, and what is reported if it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from dagster_project.refresh import spark
from dagster_project.settings import Settings


def given(home: Path, **settings: object) -> Settings:
    """Settings of a data home, whatever this shell's are."""
    return Settings.model_validate({"home": home, "engine": "spark", **settings})


class TestConfiguration:
    """The session's configuration: what is needed, what suits the machine, and what was set."""

    def told(self, settings: Settings, rows: int = 1000) -> dict[str, str]:
        return spark.configuration(settings, Path("/logs/log4j2.properties"), rows)

    def test_on_this_machine_it_has_the_threads_and_memory_of_duckdb(self, tmp_path: Path) -> None:
        told = self.told(given(tmp_path, threads=3, memory_limit="2GB"))
        assert told["spark.master"] == "local[3]"
        assert told["spark.driver.memory"] == "1907m"
        assert told["spark.driver.bindAddress"] == "127.0.0.1"

    def test_a_cluster_keeps_its_own_memory_and_addresses(self, tmp_path: Path) -> None:
        told = self.told(given(tmp_path, spark_master="spark://host:7077"))
        assert told["spark.master"] == "spark://host:7077"
        assert not {"spark.driver.memory", "spark.driver.host", "spark.local.dir"} & set(told)

    @pytest.mark.parametrize(
        ("rows", "parts"), [(0, "4"), (1_000_000, "4"), (1_000_001, "5"), (10**9, "4000")]
    )
    def test_parts_of_a_shuffle_follow_from_the_rows(
        self, tmp_path: Path, rows: int, parts: str
    ) -> None:
        told = self.told(given(tmp_path), rows)
        assert told["spark.sql.shuffle.partitions"] == parts

    def test_recursion_has_no_limits(self, tmp_path: Path) -> None:
        told = self.told(given(tmp_path))
        assert told["spark.sql.cteRecursionLevelLimit"] == "-1"
        assert told["spark.sql.cteRecursionRowLimit"] == "-1"

    def test_what_is_set_goes_before_and_javas_options_are_added(self, tmp_path: Path) -> None:
        conf = {"spark.driver.extraJavaOptions": "-Xss4m", "spark.sql.shuffle.partitions": "7"}
        told = self.told(given(tmp_path, spark_conf=conf))
        assert told["spark.sql.shuffle.partitions"] == "7"
        assert told["spark.driver.extraJavaOptions"] == (
            "-Dlog4j2.configurationFile=file:///logs/log4j2.properties -Xss4m"
        )

    @pytest.mark.parametrize(
        ("limit", "memory"),
        [("4GB", "3814m"), ("4GiB", "4096m"), ("1.5GiB", "1536m"), ("1MB", "512m")],
    )
    def test_memory_is_written_as_java_writes_it(
        self, tmp_path: Path, limit: str, memory: str
    ) -> None:
        assert self.told(given(tmp_path, memory_limit=limit))["spark.driver.memory"] == memory


class TestStorage:
    """Where Spark's tables are stored."""

    def test_it_is_below_the_data_home_unless_given(self, tmp_path: Path) -> None:
        assert spark.storage(given(tmp_path)) == str(tmp_path / "build" / "spark")

    def test_an_address_stays_one_and_its_tables_come_here(self, tmp_path: Path) -> None:
        settings = given(tmp_path, spark_storage="s3a://lake/coupons/")
        assert spark.storage(settings) == "s3a://lake/coupons"
        assert spark.local_dir(settings) == tmp_path / "build" / "spark"

    def test_a_folder_that_reads_as_a_pattern_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(spark.SparkUnavailable, match="COUPON_LEDGER_SPARK_STORAGE"):
            spark.local_dir(given(tmp_path, spark_storage=str(tmp_path / "a[1]")))


class TestWhatIsMissing:
    """The reason and the remedy, before anything is built."""

    def test_java(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("JAVA_HOME", raising=False)
        with pytest.raises(spark.SparkUnavailable, match="openjdk-17-jre-headless"):
            spark.require(given(tmp_path))

    def test_the_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyspark", None)
        with pytest.raises(spark.SparkUnavailable, match=r"coupon-ledger\[spark\]"):
            spark.require(given(tmp_path))

    def test_what_a_thrift_server_needs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyhive", None)
        with pytest.raises(spark.SparkUnavailable, match=r"dbt-spark\[PyHive\]"):
            spark.require(given(tmp_path, spark_thrift="host:10000"))

    def test_a_thrift_server_without_a_port(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="spark_thrift"):
            given(tmp_path, spark_thrift="host")
