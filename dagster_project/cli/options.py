"""What the commands share: options, and how an error becomes a message and an exit code.

An option of a single command is defined with the command. Slow imports are inside the functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from dagster_project.answers.values import clean

if TYPE_CHECKING:
    from dagster_project.settings import Settings

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="The data home. [default: $COUPON_LEDGER_HOME; `coupon-ledger config` shows it]",
    ),
]
ReleaseOption = Annotated[
    str | None,
    typer.Option("--release", metavar="ID", help="A retained release, or what-if/NAME."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

_OF_A_HOME = (
    *("releases", "archive", "build", "logs", "alerts", "dagster", "pulls"),
    *("closes.jsonl", "accepted_findings.csv"),
)
"""What distinguishes a data home from any other folder."""


def settings_from(home: Path | None, landing: Path | None = None, **others: object) -> Settings:
    """Return the settings; a command's options take precedence.

    Args:
        home: The data home, if it was given.
        landing: The landing folder, if it was given.
        others: Further settings by name, if they were given.

    Raises:
        Exit: A setting is invalid; each is named (2).
    """
    from pydantic import ValidationError

    from dagster_project.settings import Settings

    given: dict[str, Any] = {"home": home, "landing": landing, **others}
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ")
            if problem["loc"]:
                name = str(problem["loc"][0])
                option = given.get(name) is not None
                given_as = name.replace("query_", "max-")
                message = (
                    f"{f'--{given_as}' if option else f'COUPON_LEDGER_{name.upper()}'}: {message}"
                )
            complain(message)
        raise typer.Exit(2) from None


def settings_of_home(home: Path | None) -> Settings:
    """Return the settings for a command that needs an existing data home and creates none.

    An empty folder counts as one: it may have been made for the first run.

    Args:
        home: The data home, if it was given.

    Raises:
        Exit: A setting is invalid or there is no data home (2), or the data home cannot be read or
            was written by a newer version (1).
    """
    settings = settings_from(home)
    folder = settings.home
    from dagster_project.releases.data_home import check_layout

    with explained():
        check_layout(folder)
        is_there = folder.is_dir() and (
            any((folder / name).exists() for name in _OF_A_HOME) or not any(folder.iterdir())
        )
    if not is_there:
        wrong(
            f"There is no data home {folder}. Name another one with --home, or make it with"
            f" `coupon-ledger run --home {folder} --landing DIR`."
        )
    return settings


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error about releases into its message and an exit code.

    Raises:
        Exit: There is no such release (2), or the operation failed (1).
    """
    from dagster_project.releases.errors import NoRelease, ReleaseError

    try:
        yield
    except ReleaseError as error:
        complain(str(error))
        raise typer.Exit(2 if isinstance(error, NoRelease) else 1) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # output closed by its reader is not an error
        complain(f"{error.filename or 'The data home'}: {error.strerror}.")
        raise typer.Exit(1) from None


class OutputFailed(Exception):
    """The output cannot be written; the message says why."""


class Output:
    """Standard output or error; its errors cannot be mistaken for those of a file.

    A stream that its reader has closed still raises BrokenPipeError.
    A terminal obeys some characters and reorders text at others. Names from deliveries may hold such
    characters, and so may a library's message that quotes such a name. Each such character is
    therefore written escaped, except line ends.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, with every character that is not printable escaped.

        Raises:
            OutputFailed: The stream does not take it.
        """
        return self.write_exactly(text if is_harmless(text) else harmless(text))

    def write_exactly(self, text: str) -> int:
        """Write a text unchanged.

        Raises:
            OutputFailed: The stream does not take it.
        """
        with _as_output_failure():
            return self.stream.write(text)

    def flush(self) -> None:
        """Write buffered text.

        Raises:
            OutputFailed: The stream does not take it.
        """
        with _as_output_failure():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Pass everything else to the stream."""
        return getattr(self.stream, name)


def is_harmless(text: str) -> bool:
    """Return whether a text has only printable characters and line ends."""
    return text.isprintable() or text.replace("\n", "").isprintable()


def harmless(text: str) -> str:
    """Escape every character of a text that is neither printable nor a line end."""
    return "\n".join(map(clean, text.split("\n")))


def print_data(text: str) -> None:
    """Print text for a program, such as CSV, unchanged; on a terminal, like any other text."""
    if isinstance(sys.stdout, Output) and not sys.stdout.isatty():
        sys.stdout.write_exactly(text)
    else:
        sys.stdout.write(text)


@contextmanager
def _as_output_failure() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"The output cannot be written: {error.strerror}.") from error


def wrong(message: str, *, is_one_line: bool = True) -> NoReturn:
    """Exit because the request names something that does not exist or makes no sense.

    Args:
        message: What is wrong, and what to do.
        is_one_line: Whether a line end in it can only come from the user's input.

    Raises:
        Exit: Always (2).
    """
    complain(clean(message) if is_one_line else message)
    raise typer.Exit(2)


def complain(message: str) -> None:
    """Print what went wrong on standard error: in red on a terminal, in plain lines elsewhere.

    Args:
        message: One line or several; no text in it is read as markup.
    """
    print_styled(message, "red", sys.stderr)


def print_styled(text: str, style: str, output: TextIO | Output | None) -> None:
    """Print text in a style on a terminal, unless `NO_COLOR` is set; in plain lines elsewhere.

    Args:
        text: One line or several; no text in it is read as markup.
        style: The style, as rich names it; empty for none.
        output: Standard output or error.
    """
    if output is None or not output.isatty():
        print(text, file=output)
        return
    from rich.console import Console
    from rich.text import Text

    # The terminal wraps the lines, so they are copied whole.
    console = Console(file=stream_of(output), highlight=False)
    console.print(Text(harmless(text), style=style), soft_wrap=True)


def stream_of(output: TextIO | Output) -> TextIO:
    """Return the stream itself for rich, which sends control sequences to a terminal."""
    return output.stream if isinstance(output, Output) else output
