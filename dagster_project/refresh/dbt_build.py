"""dbt, in this process: the project prepared once, and one build of everything per refresh.

Preparing the manifest and running the build belong here; what Dagster does with dbt's events does not.

A dbt subprocess costs some four seconds of imports, and dagster-dbt's command line as much again to ask
for dbt's version and to set up an adapter. dbt also parses the whole project again whenever a variable
such as the as-of date changes. So dbt runs in this process with a manifest parsed earlier, as long as
no file of the project has changed. The price is that variables may be used in SQL only.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.databases import open_to_write
from dagster_project.digests import sha256_of
from dagster_project.product import DBT_PROJECT, IS_INSTALLED, product_version
from dagster_project.refresh import as_left, carrying_on, standing
from dagster_project.refresh.left_alone import adding_rows, keeping_rows, left_alone
from dagster_project.refresh.standing import Checked, DataTests
from dagster_project.releases import candidate
from dagster_project.releases.gate import Build, Result
from dagster_project.settings import Settings

EventMsg = Any  # dbt's EventMsg, whose generated class does not declare its fields

_NOT_PROJECT = {"target", "logs", "dbt_packages", "__pycache__"}
_KEPT_MANIFESTS = 3
_KEPT_BUILDS = 5
_CHOSEN = "chosen-in-this-refresh"


class DbtFailed(Exception):
    """dbt could not start or parse its project; the message says why."""


@dataclass(frozen=True)
class Project:
    """A parsed dbt project.

    Attributes:
        folder: Where `manifest.json` and `manifest.msgpack` are stored.
        fingerprint: Fingerprint of every file of the project and the versions of dbt.
        time_zones: Time zones of feeds whose instants without an offset are not in UTC.
    """

    folder: Path
    fingerprint: str
    time_zones: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of `manifest.json`."""
        content = json.loads((self.folder / "manifest.json").read_text("utf-8"))
        assert isinstance(content, dict)
        return content

    @property
    def code_version(self) -> str:
        """What calculates the marts: the product's version, the project's fingerprint, time zones of feeds."""
        zones = "".join(f", {feed} in {zone}" for feed, zone in self.time_zones.items())
        return f"{product_version()}+{self.fingerprint[:12]}{zones}"


@dataclass(frozen=True)
class Outcome:
    """How a build ended.

    Attributes:
        is_success: Whether everything in it succeeded.
        build: What the gate compares dbt's results files with.
        message: What stopped dbt altogether, if something did.
    """

    is_success: bool
    build: Build
    message: str = ""


def project_fingerprint(project: Path, engine: str = "duckdb") -> str:
    """Fingerprint everything the manifest depends on."""
    digest = hashlib.sha256()
    for package in ("dbt-core", f"dbt-{engine}", "dbt-adapters"):
        digest.update(f"{package} {version(package)}\n".encode())
    for folder, names, files in os.walk(project):
        names[:] = sorted(name for name in names if name not in _NOT_PROJECT)
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(folder) / name
            digest.update(f"{path.relative_to(project).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def prepare(settings: Settings) -> Project:
    """Return the parsed project: from the cache if nothing changed, else parsed now.

    Raises:
        DbtFailed: The project cannot be parsed.
        SparkUnavailable: The engine is Spark, and it is not installed.
    """
    if settings.engine == "spark":
        from dagster_project.refresh import spark

        spark.require(settings)
    fingerprint = project_fingerprint(DBT_PROJECT, settings.engine)
    for cache in _caches(settings):
        folder = cache / fingerprint[:16]
        if (folder / "manifest.json").is_file() and (folder / "manifest.msgpack").is_file():
            return Project(folder, fingerprint, settings.feed_time_zones)
    for cache in _caches(settings):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            if os.access(cache, os.W_OK):
                return _parse_into(cache, fingerprint, settings)
        except OSError:  # no right to write, or a read-only file system
            continue
    named = " and ".join(str(cache) for cache in _caches(settings))
    raise DbtFailed(
        f"The parsed models cannot be stored: {named} cannot be written. Give this user the right to"
        " write there."
    )


def _caches(settings: Settings) -> tuple[Path, ...]:
    """Return the folders for parsed projects; the first writable one is used.

    In a checkout, all data homes share a folder beside the project. Nothing is written beside an
    installed package.
    """
    own = settings.build / "prepared"
    return (own,) if IS_INSTALLED else (DBT_PROJECT / "target" / "prepared", own)


def _parse_into(cache: Path, fingerprint: str, settings: Settings) -> Project:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".parsing-") as temporary:
        outcome = _invoke(["parse", "--no-partial-parse"], settings, Path(temporary), None, [])
        if isinstance(outcome.exception, KeyboardInterrupt):
            raise outcome.exception
        if not outcome.success:
            raise DbtFailed(f"dbt cannot parse its project: {outcome.exception}")
        ready = Path(temporary) / "ready"
        ready.mkdir()
        os.replace(Path(temporary) / "manifest.json", ready / "manifest.json")
        os.replace(Path(temporary) / "partial_parse.msgpack", ready / "manifest.msgpack")
        folder = cache / fingerprint[:16]
        with contextlib.suppress(OSError):  # another process was faster
            os.replace(ready, folder)
    for old in sorted(_folders(cache), key=_modified, reverse=True)[_KEPT_MANIFESTS:]:
        shutil.rmtree(old, ignore_errors=True)
    return Project(folder, fingerprint, settings.feed_time_zones)


