"""One run of one process, measured: its seconds, its processors' seconds, and the most memory held at once."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SHOWN = 3_000  # characters of the output of a run that failed


class RunFailed(Exception):
    """A run ended badly; says which, and shows the end of what it printed.

    Attributes:
        reason: What happened, in a few words.
    """

    def __init__(self, run: str, reason: str, shown: str = "") -> None:
        """Say what happened to which run."""
        super().__init__(f"{run} {reason}{shown}")
        self.reason = reason


class MemoryExceeded(RunFailed):
    """A run held more memory than it was allowed, and was ended."""


@dataclass(frozen=True)
class Measured:
    """What a run cost.

    Attributes:
        seconds: From its start to its end, by the wall clock.
        cpu_seconds: The processors' time of it and of all children that it waited for; other work on the
            machine changes it less than the time by the clock.
        peak_bytes: The most resident memory its processes had together, as sampled ten times a second;
            or what its largest process had at its peak, if that was more.
        output: What it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    most_bytes: int | None = None,
    folder: Path | None = None,
) -> Measured:
    """Run a command to its end.

    What earlier runs wrote is flushed to disk before the clock starts.

    Args:
        arguments: The command.
        log: Gets what it prints, both streams.
        environment: Variables in addition to those of this process.
        most_bytes: Memory at which it is ended.
        folder: Where it runs; here unless given.

    Raises:
        RunFailed: Its exit status is not 0.
        MemoryExceeded: It held more than `most_bytes`.
    """
    os.sync()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # by which its descendants are known
        )
        watch = _Watch(process.pid, most_bytes)
        try:
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
        except BaseException:
            watch.end_all()
            raise
        finally:
            watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text("utf-8", errors="replace")
    if watch.has_exceeded:
        most = f"{(most_bytes or 0) / 2**30:.1f} GiB"
        raise MemoryExceeded(_name(arguments), f"held more than {most} of memory and was ended")
    if process.returncode != 0:
        raise RunFailed(
            _name(arguments),
            f"ended with status {process.returncode}",
            f"; the end of {log}:\n{text[-_SHOWN:]}",
        )
    return Measured(seconds, used.ru_utime + used.ru_stime, watch.peak_bytes, text)


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the middle two."""
    return statistics.median(values)


def rounds_in_words(rounds: int) -> str:
    """How often each case was run, in words."""
    return "one run of each" if rounds == 1 else f"medians of {rounds} runs in turns"


def spread(values: Sequence[float]) -> str:
    """Least and greatest, to show how much runs differ."""
    return f"{min(values):.1f}-{max(values):.1f}"


class _Watch:
    """Samples the memory of a session of processes until it is stopped."""

    def __init__(self, session: int, most_bytes: int | None) -> None:
        self.peak_bytes = 0
        self.has_exceeded = False
        self._session, self._most_bytes = session, most_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def end_all(self) -> None:
        for process in self._processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _work(self) -> None:
        while not self._over.wait(_INTERVAL):
            held = sum(map(_resident, self._processes()))
            self.peak_bytes = max(self.peak_bytes, held, _most_resident(self._session))
            if self._most_bytes is not None and held > self._most_bytes:
                self.has_exceeded = True
                self.end_all()

    def _processes(self) -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if os.getsid(int(folder.name)) == self._session:
                        found.append(int(folder.name))
                except ProcessLookupError:
                    continue
        return found


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _most_resident(process: int) -> int:
    """The most memory that a process has held since it became this program.

    What the system reports for an ended child (`ru_maxrss`) includes the moment before that, when the
    child was a copy of its parent.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _name(arguments: Sequence[str]) -> str:
    return " ".join(arguments[1:4])
