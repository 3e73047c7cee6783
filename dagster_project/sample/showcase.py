"""Workspaces billed as mature billing systems bill: subscriptions, prorations, credit notes, quarters.

Each workspace shows one thing, in the last eighteen months of a sample, with the same amounts in every
sample. The amounts are written out beside the bills rather than calculated, so nothing here
implements the rules a third time. The workspaces, their coupons and their bills come after the invented
ones and in files of their own; the invented ones are the same with and without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dagster_project.sample.billing import Redemption
from dagster_project.sample.moments import (
    DAY,
    add_months,
    day_in_month,
    day_text,
    instant_text,
    month_of,
    month_start,
)
from dagster_project.sample.prices import EXPONENTS, TEAM, money_text, rounded_share
from dagster_project.sample.programs import Coupon

MONTHS: Final = 18
"""A sample of fewer months has no room for the showcase."""

_BILLED_ON: Final = 5
_HOUR: Final = 3600
_TAX: Final = 8_000  # thousandths of a percent


def _percent(coupon_id: str, name: str, percent: int, **terms: Any) -> Coupon:
    duration = terms.get("duration")
    if duration is None:
        limits = ("duration_months", "duration_invoices")
        terms["duration"] = "repeating" if any(map(terms.get, limits)) else "forever"
    terms = {"program": "special"} | terms
    return Coupon(
        coupon_id, name, discount_type="percent_off", percent_off=percent * 10_000, **terms
    )


def _coupons() -> tuple[Coupon, ...]:
    """Return the coupons of the showcase as first delivered."""
    return (
        _percent(
            "TEAMS-30",
            "30% for a year, once for each subscription",
            30,
            duration_months=12,
            once_per="subscription",
        ),
        _percent("ONBOARD-50", "Half price for half a year", 50, duration_months=6),
        Coupon(
            "USAGE-600",
            "600 of credit toward usage",
            "special",
            "credit",
            credit_amount=600_00,
            credit_priority=30,
            currency="USD",
            duration="repeating",
            duration_months=12,
        ),
        _percent("LOYAL-20", "Loyal customers: 20%", 20),
        Coupon(
            "NONPROFIT-40-EUR",
            "Non-profits on other plans: 40 a month",
            "non_profit",
            "amount_off",
            amount_off=40_00,
            amount_off_per="month",
            currency="EUR",
            once_per="workspace",
        ),
        _percent("WEEKLY-10", "10% for a quarter", 10, duration_months=3),
        _percent("MONTHLY-10", "10% of what recurs by the month", 10, applies_to_interval="month"),
        _percent(
            "LADDER-60",
            "Ladder, first step: 60% for two months",
            60,
            program="accelerator",
            duration_months=2,
            follow_up_coupon_id="LADDER-40",
        ),
        _percent(
            "LADDER-40",
            "Ladder, second step: 40% for two months",
            40,
            program="accelerator",
            duration_months=2,
            follow_up_coupon_id="LADDER-20",
        ),
        _percent(
            "LADDER-20",
            "Ladder, last step: 20% for two months",
            20,
            program="accelerator",
            duration_months=2,
        ),
        _percent(
            "AGENCY-15", "Agencies: 15% for each workspace of a client", 15, once_per="workspace"
        ),
        Coupon(
            "THANKS-50",
            "Thanks: 50 off one bill, as often as deserved",
            "special",
            "amount_off",
            amount_off=50_00,
            currency="USD",
            duration="once",
            once_per="unlimited",
        ),
        _percent("EXTENDED-15", "15% for half a year", 15, duration_months=6),
        Coupon(
            "QUEUE-400",
            "400 of credit, drawn first",
            "special",
            "credit",
            credit_amount=400_00,
            credit_priority=40,
            currency="USD",
            duration="repeating",
            duration_months=12,
        ),
        Coupon(
            "QUEUE-YEARLY",
            "1,000 of credit a year for two years",
            "special",
            "credit",
            credit_amount=1_000_00,
            credit_period_months=12,
            credit_max_periods=2,
            credit_priority=41,
            currency="USD",
            duration="repeating",
            duration_months=24,
        ),
        _percent("FOUR-BILLS-25", "A quarter off four bills", 25, duration_invoices=4),
    )


@dataclass(slots=True)
class Showcase:
    """The showcase of one sample, record by record, values as text by column.

    Attributes:
        end: First instant after the sample.
        number: Number of its latest workspace.
        redeemed: Redemptions on record so far, those of the invented workspaces included.
        coupons: Its coupons as first delivered.
        edited: Coupons whose terms were edited later, as they are since.
        errors: The planted errors, as listed in the truth.
        scenarios: What each workspace shows; where several show the same, the first.
    """

    end: int
    number: int
    redeemed: int
    coupons: tuple[Coupon, ...] = ()
    edited: list[Coupon] = field(default_factory=list)
    workspaces: list[dict[str, str]] = field(default_factory=list)
    redemptions: list[Redemption] = field(default_factory=list)
    invoices: list[dict[str, str]] = field(default_factory=list)
    credit_notes: list[dict[str, str]] = field(default_factory=list)
    budgets: list[dict[str, str]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    scenarios: dict[str, str] = field(default_factory=dict)
    _sequence: int = 0

    @property
    def begin(self) -> int:
        """The first instant of its first month."""
        return self.at(MONTHS - 1, 1, hour=0)

    @property
    def counted_invoices(self) -> int:
        """Invoices that count (R1)."""
        return sum(one["status"] not in ("void", "draft") for one in self.invoices)

    @property
    def refused(self) -> list[Redemption]:
        """Redemptions that the rules refuse."""
        return [one for one in self.redemptions if one.refusal is not None]

    def at(self, months_ago: int, day: int, hour: int = 9) -> int:
        """Return an instant in a month of the sample, counted back from its last."""
        month = month_of(self.end // DAY - 1) - months_ago
        return day_in_month(month, day) * DAY + hour * _HOUR

    def fill(self) -> None:
        """Add every scenario."""
        self.coupons = tuple(replace(one, updated_at=self.begin) for one in _coupons())
        for scenario in (
            _subscriptions,
            _part_discountable,
            _usage_only_credit,
            _money_back,
            _credit_notes,
            _intervals,
            _chains,
            _once_per,
            _edited,
            _ahead,
            _budgets,
        ):
            scenario(self)
        self.invoices.sort(key=lambda one: (one["issued_at"], one["invoice_id"]))

    # --- What happens ------------------------------------------------------------------------

    def open(self, scenario: str, name: str) -> str:
        """Open an account for the next workspace, and return its id."""
        self.number += 1
        self._sequence = 0
        workspace_id = f"ws_{self.number:05d}"
        created = self.at(MONTHS, 10)
        self.workspaces.append(
            {
                "workspace_id": workspace_id,
                "workspace_name": name,
                "owner_user_id": self.user(),
                "created_at": instant_text(created),
                "updated_at": instant_text(created),
            }
        )
        self.scenarios.setdefault(scenario, workspace_id)
        return workspace_id

    def user(self) -> str:
        """Return the owner of the latest workspace."""
        return f"usr_{self.number * 2_654_435_761 % 2**32:08x}{self.number:05d}"

    def redeem(
        self,
        coupon_id: str,
        at: int,
        *,
        subscription_id: str = "",
        user_id: str | None = None,
        refusal: str | None = None,
        channel: str = "self_serve",
    ) -> Redemption:
        """Redeem a coupon for the latest workspace."""
        self.redeemed += 1
        redemption = Redemption(
            f"rdm_{self.redeemed:06d}",
            coupon_id,
            f"ws_{self.number:05d}",
            self.user() if user_id is None else user_id,
            at,
            subscription_id=subscription_id,
            refusal=refusal,
            channel=channel,
        )
        self.redemptions.append(redemption)
        return redemption

    def bill(
        self,
        issued_at: int,
        list_amount: int,
        discount: int = 0,
        credit: int = 0,
        *,
        interval: str = "month",
        count: int | None = None,
        subscription_id: str = "",
        currency: str = "USD",
        discountable: int | None = None,
        creditable: int | None = None,
        status: str = "paid",
        tax_rate: int = 0,
    ) -> str:
        """Bill the latest workspace, amounts in minor units, and return the id of the bill."""
        self._sequence += 1
        invoice_id = f"in_{self.number:05d}_{self._sequence:03d}"
        day = issued_at // DAY
        length = count or 1
        if interval in ("week", "once"):
            period_end = day + (7 * length if interval == "week" else 1)
        else:
            months = length * (12 if interval == "year" else 1)
            period_end = add_months(day * DAY, months) // DAY
        net = list_amount - discount - credit
        tax = rounded_share(abs(net), tax_rate, 100_000) * (-1 if net < 0 else 1)

        def amount(value: int | None) -> str:
            return "" if value is None else money_text(value, EXPONENTS[currency])

        self.invoices.append(
            {
                "invoice_id": invoice_id,
                "workspace_id": f"ws_{self.number:05d}",
                "status": status,
                "plan": TEAM,
                "billing_interval": interval,
                "interval_count": "" if count is None else str(count),
                "subscription_id": subscription_id,
                "currency": currency,
                "period_start": day_text(day),
                "period_end": day_text(period_end),
                "issued_at": instant_text(issued_at),
                "list_amount": amount(list_amount),
                "discountable_amount": amount(discountable),
                "creditable_amount": amount(creditable),
                "discount_amount": amount(discount),
                "credit_amount": amount(credit),
                "tax_amount": amount(tax),
                "total_amount": amount(net + tax),
                "mtus": "",
                "updated_at": instant_text(issued_at + _HOUR),
            }
        )
        return invoice_id

    def bills(
        self, months_ago: Iterable[int], list_amount: int, discount: int = 0, **others: Any
    ) -> list[str]:
        """Bill the latest workspace the same in several months."""
        return [
            self.bill(self.at(ago, _BILLED_ON), list_amount, discount, **others)
            for ago in months_ago
        ]

    def credit_back(
        self, invoice_id: str, amount: int, at: int, reason: str, status: str = "issued"
    ) -> str:
        """Issue a credit note, and return its id."""
        note_id = f"cn_{len(self.credit_notes) + 1:04d}"
        self.credit_notes.append(
            {
                "credit_note_id": note_id,
                "invoice_id": invoice_id,
                "status": status,
                "issued_at": instant_text(at),
                "currency": "USD",
                "amount": money_text(amount, EXPONENTS["USD"]),
                "tax_amount": "",
                "reason": reason,
                "updated_at": instant_text(at + 60),
            }
        )
        return note_id

    def plant(self, kind: str, record_id: str, **others: str) -> None:
        """Record an error in the truth."""
        self.errors.append({"type": kind, "record_id": record_id, **others})


# --- Scenario by scenario ----------------------------------------------------------------------


def _subscriptions(shown: Showcase) -> None:
    """Add three subscriptions: two with the same coupon, one of those requested a second time."""
    shown.open("several_subscriptions", "Cedar Studios")
    first, second, third = (f"sub_{shown.number:05d}_{letter}" for letter in "abc")
    shown.redeem("TEAMS-30", shown.at(14, 1), subscription_id=first)
    shown.redeem("TEAMS-30", shown.at(10, 1), subscription_id=second)
    shown.redeem(
        "TEAMS-30", shown.at(6, 1), subscription_id=first, refusal="duplicate_for_workspace"
    )
    shown.bills((16, 15), 200_00, subscription_id=first)
    shown.bills(range(14, 2, -1), 200_00, 60_00, subscription_id=first)
    shown.bills((2, 1, 0), 200_00, subscription_id=first)
    shown.bills(range(10, -1, -1), 400_00, 120_00, subscription_id=second)
    shown.bills(range(8, -1, -1), 90_00, subscription_id=third)


def _part_discountable(shown: Showcase) -> None:
    """Add prorations that no coupon touches: part of a bill, and all of another."""
    shown.open("part_discountable", "Marble Logistics")
    shown.redeem("ONBOARD-50", shown.at(8, 1))
    shown.bills((9,), 150_00)
    shown.bills((8,), 150_00, 75_00)
    shown.bills((7,), 250_00, 75_00, discountable=150_00)
    shown.bill(shown.at(7, 20), 40_00, discountable=0, interval="once")
    shown.bills(range(6, 2, -1), 190_00, 95_00, discountable=190_00)
    shown.bills((2, 1, 0), 190_00)


def _usage_only_credit(shown: Showcase) -> None:
    """Add credit that pays the usage on a bill and never its base price."""
    shown.open("usage_only_credit", "Pine Analytics")
    shown.redeem("USAGE-600", shown.at(7, 1))
    shown.bills((8,), 320_00, creditable=200_00)
    shown.bills((7, 6), 320_00, credit=200_00, creditable=200_00)
    shown.bills((5,), 120_00, creditable=0)
    shown.bills((4,), 290_00, credit=170_00, creditable=170_00)
    shown.bills((3,), 320_00, credit=30_00, creditable=200_00)
    shown.bills((2, 1, 0), 320_00, creditable=200_00)


def _money_back(shown: Showcase) -> None:
    """Add a downgrade in the middle of a month: a negative bill, and smaller ones from then on."""
    shown.open("money_back", "Harbor Press")
    shown.redeem("LOYAL-20", shown.at(12, 1))
    shown.bills(range(12, 5, -1), 500_00, 100_00, tax_rate=_TAX)
    shown.bill(shown.at(6, 14), -210_00, interval="once", tax_rate=_TAX)
    shown.bills(range(5, -1, -1), 150_00, 30_00, tax_rate=_TAX)


def _credit_notes(shown: Showcase) -> None:
    """Add credit notes: partial, up to the whole bill, beyond it, void, and on an uncounted bill."""
    workspace_id = shown.open("credit_notes", "Slate Clinics")
    shown.redeem("LOYAL-20", shown.at(14, 1))
    in_part, in_full, beyond, untouched, *_ = shown.bills(range(10, -1, -1), 300_00, 60_00)
    void = shown.bill(shown.at(3, 12), 80_00, 16_00, status="void")
    shown.credit_back(in_part, 50_00, shown.at(10, 20), "outage")
    shown.credit_back(in_full, 140_00, shown.at(9, 12), "wrong plan")
    shown.credit_back(in_full, 100_00, shown.at(9, 25), "wrong plan, the rest")
    shown.credit_back(beyond, 150_00, shown.at(8, 12), "unused seats")
    shown.credit_back(beyond, 115_00, shown.at(7, 2), "unused seats, once more")
    shown.credit_back(untouched, 80_00, shown.at(7, 10), "issued by mistake", status="void")
    shown.plant(
        "credited_beyond_bill",
        beyond,
        workspace_id=workspace_id,
        currency="USD",
        billed_minus_correct="-25.00",
    )
    unknown = f"in_{shown.number:05d}_900"
    for invoice_id, amount in ((unknown, 35_00), (void, 64_00)):
        note_id = shown.credit_back(invoice_id, amount, shown.at(2, 18), "goodwill")
        shown.plant("credit_note_without_invoice", note_id, invoice_id=invoice_id)


def _intervals(shown: Showcase) -> None:
    """Add quarterly and weekly bills, and bills that do not recur."""
    shown.open("quarterly", "Verein Nordlicht")
    shown.redeem("NONPROFIT-40-EUR", shown.at(13, 1))
    shown.bills((15,), 900_00, count=3, currency="EUR")
    shown.bills((12, 9, 6, 3, 0), 900_00, 120_00, count=3, currency="EUR")

    shown.open("weekly", "Corner Bakery")
    redemption = shown.redeem("WEEKLY-10", shown.at(5, 10))
    until = add_months(redemption.redeemed_at, 3)
    issued_at = shown.at(6, 3)
    while issued_at < shown.end:
        is_reduced = redemption.redeemed_at <= issued_at < until
        shown.bill(issued_at, 45_00, 4_50 if is_reduced else 0, interval="week")
        issued_at += 7 * DAY

    shown.open("bills_that_do_not_recur", "Quarry Robotics")
    shown.redeem("MONTHLY-10", shown.at(9, 1))
    shown.bill(shown.at(9, 3), 1_500_00, interval="once")
    shown.bills(range(9, -1, -1), 120_00, 12_00)
    shown.bill(shown.at(4, 16), 2_400_00, interval="once")


def _chains(shown: Showcase) -> None:
    """Add three links: all but the first derived, then with the second on record."""
    shown.open("chain_of_three", "Lantern Labs")
    shown.redeem("LADDER-60", shown.at(9, 1), channel="partner")
    _ladder(shown)
    shown.open("chain_with_a_link_on_record", "Beacon Freight")
    shown.redeem("LADDER-60", shown.at(9, 1), channel="partner")
    shown.redeem("LADDER-40", shown.at(7, 1), channel="follow_up")
    _ladder(shown)


def _ladder(shown: Showcase) -> None:
    shown.bills((10,), 200_00)
    for months_ago, discount in (((9, 8), 120_00), ((7, 6), 80_00), ((5, 4), 40_00)):
        shown.bills(months_ago, 200_00, discount)
    shown.bills((3, 2, 1, 0), 200_00)


def _once_per(shown: Showcase) -> None:
    """Add one user with a coupon in two workspaces, and a coupon that anyone may redeem again."""
    shown.open("once_per_workspace", "Agency Client North")
    agency = shown.user()
    shown.redeem("AGENCY-15", shown.at(8, 1))
    shown.bills(range(8, -1, -1), 160_00, 24_00)
    shown.open("once_per_workspace_other", "Agency Client South")
    shown.redeem("AGENCY-15", shown.at(6, 1), user_id=agency)
    shown.redeem("AGENCY-15", shown.at(3, 1), user_id=agency, refusal="duplicate_for_workspace")
    shown.bills((7,), 260_00)
    shown.bills(range(6, -1, -1), 260_00, 39_00)

    shown.open("once_per_unlimited", "Meadow Insurance")
    shown.bills((9,), 300_00)
    shown.redeem("THANKS-50", shown.at(8, 1), channel="support")
    shown.bills((8,), 300_00, 50_00)
    shown.bills((7, 6), 300_00)
    for day in (1, 2):
        shown.redeem("THANKS-50", shown.at(5, day), channel="support")
    shown.bills((5,), 300_00, 100_00)
    shown.bills(range(4, -1, -1), 300_00)


def _edited(shown: Showcase) -> None:
    """Add a coupon made longer while it was in force; the bills follow its newest terms."""
    shown.open("edited_coupon", "Orchard Mobile")
    before = next(one for one in shown.coupons if one.coupon_id == "EXTENDED-15")
    after = replace(before, duration_months=9, updated_at=shown.at(6, 10))
    shown.edited.append(after)
    shown.redeem("EXTENDED-15", shown.at(10, 1))
    shown.bills(range(10, 1, -1), 180_00, 27_00)
    shown.bills((1, 0), 180_00)
    shown.plant("coupon_terms_changed", "EXTENDED-15")


def _ahead(shown: Showcase) -> None:
    """Add what is still to come: queued credit, and a coupon with one bill left."""
    shown.open("queued_grants", "Summit Payroll")
    shown.redeem("QUEUE-400", shown.at(3, 1))
    shown.redeem("QUEUE-YEARLY", shown.at(3, 1))
    shown.bills((4,), 150_00)
    shown.bills(range(3, -1, -1), 150_00, credit=150_00)

    shown.open("one_bill_left", "Tundra Games")
    shown.redeem("FOUR-BILLS-25", shown.at(2, 1))
    shown.bills((3,), 240_00)
    shown.bills((2, 1, 0), 240_00, 60_00)


def _budgets(shown: Showcase) -> None:
    """Add what two programs may give each month of the last year, one of them in two currencies."""
    for program, currency, amount in (
        ("accelerator", "USD", 2_500_00),
        ("accelerator", "EUR", 900_00),
        ("special", "USD", 6_000_00),
    ):
        for ago in range(11, -1, -1):
            day = month_start(month_of(shown.end // DAY - 1) - ago)
            shown.budgets.append(
                {
                    "program": program,
                    "currency": currency,
                    "month": day_text(day),
                    "amount": money_text(amount, EXPONENTS[currency]),
                    "updated_at": instant_text(shown.at(11, 1)),
                }
            )
