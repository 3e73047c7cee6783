"""A pull from a stand-in for Stripe with Stripe's own library: what it asks, keeps, delivers, survives."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.settings import Settings
from dagster_project.sources import deliveries, stripe_probe, stripe_pull
from dagster_project.sources.errors import PullError, SetUpWrong
from dagster_project.sources.stripe_api import API_VERSION, MOST_TRIES
from dagster_project.sources.stripe_bills import Bills
from tests.sources.delivered import files, newest
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
NOW = at("2025-06-01")


def an_account() -> Account:
    own = discount(coupon_id=coupon(percent=10))
    return Account(
        {
            "customers": [customer(), customer("cus_2")],
            "coupons": [coupon(percent=10)],
            "prices": [price()],
            "subscriptions": [subscription(discounts=[own])],
            "invoices": [
                invoice(lines=[line(discounts={"di_1": 1_200})], discounts=[own], tax=100),
                invoice("in_2", created="2025-03-01", status="open"),
            ],
            "credit_notes": [credit_note(total=119, tax=19)],
            "credit_grants": [grant()],
        }
    )


def newer() -> Json:
    """A bill of the day before the pull: older ones are no longer in the list of new ones."""
    return invoice("in_newer", created="2025-05-31", finalized="2025-05-31T01:00")


class Puller:
    """Pulls from an account, by a clock that a test sets."""

    def __init__(self, account: Account, settings: Settings) -> None:
        self.account = account
        self.settings = settings
        self.now = float(NOW)
        self.waited: list[float] = []
        self.told: list[tuple[str, int, bool]] = []

    def __call__(self, **more: Any) -> stripe_pull.Report:
        self.account.requests.clear()
        return stripe_pull.pull(
            self.settings,
            now=lambda: self.now,
            wait=self.waited.append,
            told=lambda *told: self.told.append(told),
            **more,
        )

    def asked(self, path: str) -> list[dict[str, str]]:
        return [query for asked, query in self.account.requests if asked == path]


@pytest.fixture
def puller(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Puller]:
    account = an_account()
    with serving(account) as base:
        monkeypatch.setenv("STRIPE_API_KEY", KEY)
        monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base)
        yield Puller(account, settings)


def test_an_account_becomes_deliveries_of_all_five_feeds(puller: Puller) -> None:
    report = puller()
    assert report.delivered == {
        "workspaces": 2,
        "coupons": 2,
        "redemptions": 2,
        "invoices": 2,
        "credit_notes": 1,
    }
    rows = newest(puller.settings.landing)
    assert rows["invoices"]["in_1"]["discount_amount"] == "12.00"
    assert rows["redemptions"]["di_1"]["coupon_id"] == "TEN"
    assert rows["credit_notes"]["cn_1"]["amount"] == "1.00"
    assert {row["updated_at"] for feed in rows.values() for row in feed.values()} == {
        "2025-06-01T00:00:00Z"
    }


def test_one_version_of_the_api_is_asked_for(puller: Puller) -> None:
    puller()
    assert puller.account.versions == {API_VERSION}


def test_the_same_state_pulled_again_delivers_nothing(puller: Puller) -> None:
    puller()
    puller.now += 3_600
    assert puller().delivered == {}
    assert len(files(puller.settings.landing)) == 5


def test_only_what_changed_is_delivered_and_stamped_later(puller: Puller) -> None:
    puller()
    puller.account.objects["customers"][1]["name"] = "Renamed"
    puller.now += 3_600
    assert puller().delivered == {"workspaces": 1}
    rows = newest(puller.settings.landing)["workspaces"]
    assert rows["cus_2"]["workspace_name"] == "Renamed"
    assert rows["cus_2"]["updated_at"] == "2025-06-01T01:00:00Z"


def test_a_clock_that_goes_back_does_not_make_a_newer_version_older(puller: Puller) -> None:
    puller()
    puller.account.objects["customers"][1]["name"] = "Renamed"
    puller.now -= 7_200
    puller()
    assert newest(puller.settings.landing)["workspaces"]["cus_2"]["workspace_name"] == "Renamed"


def test_a_bill_that_is_newer_than_any_known_is_seen_by_whatever_clock(puller: Puller) -> None:
    puller.now = float(at("2026-06-01"))
    puller()
    bill = invoice("in_3", created="2025-03-02", finalized="2025-03-02T01:00")
    puller.account.objects["invoices"].append(bill)
    puller.now += 3_600
    assert puller().delivered == {"invoices": 1}


def test_the_landing_folder_is_only_added_to(puller: Puller) -> None:
    puller()
    before = {path: path.read_bytes() for path in files(puller.settings.landing)}
    puller.account.objects["customers"][1]["name"] = "Renamed"
    puller.now += 3_600
    puller()
    after = {path: path.read_bytes() for path in files(puller.settings.landing)}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1


def test_an_open_bill_is_asked_for_again_until_it_is_final(puller: Puller) -> None:
    puller.account.objects["invoices"].append(newer())
    puller()
    puller.now += 10 * 86_400
    puller.account.objects["invoices"][1]["status"] = "paid"
    assert puller().delivered == {"invoices": 1}
    assert "/v1/invoices/in_2" in [path for path, _ in puller.account.requests]
    assert newest(puller.settings.landing)["invoices"]["in_2"]["status"] == "paid"
    puller.now += 86_400
    puller()
    assert "/v1/invoices/in_2" not in [path for path, _ in puller.account.requests]


def test_many_open_bills_are_listed_by_their_status(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_pull, "FEW", 3)
    bills = [invoice(f"in_{one:03}", status="open") for one in range(205)]
    puller.account.objects["invoices"] = [*bills, newer()]
    puller()
    bills[7]["status"] = "paid"
    puller.now += 10 * 86_400
    assert puller().delivered == {"invoices": 1}
    statuses = [query.get("status") for query in puller.asked("/v1/invoices")]
    assert statuses == [None, "draft", "open", "open", "open", "uncollectible"]


def test_a_bill_that_an_event_names_is_asked_for_again(puller: Puller) -> None:
    puller()
    paid = puller.account.objects["invoices"][0]
    paid["status"] = "void"
    puller.account.objects["events"] = [
        {
            "id": "evt_9",
            "created": int(puller.now) + 60,
            "type": "invoice.voided",
            "data": {"object": {"id": "in_1"}},
        }
    ]
    puller.now += 10 * 86_400
    assert puller().delivered == {"invoices": 1}
    assert newest(puller.settings.landing)["invoices"]["in_1"]["status"] == "void"


def test_after_a_long_pause_every_bill_is_read_again(puller: Puller) -> None:
    puller()
    puller.account.objects["invoices"][0]["status"] = "void"
    puller.now += 24 * 86_400
    assert not puller().is_everything
    assert newest(puller.settings.landing)["invoices"]["in_1"]["status"] == "paid"
    puller.now += 26 * 86_400
    assert puller().is_everything
    assert newest(puller.settings.landing)["invoices"]["in_1"]["status"] == "void"


def test_everything_is_read_when_asked_for(puller: Puller) -> None:
    puller()
    puller.account.objects["invoices"][0]["status"] = "void"
    puller.now += 86_400
    assert puller(everything=True).delivered == {"invoices": 1}


def test_a_draft_is_delivered_once_it_is_finalized_and_forgotten_when_deleted(
    puller: Puller,
) -> None:
    draft = invoice("in_3", created="2025-05-30", finalized=None, status="draft")
    deleted = invoice("in_4", created="2025-05-30", finalized=None, status="draft")
    puller.account.objects["invoices"] += [draft, deleted]
    report = puller()
    assert report.drafts == 2
    assert "in_3" not in newest(puller.settings.landing)["invoices"]
    draft.update(status="open", status_transitions={"finalized_at": at("2025-06-03")})
    puller.account.objects["invoices"].remove(deleted)
    puller.now += 5 * 86_400
    report = puller()
    assert report.drafts == 0
    row = newest(puller.settings.landing)["invoices"]["in_3"]
    assert row["issued_at"] == "2025-06-03T00:00:00Z"


def test_lists_longer_than_a_page_are_read_to_their_end(puller: Puller) -> None:
    puller.account.objects["customers"] = [customer(f"cus_{one}") for one in range(250)]
    assert puller().delivered["workspaces"] == 250
    assert len(puller.asked("/v1/customers")) == 3
    assert ("customers", 250, True) in puller.told


def test_lines_beyond_the_tenth_are_read(puller: Puller) -> None:
    own = discount(coupon_id="TEN")
    lines = [line(f"il_{one:03}", 1_001, {"di_1": 100}) for one in range(123)]
    puller.account.objects["invoices"] = [invoice(lines=lines, discounts=[own])]
    puller()
    row = newest(puller.settings.landing)["invoices"]["in_1"]
    assert (row["list_amount"], row["discount_amount"]) == ("1231.23", "123.00")
    assert row["discountable_amount"] == "1231.23"


def test_what_is_given_only_when_expanded_is_asked_for(puller: Puller) -> None:
    puller.account.objects["coupons"] = [
        coupon(
            "TEN",
            percent=10,
            applies_to={"products": ["prod_team"]},
        ),
        coupon(
            "EACH",
            amount_off=100,
            currency="usd",
            currency_options={"eur": {"amount_off": 90}},
        ),
    ]
    puller()
    coupons = newest(puller.settings.landing)["coupons"]
    assert coupons["TEN"]["applies_to_plan"] == "prod_team"
    assert coupons["EACH~EUR"]["amount_off"] == "0.90"


def test_a_deleted_coupon_is_read_from_the_discount_that_holds_it(puller: Puller) -> None:
    puller.account.objects["coupons"] = []
    puller()
    assert newest(puller.settings.landing)["coupons"]["TEN"]["percent_off"] == "10"


def test_a_deleted_coupon_is_read_from_the_bills_that_carried_it(puller: Puller) -> None:
    objects = puller.account.objects
    objects["coupons"] = [coupon(percent=40, created=at("2025-05-01"))]
    objects["subscriptions"] = [subscription()]
    report = puller()
    rows = newest(puller.settings.landing)
    coupon_id = rows["redemptions"]["di_1"]["coupon_id"]
    assert rows["coupons"][coupon_id]["percent_off"] == "10"
    assert rows["coupons"]["TEN"]["percent_off"] == "40"
    assert report.refused == []


def test_a_coupon_that_only_a_discount_shows_keeps_its_id_when_it_is_made_again(
    puller: Puller,
) -> None:
    objects = puller.account.objects
    objects["coupons"] = []
    puller()
    objects["coupons"] = [coupon(percent=40, created=at("2025-06-01"))]
    puller.now += 86_400
    puller()
    rows = newest(puller.settings.landing)
    assert rows["coupons"]["TEN"]["percent_off"] == "10"
    assert rows["coupons"][f"TEN~{at('2025-06-01')}"]["percent_off"] == "40"
    assert rows["redemptions"]["di_1"]["coupon_id"] == "TEN"


def test_bills_that_an_earlier_version_requested_otherwise_are_read_again(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = puller.account.objects
    objects["coupons"], objects["subscriptions"] = [], [subscription()]
    expand = ("data.discounts", "data.lines.data.discounts")
    with monkeypatch.context() as before:
        before.setattr(
            stripe_pull, "INVOICES", stripe_pull.Kind("invoices", "/v1/invoices", expand=expand)
        )
        before.setattr(stripe_pull, "ASKED", None)
        assert [one.feed for one in puller().refused] == ["redemptions"]
    puller.now += 3_600
    report = puller()
    assert report.refused == []
    assert newest(puller.settings.landing)["redemptions"]["di_1"]["coupon_id"] == "TEN"
    puller.now += 3_600
    assert not puller().is_everything


def test_what_stripe_does_not_expand_is_left_out_and_nothing_else(puller: Puller) -> None:
    puller.account.unexpanded = "source.coupon"
    puller()
    assert newest(puller.settings.landing)["redemptions"]["di_1"]["coupon_id"] == "TEN"
    own = discount("di_9", subscription=None, invoice="in_2", start="2025-03-01")
    taking = invoice(
        "in_2", [line(discounts={"di_9": 1_200})], discounts=[own], created="2025-03-01"
    )
    puller.account.objects["invoices"][1:] = [taking, newer()]
    puller.now += 3_600
    puller()
    assert "di_9" in newest(puller.settings.landing)["redemptions"]


def test_a_coupon_that_was_deleted_between_pulls_is_known_from_before(puller: Puller) -> None:
    puller()
    holder = puller.account.objects["subscriptions"][0]["discounts"][0]
    holder["source"]["coupon"] = "TEN"
    puller.account.objects["coupons"] = []
    puller.now += 3_600
    report = puller()
    assert (report.delivered, report.refused) == ({}, [])


def test_a_coupon_made_again_under_the_same_id_leaves_what_was_given_before(
    puller: Puller,
) -> None:
    puller()
    again = coupon(percent=40, created=at("2025-06-02"))
    puller.account.objects["coupons"] = [again]
    later = discount("di_2", again, "2025-06-02", subscription="sub_2")
    puller.account.objects["subscriptions"].append(subscription("sub_2", [later]))
    puller.now = float(at("2025-06-03"))
    assert puller().delivered == {"coupons": 1, "redemptions": 1}
    rows = newest(puller.settings.landing)
    apart = rows["redemptions"]["di_2"]["coupon_id"]
    assert rows["redemptions"]["di_1"]["coupon_id"] == "TEN"
    assert rows["coupons"]["TEN"]["percent_off"] == "10"
    assert rows["coupons"][apart]["percent_off"] == "40"
    puller.now += 3_600
    assert puller().delivered == {}


def test_a_removal_between_pulls_is_a_bound_that_stays(puller: Puller) -> None:
    puller.account.objects["invoices"] = []
    puller()
    puller.account.objects["subscriptions"][0]["discounts"] = []
    puller.now = float(at("2025-06-05"))
    report = puller()
    assert [note.id for note in report.notes if note.kind == "end_is_a_bound"] == ["di_1"]
    assert newest(puller.settings.landing)["redemptions"]["di_1"]["revoked_at"] == (
        "2025-06-05T00:00:00Z"
    )
    puller.now = float(at("2025-06-09"))
    assert puller().delivered == {}


def test_a_removal_that_an_event_tells_is_exact(puller: Puller) -> None:
    puller()
    gone = puller.account.objects["subscriptions"][0]["discounts"].pop()
    puller.account.objects["events"] = [removed(gone, at("2025-06-03T11:00"))]
    puller.now = float(at("2025-06-05"))
    puller()
    assert newest(puller.settings.landing)["redemptions"]["di_1"]["revoked_at"] == (
        "2025-06-03T11:00:00Z"
    )


def test_a_customer_that_was_deleted_between_pulls_stays_and_its_discount_ends(
    puller: Puller,
) -> None:
    puller.account.objects["customers"][0]["discount"] = discount(
        "di_c", coupon(percent=10), subscription=None
    )
    puller.account.objects["subscriptions"] = []
    puller.account.objects["invoices"] = [newer()]
    puller()
    before = newest(puller.settings.landing)
    del puller.account.objects["customers"][0]
    puller.now = float(at("2025-06-05"))
    report = puller()
    after = newest(puller.settings.landing)
    assert report.delivered == {"redemptions": 1}
    assert after["workspaces"] == before["workspaces"]
    assert after["redemptions"]["di_c"]["revoked_at"] == "2025-06-05T00:00:00Z"
    assert [note.id for note in report.notes if note.kind == "end_is_a_bound"] == ["di_c"]


def test_a_redemption_that_would_be_refused_by_now_is_never_in_force(
    puller: Puller, settings: Settings
) -> None:
    puller.settings = settings.model_copy(update={"stripe_workspace": "subscription"})
    objects = puller.account.objects
    wide = discount("di_c", coupon("ONCE", percent=10, duration="once"), subscription=None)
    objects["customers"][0]["discount"] = wide
    objects["invoices"] = [newer()]
    puller()
    before = newest(settings.landing)["redemptions"]
    assert {before[one]["workspace_id"] for one in ("di_c", "credgr_1")} == {"sub_1"}
    objects["subscriptions"].append(subscription("sub_2"))
    puller.now = float(at("2025-06-05"))
    report = puller()
    assert {"di_c", "credgr_1"} <= {one.id for one in report.refused}
    after = newest(settings.landing)["redemptions"]
    assert after["di_c"]["revoked_at"] == after["di_c"]["redeemed_at"]
    assert after["credgr_1"]["ends_at"] == after["credgr_1"]["starts_at"]
    puller.now = float(at("2025-06-09"))
    assert puller().delivered == {}


def test_promotion_codes_are_listed_and_a_discount_by_code_is_self_service(puller: Puller) -> None:
    puller.account.objects["promotion_codes"] = [
        {"id": f"promo_{one}", "object": "promotion_code", "created": NOW, "livemode": False}
        for one in range(101)
    ]
    by_code = discount(coupon_id="TEN", promotion_code="promo_7")
    puller.account.objects["subscriptions"] = [subscription(discounts=[by_code])]
    assert puller().objects["promotion_codes"] == 101
    assert newest(puller.settings.landing)["redemptions"]["di_1"]["channel"] == "self_serve"


def test_pages_are_kept_as_they_came(puller: Puller) -> None:
    report = puller()
    folder = puller.settings.home / "pulls" / "stripe" / report.pull
    with gzip.open(next(folder.glob("coupons/*.json.gz"))) as file:
        kept = json.load(file)
    assert kept["api_version"] == API_VERSION
    assert json.loads(kept["body"])["data"][0]["id"] == "TEN"
    assert (puller.settings.home / "pulls").stat().st_mode & 0o077 == 0
    assert json.loads((folder / "report.json").read_text())["delivered"]["workspaces"] == 2


def test_the_key_is_written_nowhere(puller: Puller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        puller()
    puller.account.forbidden = frozenset({"/v1/customers"})
    with pytest.raises(PullError) as caught, caplog.at_level(logging.DEBUG):
        puller(everything=True)
    shown = "".join(traceback.format_exception(caught.value))
    assert "/v1/customers" in caplog.text
    assert KEY not in str(caught.value) + shown + caplog.text
    assert "Name of cus_1" not in caplog.text, "nor is personal data"
    for path in puller.settings.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert KEY.encode() not in content, path


def kept_pages(puller: Puller, pull: str) -> set[str]:
    folder = puller.settings.home / "pulls" / "stripe" / pull
    return {path.parent.name for path in folder.glob("*/*.json.gz")}


def test_old_pages_go_unless_they_are_the_last_to_show_an_object(puller: Puller) -> None:
    many = [line(f"il_{one:02}", 500) for one in range(11)]
    puller.account.objects["invoices"][0] = invoice(lines=many)
    puller.account.objects["invoices"].append(newer())
    first = puller().pull
    assert kept_pages(puller, first) >= {"customers", "subscriptions", "invoices", "lines"}
    puller.now += 90 * 86_400
    second = puller().pull
    puller.now += 1
    third = puller().pull
    assert kept_pages(puller, second) >= {"customers", "subscriptions"}, "not old enough"
    assert "customers" not in kept_pages(puller, first), "every customer came again"
    puller.account.objects["invoices"] = [newer()]
    puller.now += 10 * 86_400
    last = puller().pull
    assert not (puller.settings.home / "pulls" / "stripe" / first).exists()
    puller.now += 200 * 86_400
    puller()
    remaining = {path.name for path in (puller.settings.home / "pulls" / "stripe").glob("*T*")}
    assert {second, third} <= remaining
    assert not {first, last} & remaining
    assert kept_pages(puller, second) == {"invoices", "lines"}, "in_1 was read for the last time"
    assert kept_pages(puller, third) == {"single"}, "and in_2, which was open"
    assert (puller.settings.home / "pulls" / "stripe" / second / "report.json").exists()


def test_how_long_pages_stay_is_a_setting(puller: Puller) -> None:
    puller.settings = puller.settings.model_copy(update={"pull_keep_days": 0})
    puller.account.objects["invoices"] = []
    first = puller().pull
    puller.now += 1
    puller()
    assert "customers" not in kept_pages(puller, first)


# -- What is mapped again --------------------------------------------------------------------------


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The invoices that were mapped."""
    found: list[str] = []
    mapping = Bills.row

    def noted(self: Bills, one: Json) -> Any:
        found.append(one["id"])
        return mapping(self, one)

    monkeypatch.setattr(Bills, "row", noted)
    return found


