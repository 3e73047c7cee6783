"""The measured numbers on the pages on speed and on Spark: named blocks between two markers each.

The chart is stored beside this module.

Turning stored results into text belongs here; every number comes from the newest result of its case.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_project.settings import CHECKOUT
from tests.bench import against, chart, compare, machine, measure, question, refresh, shuffle, store

SPEED = CHECKOUT / "docs" / "speed.md"
PAGES = {
    **dict.fromkeys(("refresh", "against", "question", "compare"), SPEED),
    "shuffle": CHECKOUT / "docs" / "spark.md",
}
"""The page of each block by the block's name."""
CHART = Path(__file__).with_name("speed.svg")
Results = Sequence[Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--results", type=Path, default=store.FOLDER, help="where results are kept")


def main(options: argparse.Namespace) -> None:
    """Write the blocks and the chart."""
    compared = newest(store.kept("compare", options.results), "asked_invoices")
    refreshed = newest(
        store.kept("refresh", options.results), "asked_invoices", "format", "files", "engine"
    )
    shuffled = store.kept("shuffle", options.results)
    beside = newest(store.kept("against", options.results), "asked_invoices", "ref", "only")
    asked = newest(store.kept("question", options.results), "asked_invoices")
    if not any((compared, refreshed, shuffled, beside, asked)):
        raise SystemExit(f"There are no results in {options.results}: run `make bench` first.")
    blocks = {
        "refresh": refresh_block(refreshed) if refreshed else None,
        "against": beside_block(beside) if beside else None,
        "question": question.table(asked) if asked else None,
        "compare": compare_block(compared) if compared else None,
        "shuffle": shuffle.block(shuffled[-1]) if shuffled else None,
    }
    for name, content in blocks.items():
        if content is not None:
            page = PAGES[name]
            page.write_text(with_block(page.read_text("utf-8"), name, content), "utf-8")
            print(f"Written: {name} in {page}")
    if compared:
        CHART.write_text(chart.drawn(compared), "utf-8")
        print(f"Written: {CHART}")


def newest(results: Results, *case: str) -> Results:
    """The last result of every case, cases in their order.

    Args:
        results: Oldest first.
        case: Names of the values that make a case.
    """
    last = {tuple(result[name] for name in case): result for result in results}
    return [last[key] for key in sorted(last)]


def with_block(text: str, name: str, content: str) -> str:
    """A text with what is between the two markers of a name replaced.

    Raises:
        ValueError: The markers do not occur once each, in their order.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    if text.count(start) != 1 or rest.count(end) != 1:
        raise ValueError(f"the text needs one {start} and after it one {end}")
    return f"{before}{start}\n\n{content}\n\n{end}{after}"


def beside_block(results: Results) -> str:
    """The costs of this version in ratio to an earlier one's, with where they were measured."""
    return _block(results, _beside(results))


def refresh_block(results: Results) -> str:
    """Refreshes beside their floors, the days after, and where they were measured."""
    days_after = [result for result in results if len(result["scenarios"]) > 2]
    return _block(results, [*_refreshed(results), *_days_after(days_after)])


def compare_block(results: Results) -> str:
    """The chart and the table of the programs, with where they were measured."""
    return _block(results, _compared(results))


def _block(results: Results, parts: Iterable[str]) -> str:
    where = "\n".join(f"- {line}" for line in _where(results))
    return "\n\n".join([*parts, "Measured on:", where])


def _beside(results: Results) -> Iterator[str]:
    for result in results:
        what = (
            f"{result['asked_invoices']:,} invoices" if result["asked_invoices"] else "the sample"
        )
        yield f"This version beside commit {result['ref']}, {what}:"
        yield _table(
            "what | earlier, CPU seconds | now | part | part by the clock | peak memory now",
            (
                (
                    row.scenario,
                    f"{row.before_cpu:.1f}",
                    f"{row.cpu:.1f}",
                    f"{row.cpu_ratio:.2f}",
                    f"{row.seconds_ratio:.2f}",
                    f"{row.peak_bytes / 1e9:.2f} GB",
                )
                for row in against.compared(result)
            ),
        )


def _compared(results: Results) -> Iterator[str]:
    yield f"![Seconds and memory of each program](../{CHART.relative_to(CHECKOUT).as_posix()})"
    heads = "".join(
        f" {result['invoices']:,} invoices, seconds | times | peak memory |" for result in results
    )
    lines = [f"| program |{heads}", "|---|" + "---|" * 3 * len(results)]
    for name in dict.fromkeys(name for result in results for name in result["programs"]):
        cells = [_program(result["programs"], name) for result in results]
        lines.append(f"| {compare.PROGRAMS[name]} |{''.join(cells)}")
    yield "\n".join(lines)


def _program(programs: Mapping[str, Any], name: str) -> str:
    if name not in programs:
        return " | | |"
    each = programs[name]
    if "failed" in each:
        return f" {each['failed']} | | |"
    base = programs.get(compare.BASE, {}).get("median_seconds")
    ratio = f"{each['median_seconds'] / base:.2f}" if base else ""
    return f" {each['median_seconds']:.1f} | {ratio} | {each['peak_bytes'] / 1e9:.2f} GB |"


def _refreshed(results: Results) -> Iterator[str]:
    yield _table(
        "invoices | delivered | engine | floor, seconds | refresh, seconds | times the floor"
        " | a million, seconds | peak memory | steps, seconds",
        (
            (
                f"{result['invoices']:,}",
                f"{result['delivered_bytes'] / 1e6:,.0f} MB of {_format(result)}",
                result["engine"],
                f"{floor:.1f}",
                f"{full['median_seconds']:.1f}",
                f"{full['median_seconds'] / floor:.2f}",
                f"{full['median_seconds'] / result['invoices'] * 1e6:.1f}",
                f"{full['peak_bytes'] / 1e9:.2f} GB",
                ", ".join(f"{step} {value:.1f}" for step, value in full["step_seconds"].items()),
            )
            for result in results
            for floor in [result["scenarios"][refresh.FLOOR]["median_seconds"]]
            for full in [result["scenarios"][refresh.FULL]]
        ),
    )


def _days_after(results: Results) -> Iterator[str]:
    if results:
        yield _table(
            "on top of | what comes | seconds | part of the full rebuild | peak memory",
            (
                (
                    f"{result['invoices']:,} invoices, {_format(result)}",
                    name,
                    f"{runs['median_seconds']:.1f}",
                    f"{runs['median_seconds'] / full:.2f}",
                    f"{runs['peak_bytes'] / 1e9:.2f} GB",
                )
                for result in results
                for full in [result["scenarios"][refresh.FULL]["median_seconds"]]
                for name, runs in result["scenarios"].items()
                if name not in (refresh.FLOOR, refresh.FULL)
            ),
        )


def _format(result: Mapping[str, Any]) -> str:
    return {"csv": "CSV", "parquet": "Parquet"}[result["format"]]


def _where(results: Results) -> Iterator[str]:
    """Where and how each was measured; those that share all of it on one line."""
    told: dict[str, list[str]] = {}
    for result in results:
        kind = (
            "comparison"
            if "programs" in result
            else "beside an earlier version"
            if "ref" in result
            else "refresh"
        )
        how = (
            f"{result['threads']} threads, memory limit {result['memory_limit']},"
            f" {measure.rounds_in_words(result['rounds'])}; {machine.sentence(dict(result))}"
        )
        invoices = result.get("invoices", result["asked_invoices"])
        told.setdefault(how, []).append(
            f"{kind} of {invoices:,}" if invoices else f"{kind}, the sample"
        )
    for how, cases in told.items():
        yield f"{', '.join(cases)}: {how}"


def _table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * columns]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
