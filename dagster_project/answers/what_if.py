"""`what-if`: from the recorded bills to bills under other terms, for the past and twelve months ahead.

The same SQL reads the amounts of both releases; they are subtracted here. List and net are by currency,
for a bill can have coupons of two programs; amounts given are by program too.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from dagster_project.answers.asking import Connection, Row, add_months, facts, month_to_come, rows
from dagster_project.answers.outlook import MONTHS
from dagster_project.releases.read import attached

AMOUNTS = ("list_amount", "discount_amount", "credit_amount", "net_amount")
_ZERO = Decimal("0.00")
_SUMS = ", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)


def what_if(
    recorded: Connection, asked: Connection, name: str, told: list[str], most: int = 10
) -> Row:
    """Return the bridge from recorded amounts to those under other terms.

    Args:
        recorded: The recorded release.
        asked: The release of the question, of the same day.
        name: Its name.
        told: What differs from the recorded terms, in words.
        most: How many of the workspaces with the largest changes to list, of each currency.
    """
    past = (_past(recorded), _past(asked))
    ahead = _both_ahead(recorded, asked)
    given = (_given(recorded), _given(asked))
    lapses = (_lapsing(recorded), _lapsing(asked))
    currencies = sorted(
        {key[1] for part in (*past, *ahead) for key in part}
        | {key for part in lapses for key in part}
    )
    return {
        **facts(recorded),
        "name": name,
        "what_if_release_id": facts(asked)["release_id"],
        "terms": told,
        "currencies": [
            {
                "currency": currency,
                "past": _bridge(*(_summed(part, currency) for part in past)),
                "ahead": _bridge(*(_summed(part, currency) for part in ahead)),
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
        "workspaces": _moved(asked, past, ahead, most),
    }


def outlook_beside(home: Path, recorded: str, asked: str, currency: str) -> list[Row]:
    """Return the bills to expect month by month, as recorded and as they would be.

    A workspace that one release expects nothing of pays list in it, as in `what_if`.

    Args:
        home: The data home.
        recorded: The id of the recorded release.
        asked: The release of the question, as `what-if/NAME`.
        currency: The only one.

    Returns:
        By month: `month`, and each of `AMOUNTS` as `recorded_…`, `what_if_…` and `change_…`.
    """
    listed = "coalesce(recorded.list_amount, asked.list_amount)"
    nothing = {"list_amount": listed, "net_amount": listed}
    sums = ", ".join(
        f"cast(sum(coalesce({side}.{one}, {nothing.get(one, '0')})) as decimal(18, 2))"
        f" as {name}_{one}"
        for one in AMOUNTS
        for side, name in (("recorded", "recorded"), ("asked", "what_if"))
    )
    with attached(home, recorded, asked) as connection:
        (known,) = rows(connection, "select as_of_date from r0.release.release")
        until = add_months(month_to_come(known["as_of_date"]), MONTHS).date()
        found = rows(
            connection,
            f"""
            select coalesce(recorded.outlook_month, asked.outlook_month) as month, {sums}
            from (select * from r0.marts.{_OUTLOOK} where currency = ?) as recorded
            full join (select * from r1.marts.{_OUTLOOK} where currency = ?) as asked
                on recorded.workspace_id = asked.workspace_id
                and recorded.outlook_month = asked.outlook_month
            where coalesce(recorded.outlook_month, asked.outlook_month) < ?
            group by all order by all
            """,
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


def _past(connection: Connection) -> _Amounts:
    found = rows(
        connection,
        f"select workspace_id, currency, {_SUMS} from marts.fct_discounted_charges"
        " group by workspace_id, currency",
    )
    return {(row["workspace_id"], row["currency"]): row for row in found}


def _both_ahead(recorded: Connection, asked: Connection) -> tuple[_Amounts, _Amounts]:
    """Return expected amounts of the next twelve months; a workspace left out of one release pays list.

    The bills to expect do not depend on terms (R12), but the outlook leaves out workspaces for which
    nothing is in force or to come.
    """
    both = (_ahead(recorded), _ahead(asked))
    totals: tuple[_Amounts, _Amounts] = ({}, {})
    for key in both[0].keys() | both[1].keys():
        for place in (0, 1):
            row = both[place].get(key)
            if row is None:
                listed = both[1 - place][key]["list_amount"]
                row = dict.fromkeys(AMOUNTS, _ZERO) | {"list_amount": listed, "net_amount": listed}
            total = totals[place].setdefault(key[:2], dict.fromkeys(AMOUNTS, _ZERO))
            for one in AMOUNTS:
                total[one] += row[one]
    return totals


def _ahead(connection: Connection) -> dict[tuple[str, str, object], Row]:
    found = rows(
        connection,
        "select * from marts.fct_bill_outlook_monthly where outlook_month < ?",
        [_until(connection)],
    )
    return {(row["workspace_id"], row["currency"], row["outlook_month"]): row for row in found}


def _until(connection: Connection) -> object:
    return add_months(month_to_come(facts(connection)["as_of_date"]), MONTHS).date()


def _given(connection: Connection) -> _Amounts:
    """Return by program and currency the bills it gave something on, and what it will give within twelve months."""
    sums = ", ".join(f"cast(coalesce(sum({one}), 0) as decimal(18, 2)) as {one}" for one in _GIVEN)
    found = rows(
        connection,
        f"""
        with both_parts as (
            select program, currency, list_amount, discount_amount, credit_amount, net_amount
            from marts.fct_program_performance_monthly
            union all by name
            select program, currency, expected_amount
            from marts.fct_program_budget_monthly where budget_month < ?
        )
        select program, currency, {sums}
        from both_parts where currency is not null group by program, currency
        """,
        [_until(connection)],
    )
    return {(row["program"], row["currency"]): row for row in found}


def _lapsing(connection: Connection) -> dict[str, Decimal]:
    """Return credit that has lapsed or will lapse, by currency: expired, forfeited, projected breakage."""
    found = rows(
        connection,
        "select currency, cast(sum(expired_amount + forfeited_amount"
        " + coalesce(projected_breakage_amount, 0)) as decimal(18, 2)) as amount"
        " from marts.fct_credit_burndown_monthly group by currency",
    )
    return {row["currency"]: row["amount"] for row in found}


def _summed(part: _Amounts, currency: str) -> Row:
    of_currency = [row for key, row in part.items() if key[1] == currency]
    return {one: sum((row[one] for row in of_currency), _ZERO) for one in AMOUNTS}


def _bridge(recorded: Row, asked: Row) -> Row:
    return {one: _change(recorded[one], asked[one]) for one in AMOUNTS}


def _change(recorded: Decimal, asked: Decimal) -> Row:
    return {"recorded": recorded, "what_if": asked, "change": asked - recorded}


def _moved(
    asked: Connection,
    past: tuple[_Amounts, _Amounts],
    ahead: tuple[_Amounts, _Amounts],
    most: int,
) -> list[Row]:
    """Return the workspaces whose net changes most, past and expected together, of each currency."""
    moved: list[Row] = []
    for workspace_id, currency in {key for part in (*past, *ahead) for key in part}:
        changes = [
            _net(after, workspace_id, currency) - _net(before, workspace_id, currency)
            for before, after in (past, ahead)
        ]
        if any(changes):
            moved.append(
                {
                    "workspace_id": workspace_id,
                    "currency": currency,
                    "past_net_change": changes[0],
                    "expected_net_change": changes[1],
                }
            )
    names: Mapping[str, str] = {
        row["workspace_id"]: row["workspace_name"]
        for row in rows(asked, "select workspace_id, workspace_name from marts.dim_workspaces")
    }
    moved.sort(
        key=lambda row: (
            row["currency"],
            -abs(row["past_net_change"] + row["expected_net_change"]),
            row["workspace_id"],
        )
    )
    chosen: list[Row] = []
    for row in moved:
        if sum(one["currency"] == row["currency"] for one in chosen) < most:
            chosen.append({**row, "workspace_name": names.get(row["workspace_id"])})
    return chosen


def _net(part: _Amounts, workspace_id: str, currency: str) -> Decimal:
    found = part.get((workspace_id, currency))
    return found["net_amount"] if found else _ZERO