def test_only_bills_that_changed_are_mapped_again(puller: Puller, mapped: list[str]) -> None:
    puller()
    assert mapped == ["in_1", "in_2"]
    mapped.clear()
    puller.now += 3_600
    puller(everything=True)
    assert mapped == []
    puller.account.objects["invoices"][1]["status"] = "paid"
    puller.now += 3_600
    assert puller().delivered == {"invoices": 1}
    assert mapped == ["in_2"]


def test_what_stands_around_a_bill_has_it_mapped_again(puller: Puller, mapped: list[str]) -> None:
    puller.account.objects["prices"] = []
    grants, puller.account.objects["credit_grants"] = puller.account.objects["credit_grants"], []
    yearly = invoice("in_3", [line(price_id="price_year")], customer="cus_2")
    puller.account.objects["invoices"] += [newer(), yearly]
    report = puller()
    assert {one.id for one in report.refused if one.feed == "invoices"} == {
        *("in_1", "in_2", "in_3", "in_newer"),
    }
    mapped.clear()
    puller.account.objects["prices"] = [price()]
    puller.now += 3_600
    assert puller().delivered["invoices"] == 3
    assert "in_3" not in mapped, "its price is another"
    mapped.clear()
    puller.account.objects["credit_grants"] = grants
    puller.now += 3_600
    assert puller().delivered["invoices"] == 3
    assert "creditable_amount" in newest(puller.settings.landing)["invoices"]["in_1"]
    assert "in_3" not in mapped, "its customer is another"
    mapped.clear()
    puller.settings = puller.settings.model_copy(update={"stripe_mtu_price": "price_team"})
    puller.now += 3_600
    puller()
    assert set(mapped) == {"in_1", "in_2", "in_3", "in_newer"}


