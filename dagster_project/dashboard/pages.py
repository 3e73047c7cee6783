"""The pages: the answers each page gets from a release, and the blocks it makes of them.

The only calculation here is comparing two amounts of one answer: amounts and their sums come from
`answers/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from dagster_project.answers import words
from dagster_project.answers.asking import Connection, NotThere, Row
from dagster_project.answers.values import amount, clean, count, day, day_of, month, quarter, signed
from dagster_project.dashboard.blocks import (
    Bars,
    Block,
    Chosen,
    Column,
    Heading,
    Lead,
    Note,
    Page,
    Table,
    Tile,
    Tiles,
    Waterfall,
)
from dagster_project.dashboard.records import ACCOUNT, BILL, NAME, account, bill
from dagster_project.releases.files import is_what_if, what_ifs
from dagster_project.releases.questions import recorded_release

_STEPS: Final = (
    ("list_amount", "List", 1),
    ("percent_off_amount", "Percent-off", -1),
    ("amount_off_amount", "Dollar-off", -1),
    ("credit_amount", "Credit", -1),
    ("net_amount", "Net", 1),
    ("billing_error_amount", "Billing errors", 1),
    ("credited_amount", "Credit notes", -1),
    ("billed_net_after_notes_amount", "Kept", 1),
)
_LEVELS = ("list_amount", "net_amount", "billed_net_after_notes_amount")
_STEP_PAGES: Final = {"Percent-off": "percent-off", "Credit": "credit", "Billing errors": "trust"}
"""The page that says more about a step of the bridge."""
_MOST_FINDINGS, _MOST_REJECTED = 500, 200
NO_CURRENCY: Final = "none"
"""The choice of currency in a release that has no currency."""
NOTHING_YET: Final = (
    "This release has no bill that counts, no credit and no finding with an amount."
)
_Make = Callable[[Connection, Chosen], list[Block]]


def _of_month(name: str, page: str) -> Column:
    """Return a column of months, each of which links to a page about it."""
    return Column(name, "Month", "month", to=page, choice="month")


def _to_months(page: str, months: Iterable[date]) -> dict[str, Lead]:
    """Return the links of bars of months."""
    return {month(one): Lead(page, {"month": month(one)}) for one in months}


def _month(connection: Connection, chosen: Chosen) -> list[Block]:
    from dagster_project.answers.month import month as month_of

    data = month_of(connection, chosen.currency, chosen.month, chosen.plan, chosen.program)
    if data["month"] is None:
        return [Note(f"No bill in {chosen.currency} counts yet.")]
    code, this, before = chosen.currency, data["this"], data["before"]
    compared = f"{month(before['month'])}: " if before else ""
    shown = [
        (title, _turned(sign, this[name]), name in _LEVELS)
        for name, title, sign in _STEPS
        if name in _LEVELS or this[name]
    ]
    blocks: list[Block] = [
        Tiles(
            (
                Tile(
                    "Net",
                    f"{amount(this['net_amount'], code)} {code}",
                    compared + amount(before["net_amount"], code) if before else "",
                ),
                Tile(
                    "Given",
                    f"{amount(this['given_amount'], code)} {code}",
                    compared + amount(before["given_amount"], code) if before else "",
                ),
                Tile(
                    "Credit left",
                    f"{amount(data['credit_left_amount'], code)} {code}",
                    f"at the end of {month(data['month'])}",
                ),
                Tile(
                    "At stake",
                    f"{amount(data['at_stake_amount'], code)} {code}",
                    f"{count(data['open_findings'], 'open finding')} in {code}, all months",
                ),
            )
        ),
        Heading(f"From list to what was kept, {month(data['month'])}"),
        Waterfall(
            f"From list to what was kept in {month(data['month'])}, {code}",
            code,
            tuple(shown),
            {
                title: Lead(_STEP_PAGES[title], {"month": month(data["month"])})
                for title, _, _ in shown
                if title in _STEP_PAGES
            },
        ),
        Table(
            "bridge",
            (
                Column("step", "Step"),
                Column("this", month(data["month"]), "amount"),
                *(
                    [
                        Column("before", month(before["month"]), "amount"),
                        Column("change", "Change", "signed"),
                    ]
                    if before
                    else []
                ),
            ),
            [
                {
                    "step": title,
                    "this": _turned(sign, this[name]),
                    **(
                        {
                            "before": _turned(sign, before[name]),
                            "change": _turned(sign, this[name] - before[name]),
                        }
                        if before
                        else {}
                    ),
                }
                for name, title, sign in _STEPS
            ],
            code,
        ),
        Heading("The last twelve months"),
        Bars(
            f"Net and given by month, {code}",
            code,
            tuple(
                point
                for row in data["months"]
                for point in (
                    (month(row["month"]), "net", row["net_amount"]),
                    (month(row["month"]), "given", row["given_amount"]),
                )
            ),
            ("net", "given"),
            leads=_to_months("month", (row["month"] for row in data["months"])),
        ),
        Table(
            "months",
            (
                _of_month("month", "month"),
                Column("invoices", "Bills", "count"),
                *(Column(name, title, "amount") for name, title, _ in _STEPS),
            ),
            list(reversed(data["months"])),
            code,
        ),
        Heading("Given by program"),
        Table(
            "programs",
            (
                Column("program", "Program", to="month", choice="program"),
                Column("percent_off_amount", "Percent-off", "amount"),
                Column("amount_off_amount", "Dollar-off", "amount"),
                Column("credit_amount", "Credit", "amount"),
                Column("given_amount", "Total", "amount"),
                Column("share_percent", "Share, %", "percent"),
                Column("budget_amount", "Budget", "amount"),
            ),
            data["programs"],
            code,
            "No program gave anything.",
        ),
    ]
    if data["gifts"] is not None:  # the list that was asked for comes first, below the tiles
        blocks[1:1] = _gifts(data["gifts"], chosen, month(data["month"]))
    return blocks


def _gifts(found: Row, chosen: Chosen, of_month: str) -> list[Block]:
    """Return the bills on which one program gave something."""
    bills = count(found["total"], "bill") + " of " + count(found["workspaces"], "workspace")
    listed = len(found["gifts"])
    return [
        Heading(f"What {chosen.program} gave in {of_month}: {bills}"),
        Table(
            "gifts",
            (
                ACCOUNT,
                NAME,
                BILL,
                Column("plan", "Plan"),
                Column("percent_off_amount", "Percent-off", "amount"),
                Column("amount_off_amount", "Dollar-off", "amount"),
                Column("credit_amount", "Credit", "amount"),
                Column("given_amount", "Total", "amount"),
                Column("net_amount", "Net of the bill", "amount"),
            ),
            found["gifts"],
            chosen.currency,
            f"{chosen.program} gave nothing.",
            is_long=True,
        ),
        *(
            [Note(f"Only the {listed:,} bills with the largest gifts are listed.")]
            if listed < found["total"]
            else []
        ),
    ]


def _turned(sign: int, value: Decimal) -> Decimal:
    """Return an amount as a step: a deduction is below zero, and zero never has a minus sign."""
    return value if sign > 0 else Decimal(0) - value


def _credit(connection: Connection, chosen: Chosen) -> list[Block]:
    from dagster_project.answers.cohorts import cohorts
    from dagster_project.answers.credit import credit
    from dagster_project.answers.glance import names

    code = chosen.currency
    data = credit(connection, code, chosen.program, chosen.plan)
    if not data["months"]:
        return [Note(f"No credit in {code} was granted.")]
    named = names(connection, (grant["workspace_id"] for grant in data["grants"]))
    grown = [
        {**row, **part, "start_quarter": quarter(row["start_quarter"])}
        for row in cohorts(connection, chosen.program, None, chosen.plan, is_of_credit=True)[
            "cohorts"
        ]
        for part in row["amounts"]
        if part["currency"] == code and part["granted_amount"]
    ]
    return [
        Tiles(
            (
                Tile(
                    "Credit left",
                    f"{amount(data['closing_amount'], code)} {code}",
                    count(len(data["grants"]), "grant"),
                ),
                Tile(
                    "Expected to lapse",
                    f"{amount(data['projected_breakage_amount'], code)} {code}",
                    "unused, when the grants end",
                ),
            )
        ),
        Heading("Credit left at the end of each month"),
        Bars(
            f"Credit left by month, {code}",
            code,
            tuple(
                (month(row["burn_month"]), "left", row["closing_amount"]) for row in data["months"]
            ),
            ("left",),
            leads=_to_months("month", (row["burn_month"] for row in data["months"])),
        ),
        Table(
            "roll_forward",
            (
                _of_month("burn_month", "month"),
                Column("opening_amount", "Opening", "amount"),
                Column("granted_amount", "Granted", "amount"),
                Column("drawn_amount", "Used", "amount"),
                Column("expired_amount", "Expired", "amount"),
                Column("forfeited_amount", "Forfeited", "amount"),
                Column("closing_amount", "Closing", "amount"),
            ),
            list(reversed(data["months"])),
            code,
            is_long=True,
        ),
        Heading("Expected to be used and to lapse, by quarter"),
        *(
            [
                Bars(
                    f"Credit expected to be used and to lapse by quarter, {code}",
                    code,
                    tuple(
                        point
                        for row in data["quarters"]
                        for point in (
                            (row["quarter"] or "not known", "used", row["expected_use_amount"]),
                            (row["quarter"] or "not known", "lapses", row["lapsing_amount"]),
                        )
                    ),
                    ("used", "lapses"),
                )
            ]
            if len(data["quarters"]) > 1
            else []
        ),
        Table(
            "credit_by_quarter",
            (
                Column("quarter", "Quarter"),
                Column("expected_use_amount", "Expected use", "amount"),
                Column("lapsing_amount", "Lapses", "amount"),
            ),
            data["quarters"],
            code,
            "It is not known when the credit that is left will be used or lapse."
            if data["grants"]
            else "No credit is left.",
        ),
        Heading("Grants by days left"),
        Table(
            "grants",
            (
                ACCOUNT,
                NAME,
                Column("coupon_id", "Coupon"),
                Column("days_left", "Days left", "count"),
                Column("runs_out_on", "Runs out", "day"),
                Column("balance_amount", "Left", "amount"),
                Column("expected_use_amount", "Expected use", "amount"),
                Column("projected_breakage_amount", "Lapses", "amount"),
            ),
            [{**one, "workspace_name": named.get(one["workspace_id"])} for one in data["grants"]],
            code,
            "No credit is left.",
            is_long=True,
        ),
        Heading("Cohorts with credit"),
        Table(
            "cohorts",
            (
                Column("program", "Program", to="credit", choice="program"),
                Column("start_quarter", "Start"),
                Column("age_months", "Age, months", "count"),
                Column("workspaces", "Workspaces", "count"),
                Column("paying", "Still paying", "count"),
                Column("gone", "Not paying", "count"),
                Column("too_early", "Too early", "count"),
                Column("granted_amount", "Granted", "amount"),
                Column("used_amount", "Used", "amount"),
                Column("lapsed_amount", "Lapsed", "amount"),
                Column("net_amount", "Net of all bills", "amount"),
            ),
            grown,
            code,
            "No cohort has been granted credit.",
            is_long=True,
        ),
    ]


def _percent_off(connection: Connection, chosen: Chosen) -> list[Block]:
    from dagster_project.answers.glance import names
    from dagster_project.answers.variance import variance

    code = chosen.currency
    about = ("program", chosen.program) if chosen.program else ("all", "")
    series = variance(connection, *about, None, 24, chosen.plan)
    of_currency = next((one for one in series["currencies"] if one["currency"] == code), None)
    if of_currency is None:
        return [Note(f"No bill in {code} was reduced by a percentage in the last 24 months.")]
    wanted = chosen.month or month(series["to_month"])
    try:
        of_month = variance(connection, *about, wanted, plan=chosen.plan)["currencies"]
    except NotThere:  # a month with bills, but none that a percentage reduced
        of_month = []
    one = next((part for part in of_month if part["currency"] == code), None)
    blocks: list[Block] = []
    if one is None:
        blocks.append(
            Note(f"Nothing in {code} was reduced by a percentage in {wanted} or the month before.")
        )
    else:
        bridge = one["bridge"]
        effects = (
            ("Other bills", bridge["bill_effect_amount"]),
            ("Other percentage", bridge["rate_effect_amount"]),
            ("Began", bridge["start_effect_amount"]),
            ("Ended", bridge["end_effect_amount"]),
        )
        first, last = month(bridge["from_month"]), month(bridge["to_month"])
        moved = [row for row in one["workspaces"] if row["delta_amount"]]
        named = names(connection, (row["workspace_id"] for row in moved))
        blocks += [
            Tiles(
                (
                    Tile(
                        f"Percent-off, {last}",
                        f"{amount(bridge['percent_off_amount'], code)} {code}",
                        f"{first}: {amount(bridge['previous_percent_off_amount'], code)}",
                    ),
                    Tile(
                        "Change",
                        f"{signed(bridge['delta_amount'], code)} {code}",
                        count(len(moved), "workspace"),
                    ),
                )
            ),
            Heading(f"What moved percent-off from {first} to {last}"),
            Waterfall(
                f"Percent-off from {first} to {last}, {code}",
                code,
                (
                    (first, bridge["previous_percent_off_amount"], True),
                    *((name, value, False) for name, value in effects),
                    (last, bridge["percent_off_amount"], True),
                ),
            ),
            Note(f"Other percentage: {words.RATE_EFFECT}."),
            Heading("Top movers"),
            Table(
                "movers",
                (
                    ACCOUNT,
                    NAME,
                    Column("previous_percent_off_amount", first, "amount"),
                    Column("bill_effect_amount", "Other bills", "signed"),
                    Column("rate_effect_amount", "Other percentage", "signed"),
                    Column("start_effect_amount", "Began", "signed"),
                    Column("end_effect_amount", "Ended", "signed"),
                    Column("percent_off_amount", last, "amount"),
                    Column("delta_amount", "Change", "signed"),
                ),
                [{**row, "workspace_name": named.get(row["workspace_id"])} for row in moved],
                code,
                "Nothing moved.",
                is_long=True,
            ),
        ]
    return [
        *blocks,
        Heading("The last 24 months"),
        Bars(
            f"Percent-off by month, {code}",
            code,
            tuple(
                (month(row["month"]), "percent-off", row["percent_off_amount"])
                for row in of_currency["months"]
            ),
            ("percent-off",),
            leads=_to_months("percent-off", (row["month"] for row in of_currency["months"])),
        ),
        Table(
            "percent_off_months",
            (
                _of_month("month", "percent-off"),
                Column("workspaces", "Workspaces", "count"),
                Column("previous_percent_off_amount", "Before", "amount"),
                Column("bill_effect_amount", "Other bills", "signed"),
                Column("rate_effect_amount", "Other percentage", "signed"),
                Column("start_effect_amount", "Began", "signed"),
                Column("end_effect_amount", "Ended", "signed"),
                Column("percent_off_amount", "After", "amount"),
            ),
            list(reversed(of_currency["months"])),
            code,
            is_long=True,
        ),
    ]


def _ahead(connection: Connection, chosen: Chosen) -> list[Block]:
    from dagster_project.answers.expiring import calendar
    from dagster_project.answers.outlook import outlook

    code = chosen.currency
    about = ("program", chosen.program) if chosen.program else ("all", "")
    expected = outlook(connection, *about, chosen.plan)
    bills = next((one for one in expected["currencies"] if one["currency"] == code), None)
    ending = calendar(connection, code, chosen.program, chosen.plan)
    coming = [row for row in bills["months"] if row["is_expected"]] if bills else []
    drawn: list[Block] = []
    if bills:
        was = {row["month"] for row in bills["months"] if not row["is_expected"]}
        drawn = [
            Bars(
                f"Net of past and expected bills, by month, {code}",
                code,
                tuple(
                    (
                        month(row["month"]),
                        "expected" if row["is_expected"] else "past",
                        row["net_amount"],
                    )
                    for row in bills["months"]
                ),
                ("past", "expected"),
                leads=_to_months("month", sorted(was)),
            ),
            Note(
                "Only workspaces with a coupon in force or to come; a month that is not over has both."
            ),
        ]
    by_month = ending["months"]
    listed = [
        row for row in ending["expirations"] if chosen.ends in (None, month(row["ends_month"]))
    ]
    return [
        Tiles(
            (
                Tile(
                    "Runs out within 12 months",
                    count(ending["redemptions"], "promotion"),
                    f"{ending['followed_up']:,} followed up",
                ),
                Tile(
                    "Bills rise by",
                    f"{amount(ending['monthly_rise_amount'], code)} {code}",
                    "a month, once all have run out",
                ),
                Tile(
                    "Revenue behind it",
                    f"{amount(ending['behind_amount'], code)} {code}",
                    f"net of {count(ending['workspaces'], 'workspace')} in the last 12 months",
                ),
                *(
                    [
                        Tile(
                            "Expected net",
                            f"{amount(bills['totals_expected']['net_amount'], code)} {code}",
                            "bills of the next twelve months",
                        )
                    ]
                    if bills
                    else []
                ),
            )
        ),
        Heading("Past and expected bills"),
        *drawn,
        Table(
            "outlook",
            (
                Column("month", "Month", "month"),
                Column("bills", "Bills", "count"),
                Column("list_amount", "List", "amount"),
                Column("percent_off_amount", "Percent-off", "amount"),
                Column("amount_off_amount", "Dollar-off", "amount"),
                Column("credit_amount", "Credit", "amount"),
                Column("net_amount", "Net", "amount"),
            ),
            coming,
            code,
            "No bill is expected that a coupon or credit could change.",
        ),
        *_beside(chosen),
        Heading("What runs out, by month"),
        *(
            [
                Bars(
                    f"By how much bills rise a month, by the month in which promotions run out, {code}",
                    code,
                    tuple(
                        (month(row["ends_month"]), "rise", row["monthly_rise_amount"])
                        for row in by_month
                    ),
                    ("rise",),
                    leads={
                        month(row["ends_month"]): Lead("ahead", {"ends": month(row["ends_month"])})
                        for row in by_month
                    },
                )
            ]
            if len(by_month) > 1
            else []
        ),
        Table(
            "calendar",
            (
                Column("ends_month", "Month", "month", to="ahead", choice="ends"),
                Column("redemptions", "Promotions", "count"),
                Column("workspaces", "Workspaces", "count"),
                Column("followed_up", "Followed up", "count"),
                Column("monthly_rise_amount", "Bills rise by, a month", "amount"),
                Column("behind_amount", "Revenue behind, 12 months", "amount"),
            ),
            by_month,
            code,
            "Nothing runs out within twelve months.",
        ),
        Heading(f"Top rises, {chosen.ends}" if chosen.ends else "Top rises"),
        Table(
            "rises",
            (
                ACCOUNT,
                NAME,
                Column("program", "Program", to="ahead", choice="program"),
                Column("coupon_id", "Coupon"),
                Column("runs_out_at", "Runs out", "day"),
                Column("runs_out_by", "By"),
                Column("followed", "Followed up by"),
                Column("run_rate_amount", "Gives a month now", "amount"),
                Column("monthly_rise_amount", "Rise, a month", "amount"),
                Column("behind_amount", "Revenue behind, 12 months", "amount"),
            ),
            [
                {
                    **row,
                    "followed": row["follow_up_coupon_id"] if row["is_followed_up"] else "none",
                }
                for row in listed
            ],
            code,
            f"Nothing runs out in {chosen.ends}."
            if chosen.ends
            else "Nothing runs out within twelve months.",
            is_long=True,
        ),
    ]


def _beside(chosen: Chosen) -> list[Block]:
    """Return the outlook under other terms beside the recorded one, for each question about this release.

    A page of a what-if release has that question only.
    """
    from dagster_project.answers.what_if import outlook_beside

    if chosen.home is None or chosen.release is None:
        return []
    shown = [chosen.release] if is_what_if(chosen.release) else what_ifs(chosen.home)
    code = chosen.currency
    blocks: list[Block] = []
    for asked in shown:
        recorded = recorded_release(chosen.home, asked)
        if recorded is None or chosen.release not in (asked, recorded):
            continue
        found = outlook_beside(chosen.home, recorded, asked, code)
        name = clean(asked)
        blocks.append(Heading(f"Expected bills as recorded, and under the terms of {name}"))
        if found:
            blocks.append(
                Bars(
                    f"Expected net as recorded and under the terms of {name}, by month, {code}",
                    code,
                    tuple(
                        point
                        for row in found
                        for point in (
                            (month(row["month"]), "recorded", row["recorded_net_amount"]),
                            (month(row["month"]), "what if", row["what_if_net_amount"]),
                        )
                    ),
                    ("recorded", "what if"),
                    is_stacked=False,
                )
            )
        blocks.append(
            Table(
                f"beside_{asked.partition('/')[2]}",
                (
                    Column("month", "Month", "month"),
                    Column("recorded_discount_amount", "Discounts, recorded", "amount"),
                    Column("what_if_discount_amount", "what if", "amount"),
                    Column("recorded_credit_amount", "Credit, recorded", "amount"),
                    Column("what_if_credit_amount", "what if", "amount"),
                    Column("recorded_net_amount", "Net, recorded", "amount"),
                    Column("what_if_net_amount", "what if", "amount"),
                    Column("change_net_amount", "Net changes by", "signed"),
                ),
                found,
                code,
                f"No bill in {code} is expected.",
            )
        )
    if blocks and (chosen.program or chosen.plan):
        blocks.append(
            Note("The comparison with the recorded outlook is of all programs and plans.")
        )
    return blocks


def findings_of(connection: Connection, chosen: Chosen) -> list[Block]:
    """Return what billing got wrong in one currency, and what has changed in closed months."""
    from dagster_project.answers.closes import restatements
    from dagster_project.answers.findings import reviewed

    code = chosen.currency
    of_month = date.fromisoformat(f"{chosen.month}-01") if chosen.month else None
    data = reviewed(
        connection,
        code,
        _MOST_FINDINGS,
        month=of_month,
        plan=chosen.plan,
        program=chosen.program,
        finding_type=chosen.type,
    )
    as_of = data["as_of_date"]
    kinds, listed = data["totals"], data["findings"]
    still_open = data["open"]
    accepted = data["total"] - still_open["findings"]
    told = "in no currency" if code == NO_CURRENCY else f"in {code} or in none"
    restated = [row for row in restatements(connection) if row["currency"] in (code, None)]
    return [
        Tiles(
            (
                Tile(
                    "Open findings",
                    f"{still_open['findings']:,}",
                    f"{told}; {accepted:,} accepted",
                ),
                *(
                    []
                    if code == NO_CURRENCY
                    else [
                        Tile(
                            "At stake",
                            f"{amount(still_open['amount_at_stake'], code)} {code}",
                            "open findings",
                        ),
                        Tile(
                            "Billed too much or little",
                            f"{signed(still_open['effect_amount'], code)} {code}",
                            "open findings, discounts and credit",
                        ),
                    ]
                ),
            )
        ),
        Heading("Findings by type"),
        Table(
            "findings_by_type",
            (
                Column("finding_type", "Type", to="trust", choice="type"),
                Column("severity", "Severity"),
                Column("review_status", "Review"),
                Column("findings", "Findings", "count"),
                Column("oldest", "Oldest, days", "count"),
                Column("amount_at_stake", "At stake", "amount"),
                Column("effect_amount", "Billed too much or little", "signed"),
            ),
            [{**row, "oldest": _age(as_of, row["oldest_at"])} for row in kinds],
            code,
            "Nothing was found.",
        ),
        Heading("Findings"),
        Table(
            "findings",
            (
                Column("finding_type", "Type"),
                ACCOUNT,
                BILL,
                Column("review_status", "Review"),
                Column("age", "Age, days", "count"),
                Column("amount_at_stake", "At stake", "amount"),
                Column("effect_amount", "Too much or little", "signed"),
                Column("description", "What is wrong", "prose"),
            ),
            [{**row, "age": _age(as_of, row["occurred_at"])} for row in listed],
            code,
            "Nothing was found.",
            is_long=True,
        ),
        *(
            [
                Note(
                    f"Only the {len(listed):,} largest are listed; the totals are of all"
                    f" {data['total']:,}: coupon-ledger findings lists more."
                )
            ]
            if data["total"] > len(listed)
            else []
        ),
        *_register(chosen),
        Heading("Restated in closed months"),
        Table(
            "restatements",
            (
                _of_month("closed_month", "month"),
                Column("file_name", "Delivery"),
                Column("amounts", "Amounts", "count"),
                Column("moved", "Moved rows", "count"),
                Column("net_delta_amount", "Net changed by", "signed"),
            ),
            [
                {**row, "closed_month": date.fromisoformat(f"{row['closed_month']}-01")}
                for row in restated
            ],
            code,
            "Nothing has changed in a closed month.",
        ),
    ]


def _age(as_of: date, at: datetime | None) -> int | None:
    return (as_of - day_of(at)).days if at else None


def _register(chosen: Chosen) -> list[Block]:
    """Return the closes and reopenings of months, newest first."""
    from dagster_project.answers.closes import entries

    if chosen.home is None:
        return []
    return [
        Heading("Months closed and reopened"),
        Table(
            "closes",
            (
                Column("month", "Month", to="month", choice="month"),
                Column("event", "What"),
                Column("at", "When", "day"),
                Column("by", "By"),
                Column("release_id", "Release", to="trust", choice="release"),
                Column("open_errors", "Open errors", "count"),
                Column("reason", "Reason", "prose"),
                Column("holds", "In force"),
            ),
            [
                {**row, "holds": "yes" if row["holds_now"] else "no"}
                for row in reversed(entries(chosen.home))
            ],
            None,
            "No month of this data home has been closed.",
            is_long=True,
        ),
    ]


def deliveries_of(connection: Connection) -> list[Block]:
    """Return what was delivered, what became of its rows, and the checks of the release."""
    from dagster_project.answers.deliveries import deliveries, rejected
    from dagster_project.answers.glance import checks

    refused = rejected(connection, limit=_MOST_REJECTED)
    arrived = deliveries(connection)
    checked = checks(connection)
    failed = [row for row in checked if row["status"] != "pass"]
    standing = sum(row["is_standing"] for row in checked)
    return [
        Tiles(
            (
                Tile("Rows rejected", f"{refused['total']:,}", "of all deliveries"),
                Tile(
                    "Checks",
                    f"{len(checked) - len(failed):,} of {len(checked):,} passed",
                    f"{standing:,} ran in an earlier refresh over the same rows"
                    if standing
                    else "of this release",
                ),
            )
        ),
        Heading("Deliveries, and what became of their rows"),
        Table(
            "deliveries",
            (
                Column("arrived_at", "Arrived", "day"),
                Column("feed", "Feed"),
                Column("file_name", "File"),
                Column("verdict", "Verdict"),
                Column("physical_rows", "Rows", "count"),
                Column("accepted_rows", "Accepted", "count"),
                Column("superseded_rows", "Superseded", "count"),
                Column("duplicate_rows", "Duplicate", "count"),
                Column("rejected_rows", "Rejected", "count"),
            ),
            arrived["deliveries"],
            None,
            "Nothing was delivered.",
            is_long=True,
        ),
        Heading("Rejected rows by reason"),
        Table(
            "rejected_by_reason",
            (
                Column("feed", "Feed"),
                Column("reason", "Reason", "prose"),
                Column("rows", "Rows", "count"),
            ),
            refused["rows_by_reason"],
            None,
            "No row was rejected.",
        ),
        *(
            [
                Table(
                    "rejected_rows",
                    (
                        Column("file_name", "File"),
                        Column("row_number", "Row", "count"),
                        Column("told", "Reasons", "prose"),
                    ),
                    [
                        {**row, "told": "; ".join(row["reasons"])}
                        for row in refused["rejected_rows"]
                    ],
                    is_long=True,
                )
            ]
            if refused["rejected_rows"]
            else []
        ),
        Heading("Checks that did not pass"),
        Table(
            "checks",
            (
                Column("name", "Check"),
                Column("table_name", "Table"),
                Column("severity", "Severity"),
                Column("failures", "Failures", "count"),
                Column("description", "What it checks", "prose"),
            ),
            failed,
            None,
            f"All {len(checked):,} checks passed.",
        ),
        *_failed_checks(arrived["failed_checks"]),
    ]


def _failed_checks(failed: list[Row]) -> list[Block]:
    if not failed:
        return []
    return [
        Heading("Files that did not pass a check"),
        Table(
            "failed_checks",
            (
                Column("arrived_at", "Arrived", "day"),
                Column("file_name", "File"),
                Column("name", "Check"),
                Column("observed", "Found", "prose"),
            ),
            failed,
            is_long=True,
        ),
    ]


def _trust(connection: Connection, chosen: Chosen) -> list[Block]:
    return [*findings_of(connection, chosen), *deliveries_of(connection)]


_ON_PLAN = "Only workspaces whose last bill is of plan {}."
_NARROWED: Final[dict[str, dict[str, str]]] = {
    "month": {
        "plan": "Only bills of plan {}; credit left, what is at stake and budgets are of all plans.",
        "program": "Only the list of bills is of program {}; all other amounts are of all programs.",
    },
    "credit": {"plan": _ON_PLAN, "program": "Only credit of program {}."},
    "percent-off": {
        "plan": _ON_PLAN,
        "program": "Only workspaces with a percent-off coupon of program {}, now or in the past; what"
        " other programs take off their bills is included.",
    },
    "ahead": {
        "plan": _ON_PLAN,
        "program": "Only promotions of program {}, and bills of workspaces that have one now or will have one.",
    },
    "trust": {
        "plan": "Only findings about bills of plan {}.",
        "program": "Only findings about a coupon of program {}, or about a bill on which the program gave"
        " something.",
    },
}
"""What a page says about a filter that leaves something out, by page and filter."""


def _telling(name: str, make: _Make) -> _Make:
    """Return a function that makes the blocks of a page, preceded by notes on what they leave out."""

    def made(connection: Connection, chosen: Chosen) -> list[Block]:
        if chosen.currency == NO_CURRENCY and name not in ("trust", "account", "bill"):
            return [Note(NOTHING_YET)]
        given = {"plan": chosen.plan, "program": chosen.program}
        told = [
            Note(text.format(clean(given[one])))
            for one, text in _NARROWED.get(name, {}).items()
            if given[one] is not None
        ]
        return [*told, *make(connection, chosen)]

    return made


PAGES: Final[dict[str, tuple[Page, _Make]]] = {
    page.name: (page, _telling(page.name, make))
    for page, make in (
        (Page("month", "Month", ("currency", "month", "plan", "program")), _month),
        (Page("credit", "Credit", ("currency", "plan", "program")), _credit),
        (
            Page("percent-off", "Percent-off", ("currency", "month", "plan", "program")),
            _percent_off,
        ),
        (Page("ahead", "Ahead", ("currency", "plan", "program", "ends")), _ahead),
        (Page("trust", "Trust", ("currency", "month", "plan", "program", "type")), _trust),
        (Page("account", "Account", ("id",), has_report=False), account),
        (Page("bill", "Bill", ("id",), has_report=False), bill),
    )
}
"""Every page by its name in an address, with the function that makes its blocks."""


def heading_of(glance: Row) -> str:
    """Return the release of a page, with its checks and open findings."""
    passed = glance["checks"] - glance["checks_not_passed"]
    return (
        f"Release {clean(glance['release_id'])}, as of {day(glance['as_of_date'])}."
        f" {passed:,} of {glance['checks']:,} checks passed,"
        f" {count(glance['open_findings'], 'open finding')}."
    )
