"""`releases`, `verify`, `diff`, `restore` and `prune`: the retained releases as text, and which is current."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagster_project.answers.values import amount, clean, count, signed
from dagster_project.cli import layout
from dagster_project.cli.options import (
    HomeOption,
    JsonOption,
    complain,
    explained,
    settings_of_home,
)
from dagster_project.cli.reading import answer

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_MOST_EVENTS = 5


def releases(home: HomeOption = None, json: JsonOption = False) -> None:
    """List the releases retained, with what changed in their totals."""
    from dagster_project.answers import releases as retained
    from dagster_project.releases import current_release

    settings = settings_of_home(home)
    with explained():
        data = retained.releases(settings.home)
    if not data["releases"] and not json:
        print(f"No release in {settings.home} yet: `coupon-ledger run` makes one.")
        return
    answer(data, tell, json)
    current = next((one for one in data["releases"] if one["is_current"]), None)
    if current is not None and current["problem"]:
        print(
            f"The current release, {current['release_id']}, is damaged: `coupon-ledger verify` shows"
            " how, `coupon-ledger restore ID` makes another one current.",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    with explained():
        current_release(settings.home)  # raises if none is served, and says why


def restore(
    release_id: Annotated[str, typer.Argument(metavar="ID", help="The release to make current.")],
    home: HomeOption = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Even if closed months differ in it and it does not list the differences.",
        ),
    ] = False,
) -> None:
    """Make an earlier release the current one again; recorded."""
    import getpass

    from dagster_project.releases import restore as restore_release
    from dagster_project.releases import served_release

    settings = settings_of_home(home)
    with explained():
        before = served_release(settings.home)
        restored = restore_release(
            settings.home, release_id, datetime.now(UTC), getpass.getuser(), is_forced=anyway
        )
    if restored == before:
        print(f"Release {restored} was already current: {settings.current}")
        return
    instead = f" instead of {before}" if before else ""
    print(f"Release {restored} is current{instead}:\n  {settings.current}")
    print("The next run that succeeds makes its own release current again.")


def verify(
    release_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="A release. [default: current]")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Check that a release is what was published."""
    from dagster_project.answers import releases as retained

    settings = settings_of_home(home)
    with explained():
        found = retained.verify(settings.home, release_id)
    if json or found["is_sound"]:
        answer(found, tell_sound, json)
    else:
        complain(f"Release {found['release_id']} is NOT sound:")
        for problem in found["problems"]:
            complain(f"  {problem}")
        print("Make another release current: coupon-ledger restore ID", file=sys.stderr)
    if not found["is_sound"]:
        raise typer.Exit(1)


