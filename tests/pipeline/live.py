"""The real Dagster: web server and daemon as processes of their own, controlled and watched over GraphQL.

The machinery belongs here: data home, processes and queries. What must result is in `test_live.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from dagster_project.releases import current_release
from dagster_project.releases.lock import holder_path
from dagster_project.settings import CHECKOUT
from tests.receivers import free_port

MODULE = "dagster_project.definitions"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": MODULE}
ENDED = ("SUCCESS", "FAILURE", "CANCELED")

Found = TypeVar("Found")
Query = dict[str, Any]


class TookTooLong(AssertionError):
    """Something that was waited for did not happen; says what, and what the processes wrote last."""


@dataclass(frozen=True)
class Run:
    """A run as the web server shows it.

    Attributes:
        run_id: Its id.
        status: Its status in Dagster's words.
        tags: Its tags, which say who started it.
        as_of: The as-of date in its configuration, as YYYY-MM-DD.
        began: When it began, in seconds since 1970; 0 if it has not.
        ended: When it ended; 0 if it has not.
    """

    run_id: str
    status: str
    tags: dict[str, str]
    as_of: str
    began: float
    ended: float

    @property
    def has_ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED

    @property
    def started_by(self) -> str:
        """Name of the sensor or schedule that started it."""
        return self.tags.get("dagster/sensor_name") or self.tags.get("dagster/schedule_name", "")


@dataclass(frozen=True)
class Check:
    """The result of an asset check in a run.

    Attributes:
        asset: Key of the asset, with slashes.
        name: Name of the check.
        passed: Whether it passed.
        severity: ERROR or WARN.
    """

    asset: str
    name: str
    passed: bool
    severity: str


def kill(process: int) -> None:
    """End a process at once, as the kernel does if memory runs out."""
    os.kill(process, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """The processes that a process started, and those that they started; its own children first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = stat.read_text("utf-8").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [*children.get(process, [])]
    for pid in found:  # grows while it is iterated
        found += children.get(pid, [])
    return found


