"""The files of SELECTs that come with the product, run on tables of the systems they are for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dagster_project.settings import Settings
from dagster_project.sources import postgres
from tests.sources.delivered import newest

Run = Callable[[str], None]

# The columns of Lago's tables that are read, of the types its migrations give them.
LAGO = """
create table customers (id uuid primary key, external_id varchar not null, name varchar,
    created_at timestamp(6) not null, updated_at timestamp(6) not null, deleted_at timestamp(6));
create table plans (id uuid primary key, code varchar not null, interval integer not null);
create table subscriptions (id uuid primary key, external_id varchar not null, plan_id uuid not null);
create table coupons (id uuid primary key, name varchar not null, code varchar,
    coupon_type integer not null default 0, amount_cents bigint, amount_currency varchar,
    percentage_rate numeric(10,5), frequency integer not null default 0, frequency_duration integer,
    expiration_at timestamp(6), reusable boolean not null default true,
    limited_plans boolean not null default false, updated_at timestamp(6) not null,
    deleted_at timestamp(6));
create table coupon_targets (id uuid primary key, coupon_id uuid not null, plan_id uuid,
    deleted_at timestamp(6));
create table applied_coupons (id uuid primary key, coupon_id uuid not null, customer_id uuid not null,
    amount_cents bigint, amount_currency varchar, percentage_rate numeric(10,5),
    frequency integer not null default 0, frequency_duration integer,
    frequency_duration_remaining integer, created_at timestamp(6) not null,
    terminated_at timestamp(6), updated_at timestamp(6) not null);
create table credits (id uuid primary key, applied_coupon_id uuid, amount_cents bigint not null);
create table invoices (id uuid primary key, customer_id uuid, status integer not null default 1,
    payment_status integer not null default 0, payment_dispute_lost_at timestamp(6), currency varchar,
    issuing_date date, fees_amount_cents bigint not null default 0,
    coupons_amount_cents bigint not null default 0, taxes_amount_cents bigint not null default 0,
    prepaid_credit_amount_cents bigint not null default 0,
    credit_notes_amount_cents bigint not null default 0,
    progressive_billing_credit_amount_cents bigint not null default 0,
    total_amount_cents bigint not null default 0,
    created_at timestamp(6) not null, updated_at timestamp(6) not null);
create table invoice_subscriptions (id uuid primary key, invoice_id uuid not null,
    subscription_id uuid not null, from_datetime timestamp(6), to_datetime timestamp(6));
create table fees (id uuid primary key, invoice_id uuid, subscription_id uuid,
    amount_cents bigint not null);
create table credit_notes (id uuid primary key, invoice_id uuid not null, status integer not null,
    credit_status integer, refund_amount_cents bigint not null default 0, reason integer not null,
    issuing_date date, total_amount_cents bigint not null, total_amount_currency varchar not null,
    taxes_amount_cents bigint not null, created_at timestamp(6) not null,
    updated_at timestamp(6) not null);
create table wallets (id uuid primary key, customer_id uuid not null, name varchar,
    priority integer not null default 50, balance_currency varchar not null,
    expiration_at timestamp(6), terminated_at timestamp(6), updated_at timestamp(6) not null);
create table wallet_transactions (id uuid primary key, wallet_id uuid not null,
    transaction_type integer not null, status integer not null, amount numeric(30,5) not null,
    settled_at timestamp(6), created_at timestamp(6) not null, updated_at timestamp(6) not null);
"""


def u(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


LAGO_ROWS = f"""
insert into customers values
    ('{u(1)}', 'acme', 'Acme', '2025-01-01 08:00', '2025-01-02 08:00', null);
insert into plans values ('{u(10)}', 'team', 1), ('{u(11)}', 'team-quarter', 3);
insert into subscriptions values
    ('{u(20)}', 'sub-acme', '{u(10)}'), ('{u(21)}', 'sub-quarter', '{u(11)}');
insert into coupons values
    ('{u(30)}', 'Half off', 'HALF', 1, null, null, 50.00000, 1, 3, '2026-01-01', false, true,
     '2025-01-03', null),
    ('{u(31)}', 'Twenty', 'TWENTY', 0, 2000, 'EUR', null, 0, null, null, true, false,
     '2025-01-03', null),
    ('{u(32)}', 'Yen', 'YEN', 0, 500, 'JPY', null, 2, null, null, true, false, '2025-01-03', null);