def made_by(settings: Settings, project: Project) -> str:
    """Return what identifies the calculation of the models; if it changes, a build starts from nothing."""
    return f"{project.code_version}, {settings.reporting_time_zone}"


class RunningBuild:
    """One build of everything into the warehouse, yielding dbt's events.

    A build from nothing is one `dbt build`. A build that carries on, which is possible on DuckDB only, first builds the
    models that may have changed, and then runs the data tests whose results may have changed (`standing`).
    Unit tests are left out: they check the code and run in the test suite.
    """

    def __init__(
        self, settings: Settings, project: Project, as_of: date, run_id: str, now: datetime
    ) -> None:
        """Prepare a build.

        Args:
            settings: Where the warehouse is and what dbt may use.
            project: The parsed project.
            as_of: Last day whose events count.
            run_id: Names the folder of its results.
            now: When the refresh began, in UTC.
        """
        self._settings = settings
        self._project = project
        self._as_of = as_of
        self._now = now
        self._folder = results_folder(settings, run_id)
        self._tests = DataTests(project.manifest)
        self._queue: queue.SimpleQueue[EventMsg | None] = queue.SimpleQueue()
        self._invocations: dict[str, Path] = {}
        self._ended: list[Any] = []
        self._failure: BaseException | None = None
        self._kept: carrying_on.Kept | None = None
        self._before = Checked()
        self._is_fragmented = False
        self._rows: dict[str, Mapping[str, str]] = {}
        self.left_alone: tuple[str, ...] = ()
        """Unique ids of the models and seeds that stay as the previous build left them; set before the first event."""
        self.standing: dict[str, Result] = {}
        """Results of the data tests that need not run, by unique id; set when all events have come."""
        self.altered: tuple[str, ...] = ()
        """Tables that keep rows of the previous build and were altered after it. If there is any, everything is built
        from nothing."""

    def events(self) -> Generator[EventMsg]:
        """Build, and yield dbt's events as they happen."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(_folders(self._folder.parent), key=_modified)[:-_KEPT_BUILDS]:
            shutil.rmtree(old, ignore_errors=True)
        if self._settings.engine == "duckdb":
            self.carry_on()
        thread = threading.Thread(target=self._work, name="dbt", daemon=True)
        thread.start()
        has_all = False
        try:
            while (event := self._queue.get()) is not None:
                yield event
            has_all = True
        finally:
            if thread.is_alive() and not has_all:
                _interrupt(thread, self._settings.engine)
            thread.join()
        if self._failure is not None:
            raise self._failure

    def outcome(self) -> Outcome:
        """Return how the build ended, and also write it beside dbt's results, for the gate to compare them with."""
        results = [
            one for ended in self._ended for one in getattr(ended.result, "results", None) or []
        ]
        exceptions = [ended.exception for ended in self._ended if ended.exception is not None]
        is_success = all(ended.success for ended in self._ended)
        is_fingerprinted = is_success and self._settings.engine == "duckdb"
        if is_fingerprinted and self._kept is None:
            tests = (one.node for one in results if one.node.unique_id in self._tests.reads)
            queries = {node.unique_id: str(node.compiled_code) for node in tests}
            with self._warehouse() as connection:
                self._before = Checked(columns=self._tests.columns(connection, queries))
        rows = self._rows_of(self._tests.relations, self._added) if is_fingerprinted else {}
        outcome = Outcome(
            is_success=is_success,
            build=Build(
                invocations=dict(self._invocations),
                statuses={result.node.unique_id: str(result.status) for result in results},
                left_alone=self.left_alone,
                standing=self.standing,
                tested={
                    one: standing.rows_and_hashes(found)
                    for one, found in rows.items()
                    if one.startswith("model.")
                },
            ),
            message=" ".join(str(exceptions[0]).split()) if exceptions else "",
        )
        _write_receipt(self._folder, outcome.build)
        if is_fingerprinted:
            found = {
                result.node.unique_id: Result(
                    str(result.status), int(result.failures or 0), self._now
                )
                for result in results
                if result.node.unique_id in self._tests.reads
            }
            carrying_on.leave(
                self._settings.warehouse,
                self._made_by,
                self._as_of,
                self._kept,
                Checked(self.standing | found, self._before.columns, rows),
            )
            as_left.note(self._settings)
        return outcome

    @property
    def carried_on_from(self) -> date | None:
        """As-of date of the previous build, if this one calculates only what has changed since."""
        return None if self._kept is None else self._kept.as_of_date

    @property
    def asked(self) -> int:
        """How many models, seeds and data tests dbt is asked to build and run, as far as is known yet."""
        return len(self._to_build()) + len(self._tests.reads.keys() - self.standing.keys())

    @property
    def _made_by(self) -> str:
        return made_by(self._settings, self._project)

    def carry_on(self) -> None:
        """Find the previous build to carry on from, unless a table that would be kept has been altered since."""
        is_as_left = as_left.are_as_left(self._settings)
        self._kept = carrying_on.take(self._settings.warehouse, self._made_by, self._as_of)
        if self._kept is None:
            return
        if not candidate.can_be_read(self._settings.candidate):
            self._kept = None
            return
        alone = left_alone(
            self._project.manifest,
            self._kept.sources,
            self._kept.sources_now,
            is_same_day=self._is_same_day,
        )
        self._before = self._kept.checked
        kept = self._before.rows.keys() & {*alone, *keeping_rows(self._project.manifest)}
        if is_as_left:
            self._rows = {one: self._before.rows[one] for one in kept}
        rows = self._rows_of(kept)
        self.altered = tuple(
            one.rpartition(".")[2]
            for one in sorted(kept)
            if self._before.rows[one] != rows.get(one)
        )
        if self.altered:
            self._kept = None
            self._rows.clear()
        else:
            self.left_alone = alone
            with self._warehouse() as connection:
                self._is_fragmented = carrying_on.is_fragmented(connection)

    @property
    def _is_same_day(self) -> bool:
        return self._kept is not None and self._kept.as_of_date == self._as_of

    @property
    def _added(self) -> dict[str, str]:
        """SQL conditions for the rows added in this build to models that keep all their rows, by unique id."""
        if self._kept is None:
            return {}
        came_since = f"delivery_sequence > {self._kept.delivery_sequence}"
        return dict.fromkeys(adding_rows(self._project.manifest), came_since)

    def _rows_of(
        self, names: Iterable[str], added: Mapping[str, str] | None = None
    ) -> dict[str, Mapping[str, str]]:
        """Fingerprint those of some relations that tests read and that have no fingerprints yet; return all known ones.

        Args:
            names: Unique ids of the relations.
            added: As `standing.fingerprints` takes it.
        """
        names = set(names) - self._rows.keys()
        of_feeds = {one: feed for one, feed in self._tests.feeds.items() if one in names}
        of_tables = {
            one: relation
            for one, relation in self._tests.relations.items()
            if one in names - of_feeds.keys()
        }
        with self._warehouse() as connection:
            self._rows |= standing.fingerprints(
                connection, of_tables, self._before.columns, self._before.rows, added
            )
            self._rows |= standing.fingerprints_of_files(connection, of_feeds)
        return self._rows

    def _forget_rows(self) -> None:
        """Forget the fingerprints of tables to which this build added rows, or from which it deleted some."""
        for ended in self._ended:
            for result in ended.result.results:
                if result.adapter_response.get("rows_affected") != 0:
                    self._rows.pop(result.node.unique_id, None)

    def _warehouse(self) -> duckdb.DuckDBPyConnection:
        """Open the warehouse, with the marts attached."""
        connection = open_to_write(
            self._settings.warehouse,
            threads=self._settings.threads,
            memory_limit=self._settings.memory_limit,
        )
        candidate.attach(connection, self._settings.candidate)
        return connection

    def _to_build(self) -> list[str]:
        """Return the unique ids of the models and seeds that are built."""
        return [
            unique_id
            for unique_id, node in self._project.manifest["nodes"].items()
            if node["resource_type"] in ("model", "seed") and unique_id not in self.left_alone
        ]

    def _work(self) -> None:
        try:
            if self._kept is None:
                candidate.begin(self._settings.candidate)
                if self._settings.engine == "duckdb":
                    with open_to_write(self._settings.warehouse) as connection:
                        # Earlier versions built the marts there.
                        connection.execute("drop schema if exists marts cascade")
                self._invoke("all", "--full-refresh")
                return
            if models := self._to_build():
                self._invoke("models", only=models)
            if all(ended.success for ended in self._ended):
                self._forget_rows()
                self.standing = self._tests.standing(
                    self._before,
                    self._rows_of(self._tests.relations, self._added),
                    is_same_day=self._is_same_day,
                )
                if tests := self._tests.reads.keys() - self.standing.keys():
                    self._invoke("tests", only=tests)
        except BaseException as error:  # noqa: BLE001 (`events` raises it)
            self._failure = error
        finally:
            self._queue.put(None)

    def _invoke(self, name: str, *options: str, only: Collection[str] | None = None) -> None:
        """Run `dbt build` and write its results to a folder.

        Args:
            name: The folder's name.
            options: Further options of `dbt build`.
            only: Unique ids of the nodes to build or run; None for all.
        """
        variables: dict[str, object] = {
            "as_of_date": self._as_of.isoformat(),
            "reporting_time_zone": self._settings.reporting_time_zone,
            "feed_time_zones": dict(self._project.time_zones),
        }
        if self._kept is not None:
            variables["kept"] = self._kept.as_variable()
            variables["vacuum"] = self._is_fragmented
        arguments = ["build", "--vars", json.dumps(variables)]
        for kind in ("unit_test", "exposure"):
            arguments += ["--exclude-resource-type", kind]
        folder = self._folder / name
        ids: set[str] = set()

        def listen(event: EventMsg) -> None:
            if not ids:
                ids.add(event.info.invocation_id)
                self._invocations[event.info.invocation_id] = folder
            self._queue.put(event)

        manifest = self._project.folder / "manifest.msgpack"
        ended = _invoke([*arguments, *options], self._settings, folder, manifest, [listen], only)
        if self._settings.engine == "duckdb":
            _close_warehouse()
        self._ended.append(ended)
        if ended.result is not None:
            folder.mkdir(exist_ok=True)
            ended.result.write(str(folder / "run_results.json"))


