"""`what-if`: from the recorded bills to bills under other terms, for the past and twelve months ahead.

The same SQL reads the amounts of both releases; they are subtracted here. List and net are by currency
only, because a bill can have coupons of two programs; amounts given are by program too.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

from dagster_project.answers.asking import Connection, Row, facts, month_to_come, rows
from dagster_project.answers.outlook import MONTHS
from dagster_project.quoting import literals
from dagster_project.releases.read import attached
from dagster_project.settings import add_months

AMOUNTS = ("list_amount", "discount_amount", "credit_amount", "net_amount")
_ZERO = Decimal("0.00")
_SIDES = ("recorded", "what_if")


def what_if(
    home: Path, recorded: str, asked: str, name: str, told: list[str], most: int = 10
) -> Row:
    """Return the bridge from recorded amounts to those under other terms.

    Args:
        home: The data home.
        recorded: The id of the recorded release.
        asked: The release of the question, of the same day, as `what-if/NAME`.
        name: Its name.
        told: What differs from the recorded terms, in words.
        most: How many of the workspaces with the largest changes to list, of each currency.

    Returns:
        `terms`; by currency `past`, `ahead` (twelve months) and `lapsing` credit, each amount as
        recorded, what if and their difference; `programs`; `workspaces` by change of net.
    """
    with attached(home, recorded, asked) as connection:
        connection.execute("use r1")
        answered = facts(connection)["release_id"]
        connection.execute("use r0")
        known = facts(connection)
        until = add_months(month_to_come(known["as_of_date"]), MONTHS).date()
        _sum_ahead(connection, until)
        past = _totals(connection, _PAST)
        ahead = _totals(connection, "expected")
        given = [_given(connection, side, until) for side in ("r0", "r1")]
        lapses = [_lapsing(connection, side) for side in ("r0", "r1")]
        moved = _moved(connection, most)
    currencies = sorted({*past, *ahead, *lapses[0], *lapses[1]})
    nothing = dict.fromkeys((f"{side}_{one}" for side in _SIDES for one in AMOUNTS), _ZERO)
    return {
        **known,
        "name": name,
        "what_if_release_id": answered,
        "terms": told,
        "currencies": [
            {
                "currency": currency,
                "past": _bridge(past.get(currency, nothing)),
                "ahead": _bridge(ahead.get(currency, nothing)),
                "lapsing": _change(*(part.get(currency, _ZERO) for part in lapses)),
            }
            for currency in currencies
        ],
        "programs": [
            {
                "program": program,
                "currency": currency,
                **{
                    one: _change(
                        *(part.get((program, currency), {}).get(one, _ZERO) for part in given)
                    )
                    for one in _GIVEN
                },
            }
            for program, currency in sorted({key for part in given for key in part})
        ],
        "workspaces": moved,
    }


def outlook_beside(home: Path, recorded: str, asked: str, currency: str) -> list[Row]:
    """Return the expected bills month by month, as recorded and as they would be.

    A workspace without an outlook in one release pays list price there, as in `what_if`.

    Args:
        home: The data home.
        recorded: The id of the recorded release.
        asked: The release of the question, as `what-if/NAME`.
        currency: The currency.

    Returns:
        By month: `month`, and each of `AMOUNTS` as `recorded_…`, `what_if_…` and `change_…`.
    """
    both = _beside(
        f"(from r0.marts.{_OUTLOOK} where currency = ?)",
        f"(from r1.marts.{_OUTLOOK} where currency = ?)",
        ("workspace_id", "outlook_month"),
    )
    sums = ", ".join(
        f"cast(sum({side}_{one}) as decimal(18, 2)) as {side}_{one}"
        for one in AMOUNTS
        for side in _SIDES
    )
    with attached(home, recorded, asked) as connection:
        (known,) = rows(connection, "select as_of_date from r0.release.release")
        until = add_months(month_to_come(known["as_of_date"]), MONTHS).date()
        found = rows(
            connection,
            f"select outlook_month as month, {sums} from ({both}) where outlook_month < ?"
            " group by outlook_month order by outlook_month",
            [currency, currency, until],
        )
    return [
        {
            **row,
            **{f"change_{one}": row[f"what_if_{one}"] - row[f"recorded_{one}"] for one in AMOUNTS},
        }
        for row in found
    ]


_OUTLOOK = "fct_bill_outlook_monthly"
_GIVEN = (*AMOUNTS, "expected_amount")
_Amounts = dict[tuple[str, str], Row]


def _beside(recorded: str, asked: str, keys: tuple[str, ...]) -> str:
    """Return SQL for rows of two relations side by side; a row that one of them lacks is at list price there.

    Which bills are expected does not depend on terms (R12), but the outlook leaves out workspaces for which
    nothing is in force or to come.
    """
    listed = "coalesce(one.list_amount, other.list_amount)"
    instead = {"list_amount": listed, "net_amount": listed}
    both = ", ".join(f"coalesce(one.{key}, other.{key}) as {key}" for key in keys)
    amounts = ", ".join(
        f"coalesce({table}.{one}, {instead.get(one, '0')}) as {side}_{one}"
        for side, table in zip(_SIDES, ("one", "other"), strict=True)
        for one in AMOUNTS
    )
    same = " and ".join(f"one.{key} = other.{key}" for key in keys)
    return f"select {both}, {amounts} from {recorded} as one full join {asked} as other on {same}"


def _past(release: str, side: str) -> str:
    """Return SQL for the amounts of one release by currency, month and plan, with zeros for the other side."""
    amounts = {one: one for one in AMOUNTS} | {
        "discount_amount": "percent_off_amount + amount_off_amount"
    }
    columns = ", ".join(
        f"{amount if one == side else '0'} as {one}_{name}"
        for one in _SIDES
        for name, amount in amounts.items()
    )
    return f"select currency, {columns} from {release}.marts.fct_charge_bridge_monthly"


_PAST = f"({_past('r0', 'recorded')} union all {_past('r1', 'what_if')})"


def _sum_ahead(connection: Connection, until: date) -> None:
    """Create the table `expected`: the expected amounts of each workspace and currency before a day."""
    sums = ", ".join(f"sum({side}_{one}) as {side}_{one}" for side in _SIDES for one in AMOUNTS)
    both = _beside(
        f"r0.marts.{_OUTLOOK}",
        f"r1.marts.{_OUTLOOK}",
        ("workspace_id", "currency", "outlook_month"),
    )
    connection.execute(
        f"create temp table expected as select workspace_id, currency, {sums} from ({both})"
        f" where outlook_month < {literals([until])} group by workspace_id, currency"
    )


def _totals(connection: Connection, source: str) -> dict[str, Row]:
    """Return the amounts of both releases by currency."""
    sums = ", ".join(
        f"cast(sum({side}_{one}) as decimal(18, 2)) as {side}_{one}"
        for side in _SIDES
        for one in AMOUNTS
    )
    found = rows(connection, f"select currency, {sums} from {source} group by currency")
    return {row["currency"]: row for row in found}


def _given(connection: Connection, side: str, until: object) -> _Amounts:
    """Return, by program and currency, the bills it gave something on, and what it will give before a day."""
    sums = ", ".join(f"cast(coalesce(sum({one}), 0) as decimal(18, 2)) as {one}" for one in _GIVEN)
    found = rows(
        connection,
        f"""
        with both_parts as (
            select program, currency, list_amount, discount_amount, credit_amount, net_amount
            from {side}.marts.fct_program_performance_monthly
            union all by name
            select program, currency, expected_amount
            from {side}.marts.fct_program_budget_monthly where budget_month < ?
        )
        select program, currency, {sums}
        from both_parts where currency is not null group by program, currency
        """,
        [until],
    )
    return {(row["program"], row["currency"]): row for row in found}


def _lapsing(connection: Connection, side: str) -> dict[str, Decimal]:
    """Return credit that has lapsed or will lapse, by currency: expired, forfeited, projected breakage."""
    found = rows(
        connection,
        "select currency, cast(sum(expired_amount + forfeited_amount"
        " + coalesce(projected_breakage_amount, 0)) as decimal(18, 2)) as amount"
        f" from {side}.marts.fct_credit_burndown_monthly group by currency",
    )
    return {row["currency"]: row["amount"] for row in found}


def _bridge(amounts: Row) -> Row:
    return {one: _change(*(amounts[f"{side}_{one}"] for side in _SIDES)) for one in AMOUNTS}


def _change(recorded: Decimal, asked: Decimal) -> Row:
    return {"recorded": recorded, "what_if": asked, "change": asked - recorded}


def _moved(connection: Connection, most: int) -> list[Row]:
    """Return the workspaces whose net changes most, past and expected together, of each currency."""
    return rows(
        connection,
        f"""
        with charges as (
            select workspace_id, currency, net_amount as change from r1.marts.fct_discounted_charges
            union all
            select workspace_id, currency, -net_amount from r0.marts.fct_discounted_charges
        ),
        past as (
            select workspace_id, currency, sum(change) as change
            from charges group by workspace_id, currency having sum(change) <> 0
        ),
        ahead as (
            select workspace_id, currency, what_if_net_amount - recorded_net_amount as change
            from expected where what_if_net_amount <> recorded_net_amount
        ),
        moved as (
            select
                coalesce(past.workspace_id, ahead.workspace_id) as workspace_id,
                coalesce(past.currency, ahead.currency) as currency,
                cast(coalesce(past.change, 0) as decimal(18, 2)) as past_net_change,
                cast(coalesce(ahead.change, 0) as decimal(18, 2)) as expected_net_change
            from past
            full join ahead
                on past.workspace_id = ahead.workspace_id and past.currency = ahead.currency
        )
        select moved.*, named.workspace_name
        from moved left join r1.marts.dim_workspaces as named using (workspace_id)
        qualify row_number() over (
            partition by currency
            order by abs(past_net_change + expected_net_change) desc, workspace_id
        ) <= {int(most)}
        order by currency, abs(past_net_change + expected_net_change) desc, workspace_id
        """,
    )
