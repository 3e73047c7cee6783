"""From a Stripe account to a release: what is billed as agreed raises no finding, what is not does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import duckdb
import pytest

from dagster_project.cli.pull import refreshes_kept_out
from dagster_project.cli.run import refresh
from dagster_project.releases.errors import Busy
from dagster_project.releases.lock import one_writer
from dagster_project.settings import Settings
from dagster_project.sources import stripe_pull
from tests.sources.delivered import files
from tests.sources.stripe_objects import (
    at,
    coupon,
    credit_note,
    customer,
    discount,
    grant,
    invoice,
    line,
    price,
    removed,
    subscription,
)
from tests.sources.stripe_server import KEY, Account, serving

Json = dict[str, Any]
UNTIL = date(2025, 4, 30)
METERED = price("price_use", "prod_use", usage_type="metered")


def bill(number: int, lines: list[Json], month: int = 2, **more: Any) -> Json:
    """A bill of a month, with the periods of its lines; metered lines look back."""
    first, after = at(f"2025-{month:02}-01"), at(f"2025-{month + 1:02}-01")
    before = at(f"2025-{month - 1:02}-01")
    for one in lines:
        is_metered = one["pricing"]["price_details"]["price"] == "price_use"
        one["period"] = (
            {"start": before, "end": first} if is_metered else {"start": first, "end": after}
        )
    made = {"created": f"2025-{month:02}-01", "finalized": f"2025-{month:02}-01T01:00"}
    return invoice(f"in_{number}", lines, **{**made, **more})


def of(number: int) -> Json:
    """What the objects of a customer have in common."""
    return {"customer": f"cus_{number}", "subscription_id": f"sub_{number}"}


def an_account_billed_as_agreed() -> dict[str, list[Json]]:
    percent = coupon("QUARTER", percent=25, duration="repeating", duration_in_months=2)
    fixed = coupon("FIXED", amount_off=3_000, currency="usd")
    each = coupon(
        "EACH", amount_off=700, currency="usd", currency_options={"jpy": {"amount_off": 900}}
    )
    once = coupon("ONCE", percent=50, duration="once")
    limited = coupon("LIMITED", percent=10, applies_to={"products": ["prod_team"]})

    def given(number: int, what: Json, **more: Any) -> Json:
        places = {"customer": f"cus_{number}", "subscription": f"sub_{number}"}
        return discount(f"di_{number}", what, **{**places, **more})

    quarter = given(1, percent, end="2025-03-01")
    fixed_ = given(2, fixed)
    yen = given(3, each)
    half = given(4, once)
    ten = given(5, limited)
    again = [given(6, fixed), given(7, fixed, customer="cus_6")]
    taken = given(8, fixed)
    return {
        "prices": [price(), METERED, price("price_big", "prod_big")],
        "coupons": [percent, fixed, each, once, limited],
        "customers": [customer(f"cus_{number}") for number in (1, 2, 3, 4, 5, 6, 8, 9)],
        "subscriptions": [
            subscription("sub_1", customer="cus_1"),
            subscription("sub_2", [fixed_], customer="cus_2"),
            subscription("sub_3", [yen], customer="cus_3", currency="jpy"),
            subscription("sub_4", customer="cus_4"),
            subscription("sub_5", [ten], customer="cus_5"),
            subscription("sub_6", [again[0]], customer="cus_6"),
            subscription("sub_7", [again[1]], customer="cus_6"),
            subscription("sub_8", customer="cus_8"),
            subscription("sub_9", customer="cus_9"),
        ],
        "events": [removed(taken, at("2025-02-20"))],
        "credit_grants": [grant("credgr_9", 10_000, customer="cus_9", expires_at=at("2025-06-01"))],
        "invoices": [
            bill(1, [line(discounts={"di_1": 3_000})], discounts=[quarter], tax=810, **of(1)),
            bill(2, [line()], month=3, **of(1)),
            bill(
                3,
                [line(amount=5_000, discounts={"di_2": 3_000})],
                discounts=[fixed_],
                inclusive=320,
                **of(2),
            ),
            bill(
                4,
                [line(amount=5_000, discounts={"di_3": 900})],
                discounts=[yen],
                currency="jpy",
                **of(3),
            ),
            # A trial uses nothing up; the first bill above zero does.
            bill(5, [line(amount=0)], discounts=[half], **of(4)),
            bill(6, [line(discounts={"di_4": 6_000})], month=3, discounts=[half], **of(4)),
            bill(7, [line()], month=4, **of(4)),
            # A coupon for one product, beside another product and a proration.
            bill(
                8,
                [
                    line("il_1", discounts={"di_5": 1_200}),
                    line("il_2", 4_000, price_id="price_use", product="prod_use"),
                    line("il_3", 2_000, proration=True),
                ],
                discounts=[ten],
                **of(5),
            ),
            # The same coupon on two subscriptions of one customer.
            bill(9, [line(discounts={"di_6": 3_000})], discounts=[again[0]], **of(6)),
            bill(
                10,
                [line(discounts={"di_7": 3_000})],
                discounts=[again[1]],
                customer="cus_6",
                subscription_id="sub_7",
            ),
            bill(11, [line(discounts={"di_8": 3_000})], discounts=[taken], **of(8)),
            bill(12, [line()], month=3, **of(8)),
            # Credit pays metered lines; a voided bill gives it back; money comes back.
            bill(13, [line(), line("il_2", 7_000, price_id="price_use", credit=7_000)], **of(9)),
            bill(
                14,
                [line(), line("il_2", 2_000, price_id="price_use", credit=2_000)],
                month=3,
                status="void",
                **of(9),
            ),
            bill(
                15,
                [line(), line("il_2", 5_000, price_id="price_use", credit=3_000)],
                month=4,
                **of(9),
            ),
            bill(
                16,
                [line(amount=-9_000, proration=True), line("il_2", 2_500, proration=True)],
                month=4,
                finalized="2025-04-16",
                **of(9),
            ),
            bill(17, [line(f"il_{one}", 700) for one in range(13)], month=4, **of(1)),
        ],
        "credit_notes": [credit_note(invoice="in_2", customer="cus_1", total=1_190, tax=190)],
    }


def an_account_with_discounts_of_several_levels() -> dict[str, list[Json]]:
    """Bills on which one discount takes the place of another, or that were made before one began."""
    fifth = coupon("FIFTH", percent=20, max_redemptions=1)
    tenth = coupon("TENTH", percent=10, duration="repeating", duration_in_months=1)
    first = coupon("FIRST", percent=50, duration="once")
    seat = coupon("SEAT", percent=10, applies_to={"products": ["prod_team"]})
    fixed = coupon("FIXED", amount_off=3_000, currency="usd")

    def of_customer(number: int, what: Json, start: str = "2025-01-01", **more: Any) -> Json:
        places = {"customer": f"cus_{number}", "subscription": None}
        return discount(f"di_{number}", what, start, **{**places, **more})

    def of_subscription(number: int, what: Json, start: str = "2025-01-01", **more: Any) -> Json:
        places = {"customer": f"cus_{number}", "subscription": f"sub_{number}"}
        return discount(f"di_{number}s", what, start, **{**places, **more})

    wide, own = of_customer(21, fifth), of_subscription(21, tenth, "2025-02-20", end="2025-03-20")
    whole, always = of_customer(22, fixed), of_subscription(22, seat)
    late = of_customer(23, fixed, "2025-03-01T00:30")
    ends = of_subscription(24, tenth, "2025-02-01T00:30", end="2025-03-01T00:30")
    gone, again = of_subscription(25, fixed), of_subscription(25, fixed, "2025-03-10", id="di_25t")
    kept, alone = of_customer(26, fixed), of_customer(26, seat, id="di_26i", invoice="in_264")
    waits, used = of_customer(27, first), of_subscription(27, tenth, end="2025-02-20")
    narrow = of_customer(28, seat)
    welcome = coupon("WELCOME", percent=50, duration="once", applies_to={"products": ["prod_team"]})
    idle, beside = of_subscription(29, seat), of_subscription(29, fixed, id="di_29f")
    later, steady = of_subscription(30, welcome), of_subscription(30, fixed, id="di_30f")
    second: Json = {"customer": "cus_21", "subscription_id": "sub_21b"}
    other: Json = {"customer": "cus_28", "subscription_id": "sub_28b"}
    big: Json = {"price_id": "price_big", "product": "prod_big"}
    night: Json = {"created": "2025-03-01T00:00", "finalized": "2025-03-01T01:00"}
    return {
        "prices": [price(), METERED, price("price_big", "prod_big")],
        "coupons": [fifth, tenth, first, seat, fixed, welcome],
        "customers": [
            *(
                customer(f"cus_{number}", discount=found)
                for number, found in (
                    *((21, wide), (22, whole), (23, late), (26, kept), (28, narrow)),
                    *((24, None), (25, None), (27, None), (29, None), (30, None)),
                )
            )
        ],
        "subscriptions": [
            subscription("sub_21", customer="cus_21"),
            subscription("sub_21b", customer="cus_21"),
            subscription("sub_22", [always], customer="cus_22"),
            subscription("sub_23", customer="cus_23"),
            subscription("sub_24", customer="cus_24"),
            subscription("sub_25", [again], customer="cus_25"),
            subscription("sub_26", customer="cus_26"),
            subscription("sub_27", customer="cus_27"),
            subscription("sub_28", customer="cus_28"),
            subscription("sub_28b", customer="cus_28"),
            subscription("sub_29", [idle, beside], customer="cus_29"),
            subscription("sub_30", [steady], customer="cus_30"),
        ],
        "events": [removed(gone, at("2025-02-20")), removed(waits, at("2025-03-01"), "evt_2")],
        "invoices": [
            # The customer's discount, then the subscription's in its place, then the customer's.
            bill(211, [line(discounts={"di_21": 2_400})], discounts=[wide], **of(21)),
            bill(212, [line(discounts={"di_21s": 1_200})], 3, discounts=[own], **of(21)),
            bill(213, [line(discounts={"di_21": 2_400})], 4, discounts=[wide], **of(21)),
            bill(214, [line(discounts={"di_21": 2_400})], 3, discounts=[wide], **second),
            bill(215, [line(discounts={"di_21": 2_400})], 4, discounts=[wide], **second),
            bill(
                216,
                [line(discounts={"di_21": 2_400}, subscription_id=None)],
                3,
                finalized="2025-03-11",
                discounts=[wide],
                customer="cus_21",
                subscription_id=None,
            ),
            # The customer's discount is set aside always.
            bill(221, [line(discounts={"di_22s": 1_200})], discounts=[always], **of(22)),
            bill(222, [line(discounts={"di_22s": 1_200})], 3, discounts=[always], **of(22)),
            # A discount that began, and one that ended, while a draft waited to be finalized.
            bill(231, [line()], 3, **night, **of(23)),
            bill(232, [line(discounts={"di_23": 3_000})], 4, discounts=[late], **of(23)),
            bill(241, [line(discounts={"di_24s": 1_200})], 3, discounts=[ends], **night, **of(24)),
            bill(242, [line()], 4, **of(24)),
            # One that was taken off and given again.
            bill(251, [line(discounts={"di_25s": 3_000})], discounts=[gone], **of(25)),
            bill(252, [line()], 3, **of(25)),
            bill(253, [line(discounts={"di_25t": 3_000})], 4, discounts=[again], **of(25)),
            # A bill's own discount takes the place of the customer's.
            bill(263, [line(discounts={"di_26": 3_000})], 3, discounts=[kept], **of(26)),
            bill(264, [line(discounts={"di_26i": 1_200})], 4, discounts=[alone], **of(26)),
            # A coupon for one bill waits until no other discount stands in its place.
            bill(271, [line(discounts={"di_27s": 1_200})], discounts=[used], **of(27)),
            bill(272, [line(discounts={"di_27": 6_000})], 3, discounts=[waits], **of(27)),
            bill(273, [line()], 4, **of(27)),
            # A coupon for a product that the other subscription does not bill.
            bill(281, [line(discounts={"di_28": 1_200})], 3, discounts=[narrow], **of(28)),
            bill(282, [line(**big)], 3, **other),
            # One that no line qualifies for, beside one that acts on the bill.
            bill(
                291, [line(discounts={"di_29f": 3_000}, **big)], discounts=[idle, beside], **of(29)
            ),
            bill(
                292,
                [line(discounts={"di_29s": 1_200, "di_29f": 3_000})],
                3,
                discounts=[idle, beside],
                **of(29),
            ),
            bill(
                301, [line(discounts={"di_30f": 3_000}, **big)], discounts=[later, steady], **of(30)
            ),
            bill(
                302,
                [line(discounts={"di_30s": 6_000, "di_30f": 3_000})],
                3,
                discounts=[later, steady],
                **of(30),
            ),
            bill(303, [line(discounts={"di_30f": 3_000})], 4, discounts=[steady], **of(30)),
        ],
    }


def an_account_of_odd_money() -> dict[str, list[Json]]:
    """Currencies with units of their own, credit that ends, and bills that nobody pays."""
    krona = coupon("KRONA", amount_off=50_000, currency="isk")
    half = coupon("HALF", percent=50, duration="once")
    coupons = [krona, half]
    customers: list[Json] = [customer(f"cus_{number}") for number in (41, 42, 43, 44)]
    subscriptions: list[Json] = []
    invoices: list[Json] = []

    def take(number: int, what: Json, taken: int, amount: int, currency: str) -> None:
        """Bill a customer of its own with a discount, twice."""
        name, places = (
            f"cus_{number}",
            {"customer": f"cus_{number}", "subscription": f"sub_{number}"},
        )
        found = discount(f"di_{number}", what, **places)
        customers.append(customer(name, currency=currency))
        subscriptions.append(
            subscription(f"sub_{number}", [found], customer=name, currency=currency)
        )
        for month in (2, 3):
            lines = [line(amount=amount, discounts={f"di_{number}": taken})]
            invoices.append(
                bill(number * 10 + month, lines, month, discounts=[found], currency=currency)
            )
            invoices[-1].update(customer=name)
            invoices[-1]["parent"]["subscription_details"]["subscription"] = f"sub_{number}"

    take(31, krona, 50_000, 1_000_000, "isk")
    for number, currency in ((32, "mga"), (33, "ugx"), (34, "huf"), (35, "twd"), (36, "krw")):
        coupons.append(coupon(currency.upper(), percent=10))
        take(number, coupons[-1], 100_000, 1_000_000, currency)
    used = discount("di_44", half, customer="cus_44", subscription="sub_44")

    def with_use(amount: int, credit: int = 0) -> list[Json]:
        return [line(), line("il_2", amount, price_id="price_use", credit=credit)]

    return {
        "prices": [price(), METERED],
        "coupons": coupons,
        "customers": customers,
        "subscriptions": [
            *subscriptions,
            *(subscription(f"sub_{one}", customer=f"cus_{one}") for one in (41, 42, 43)),
            subscription("sub_44", customer="cus_44"),
        ],
        "credit_grants": [
            grant("credgr_41", 10_000, customer="cus_41", voided_at=at("2025-03-15")),
            grant("credgr_42", 10_000, customer="cus_42", expires_at=at("2025-03-01")),
            grant("credgr_43", 10_000, customer="cus_43", priority=100),
            grant("credgr_43b", 3_000, customer="cus_43", priority=0),
        ],
        "invoices": [
            *invoices,
            bill(411, with_use(4_000, 4_000), **of(41)),
            bill(412, with_use(4_000), 4, **of(41)),
            bill(421, with_use(4_000, 4_000), **of(42)),
            bill(422, with_use(4_000), 3, status="uncollectible", **of(42)),
            bill(431, with_use(4_000, 4_000), **of(43)),
            bill(432, with_use(12_000, 9_000), 3, status="open", **of(43)),
            # A void bill uses no coupon up: the next one takes it.
            bill(
                441, [line(discounts={"di_44": 6_000})], status="void", discounts=[used], **of(44)
            ),
            bill(442, [line(discounts={"di_44": 6_000})], 3, discounts=[used], **of(44)),
            bill(443, [line()], 4, **of(44)),
            bill(444, [line()], 4, status="draft", finalized=None, **of(44)),
        ],
        "credit_notes": [
            credit_note(
                "cn_44", 6_000, 0, invoice="in_442", customer="cus_44", pre_payment_amount=6_000
            ),
            credit_note("cn_44v", 6_000, 0, invoice="in_442", customer="cus_44", status="void"),
        ],
    }


def findings(settings: Settings) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(settings.current), read_only=True) as connection:
        return connection.execute(
            "select finding_type, invoice_id, redemption_id from marts.fct_audit_findings order by all"
        ).fetchall()


def given(settings: Settings) -> dict[str, str]:
    """What discounts and credit gave to the customers of the first account, by bill."""
    with duckdb.connect(str(settings.current), read_only=True) as connection:
        return dict(
            connection.execute(
                "select invoice_id, (discount_amount + credit_amount)::varchar"
                " from marts.fct_discounted_charges where discount_amount + credit_amount <> 0"
                " and length(workspace_id) = 5"
            ).fetchall()
        )


def with_all_of(*accounts: dict[str, list[Json]]) -> dict[str, list[Json]]:
    """Several accounts as one; what they have in common is there once."""
    found: dict[str, dict[str, Json]] = {}
    for account in accounts:
        for kind, objects in account.items():
            found.setdefault(kind, {}).update((one["id"], one) for one in objects)
    return {kind: list(objects.values()) for kind, objects in found.items()}


@contextmanager
def refreshing(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Run a refresh in a process of its own, from when it has the data home to itself."""
    command = [
        *(sys.executable, "-m", "dagster_project.cli", "run", "--as-of", UNTIL.isoformat()),
        *("--home", str(settings.home), "--landing", str(settings.landing)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.strip().startswith("prepare"))
        yield process
        process.stdout.read()
        assert process.wait() == 0


def test_what_is_billed_as_agreed_raises_no_finding_and_what_is_forgotten_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = with_all_of(
        an_account_billed_as_agreed(),
        an_account_with_discounts_of_several_levels(),
        an_account_of_odd_money(),
    )
    monkeypatch.setenv("STRIPE_API_KEY", KEY)
    waited: list[bool] = []

    @contextmanager
    def exclusively() -> Iterator[None]:
        """Be sure that the refresh runs, and wait for its end as the command does."""
        with pytest.raises(Busy), one_writer(settings.home, "a test"):
            pass
        assert len(files(settings.landing)) == 5, "nothing is delivered while it runs"
        with refreshes_kept_out(settings, "a pull")():
            waited.append(True)
            yield

    with serving(Account(objects)) as base:
        monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base)
        report = stripe_pull.pull(settings, now=lambda: float(at("2025-05-01")))
        assert report.refused == []
        with refreshing(settings):
            objects["invoices"] += [
                bill(18, [line()], month=4, **of(2)),
                bill(19, [line()], month=4, finalized="2025-04-02", **of(26)),
            ]
            stripe_pull.pull(settings, now=lambda: float(at("2025-05-02")), exclusively=exclusively)
    assert waited
    assert findings(settings) == []
    assert given(settings) == {
        "in_1": "30.00",
        "in_3": "30.00",
        "in_4": "900.00",
        "in_6": "60.00",
        "in_8": "12.00",
        "in_9": "30.00",
        "in_10": "30.00",
        "in_11": "30.00",
        "in_13": "70.00",
        "in_15": "30.00",
    }
    assert refresh(settings, UNTIL)
    assert findings(settings) == [
        ("under_discounted", "in_18", None),
        ("under_discounted", "in_19", None),
    ]