def _interrupt(thread: threading.Thread, engine: str) -> None:
    """Stop dbt as Ctrl-C would: signal its thread and cancel its running queries."""
    from dbt.adapters.factory import FACTORY

    assert thread.ident is not None
    identity, interrupt = ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, interrupt)
    adapters: list[Any] = list(FACTORY.adapters.values())
    while thread.is_alive():
        with contextlib.suppress(Exception):  # a connection may be opening or closing just now
            for adapter in adapters:
                adapter.cancel_open_connections()
            if engine == "spark":
                from dagster_project.refresh import spark

                spark.cancel()
        thread.join(timeout=0.2)


def run_operation(
    settings: Settings, project: Project, macro: str, arguments: Mapping[str, str]
) -> None:
    """Run one macro of the project on its engine.

    Raises:
        DbtFailed: The macro failed.
    """
    errors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-") as target_path:
        ended = _invoke(
            ["run-operation", macro, "--args", json.dumps(dict(arguments))],
            settings,
            Path(target_path),
            project.folder / "manifest.msgpack",
            [lambda event: errors.append(event.info.msg) if event.info.level == "error" else None],
        )
    if not ended.success:
        said = " ".join(str(ended.exception or "; ".join(errors)).split())
        raise DbtFailed(f"dbt's operation {macro} failed: {said}")


