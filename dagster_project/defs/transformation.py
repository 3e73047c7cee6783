"""Raw tables to marts: every dbt model an asset, every dbt test a check, one `dbt build`."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from dagster_project import acceptances, dbt_build, progress
from dagster_project.alerts.alert import without_values
from dagster_project.alerts.watch import names
from dagster_project.defs.resources import Refresh
from dagster_project.defs.steps import Step, step
from dagster_project.releases.errors import PublishRefused
from dagster_project.releases.gate import Problem, judge

STEP = "dbt_build"
_RESULTS = {"LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult"}


class Translator(DagsterDbtTranslator):
    """How dbt's nodes look as assets."""

    def __init__(self) -> None:
        """Tests of sources are checks too."""
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Groups are the layers: raw, staging, intermediate, marts."""
        return str(dbt_resource_props["schema"])


def with_attached_tests(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with every singular test attached to one model, so that it becomes a check.

    A test that reads several models belongs to the mart among them, else to the last it names.
    """
    attached = {**manifest, "nodes": dict(manifest["nodes"])}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "test" or node.get("attached_node"):
            continue
        parents = [one for one in node["depends_on"]["nodes"] if one in manifest["nodes"]]
        if len(parents) < 2:
            continue
        marts = [one for one in parents if manifest["nodes"][one]["schema"] == "marts"]
        owner = manifest["nodes"][(marts or parents)[-1]]
        node = copy.deepcopy(node)
        meta = node["config"].setdefault("meta", {}) or {}
        meta.setdefault("dagster", {}).setdefault("ref", {"name": owner["name"]})
        node["config"]["meta"] = meta
        attached["nodes"][unique_id] = node
    return attached


def defs(project: dbt_build.Project) -> dg.Definitions:
    """All models and tests of the dbt project."""
    manifest = with_attached_tests(project.manifest)
    translator = Translator()

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
    with duckdb.connect(str(refresh.settings.warehouse)) as connection:
        acceptances.load(connection, refresh.settings.accepted_findings_file)
    build = dbt_build.RunningBuild(refresh.settings, project, refresh.as_of_date, context.run_id)
    outputs: list[dg.Output[None]] = []
    statuses: list[tuple[str, str]] = []
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
            total = int(data.get("total") or data.get("num_models") or 0)
            progress.listener().advanced(STEP, len(statuses), total, data["node_info"]["node_name"])
            message = DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})
            for dagster_event in message.to_default_asset_events(
                manifest=manifest, dagster_dbt_translator=translator, context=context
            ):
                if isinstance(dagster_event, dg.Output):
                    outputs.append(dagster_event)
                else:
                    yield dagster_event
    outcome = build.outcome()
    if outcome.is_success and refresh.settings.engine == "spark":
        from dagster_project import spark

        spark.gather(refresh.settings, project.manifest)
    rows = _row_counts(refresh)
    for output in outputs:
        name = str(output.metadata["unique_id"].value).split(".")[-1]
        yield output.with_metadata(
            {
                **output.metadata,
                **({"dagster/row_count": rows[name]} if name in rows else {}),
            }
        )
    if outcome.message:
        raise dbt_build.DbtFailed(f"dbt stopped: {outcome.message}")
    if not outcome.is_success:
        raise PublishRefused(judge(outcome.build, project.manifest, refresh.as_of_date).problems)
    if refresh.settings.strict:
        _refuse_open_findings(refresh)
    running.outcome = _in_words(statuses)


@contextlib.contextmanager
def _engine(refresh: Refresh, project: dbt_build.Project) -> Iterator[None]:
    """What dbt builds on: the warehouse, which is always there, or Spark, which is started."""
    if refresh.settings.engine == "duckdb":
        yield
        return
    from dagster_project import spark

    with spark.ready(refresh.settings):
        arguments = {"storage": spark.storage(refresh.settings)}
        dbt_build.run_operation(refresh.settings, project, "lay_out_databases", arguments)
        yield


def _log(context: dg.AssetExecutionContext, event: dbt_build.EventMsg) -> None:
    """Errors of dbt, without values; whatever else it says of each model and test, for debugging."""
    text = event.info.msg.strip()
    if not text or event.info.level not in ("info", "warn", "error"):
        return
    discreet = without_values(text, names())
    (context.log.error if event.info.level == "error" else context.log.debug)(discreet)


def _as_dict(event: dbt_build.EventMsg) -> dict[str, Any]:
    from dbt_common.events.functions import msg_to_dict

    content = msg_to_dict(event)
    assert isinstance(content, dict)
    return content


def _refuse_open_findings(refresh: Refresh) -> None:
    """Stop where billing got something wrong that nobody has accepted.

    Raises:
        PublishRefused: There are open findings of severity error; one problem per type.
    """
    with duckdb.connect(str(refresh.settings.built), read_only=True) as connection:
        rows = connection.execute(
            "select finding_type, count(*), min(finding_id) from marts.fct_audit_findings"
            " where severity = 'error' and review_status = 'open' group by all order by all"
        ).fetchall()
    if rows:
        raise PublishRefused(
            [
                Problem("finding", name, "open", f"{count} open, such as {example}", "")
                for name, count, example in rows
            ]
        )


def _row_counts(refresh: Refresh) -> dict[str, int]:
    """Rows by table of the build, as DuckDB keeps them; of Spark's tables it keeps none."""
    with duckdb.connect(str(refresh.settings.built), read_only=True) as connection:
        rows = connection.execute(
            "select table_name, estimated_size from duckdb_tables()"
        ).fetchall()
    return {str(name): int(count) for name, count in rows}


def _in_words(statuses: Sequence[tuple[str, str]]) -> str:
    models = sum(kind != "test" for kind, _ in statuses)
    passed = statuses.count(("test", "pass"))
    warned = statuses.count(("test", "warn"))
    words = f"{models} models built, {passed} tests passed"
    return words + (f", {warned} warned" if warned else "")