def test_the_report_tells_of_bills_that_were_mapped_earlier_too(puller: Puller) -> None:
    puller.account.objects["invoices"][1]["total"] += 7
    puller.account.objects["invoices"].append(
        {**newer(), "starting_balance": -500, "ending_balance": 0}
    )
    draft = invoice("in_draft", created="2025-05-31", finalized=None, status="draft")
    puller.account.objects["invoices"].append(draft)
    first = puller()
    puller.now += 3_600
    second = puller()
    assert (second.refused, second.notes, second.drafts) == (
        *(first.refused, first.notes, first.drafts),
    )
    assert [one.id for one in second.refused] == ["in_2"]
    assert ("customer_balance", "in_newer") in {(one.kind, one.id) for one in second.notes}
    assert second.drafts == 1


def test_what_was_mapped_and_not_delivered_is_mapped_again(
    puller: Puller, mapped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(deliveries, "made_durable", killed)
        puller()
    assert mapped == ["in_1", "in_2"]
    puller.now += 60
    assert puller().delivered["invoices"] == 2
    assert mapped == ["in_1", "in_2"] * 2


def test_a_key_of_any_form_is_left_out_of_messages(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    puller.account.key = "of-another-form"
    monkeypatch.setenv("STRIPE_API_KEY", "of-another-form")
    puller.account.forbidden = frozenset({"/v1/customers"})
    with pytest.raises(PullError, match="may not read /v1/customers") as caught:
        puller()
    assert "of-another-form" not in str(caught.value)
    assert "does not have the required permissions. Give the key" in str(caught.value)


def test_an_object_that_is_refused_is_reported_and_the_others_are_delivered(
    puller: Puller,
) -> None:
    puller.account.objects["invoices"][1]["total"] += 7
    report = puller()
    assert [(one.feed, one.id) for one in report.refused] == [("invoices", "in_2")]
    assert "0.07 USD" in report.refused[0].why
    assert report.delivered["invoices"] == 1


# -- Trouble ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, 503, "cut"])
def test_a_pull_goes_on_after_trouble(puller: Puller, trouble: int | str) -> None:
    puller.account.trouble = lambda number, _: trouble if number % 2 else None
    assert puller().delivered["invoices"] == 2
    assert len(puller.waited) >= 9
    assert 0 not in puller.waited or trouble != "cut", "without a word of Stripe's it waits longer"


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("7", 7, 7), ("3600", 32, 32), ("soon", 0.5, 1.0)]
)
def test_a_pull_waits_as_long_as_stripe_asks_and_no_longer_than_half_a_minute(
    puller: Puller, asked: str, least: float, most: float
) -> None:
    puller.account.retry_after = asked
    puller.account.trouble = lambda number, _: 429 if number == 1 else None
    puller()
    (waited,) = puller.waited
    assert least <= waited <= most


