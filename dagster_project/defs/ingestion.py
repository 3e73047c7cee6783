"""Deliveries to raw tables: one step for all feeds, so a run sees one state of the landing folder."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.answers.values import clean, count
from dagster_project.databases import open_to_write
from dagster_project.defs.pulling import source_keys
from dagster_project.defs.resources import Refresh
from dagster_project.defs.steps import step
from dagster_project.defs.tables import (
    MOST_DELIVERIES,
    Deliveries,
    Metadata,
    Tables,
    came_from,
    code,
    contract,
    loaded_deliveries,
)
from dagster_project.defs.transformation import Translator
from dagster_project.failures import plain, without_values
from dagster_project.feeds import SOURCES_FILE, feeds
from dagster_project.product import CODE, DBT_PROJECT
from dagster_project.refresh import acceptances, as_left
from dagster_project.refresh.dbt_build import Project
from dagster_project.releases.errors import ReleaseError
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.arrival import DeliveryReport

STEP = "arrival"
DELIVERIES = "deliveries"
GATE = "supplier_gate"
"""The check of a feed's raw table: what was checked in new files on arrival, and whether any was refused."""


def delivery_key(feed: str) -> dg.AssetKey:
    """Return the asset key of a feed's delivered files."""
    return dg.AssetKey([DELIVERIES, feed])


def defs(settings: Settings, project: Project) -> dg.Definitions:
    """Return the deliveries, which come from outside, and the raw tables, dbt's sources."""
    sources = sorted(project.manifest["sources"].values(), key=lambda source: source["name"])
    translator = Translator(settings)
    keys = {source["name"]: translator.get_asset_key(source) for source in sources}
    described = {
        source["name"]: {name: one["description"] for name, one in source["columns"].items()}
        for source in sources
    }

    @dg.multi_asset(
        name=STEP,
        specs=[_raw_table(source, keys[source["name"]], settings) for source in sources],
        check_specs=[_gate(feed, keys[feed]) for feed in feeds()],
        pool="warehouse",
    )
    def arrival(
        context: dg.AssetExecutionContext, refresh: Refresh
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Archive, check and load every file of the landing folder that is new."""
        with step(context, refresh, STEP) as running:
            from dagster_project.arrival import arrive
            from dagster_project.arrival.landing import left_alone
            from dagster_project.sources import deliveries as pulled

            settings = refresh.settings
            pulled.finish(settings.home)  # completes the delivery of a pull that was killed
            alone = left_alone(
                settings.landing, list(feeds()), time.time() - settings.settle_seconds
            )
            noted: list[str] = []
            with as_left.kept_up(settings):
                arrived = arrive(
                    settings.landing,
                    settings.home,
                    context.run_id,
                    refresh.started_at,
                    settle_seconds=settings.settle_seconds,
                    note=noted.append,
                )
                reports = [report for report in arrived if not report.is_again]
                must_have_come(
                    settings.landing,
                    reports,
                    loaded_deliveries(settings.warehouse),
                    alone["waiting"],
                )
                with open_to_write(settings.warehouse) as connection:
                    acceptances.load(connection, settings.accepted_findings_file)
            for report in reports:
                if report.verdict != "known":
                    context.log.debug(_discreetly(report))
            running.outcome = outcome(reports)
            running.notes = [*notes(**alone), *map(clean, noted)]
        tables = Tables(settings.warehouse, ["raw"])
        deliveries = loaded_deliveries(settings.warehouse)
        for name in feeds():
            context.log_event(_observed(name, reports))
        for name, key in keys.items():
            of_feed = [report for report in reports if report.feed == name]
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **tables.metadata(name, described[name]),
                    **(_arrived(of_feed) if name in feeds() else {}),
                    **came_from(deliveries, _feeds_behind(name)),
                },
                check_results=[gate_result(key, of_feed)] if name in feeds() else [],
            )

    external = [_delivery(feed, settings) for feed in feeds()]
    return dg.Definitions(assets=[*external, arrival])


def must_have_come(
    landing: Path,
    reports: "Sequence[DeliveryReport]",
    loaded: Mapping[str, Deliveries],
    waiting: Sequence[str] = (),
) -> None:
    """Check that there is something to refresh from, delivered now or earlier.

    Args:
        landing: The landing folder.
        reports: One per file in it.
        loaded: The files that were ever loaded, by feed.
        waiting: Folders of parts that are not whole yet, each with the reason.

    Raises:
        ReleaseError: No feed's folder has a file, and no file was ever loaded.
    """
    if loaded or any(report.feed in feeds() for report in reports):
        return
    *others, last = (f"{feed}/" for feed in feeds())
    elsewhere = ""
    if reports:
        number = "1 file is" if len(reports) == 1 else f"{len(reports):,} files are"
        elsewhere = f" {number} elsewhere in it, such as {reports[0].file_name}."
    elsewhere += "".join(f" Waiting: {folder}." for folder in waiting)
    raise ReleaseError(
        f"There is no file in {', '.join(others)} or {last} of {landing}, and none was ever"
        f" delivered: the release would be empty.{elsewhere}",
        "Name the folder that has them with --landing (or COUPON_LEDGER_LANDING), or put the files"
        " there, and run again.",
    )


def _delivery(feed: str, settings: Settings) -> dg.AssetSpec:
    """Return the asset of a feed's files, which come from outside and are only observed."""
    return dg.AssetSpec(
        delivery_key(feed),
        deps=source_keys(settings),
        group_name=DELIVERIES,
        description=f"The files that the billing system drops in `{feed}/` of the landing folder:"
        " CSV, JSON Lines or Parquet, everything or only what is new. They are read, never changed.",
        owners=[settings.owners[DELIVERIES]],
        kinds={"file", "csv", "parquet"},
        metadata={
            "dagster/column_schema": contract(feed),
            "dagster/uri": (settings.landing / feed).as_uri(),
            **code(SOURCES_FILE),
        },
    )


def _raw_table(source: Mapping[str, Any], key: dg.AssetKey, settings: Settings) -> dg.AssetSpec:
    """Return the asset of a raw table; tables about the files themselves depend on all feeds."""
    name = source["name"]
    is_feed = name in feeds()
    paths = [CODE / "dagster_project" / "arrival" / "arriving.py"]
    if is_feed:
        paths.append(CODE / "expectations" / f"{name}.py")
    return dg.AssetSpec(
        key,
        deps=[delivery_key(feed) for feed in _feeds_behind(name)],
        description=" ".join(source["description"].split()),
        group_name="raw",
        owners=[settings.owners["raw"]],
        kinds={"python", "duckdb"} | ({"greatexpectations"} if is_feed else set()),
        metadata=code(*paths, DBT_PROJECT / source["original_file_path"]),
    )


def _feeds_behind(name: str) -> list[str]:
    """Return the feeds that a raw table is loaded from; reviewed files come from none."""
    if name == acceptances.TABLE:
        return []
    return [feed for feed in feeds() if feed == name or name not in feeds()]


def _gate(feed: str, key: dg.AssetKey) -> dg.AssetCheckSpec:
    """Return the supplier gate's check; it blocks nothing, because a refused file is left out."""
    return dg.AssetCheckSpec(
        GATE,
        asset=key,
        description="The Great Expectations suite of the feed, checked on every new file; a file"
        " that breaks an expectation of severity error is not loaded.",
        metadata=code(CODE / "expectations" / f"{feed}.py"),
    )


def _observed(feed: str, reports: "Sequence[DeliveryReport]") -> dg.AssetObservation:
    """Return what is in the landing folder for a feed; its data version identifies the content."""
    of_feed = [report for report in reports if report.feed == feed]
    digest = hashlib.sha256(" ".join(sorted(one.delivery_id for one in of_feed)).encode())
    return dg.AssetObservation(
        delivery_key(feed),
        metadata={
            "files": len(of_feed),
            "new_files": sum(report.verdict == "loaded" for report in of_feed),
            "refused_files": sum(report.verdict == "refused" for report in of_feed),
        },
        tags={"dagster/data_version": digest.hexdigest()[:16]},
    )


def gate_result(key: dg.AssetKey, reports: "Sequence[DeliveryReport]") -> dg.AssetCheckResult:
    """Return a feed's check: refused files are errors, broken expectations warnings.

    Args:
        key: The feed's raw table.
        reports: One per file of the feed.
    """
    refused = [report for report in reports if report.verdict == "refused"]
    broken = [
        f"- {report.file_name}: {result.check_name}, {result.severity}: {result.observed}"
        for report in reports
        if report.verdict != "known"
        for result in report.gate_failures
    ]
    failures = [f"- {_discreetly(report)}" for report in refused] + broken
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=GATE,
        passed=not failures,
        severity=dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN,
        metadata={
            "refused_files": len(refused),
            "broken_expectations": len(broken),
            "details": dg.MetadataValue.md("\n".join(failures[:100]) or "nothing"),
        },
    )