def build_models(settings: Settings, select: str) -> None:
    """Build some models from nothing, outside of any run.

    Args:
        settings: The models are built in their warehouse.
        select: The models, in dbt's selection syntax.

    Raises:
        DbtFailed: The models cannot be built.
    """
    project = prepare(settings)
    variables = {
        "as_of_date": "9999-01-01",
        "reporting_time_zone": settings.reporting_time_zone,
        "feed_time_zones": dict(project.time_zones),
    }
    arguments = ["build", "--select", select, "--full-refresh", "--vars", json.dumps(variables)]
    arguments += ["--exclude-resource-type", "unit_test", "--exclude-resource-type", "test"]
    target = settings.build / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    manifest = project.folder / "manifest.msgpack"
    outcome = _invoke(arguments, settings, target, manifest, [])
    _close_warehouse()
    if not outcome.success:
        raise DbtFailed(f"the rows cannot be judged: {outcome.exception or 'dbt failed'}")


def compile_project(
    settings: Settings, project: Project, variables: Mapping[str, object]
) -> list[Any]:
    """Compile every model and data test, apart from any data home.

    Args:
        settings: What dbt may use.
        project: The parsed project.
        variables: dbt's variables.

    Returns:
        dbt's nodes.

    Raises:
        DbtFailed: The project cannot be compiled.
    """
    arguments = ["compile", "--exclude", "resource_type:unit_test", "--vars", json.dumps(variables)]
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-") as folder:
        aside = settings.model_copy(update={"home": Path(folder)})
        aside.build.mkdir()
        manifest = project.folder / "manifest.msgpack"
        outcome = _invoke(arguments, aside, Path(folder), manifest, [])
        _close_warehouse()
    if not outcome.success:
        raise DbtFailed(f"dbt cannot compile its project: {outcome.exception or 'it says no more'}")
    return [result.node for result in outcome.result.results]