@dataclass
class Service:
    """Web server and daemon over a data home and a landing folder of their own.

    Attributes:
        folder: The folder of everything.
        settings: Settings of the product by name, besides home and landing folder.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home, self.landing = self.folder / "home", self.folder / "landing"
        self.dagster_home = self.home / "dagster"
        self.port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for folder in (self.dagster_home, self.landing):
            folder.mkdir(parents=True)
        # As shipped, but dead runs are looked for more often.
        shipped = (CHECKOUT / "dagster_project" / "cli" / "dagster.yaml").read_text("utf-8")
        impatient = shipped.replace("poll_interval_seconds: 30", "poll_interval_seconds: 2")
        assert impatient != shipped
        (self.dagster_home / "dagster.yaml").write_text(impatient, "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What the processes see: this shell without its own settings, and ours."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COUPON_LEDGER_", "DAGSTER_"))
        }
        return {
            **inherited,
            "PYTHONIOENCODING": "utf-8",
            "PYTHONUNBUFFERED": "1",
            "COUPON_LEDGER_HOME": str(self.home),
            "COUPON_LEDGER_LANDING": str(self.landing),
            **{f"COUPON_LEDGER_{name.upper()}": value for name, value in self.settings.items()},
        }

    # Processes

    def start(self, name: str) -> None:
        """Start `web` or `daemon` as a service would, its output in a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dagster_project.cli",
                    "dev",
                    "--only",
                    name,
                    "--port",
                    str(self.port),
                ],
                cwd=CHECKOUT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str, *, everything: bool = False) -> None:
        """End a process and the one that watches over it at once, as the kernel would.

        Args:
            name: `web` or `daemon`.
            everything: Whether its children, the code server and the runs, end with it.
        """
        process = self._processes.pop(name)
        below = descendants(process.pid)
        for pid in [process.pid, *(below if everything else below[:1])]:
            kill(pid)
        process.wait()
        self._left_behind += below

    def __enter__(self) -> Self:
        self._left_behind: list[int] = []
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything that was started, including orphaned processes."""
        for process in self._processes.values():
            self._left_behind += descendants(process.pid)
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
        for pid in [*self._left_behind, *(one.pid for one in self._processes.values())]:
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
        for process in self._processes.values():
            process.wait()

    def writer(self, run_id: str) -> int:
        """The id of the process that holds the data home for a run; 0 if that run does not."""
        try:
            holder = json.loads(holder_path(self.home).read_text("utf-8"))
        except (OSError, ValueError):
            return 0
        return int(holder["pid"]) if run_id in holder["command"] else 0

    # Waiting

    def wait_for(
        self, what: str, condition: Callable[[], Found | None], seconds: float = 90
    ) -> Found:
        """Poll a condition until it returns something.

        Args:
            what: What is waited for, for the message.
            condition: Returns what was found, or something false.
            seconds: How long, at most.

        Raises:
            TookTooLong: It returned nothing in that time, or a process ended.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise TookTooLong(f"{name} ended by itself.\n{self.last_words()}")
            if found := condition():
                return found
            time.sleep(0.2)
        raise TookTooLong(f"After {seconds:.0f} s still not: {what}.\n{self.last_words()}")

    def last_words(self, lines: int = 40) -> str:
        """The end of each log, and the runs."""
        told = []
        for log in sorted(self.folder.glob("*.log")):
            text = log.read_text("utf-8", "replace").splitlines()[-lines:]
            told += [f"--- {log.name}", *text]
        with contextlib.suppress(OSError, AssertionError):
            told += ["--- runs", *map(str, self.runs())]
        return "\n".join(told)

    # GraphQL

    def ask(self, query: str, **variables: object) -> Query:
        """The answer to a query or mutation.

        Raises:
            AssertionError: The server refused it.
            OSError: The server cannot be reached.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            body,
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        assert "errors" not in answer, answer["errors"]
        data = answer["data"]
        assert isinstance(data, dict)
        return data

    def wait_until_ready(self) -> None:
        """Wait until the web server has loaded the definitions and every daemon lives."""

        def ready() -> bool:
            try:
                answer = self.ask(
                    "{ repositoryOrError(repositorySelector: {repositoryName: "
                    f'"__repository__", repositoryLocationName: "{MODULE}"}}) {{ __typename }}'
                    " instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
                )
            except OSError:
                return False
            daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
            return answer["repositoryOrError"]["__typename"] == "Repository" and all(
                one["healthy"] for one in daemons if one["required"]
            )

        self.wait_for("web server and daemon are ready", ready, seconds=180)

    def turn_on(self, kind: str, name: str) -> None:
        """Turn a schedule or sensor on.

        Args:
            kind: `Schedule` or `Sensor`.
            name: Its name.
        """
        field_name = f"start{kind}"
        answer = self.ask(
            f"mutation On($selector: {kind}Selector!) {{ {field_name}"
            f"({kind.lower()}Selector: $selector) {{ __typename ... on PythonError {{ message }} }} }}",
            selector={**REPOSITORY, f"{kind.lower()}Name": name},
        )
        assert answer[field_name]["__typename"] in ("Sensor", "ScheduleStateResult"), answer

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        answer = self.ask(
            "{ runsOrError { ... on Runs { results"
            " { runId status runConfigYaml startTime endTime tags { key value } } }"
            " ... on PythonError { message } } }"
        )
        return [
            Run(
                run_id=one["runId"],
                status=one["status"],
                tags={tag["key"]: tag["value"] for tag in one["tags"]},
                as_of=_as_of(one["runConfigYaml"]),
                began=one["startTime"] or 0,
                ended=one["endTime"] or 0,
            )
            for one in reversed(answer["runsOrError"]["results"])
        ]

    def wait_until_looked(self, *sensors: str) -> None:
        """Wait until each of these sensors, which run by themselves, has looked once."""

        def looked() -> bool:
            return all(self.ticks("Sensor", name) for name in sensors)

        self.wait_for(f"{', '.join(sensors)} have looked", looked)

    def defined_checks(self) -> list[tuple[str, str]]:
        """Asset and name of every check."""
        answer = self.ask(
            "{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks"
            " { checks { name } } } } }"
        )
        return [
            ("/".join(node["assetKey"]["path"]), check["name"])
            for node in answer["assetNodes"]
            for check in node["assetChecksOrError"].get("checks", [])
        ]

    def materializations(self) -> dict[str, set[str]]:
        """Labels of the metadata of what was built last, by asset that is built."""
        answer = self.ask(
            "{ assetNodes { isMaterializable assetKey { path }"
            " assetMaterializations(limit: 1) { metadataEntries { label } } } }"
        )
        return {
            "/".join(node["assetKey"]["path"]): {
                entry["label"]
                for one in node["assetMaterializations"]
                for entry in one["metadataEntries"]
            }
            for node in answer["assetNodes"]
            if node["isMaterializable"]
        }

    def checks(self, run_id: str) -> list[Check]:
        """What the checks of a run said, in the order of evaluation."""
        checks: list[Check] = []
        cursor, has_more = None, True
        while has_more:
            answer = self.ask(
                "query Log($run: ID!, $after: String) { logsForRun(runId: $run, afterCursor: $after)"
                " { ... on EventConnection { cursor hasMore events { ... on AssetCheckEvaluationEvent"
                " { evaluation { checkName severity success assetKey { path } } } } } } }",
                run=run_id,
                after=cursor,
            )["logsForRun"]
            cursor, has_more = answer["cursor"], answer["hasMore"]
            checks += [
                Check(
                    asset="/".join(evaluation["assetKey"]["path"]),
                    name=evaluation["checkName"],
                    passed=evaluation["success"],
                    severity=evaluation["severity"],
                )
                for event in answer["events"]
                if (evaluation := event.get("evaluation"))
            ]
        return checks

    def ticks(self, kind: str, name: str, after: float = 0) -> list[Query]:
        """What a schedule or sensor did, newest first: time, status and why it skipped."""
        lowered = kind.lower()
        answer = self.ask(
            f"query Ticks($selector: {kind}Selector!, $after: Float) {{ {lowered}OrError"
            f"({lowered}Selector: $selector) {{ ... on {kind} {{ {lowered}State {{"
            " ticks(afterTimestamp: $after) { timestamp status skipReason runIds } } } } }",
            selector={**REPOSITORY, f"{lowered}Name": name},
            after=after,
        )
        ticks = answer[f"{lowered}OrError"][f"{lowered}State"]["ticks"]
        assert isinstance(ticks, list)
        return ticks

    # What is served

    def served(self) -> str | None:
        """The id of the release that is served."""
        return current_release(self.home)


def _as_of(run_config: str) -> str:
    import yaml

    config = yaml.safe_load(run_config) or {}
    resource = config.get("resources", {}).get("refresh", {}).get("config", {})
    return str(resource.get("as_of", ""))