def outcome(reports: "Sequence[DeliveryReport]") -> str:
    """Return in a few words what arrived.

    Args:
        reports: One per file of the landing folder.
    """
    loaded = [report for report in reports if report.verdict == "loaded"]
    refused = [report for report in reports if report.verdict == "refused"]
    rows = sum(report.physical_rows for report in loaded)
    files, of_them = count(len(reports), "file"), count(rows, "row")
    parts = [f"{files}, {len(loaded):,} new with {of_them}"]
    if refused:
        parts.append(f"{len(refused):,} REFUSED")
    return ", ".join(parts)


def notes(waiting: Sequence[str], empty: Sequence[str]) -> list[str]:
    """Return what was not read in the landing folder, one line each.

    Args:
        waiting: Folders of parts that are not whole yet, each with the reason.
        empty: Empty parts that were skipped.
    """
    lines = [f"waiting: {clean(folder)}" for folder in waiting]
    if empty:
        others = f" and {len(empty) - 1:,} more" if len(empty) > 1 else ""
        lines.append(f"passed over: {clean(empty[0])}{others}, empty beside other parts")
    return lines


def _line(report: "DeliveryReport") -> str:
    line = f"{report.verdict} {report.file_name}: {count(report.physical_rows, 'row')}"
    if report.malformed_rows:
        line += f", {report.malformed_rows:,} of them malformed"
    if report.reason:
        line += f"; {report.reason}"
    if report.remedy:
        line += f"; {report.remedy}"
    return line


def _arrived(reports: "Sequence[DeliveryReport]") -> Metadata:
    loaded = [report for report in reports if report.verdict == "loaded"]
    refused = [report for report in reports if report.verdict == "refused"]
    found: Metadata = {
        "files": len(reports),
        "new_files": len(loaded),
        "new_rows": sum(report.physical_rows for report in loaded),
        "refused_files": len(refused),
    }
    if shown := [*refused, *loaded]:
        lines = [f"- {_discreetly(report)}" for report in shown[:MOST_DELIVERIES]]
        found["arrived_now"] = dg.MetadataValue.md("\n".join(lines))
    return found


def _discreetly(report: "DeliveryReport") -> str:
    """Return a line of a report fit for logs: without values, which may be personal data."""
    return plain(without_values(_line(report)))
