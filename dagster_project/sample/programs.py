"""The coupons of the sample: every program and every discount type, in several currencies.

What a coupon gives is defined here; who redeems it, in plans.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from dagster_project.sample.moments import DAY, add_months, instant
from dagster_project.sample.prices import BUSINESS, TEAM

# No startup application or renewal after this instant.
STARTUP_CLOSE: Final = instant(date(2025, 1, 6), 23, 59, 59)


@dataclass(frozen=True, slots=True)
class Coupon:
    """One coupon; fields as in the coupons feed.

    `percent_off` is in ten-thousandths of a percent, amounts are in minor units, instants in
    seconds since 1970.
    """

    coupon_id: str
    coupon_name: str
    program: str
    discount_type: str
    percent_off: int | None = None
    amount_off: int | None = None
    amount_off_per: str | None = None
    credit_amount: int | None = None
    credit_period_months: int | None = None
    credit_max_periods: int | None = None
    credit_priority: int | None = None
    currency: str | None = None
    applies_to_plan: str | None = None
    applies_to_interval: str | None = None
    duration: str = "forever"
    duration_months: int | None = None
    duration_invoices: int | None = None
    redeem_by: int | None = None
    max_redemptions: int | None = None
    requires_no_prior_coupon: bool = False
    once_per: str | None = None
    follow_up_coupon_id: str | None = None
    updated_at: int = 0


def _percent(
    coupon_id: str,
    name: str,
    program: str,
    percent: str,
    *,
    months: int | None = None,
    invoices: int | None = None,
    duration: str | None = None,
) -> Coupon:
    whole, _, places = percent.partition(".")
    return Coupon(
        coupon_id,
        name,
        program,
        "percent_off",
        percent_off=int(whole) * 10_000 + int(places.ljust(4, "0")),
        duration=duration or ("repeating" if months or invoices else "forever"),
        duration_months=months,
        duration_invoices=invoices,
    )


def _amount(
    coupon_id: str,
    name: str,
    program: str,
    amount: int,
    currency: str,
    *,
    months: int | None = None,
    duration: str | None = None,
) -> Coupon:
    return Coupon(
        coupon_id,
        name,
        program,
        "amount_off",
        amount_off=amount,
        currency=currency,
        duration=duration or ("repeating" if months else "forever"),
        duration_months=months,
    )


def _credit(
    coupon_id: str, name: str, amount: int, currency: str, priority: int | None, months: int | None
) -> Coupon:
    return Coupon(
        coupon_id,
        name,
        "special",
        "credit",
        credit_amount=amount,
        currency=currency,
        credit_priority=priority,
        duration="repeating" if months else "forever",
        duration_months=months,
    )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All coupons: as first delivered, and as they are after the change.

    Attributes:
        first: The first full snapshot.
        final: The changed snapshot, on which every calculation rests.
        changed_at: The instant of the change.
    """

    first: tuple[Coupon, ...]
    final: tuple[Coupon, ...]
    changed_at: int

    @property
    def edited(self) -> list[str]:
        """The coupons whose terms the change altered; a new name alone alters no terms."""
        before = {coupon.coupon_id: _terms(coupon) for coupon in self.first}
        return [
            coupon.coupon_id
            for coupon in self.final
            if before.get(coupon.coupon_id, _terms(coupon)) != _terms(coupon)
        ]


def _terms(coupon: Coupon) -> Coupon:
    """Return a coupon without what does not matter to a bill."""
    return replace(coupon, coupon_name="", program="", updated_at=0)


