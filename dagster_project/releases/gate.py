"""The gate: whether the build of this very run may be published, read from dbt's own results.

Dagster does not stop downstream Python assets for a failed dbt test, so the release step
judges for itself. Everything the manifest names must have a result of this run, or stand as an earlier
build left it, and every blocking test must have passed. A build with a missing, skipped, stale or altered
result is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

_BUILT = {"model", "seed", "snapshot"}
_MOST_SHOWN = 10


@dataclass(frozen=True)
class Result:
    """What a data test found.

    Attributes:
        status: dbt's status: `pass`, `warn`, `fail`, …
        failures: Offending rows.
        checked_at: When the refresh began in which it ran, in UTC.
    """

    status: str
    failures: int
    checked_at: datetime


@dataclass(frozen=True)
class Build:
    """What the run that asks for publication knows of its own build.

    Attributes:
        invocations: Folders that dbt wrote its results to, by dbt's id of the invocation, from its events.
        statuses: Final status by unique id, as seen in the events while dbt ran, to compare with the
            results files.
        left_alone: Models that were not built, because nothing they depend on has changed since the
            previous build, which passed.
        standing: Results of data tests that were not run, because an earlier build ran them over the same
            rows, by unique id.
        tested: Number of rows, and sum of their hashes, of each model over which the data tests passed, by
            unique id; empty if not known.
    """

    invocations: Mapping[str, Path]
    statuses: Mapping[str, str]
    left_alone: tuple[str, ...] = ()
    standing: Mapping[str, Result] = field(default_factory=dict)
    tested: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A data test and what it found.

    Attributes:
        name: Name of the test.
        severity: `error` (blocks publication) or `warn`.
        status: dbt's status: `pass`, `warn`, `fail`, …
        failures: Offending rows.
        table_name: The model it is attached to, if any.
        description: What it asserts.
        checked_by: `dbt`, or `supplier gate` for what arrival checks in each delivery.
        checked_at: When an earlier refresh began in which it ran over the same rows, in UTC; None if it ran
            in this one.
    """

    name: str
    severity: str
    status: str
    failures: int
    table_name: str | None
    description: str
    checked_by: str = "dbt"
    checked_at: datetime | None = None


@dataclass(frozen=True)
class Problem:
    """One reason not to publish.

    Attributes:
        kind: `test`, `model`, `results` or, in a strict run, `finding`.
        name: The test, model or type of findings, or what is wrong with the results as a whole.
        status: dbt's status, or `missing`, `stale`, `altered`, `open`.
        message: What dbt said, or how many findings are open, in one line.
        path: The SQL or YAML file concerned, relative to the dbt project.
    """

    kind: str
    name: str
    status: str
    message: str
    path: str

    def __str__(self) -> str:
        """Return the problem as one line for people."""
        where = f" ({self.path})" if self.path else ""
        said = f": {self.message}" if self.message else ""
        return f"{self.kind} {self.name} {self.status}{where}{said}"


@dataclass(frozen=True)
class Judgement:
    """The data tests of a build, and the reasons not to publish it; if there are none, it may be published."""

    checks: tuple[Check, ...]
    problems: tuple[Problem, ...]


def judge(build: Build, manifest: Mapping[str, Any], as_of: date) -> Judgement:
    """Judge a build by dbt's results files.

    Args:
        build: The build to judge.
        manifest: dbt's manifest, which names everything that must have a result.
        as_of: The as-of date the build must have.
    """
    by_id: dict[str, Mapping[str, Any]] = {}
    for invocation_id, folder in build.invocations.items():
        found = _results(folder / "run_results.json", invocation_id, as_of)
        if isinstance(found, Problem):
            return Judgement((), (found,))
        by_id |= found
    problems = list(_problems(by_id, manifest, build))
    altered = sorted(
        unique_id
        for unique_id in by_id.keys() | build.statuses.keys()
        if by_id.get(unique_id, {}).get("status") != build.statuses.get(unique_id)
    )
    where = ", ".join(str(folder / "run_results.json") for folder in build.invocations.values())
    for unique_id in altered:
        message = (
            f"the file says {by_id.get(unique_id, {}).get('status', 'nothing')},"
            f" dbt said {build.statuses.get(unique_id, 'nothing')} while it ran"
        )
        problems.append(Problem("results", unique_id, "altered", message, where))
    return Judgement(tuple(_checks(by_id, manifest, build.standing)), tuple(problems))


