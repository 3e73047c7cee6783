"""What the commands share: options, and how what is wrong becomes a message and an exit code.

What only one command takes stands with it. Nothing here costs time before it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from dagster_project.settings import Settings

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The data home. [default: $COUPON_LEDGER_HOME, or data/home]",
    ),
]
ReleaseOption = Annotated[
    str | None,
    typer.Option("--release", metavar="ID", help="A kept release instead of current."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")]

_OF_A_HOME = (
    *("releases", "archive", "build", "logs", "alerts", "dagster"),
    *("closes.jsonl", "accepted_findings.csv"),
)
"""What tells a data home from any other folder."""


def settings_from(home: Path | None, landing: Path | None = None, **others: object) -> Settings:
    """The settings, of which a command's options come first.

    Args:
        home: The data home, if it was given.
        landing: The landing folder, if it was given.
        others: Further settings by name, if they were given.

    Raises:
        Exit: A setting makes no sense; each is told by its name (2).
    """
    from pydantic import ValidationError

    from dagster_project.settings import Settings

    given: dict[str, Any] = {"home": home, "landing": landing, **others}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            told = problem["msg"].removeprefix("Value error, ")
            if problem["loc"]:
                name = str(problem["loc"][0])
                option = given.get(name) is not None
                given_as = name.replace("query_", "max-")
                told = f"{f'--{given_as}' if option else f'COUPON_LEDGER_{name.upper()}'}: {told}"
            print(told, file=sys.stderr)
        raise typer.Exit(2) from None


def settings_of_home(home: Path | None) -> Settings:
    """The settings for a command that needs a data home to be there, and makes none.

    An empty folder counts as one: it may have been made for the first run.

    Args:
        home: The data home, if it was given.

    Raises:
        Exit: A setting makes no sense or there is no data home there (2), or it cannot be read (1).
    """
    settings = settings_from(home)
    folder = settings.home
    with explained():
        is_there = folder.is_dir() and (
            any((folder / name).exists() for name in _OF_A_HOME) or not any(folder.iterdir())
        )
    if not is_there:
        wrong(
            f"There is no data home {folder}: name another one with --home, or make it with"
            f" `coupon-ledger run --home {folder} --landing DIR`."
        )
    return settings


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error about releases into its message and an exit code.

    Raises:
        Exit: There is no such release (2), or it cannot be done (1).
    """
    from dagster_project.releases.errors import NoRelease, ReleaseError

    try:
        yield
    except ReleaseError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, NoRelease) else 1) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # a reader that closes is no error
        print(f"{error.filename or 'The data home'}: {error.strerror}.", file=sys.stderr)
        raise typer.Exit(1) from None


class OutputFailed(Exception):
    """What was printed cannot be written; the message says why."""


class Output:
    """Standard output, of which an error cannot be taken for one of a file.

    That a reader has closed it is told as before, by BrokenPipeError.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            OutputFailed: The stream does not take it.
        """
        with _told_apart():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OutputFailed: The stream does not take it.
        """
        with _told_apart():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"The output cannot be written: {error.strerror}.") from error


def wrong(message: str) -> NoReturn:
    """End because what was asked for does not exist or make sense.

    Raises:
        Exit: Always (2).
    """
    print(message, file=sys.stderr)
    raise typer.Exit(2)