def catalogue(start: int, end: int, workspaces: int) -> Catalogue:
    """Return the coupons of a sample.

    Args:
        start: First instant of the sample.
        end: First instant after it.
        workspaces: How many workspaces there are; the limited coupon's limit grows with it.

    Returns:
        Both snapshots.
    """
    special = "special"
    coupons = (
        Coupon(
            "STARTUP-TEAM",
            "Startup program: 25,000 a year",
            "startup",
            "credit",
            credit_amount=25_000_00,
            credit_period_months=12,
            credit_max_periods=2,
            credit_priority=10,
            currency="USD",
            applies_to_plan=TEAM,
            duration="repeating",
            duration_months=24,
            redeem_by=STARTUP_CLOSE,
            requires_no_prior_coupon=True,
        ),
        _percent("ACCEL-20", "Accelerators: 20% for a year", "accelerator", "20", months=12),
        _percent("ACCEL-25", "Accelerators: 25% for six months", "accelerator", "25", months=6),
        _percent("ACCEL-50", "Accelerators: half of three bills", "accelerator", "50", invoices=3),
        replace(
            _percent("ACCEL-ALUMNI", "Accelerator alumni: 15%", "accelerator", "15", months=12),
            redeem_by=add_months(start, 9) - 1,
        ),
        _amount("ACCEL-75-USD", "Accelerators: 75 off", "accelerator", 75_00, "USD", months=12),
        _amount("ACCEL-60-EUR", "Accelerators: 60 off", "accelerator", 60_00, "EUR", months=12),
        _amount("ACCEL-50-GBP", "Accelerators: 50 off", "accelerator", 50_00, "GBP", months=12),
        _amount("ACCEL-9000-JPY", "Accelerators: 9,000 off", "accelerator", 9_000, "JPY", months=9),
        *(
            replace(
                _amount(f"NONPROFIT-{currency}", "Non-profits", "non_profit", amount, currency),
                amount_off_per="month",
                applies_to_plan=TEAM,
            )
            for currency, amount in (
                ("USD", 120_00),
                ("EUR", 110_00),
                ("GBP", 96_00),
                ("JPY", 18_000),
            )
        ),
        replace(
            _percent("SPRING-50", "Spring: half price, six months", special, "50", months=6),
            follow_up_coupon_id="SPRING-20",
        ),
        _percent("SPRING-20", "Spring, after it: 20% for a year", special, "20", months=12),
        _percent("WELCOME", "Welcome: a third of one bill", special, "33.3333", duration="once"),
        _amount("GIFT-250", "A gift: 250 off one bill", special, 250_00, "USD", duration="once"),
        replace(
            _percent("LAUNCH-30", "Launch, first come first served", special, "30", months=3),
            max_redemptions=max(4, workspaces // 50),
        ),
        _credit("CREDIT-500", "Apology credit", 500_00, "USD", 1, 6),
        replace(
            _credit("CREDIT-QUARTERLY", "Partner credit by quarter", 1_200_00, "USD", 20, None),
            credit_period_months=3,
            credit_max_periods=4,
        ),
        _credit("CREDIT-OPEN", "Migration credit without an end", 900_00, "USD", None, None),
        _credit("CREDIT-EUR", "Migration credit", 800_00, "EUR", None, 12),
        replace(
            _amount("WINBACK-40", "Win-back: 40 off a month", special, 40_00, "USD", months=3),
            amount_off_per="month",
            follow_up_coupon_id="WINBACK-CREDIT",
        ),
        _credit("WINBACK-CREDIT", "Win-back, after it: 300 of credit", 300_00, "USD", 5, 6),
        replace(
            _percent("YEARLY-15", "15% for paying by the year", special, "15"),
            applies_to_interval="year",
        ),
        replace(
            _percent("BUSINESS-10", "Business: 10% for a year", special, "10", months=12),
            applies_to_plan=BUSINESS,
        ),
        _percent("PILOT-100", "Pilot: two free months", special, "100", months=2),
    )
    changed_at = STARTUP_CLOSE - 4 * DAY
    if not start < changed_at < end:
        changed_at = start + (end - start) // 2
    final = tuple(
        replace(coupon, updated_at=changed_at if coupon.coupon_id in _CHANGED else start - 30 * DAY)
        for coupon in coupons
    )
    first = tuple(
        replace(coupon, updated_at=start - 30 * DAY, **_CHANGED.get(coupon.coupon_id, {}))  # type: ignore[arg-type]
        for coupon in final
        if coupon.coupon_id not in _NEW
    )
    return Catalogue(first, final, changed_at)


# What a few coupons were in the first snapshot: the startup program had no closing date yet.
_CHANGED: Final[dict[str, dict[str, object]]] = {
    "STARTUP-TEAM": {"redeem_by": None},
    "ACCEL-25": {"coupon_name": "Accelerators, 25%"},
    "WINBACK-40": {},
    "WINBACK-CREDIT": {},
}
# Delivered with the changed snapshot only.
_NEW: Final = frozenset({"WINBACK-40", "WINBACK-CREDIT"})
