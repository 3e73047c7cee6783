"""Deliveries to raw tables: one step for all feeds, so that a run sees one state of the landing folder."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.dbt_build import Project
from dagster_project.defs.resources import Refresh
from dagster_project.defs.steps import step
from dagster_project.defs.transformation import Translator
from dagster_project.feeds import feeds

if TYPE_CHECKING:
    from dagster_project.arrival import DeliveryReport

STEP = "arrival"
GATE = "supplier_gate"
"""The check of a feed's raw table: what its new files were asked on arrival, and whether any was refused."""


def defs(project: Project) -> dg.Definitions:
    """The raw tables, which are dbt's sources, as assets."""
    sources = sorted(project.manifest["sources"].values(), key=lambda source: source["name"])
    translator = Translator()
    keys = {source["name"]: translator.get_asset_key(source) for source in sources}
    specs = [
        dg.AssetSpec(
            keys[source["name"]],
            description=" ".join(source["description"].split()),
            group_name="raw",
            kinds={"python", "duckdb"},
        )
        for source in sources
    ]

    checks = [
        dg.AssetCheckSpec(
            GATE,
            asset=keys[name],
            description="The Great Expectations suite of the feed, asked of every new file; a file"
            " that breaks an expectation of severity error is not loaded.",
        )
        for name in feeds()
    ]

    @dg.multi_asset(name=STEP, specs=specs, check_specs=checks, pool="warehouse")
    def arrival(
        context: dg.AssetExecutionContext, refresh: Refresh
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Archive, check and load every file of the landing folder that is new."""
        with step(context, refresh, STEP) as running:
            from dagster_project.arrival import arrive

            settings = refresh.settings
            reports = arrive(settings.landing, settings.home, context.run_id, refresh.started_at)
            for report in reports:
                if report.verdict != "known":
                    context.log.debug(_line(report))
            running.outcome = outcome(reports)
        for name, key in keys.items():
            of_feed = [report for report in reports if report.feed == name]
            yield dg.MaterializeResult(
                asset_key=key,
                metadata=_metadata(of_feed),
                check_results=[gate_result(key, of_feed)] if name in feeds() else [],
            )

    return dg.Definitions(assets=[arrival])


def gate_result(key: dg.AssetKey, reports: "Sequence[DeliveryReport]") -> dg.AssetCheckResult:
    """The check of a feed: failed by refused files as an error, by broken expectations as a warning.

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
    told = [f"- {_line(report)}" for report in refused] + broken
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=GATE,
        passed=not told,
        severity=dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN,
        metadata={
            "refused_files": len(refused),
            "broken_expectations": len(broken),
            "details": dg.MetadataValue.md("\n".join(told[:100]) or "nothing"),
        },
    )


def outcome(reports: "Sequence[DeliveryReport]") -> str:
    """What arrived, in a few words.

    Args:
        reports: One per file of the landing folder.
    """
    loaded = [report for report in reports if report.verdict == "loaded"]
    refused = [report for report in reports if report.verdict == "refused"]
    rows = sum(report.physical_rows for report in loaded)
    parts = [f"{len(reports):,} files, {len(loaded):,} new with {rows:,} rows"]
    if refused:
        parts.append(f"{len(refused):,} REFUSED")
    return ", ".join(parts)


def _line(report: "DeliveryReport") -> str:
    line = f"{report.verdict} {report.file_name}: {report.physical_rows:,} rows"
    if report.malformed_rows:
        line += f", {report.malformed_rows:,} of them malformed"
    if report.reason:
        line += f"; {report.reason}"
    if report.remedy:
        line += f"; {report.remedy}"
    return line


def _metadata(reports: "Sequence[DeliveryReport]") -> dict[str, dg.MetadataValue | int]:
    loaded = [report for report in reports if report.verdict == "loaded"]
    refused = [report for report in reports if report.verdict == "refused"]
    metadata: dict[str, dg.MetadataValue | int] = {
        "files": len(reports),
        "new_files": len(loaded),
        "new_rows": sum(report.physical_rows for report in loaded),
        "refused_files": len(refused),
    }
    told = [*refused, *loaded]
    if told:
        metadata["deliveries"] = dg.MetadataValue.md(
            "\n".join(f"- {_line(report)}" for report in told[:100])
        )
    return metadata