insert into coupon_targets values ('{u(35)}', '{u(30)}', '{u(10)}', null);
insert into applied_coupons values
    ('{u(40)}', '{u(30)}', '{u(1)}', null, null, 50.00000, 1, 3, 0, '2025-01-04 10:00',
     '2025-04-01 00:00', '2025-04-01'),
    ('{u(41)}', '{u(31)}', '{u(1)}', 1500, 'EUR', null, 0, null, null, '2025-01-05 10:00',
     '2025-02-01 00:00', '2025-02-01'),
    ('{u(42)}', '{u(32)}', '{u(1)}', 500, 'JPY', null, 2, null, null, '2025-01-06 10:00',
     '2025-03-01 00:00', '2025-03-01');
insert into credits values ('{u(45)}', '{u(41)}', 1500);
insert into invoices values
    ('{u(50)}', '{u(1)}', 1, 1, null, 'EUR', '2025-02-01', 12000, 7500, 855, 1000, 500, 0, 3855,
     '2025-02-01 03:00', '2025-02-01'),
    ('{u(51)}', '{u(1)}', 1, 0, null, 'JPY', '2025-02-02', 5000, 0, 0, 0, 0, 1000, 4000,
     '2025-02-01 03:00', '2025-02-02'),
    ('{u(52)}', '{u(1)}', 2, 0, null, 'EUR', '2025-02-03', 100, 0, 0, 0, 0, 0, 100,
     '2025-02-03 03:00', '2025-02-03'),
    ('{u(53)}', '{u(1)}', 3, 0, null, 'EUR', '2025-02-03', 100, 0, 0, 0, 0, 0, 100,
     '2025-02-03 03:00', '2025-02-03');
insert into invoice_subscriptions values
    ('{u(60)}', '{u(50)}', '{u(20)}', '2025-02-01 00:00', '2025-02-28 23:59:59.999'),
    ('{u(61)}', '{u(51)}', '{u(20)}', '2025-02-01 00:00', '2025-02-28 23:59:59.999'),
    ('{u(62)}', '{u(51)}', '{u(21)}', '2025-01-01 00:00', '2025-03-31 23:59:59.999');
insert into fees values
    ('{u(65)}', '{u(51)}', '{u(20)}', 1000), ('{u(66)}', '{u(51)}', '{u(21)}', 4000);
insert into credit_notes values
    ('{u(70)}', '{u(50)}', 1, 0, 0, 4, '2025-02-10', 2380, 'EUR', 380, '2025-02-10 09:00',
     '2025-02-10'),
    ('{u(71)}', '{u(50)}', 0, 0, 0, 4, '2025-02-10', 2380, 'EUR', 380, '2025-02-10 09:00',
     '2025-02-10');
insert into wallets values
    ('{u(80)}', '{u(1)}', 'Prepaid', 10, 'EUR', '2026-01-01 00:00', null, '2025-01-07');
insert into wallet_transactions values
    ('{u(81)}', '{u(80)}', 0, 1, 250.00000, '2025-01-07 12:00', '2025-01-07 11:00', '2025-01-07'),
    ('{u(82)}', '{u(80)}', 1, 1, 10.00000, '2025-01-08 12:00', '2025-01-08 11:00', '2025-01-08');
