"""What would be under other terms is what the reference model makes of them.

Without a day, that is the model over the changed records. With one, bills issued earlier keep what recorded
terms gave them, and later ones find the uses and the credit that those left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dagster_project.feeds import feeds
from dagster_project.refresh.what_if import OF_A_BILL, Change, WrongTerms
from tests.dbt.compiled import CompiledModels
from tests.reference import histories, model
from tests.reference.agreement import PROVENANCE, all_differences

Marts = Mapping[str, list[dict[str, object]]]

SOME = settings(
    deadline=None,
    max_examples=20,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)
WORLDS = st.lists(histories.workspace_histories(), min_size=1, max_size=12)
DAYS = st.dates(date(2023, 1, 1), date(2027, 6, 1))
# A question is a further version of a coupon, which no finding tells.
OF_VERSIONS = {"updated_at", *PROVENANCE}


def newest(records: histories.Records, feed: str) -> dict[object, dict[str, object]]:
    """The versions that hold, by id, in the order of arrival."""
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
    """Change some coupons, in some of the columns: what is recorded then, and how that is asked."""
    random = Random(seed)
    coupons = newest(records, "coupons")
    changes = []
    for coupon_id, coupon in coupons.items():
        values = {
            name: to
            for name in columns
            for to in _others(coupon, name, random)
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


def _others(coupon: Mapping[str, object], name: str, random: Random) -> list[object]:
    """At most one other value of a column that a coupon of its kind may have."""
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
        return (
            [random.choice((None, *histories.COUPON_IDS[:1]))] if random.randrange(4) == 0 else []
        )
    if name == "once_per":
        return [random.choice(("user", "workspace", "unlimited"))] if duration else []
    return []


def comparable(marts: Marts) -> dict[str, list[dict[str, object]]]:
    """Marts without the findings that tell of a further version."""
    findings = [
        row for row in marts["fct_audit_findings"] if row["finding_type"] != "coupon_terms_changed"
    ]
    return {**marts, "fct_audit_findings": findings}


@SOME
@given(worlds=WORLDS, seed=histories.SEEDS)
def test_terms_of_all_the_past_are_those_of_the_model(
    compiled: CompiledModels, worlds: list[histories.Records], seed: int
) -> None:
    records = histories.combine(worlds)
    columns = (*OF_A_BILL, "duration_invoices", "follow_up_coupon_id", "once_per")
    changed, changes = asked(records, seed, columns)
    if not changes:
        return
    found = compiled.run_question([histories.as_deliveries(records)], changes)
    expected = model.publish(changed, compiled.as_of)
    assert all_differences(comparable(found), comparable(expected), OF_VERSIONS) == []


@SOME
@given(worlds=WORLDS, seed=histories.SEEDS, holds_from=DAYS)
def test_terms_from_a_day_on_are_those_of_the_model(
    compiled: CompiledModels, worlds: list[histories.Records], seed: int, holds_from: date
) -> None:
    _from_a_day_on(compiled, histories.combine(worlds), seed, holds_from)


@pytest.mark.parametrize("seed", range(4))
def test_terms_of_many_worlds_from_a_day_on(compiled: CompiledModels, seed: int) -> None:
    records = histories.combine(histories.sample_worlds(120, seed=7000 + seed))
    days = (date(2024, 2, 29), date(2024, 9, 30), date(2025, 4, 1), date(2025, 10, 1))
    assert _from_a_day_on(compiled, records, seed, days[seed])


def _from_a_day_on(
    compiled: CompiledModels, records: histories.Records, seed: int, holds_from: date
) -> bool:
    changed, changes = asked(records, seed, OF_A_BILL)
    deliveries = [histories.as_deliveries(records)]
    # What a follow-up that nobody recorded lasts is refused, where it would differ before that day.
    while changes:
        try:
            found = compiled.run_question(deliveries, changes, holds_from)
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
    assert all_differences(comparable(found), comparable(expected), OF_VERSIONS) == []
    first = datetime.combine(holds_from, datetime.min.time())
    recorded = compiled.run(deliveries)
    assert _given_before(found, first) == _given_before(recorded, first)
    return True


def _given_before(marts: Marts, first: datetime) -> list[tuple[object, ...]]:
    """What coupons and credit gave on bills issued before an instant."""
    return sorted(
        tuple(
            row[name] for name in ("invoice_id", "discount_amount", "credit_amount", "net_amount")
        )
        for row in marts["fct_discounted_charges"]
        if row["issued_at"] < first  # type: ignore[operator]
    )
