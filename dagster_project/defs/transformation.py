"""Raw tables to marts: every dbt model an asset, every dbt test a check, one build of all."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from dagster_project.answers.values import count
from dagster_project.arrival.warehouse import not_as_stored, raw_rows
from dagster_project.defs.resources import Refresh
from dagster_project.defs.steps import Step, step
from dagster_project.defs.tables import Tables, came_from, code, loaded_deliveries
from dagster_project.failures import plain, without_values
from dagster_project.feeds import feeds
from dagster_project.product import DBT_PROJECT
from dagster_project.refresh import blaming, dbt_build, progress
from dagster_project.releases.errors import PublishRefused, ReleaseError
from dagster_project.releases.gate import Problem, Result, judge
from dagster_project.settings import Settings

STEP = "dbt_build"
MARTS = "marts"
_RESULTS = {"LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult"}


class Translator(DagsterDbtTranslator):
    """How dbt's nodes appear as assets."""

    def __init__(self, settings: Settings) -> None:
        """Translate tests of sources into checks too."""
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self._owners = settings.owners
        self._fresh_for = timedelta(hours=settings.fresh_within_hours)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Group by layer, which is a folder: raw, staging, intermediate, marts."""
        return str(dbt_resource_props["schema"])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """Return the owners of the layer."""
        return [self._owners[dbt_resource_props["schema"]]]

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetSpec:
        """Add a link to the model's SQL, and to a mart the policy that shows it as stale after some time."""
        node = self.get_resource_props(manifest, unique_id)
        spec = super().get_asset_spec(manifest, unique_id, project)
        spec = spec.merge_attributes(metadata=code(DBT_PROJECT / node["original_file_path"]))
        if node["schema"] == MARTS:
            policy = dg.FreshnessPolicy.time_window(fail_window=self._fresh_for)
            spec = spec.replace_attributes(freshness_policy=policy)
        return spec

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """Add what the test says and a link to it; a test of severity error blocks what follows."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        node = self.get_resource_props(manifest, unique_id)
        return spec._replace(
            description=statement_of(node),
            metadata={**spec.metadata, **code(DBT_PROJECT / node["original_file_path"])},
        )


def statement_of(test: Mapping[str, Any]) -> str:
    """Return what a data test says: its description, its opening comment, or its kind and column.

    Args:
        test: The node of the manifest.
    """
    if test.get("description"):
        return " ".join(test["description"].split())
    comment = []
    for line in test["raw_code"].splitlines():
        if not line.startswith("--"):
            break
        comment.append(line.removeprefix("--").strip())
    if comment:
        return " ".join(comment)
    generic = test.get("test_metadata") or {"name": test["name"], "kwargs": {}}
    given = generic["kwargs"]
    columns = given.get("columns") or [given.get("column_name") or test.get("column_name") or ""]
    values = f": {', '.join(given['values'])}" if "values" in given else ""
    return f"{generic['name']} {', '.join(columns)}{values}"


def mart_keys(settings: Settings, project: dbt_build.Project) -> dict[str, dg.AssetKey]:
    """Return the marts as assets, by name."""
    translator = Translator(settings)
    return {
        node["name"]: translator.get_asset_key(node)
        for node in project.manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == MARTS
    }


def with_attached_tests(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Attach every singular test of several models to one of them, so it becomes a check; return the manifest.

    The test belongs to the last mart that it names, else to the last model.
    """
    attached = {**manifest, "nodes": dict(manifest["nodes"])}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "test" or node.get("attached_node"):
            continue
        parents = [one for one in node["depends_on"]["nodes"] if one in manifest["nodes"]]
        if len(parents) < 2:
            continue
        marts = [one for one in parents if manifest["nodes"][one]["schema"] == MARTS]
        owner = manifest["nodes"][(marts or parents)[-1]]
        node = copy.deepcopy(node)
        meta = node["config"].setdefault("meta", {}) or {}
        meta.setdefault("dagster", {}).setdefault("ref", {"name": owner["name"]})
        node["config"]["meta"] = meta
        attached["nodes"][unique_id] = node
    return attached