"""


def test_lago_becomes_the_five_feeds(database: Run, settings: Settings) -> None:
    database(LAGO + LAGO_ROWS)
    postgres.pull(settings, postgres.read_file("lago"))
    rows = newest(settings.landing)
    assert rows["workspaces"]["acme"]["workspace_name"] == "Acme"
    half, yen = rows["coupons"]["HALF"], rows["coupons"]["YEN"]
    assert (half["percent_off"], half["duration"], half["duration_invoices"]) == (
        "50",
        "repeating",
        "3",
    )
    assert (half["once_per"], half["applies_to_plan"]) == ("workspace", "team")
    assert (yen["amount_off"], yen["currency"], yen["duration"]) == ("500", "JPY", "forever")
    own_terms = f"TWENTY~{u(41)}"
    assert rows["coupons"]["TWENTY"]["amount_off"] == "20"
    assert rows["coupons"][own_terms]["amount_off"] == "15"
    assert rows["coupons"][u(81)]["credit_amount"] == "250"
    assert u(82) not in rows["coupons"], "what is drawn from a wallet is no grant"
    redemptions = rows["redemptions"]
    assert redemptions[u(40)]["coupon_id"] == "HALF"
    assert "revoked_at" not in redemptions[u(40)], "it is used up"
    assert redemptions[u(41)]["coupon_id"] == own_terms
    assert "revoked_at" not in redemptions[u(41)], "it is used up"
    assert redemptions[u(42)]["revoked_at"].startswith("2025-03-01 00:00:00")
    assert redemptions[u(81)]["ends_at"].startswith("2026-01-01")


def test_bills_of_lago_add_up(database: Run, settings: Settings) -> None:
    database(LAGO + LAGO_ROWS)
    postgres.pull(settings, postgres.read_file("lago"))
    rows = newest(settings.landing)
    bill = rows["invoices"][u(50)]
    amounts = [bill[f"{name}_amount"] for name in ("list", "discount", "credit", "tax", "total")]
    assert amounts == ["120", "75", "10", "8.55", "43.55"]
    assert bill["status"] == "paid"
    assert (bill["period_start"], bill["period_end"]) == ("2025-02-01", "2025-03-01")
    assert bill["issued_at"].startswith("2025-02-01 03:00")
    assert bill["subscription_id"] == "sub-acme"
    of_two = rows["invoices"][u(51)]
    assert (of_two["plan"], of_two["billing_interval"], of_two["interval_count"]) == (
        "team-quarter",
        "month",
        "3",
    )
    assert of_two["list_amount"] == "4000", "what was billed in advance is not billed again"
    assert "subscription_id" not in of_two
    assert rows["invoices"][u(52)]["status"] == "void"
    assert u(53) not in rows["invoices"], "it is being made"
    note = rows["credit_notes"][u(70)]
    assert (note["amount"], note["tax_amount"], note["reason"]) == (
        "20",
        "3.8",
        "fraudulent_charge",
    )
    assert u(71) not in rows["credit_notes"], "it is a draft"


def test_lago_is_asked_for_what_changed(database: Run, settings: Settings) -> None:
    database(LAGO + LAGO_ROWS)
    postgres.pull(settings, postgres.read_file("lago"))
    assert postgres.pull(settings, postgres.read_file("lago")).delivered == {}
    database(f"update invoices set payment_status = 1, updated_at = now() where id = '{u(51)}'")
    assert postgres.pull(settings, postgres.read_file("lago")).delivered == {"invoices": 1}
    assert newest(settings.landing)["invoices"][u(51)]["status"] == "paid"


# The columns of Fivetran's tables that are read. In some versions of the connector a discount's start
# and end are texts of seconds, in others instants.
FIVETRAN = """
create table customer (id text, name text, created timestamptz, is_deleted boolean,
    _fivetran_synced timestamptz);
create table coupon (id text, name text, amount_off bigint, currency text, duration text,
    duration_in_months integer, max_redemptions integer, metadata text, percent_off double precision,
    redeem_by timestamptz, _fivetran_synced timestamptz);
create table discount (id text, type text, type_id text, amount bigint, coupon_id text,
    customer_id text, invoice_id text, invoice_item_id text, subscription_id text, promotion_code text,
    start {instant}, "end" {instant}, _fivetran_synced timestamptz);
create table subscription (id text, customer_id text, ended_at timestamptz,
    _fivetran_active boolean, _fivetran_synced timestamptz);
create table price (id text, product_id text, recurring_interval text,
    recurring_interval_count integer, recurring_usage_type text, _fivetran_synced timestamptz);
create table invoice (id text, customer_id text, status text, subscription_id text, currency text,
    created timestamptz, finalized_at timestamptz, status_transitions_finalized_at timestamptz,
    subtotal bigint, tax bigint, total bigint, is_deleted boolean, _fivetran_synced timestamptz);
create table invoice_line_item (id text, invoice_id text, amount bigint, discountable boolean,
    proration boolean, price_id text, subscription_id text, period_start timestamptz,
    period_end timestamptz, _fivetran_synced timestamptz);
create table credit_note (id text, invoice_id text, status text, created timestamptz, currency text,
    subtotal bigint, discount_amount bigint, total bigint, reason text, _fivetran_synced timestamptz);
"""

FIVETRAN_ROWS = """
insert into customer values ('cus_1', 'One', '2025-01-01', false, '2025-03-01');
insert into coupon values
    ('QUARTER', null, null, null, 'repeating', 3, null, '{{"program": "non_profit"}}', 12.5, null,
     '2025-03-01'),
    ('KRONA', 'Krona', 50000, 'isk', 'forever', null, 7, null, null, null, '2025-03-01');
insert into price values
    ('price_m', 'prod_team', 'month', 1, 'licensed', '2025-03-01'),
    ('price_u', 'prod_use', 'month', 1, 'metered', '2025-03-01');
insert into subscription values ('sub_1', 'cus_1', null, true, '2025-03-01');
insert into discount values
    ('di_1', 'INVOICE', 'in_1', 1250, 'QUARTER', 'cus_1', 'in_1', null, 'sub_1', 'promo_1',
     {start}, {end}, '2025-03-01'),
    ('di_1', 'INVOICE_LINE_ITEM', 'il_1', 1250, 'QUARTER', 'cus_1', 'in_1', null, 'sub_1', 'promo_1',
     {start}, {end}, '2025-03-01');
