"""`top`: the largest discounts, rises and balances as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers.values import amount, day, month
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import MonthOption, answer, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster_project.answers.asking import Row


def top(
    most: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="How many of each currency.")
    ] = 5,
    month: MonthOption = None,
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show the largest discounts, rises and balances."""
    from dagster_project.answers import top as largest

    with opened(home, release) as connection:
        answer(largest.top(connection, most, month), tell, json)


def tell(data: Row) -> str:
    """Lay out the three lists as text."""
    when = f"in {month(data['month'])}" if data["month"] else "so far"
    lines = layout.heading(f"The largest {data['most']} of each currency", data)
    lines += ["", f"Discounts and credit given, {when}"]
    lines += _table(
        data["discounts"],
        ["workspace", "~name", ">bills", ">list", ">discount", ">credit", ">total", ""],
        lambda row, code: [
            f"{row['bills']:,}",
            amount(row["list_amount"], code),
            amount(row["discount_amount"], code),
            amount(row["credit_amount"], code),
            amount(row["amount"], code),
            code,
        ],
    )
    lines += ["", "Expected rises within 12 months, per month"]
    lines += _table(
        data["rises"],
        ["workspace", "~name", "coupon", "runs out", "by", ">rise", ""],
        lambda row, code: [
            row["coupon_id"],
            day(row["runs_out_at"]),
            row["runs_out_by"],
            amount(row["amount"], code),
            code,
        ],
    )
    lines += ["", "Credit left"]
    lines += _table(
        data["balances"],
        ["workspace", "~name", ">grants", ">left", ">will lapse", ""],
        lambda row, code: [
            f"{row['grants']:,}",
            amount(row["amount"], code),
            amount(row["projected_breakage_amount"], code),
            code,
        ],
    )
    return "\n".join(lines)


def _table(found: list[Row], heads: list[str], cells: Callable[[Row, str], list[str]]) -> list[str]:
    if not found:
        return ["  none"]
    return layout.table(
        heads,
        [
            [row["workspace_id"], row["workspace_name"] or "", *cells(row, row["currency"] or "")]
            for row in found
        ],
    )