def prune(
    keep: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many of the newest to retain.")
    ],
    home: HomeOption = None,
) -> None:
    """Remove old releases, never the current one or one in use."""
    from dagster_project.releases import prune as prune_releases

    settings = settings_of_home(home)
    with explained():
        pruned = prune_releases(settings.home, keep, datetime.now(UTC))
    for release_id in pruned.removed:
        print(f"removed   {release_id}")
    for release_id, reason in pruned.spared.items():
        print(f"retained  {release_id}  ({reason})")
    if not pruned.removed and not pruned.spared:
        print("There is nothing to remove.")


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="The release to compare from.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The release to compare with.")],
    table: Annotated[
        str | None, typer.Option(metavar="T", help="Only this table, down to its cells.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many cells to list.")] = 50,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Compare two releases: rows by key, totals, cells."""
    from dagster_project.answers import releases as retained

    settings = settings_of_home(home)
    with explained():
        data = retained.diff(settings.home, before, after, table, limit)
    answer(data, tell_differences, json)


def tell(data: Row) -> str:
    """Lay out the releases as text, newest first, with the last events."""
    lines: list[str] = []
    for release in data["releases"]:
        lines += [*_release(release), ""]
    lines.append("* is current. Last events:")
    lines += [f"  {_event(event)}" for event in data["events"][-_MOST_EVENTS:]]
    if data["what_ifs"]:
        lines += ["", "Under other terms (`coupon-ledger what-if`), never current:"]
    for one in data["what_ifs"]:
        lines += _question(one)
    if data["current_release_id"] is None:
        lines.append("No release is current: `coupon-ledger restore ID` makes one current.")
    return "\n".join(lines)


def _question(question: Row) -> list[str]:
    """Return what was asked about other terms, and of which release."""
    terms = "; ".join(question["terms"])
    if not question["is_answered"]:
        return layout.wrap(
            f"{question['release_id']}  not answered: {terms or 'it was stopped'}.", hanging="    "
        )
    of = question["recorded_release_id"]
    about = f"  of {of}, as of {question['as_of_date']}: {terms}." if of else ""
    return layout.wrap(f"{question['release_id']}{about}", hanging="    ")


def _release(release: Row) -> list[str]:
    mark = "*" if release["is_current"] else " "
    if release["problem"]:
        return layout.wrap(
            f"{mark} {release['release_id']}  DAMAGED: {release['problem']}", hanging="    "
        )
    change = release["rows_change"]
    rows = count(release["rows"], "row") + ("" if change is None else f" ({change:+,})")
    lines = [f"{mark} {release['release_id']}  as of {release['as_of_date']}  {rows}"]
    if release["closed_months"]:
        lines.append(f"    retained for ever, closed {', '.join(release['closed_months'])}")
    changes = {row["currency"]: row for row in release["changes_by_currency"] or []}
    totals = {row["currency"]: row for row in release["totals_by_currency"]}
    body = []
    for currency in sorted({*totals, *changes}):
        body.append([currency, *_amounts(totals.get(currency, {}), currency)])
        moved = changes.get(currency, {})
        if any(moved.get(name) for name in _TOTALS):
            body.append(["change", *_amounts(moved, currency, is_change=True)])
    heads = ["", *(f">{name.removesuffix('_amount')}" for name in _TOTALS)]
    return lines + (layout.table(heads, body, "    ") if body else [])


_TOTALS = ("list_amount", "discount_amount", "credit_amount", "net_amount")


def _amounts(row: Mapping[str, Any], currency: str, is_change: bool = False) -> list[str]:
    if is_change:
        return [signed(row[name], currency) if row[name] else "" for name in _TOTALS]
    return [amount(row[name], currency) if row else "–" for name in _TOTALS]


def _event(event: Mapping[str, Any]) -> str:
    at = f"{str(event['at'])[:16].replace('T', ' ')} UTC"
    by = f" by {clean(event['by'])}" if event.get("by") else ""
    month = f"{event['month']} with " if "month" in event else ""
    return f"{at}  {event['event']} {month}{event['release_id']}{by}"


def tell_sound(data: Row) -> str:
    """Lay out a sound release in one sentence."""
    return (
        f"Release {data['release_id']} is sound: {count(data['tables'], 'table')} as"
        f" fingerprinted, {count(data['checks'], 'data test')} recorded."
    )


def tell_differences(data: Row) -> str:
    """Lay out what differs between two releases as text, table by table."""
    both = (data["before"], data["after"])
    lines = [
        f"{name}  {one['release_id']}  as of {one['as_of_date']}"
        for name, one in zip("AB", both, strict=True)
    ]
    if both[0]["as_of_date"] != both[1]["as_of_date"]:
        lines.append("The as-of dates differ: events between them are part of the difference.")
    lines += ["", "Rows"]
    lines += layout.table(
        ["table", ">in A", ">in B", ">added", ">gone", ">changed"],
        [
            [
                one["table_name"],
                *(f"{one[name]:,}" for name in ("rows_before", "rows_after")),
                *(f"{one[name]:,}" for name in ("added", "gone", "changed")),
            ]
            for one in data["tables"]
        ],
    )
    for one in data["tables"]:
        if one["columns_added"]:
            lines += layout.wrap(
                f"{one['table_name']}: new columns {', '.join(one['columns_added'])}", "  ", "    "
            )
        if one["columns_gone"]:
            lines += layout.wrap(
                f"{one['table_name']}: columns gone {', '.join(one['columns_gone'])}", "  ", "    "
            )
    amounts: list[list[str]] = []
    for one in data["tables"]:
        if one["amounts"]:
            amounts.append([one["table_name"], "", "", "", ""])
        for each in one["amounts"]:
            code = each["currency"]
            amounts.append(
                [
                    f"  {each['column']}",
                    code or "",
                    amount(each["before"], code),
                    amount(each["after"], code),
                    signed(each["delta"], code),
                ]
            )
    if amounts:
        lines += ["", "Totals that differ"]
        lines += layout.table(["table and column", "", ">in A", ">in B", ">B - A"], amounts)
    if data["is_equal"]:
        lines += ["", "The marts are equal."]
    return "\n".join(lines + _cells(data))


def _cells(data: Row) -> list[str]:
    """Lay out the differing cells, one per line."""
    if not data.get("cells"):
        return []
    lines = ["", "Cells, A → B"]
    for cell in data["cells"]:
        key = ", ".join("(none)" if part is None else part for part in cell["key"])
        if cell["column"] in ("+row", "-row"):
            text = f"{key}: {'only in B' if cell['column'][0] == '+' else 'only in A'}"
        else:
            text = f"{key}: {cell['column']} {cell['before']} → {cell['after']}"
        lines.append(clean(text))
    if data["has_more_cells"]:
        shown = len(data["cells"])
        lines.append(f"and more: these are the first {shown}; --limit N shows N of them")
    return lines
