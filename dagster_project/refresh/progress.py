"""The progress of a refresh, reported to a listener in this process; by default nobody listens.

The one hook between the steps and the command line belongs here. Log files and Dagster's own events do
not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Listener(Protocol):
    """A listener to the progress of a refresh."""

    def started(self, step: str) -> None:
        """Note that a step began."""

    def advanced(self, step: str, done: int, total: int, what: str) -> None:
        """Note that a step did `done` of `total` things, `what` last."""

    def finished(self, step: str, outcome: str) -> None:
        """Note that a step ended well; `outcome` says in a few words what it did."""


class _Nobody:
    def started(self, step: str) -> None: ...

    def advanced(self, step: str, done: int, total: int, what: str) -> None: ...

    def finished(self, step: str, outcome: str) -> None: ...


_listeners: list[Listener] = [_Nobody()]


def listener() -> Listener:
    """Return the current listener."""
    return _listeners[-1]


@contextmanager
def listening(new: Listener) -> Iterator[None]:
    """Listen while the block runs."""
    _listeners.append(new)
    try:
        yield
    finally:
        _listeners.remove(new)