insert into invoice values
    ('in_1', 'cus_1', 'paid', 'sub_1', 'usd', '2025-02-01 00:10+00', null, '2025-02-01 01:10+00',
     18000, 1675, 18425, false, '2025-03-01'),
    ('in_2', 'cus_1', 'open', 'sub_1', 'eur', '2025-03-01 00:10+00', null, '2025-03-01 01:10+00',
     12000, 2000, 12000, false, '2025-03-01'),
    ('in_3', 'cus_1', 'draft', 'sub_1', 'eur', '2025-04-01 00:10+00', null, null,
     12000, 0, 12000, false, '2025-03-01'),
    ('in_4', 'cus_1', 'paid', 'sub_1', 'usd', '2025-02-10', null, '2025-02-10',
     700, 0, 700, false, '2025-03-01'),
    ('in_5', 'cus_1', 'paid', 'sub_1', 'usd', '2025-02-11', null, '2025-02-11',
     700, 0, 700, false, '2025-03-01');
insert into invoice_line_item values
    ('il_1', 'in_1', 10000, true, false, 'price_m', 'sub_1', '2025-02-01', '2025-03-01',
     '2025-03-01'),
    ('il_2', 'in_1', 8000, false, false, 'price_u', 'sub_1', '2025-01-01', '2025-02-01',
     '2025-03-01'),
    ('il_3', 'in_2', 12000, true, false, 'price_m', 'sub_1', '2025-03-01', '2025-04-01',
     '2025-03-01'),
    ('il_4', 'in_4', 700, false, true, 'price_m', 'sub_1', '2025-02-10', '2025-03-01',
     '2025-03-01'),
    ('il_5', 'in_5', 700, null, true, 'price_m', 'sub_1', '2025-02-11', '2025-03-01',
     '2025-03-01');
insert into credit_note values
    ('cn_1', 'in_1', 'issued', '2025-02-05', 'usd', 2000, 250, 1925, 'duplicate', '2025-03-01');
"""


@pytest.mark.parametrize(
    ("instant", "start", "end"),
    [
        ("text", "'1738368000'", "'1746057600'"),
        ("timestamptz", "'2025-02-01 00:00+00'", "'2025-05-01 00:00+00'"),
    ],
)
def test_fivetrans_copy_of_stripe_becomes_the_five_feeds(
    database: Run, settings: Settings, instant: str, start: str, end: str
) -> None:
    database(
        "set timezone to 'UTC';"
        + FIVETRAN.format(instant=instant)
        + FIVETRAN_ROWS.format(start=start, end=end)
    )
    postgres.pull(settings, postgres.read_file("fivetran_stripe"))
    rows = newest(settings.landing)
    quarter, krona = rows["coupons"]["QUARTER"], rows["coupons"]["KRONA"]
    assert (quarter["percent_off"], quarter["program"]) == ("12.5", "non_profit")
    assert (quarter["coupon_name"], quarter["duration_months"]) == ("QUARTER", "3")
    assert (krona["amount_off"], krona["currency"], krona["max_redemptions"]) == ("500", "ISK", "7")
    redeemed = rows["redemptions"]["di_1"]
    assert redeemed["redeemed_at"] == "2025-02-01 00:00:00+00"
    assert redeemed["ends_at"] == "2025-05-01 00:00:00+00"
    assert redeemed["channel"] == "self_serve"
    bill = rows["invoices"]["in_1"]
    amounts = [bill[f"{name}_amount"] for name in ("list", "discount", "tax", "total")]
    assert amounts == ["180", "12.5", "16.75", "184.25"], "a discount is counted once"
    assert bill["discountable_amount"] == "100"
    assert (bill["plan"], bill["period_start"]) == ("prod_team", "2025-02-01")
    inclusive = rows["invoices"]["in_2"]
    assert (inclusive["tax_amount"], inclusive["total_amount"]) == ("0", "120")
    assert "in_3" not in rows["invoices"], "it is a draft"
    assert rows["invoices"]["in_4"]["discountable_amount"] == "0", "it is a proration alone"
    assert rows["invoices"]["in_5"]["discountable_amount"] == "7", "nothing says that it is not"
    note = rows["credit_notes"]["cn_1"]
    assert (note["amount"], note["tax_amount"]) == ("17.5", "1.75")


def test_what_comes_with_the_product_is_named() -> None:
    assert postgres.ready_made() == ["fivetran_stripe", "lago"]
