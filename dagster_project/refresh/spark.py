"""Spark as the engine of a build: raw text out of the warehouse, a session, marts back for publication.

What a build on Spark needs around dbt belongs here. The models are the same for every engine, and so
are arrival and publication, which use DuckDB. Text goes to Spark as Parquet, and DuckDB reads the
published tables that Spark writes.

The tables of one build are below the storage (`COUPON_LEDGER_SPARK_STORAGE`, else `build/spark`):
`raw/<table>/` has what arrived, every column of a feed as text; `tables/<schema>/<model>/` has what Spark wrote.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from dagster_project.feeds import feeds
from dagster_project.quoting import literal, quote
from dagster_project.releases import candidate
from dagster_project.releases.contents import mart_tables, pedigree_tables
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LAYERS = ("raw", "staging", "intermediate", "marts")
_FILE_BYTES = 128 * 1024 * 1024  # what one task reads of a raw table
_ROWS_OF_PART = 250_000  # delivered rows per part of a shuffle
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"

_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {path}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c: %m%n%ex
"""


class SparkUnavailable(Exception):
    """Spark cannot be used here; the message says what is missing and how to get it."""


def require(settings: Settings) -> None:
    """Make sure that what a build on Spark needs is installed.

    Raises:
        SparkUnavailable: A package or Java is missing.
    """
    missing = [
        name
        for name in ("pyspark", "dbt.adapters.spark")
        if not (name == "pyspark" and settings.spark_thrift) and not _is_installed(name)
    ]
    if missing:
        raise SparkUnavailable(
            "The engine spark needs packages that are not installed"
            f" ({', '.join(missing)}): pip install 'coupon-ledger[spark]'"
        )
    if settings.spark_thrift:
        if not _is_installed("pyhive"):
            raise SparkUnavailable(
                "A Spark Thrift server is reached through PyHive, which is not installed:"
                " pip install 'dbt-spark[PyHive]'"
            )
    elif not has_java():
        raise SparkUnavailable(
            "The engine spark needs Java 17 or later; JAVA_HOME and PATH have none. Install it:"
            " apt-get install openjdk-17-jre-headless"
        )


def has_java() -> bool:
    """Return whether Spark would find a Java."""
    home = os.environ.get("JAVA_HOME")
    return bool(home and (Path(home) / "bin" / "java").exists()) or shutil.which("java") is not None


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@contextlib.contextmanager
def ready(settings: Settings) -> Iterator[None]:
    """Provide everything a dbt build on Spark needs, for as long as the build runs.

    Args:
        settings: Those of a refresh on Spark whose raw tables have arrived in the warehouse.

    Raises:
        SparkUnavailable: Spark is not installed, or does not start.
    """
    require(settings)
    rows = write_raw(settings)
    with _ansi_mode(sql_configuration(settings, rows) | settings.spark_conf):
        if settings.spark_thrift:
            yield
            return
        session = start(settings, rows)
        try:
            yield
        finally:
            session.stop()


def write_raw(settings: Settings) -> int:
    """Write the raw tables of the warehouse as Parquet, replacing those of the previous build.

    Returns:
        The number of rows of all feeds.
    """
    local = local_dir(settings)
    for layer in _LAYERS[1:]:
        _remove(f"{storage(settings)}/tables/{layer}")  # Spark creates no table where files exist
    shutil.rmtree(local / "raw", ignore_errors=True)
    with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
        connection.execute(f"set memory_limit = {literal(settings.memory_limit)}")
        connection.execute("set preserve_insertion_order = false")
        tables = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'raw' order by all"
        ).fetchall()
        rows = 0
        for (name,) in tables:
            folder = local / "raw" / str(name)
            folder.mkdir(parents=True)
            copied = connection.execute(
                f"copy raw.{quote(str(name))} to {literal(str(folder))}"
                f" (format parquet, compression zstd, file_size_bytes {_FILE_BYTES},"
                " overwrite_or_ignore)"
            ).fetchone()
            rows += int(copied[0]) if copied and name in feeds() else 0
    if storage(settings) != str(local):
        _copy(str(local / "raw"), f"{storage(settings)}/raw")
    return rows