def _results(path: Path, invocation_id: str, as_of: date) -> dict[str, Mapping[str, Any]] | Problem:
    """Return the results of an invocation by unique id, or why its file cannot be used."""
    try:
        results = json.loads(path.read_text("utf-8"))
        by_id = {result["unique_id"]: result for result in results["results"]}
        metadata = results["metadata"]
    except FileNotFoundError:
        return _refused("dbt left no results", "missing", "dbt ended before it finished", path)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _refused("dbt's results file", "altered", "it cannot be read", path)
    if metadata.get("invocation_id") != invocation_id:
        message = f"they are of invocation {metadata.get('invocation_id')}, not of this run"
        return _refused("dbt's results", "stale", message, path)
    given = results.get("args", {}).get("vars", {})
    if given.get("as_of_date") != as_of.isoformat():
        message = f"built as of {given.get('as_of_date')}, not as of {as_of}"
        return _refused("dbt's results", "stale", message, path)
    return by_id


def _refused(name: str, status: str, message: str, path: Path) -> Problem:
    return Problem("results", name, status, message, str(path))


def _severity(node: Mapping[str, Any]) -> str:
    return str(node["config"].get("severity") or "error").lower()


def _problems(
    results: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
    build: Build,
) -> Iterator[Problem]:
    # Tests run after the models; if a model failed, they did not run.
    without = (
        "skipped" if any(one.get("status") == "error" for one in results.values()) else "missing"
    )
    for unique_id, node in manifest["nodes"].items():
        kind = node["resource_type"]
        if kind in _BUILT and unique_id in build.left_alone and unique_id not in results:
            continue
        if kind in _BUILT and node["config"].get("materialized") != "ephemeral":
            wanted = {"success"}
        elif kind == "test":
            wanted = {"pass", "warn"} if _severity(node) == "warn" else {"pass"}
        else:
            continue
        result = results.get(unique_id)
        if result is not None:
            status = str(result["status"])
        elif kind == "test" and unique_id in build.standing:
            status = build.standing[unique_id].status
        else:
            status = without if kind == "test" else "missing"
        if status not in wanted:
            yield _problem("test" if kind == "test" else "model", node, status, result)
    # Unit tests check code, not data: a refresh need not run them, but none may fail.
    for unique_id, node in manifest.get("unit_tests", {}).items():
        result = results.get(unique_id)
        if result is not None and result["status"] != "pass":
            yield _problem("test", node, str(result["status"]), result)


def _problem(
    kind: str, node: Mapping[str, Any], status: str, result: Mapping[str, Any] | None
) -> Problem:
    said = " ".join(str((result or {}).get("message") or "").split())
    failures = (result or {}).get("failures")
    if kind == "test" and failures:
        said = f"{failures} row{'' if failures == 1 else 's'} {'do' if failures != 1 else 'does'} not hold"
    return Problem(kind, str(node["name"]), status, said, str(node.get("original_file_path", "")))


def _checks(
    results: Mapping[str, Mapping[str, Any]],
    manifest: Mapping[str, Any],
    standing: Mapping[str, Result],
) -> Iterator[Check]:
    nodes = manifest["nodes"]
    for unique_id, node in sorted(nodes.items(), key=lambda item: str(item[1]["name"])):
        result, earlier = results.get(unique_id), standing.get(unique_id)
        if node["resource_type"] != "test" or (result is None and earlier is None):
            continue
        if result is not None:
            status, failures, checked_at = str(result["status"]), result.get("failures"), None
        else:
            assert earlier is not None
            status, failures, checked_at = earlier.status, earlier.failures, earlier.checked_at
        attached = node.get("attached_node") or _last_model(node)
        yield Check(
            name=str(node["name"]),
            severity=_severity(node),
            status=status,
            failures=int(failures or 0),
            table_name=attached.split(".")[-1] if attached else None,
            description=str(node.get("description") or ""),
            checked_at=checked_at,
        )


def _last_model(node: Mapping[str, Any]) -> str | None:
    models = [one for one in node["depends_on"]["nodes"] if one.startswith("model.")]
    return str(models[-1]) if models else None


def in_words(problems: Sequence[Problem]) -> list[str]:
    """Return problems for people: causes first, then the number of checks skipped because of them."""
    causes = [problem for problem in problems if problem.status != "skipped"] or list(problems)
    shown = [
        f"{one.kind} {one.name}: {one.message or one.status}"
        + (f" ({one.path})" if one.path else "")
        for one in causes[:_MOST_SHOWN]
    ]
    if len(causes) > _MOST_SHOWN:
        shown.append(f"and {len(causes) - _MOST_SHOWN} more")
    if len(problems) > len(causes):
        left = len(problems) - len(causes)
        after = "model or test after it was" if left == 1 else "models and tests after them were"
        shown.append(f"{left} {after} skipped")
    return shown