def test_a_connection_that_is_not_secure_is_said_at_once(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = os.environ["COUPON_LEDGER_STRIPE_API_BASE"]
    monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", base.replace("http:", "https:"))
    with pytest.raises(PullError, match=r"not secure.*certificates") as caught:
        puller()
    assert puller.waited == []
    assert KEY not in str(caught.value)


def test_a_proxy_that_refuses_is_named_without_its_password(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUPON_LEDGER_STRIPE_API_BASE", "https://stripe.invalid")
    monkeypatch.setenv("HTTPS_PROXY", "http://somebody:proxy-password@127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(PullError, match="HTTPS_PROXY") as caught:
        puller()
    assert "proxy-password" not in str(caught.value)
    assert len(puller.waited) == MOST_TRIES - 1


def test_trouble_without_end_is_said_and_nothing_is_delivered(puller: Puller) -> None:
    puller.account.trouble = lambda _, path: 429 if path == "/v1/prices" else None
    with pytest.raises(PullError, match=r"429.*/v1/prices.*goes on where it was"):
        puller()
    assert files(puller.settings.landing) == []
    assert len(puller.asked("/v1/prices")) == MOST_TRIES
    puller.account.trouble = lambda *_: None
    puller()
    assert puller.asked("/v1/customers") == [], "what was read is not read again"
    assert len(files(puller.settings.landing)) == 5


def test_a_key_that_is_not_accepted_is_said_at_once(puller: Puller) -> None:
    puller.account.key = "rk_test_another"
    with pytest.raises(PullError, match="does not accept the key"):
        puller()
    assert len(puller.account.requests) == 1
    assert puller.waited == []


def test_a_permission_that_is_missing_is_named(puller: Puller) -> None:
    puller.account.forbidden = frozenset({"/v1/credit_notes"})
    with pytest.raises(PullError, match=r"may not read /v1/credit_notes .*docs/stripe.md"):
        puller()


def test_an_account_without_billing_credits_is_pulled_all_the_same(puller: Puller) -> None:
    puller.account.missing = frozenset({"/v1/billing/credit_grants"})
    report = puller()
    assert ("not_there", "credit_grants") in {(note.kind, note.id) for note in report.notes}
    assert report.delivered["invoices"] == 2


def test_an_address_that_is_not_stripes_is_said(puller: Puller) -> None:
    puller.account.missing = frozenset({"/v1/subscriptions", "/v1/customers"})
    with pytest.raises(PullError, match="Check the address of the API"):
        puller()
    assert files(puller.settings.landing) == []


def test_a_test_account_and_a_live_one_are_not_mixed(puller: Puller) -> None:
    puller()
    for kind in ("customers", "subscriptions", "invoices"):
        for one in puller.account.objects[kind]:
            one["livemode"] = True
    puller.now += 3_600
    with pytest.raises(PullError, match=r"live mode.*test mode"):
        puller()


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("STRIPE_API_KEY", "", "STRIPE_API_KEY is not set"),
        ("STRIPE_API_KEY", "pk_test_1", "publishable"),
        ("COUPON_LEDGER_STRIPE_API_BASE", "http://example.org", "must begin with https://"),
    ],
)
def test_what_is_set_wrong_is_said_before_anything_is_asked(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetUpWrong) as caught:
        puller()
    assert told in str(caught.value)
    assert puller.account.requests == []


def test_two_pulls_at_once_are_refused(puller: Puller) -> None:
    script = (
        "import sys; from pathlib import Path; from dagster_project.sources import deliveries\n"
        "with deliveries.one_pull(Path(sys.argv[1]), 'stripe'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(puller.settings.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(PullError, match="Another pull"):
            puller()
        other.communicate("")
    assert puller().delivered["workspaces"] == 2


# -- Kills -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


def test_a_kill_before_everything_is_ready_delivers_nothing(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(deliveries, "deliver", killed)
        puller()
    assert files(puller.settings.landing) == []
    puller.now += 60
    assert puller().delivered == {}, "they were ready before"
    assert len(files(puller.settings.landing)) == 5


@pytest.mark.parametrize("renamed", [0, 1, 3])
def test_a_kill_amid_the_renames_is_finished_before_a_refresh(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    done: list[Path] = []
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.name.endswith(".csv.part"):
            if len(done) == renamed:
                raise Killed
            done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", replace)
        puller()
    assert len(files(puller.settings.landing)) == renamed
    assert deliveries.finish(puller.settings.home) == 5
    assert len(files(puller.settings.landing)) == 5
    puller.now += 60
    assert puller().delivered == {}
    assert len(files(puller.settings.landing)) == 5


def test_a_file_that_was_removed_before_it_arrived_is_delivered_again(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(deliveries, "deliver", killed)
        puller()
    next(puller.settings.landing.glob("invoices/.*.part")).unlink()
    puller.now += 60
    assert puller().delivered == {"invoices": 2}


def test_what_a_killed_pull_left_aside_is_removed(puller: Puller) -> None:
    left = puller.settings.landing / "invoices" / ".stripe-20250101T000000Z.csv.part"
    left.parent.mkdir(parents=True)
    left.write_text("half a line")
    puller()
    assert not left.exists()


def test_a_killed_pull_that_is_old_starts_again(puller: Puller) -> None:
    puller.account.trouble = lambda _, path: 500 if path == "/v1/coupons" else None
    with pytest.raises(PullError):
        puller()
    puller.account.trouble = lambda *_: None
    puller.account.objects["customers"][0]["name"] = "Changed meanwhile"
    puller.now += 2 * 86_400
    puller()
    assert puller.asked("/v1/customers") != []
    assert newest(puller.settings.landing)["workspaces"]["cus_1"]["workspace_name"] == (
        "Changed meanwhile"
    )


def run_in_a_process(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "dagster_project.cli", "pull", "stripe", *arguments),
            *("--home", str(settings.home), "--landing", str(settings.landing)),
        ],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )


def test_a_process_that_is_killed_amid_a_page_is_gone_on_with(puller: Puller) -> None:
    puller.account.objects["customers"] = [customer(f"cus_{one}") for one in range(150)]
    running: list[subprocess.Popen[bytes]] = []

    def kill(_: int, path: str) -> None:
        if path == "/v1/prices" and running:
            arguments = Path(f"/proc/{running[0].pid}/cmdline").read_bytes()
            assert b"stripe" in arguments
            assert KEY.encode() not in arguments
            running.pop().send_signal(signal.SIGKILL)

    puller.account.trouble = kill
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster_project.cli", "pull", "stripe"),
            *("--home", str(puller.settings.home), "--landing", str(puller.settings.landing)),
        ],
        stderr=subprocess.DEVNULL,
    )
    running.append(process)
    assert process.wait() == -signal.SIGKILL
    assert files(puller.settings.landing) == []
    puller.account.requests.clear()
    done = run_in_a_process(puller.settings)
    assert done.returncode == 0, done.stderr
    assert puller.asked("/v1/customers") == []
    assert "workspaces 150" in done.stdout


# -- The command -----------------------------------------------------------------------------------


def test_the_command_says_what_it_did(puller: Puller) -> None:
    puller.account.objects["invoices"][1]["total"] += 7
    done = run_in_a_process(puller.settings)
    assert done.returncode == 0, done.stderr
    assert "Delivered: workspaces 2, coupons 2, redemptions 2, invoices 1" in done.stdout
    assert "invoices in_2: it does not add up" in done.stdout
    assert "credit notes" in done.stderr
    assert KEY not in done.stdout + done.stderr
    told = json.loads(run_in_a_process(puller.settings, "--json").stdout)
    assert told["delivered"] == {}
    assert told["refused"][0]["id"] == "in_2"


def test_the_command_needs_a_key(puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_API_KEY")
    done = run_in_a_process(puller.settings)
    assert done.returncode == 2
    assert "STRIPE_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sample_is_never_written_into(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project.cli", "pull", "stripe", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--landing" in done.stderr


# -- The checks of a first account -----------------------------------------------------------------


def outcomes() -> dict[str, str]:
    return {check.question: check.outcome for check in stripe_probe.probe()}


def test_an_account_that_does_as_assumed_is_said_to(puller: Puller) -> None:
    found = outcomes()
    assert found["list - discount - credit + exclusive tax is the total"] == "as assumed"
    assert found["a bill names a subscription's discount by the same id"] == "as assumed"
    assert found["a voided bill gives a coupon for one bill back"] == "nothing to check"
    replaced = "a subscription's discount takes the place of its customer's"
    assert found[replaced] == "nothing to check"
    own = discount("di_own", subscription=None)
    puller.account.objects["customers"][0]["discount"] = own
    assert outcomes()[replaced] == "as assumed"
    puller.account.objects["invoices"][0]["discounts"].append(own)
    assert outcomes()[replaced] == "differs"
    assert not puller.settings.home.exists(), "it keeps nothing"


def test_an_account_that_does_otherwise_is_said_to(puller: Puller) -> None:
    lines = [line(price_id="price_team", credit=500, discounts={"di_1": 1_200})]
    before_credit = invoice(lines=lines, discounts=[discount("di_copy")])
    before_credit["total"] += 500
    puller.account.objects["invoices"] = [before_credit]
    puller.account.objects["coupons"] = []
    puller.account.objects["subscriptions"][0]["discounts"][0]["source"]["coupon"] = "TEN"
    found = outcomes()
    assert found["the total of a bill is what is left after billing credits"] == "differs"
    assert found["a bill names a subscription's discount by the same id"] == "differs"
    assert found["a deleted coupon that somebody holds still says what it gives"] == "differs"
    done = run_in_a_process(puller.settings, "--probe")
    assert done.returncode == 1
    assert "differs" in done.stdout


def test_a_told_progress_is_by_kind(puller: Puller) -> None:
    puller()
    done = [kind for kind, _, is_done in puller.told if is_done]
    assert done[:3] == ["subscriptions", "customers", "invoices"]
    assert {"coupons", "prices", "credit_notes", "credit_grants"} <= set(done)
    assert "events customer.discount" in done
    assert done.count("credit_balance_transactions") == 1, "not once for each customer"


def test_a_data_home_of_a_newer_version_is_left_alone(puller: Puller) -> None:
    puller.settings.home.mkdir()
    newer_layout = json.dumps({"layout": 99, "written_by": "9.0.0"})
    (puller.settings.home / "home.json").write_text(newer_layout)
    done = run_in_a_process(puller.settings)
    assert done.returncode == 1
    assert "layout 99" in done.stderr
    assert puller.account.requests == []
