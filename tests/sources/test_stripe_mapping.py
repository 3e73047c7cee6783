"""What each of Stripe's objects becomes in the feeds, and what becomes of none."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dagster_project.cli.pull import NOTES
from dagster_project.feeds import feeds
from dagster_project.sources.stripe_books import Books, parsed
from dagster_project.sources.stripe_mapping import AccountMapping
from dagster_project.sources.stripe_money import NotAnAmount, amount_text, percent_text
from dagster_project.sources.stripe_objects import Choices, Remembered
from dagster_project.sources.stripe_outcome import COLUMNS
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

NOW = at("2025-06-01")
Json = dict[str, Any]
METERED = price("price_use", "prod_use", usage_type="metered")


class Mapped:
    """The rows that objects become, by feed and key, with refusals and notes by id."""

    def __init__(
        self,
        choices: Choices | None = None,
        remembered: Remembered | None = None,
        now: int = NOW,
        began: int | None = None,
        **objects: list[Json],
    ) -> None:
        books = Books(":memory:")
        books.begin({})
        given = {"prices": [price(), METERED], "customers": [customer()], **objects}
        for kind, found in parsed(json.dumps(given)).items():
            books.take(kind, found)
        self.remembered = remembered or Remembered()
        mapping = AccountMapping(books, self.remembered, choices or Choices(), now, began)
        self.rows: dict[str, dict[str, Json]] = {feed: {} for feed in COLUMNS}
        for feed, row in mapping.rows():
            assert {*row, "updated_at"} == set(COLUMNS[feed])
            self.rows[feed][row[COLUMNS[feed][0]] or ""] = row
        self.refused = {one.id: one.why for one in mapping.refused}
        self.notes = {(one.kind, one.id): one.text for one in mapping.notes}
        books.close()

    def invoice(self, invoice_id: str = "in_1") -> Json:
        return self.rows["invoices"][invoice_id]

    def redemption(self, redemption_id: str = "di_1") -> Json:
        return self.rows["redemptions"][redemption_id]


def test_every_delivered_column_is_one_of_the_contract() -> None:
    for feed, columns in COLUMNS.items():
        assert set(columns) <= set(feeds()[feed].column_names)
        assert set(feeds()[feed].required_names) <= set(columns)


# -- Money -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (12_345, "usd", "123.45"),
        (5, "eur", "0.05"),
        (-5, "eur", "-0.05"),
        (-12_345, "eur", "-123.45"),
        (0, "huf", "0.00"),
        (12_350, "huf", "123.50"),
        (80_001, "twd", "800.01"),
        (1_250, "jpy", "1250"),
        (-7, "krw", "-7"),
        (1_250, "mga", "1250"),
        (1_200, "isk", "12"),
        (-1_200, "ugx", "-12"),
    ],
)
def test_amounts_are_divided_by_stripes_own_table(amount: int, currency: str, text: str) -> None:
    assert amount_text(amount, currency) == text


@pytest.mark.parametrize(
    ("amount", "currency"), [(1_250, "isk"), (1, "ugx"), (1_000, "bhd"), (5, "x"), (5.0, "usd")]
)
def test_an_amount_that_cannot_be_is_refused(amount: Any, currency: str) -> None:
    with pytest.raises(NotAnAmount):
        amount_text(amount, currency)


def test_a_percentage_keeps_its_digits() -> None:
    assert percent_text(Decimal("33.33")) == "33.33"
    assert percent_text(Decimal("20.0")) == "20"
    assert percent_text(100) == "100"
    for wrong in (Decimal("33.33333"), Decimal(0), Decimal("100.1")):
        with pytest.raises(NotAnAmount):
            percent_text(wrong)


# -- Invoices --------------------------------------------------------------------------------------


def test_the_list_amount_is_the_sum_of_the_lines_before_discounts() -> None:
    lines = [line("il_1", 9_900, {"di_1": 990}), line("il_2", 2_050, {"di_1": 205})]
    row = Mapped(
        invoices=[invoice(lines=lines, tax=1_500, discounts=[discount()])],
        coupons=[coupon(percent=10)],
    ).invoice()
    amounts = [row[f"{name}_amount"] for name in ("list", "discount", "credit", "tax", "total")]
    assert amounts == ["119.50", "11.95", "0.00", "15.00", "122.55"]
    assert row["discountable_amount"] == "119.50"


def test_tax_inside_the_prices_stays_in_the_list_amount() -> None:
    mapped = Mapped(invoices=[invoice(inclusive=1_916)])
    assert mapped.invoice()["tax_amount"] == "0.00"
    assert mapped.invoice()["total_amount"] == "120.00"
    assert "19.16 USD" in mapped.notes["tax_in_the_price", "in_1"]


def test_a_bill_that_does_not_add_up_is_refused_with_its_difference() -> None:
    mapped = Mapped(invoices=[invoice(total=11_999), invoice("in_2")])
    assert set(mapped.rows["invoices"]) == {"in_2"}
    assert "a difference of -0.01 USD" in mapped.refused["in_1"]


def test_shipping_is_part_of_the_list_amount() -> None:
    shipping = {"amount_subtotal": 500, "amount_total": 500}
    row = Mapped(invoices=[invoice(total=12_500, shipping_cost=shipping)]).invoice()
    assert (row["list_amount"], row["discountable_amount"]) == ("125.00", "120.00")


@pytest.mark.parametrize(
    ("currency", "amount", "why"),
    [("kwd", 12_000, "three decimal places"), ("isk", 12_050, "no amount in ISK")],
)
def test_a_currency_that_cannot_be_refuses_the_bill(currency: str, amount: int, why: str) -> None:
    mapped = Mapped(invoices=[invoice(lines=[line(amount=amount)], currency=currency)])
    assert why in mapped.refused["in_1"]
    assert mapped.rows["invoices"] == {}


def test_a_bill_without_customer_is_refused() -> None:
    mapped = Mapped(invoices=[invoice(customer=None, customer_account="acct_1")])
    assert "no customer (only the account acct_1)" in mapped.refused["in_1"]


def test_an_amount_that_is_no_whole_number_is_never_rounded() -> None:
    mapped = Mapped(invoices=[invoice(lines=[line(amount=12_000, subtotal=12_000.4)])])
    assert "12000.4" in mapped.refused["in_1"]


def test_drafts_wait_and_every_other_status_is_delivered() -> None:
    statuses = ("open", "paid", "void", "uncollectible")
    mapped = Mapped(
        invoices=[
            invoice("in_draft", status="draft", finalized=None),
            *(invoice(f"in_{status}", status=status) for status in statuses),
        ]
    )
    assert {row["status"] for row in mapped.rows["invoices"].values()} == set(statuses)
    assert mapped.refused == {}


def test_a_bill_is_of_the_plan_of_its_largest_licensed_line() -> None:
    lines = [
        line("il_1", 2_000, price_id="price_seat", product="prod_seat"),
        line("il_2", 5_000),
        line("il_3", 90_000, price_id="price_use", product="prod_use", start="2025-01-01"),
    ]
    seat = price("price_seat", "prod_seat", interval="year", interval_count=2)
    row = Mapped(invoices=[invoice(lines=lines)], prices=[price(), METERED, seat]).invoice()
    assert (row["plan"], row["billing_interval"], row["interval_count"]) == (
        "prod_team",
        "month",
        "1",
    )
    assert (row["period_start"], row["period_end"]) == ("2025-02-01", "2025-03-01")


def test_a_bill_of_use_alone_looks_back() -> None:
    lines = [line(price_id="price_use", product="prod_use", start="2025-01-01", end="2025-02-01")]
    row = Mapped(invoices=[invoice(lines=lines)]).invoice()
    assert (row["plan"], row["period_start"], row["period_end"]) == (
        *("prod_use", "2025-01-01", "2025-02-01"),
    )


@pytest.mark.parametrize(
    ("interval", "count"), [("day", 1), ("week", 2), ("month", 3), ("month", 6), ("year", 1)]
)
def test_an_interval_is_delivered_with_its_count(interval: str, count: int) -> None:
    row = Mapped(
        invoices=[invoice()], prices=[price(interval=interval, interval_count=count)]
    ).invoice()
    assert (row["billing_interval"], row["interval_count"]) == (interval, str(count))


def test_a_bill_that_does_not_recur_is_one_off() -> None:
    once = price("price_once", "prod_setup", interval=None)
    lines = [
        line(
            price_id="price_once",
            product="prod_setup",
            of_subscription=False,
            subscription_id=None,
            start="2025-02-01T10:00",
            end="2025-02-01T10:00",
        )
    ]
    row = Mapped(invoices=[invoice(lines=lines, subscription_id=None)], prices=[once]).invoice()
    assert (row["plan"], row["billing_interval"], row["interval_count"]) == ("one_off", "once", "1")
    assert (row["period_start"], row["period_end"]) == ("2025-02-01", "2025-02-02")
    assert row["subscription_id"] is None


def test_a_recurring_line_whose_price_is_unknown_refuses_the_bill() -> None:
    mapped = Mapped(invoices=[invoice(lines=[line(price_id="price_gone")])], prices=[])
    assert "price_gone" in mapped.refused["in_1"]


def test_the_price_of_an_item_says_how_often_it_is_billed_where_no_list_does() -> None:
    items = {"data": [{"id": "si_1", "price": price(interval="year")}], "has_more": False}
    row = Mapped(
        invoices=[invoice()], prices=[], subscriptions=[subscription(items=items)]
    ).invoice()
    assert row["billing_interval"] == "year"


def test_money_back_is_a_negative_bill_that_nothing_acts_on() -> None:
    lines = [line("il_1", -7_000, proration=True), line("il_2", 1_500, proration=True)]
    mapped = Mapped(
        invoices=[invoice(lines=lines, tax=-550, starting_balance=0, ending_balance=-6_050)]
    )
    row = mapped.invoice()
    amounts = [
        row[f"{name}_amount"] for name in ("list", "discountable", "discount", "tax", "total")
    ]
    assert amounts == ["-55.00", "0.00", "0.00", "-5.50", "-60.50"]
    assert "from 0.00 USD to -60.50 USD" in mapped.notes["customer_balance", "in_1"]


def test_a_discount_that_is_taken_back_comes_off_the_list_amount() -> None:
    lines = [line(amount=-7_000, discounts={"di_1": -700}, proration=True)]
    mapped = Mapped(invoices=[invoice(lines=lines)])
    assert mapped.invoice()["list_amount"] == "-63.00"
    assert mapped.invoice()["discount_amount"] == "0.00"
    assert ("discount_given_back", "in_1") in mapped.notes


@pytest.mark.parametrize(
    ("old", "terms", "amounts"),
    [
        ("di_1", {"percent": 20}, ["80.00", "16.00", "80.00"]),
        ("di_1", {"amount_off": 2_000, "currency": "usd"}, ["84.00", "20.00", "84.00"]),
        ("di_old", {"percent": 20}, ["84.00", "20.00", "84.00"]),
    ],
)
def test_money_back_gives_back_the_discount_it_was_billed_with(
    old: str, terms: Json, amounts: list[str]
) -> None:
    lines = [line("il_1", 10_000, {"di_1": 2_000}), line("il_2", -2_000, {old: -400}, item="si_2")]
    lines[1]["discountable"] = False
    mapped = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])],
        coupons=[coupon(**terms), coupon("OLD", 20)],
        subscriptions=[subscription(discounts=[discount()])],
        events=[removed(discount("di_old", "OLD"), at("2025-01-20"))],
    )
    names = ("list", "discount", "discountable")
    assert [mapped.invoice()[f"{name}_amount"] for name in names] == amounts
    assert (("discount_given_back", "in_1") in mapped.notes) is (amounts[0] == "84.00")
    assert mapped.redemption("di_old")["revoked_at"] == "2025-01-20T00:00:00Z"


@pytest.mark.parametrize(
    ("back", "amounts"),
    [
        (-5_000, ["50.00", "50.00", "50.00", "0.00", "0.00"]),
        (-5_001, ["-0.01", "0.00", "0.00", "0.00", "-0.01"]),
        (-8_000, ["-30.00", "0.00", "0.00", "-5.70", "-35.70"]),
    ],
)
def test_a_bill_that_gives_money_back_after_its_discount_takes_none(
    back: int, amounts: list[str]
) -> None:
    lines = [line("il_1", 10_000, {"di_1": 5_000}), line("il_2", back, proration=True)]
    tax = -570 if back == -8_000 else 0
    mapped = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()], tax=tax)],
        coupons=[coupon(percent=50)],
    )
    names = ("list", "discountable", "discount", "tax", "total")
    assert [mapped.invoice()[f"{name}_amount"] for name in names] == amounts
    assert (("discount_given_back", "in_1") in mapped.notes) is (back < -5_000)


def test_shipping_counts_for_whether_a_bill_gives_money_back() -> None:
    lines = [line("il_1", 10_000, {"di_1": 5_000}), line("il_2", -8_000, proration=True)]
    shipping = {"amount_subtotal": 3_000, "amount_total": 3_000}
    row = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()], total=0, shipping_cost=shipping)],
        coupons=[coupon(percent=50)],
    ).invoice()
    assert (row["list_amount"], row["discount_amount"]) == ("50.00", "50.00")


def test_tax_that_goes_back_without_money_is_refused() -> None:
    for amount, is_refused in ((-100, False), (0, True), (100, True)):
        mapped = Mapped(invoices=[invoice(lines=[line(amount=amount, proration=True)], tax=-1)])
        assert ("0.01 USD of tax back" in mapped.refused.get("in_1", "")) is is_refused, amount


def test_prorations_are_not_discountable() -> None:
    lines = [line("il_1", 4_000, {"di_1": 400}), line("il_2", 2_500, proration=True)]
    row = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])], coupons=[coupon(percent=10)]
    ).invoice()
    assert (row["list_amount"], row["discountable_amount"]) == ("65.00", "40.00")


def test_discountable_is_what_the_discounts_of_a_bill_act_on() -> None:
    lines = [line("il_1", 4_000, {"di_1": 400}), line("il_2", 2_500, product="prod_other")]
    row = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])], coupons=[coupon(percent=10)]
    ).invoice()
    assert row["discountable_amount"] == "40.00"


def test_a_coupon_of_a_product_that_is_not_on_the_bill_can_act_on_nothing() -> None:
    limited = coupon(percent=10, applies_to={"products": ["prod_other"]})
    row = Mapped(invoices=[invoice(discounts=[discount()])], coupons=[limited]).invoice()
    assert row["discountable_amount"] == "0.00"


def test_discounts_that_act_on_different_lines_are_named_and_their_base_left_open() -> None:
    lines = [line("il_1", 4_000, {"di_1": 400}), line("il_2", 2_500, {"di_2": 500}, item="si_2")]
    mapped = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])], coupons=[coupon(percent=10)]
    )
    assert mapped.invoice()["discount_amount"] == "9.00"
    assert mapped.invoice()["discountable_amount"] is None
    assert "di_1 on il_1; di_2 on il_2" in mapped.notes["different_lines", "in_1"]


def test_two_discounts_that_act_on_the_same_lines_have_one_base() -> None:
    lines = [
        line("il_1", 4_000, {"di_1": 4_000, "di_2": 0}),
        line("il_2", 1_000, {"di_1": 500, "di_2": 250}),
    ]
    mapped = Mapped(invoices=[invoice(lines=lines)])
    assert mapped.invoice()["discountable_amount"] == "50.00"
    assert not any(kind == "different_lines" for kind, _ in mapped.notes)


def test_a_bill_is_discountable_for_its_list_amount_at_most() -> None:
    lines = [line("il_1", 4_000, {"di_1": 400}), line("il_2", -1_500, proration=True)]
    mapped = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])], coupons=[coupon(percent=10)]
    )
    assert mapped.invoice()["discountable_amount"] == "25.00"
    assert ("base_above_list", "in_1") in mapped.notes


def test_a_trial_is_a_bill_over_nothing() -> None:
    row = Mapped(invoices=[invoice(lines=[line(amount=0)], discounts=[discount()])]).invoice()
    amounts = [row[f"{name}_amount"] for name in ("list", "discountable", "discount", "total")]
    assert amounts == ["0.00"] * 4
    assert row["plan"] == "prod_team"


def test_the_quantity_of_a_price_that_is_named_is_the_users_billed() -> None:
    lines = [line("il_1"), line("il_2", 500, price_id="price_use", quantity=12_345)]
    bills = [invoice(lines=lines)]
    assert Mapped(invoices=bills).invoice()["mtus"] is None
    assert Mapped(Choices(mtu_price="price_use"), invoices=bills).invoice()["mtus"] == "12345"


# -- Credit ----------------------------------------------------------------------------------------


def test_credit_is_not_counted_among_the_discounts() -> None:
    lines = [
        line("il_1", 12_000, {"di_1": 1_200}),
        line("il_2", 10_000, {"di_1": 1_000}, price_id="price_use", credit=4_000),
    ]
    row = Mapped(
        invoices=[invoice(lines=lines, discounts=[discount()])],
        coupons=[coupon(percent=10)],
        credit_grants=[grant()],
    ).invoice()
    assert (row["discount_amount"], row["credit_amount"]) == ("22.00", "40.00")
    assert row["creditable_amount"] == "90.00", "the metered line after its discount"


def test_what_credit_may_pay_is_said_only_where_there_is_credit() -> None:
    assert Mapped(invoices=[invoice()]).invoice()["creditable_amount"] is None
    mapped = Mapped(invoices=[invoice()], credit_grants=[grant()])
    assert mapped.invoice()["creditable_amount"] == "0.00"


def test_a_grant_for_some_prices_pays_their_lines() -> None:
    scope = {"scope": {"prices": [{"id": "price_team"}]}}
    lines = [line("il_1", 12_000), line("il_2", 700, price_id="price_use")]
    row = Mapped(
        invoices=[invoice(lines=lines)], credit_grants=[grant(applicability_config=scope)]
    ).invoice()
    assert row["creditable_amount"] == "120.00"


def test_a_grant_is_a_coupon_and_its_redemption() -> None:
    mapped = Mapped(
        credit_grants=[
            grant(
                expires_at=at("2026-01-01"),
                voided_at=at("2025-05-01"),
                metadata={"program": "startup"},
                priority=0,
            )
        ]
    )
    made, redeemed = mapped.rows["coupons"]["credgr_1"], mapped.redemption("credgr_1")
    assert (made["discount_type"], made["credit_amount"], made["currency"]) == (
        *("credit", "500.00", "USD"),
    )
    assert (made["program"], made["credit_priority"]) == ("startup", "0")
    assert redeemed["starts_at"] == "2025-01-01T00:00:00Z"
    assert redeemed["ends_at"] == "2026-01-01T00:00:00Z"
    assert redeemed["revoked_at"] == "2025-05-01T00:00:00Z"


def test_bills_and_transactions_that_differ_on_credit_are_named() -> None:
    applied = {
        "id": "cbtx_1",
        "debit": {
            "type": "credits_applied",
            "amount": {"monetary": {"currency": "usd", "value": 300}},
            "credits_applied": {"invoice": "in_1"},
        },
    }
    mapped = Mapped(invoices=[invoice()], credit_balance_transactions=[applied])
    assert ("credit_differs", "in_1") in mapped.notes


# -- Credit notes ----------------------------------------------------------------------------------


def test_a_credit_note_is_delivered_before_tax() -> None:
    row = Mapped(invoices=[invoice()], credit_notes=[credit_note()]).rows["credit_notes"]["cn_1"]
    assert (row["amount"], row["tax_amount"], row["status"]) == ("10.00", "1.90", "issued")
    assert (row["invoice_id"], row["issued_at"]) == ("in_1", "2025-02-10T12:00:00Z")


def test_a_credit_note_for_a_bill_that_stripe_does_not_show_is_refused() -> None:
    mapped = Mapped(credit_notes=[credit_note()])
    assert mapped.rows["credit_notes"] == {}
    assert mapped.refused["cn_1"] == "its invoice in_1 is not delivered: Stripe does not show it"


def test_a_credit_note_takes_its_total_off_whether_it_was_paid_back_or_not() -> None:
    before = credit_note("cn_1", pre_payment_amount=1_190, post_payment_amount=0)
    after = credit_note("cn_2", pre_payment_amount=0, post_payment_amount=1_190)
    inclusive = credit_note(
        "cn_3", 1_000, 0, total_taxes=[{"amount": 160, "tax_behavior": "inclusive"}]
    )
    nothing = credit_note("cn_4", 0, 0)
    mapped = Mapped(invoices=[invoice()], credit_notes=[before, after, inclusive, nothing])
    assert {one: row["amount"] for one, row in mapped.rows["credit_notes"].items()} == {
        "cn_1": "10.00",
        "cn_2": "10.00",
        "cn_3": "10.00",
    }
    assert "no amount above 0" in mapped.refused["cn_4"]


def test_a_credit_note_of_a_bill_that_is_refused_is_refused_with_it() -> None:
    mapped = Mapped(invoices=[invoice(total=1)], credit_notes=[credit_note()])
    assert mapped.rows["credit_notes"] == {}
    assert "in_1 is not delivered" in mapped.refused["cn_1"]


# -- Coupons ---------------------------------------------------------------------------------------


def test_a_coupon_says_what_it_gives_and_for_how_long() -> None:
    made = coupon(
        "SPRING",
        percent=12.5,
        name="Spring",
        duration="repeating",
        duration_in_months=4,
        max_redemptions=9,
        redeem_by=at("2025-04-01"),
        metadata={"program": "accelerator"},
    )
    row = Mapped(coupons=[made]).rows["coupons"]["SPRING"]
    assert (row["percent_off"], row["duration_months"], row["max_redemptions"]) == (
        "12.5",
        "4",
        "9",
    )
    assert (row["program"], row["redeem_by"]) == ("accelerator", "2025-04-01T00:00:00Z")
    assert row["once_per"] == "unlimited", "Stripe gives a coupon to the same customer again"


def test_the_program_is_read_from_the_metadata_the_user_names() -> None:
    made = coupon(percent=5, metadata={"kind": "non_profit", "program": "startup"})
    named = Mapped(Choices(program_key="kind"), coupons=[made])
    assert named.rows["coupons"]["TEN"]["program"] == "non_profit"
    unknown = Mapped(coupons=[coupon(percent=5, metadata={"program": "Alumni"})])
    assert unknown.rows["coupons"]["TEN"]["program"] == "special"
    assert "'Alumni'" in unknown.notes["unknown_program", "TEN"]


def test_a_coupon_with_several_currencies_becomes_one_for_each() -> None:
    several = coupon(
        "EACH", amount_off=1_000, currency="usd", currency_options={"jpy": {"amount_off": 1_500}}
    )
    mapped = Mapped(
        coupons=[several],
        subscriptions=[subscription(currency="jpy", discounts=[discount(coupon_id="EACH")])],
    )
    coupons = mapped.rows["coupons"]
    assert {one: row["amount_off"] for one, row in coupons.items()} == {
        "EACH~JPY": "1500",
        "EACH~USD": "10.00",
    }
    assert mapped.redemption()["coupon_id"] == "EACH~JPY"


def test_a_customers_discount_takes_the_amount_of_each_subscriptions_currency() -> None:
    each = coupon(
        "EACH", amount_off=1_000, currency="usd", currency_options={"eur": {"amount_off": 900}}
    )
    wide = discount("di_c", "EACH", subscription=None)
    bills = [
        invoice("in_1", [line(discounts={"di_c": 1_000})], discounts=[wide]),
        invoice(
            "in_2",
            [line(discounts={"di_c": 900}, subscription_id="sub_2")],
            discounts=[wide],
            currency="eur",
            subscription_id="sub_2",
        ),
    ]
    mapped = Mapped(
        coupons=[each],
        customers=[customer(discount=wide)],
        subscriptions=[subscription(), subscription("sub_2", currency="eur")],
        invoices=bills,
    )
    assert {
        (row["subscription_id"], row["coupon_id"]) for row in mapped.rows["redemptions"].values()
    } == {("sub_1", "EACH~USD"), ("sub_2", "EACH~EUR")}


def test_a_coupon_with_its_own_currency_alone_keeps_its_id() -> None:
    one = coupon(
        "ONE", amount_off=1_000, currency="usd", currency_options={"usd": {"amount_off": 1_000}}
    )
    assert set(Mapped(coupons=[one]).rows["coupons"]) == {"ONE"}


def test_a_coupon_in_a_currency_that_cannot_be_takes_its_redemptions_with_it() -> None:
    mapped = Mapped(
        coupons=[coupon("DINAR", amount_off=1_000, currency="jod")],
        subscriptions=[subscription(discounts=[discount(coupon_id="DINAR")])],
    )
    assert "three decimal places" in mapped.refused["DINAR"]
    assert "DINAR is not delivered" in mapped.refused["di_1"]


def test_a_deleted_coupon_is_read_from_a_discount_that_holds_it() -> None:
    gone = coupon("GONE", percent=40)
    mapped = Mapped(subscriptions=[subscription(discounts=[discount(coupon_id=gone)])])
    assert mapped.rows["coupons"]["GONE"]["percent_off"] == "40"
    assert mapped.redemption()["coupon_id"] == "GONE"


def test_a_deleted_coupon_that_took_nothing_off_could_act_on_nothing() -> None:
    held = [discount(coupon_id=coupon("GONE", percent=25))]
    bills = [
        invoice(discounts=held),
        invoice("in_2", lines=[line(discounts={"di_1": 3_000})], discounts=held),
    ]
    mapped = Mapped(subscriptions=[subscription(discounts=held)], invoices=bills)
    assert [mapped.invoice(one)["discountable_amount"] for one in ("in_1", "in_2")] == [
        *("0.00", "120.00"),
    ]
    assert "further currencies" in mapped.notes["deleted_coupon", "GONE"]
    assert NOTES.keys() >= {kind for kind, _ in mapped.notes}


def test_a_deleted_coupon_known_by_id_alone_is_no_unknown_coupon() -> None:
    mapped = Mapped(subscriptions=[subscription(discounts=[discount(coupon_id="GONE")])])
    assert mapped.rows["redemptions"] == {}
    assert "GONE gives is not known" in mapped.refused["di_1"]


def test_a_coupon_is_limited_to_a_plan_where_every_bill_agrees() -> None:
    limited = coupon(percent=10, applies_to={"products": ["prod_team"]})
    on_plan = invoice(lines=[line(discounts={"di_1": 1_200})], discounts=[discount()])
    larger = [line("il_1", 1_000, {"di_1": 100}), line("il_2", 9_000, product="prod_big")]
    beside = invoice("in_2", lines=larger, discounts=[discount()])
    agreed = Mapped(coupons=[limited], invoices=[on_plan])
    assert agreed.rows["coupons"]["TEN"]["applies_to_plan"] == "prod_team"
    mixed = Mapped(coupons=[limited], invoices=[on_plan, beside])
    assert mixed.rows["coupons"]["TEN"]["applies_to_plan"] is None
    assert mixed.invoice("in_2")["discountable_amount"] == "10.00"


# -- Redemptions -----------------------------------------------------------------------------------


def test_the_same_coupon_on_two_subscriptions_is_redeemed_twice() -> None:
    subscriptions = [
        subscription(f"sub_{one}", [discount(f"di_{one}", subscription=f"sub_{one}")])
        for one in (1, 2)
    ]
    mapped = Mapped(coupons=[coupon(percent=10)], subscriptions=subscriptions)
    assert mapped.redemption("di_1")["subscription_id"] == "sub_1"
    assert mapped.redemption("di_2")["subscription_id"] == "sub_2"
    assert {row["workspace_id"] for row in mapped.rows["redemptions"].values()} == {"cus_1"}


def test_a_customers_discount_is_not_limited_to_a_subscription() -> None:
    own = customer(discount=discount(subscription=None))
    mapped = Mapped(coupons=[coupon(percent=10)], customers=[own])
    assert mapped.redemption()["subscription_id"] is None


def test_an_items_discount_is_limited_to_its_subscription_and_comes_first() -> None:
    of_item = discount("di_2", subscription=None, subscription_item="si_1")
    items = {"data": [{"id": "si_1", "price": price(), "discounts": [of_item]}], "has_more": False}
    mapped = Mapped(
        coupons=[coupon(percent=10)],
        subscriptions=[subscription(discounts=[discount()], items=items)],
    )
    assert mapped.redemption("di_2")["subscription_id"] == "sub_1"
    first, second = (int(mapped.redemption(one)["application_order"]) for one in ("di_2", "di_1"))
    assert first < second


def test_a_copy_of_a_discount_under_another_id_is_the_same_redemption() -> None:
    copy = discount("di_copy")
    bill = invoice(lines=[line(discounts={"di_copy": 1_200})], discounts=[copy])
    mapped = Mapped(
        coupons=[coupon(percent=10)],
        subscriptions=[subscription(discounts=[discount()])],
        invoices=[bill],
    )
    assert set(mapped.rows["redemptions"]) == {"di_1"}


def test_a_code_that_was_typed_in_is_self_service() -> None:
    given = [discount("di_1", promotion_code="promo_1"), discount("di_2", start="2025-01-02")]
    mapped = Mapped(coupons=[coupon(percent=10)], subscriptions=[subscription(discounts=given)])
    assert mapped.redemption("di_1")["channel"] == "self_serve"
    assert mapped.redemption("di_2")["channel"] is None


def test_a_discount_of_one_bill_is_in_force_for_that_bill_alone() -> None:
    own = discount(subscription=None, invoice="in_1")
    bills = [
        invoice(lines=[line(discounts={"di_1": 1_200})], discounts=[own]),
        invoice("in_2", finalized="2025-03-01T01:00"),
    ]
    row = Mapped(coupons=[coupon(percent=10)], invoices=bills).redemption()
    assert row["starts_at"] == "2025-02-01T01:00:00Z"
    assert row["ends_at"] == "2025-02-01T01:00:01Z"


def with_bills(hanging: bool, *bills: Json, **more: Any) -> Mapped:
    own = discount(**more.pop("discount", {}))
    objects = {
        "coupons": [coupon(percent=10, **more.pop("coupon", {}))],
        "subscriptions": [
            subscription(discounts=[own] if hanging else [], **more.pop("subscription", {}))
        ],
        "invoices": list(bills),
    }
    return Mapped(**{**objects, **more})


def carrying(month: int, **more: Any) -> Json:
    return invoice(
        f"in_{month}",
        lines=[line(discounts={"di_1": 1_200})],
        discounts=[discount(**more)],
        finalized=f"2025-{month:02}-01T01:00",
    )


def without(month: int) -> Json:
    return invoice(f"in_{month}", finalized=f"2025-{month:02}-01T01:00")


def test_a_discount_that_hangs_on_is_not_revoked() -> None:
    assert with_bills(True, carrying(2)).redemption()["revoked_at"] is None


def test_a_removal_seen_in_an_event_is_exact() -> None:
    event = removed(discount(), at("2025-02-20T07:30"))
    mapped = with_bills(False, carrying(2), without(3), events=[event])
    assert mapped.redemption()["revoked_at"] == "2025-02-20T07:30:00Z"
    assert mapped.notes == {}


def test_a_removal_before_a_bill_that_still_carries_it_ends_after_that_bill() -> None:
    event = removed(discount(), at("2025-02-01T00:30"))
    mapped = with_bills(False, carrying(2), events=[event])
    assert mapped.redemption()["revoked_at"] == "2025-02-01T01:00:01Z"


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_bill_made_after_a_removal_may_be_issued_before_the_last_bill_that_carries_it(
    is_seen: bool,
) -> None:
    late = {
        **carrying(2),
        "created": at("2025-02-01"),
        "status_transitions": {"finalized_at": at("2025-03-15")},
    }
    after = {**without(3), "created": at("2025-03-01")}
    events = [removed(discount(), at("2025-02-05"))] if is_seen else []
    mapped = with_bills(False, late, after, events=events)
    row = mapped.redemption()
    assert (row["starts_at"], row["revoked_at"]) == (
        "2025-03-01T01:00:01Z",
        "2025-03-15T00:00:01Z" if is_seen else "2025-06-01T00:00:00Z",
    )


def test_a_discount_that_was_given_again_in_the_same_second_lasts_until_the_last_removal() -> None:
    first, again = discount(), discount("di_2")
    events = [
        removed(first, at("2025-01-01")),
        removed(again, at("2025-03-20"), "evt_2"),
    ]
    remembered = Remembered()
    with_bills(True, remembered=remembered)
    mapped = with_bills(False, events=events, remembered=remembered)
    assert set(mapped.rows["redemptions"]) == {"di_1"}
    assert mapped.redemption()["revoked_at"] == "2025-03-20T00:00:00Z"
    given = {**events[1], "created": at("2025-01-01"), "type": "customer.discount.created"}
    unseen = with_bills(False, events=[events[0], given], remembered=remembered)
    assert unseen.redemption()["revoked_at"] == "2025-06-01T00:00:00Z", "when the pull missed it"


def test_a_bill_that_gives_money_back_does_not_move_the_end_of_a_coupon_for_one_bill() -> None:
    back = [line("il_1", 300, {"di_1": 300}), line("il_2", -500, proration=True)]
    bill = invoice("in_2", back, discounts=[discount()], finalized="2025-02-02T20:00")
    event = removed(discount(), at("2025-02-01T20:00"))
    mapped = with_bills(False, bill, events=[event], coupon={"duration": "once"})
    assert mapped.invoice("in_2")["discount_amount"] == "0.00"
    assert mapped.redemption()["revoked_at"] == "2025-02-01T20:00:00Z"


def test_a_removal_seen_in_bills_alone_is_a_bound() -> None:
    mapped = with_bills(False, carrying(2), without(3), without(4))
    assert mapped.redemption()["revoked_at"] == "2025-03-01T01:00:00Z"
    assert (
        "between 2025-02-01T01:00:00Z and 2025-03-01T01:00:00Z"
        in mapped.notes["end_is_a_bound", "di_1"]
    )


def test_a_removal_after_the_last_bill_is_bound_by_the_pull_that_missed_it_first() -> None:
    remembered = Remembered()
    first = with_bills(False, carrying(2), remembered=remembered)
    assert first.redemption()["revoked_at"] == "2025-06-01T00:00:00Z"
    later = with_bills(False, carrying(2), remembered=remembered, now=at("2025-07-01"))
    assert later.redemption()["revoked_at"] == "2025-06-01T00:00:00Z"
    back = with_bills(True, carrying(2), remembered=remembered, now=at("2025-07-02"))
    assert back.redemption()["revoked_at"] is None


def test_nothing_is_said_of_a_discount_whose_subscription_is_not_shown() -> None:
    mapped = Mapped(coupons=[coupon(percent=10)], invoices=[carrying(2)])
    assert mapped.redemption()["revoked_at"] is None


def test_a_discount_given_while_the_pull_reads_is_not_taken_for_gone() -> None:
    for start, revoked in (("2025-01-31T23:59:59", "2025-02-02T00:00:00Z"), ("2025-02-01", None)):
        bill = carrying(2, start=start)
        more = {"began": at("2025-02-01"), "now": at("2025-02-02")}
        mapped = with_bills(False, bill, discount={"start": start}, **more)
        assert mapped.redemption()["revoked_at"] == revoked


def test_a_revision_has_the_discounts_of_its_original() -> None:
    later = {"start": "2025-02-20"}
    original = {**without(2), "status": "void"}
    revision = invoice(
        "in_3",
        created="2025-03-01",
        finalized="2025-03-01T01:00",
        from_invoice={"action": "revision", "invoice": "in_2"},
    )
    row = with_bills(True, original, revision, discount=later).redemption()
    assert row["starts_at"] == "2025-03-01T01:00:01Z"


def test_a_bill_made_while_a_voided_one_used_a_coupon_up_is_not_expected_to_take_it() -> None:
    voided = {**carrying(2), "status": "void"}
    voided["status_transitions"]["voided_at"] = at("2025-03-10")
    march = {**without(3), "created": at("2025-03-01")}
    april = {**carrying(4), "created": at("2025-04-01")}
    row = with_bills(False, voided, march, april, coupon={"duration": "once"}).redemption()
    assert (row["starts_at"], row["revoked_at"]) == ("2025-03-01T01:00:01Z", None)


def test_a_coupon_that_is_used_up_is_not_revoked() -> None:
    mapped = with_bills(False, carrying(2), without(3), coupon={"duration": "once"})
    assert mapped.redemption()["revoked_at"] is None


def test_a_coupon_for_one_bill_that_was_void_may_be_taken_off() -> None:
    void = {**carrying(2), "status": "void"}
    mapped = with_bills(False, void, without(3), coupon={"duration": "once"})
    assert mapped.redemption()["revoked_at"] == "2025-03-01T01:00:00Z"


def test_a_repeating_coupon_that_ran_out_is_not_revoked() -> None:
    more = {"end": "2025-03-01"}
    mapped = with_bills(
        False,
        carrying(2, **more),
        without(3),
        discount=more,
        coupon={"duration": "repeating", "duration_in_months": 2},
    )
    assert mapped.redemption()["ends_at"] == "2025-03-01T00:00:00Z"
    assert mapped.redemption()["revoked_at"] is None


def test_a_canceled_subscription_ends_its_discounts() -> None:
    mapped = with_bills(
        True, carrying(2), subscription={"status": "canceled", "ended_at": at("2025-02-15")}
    )
    assert mapped.redemption()["revoked_at"] == "2025-02-15T00:00:00Z"


def test_the_end_of_a_subscription_does_not_move_an_earlier_bound() -> None:
    ended = {"status": "canceled", "ended_at": at("2025-04-20")}
    by_bill = with_bills(False, carrying(2), without(3), subscription=ended)
    assert by_bill.redemption()["revoked_at"] == "2025-03-01T01:00:00Z"
    remembered = Remembered()
    with_bills(False, carrying(2), remembered=remembered, now=at("2025-04-10"))
    by_pull = with_bills(False, carrying(2), remembered=remembered, subscription=ended)
    assert by_pull.redemption()["revoked_at"] == "2025-04-10T00:00:00Z"
    assert ("end_is_a_bound", "di_1") in by_pull.notes
    neither = with_bills(False, carrying(2), subscription=ended)
    assert neither.redemption()["revoked_at"] == "2025-04-20T00:00:00Z"
    assert neither.notes == {}


def gone(found: Json) -> Json:
    """A discount as bills show it once it is gone: Stripe leaves out when it would have ended."""
    return {**{name: value for name, value in found.items() if name != "end"}, "deleted": True}


def test_a_repeating_coupon_that_is_gone_ran_out_after_its_months() -> None:
    repeats = {"duration": "repeating", "duration_in_months": 1}
    for start, ends in (("2025-01-30", "2025-02-28"), ("2025-01-28T10:00", "2025-02-28T10:00")):
        own = discount(start=start)
        bill = {**carrying(2), "discounts": [gone(own)]}
        mapped = with_bills(False, bill, without(3), without(4), coupon=repeats)
        row = mapped.redemption()
        assert (row["ends_at"], row["revoked_at"]) == (
            f"{ends[:10]}T{ends[11:] or '00:00'}:00Z",
            None,
        )
        assert mapped.notes == {}
    forever = with_bills(False, {**carrying(2), "discounts": [gone(discount())]})
    assert forever.redemption()["ends_at"] is None


@pytest.mark.parametrize(
    ("made", "is_known"),
    [("2024-12-31T23:59:59", True), ("2025-01-01", True), ("2025-01-02", False)],
)
def test_a_discount_is_not_of_a_coupon_that_was_made_after_it_began(
    made: str, is_known: bool
) -> None:
    mapped = Mapped(
        coupons=[coupon(percent=10, created=at(made))],
        subscriptions=[subscription(discounts=[discount(coupon_id="TEN")])],
    )
    assert ("di_1" in mapped.rows["redemptions"]) is is_known
    if not is_known:
        assert "TEN~deleted gives is not known" in mapped.refused["di_1"]


def test_a_discount_that_shows_its_coupon_is_of_it_whenever_it_began() -> None:
    older = coupon(percent=25, created=at("2024-06-01"))
    newer = coupon(percent=10, created=at("2025-03-01"))
    given = [discount("di_1", older), discount("di_2", newer, "2025-02-01")]
    mapped = Mapped(coupons=[newer], subscriptions=[subscription(discounts=given)])
    terms = {
        one: mapped.rows["coupons"][row["coupon_id"]]["percent_off"]
        for one, row in mapped.rows["redemptions"].items()
    }
    assert terms == {"di_1": "25", "di_2": "10"}


def test_a_bill_on_which_a_coupon_could_not_act_says_nothing_of_its_end() -> None:
    proration = invoice(
        "in_3",
        lines=[line(amount=500, proration=True)],
        finalized="2025-03-01T01:00",
    )
    mapped = with_bills(False, carrying(2), proration)
    assert mapped.redemption()["revoked_at"] == "2025-06-01T00:00:00Z", "the pull's, not the bill's"


def test_a_bill_that_carries_a_discount_after_its_end_was_made_before_or_is_left_to_the_ledger() -> (
    None
):
    repeats = {"duration": "repeating", "duration_in_months": 1}
    own = {"end": "2025-03-01T00:30"}
    for created, ends in (("2025-03-01T00:29", "01:00:01"), ("2025-03-01T00:30", "00:30:00")):
        late = {**carrying(3, **own), "created": at(created)}
        mapped = with_bills(False, late, discount=own, coupon=repeats)
        assert mapped.redemption()["ends_at"] == f"2025-03-01T{ends}Z", created


def with_an_idle_discount(taken_by_others: int) -> Mapped:
    """A bill of February that carries di_1, which no line qualifies for, and di_2."""
    limited = coupon(percent=10, applies_to={"products": ["prod_other"]})
    other = discount("di_2", "OTHER")
    taken = {"di_2": taken_by_others} if taken_by_others else {}
    given = [discount(), other] if taken_by_others else [discount()]
    return Mapped(
        coupons=[limited, coupon("OTHER", percent=20)],
        subscriptions=[subscription(discounts=[other])],
        invoices=[invoice(lines=[line(discounts=taken)], discounts=given)],
        events=[removed(discount(), at("2025-02-20"))],
    )


@pytest.mark.parametrize(
    ("taken_by_others", "starts"), [(0, None), (2_400, "2025-02-01T01:00:01Z")]
)
def test_a_discount_that_no_line_qualifies_for_is_set_aside_where_others_act(
    taken_by_others: int, starts: str | None
) -> None:
    row = with_an_idle_discount(taken_by_others).redemption()
    assert (row["starts_at"], row["revoked_at"]) == (starts, "2025-02-20T00:00:00Z")


def test_a_discount_beside_one_that_is_too_small_to_take_anything_is_set_aside() -> None:
    of_item = discount("di_2", "OTHER", subscription=None, subscription_item="si_2")
    small = line("il_2", 4, {"di_2": 0}, item="si_2")
    limited = coupon(percent=10, applies_to={"products": ["prod_other"]})
    row = Mapped(
        coupons=[limited, coupon("OTHER", percent=10)],
        subscriptions=[subscription(discounts=[discount()])],
        invoices=[invoice(lines=[{**small, "discounts": [of_item]}], discounts=[discount()])],
    ).redemption()
    assert row["starts_at"] == "2025-02-01T01:00:01Z"


def test_an_items_coupon_for_one_bill_is_not_used_up_by_a_line_over_nothing() -> None:
    of_item = discount(subscription=None, subscription_item="si_1")
    items = {"data": [{"id": "si_1", "price": price(), "discounts": []}], "has_more": False}
    for amount, revoked in ((0, "2025-02-20T00:00:00Z"), (1_000, None)):
        taken = {"di_1": amount // 10}
        lines = [{**line("il_1", amount, taken), "discounts": [of_item]}, line("il_2", item="si_2")]
        row = Mapped(
            coupons=[coupon(percent=10, duration="once")],
            subscriptions=[subscription(items=items)],
            invoices=[invoice(lines=lines)],
            events=[removed(of_item, at("2025-02-20"))],
        ).redemption()
        assert row["revoked_at"] == revoked, amount


def test_a_discount_is_not_expected_on_prorations_that_another_acts_on() -> None:
    other = discount("di_2", "OTHER")
    prorations = invoice(
        lines=[line(discounts={"di_2": 1_200}, proration=True)],
        discounts=[other],
        finalized="2025-02-03",
    )
    row = Mapped(
        coupons=[coupon(percent=10), coupon("OTHER", percent=10)],
        subscriptions=[subscription(discounts=[other, discount(start="2025-02-02")])],
        invoices=[prorations],
    ).redemption()
    assert row["starts_at"] == "2025-02-03T00:00:01Z"


def of_an_item(*bills: Json, **more: Any) -> Json:
    """The redemption of a discount of item si_1, which is gone from its subscription."""
    return Mapped(
        coupons=[coupon(percent=10)],
        subscriptions=[subscription(), subscription("sub_2")],
        discounts=[ITEMS_DISCOUNT],
        invoices=list(bills),
        **more,
    ).redemption()


ITEMS_DISCOUNT = discount(subscription=None, subscription_item="si_1")


def of_item(month: int, item: str = "si_1", taken: int = 0, **more: Any) -> Json:
    """A bill of a month with a line of an item."""
    own = line(discounts={"di_1": taken} if taken else {}, item=item)
    own["discounts"] = [ITEMS_DISCOUNT] if taken else []
    day = f"2025-{month:02}-01"
    issue: Json = {"created": day, "finalized": f"{day}T01:00", **more}
    return invoice(f"in_{month}_{item}", lines=[own], **issue)


def test_a_discount_of_an_item_is_not_expected_on_bills_of_other_items() -> None:
    row = of_an_item(of_item(2, "si_year"), of_item(3, taken=1_200), of_item(4, "si_year"))
    assert (row["starts_at"], row["revoked_at"]) == ("2025-02-01T01:00:01Z", "2025-04-01T01:00:00Z")


def test_a_discount_of_an_item_is_of_its_subscription_once_the_item_is_gone() -> None:
    row = of_an_item(of_item(2, taken=1_200), of_item(3, "si_2", subscription_id="sub_2"))
    assert row["subscription_id"] == "sub_1"


def test_a_bill_without_an_items_discount_bounds_its_end() -> None:
    row = of_an_item(of_item(2, taken=1_200), of_item(3), of_item(4))
    assert row["revoked_at"] == "2025-03-01T01:00:00Z"


def test_a_discount_of_one_bill_that_no_line_qualifies_for_is_never_in_force() -> None:
    own = discount(subscription=None, invoice="in_1")
    limited = coupon(percent=10, applies_to={"products": ["prod_other"]})
    of_item = discount("di_2", "OTHER", subscription=None, subscription_item="si_1")
    lines = [line(discounts={"di_2": 2_400, "di_1": 0})]
    row = Mapped(
        coupons=[limited, coupon("OTHER", percent=20)],
        invoices=[invoice(lines=lines, discounts=[own, of_item])],
    ).redemption()
    assert row["starts_at"] == row["ends_at"] == "2025-02-01T01:00:00Z"


@pytest.mark.parametrize(
    ("made", "starts"),
    [("2025-01-31T23:59", None), ("2025-02-01T00:00", "2025-02-01T00:30:01Z")],
)
def test_a_bill_made_after_the_one_that_used_a_coupon_up_may_be_issued_before_it(
    made: str, starts: str | None
) -> None:
    own = discount(subscription=None)
    using = invoice(lines=[line(discounts={"di_1": 1_200})], discounts=[own])
    other = invoice("in_2", created=made, finalized="2025-02-01T00:30", subscription_id="sub_2")
    row = Mapped(
        coupons=[coupon(percent=10, duration="once")], invoices=[using, other]
    ).redemption()
    assert (row["starts_at"], row["subscription_id"]) == (starts, "sub_1" if starts else None)


def test_a_trial_does_not_use_up_a_coupon_for_one_bill() -> None:
    trial = invoice(lines=[line(amount=0)], discounts=[discount()])
    mapped = with_bills(False, trial, without(3), coupon={"duration": "once"})
    assert mapped.redemption()["revoked_at"] == "2025-03-01T01:00:00Z"


# -- Discounts that take the place of others -------------------------------------------------------


def of_both(*bills: Json, **more: Any) -> Mapped:
    """A customer's discount di_c and its subscription's di_s since 20 February, with bills."""
    wide = discount("di_c", "WIDE", subscription=None)
    own = discount("di_s", "OWN", "2025-02-20")
    objects: dict[str, Any] = {
        "coupons": [coupon("WIDE", percent=20, max_redemptions=1), coupon("OWN", percent=10)],
        "customers": [customer(discount=wide)],
        "subscriptions": [subscription(discounts=[own])],
        "invoices": list(bills),
    }
    return Mapped(**{**objects, **more})


def taking(discount_id: str, month: int, **more: Any) -> Json:
    """A bill of a month that takes one of the two discounts."""
    found = (
        discount("di_c", "WIDE", subscription=None)
        if discount_id == "di_c"
        else discount("di_s", "OWN", "2025-02-20")
    )
    return invoice(
        f"in_{month}{more.get('subscription_id', '')}",
        lines=[line(discounts={discount_id: 1_200})],
        discounts=[found],
        created=f"2025-{month:02}-01",
        finalized=f"2025-{month:02}-01T01:00",
        **more,
    )


def test_a_subscriptions_discount_takes_the_place_of_its_customers() -> None:
    mapped = of_both(taking("di_c", 2), taking("di_s", 3), taking("di_s", 4))
    assert set(mapped.rows["redemptions"]) == {"di_c", "di_s"}
    wide = mapped.redemption("di_c")
    assert (wide["subscription_id"], wide["starts_at"]) == ("sub_1", None)
    assert wide["revoked_at"] == "2025-03-01T01:00:00Z", "not on the bill that takes the other"


def test_it_does_so_before_any_bill_says_it() -> None:
    wide = of_both(taking("di_c", 2)).redemption("di_c")
    assert wide["revoked_at"] == "2025-02-20T00:00:00Z"
    never = of_both().redemption("di_c")
    assert (never["starts_at"], never["revoked_at"]) == (None, "2025-02-20T00:00:00Z")


def test_a_bill_that_takes_both_shows_that_none_takes_the_place_of_the_other() -> None:
    both = invoice(
        lines=[line(discounts={"di_s": 1_200, "di_c": 2_160})],
        discounts=[
            discount("di_s", "OWN", "2025-02-20"),
            discount("di_c", "WIDE", subscription=None),
        ],
        created="2025-03-01",
        finalized="2025-03-01T01:00",
    )
    wide = of_both(both).redemption("di_c")
    assert (wide["subscription_id"], wide["revoked_at"]) == (None, None)


def test_a_bill_with_one_of_its_own_beside_does_not_show_that() -> None:
    own = discount("di_i", "OWN", "2025-02-01", subscription=None, invoice="in_1")
    by_hand = invoice(
        lines=[line(discounts={"di_c": 2_400, "di_i": 960})],
        discounts=[discount("di_c", "WIDE", subscription=None), own],
    )
    assert of_both(by_hand).redemption("di_c")["revoked_at"] == "2025-02-20T00:00:00Z"


def test_on_other_subscriptions_the_customers_discount_stays() -> None:
    mapped = of_both(
        taking("di_c", 2),
        taking("di_s", 3),
        taking("di_c", 3, subscription_id="sub_2"),
        subscriptions=[
            subscription(discounts=[discount("di_s", "OWN", "2025-02-20")]),
            subscription("sub_2"),
        ],
    )
    first, second = mapped.redemption("di_c"), mapped.redemption("di_c~2")
    assert (first["subscription_id"], first["revoked_at"]) == ("sub_1", "2025-03-01T01:00:00Z")
    assert (second["subscription_id"], second["revoked_at"]) == ("sub_2", None)
    assert ("in_parts", "di_c") in mapped.notes
    assert second["coupon_id"] == "WIDE~unlimited", "a part is no further redemption"
    assert mapped.rows["coupons"]["WIDE~unlimited"]["max_redemptions"] is None
    assert mapped.rows["coupons"]["WIDE"]["max_redemptions"] == "1"


def test_a_part_lasts_as_long_as_its_subscription() -> None:
    mapped = of_both(
        taking("di_c", 2),
        taking("di_c", 2, subscription_id="sub_2"),
        subscriptions=[
            subscription(discounts=[discount("di_s", "OWN", "2025-02-20")]),
            subscription("sub_2", status="canceled", ended_at=at("2025-02-10")),
            subscription("sub_3", status="canceled", ended_at=at("2024-12-20")),
            subscription("sub_4", created=at("2025-04-01")),
        ],
        customers=[customer()],
        events=[removed(discount("di_c", "WIDE", subscription=None), at("2025-03-05"))],
    )
    assert {
        row["subscription_id"]: row["revoked_at"]
        for row in mapped.rows["redemptions"].values()
        if row["coupon_id"] != "OWN"
    } == {"sub_1": "2025-02-20T00:00:00Z", "sub_2": "2025-02-10T00:00:00Z"}


def test_a_part_that_is_no_longer_one_is_never_in_force() -> None:
    remembered = Remembered()
    two = {"subscriptions": [subscription(), subscription("sub_2")]}
    both = {
        "subscriptions": [
            subscription(discounts=[discount("di_s", "OWN", "2025-02-20")]),
            subscription("sub_2"),
        ]
    }
    of_both(remembered=remembered, **both)
    mapped = of_both(remembered=remembered, **two)
    assert mapped.redemption("di_c")["subscription_id"] is None
    never = mapped.redemption("di_c~2")
    assert never["revoked_at"] == never["redeemed_at"]


def test_an_items_discount_does_not_take_the_place_of_the_customers() -> None:
    of_item = discount("di_i", "OWN", subscription=None, subscription_item="si_1")
    items = {"data": [{"id": "si_1", "price": price(), "discounts": [of_item]}], "has_more": False}
    both = invoice(
        lines=[line(discounts={"di_i": 1_200, "di_c": 2_160})],
        discounts=[discount("di_c", "WIDE", subscription=None)],
    )
    mapped = of_both(both, subscriptions=[subscription(items=items)])
    assert mapped.redemption("di_c")["revoked_at"] is None
    assert mapped.redemption("di_c")["subscription_id"] is None


def test_a_coupon_that_was_limited_to_a_plan_keeps_its_terms() -> None:
    limited = coupon(percent=10, applies_to={"products": ["prod_team"]})
    on_plan = invoice(lines=[line(discounts={"di_1": 1_200})], discounts=[discount()])
    larger = [line("il_1", 1_000, {"di_1": 100}), line("il_2", 9_000, product="prod_big")]
    beside = invoice("in_2", lines=larger, discounts=[discount()], finalized="2025-03-01")
    remembered = Remembered()
    before = Mapped(coupons=[limited], invoices=[on_plan], remembered=remembered)
    after = Mapped(coupons=[limited], invoices=[on_plan, beside], remembered=remembered)
    assert before.rows["coupons"]["TEN"] == after.rows["coupons"]["TEN"]
    assert before.redemption()["coupon_id"] == "TEN"
    assert after.redemption()["coupon_id"] == "TEN~unlimited"
    assert after.rows["coupons"]["TEN~unlimited"]["applies_to_plan"] is None


@pytest.mark.parametrize(("lines", "is_noted"), [(3, False), (4, True)])
def test_rounding_on_each_line_is_noted_where_it_shows(lines: int, is_noted: bool) -> None:
    # 15% of 0.50 is 7.5 cents: 8 on each line.
    found = [line(f"il_{one}", 50, {"di_1": 8}) for one in range(lines)]
    mapped = Mapped(
        coupons=[coupon(percent=15)], invoices=[invoice(lines=found, discounts=[discount()])]
    )
    assert (("rounded_by_line", "in_1") in mapped.notes) is is_noted


def test_rounding_in_a_currency_without_decimals_is_noted_in_its_units() -> None:
    # 15 % of 50 krónur is 7.5: 8 on each line; both are sent in hundredths.
    for lines, is_noted in ((3, False), (4, True)):
        found = [line(f"il_{one}", 5_000, {"di_1": 800}) for one in range(lines)]
        mapped = Mapped(
            coupons=[coupon(percent=15)],
            invoices=[invoice(lines=found, discounts=[discount()], currency="isk")],
        )
        assert (("rounded_by_line", "in_1") in mapped.notes) is is_noted


@pytest.mark.parametrize(("small", "base"), [(9, "120.09"), (10, "120.00")])
def test_a_line_too_small_for_a_part_of_the_discount_is_acted_on(small: int, base: str) -> None:
    # 10 % of 9 cents is less than a cent.
    lines = [line("il_1", 12_000, {"di_1": 1_200}), line("il_2", small, {"di_1": 0})]
    row = Mapped(
        coupons=[coupon(percent=10)], invoices=[invoice(lines=lines, discounts=[discount()])]
    ).invoice()
    assert row["discountable_amount"] == base


def test_a_discount_too_small_to_take_anything_acts_on_its_own_lines() -> None:
    lines = [line("il_1", 12_000, {"di_2": 1_200}), line("il_2", 4, product="prod_other")]
    lines[1]["discount_amounts"] = [{"amount": 0, "discount": one} for one in ("di_1", "di_2")]
    given = [discount(), discount("di_2", "OTHER")]
    for products, base in ((["prod_other"], None), (["prod_team", "prod_other"], "120.04")):
        mapped = Mapped(
            coupons=[
                coupon(percent=10, applies_to={"products": products}),
                coupon("OTHER", percent=10),
            ],
            invoices=[invoice(lines=lines, discounts=given)],
        )
        assert mapped.invoice()["discountable_amount"] == base
        assert (("different_lines", "in_1") in mapped.notes) is (base is None)


# -- Workspaces ------------------------------------------------------------------------------------


def test_names_can_be_left_out() -> None:
    assert Mapped().rows["workspaces"]["cus_1"]["workspace_name"] == "Name of cus_1"
    nameless = Mapped(Choices(has_names=False)).rows["workspaces"]["cus_1"]
    assert nameless["workspace_name"] is None


def test_a_customer_that_was_deleted_is_known_from_bills() -> None:
    mapped = Mapped(customers=[], invoices=[invoice()])
    assert mapped.rows["workspaces"]["cus_1"]["created_at"] == "2025-02-01T00:00:00Z"
    assert ("workspace_from_bills", "cus_1") in mapped.notes


def test_a_workspace_may_be_a_subscription() -> None:
    mapped = Mapped(
        Choices(workspace="subscription"),
        coupons=[coupon(percent=10)],
        subscriptions=[subscription(discounts=[discount()])],
        invoices=[invoice()],
    )
    assert set(mapped.rows["workspaces"]) == {"sub_1"}
    assert mapped.invoice()["workspace_id"] == "sub_1"
    assert mapped.redemption()["workspace_id"] == "sub_1"


def test_a_customers_discount_is_one_for_each_subscription_where_each_is_a_workspace() -> None:
    mapped = of_both(
        choices=Choices(workspace="subscription"),
        subscriptions=[subscription("sub_1"), subscription("sub_2")],
    )
    assert {
        row["workspace_id"]: row["redemption_id"] for row in mapped.rows["redemptions"].values()
    } == {"sub_1": "di_c", "sub_2": "di_c~2"}


def test_a_customers_discount_that_others_replace_throughout_acts_on_no_workspace() -> None:
    row = of_both(
        choices=Choices(workspace="subscription"),
        subscriptions=[
            subscription(one, [discount(f"di_{one}", "OWN", "2024-12-20", subscription=one)])
            for one in ("sub_1", "sub_2")
        ],
    ).redemption("di_c")
    assert (row["workspace_id"], row["revoked_at"]) == ("sub_1", row["redeemed_at"])


def test_a_customers_coupon_for_one_bill_belongs_to_the_workspace_whose_bill_used_it() -> None:
    wide = {
        "coupons": [coupon("WIDE", percent=10, duration="once")],
        "choices": Choices("subscription"),
    }
    several = {"subscriptions": [subscription("sub_1"), subscription("sub_2")]}
    used = of_both(taking("di_c", 2, subscription_id="sub_2"), **wide, **several)
    assert used.redemption("di_c")["workspace_id"] == "sub_2"
    assert "2 subscriptions" in of_both(**wide, **several).refused["di_c"]


@pytest.mark.parametrize(
    ("own", "duration"),
    [
        ({"subscription": None}, "forever"),
        ({"subscription": None}, "once"),
        ({"subscription": None, "invoice": "in_1"}, "forever"),
    ],
)
def test_a_discount_on_a_bill_without_subscription_is_of_that_bills_workspace(
    own: Json, duration: str
) -> None:
    alone = line(discounts={"di_1": 1_200}, subscription_id=None)
    found = Mapped(
        Choices(workspace="subscription"),
        coupons=[coupon(percent=10, duration=duration)],
        subscriptions=[subscription()],
        invoices=[invoice(lines=[alone], discounts=[discount(**own)], subscription_id=None)],
    )
    assert found.invoice()["workspace_id"] == "cus_1"
    of_bill = [row for row in found.rows["redemptions"].values() if row["workspace_id"] == "cus_1"]
    assert len(of_bill) == 1
    of_subscription = len(found.rows["redemptions"]) - 1
    assert of_subscription == (duration == "forever" and "invoice" not in own)


def test_what_acts_on_several_subscriptions_is_refused_where_each_is_a_workspace() -> None:
    mapped = Mapped(
        Choices(workspace="subscription"),
        credit_grants=[grant()],
        subscriptions=[subscription("sub_1"), subscription("sub_2")],
    )
    assert "COUPON_LEDGER_STRIPE_WORKSPACE=customer" in mapped.refused["credgr_1"]


def test_a_subscription_that_had_ended_is_none_of_several() -> None:
    ended = subscription("sub_0", status="canceled", ended_at=at("2024-12-20"))
    mapped = of_both(
        choices=Choices("subscription"),
        coupons=[coupon("WIDE", percent=10, duration="once")],
        subscriptions=[ended, subscription()],
        credit_grants=[grant()],
    )
    assert {row["workspace_id"] for row in mapped.rows["redemptions"].values()} == {"sub_1"}


# -- Older shapes ----------------------------------------------------------------------------------


def test_the_shape_before_basil_gives_the_same_row() -> None:
    own = coupon("OLD", amount_off=1_500, currency="usd", duration="once")
    older = {
        "id": "in_1",
        "object": "invoice",
        "created": at("2025-02-01"),
        "currency": "usd",
        "customer": "cus_1",
        "discount": {
            "id": "di_1",
            "coupon": own,
            "customer": "cus_1",
            "end": None,
            "promotion_code": None,
            "start": at("2025-01-20"),
            "subscription": "sub_1",
        },
        "discounts": ["di_1"],
        "lines": {
            "has_more": False,
            "data": [
                {
                    "id": "il_1",
                    "amount": 8_000,
                    "discount_amounts": [{"amount": 1_500, "discount": "di_1"}],
                    "discountable": True,
                    "period": {"start": at("2025-02-01"), "end": at("2025-03-01")},
                    "plan": {
                        "id": "plan_1",
                        "interval": "month",
                        "interval_count": 3,
                        "product": "prod_a",
                    },
                    "proration": False,
                    "subscription": "sub_1",
                    "subscription_item": "si_1",
                    "type": "subscription",
                }
            ],
        },
        "status": "paid",
        "status_transitions": {"finalized_at": at("2025-02-01T01:00")},
        "subscription": "sub_1",
        "tax": 650,
        "total": 7_150,
        "total_discount_amounts": [{"amount": 1_500, "discount": "di_1"}],
        "total_tax_amounts": [{"amount": 650, "inclusive": False}],
    }
    mapped = Mapped(invoices=[older])
    row = mapped.invoice()
    amounts = [row[f"{name}_amount"] for name in ("list", "discount", "credit", "tax", "total")]
    assert amounts == ["80.00", "15.00", "0.00", "6.50", "71.50"]
    assert (row["plan"], row["billing_interval"], row["interval_count"]) == ("prod_a", "month", "3")
    assert row["subscription_id"] == "sub_1"
    assert mapped.redemption()["coupon_id"] == "OLD"
    assert mapped.rows["coupons"]["OLD"]["amount_off"] == "15.00"