def feeds_of(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the feeds behind each model, by the model's unique id."""
    found: dict[str, list[str]] = {}

    def sources(unique_id: str) -> set[str]:
        if unique_id.startswith("source."):
            return {unique_id.split(".")[-1]} & feeds().keys()
        parents = manifest["parent_map"].get(unique_id, [])
        return set().union(*(of(parent) for parent in parents))

    def of(unique_id: str) -> list[str]:
        if unique_id not in found:
            names = sources(unique_id)
            found[unique_id] = [name for name in feeds() if name in names]
        return found[unique_id]

    for unique_id in manifest["nodes"]:
        of(unique_id)
    return found


def defs(settings: Settings, project: dbt_build.Project) -> dg.Definitions:
    """Return all models and tests of the dbt project."""
    manifest = with_attached_tests(project.manifest)
    translator = Translator(settings)

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=translator,
        name=STEP,
        pool="warehouse",
    )
    def models(context: dg.AssetExecutionContext, refresh: Refresh) -> Iterator[Any]:
        """Build and test everything once; refuse to go on unless all of it passed."""
        with step(context, refresh, STEP) as running:
            yield from _build(context, refresh, project, manifest, translator, running)

    return dg.Definitions(assets=[models])


def _build(
    context: dg.AssetExecutionContext,
    refresh: Refresh,
    project: dbt_build.Project,
    manifest: Mapping[str, Any],
    translator: Translator,
    running: Step,
) -> Iterator[Any]:
    if not _has_arrived(context):
        _must_be_as_stored(refresh.settings)
    build = dbt_build.RunningBuild(
        refresh.settings, project, refresh.as_of_date, context.run_id, refresh.started_at
    )
    outputs: list[dg.Output[None]] = []
    statuses: list[tuple[str, str]] = []
    models = sum(node["resource_type"] == "model" for node in manifest["nodes"].values())
    with (
        _engine(refresh, project),
        contextlib.closing(build.events()) as events,
    ):
        for event in events:
            _log(context, event)
            if event.info.name not in _RESULTS:
                continue
            raw = _as_dict(event)
            data = raw["data"]
            statuses.append((data["node_info"]["resource_type"], data["status"].lower()))
            done = sum(kind == "model" for kind, _ in statuses)
            asked = models - sum(one.startswith("model.") for one in build.left_alone)
            what = f"model {done} of {asked}: {data['node_info']['node_name']}"
            progress.listener().advanced(STEP, len(statuses), build.asked, what)
            message = DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})
            for dagster_event in message.to_default_asset_events(
                manifest=manifest, dagster_dbt_translator=translator, context=context
            ):
                if isinstance(dagster_event, dg.Output):
                    outputs.append(dagster_event)
                else:
                    yield dagster_event
    outputs = [*_left_alone(build, manifest, translator), *outputs]
    yield from _standing(build, manifest, translator, context)
    outcome = build.outcome()
    if outcome.is_success and refresh.settings.engine == "spark":
        from dagster_project.refresh import spark

        spark.gather(refresh.settings, project.manifest)
    tables = Tables(refresh.settings.built, ["staging", "intermediate"])
    marts = Tables(refresh.settings.candidate, [MARTS])
    deliveries = loaded_deliveries(refresh.settings.warehouse)
    made_of = feeds_of(manifest)
    selected = context.op_execution_context.selected_output_names
    for output in outputs:
        unique_id = str(output.metadata["unique_id"].value)
        node = manifest["nodes"][unique_id]
        described = {name: column["description"] for name, column in node["columns"].items()}
        metadata = {
            **output.metadata,
            **(marts if node["schema"] == MARTS else tables).metadata(node["alias"], described),
            **came_from(deliveries, made_of[unique_id]),
        }
        if output.output_name in selected:
            yield output.with_metadata(metadata)
        else:  # a request for some of the tables builds all of them
            key = translator.get_asset_key(node)
            context.log_event(dg.AssetMaterialization(key, metadata=metadata))
    if outcome.message:
        said = without_values(outcome.message)
        raise dbt_build.DbtFailed(f"dbt stopped: {said}")
    if not outcome.is_success:
        problems = judge(outcome.build, project.manifest, refresh.as_of_date).problems
        raise PublishRefused(
            blaming.with_places(problems, refresh.settings.warehouse, refresh.settings.candidate)
        )
    if refresh.settings.strict:
        _refuse_open_findings(refresh)
    running.outcome = _in_words(
        statuses, build.carried_on_from, len(build.left_alone), [*build.standing.values()]
    )
    if build.altered:
        running.notes = [
            "everything was built from nothing: rows are not those that the build before left in"
            f" {', '.join(sorted(build.altered))}"
        ]


def _has_arrived(context: dg.AssetExecutionContext) -> bool:
    """Return whether arrival, which checks the files of rows, is a step of the same run."""
    from dagster_project.defs.ingestion import STEP as ARRIVAL

    return any(node.name == ARRIVAL for node in context.job_def.nodes)


