"""Answers under other terms agree with the reference model.

For terms that hold for all bills, that is the model on the changed records. For terms that hold from a day on, bills
issued earlier keep what the recorded terms gave them, and later ones find the uses and the credit that these left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.answers.asking import end_of
from dagster_project.feeds import feeds
from dagster_project.refresh import concerned
from dagster_project.refresh.asked_records import OF_A_BILL, Asking
from dagster_project.refresh.changes import Change, WrongTerms, first_of_bills
from dagster_project.refresh.compiled import Models, Moment, Node
from dagster_project.refresh.concerned import RECORDED, REDEMPTIONS, SUMMED, TERMS
from tests.dbt.compiled import CompiledModels, answered
from tests.dbt.test_properties import slowly
from tests.reference import histories, model
from tests.reference.agreement import PROVENANCE, all_differences
from tests.reference.rules import ReportingCalendar

Marts = Mapping[str, list[dict[str, object]]]

SOME = settings(slowly, max_examples=14)
WORLDS = st.lists(histories.workspace_histories(), min_size=1, max_size=12)
DAYS = st.dates(date(2023, 1, 1), date(2027, 6, 1))
# A question is a further version of a coupon, which no finding mentions.
OF_VERSIONS = {"updated_at", *PROVENANCE}


def newest(records: histories.Records, feed: str) -> dict[object, dict[str, object]]:
    """The current versions by id, in the order of arrival."""
    key = feeds()[feed].key.name
    found: dict[object, dict[str, object]] = {}
    for record in records[feed]:
        known = found.get(record[key])
        if known is None or not known["updated_at"] > record["updated_at"]:  # type: ignore[operator]
            found[record[key]] = dict(record)
    return found


def asked(
    records: histories.Records, seed: int, columns: tuple[str, ...]
) -> tuple[histories.Records, list[Change]]:
    """Change some coupons in some columns; return the records with the changes, and the changes as a question."""
    random = Random(seed)
    coupons = newest(records, "coupons")
    changes = []
    for coupon_id, coupon in coupons.items():
        values = {
            name: to
            for name in columns
            for to in _others(coupon, name, random, sorted(map(str, coupons)))
            if to != coupon[name]
        }
        if not values or random.randrange(3) == 0:
            continue
        coupon.update(values)
        texts = {name: histories.to_text(value) for name, value in values.items()}
        changes.append(
            Change("coupons", {"coupon_id": str(coupon_id), **texts}, is_withdrawn=False, place="")
        )
    return {**records, "coupons": list(coupons.values())}, changes


def _others(
    coupon: Mapping[str, object], name: str, random: Random, others: list[str]
) -> list[object]:
    """At most one other value of a column, allowed for a coupon of its kind."""
    kind, duration = coupon["discount_type"], coupon["duration"]
    if name == "percent_off" and kind == "percent_off":
        return [Decimal(random.choice(histories.PERCENTS))]
    if name == "amount_off" and kind == "amount_off":
        return [histories.to_amount(random.choice(histories.OFF_AMOUNTS), str(coupon["currency"]))]
    if name == "amount_off_per" and kind == "amount_off":
        return [random.choice(("invoice", "month"))]
    if name == "credit_amount" and kind == "credit":
        return [
            histories.to_amount(random.choice(histories.CREDIT_AMOUNTS), str(coupon["currency"]))
        ]
    if name == "credit_priority" and kind == "credit":
        return [random.choice((None, -1, 0, 1))]
    if name == "duration_months" and coupon["duration_months"] is not None:
        return [random.choice((1, 2, 3, 6, 12))]
    if name == "duration_invoices" and coupon["duration_invoices"] is not None:
        return [random.choice((1, 2, 3))]
    if name == "follow_up_coupon_id":
        return [random.choice((None, *others))] if random.randrange(4) == 0 else []
    if name == "once_per":
        return [random.choice(("user", "workspace", "unlimited"))] if duration else []
    return []


def comparable(marts: Marts) -> dict[str, list[dict[str, object]]]:
    """Marts without findings, which stay those of the recorded terms."""
    return {name: rows for name, rows in marts.items() if name != "fct_audit_findings"}


@SOME
@given(worlds=WORLDS, seed=histories.SEEDS)
def test_terms_for_all_bills_agree_with_the_model(
    compiled: CompiledModels, worlds: list[histories.Records], seed: int
) -> None:
    records = histories.combine(worlds)
    columns = (*OF_A_BILL, "duration_invoices", "follow_up_coupon_id", "once_per")
    changed, changes = asked(records, seed, columns)
    if not changes:
        return
    found = compiled.run_question([histories.as_deliveries(records)], changes)
    expected = model.publish(changed, compiled.as_of)
    assert all_differences(found, comparable(expected), OF_VERSIONS) == []


@SOME
@given(worlds=WORLDS, seed=histories.SEEDS, holds_from=DAYS)
def test_terms_from_a_day_on_agree_with_the_model(
    compiled: CompiledModels, worlds: list[histories.Records], seed: int, holds_from: date
) -> None:
    _from_a_day_on(compiled, histories.combine(worlds), seed, holds_from)


@pytest.mark.parametrize("seed", range(2))
def test_terms_of_many_worlds_from_a_day_on(compiled: CompiledModels, seed: int) -> None:
    records = histories.combine(histories.sample_worlds(120, seed=7000 + seed))
    days = (date(2024, 2, 29), date(2024, 9, 30), date(2025, 4, 1), date(2025, 10, 1))
    assert _from_a_day_on(compiled, records, seed, days[seed])


@pytest.mark.parametrize("seed", range(2))
def test_other_redemptions_agree_with_the_model(compiled: CompiledModels, seed: int) -> None:
    records = histories.combine(histories.sample_worlds(120, seed=7100 + seed))
    random = Random(seed)
    workspaces = sorted(map(str, newest(records, "workspaces")))
    redemptions = newest(records, "redemptions")
    end = datetime.combine(compiled.as_of, datetime.max.time())
    coupons = newest(records, "coupons")
    changes = []
    for redemption_id, redemption in list(redemptions.items()):
        is_known = redemption["redeemed_at"] < end  # type: ignore[operator]
        to, other = random.randrange(12), random.choice(workspaces)
        if not is_known or to > 2 or redemption["coupon_id"] not in coupons:
            continue
        key = {"redemption_id": str(redemption_id)}
        if to == 0:
            del redemptions[redemption_id]
        elif to == 1 and redemption["workspace_id"] != other:
            redemption["workspace_id"] = other
            key["workspace_id"] = other
        else:
            added = {**redemption, "redemption_id": f"{redemption_id}-again", "workspace_id": other}
            redemptions[added["redemption_id"]] = added
            key = {name: histories.to_text(value) for name, value in added.items()}
            del key["updated_at"]
        changes.append(Change("redemptions", key, is_withdrawn=to == 0, place=""))
    found = compiled.run_question([histories.as_deliveries(records)], changes)
    expected = model.publish({**records, "redemptions": list(redemptions.values())}, compiled.as_of)
    assert len(changes) > 20
    assert all_differences(found, comparable(expected), OF_VERSIONS) == []


def _from_a_day_on(
    compiled: CompiledModels, records: histories.Records, seed: int, holds_from: date
) -> bool:
    changed, changes = asked(records, seed, OF_A_BILL)
    deliveries = [histories.as_deliveries(records)]
    # A change is refused if the duration of an unrecorded follow-up would differ before that day.
    while changes:
        try:
            with compiled.question(deliveries, changes, holds_from) as connection:
                found, recorded = answered(connection), _charges(connection)
            break
        except WrongTerms as refused:
            assert "a follow-up that nobody recorded" in str(refused)
            changes = [one for one in changes if "duration_months" not in one.values]
    if not changes:
        return False
    ids = {one.values["coupon_id"] for one in changes}
    later = [one for one in changed["coupons"] if one["coupon_id"] in ids]
    expected = model.publish(
        records, compiled.as_of, changed=(holds_from, {**changed, "coupons": later})
    )
    assert all_differences(found, comparable(expected), OF_VERSIONS) == []
    first = datetime.combine(holds_from, datetime.min.time())
    assert _given_before(found, first) == _given_before(recorded, first)
    return True


def _charges(connection: duckdb.DuckDBPyConnection) -> Marts:
    rows = connection.execute("from recorded.marts.fct_discounted_charges")
    return {"fct_discounted_charges": rows.to_arrow_table().to_pylist()}


def _given_before(marts: Marts, first: datetime) -> list[tuple[object, ...]]:
    """What coupons and credit gave on bills issued before an instant."""
    return sorted(
        tuple(
            row[name] for name in ("invoice_id", "discount_amount", "credit_amount", "net_amount")
        )
        for row in marts["fct_discounted_charges"]
        if row["issued_at"] < first  # type: ignore[operator]
    )


def _example() -> dict[str, list[dict[str, str]]]:
    """Bills of 100.00 from January on; 20% off the first three, and credit of 250.00."""
    long_ago = {"updated_at": "2024-01-01T00:00:00Z"}
    coupon = {"coupon_name": "C", "program": "special", "duration": "repeating", **long_ago}
    days = [f"2025-{number:02}-01" for number in range(1, 7)]
    return {
        "workspaces": [
            {
                "workspace_id": "w",
                "workspace_name": "W",
                "created_at": "2024-01-01",
                **long_ago,
            }
        ],
        "coupons": [
            {
                **coupon,
                "coupon_id": "TWENTY",
                "discount_type": "percent_off",
                "percent_off": "20",
                "duration_invoices": "3",
            },
            {
                **coupon,
                "coupon_id": "CREDIT",
                "discount_type": "credit",
                "credit_amount": "250.00",
                "currency": "USD",
                "duration_months": "12",
            },
        ],
        "redemptions": [
            {
                "redemption_id": coupon_id.lower(),
                "coupon_id": coupon_id,
                "workspace_id": "w",
                "redeemed_at": "2025-01-01",
                **long_ago,
            }
            for coupon_id in ("TWENTY", "CREDIT")
        ],
        "invoices": [
            {
                "invoice_id": day,
                "workspace_id": "w",
                "status": "paid",
                "plan": "team",
                "billing_interval": "month",
                "currency": "USD",
                "period_start": day,
                "period_end": after,
                "issued_at": day,
                "list_amount": "100.00",
                "discount_amount": "0",
                "credit_amount": "0",
                "tax_amount": "0",
                "total_amount": "100.00",
                **long_ago,
            }
            for day, after in zip(days, [*days[1:], "2025-07-01"], strict=True)
        ],
    }


@pytest.mark.parametrize(
    ("holds_from", "discounts", "credit"),
    [
        (None, (50, 50, 50, 0, 0, 0), (50, 50, 50, 100, 0, 0)),
        (date(2025, 2, 1), (20, 50, 50, 0, 0, 0), (80, 50, 50, 70, 0, 0)),
        (date(2025, 2, 2), (20, 20, 50, 0, 0, 0), (80, 80, 50, 40, 0, 0)),
        (date(2025, 4, 1), (20, 20, 20, 0, 0, 0), (80, 80, 80, 10, 0, 0)),
    ],
)
def test_later_bills_find_what_earlier_ones_left(
    compiled: CompiledModels,
    holds_from: date | None,
    discounts: tuple[int, ...],
    credit: tuple[int, ...],
) -> None:
    change = Change(
        "coupons", {"coupon_id": "TWENTY", "percent_off": "50"}, is_withdrawn=False, place=""
    )
    found = compiled.run_question([_example()], [change], holds_from)
    bills = sorted(found["fct_discounted_charges"], key=lambda row: str(row["invoice_id"]))
    assert tuple(row["discount_amount"] for row in bills) == discounts
    assert tuple(row["credit_amount"] for row in bills) == credit


@pytest.mark.parametrize(
    ("holds_from", "expected"),
    [(date(2025, 7, 1), (30, 30, 30)), (date(2025, 8, 2), (20, 20, 30))],
)
def test_expected_bills_before_that_day_stay_as_expected(
    compiled: CompiledModels, holds_from: date, expected: tuple[int, ...]
) -> None:
    example = _example()
    example["coupons"][0] |= {"duration": "forever", "duration_invoices": ""}
    change = Change(
        "coupons", {"coupon_id": "TWENTY", "percent_off": "30"}, is_withdrawn=False, place=""
    )
    found = compiled.run_question([example], [change], holds_from)
    ahead = sorted(found["fct_bill_outlook_monthly"], key=lambda row: str(row["outlook_month"]))
    assert tuple(row["discount_amount"] for row in ahead[:3]) == expected


def test_bills_meet_terms_in_redemptions_only(compiled: CompiledModels) -> None:
    """The restriction to concerned workspaces depends on this."""
    models = compiled.of_questions
    of_redemptions = {node.name for node in models.needed_for(REDEMPTIONS)}
    terms = {
        name
        for name in of_redemptions
        - {*REDEMPTIONS, "stg_billing__workspaces", "stg_billing__repeated_rows"}
        if not name.startswith(("base_", "iso_"))
    }
    others = {
        node.name
        for node in models.nodes.values()
        if node.kind == "model" and node.name not in of_redemptions and terms & {*node.reads}
    }
    findings = {"int_coupon_findings_raised"}
    credit_of_its_day = {"int_credit_grants_scheduled", "int_workspaces_touched"}
    assert others - findings - credit_of_its_day == set(TERMS)
    marts = [node for node in models.nodes.values() if node.schema == "marts"]
    for mart in marts:
        if mart.kind == "model" and mart.name not in (*SUMMED, *TERMS, *RECORDED):
            assert "workspace_id" in mart.sql or "invoice_id" in mart.sql


@pytest.fixture(scope="module")
def many_worlds(compiled: CompiledModels) -> Iterator[duckdb.DuckDBPyConnection]:
    """The build of many generated workspaces, for questions."""
    records = histories.combine(histories.sample_worlds(150, seed=7200))
    with compiled.recorded([histories.as_deliveries(records)]) as connection:
        yield connection


def _coupon(
    connection: duckdb.DuckDBPyConnection, condition: str, values: dict[str, str]
) -> Change:
    """Change the coupon with the most redemptions among those for which a condition holds."""
    [(coupon_id,)] = connection.execute(
        "select coupon_id from recorded.staging.stg_billing__coupons as coupons"
        " inner join recorded.intermediate.int_redemptions_with_terms as redemptions"
        f" using (coupon_id) where redemptions.is_honoured and {condition}"
        " group by coupon_id order by count(*) desc, coupon_id limit 1"
    ).fetchall()
    return Change("coupons", {"coupon_id": coupon_id, **values}, is_withdrawn=False, place="")


def _redemption(connection: duckdb.DuckDBPyConnection, kind: str) -> Change:
    """Withdraw, move or add a redemption of percent off."""
    found = connection.execute(
        "select redemption_id, coupon_id, workspace_id"
        " from recorded.intermediate.int_redemptions_with_terms"
        " where is_honoured and not is_derived and is_ever_in_force and discount_type = 'percent_off'"
        " order by redemption_id"
    ).fetchall()
    redemption_id, coupon_id, _ = found[0]
    other = next(workspace for _, _, workspace in found if workspace != found[0][2])
    values = {"redemption_id": redemption_id}
    if kind == "moved":
        values["workspace_id"] = other
    elif kind == "added":
        values = {"redemption_id": "added", "coupon_id": coupon_id, "workspace_id": other}
        values["redeemed_at"] = "2025-01-02T00:00:00Z"
    return Change("redemptions", values, is_withdrawn=kind == "withdrawn", place="")


def _of_kind(connection: duckdb.DuckDBPyConnection, kind: str) -> Change:
    changes = {
        "percent": ("coupons.discount_type = 'percent_off'", {"percent_off": "7"}),
        "amount": ("coupons.discount_type = 'amount_off'", {"amount_off": "3"}),
        "credit": ("coupons.discount_type = 'credit'", {"credit_amount": "11"}),
        "duration": ("coupons.duration_months > 1", {"duration_months": "1"}),
        "follow_up": ("coupons.follow_up_coupon_id is not null", {"follow_up_coupon_id": ""}),
        "name": ("true", {"coupon_name": "Another name"}),
    }
    if kind in changes:
        return _coupon(connection, *changes[kind])
    return _redemption(connection, kind)


OF_REDEMPTIONS = ("int_redemptions_judged", "int_follow_ups_taken")
# The restriction to concerned workspaces loses credit notes of bills that do not count; no question changes these.
OF_NOTES = (
    *("stg_billing__credit_notes", "int_credit_notes_issued"),
    *("int_invoices_credited", "fct_credit_notes"),
)
OF_BILLS = ("int_redemption_invoices_covered", "int_bills_expected")
NOT_RUN = {
    "percent": (*OF_REDEMPTIONS, *OF_BILLS, "int_credit_grants_scheduled"),
    "amount": (*OF_REDEMPTIONS, *OF_BILLS, "int_credit_grants_scheduled"),
    "credit": (*OF_REDEMPTIONS, *OF_BILLS, "int_discounts_applied", "int_promotion_months_varied"),
    "duration": ("int_redemptions_known", "int_redemptions_judged"),
    "follow_up": ("int_redemptions_known", "int_redemption_windows_recorded"),
    "name": ("int_redemptions_with_terms", *OF_REDEMPTIONS, *OF_BILLS, "fct_discounted_charges"),
    "withdrawn": ("stg_billing__coupons", "dim_coupons"),
    "moved": ("stg_billing__coupons", "dim_coupons"),
    "added": ("stg_billing__coupons", "dim_coupons"),
}


@pytest.mark.parametrize(
    ("kind", "holds_from"),
    [(kind, None) for kind in NOT_RUN]
    + [(kind, date(2025, 3, 1)) for kind in ("percent", "amount", "credit", "duration")],
)
def test_models_that_read_no_changed_row_are_not_run(
    compiled: CompiledModels,
    many_worlds: duckdb.DuckDBPyConnection,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    holds_from: date | None,
) -> None:
    change = _of_kind(many_worlds, kind)
    ran = compiled.ask(many_worlds, [change], holds_from)
    found = answered(many_worlds)
    monkeypatch.setattr(
        concerned._Calculation, "_differs", lambda _, node: node.name not in OF_NOTES
    )
    every = compiled.ask(many_worlds, [change], holds_from)
    assert all_differences(found, answered(many_worlds), set()) == []
    assert ran.models < every.models
    assert ran.models.isdisjoint({*NOT_RUN[kind], *OF_NOTES})
    if kind not in ("name", "credit"):
        assert "fct_discount_applications" in ran.models
    if kind == "credit":
        assert "fct_credit_draws" in ran.models


def test_what_changes_no_bill_is_found_without_bills(compiled: CompiledModels) -> None:
    example = _example()
    example["coupons"][0] |= {"duration": "forever", "duration_invoices": ""}
    follow_up = {"follow_up_coupon_id": "CREDIT"}
    change = Change("coupons", {"coupon_id": "TWENTY", **follow_up}, is_withdrawn=False, place="")
    with compiled.recorded([example]) as connection:
        ran = compiled.ask(connection, [change])
        found = answered(connection)
    assert ran.workspaces == 1
    # The marts that sum over workspaces are built for the data tests.
    assert {"fct_upcoming_expirations", *SUMMED} <= ran.models
    assert ran.models.isdisjoint({"fct_discounted_charges", "int_benefits_given"})
    example["coupons"][0] |= follow_up
    assert all_differences(found, comparable(compiled.run([example])), OF_VERSIONS) == []


def test_recorded_rows_are_of_concerned_workspaces(many_worlds: duckdb.DuckDBPyConnection) -> None:
    """Models whose rows name no workspace, bill or redemption hold terms, deliveries or sums."""
    found = many_worlds.execute(
        "select table_name, list(column_name) from duckdb_columns() where database_name = 'recorded'"
        " and schema_name in ('staging', 'intermediate', 'marts') group by table_name"
    ).fetchall()
    of_others = {
        name
        for name, columns in found
        if not {"workspace_id", "invoice_id", "redemption_id"} & {*columns}
        and not name.startswith(("base_", "iso_", "stg_arrival__"))
    }
    assert of_others - {*concerned._DELIVERED, *concerned._CARRYING_ON, *SUMMED, *TERMS} == {
        *("stg_billing__coupons", "stg_billing__coupon_versions", "stg_billing__budgets"),
        *("int_coupon_versions_delivered", "int_coupon_findings_raised", concerned._FATES),
    }


def test_a_plan_shows_which_columns_a_model_reads(compiled: CompiledModels) -> None:
    models = compiled.of_questions.nodes
    terms = "int_redemptions_with_terms"
    assert "percent_off_e4" in models[terms].columns_read["stg_billing__coupons"]
    assert "coupon_name" not in models[terms].columns_read["stg_billing__coupons"]
    assert "percent_off_e4" in models["int_discounts_applied"].columns_read[terms]
    assert "invoice_limit" in models["int_redemption_invoices_covered"].columns_read[terms]
    # A column in a filter counts as read.
    assert "is_honoured" in models["int_redemption_invoices_covered"].columns_read[terms]
    for node in models.values():
        if node.schema in ("intermediate", "marts") and node.name != "int_deliveries_reconciled":
            assert node.named <= node.columns_read.keys(), (
                f"{node.name}: the plan is not understood"
            )


def test_what_is_carried_on_does_not_change_any_row(compiled: CompiledModels) -> None:
    """Only for such models may it be ignored whether what they read differs."""
    models = compiled.of_questions.nodes
    of_this_build = {
        node.name
        for node in models.values()
        if node.named & concerned._AGAIN and not node.is_incremental
    } - concerned._CARRYING_ON
    for node in models.values():
        if node.kind == "model" and node.named & of_this_build:
            assert node.is_incremental, f"{node.name} holds recalculated invoices only"
        if concerned._FATES in node.named and node.kind == "model":
            feed = node.name.removeprefix("stg_billing__")
            own = re.findall(r"fates\.feed = '(\w+)'", node.sql)
            others = {*concerned._DELIVERED, concerned._RECEIVED}
            assert own == [feed] or node.name in others


def test_a_question_receives_no_invoice(
    compiled: CompiledModels, many_worlds: duckdb.DuckDBPyConnection
) -> None:
    models = compiled.of_questions
    many_worlds.execute("use memory; detach warehouse")
    many_worlds.execute("attach ':memory:' as warehouse; use warehouse")
    many_worlds.execute("copy from database recorded to warehouse")
    [(last,)] = many_worlds.execute("select max(delivery_sequence) from raw.deliveries").fetchall()
    end = datetime.combine(compiled.as_of, time()) + timedelta(days=1)
    before = models.nodes["int_invoices_credited_before"]
    many_worlds.execute(f"create or replace table {before.relation} as {before.sql}")

    def received(after: int) -> int:
        moment = Moment(compiled.as_of, end, after, None)
        query = models.sql(models.nodes[concerned._RECEIVED], moment)
        [(count,)] = many_worlds.execute(f"select count(*) from ({query})").fetchall()
        return int(count)

    assert received(last) == 0
    assert received(0) > 0


def test_every_day_in_the_models_is_that_of_the_question(compiled: CompiledModels) -> None:
    models = compiled.of_questions
    end, first = datetime(2025, 6, 30, 10), datetime(2025, 2, 28, 10)
    moment = Moment(date(2025, 6, 30), end, 17, first)
    texts = [models.sql(node, moment) for node in models.nodes.values()]
    assert not [text for text in texts if re.search("4711|4712|987654321", text)]
    for expected in (f"'{end}'", f"'{first}'", "'2025-06-30'", "delivery_sequence > 17"):
        assert any(expected in text for text in texts)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Apia", "Etc/GMT+12"])
def test_the_days_of_any_time_zone_are_found_in_the_models(zone: str) -> None:
    calendar = ReportingCalendar(ZoneInfo(zone))
    sql = f"'{calendar.end_of(date(4711, 3, 9))}' '{calendar.first_instant(date(4712, 5, 5))}'"
    node = Node("any", "model", "marts", False, (), "", sql)
    moment = Moment(date(2025, 6, 30), datetime(2025, 7, 1), 17, datetime(2025, 2, 28))
    assert Models([node]).sql(node, moment) == "'2025-07-01 00:00:00' '2025-02-28 00:00:00'"


def test_a_user_and_a_limit_connect_workspaces(compiled: CompiledModels) -> None:
    example = _example()
    first = example["redemptions"][0]
    example["coupons"][0]["max_redemptions"] = "1"
    bills, workspace = list(example["invoices"]), example["workspaces"][0]
    for other, user in (("w2", "u"), ("w3", "another"), ("w4", "nobody")):
        example["workspaces"].append({**workspace, "workspace_id": other})
        example["invoices"] += [
            {**bill, "invoice_id": f"{other} {bill['invoice_id']}", "workspace_id": other}
            for bill in bills
        ]
        if user != "nobody":
            example["redemptions"].append(
                {**first, "redemption_id": other, "workspace_id": other, "user_id": user}
            )
    first["user_id"] = "u"
    change = Change("redemptions", {"redemption_id": "twenty"}, is_withdrawn=True, place="")
    found = compiled.run_question([example], [change])
    reasons = {
        row["redemption_id"]: row["refusal_reason"] for row in found["dim_coupon_redemptions"]
    }
    # One user's first redemption is gone, so the second is honoured and uses the coupon up.
    assert reasons == {"credit": None, "w2": None, "w3": "over_redeemed"}
    given = [
        (row["workspace_id"], row["discount_amount"])
        for row in found["fct_discounted_charges"]
        if row["discount_amount"]
    ]
    assert sorted(given) == [("w2", 20)] * 3
    assert len(found["fct_discounted_charges"]) == 24


def test_what_is_withdrawn_from_a_day_on_is_revoked_on_it(compiled: CompiledModels) -> None:
    change = Change("coupons", {"coupon_id": "CREDIT"}, is_withdrawn=True, place="")
    found = compiled.run_question([_example()], [change], date(2025, 3, 1))
    bills = sorted(found["fct_discounted_charges"], key=lambda row: str(row["invoice_id"]))
    assert [row["credit_amount"] for row in bills] == [80, 80, 0, 0, 0, 0]
    (credit,) = [row for row in found["dim_coupon_redemptions"] if row["redemption_id"] == "credit"]
    assert (credit["status"], credit["ends_at"]) == ("revoked", datetime(2025, 3, 1))
    lapsed = [row["amount"] for row in found["fct_credit_ledger"] if row["entry_type"] == "forfeit"]
    assert lapsed == [Decimal("-90.00")]


def test_grants_have_the_amount_of_the_day_they_start(compiled: CompiledModels) -> None:
    example = _example()
    example["coupons"][1] |= {
        "duration": "forever",
        "duration_months": "",
        "credit_period_months": "2",
        "credit_max_periods": "3",
    }
    change = Change(
        "coupons", {"coupon_id": "CREDIT", "credit_amount": "60"}, is_withdrawn=False, place=""
    )
    found = compiled.run_question([example], [change], date(2025, 4, 1))
    granted = {
        row["grant_id"]: row["amount"]
        for row in found["fct_credit_ledger"]
        if row["entry_type"] == "grant"
    }
    assert granted == {"credit#1": 250, "credit#2": 250, "credit#3": 60}


@pytest.fixture(scope="module")
def example(compiled: CompiledModels) -> Iterator[duckdb.DuckDBPyConnection]:
    """The build of the example, for questions."""
    with compiled.built([_example()]) as connection:
        yield connection


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"coupon_id": "TWENTY", "duration_invoices": "5"}, "duration_invoices cannot change"),
        ({"coupon_id": "TWENTY", "applies_to_plan": "team"}, "applies_to_plan cannot change"),
        ({"coupon_id": "TWENTY", "once_per": "unlimited"}, "once_per cannot change with --from"),
        ({"coupon_id": "TWENTY", "duration": "once"}, "where bills are counted"),
    ],
)
def test_what_is_settled_before_a_bill_cannot_change_from_a_day_on(
    example: duckdb.DuckDBPyConnection, values: dict[str, str], told: str
) -> None:
    change = Change("coupons", values, is_withdrawn=False, place="coupon TWENTY")
    with pytest.raises(WrongTerms, match=told):
        Asking(example, date(2025, 6, 30), datetime(2025, 3, 1)).rows([change])


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", date(2025, 3, 1)),
        ("Europe/Berlin", date(2025, 3, 30)),
        ("Europe/Berlin", date(2025, 10, 27)),
        ("America/St_Johns", date(2024, 2, 29)),
        ("Australia/Eucla", date(2025, 1, 1)),
        # In Cairo, the day begins at one o'clock; in Apia, 30 December 2011 was left out.
        ("Africa/Cairo", date(2025, 4, 25)),
        ("Pacific/Apia", date(2011, 12, 30)),
        ("Pacific/Kiritimati", date(1979, 4, 1)),
    ],
)
def test_a_day_begins_where_the_reporting_time_zone_says(zone: str, day: date) -> None:
    calendar = ReportingCalendar(ZoneInfo(zone))
    assert first_of_bills(day, day, zone) == calendar.first_instant(day)
    with duckdb.connect() as connection:
        connection.execute("create schema release")
        connection.execute(
            f"create table release.release as select '{zone}' as reporting_time_zone"
        )
        assert end_of(connection, day) == calendar.end_of(day)


@pytest.mark.parametrize(
    ("zone", "recorded_at", "asked_at"),
    [
        # In Los Angeles, a day ends at 07:00 UTC in summer.
        ("America/Los_Angeles", "2025-01-01T08:00:00Z", "2025-06-30T16:59:59"),
        ("UTC", "2025-01-01T00:00:00Z", "2025-06-30T23:59:59"),
    ],
)
def test_instants_without_an_offset_are_those_of_the_feed(
    example: duckdb.DuckDBPyConnection, zone: str, recorded_at: str, asked_at: str
) -> None:
    """The redemption `twenty` was recorded with redeemed_at 2025-01-01, without an offset."""

    def told(redeemed_at: str) -> list[str]:
        values = {"redemption_id": "twenty", "redeemed_at": redeemed_at}
        change = Change("redemptions", values, is_withdrawn=False, place="")
        zones = {"redemptions": zone}
        _, terms = Asking(example, date(2025, 6, 30), None, feed_zones=zones).rows([change])
        return terms

    with pytest.raises(WrongTerms, match="nothing would change"):
        told(recorded_at)
    assert told("2025-01-01T04:00:00Z")
    assert told(asked_at)
    after = (datetime.fromisoformat(asked_at) + timedelta(seconds=1)).isoformat()
    with pytest.raises(WrongTerms, match="would not be known yet"):
        told(after)


def test_a_record_of_the_last_instant_can_change(compiled: CompiledModels) -> None:
    example = _example()
    last = {"updated_at": "9999-12-31T23:59:59.999999Z"}
    example["coupons"][0] |= last
    example["redemptions"][0] |= {"ends_at": "9999-12-31T23:59:59Z", **last}
    changes = [
        Change(
            "coupons", {"coupon_id": "TWENTY", "percent_off": "50"}, is_withdrawn=False, place=""
        ),
        Change(
            "redemptions",
            {"redemption_id": "twenty", "ends_at": "9999-12-31T23:59:59.9-00:00"},
            is_withdrawn=False,
            place="",
        ),
    ]
    found = compiled.run_question([example], changes)
    bills = sorted(found["fct_discounted_charges"], key=lambda row: str(row["invoice_id"]))
    assert [row["discount_amount"] for row in bills] == [50, 50, 50, 0, 0, 0]
    beyond = {"redemption_id": "twenty", "ends_at": "9999-12-31T23:59:59-08:00"}
    with pytest.raises(concerned.Broken, match="redemption twenty: ends_at is"):
        compiled.run_question(
            [example], [Change("redemptions", beyond, is_withdrawn=False, place="")]
        )