def results_folder(settings: Settings, run_id: str) -> Path:
    """Return where dbt writes the results of a run."""
    return settings.build / "dbt" / run_id


def read_receipt(settings: Settings, run_id: str) -> Build:
    """Return what the dbt step of a run recorded; if nothing, a build whose invocation has no id."""
    folder = results_folder(settings, run_id)
    try:
        receipt = json.loads((folder / "receipt.json").read_text("utf-8"))
        return Build(
            {str(one): folder / str(name) for one, name in receipt["invocations"].items()},
            dict(receipt["statuses"]),
            tuple(receipt["left_alone"]),
            standing.read(receipt["standing"]).results,
            {one: (int(rows), int(hashes)) for one, (rows, hashes) in receipt["tested"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Build({"": folder}, {})


def _write_receipt(folder: Path, build: Build) -> None:
    receipt = {
        "invocations": {one: path.name for one, path in build.invocations.items()},
        "statuses": dict(build.statuses),
        "left_alone": list(build.left_alone),
        "standing": standing.written(Checked(build.standing)),
        "tested": dict(build.tested),
    }
    (folder / "receipt.json").write_text(json.dumps(receipt), "utf-8")


def _invoke(
    arguments: list[str],
    settings: Settings,
    target_path: Path,
    manifest: Path | None,
    callbacks: list[Callable[[EventMsg], None]],
    only: Collection[str] | None = None,
) -> Any:
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    parsed: Any = None
    if manifest is not None:
        parsed = Manifest.from_msgpack(manifest.read_bytes())
        parsed.build_flat_graph()  # what macros see as `graph`
        arguments = [*arguments, "--no-write-json"]  # dbt would write the manifest too
    if only is not None:
        for unique_id in only:  # by tag, since dbt compares every selected name with every node
            parsed.nodes[unique_id].tags.append(_CHOSEN)
        arguments = [*arguments, "--select", f"tag:{_CHOSEN}", "--indirect-selection", "empty"]
    shared = ["--project-dir", str(DBT_PROJECT), "--profiles-dir", str(DBT_PROJECT)]
    shared += ["--target-path", str(target_path), "--log-path", str(target_path)]
    shared += ["--log-level", "none", "--log-level-file", "none", "--no-use-colors"]
    shared += ["--no-send-anonymous-usage-stats", "--no-version-check", "--threads"]
    shared += [str(settings.threads), "--target", settings.engine]
    with _environment(settings.dbt_environment()):
        return dbtRunner(manifest=parsed, callbacks=callbacks).invoke(arguments + shared)


def _close_warehouse() -> None:
    """Close the file that dbt keeps open for its next invocation in the same process."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    if environment is not None:
        environment.close()
        DuckDBConnectionManager.close_all_connections()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    wanted = {**values, "DO_NOT_TRACK": "1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _modified(path: Path) -> float:
    return path.stat().st_mtime
