"""What the reading commands share: the open release, answers as text or JSON, unknown names.

Everything between an answer (`answers/`) and standard output that all of them need belongs here. The
text of a single command is in the module of its name.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dagster_project.answers.values import clean, days_in
from dagster_project.cli import layout
from dagster_project.cli.options import complain, explained, settings_of_home, wrong

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection, NotThere, Other
    from dagster_project.answers.query import LimitReached
    from dagster_project.releases.questions import Question

_question: ContextVar[Question | None] = ContextVar("question", default=None)
"""The what-if question that the open release answers, if any."""

READING: Final = (
    "workspace",
    "explain",
    "prove",
    "burndown",
    "variance",
    "findings",
    "expiring",
    "outlook",
    "programs",
    "bridge",
    "top",
    "cohorts",
    "export",
    "query",
    "deliveries",
    "rejected",
    "releases",
    "verify",
    "diff",
    "closes",
)
"""The commands that answer from a release and change nothing; each takes `--json`."""

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="WS|PROGRAM",
        help="A workspace or a program; workspace:ID where an id is a program's name too."
        " [default: all]",
    ),
]
ProgramOption = Annotated[
    str | None, typer.Option("--program", metavar="P", help="Only this program.")
]
MonthOption = Annotated[
    str | None, typer.Option("--month", metavar="YYYY-MM", help="Only this month.")
]


@contextmanager
def opened(
    home: Path | None, release: str | None, configuration: Mapping[str, Any] | None = None
) -> Iterator[Connection]:
    """Open the release to read; an error becomes its message and an exit code.

    Args:
        home: The data home.
        release: The release; the current one by default.
        configuration: DuckDB settings, in addition to those that lock it down.

    Raises:
        Exit: The release cannot be read (1), or something asked for does not exist (2).
    """
    from dagster_project.answers.asking import NotThere, zone_of
    from dagster_project.releases.files import is_what_if
    from dagster_project.releases.questions import asked_in
    from dagster_project.releases.read import reading

    settings = settings_of_home(home)
    named = release if release is not None and is_what_if(release) else ""
    asked_about = asked_in(settings.home / named)
    token = _question.set(asked_about)
    try:
        with (
            explained(),
            reading(settings.home, release, configuration) as connection,
            days_in(zone_of(connection)),
        ):
            yield connection
    except NotThere as error:
        wrong(sentence(error))
    finally:
        _question.reset(token)


@contextmanager
def asked() -> Iterator[None]:
    """Turn an error of a question in SQL into its message and an exit code.

    Raises:
        Exit: The question was stopped by a limit (1), or cannot be run (2).
    """
    from dagster_project.answers.query import LimitReached, WrongQuestion

    try:
        yield
    except LimitReached as error:
        complain(_limit(error))
        raise typer.Exit(1) from None
    except WrongQuestion as error:
        lines = [error.message]
        if error.near:
            lines.append(f"Did you mean {_either(error.near)}?")
        elif error.known:
            lines.append(f"Use one of: {', '.join(error.known)}.")
        plain = [clean(line) for part in lines for line in part.splitlines() if line.strip()]
        wrong("\n".join(plain), is_one_line=False)


def _limit(error: LimitReached) -> str:
    limits = error.limits
    if error.kind == "time":
        return (
            f"The question was stopped after {limits.seconds:g}"
            f" second{'' if limits.seconds == 1 else 's'}. Ask for less, or allow more"
            " with --max-seconds N (COUPON_LEDGER_QUERY_SECONDS; 0: no limit)."
        )
    allowed = limits.memory or "what DuckDB may use"
    return (
        f"The question was stopped: it needs more memory than {allowed}. Ask for less, or allow more"
        " with --max-memory SIZE (COUPON_LEDGER_QUERY_MEMORY)."
    )


def answer(data: Mapping[str, Any], tell: Callable[[dict[str, Any]], str], json: bool) -> None:
    """Print an answer as JSON, or as the text that `tell` makes of it.

    An answer from a what-if release begins with the question that was asked.
    """
    question = _question.get()
    if json:
        from dagster_project.answers.as_json import as_json

        if question is not None:
            what_if = {"release_id": question.release_id, "terms": list(question.terms)}
            data = {**data, "what_if": what_if | {"terms_hold_from": question.terms_hold_from}}
        layout.show(as_json(data))
    elif question is None:
        layout.show(tell(dict(data)))
    else:
        asked_about = layout.wrap(question.told, hanging="  ")
        layout.show("\n".join([*asked_about, "", tell(dict(data))]))


def question_asked() -> Question | None:
    """Return the what-if question that the open release answers, if any."""
    return _question.get()


def sentence(missing: NotThere) -> str:
    """Return what does not exist, and what to ask for instead."""
    name = repr(missing.wanted)  # escapes what is not printable
    hints = [_as_other(other) for other in missing.others]
    if missing.named:
        hints.append(f"That is the name of {_either(missing.named)}.")
    if missing.kind == "invoice":
        return _of_invoice(missing, name, hints)
    if missing.kind == "record":
        return _of_record(missing, name, hints)
    if missing.kind == "month":
        return _of_month(missing, name)
    if missing.near:
        hints.append(f"Did you mean {_either(missing.near)}?")
    known = ", ".join(map(clean, missing.known))
    if missing.kind == "workspace":
        list_them = 'List them: coupon-ledger query "from marts.dim_workspaces"'
        return f"There is no workspace {name} in this release. {' '.join(hints) or list_them}"
    if missing.kind == "target":
        hint = " ".join(hints) or f"The programs are {known}."
        return f"{name} is neither a workspace nor a program. {hint}"
    if missing.kind == "delivery":
        hint = " ".join(hints) or "List them: coupon-ledger deliveries"
        return f"There is no delivery {name} in this release. {hint}"
    if hints:
        return f"There is no {missing.kind} {name}. {' '.join(hints)}"
    return f"There is no {missing.kind} {name}" + (f"; use one of: {known}." if known else ".")


def _of_invoice(missing: NotThere, name: str, hints: Sequence[str]) -> str:
    if missing.rejected is not None:
        return " ".join([_as_rejected(missing.rejected, name), *hints])
    near = f"Similar ids: {', '.join(map(clean, missing.near))}." if missing.near else ""
    text = f"Invoice {name} was never delivered: no row of a loaded file has that id."
    return " ".join(filter(None, [text, *hints, near]))


def _of_record(missing: NotThere, name: str, hints: Sequence[str]) -> str:
    if missing.rejected is not None:
        return " ".join([_as_rejected(missing.rejected, name), *hints])
    text = (
        f"{name} is neither an invoice on record nor a redemption made by {missing.as_of_date}, the"
        " as-of date."
    )
    near = f"Similar ids: {', '.join(map(clean, missing.near))}." if missing.near else ""
    return " ".join(filter(None, [text, *hints, near]))


def _as_rejected(row: Mapping[str, Any], name: str) -> str:
    kind = str(row["feed"]).removesuffix("s").capitalize()
    return (
        f"{kind} {name} was rejected ({clean(row['file_name'])}, row {row['row_number']}):"
        f" {clean(row['reasons'])}."
    )


def _of_month(missing: NotThere, name: str) -> str:
    if not missing.known:
        return f"There is no month {name} in this release: it has no such amounts in any month."
    text = (
        f"There is no month {name} in this release; give one as YYYY-MM, from {missing.known[0]} to"
        f" {missing.known[-1]}."
    )
    return text + (f" Did you mean {_either(missing.near)}?" if missing.near else "")


def _as_other(other: Other) -> str:
    noun = other.kind.replace("_", " ")
    if other.kind == "invoice":
        command = f"explain {as_argument(other.ids[0])}"
    elif other.kind == "credit_note":
        command = f"explain {as_argument(other.owner_id)}"
    else:
        command = f"workspace {as_argument(other.owner_id)}"
    if not other.is_exact:
        ids = ", ".join(map(clean, other.ids))
        return f"{noun.capitalize()} ids that begin with it: {ids}; coupon-ledger {command}"
    if other.kind == "workspace":
        return f"It is a workspace: coupon-ledger {command}"
    article = "an" if other.kind == "invoice" else "a"
    return f"It is {article} {noun} of {clean(other.owner_id)}: coupon-ledger {command}"


def as_argument(name: str) -> str:
    """Return an id as a shell argument: quoted if needed, and after `--` if it looks like an option."""
    quoted = shlex.quote(clean(name))
    return f"-- {quoted}" if name.startswith("-") else quoted


def _either(names: Sequence[str]) -> str:
    shown = [clean(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