def start(settings: Settings, rows: int) -> SparkSession:
    """Start the session that dbt then finds in this process.

    Its catalog is in memory, so every build registers its tables again.

    Args:
        settings: The settings of the refresh.
        rows: How many rows were delivered, which determines the number of shuffle partitions.

    Raises:
        SparkUnavailable: Spark does not start.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    log = settings.logs / "spark.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    logging = local_dir(settings) / "log4j2.properties"
    logging.parent.mkdir(parents=True, exist_ok=True)
    logging.write_text(_LOGGING.format(path=log), "utf-8")
    builder = SparkSession.builder.appName("Coupon Ledger")
    for name, value in configuration(settings, logging, rows).items():
        builder = builder.config(name, value)
    try:
        with _errors_to(log):
            return builder.getOrCreate()
    except (PySparkException, OSError, RuntimeError) as error:
        raise SparkUnavailable(
            f"Spark does not start with master {master(settings)}: {error} (more in {log})"
        ) from error


@contextlib.contextmanager
def _errors_to(log: Path) -> Iterator[None]:
    """Redirect standard error to a file, also for processes started meanwhile: nobody needs Java's notes."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def master(settings: Settings) -> str:
    """Return Spark's master; unless one is set, this machine with as many threads as DuckDB has."""
    return settings.spark_master or f"local[{settings.threads}]"