def _must_be_as_stored(settings: Settings) -> None:
    """Check that the delivered rows are what arrival stored.

    Raises:
        ReleaseError: A file of rows is not the one that was stored.
    """
    if not settings.warehouse.is_file():
        return  # the build fails, and says so
    with duckdb.connect(str(settings.warehouse), read_only=True) as connection:
        other = not_as_stored(connection, raw_rows(settings.warehouse))
    if other:
        raise ReleaseError(
            f"{other[0]} is not the file that was stored.",
            "Run everything, as `coupon-ledger run` does: it loads the rows again from the archive.",
        )


def _left_alone(
    build: dbt_build.RunningBuild, manifest: Mapping[str, Any], translator: Translator
) -> Iterator[dg.Output[None]]:
    """Yield the outputs of the models that a build leaves unchanged, each after all that it reads."""
    for unique_id in build.left_alone:
        key = translator.get_asset_key(manifest["nodes"][unique_id])
        metadata: dict[str, Any] = {"unique_id": unique_id, "left_as_it_was": True}
        yield dg.Output(None, key.to_python_identifier(), metadata=metadata)


def _standing(
    build: dbt_build.RunningBuild,
    manifest: Mapping[str, Any],
    translator: Translator,
    context: dg.AssetExecutionContext,
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of data tests that did not have to run again, each with the time it ran."""
    for unique_id, result in build.standing.items():
        key = get_asset_check_key_for_test(manifest, translator, unique_id, project=None)
        if key is None or key not in context.selected_asset_check_keys:
            continue
        yield dg.AssetCheckResult(
            passed=result.status == "pass",
            asset_key=key.asset_key,
            check_name=key.name,
            severity=dg.AssetCheckSeverity.WARN
            if result.status == "warn"
            else dg.AssetCheckSeverity.ERROR,
            description="The rows are those over which it ran before; it did not run again.",
            metadata={
                "unique_id": unique_id,
                "status": result.status,
                "dagster_dbt/failed_row_count": result.failures,
                "ran_in_refresh_of": dg.MetadataValue.timestamp(result.checked_at),
            },
        )


@contextlib.contextmanager
def _engine(refresh: Refresh, project: dbt_build.Project) -> Iterator[None]:
    """Provide the engine of the build: DuckDB needs nothing, Spark is started."""
    if refresh.settings.engine == "duckdb":
        yield
        return
    from dagster_project.refresh import spark

    with spark.ready(refresh.settings):
        arguments = {"storage": spark.storage(refresh.settings)}
        dbt_build.run_operation(refresh.settings, project, "lay_out_databases", arguments)
        yield


def _log(context: dg.AssetExecutionContext, event: dbt_build.EventMsg) -> None:
    """Log what dbt says about each model and test, without values; the step's own line sums it up."""
    text = event.info.msg.strip()
    if text and event.info.level in ("info", "warn", "error"):
        context.log.debug(plain(without_values(text)))


def _as_dict(event: dbt_build.EventMsg) -> dict[str, Any]:
    from dbt_common.events.functions import msg_to_dict

    content = msg_to_dict(event)
    assert isinstance(content, dict)
    return content


def _refuse_open_findings(refresh: Refresh) -> None:
    """Stop if billing got something wrong, or terms changed, and nobody has accepted it.

    Raises:
        PublishRefused: There are open findings of severity error, or changes of a coupon's terms; one
            problem per type.
    """
    with duckdb.connect(str(refresh.settings.candidate), read_only=True) as connection:
        rows = connection.execute(
            "select finding_type, count(*), min(finding_id), arg_min(description, finding_id)"
            " from marts.fct_audit_findings"
            " where (severity = 'error' or finding_type = 'coupon_terms_changed')"
            " and review_status = 'open' group by finding_type order by finding_type"
        ).fetchall()
    if rows:
        raise PublishRefused(
            [
                Problem("finding", name, "open", f"{count} open, such as {example}: {said}", "")
                for name, count, example, said in rows
            ]
        )


def _in_words(
    statuses: Sequence[tuple[str, str]],
    carried_on_from: date | None,
    left_alone: int,
    standing: Sequence[Result],
) -> str:
    models = sum(kind != "test" for kind, _ in statuses)
    tests = [status for kind, status in statuses if kind == "test"]
    tests += [result.status for result in standing]
    words = f"{count(models, 'model')} built, "
    words += f"{left_alone} left as they were, " if left_alone else ""
    words += f"{count(tests.count('pass'), 'test')} passed"
    words += f", {tests.count('warn')} warned" if "warn" in tests else ""
    words += f" ({len(standing)} ran before, over the same rows)" if standing else ""
    return words + (f"; what changed since {carried_on_from}" if carried_on_from else "")
