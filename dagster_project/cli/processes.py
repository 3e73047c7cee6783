"""The processes of `coupon-ledger dev`: started, watched and ended together; none is left behind.

This is a process of its own, `python -m dagster_project.cli.processes NAMES PORT`, so that code that
only sets up Dagster's storage does not stay in memory for as long as the service runs.

Dagster's own `dagster dev` passes a request to stop on as SIGINT, which a process started in the
background or by nohup ignores. Here every child gets SIGTERM, in a session of its own; no signal is
ignored except SIGHUP, if it was ignored before.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

DEFINITIONS = "dagster_project.definitions"
PATIENCE_SECONDS = 12.0
"""How long web server and daemon may take to end before they are killed."""
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS = 0.1
_LAST_LINES_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_OF_NO_CONCERN = re.compile(
    # On its first start the daemon warns that it has not looked at any run yet.
    rb"WARNING - No cursor for event type \S+, ignoring older events"
)


def command_of(name: str, port: int) -> list[str]:
    """Return the command that starts a process of the service, as program and arguments.

    Args:
        name: `web` or `daemon`.
        port: The port of the web server.
    """
    started = {
        "web": ["dagster_project.web.dagster_ui", str(port)],
        "daemon": ["dagster._daemon", "run", "-m", DEFINITIONS],
    }[name]
    return [sys.executable, "-m", *started]


def keep_running(commands: Mapping[str, Sequence[str]]) -> int:
    """Start processes and wait until a signal, or the end of one of them, ends all.

    SIGTERM, SIGINT and SIGHUP end them, unless the signal was ignored when this process was started. A
    run that is under way is killed with its process; Dagster starts it again with the next daemon.

    Args:
        commands: Program and arguments of each process, by name.

    Returns:
        The exit code: 0 after a signal, 1 if a process ended by itself.
    """
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    stopping = {number for number in _STOPPING if signal.getsignal(number) != signal.SIG_IGN}
    # A signal with a handler is not ignored in child processes; SIGHUP stays ignored (nohup).
    for number in {*stopping, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}:
        signal.signal(number, _noted)
    processes: dict[str, subprocess.Popen[bytes]] = {}
    passing: list[threading.Thread] = []
    try:
        for name, command in commands.items():
            processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_end_with_parent(),
            )
        for process in processes.values():  # only now: a process that forks must have no threads
            passing.append(_pass_on(process.stdout, sys.stdout))
            passing.append(_pass_on(process.stderr, sys.stderr))
        while True:
            select.select([reading], [], [], 5)
            with contextlib.suppress(BlockingIOError):
                if stopping.intersection(os.read(reading, 4096)):
                    return 0
            for name, process in processes.items():
                if process.poll() is not None:
                    print(
                        f"{name} ended by itself, exit code {process.returncode}: see its messages"
                        " above, then start again.",
                        file=sys.stderr,
                    )
                    return 1
    finally:
        _end(processes.values())
        for thread in passing:
            thread.join(_LAST_LINES_SECONDS)


def shown(line: bytes, *, is_coloured: bool) -> bytes:
    """Return what to show of a line from the web server or daemon; empty if it is of no use.

    Args:
        line: The line, with its end.
        is_coloured: Whether colours are shown; in a file they would be characters in the text.
    """
    plain = _COLOUR.sub(b"", line)
    if _OF_NO_CONCERN.search(plain):
        return b""
    return line if is_coloured else plain


def _pass_on(source: IO[bytes] | None, target: Any) -> threading.Thread:
    """Write every line of a process to an output of this one, in a thread of its own."""
    assert source is not None
    is_coloured = target.isatty() and not os.environ.get("NO_COLOR")

    def work() -> None:
        for line in source:
            with contextlib.suppress(OSError, ValueError):  # nobody reads the output any more
                target.buffer.write(shown(line, is_coloured=is_coloured))
                target.buffer.flush()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the arrival of the signal is read from the pipe."""


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask each process to end, then kill it and its children if any is left."""
    started = list(processes)
    for process in started:
        process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    # A code server ends some moments after the process that started it, unless a run is under way.
    while any(map(_has_members, started)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_members(process: subprocess.Popen[bytes]) -> bool:
    """Return whether any process is in the group that a process leads."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end_with_parent() -> Callable[[], Any] | None:
    """Return what a child does first: ask Linux for SIGTERM if this process is killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def main(arguments: Sequence[str]) -> int:
    """Run the processes named in the arguments.

    Args:
        arguments: The names, separated by commas, and the port of the web server.
    """
    names, port = arguments
    return keep_running({name: command_of(name, int(port)) for name in names.split(",")})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