def sql_configuration(settings: Settings, rows: int) -> dict[str, str]:
    """Return the configuration every session needs, wherever it runs.

    A shuffle splits rows into partitions small enough to sort in memory, at least two per thread;
    adaptive execution merges those that turn out small. The walks through discounts and credit are
    recursive and end by themselves, so Spark's own limits, a hundred steps and a million rows, are lifted.

    Args:
        settings: The settings of the refresh.
        rows: How many rows were delivered.
    """
    parts = max(2 * settings.threads, -(-rows // _ROWS_OF_PART))
    return {
        "spark.sql.shuffle.partitions": str(parts),
        "spark.sql.cteRecursionLevelLimit": "-1",
        "spark.sql.cteRecursionRowLimit": "-1",
    }


def configuration(settings: Settings, logging: Path, rows: int) -> dict[str, str]:
    """Return the session's configuration: what is needed, what suits this machine, and what was set.

    Args:
        settings: Master, limits and further configuration.
        logging: File that says where the driver's log goes.
        rows: How many rows were delivered.
    """
    chosen = sql_configuration(settings, rows) | {
        "spark.master": master(settings),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": f"{storage(settings)}/tables",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        _JAVA_OPTIONS: f"-Dlog4j2.configurationFile={logging.as_uri()}",
    }
    if master(settings).startswith("local"):
        chosen |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": _java_memory(settings.memory_limit),
            "spark.local.dir": str(settings.scratch / "spark"),
        }
    given = settings.spark_conf.get(_JAVA_OPTIONS, "")
    return (
        chosen | settings.spark_conf | {_JAVA_OPTIONS: f"{chosen[_JAVA_OPTIONS]} {given}".strip()}
    )


def _java_memory(limit: str) -> str:
    """Convert an amount of memory as DuckDB writes it to Java's form, in whole mebibytes."""
    found = re.fullmatch(r"([0-9.]+)([KMGT])(i?)B", limit)
    assert found is not None, limit  # the settings have checked it
    power = "KMGT".index(found[2]) + 1
    size = float(found[1]) * (1024 if found[3] else 1000) ** power
    return f"{max(int(size / 1024**2), 512)}m"


def storage(settings: Settings) -> str:
    """Return where Spark's tables are stored, as Spark names it: an absolute path or an address."""
    given = settings.spark_storage.rstrip("/")
    if "://" in given:
        return given
    return str(Path(given).expanduser().absolute() if given else settings.build / "spark")


def local_dir(settings: Settings) -> Path:
    """Return where this process writes raw text and reads marts: the storage, if it is local."""
    place = storage(settings)
    folder = settings.build / "spark" if "://" in place else Path(place)
    if re.search(r"[\[\]*?{}]", str(folder)):
        raise SparkUnavailable(
            f"{folder} has one of the characters []*?{{}} in its path, which DuckDB and Spark read as"
            " a pattern: set COUPON_LEDGER_SPARK_STORAGE to another folder."
        )
    return folder


def gather(settings: Settings, manifest: Mapping[str, Any]) -> None:
    """Make what Spark built available to publication: the marts as the candidate, other tables as views.

    Args:
        settings: The settings of the refresh.
        manifest: dbt's manifest, which names the marts.
    """
    local = local_dir(settings)
    names = published(manifest)
    if storage(settings) != str(local):
        shutil.rmtree(local / "tables", ignore_errors=True)
        for schema, name in names:
            part = f"tables/{schema}/{name}"
            (local / part).mkdir(parents=True)
            _copy(f"{storage(settings)}/{part}", str(local / part))
    candidate.begin(settings.candidate)
    settings.built.unlink(missing_ok=True)
    limits: dict[str, Any] = {
        "threads": settings.threads,
        "memory_limit": settings.memory_limit,
        "temp_directory": str(settings.scratch),
    }
    with duckdb.connect(str(settings.built), config=limits) as connection:
        connection.execute(
            f"attach {literal(str(settings.candidate))} as {candidate.DATABASE};"
            f"attach {literal(str(settings.warehouse))} as arrived (read_only)"
        )
        for layer in _LAYERS:
            connection.execute(f"create schema {layer}")
        keys = {table.name: ", ".join(map(quote, table.key)) for table in mart_tables(manifest)}
        for schema, name in names:
            files = local / "tables" / schema / name / "*.parquet"
            rows = f"select * from read_parquet({literal(str(files))})"
            relation = f"{quote(schema)}.{quote(name)}"
            if schema == "marts":
                connection.execute(
                    f"create table {candidate.DATABASE}.{relation} as {rows} order by {keys[name]}"
                )
            else:
                connection.execute(f"create view {relation} as {rows}")
        connection.execute("create table raw.gate_results as from arrived.raw.gate_results")


def published(manifest: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the schema and name of every table of a build that publication reads."""
    marts = {
        (str(node["schema"]), str(node["alias"]))
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "marts"
    }
    # The delivery that changed a closed month is looked up in the rows as delivered.
    rows = {("staging", f"base_billing__{feed}") for feed in feeds()}
    return sorted(marts | pedigree_tables() | rows | {("staging", "stg_billing__repeated_rows")})


def cancel() -> None:
    """Cancel what Spark is doing for this process."""
    from pyspark import SparkContext

    context = SparkContext._active_spark_context
    if context is not None:
        context.cancelAllJobs()


def _located(place: str) -> tuple[Any, str]:
    """Return the file system of a folder or address, and the path there."""
    from pyarrow import fs

    if "://" not in place:
        return fs.LocalFileSystem(), place
    found, path = fs.FileSystem.from_uri(re.sub(r"^s3a://", "s3://", place))
    return found, str(path)


def _remove(place: str) -> None:
    """Remove a folder with its contents, if it exists."""
    system, path = _located(place)
    with contextlib.suppress(FileNotFoundError):
        system.delete_dir(path)


def _copy(source: str, target: str) -> None:
    """Copy a folder of files to or from object storage, replacing what is there."""
    from pyarrow import fs

    (reading, source_path), (writing, target_path) = _located(source), _located(target)
    _remove(target)
    writing.create_dir(target_path, recursive=True)
    fs.copy_files(
        source_path, target_path, source_filesystem=reading, destination_filesystem=writing
    )


@contextlib.contextmanager
def _ansi_mode(conf: Mapping[str, str]) -> Iterator[None]:
    """Keep Spark's ANSI mode on, which dbt-spark turns off; without it, a sum that is too large wraps around.

    Args:
        conf: Further configuration; SQL settings reach a Thrift server too.
    """
    from dbt.adapters.spark.connections import SparkCredentials

    finish = SparkCredentials.__post_init__

    def finish_with_ansi(credentials: Any) -> None:
        finish(credentials)
        given = {name: value for name, value in conf.items() if name.startswith("spark.sql.")}
        credentials.server_side_parameters |= given | {"spark.sql.ansi.enabled": "true"}

    SparkCredentials.__post_init__ = finish_with_ansi
    try:
        yield
    finally:
        SparkCredentials.__post_init__ = finish
