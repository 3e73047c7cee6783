"""The invented workspaces and the coupons they redeem.

Each scenario is one story: it may shape the workspace, and it sends redemptions to the desk, refused
ones too. Whether a redemption is honoured is decided in billing.py, not here. Every second one of the
first workspaces shows the next story, so each is shown once; the stories of the others are drawn by weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from dagster_project.sample.billing import Redemption
from dagster_project.sample.moments import DAY, add_months, day_in_month, month_of, month_start
from dagster_project.sample.prices import TAX_RATES
from dagster_project.sample.programs import STARTUP_CLOSE, Coupon
from dagster_project.sample.schedule import Workspace

_FIRST_WORDS: Final = (
    "Amber", "Blue", "Cedar", "Delta", "Ember", "Fjord", "Golden", "Harbor", "Indigo", "Juniper",
    "Kestrel", "Lumen", "Maple", "Nimbus", "Orchard", "Pixel", "Quarry", "River", "Summit", "Tidal",
    "Umbra", "Velvet", "Willow", "Zephyr",
)  # fmt: skip
_LAST_WORDS: Final = (
    "Analytics", "Bikes", "Commerce", "Dental", "Energy", "Foods", "Games", "Health", "Insurance",
    "Jobs", "Kitchens", "Learning", "Media", "Networks", "Optics", "Payments", "Rentals", "Studios",
    "Travel", "Works",
)  # fmt: skip
# Names on which a careless reader of CSV files fails.
_AWKWARD_NAMES: Final = (
    "Bäckerei Sonne, Köln",
    'The "Good" Company',
    "Ñandú & Søn",
    "東京データ",
    "O'Neill, Byrne & Co.",
)


@dataclass(slots=True)
class Desk:
    """Where coupons are redeemed: it records and numbers redemptions and knows the sample's limits.

    Attributes:
        start: First instant of the sample.
        end: First instant after it.
        coupons: The coupons as they are at the end, by id.
        redemptions: Every redemption on record.
        users: By coupon, who redeemed it and when, in the order of the workspaces.
    """

    start: int
    end: int
    coupons: dict[str, Coupon]
    redemptions: list[Redemption] = field(default_factory=list)
    users: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def redeem(
        self,
        workspace: Workspace,
        coupon_id: str,
        at: int,
        *,
        user_id: str | None = None,
        workspace_id: str | None = None,
        starts_at: int | None = None,
        ends_at: int | None = None,
        revoked_at: int | None = None,
        eligible_until: int | None = None,
        channel: str = "self_serve",
        order: int | None = None,
    ) -> Redemption | None:
        """Record a redemption, unless it is before or after the sample.

        Returns:
            The redemption; None if it is not recorded.
        """
        if not self.start <= at < self.end:
            return None
        user = workspace.owner_user_id if user_id is None else user_id
        redemption = Redemption(
            f"rdm_{len(self.redemptions) + 1:06d}",
            coupon_id,
            workspace_id or workspace.workspace_id,
            user,
            at,
            starts_at,
            ends_at,
            revoked_at,
            eligible_until,
            channel,
            order,
        )
        self.redemptions.append(redemption)
        self.users.setdefault(coupon_id, []).append((user, at))
        return redemption

    def first_chance(self, workspace: Workspace) -> int:
        """Return the first instant at which a workspace can redeem."""
        return max(self.start, workspace.created_at)

    def early(self, workspace: Workspace, rng: Random) -> int:
        """Return an instant within a month of the first chance."""
        return self.first_chance(workspace) + rng.randrange(3600, 28 * DAY)

    def sometime(self, workspace: Workspace, rng: Random, share: float = 0.6) -> int:
        """Return an instant in the first part of the workspace's life."""
        first = self.first_chance(workspace)
        return first + rng.randrange(3600, max(7200, int((self.end - first) * share)))

    def expiry(self, redemption: Redemption) -> int:
        """Return when a redemption of a coupon with a duration in months expires."""
        start = redemption.redeemed_at if redemption.starts_at is None else redemption.starts_at
        return add_months(start, self.coupons[redemption.coupon_id].duration_months or 0)


_Story = Callable[[Desk, Workspace, Random], None]


def _newly_created(desk: Desk, workspace: Workspace, rng: Random, share: float) -> None:
    """Let a workspace begin within the first part of the sample."""
    room = max(DAY, int((desk.end - desk.start) * share))
    workspace.created_at = desk.start + rng.randrange(room)


def _in_dollars(workspace: Workspace, rng: Random) -> None:
    _in_currency(workspace, "USD", rng)


def _in_currency(workspace: Workspace, currency: str, rng: Random) -> None:
    workspace.currency = currency
    workspace.tax_rate = rng.choice(TAX_RATES[currency])


def _monthly(workspace: Workspace) -> None:
    workspace.billing_interval = "month"
    workspace.business_from = None


def _list_price(desk: Desk, workspace: Workspace, rng: Random) -> None:
    """Redeem no coupon."""


def _startup(desk: Desk, workspace: Workspace, rng: Random) -> None:
    # Few apply after the program has closed.
    room = min((desk.end - desk.start) * 7 // 10, STARTUP_CLOSE - desk.start + 10 * DAY)
    workspace.created_at = desk.start + rng.randrange(max(DAY, room))
    _in_dollars(workspace, rng)
    _monthly(workspace)
    desk.redeem(workspace, "STARTUP-TEAM", workspace.created_at + rng.randrange(3600, 12 * DAY))


def _startup_two_years(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.04)
    _in_dollars(workspace, rng)
    _monthly(workspace)
    workspace.mtus, workspace.growth = rng.randrange(60_000, 110_000), 1.02
    desk.redeem(workspace, "STARTUP-TEAM", workspace.created_at + rng.randrange(3600, 12 * DAY))


def _startup_used_up(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _startup_two_years(desk, workspace, rng)
    workspace.mtus, workspace.growth = rng.randrange(280_000, 380_000), 1.03


def _startup_not_renewed(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _startup_two_years(desk, workspace, rng)
    redemption = desk.redemptions[-1] if desk.redemptions else None
    if redemption is None or redemption.workspace_id != workspace.workspace_id:
        return
    # The second year would start after the program had closed.
    late = STARTUP_CLOSE - 300 * DAY + rng.randrange(60 * DAY)
    if desk.start <= late < desk.end:
        workspace.created_at = late - rng.randrange(2 * DAY, 12 * DAY)
        redemption.redeemed_at = late


def _startup_too_late(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    _monthly(workspace)
    at = STARTUP_CLOSE + rng.randrange(1, 90 * DAY)
    workspace.created_at = min(at - 5 * DAY, desk.end - 60 * DAY)
    desk.redeem(workspace, "STARTUP-TEAM", max(at, workspace.created_at))


def _startup_with_prior_coupon(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.3)
    _in_dollars(workspace, rng)
    _monthly(workspace)
    at = desk.early(workspace, rng)
    desk.redeem(workspace, "WELCOME", at)
    desk.redeem(workspace, "STARTUP-TEAM", at + rng.randrange(DAY, 60 * DAY))


def _startup_ineligible(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.2)
    _in_dollars(workspace, rng)
    _monthly(workspace)
    workspace.mtus = rng.randrange(60_000, 110_000)
    at = workspace.created_at + rng.randrange(3600, 12 * DAY)
    desk.redeem(
        workspace, "STARTUP-TEAM", at, eligible_until=at + rng.randrange(150 * DAY, 330 * DAY)
    )


def _startup_turned_business(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _startup_two_years(desk, workspace, rng)
    workspace.business_from = workspace.anchor + rng.randrange(150, 400)


def _accelerator_percent(desk: Desk, workspace: Workspace, rng: Random) -> None:
    coupon_id = rng.choice(("ACCEL-20", "ACCEL-25"))
    desk.redeem(workspace, coupon_id, desk.sometime(workspace, rng), channel="partner")


def _accelerator_invoices(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(workspace, "ACCEL-50", desk.sometime(workspace, rng), channel="partner")


def _accelerator_dollars(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    desk.redeem(workspace, "ACCEL-75-USD", desk.sometime(workspace, rng), channel="partner")


def _accelerator_abroad(desk: Desk, workspace: Workspace, rng: Random) -> None:
    coupon_id = rng.choice(("ACCEL-60-EUR", "ACCEL-50-GBP", "ACCEL-9000-JPY"))
    _in_currency(workspace, coupon_id[-3:], rng)
    desk.redeem(workspace, coupon_id, desk.sometime(workspace, rng), channel="partner")


def _accelerator_yen(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_currency(workspace, "JPY", rng)
    at = desk.sometime(workspace, rng, 0.3)
    desk.redeem(workspace, "ACCEL-9000-JPY", at, channel="partner")
    desk.redeem(workspace, "WELCOME", at + 40 * DAY)


def _non_profit(desk: Desk, workspace: Workspace, rng: Random) -> None:
    workspace.tax_rate = 0
    coupon_id = f"NONPROFIT-{workspace.currency}"
    desk.redeem(workspace, coupon_id, desk.sometime(workspace, rng, 0.3), channel="support")


def _non_profit_yearly(desk: Desk, workspace: Workspace, rng: Random) -> None:
    workspace.billing_interval = "year"
    workspace.business_from = None
    _non_profit(desk, workspace, rng)


def _non_profit_ineligible(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.sometime(workspace, rng, 0.3)
    desk.redeem(
        workspace,
        f"NONPROFIT-{workspace.currency}",
        at,
        eligible_until=at + rng.randrange(100 * DAY, 500 * DAY),
        channel="support",
    )


def _follow_up_derived(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(workspace, "SPRING-50", desk.sometime(workspace, rng, 0.4))


def _follow_up_bridge(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.05)
    _in_dollars(workspace, rng)
    _monthly(workspace)
    workspace.mtus, workspace.growth, workspace.season = rng.randrange(30_000, 60_000), 1.05, 1
    desk.redeem(workspace, "SPRING-50", workspace.created_at + 5 * DAY)


def _follow_up_on_record(desk: Desk, workspace: Workspace, rng: Random) -> None:
    first = desk.redeem(workspace, "SPRING-50", desk.sometime(workspace, rng, 0.4))
    if first is None:
        return
    expiry = desk.expiry(first)
    booked_at = rng.choice((expiry, expiry - rng.randrange(DAY, 40 * DAY)))
    desk.redeem(workspace, "SPRING-20", booked_at, starts_at=expiry, channel="follow_up")


def _follow_up_late(desk: Desk, workspace: Workspace, rng: Random) -> None:
    first = desk.redeem(workspace, "SPRING-50", desk.sometime(workspace, rng, 0.4))
    if first is not None:
        at = desk.expiry(first) + rng.randrange(2 * DAY, 50 * DAY)
        desk.redeem(workspace, "SPRING-20", at, channel="support")


def _follow_up_refused(desk: Desk, workspace: Workspace, rng: Random) -> None:
    """Give the user the follow-up coupon elsewhere, so the one derived here is refused."""
    desk.redeem(workspace, "SPRING-50", desk.sometime(workspace, rng, 0.4))
    elsewhere = workspace.number - (1 if workspace.number % 2 else 2)  # never one that is shown
    if elsewhere > 0:
        at = desk.sometime(workspace, rng)
        desk.redeem(workspace, "SPRING-20", at, workspace_id=f"ws_{elsewhere:05d}")


def _win_back(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    desk.redeem(workspace, "WINBACK-40", desk.sometime(workspace, rng), channel="support")


def _once_percent(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(workspace, "WELCOME", desk.sometime(workspace, rng))


def _once_dollars(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    desk.redeem(workspace, "GIFT-250", desk.sometime(workspace, rng))


def _once_on_zero_bill(desk: Desk, workspace: Workspace, rng: Random) -> None:
    workspace.billing_interval, workspace.bills_zero = "year", True
    workspace.business_from = None
    workspace.mtus, workspace.growth = 8_500, 1.08
    desk.redeem(workspace, "WELCOME", desk.early(workspace, rng))


def _limited(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(workspace, "LAUNCH-30", desk.sometime(workspace, rng))


def _stacked(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    _monthly(workspace)
    at = desk.sometime(workspace, rng, 0.4)
    percent_first = rng.random() < 0.5
    desk.redeem(workspace, "ACCEL-20", at, channel="partner", order=1 if percent_first else 2)
    desk.redeem(
        workspace,
        "ACCEL-75-USD",
        at + rng.randrange(DAY, 30 * DAY),
        channel="partner",
        order=2 if percent_first else 1,
    )


def _stacked_in_order_of_redemption(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    _monthly(workspace)
    at = desk.sometime(workspace, rng, 0.4)
    for coupon_id in rng.sample(("ACCEL-25", "WINBACK-40", "GIFT-250"), 3):
        desk.redeem(workspace, coupon_id, at, channel="support")
        at += rng.randrange(DAY, 20 * DAY)


def _credits_overlap(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    at = desk.sometime(workspace, rng, 0.3)
    desk.redeem(workspace, "CREDIT-QUARTERLY", at, channel="partner")
    desk.redeem(workspace, "CREDIT-OPEN", at + rng.randrange(DAY, 40 * DAY), channel="support")
    desk.redeem(workspace, "CREDIT-500", at + rng.randrange(DAY, 90 * DAY), channel="support")
    if rng.random() < 0.5:
        desk.redeem(workspace, "ACCEL-25", at + rng.randrange(DAY, 60 * DAY), channel="partner")


def _credit_apology(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    desk.redeem(workspace, "CREDIT-500", desk.sometime(workspace, rng), channel="support")


def _credit_revoked(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_dollars(workspace, rng)
    _monthly(workspace)
    # Small bills, so that something is left to forfeit.
    workspace.mtus = rng.randrange(9_000, 22_000)
    at = desk.sometime(workspace, rng, 0.4)
    revoked_at = at + rng.randrange(40 * DAY, 200 * DAY)
    desk.redeem(workspace, "CREDIT-QUARTERLY", at, revoked_at=revoked_at, channel="partner")


def _credit_in_euros(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _in_currency(workspace, "EUR", rng)
    at = desk.sometime(workspace, rng, 0.5)
    desk.redeem(workspace, "CREDIT-EUR", at, channel="support")
    # In another currency than its invoices: honoured, and never drawn.
    desk.redeem(workspace, "CREDIT-500", at + 20 * DAY, channel="support")


def _duplicate_for_workspace(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.sometime(workspace, rng, 0.4)
    desk.redeem(workspace, "ACCEL-25", at, channel="partner")
    desk.redeem(
        workspace,
        "ACCEL-25",
        at + rng.randrange(20 * DAY, 250 * DAY),
        user_id=f"{workspace.owner_user_id}_b",
    )


def _duplicate_for_user(desk: Desk, workspace: Workspace, rng: Random) -> None:
    for coupon_id in rng.sample(("ACCEL-20", "ACCEL-25", "SPRING-50", "WELCOME"), 4):
        known = desk.users.get(coupon_id)
        if known:
            user_id, earlier = rng.choice(known)
            at = max(earlier, desk.first_chance(workspace)) + rng.randrange(DAY, 120 * DAY)
            desk.redeem(workspace, coupon_id, at, user_id=user_id)
            return


def _unknown_coupon(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.sometime(workspace, rng)
    ends_at = rng.choice((None, add_months(at, 8)))
    desk.redeem(workspace, f"PARTNER-{workspace.number:05d}", at, ends_at=ends_at)


def _unknown_workspace(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(
        workspace,
        "ACCEL-20",
        desk.sometime(workspace, rng),
        workspace_id=f"ws_gone_{workspace.number:05d}",
        user_id=f"usr_gone_{workspace.number:05d}",
        channel="partner",
    )


def _after_close(desk: Desk, workspace: Workspace, rng: Random) -> None:
    closed = desk.coupons["ACCEL-ALUMNI"].redeem_by or desk.start
    at = max(closed, desk.first_chance(workspace)) + rng.randrange(1, 120 * DAY)
    desk.redeem(workspace, "ACCEL-ALUMNI", at, channel="partner")


def _before_close(desk: Desk, workspace: Workspace, rng: Random) -> None:
    closed = desk.coupons["ACCEL-ALUMNI"].redeem_by or desk.start
    workspace.created_at = min(workspace.created_at, desk.start + 60 * DAY)
    at = max(desk.first_chance(workspace), closed - rng.randrange(100 * DAY))
    desk.redeem(workspace, "ACCEL-ALUMNI", at, channel="partner")


def _percent_revoked(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.sometime(workspace, rng, 0.4)
    revoked_at = at + rng.randrange(30 * DAY, 300 * DAY)
    desk.redeem(workspace, "ACCEL-20", at, revoked_at=revoked_at, channel="partner")


def _yearly_percent(desk: Desk, workspace: Workspace, rng: Random) -> None:
    workspace.billing_interval = "year"
    desk.redeem(workspace, "YEARLY-15", desk.early(workspace, rng), channel="support")


def _business_percent(desk: Desk, workspace: Workspace, rng: Random) -> None:
    if workspace.business_from is None:
        workspace.business_from = workspace.anchor + rng.randrange(0, 200)
    desk.redeem(workspace, "BUSINESS-10", desk.sometime(workspace, rng), channel="support")


def _scheduled(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.end - rng.randrange(DAY, 20 * DAY)
    starts_at = desk.end + rng.randrange(DAY, 40 * DAY)
    desk.redeem(workspace, "ACCEL-20", at, starts_at=starts_at, channel="partner")


def _scheduled_end(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.end - rng.randrange(60 * DAY, 200 * DAY)
    desk.redeem(
        workspace,
        f"NONPROFIT-{workspace.currency}",
        max(at, desk.first_chance(workspace)),
        eligible_until=desk.end + rng.randrange(5 * DAY, 250 * DAY),
        channel="support",
    )


def _own_end(desk: Desk, workspace: Workspace, rng: Random) -> None:
    at = desk.sometime(workspace, rng, 0.5)
    ends_at = at + rng.randrange(50 * DAY, 200 * DAY)
    desk.redeem(workspace, "ACCEL-20", at, ends_at=ends_at, channel="support")


def _free_pilot(desk: Desk, workspace: Workspace, rng: Random) -> None:
    desk.redeem(workspace, "PILOT-100", desk.early(workspace, rng), channel="support")


def _paused(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.2)
    _monthly(workspace)
    first = rng.randrange(4, 8)
    workspace.paused = frozenset(range(first, first + rng.randrange(1, 4)))
    desk.redeem(workspace, "ACCEL-20", workspace.created_at + rng.randrange(3600, 20 * DAY))


def _dormant(desk: Desk, workspace: Workspace, rng: Random) -> None:
    workspace.is_dormant = True
    _in_dollars(workspace, rng)
    desk.redeem(workspace, "CREDIT-OPEN", desk.early(workspace, rng), channel="support")


def _void_and_issued_again(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.05)
    _monthly(workspace)
    workspace.void_bill = 2
    desk.redeem(workspace, "ACCEL-50", workspace.created_at + 3 * DAY, channel="partner")


def _restated(desk: Desk, workspace: Workspace, rng: Random) -> None:
    _newly_created(desk, workspace, rng, 0.05)
    _monthly(workspace)
    workspace.mtus = rng.randrange(20_000, 80_000)
    workspace.restated_bill = 4
    desk.redeem(workspace, "ACCEL-20", workspace.created_at + 3 * DAY, channel="partner")


# Every story with its weight among a thousand or so workspaces.
SCENARIOS: Final[tuple[tuple[str, int, _Story], ...]] = (
    ("startup_two_years", 10, _startup_two_years),
    ("startup_not_renewed", 12, _startup_not_renewed),
    ("follow_up_bridge", 5, _follow_up_bridge),
    ("stacked", 20, _stacked),
    ("restated", 3, _restated),
    ("void_and_issued_again", 3, _void_and_issued_again),
    ("non_profit", 45, _non_profit),
    ("credits_overlap", 25, _credits_overlap),
    ("accelerator_dollars", 30, _accelerator_dollars),
    ("unknown_coupon", 24, _unknown_coupon),
    ("follow_up_late", 18, _follow_up_late),
    ("once_percent", 25, _once_percent),
    ("startup_used_up", 8, _startup_used_up),
    ("startup_too_late", 10, _startup_too_late),
    ("startup_with_prior_coupon", 8, _startup_with_prior_coupon),
    ("startup_ineligible", 8, _startup_ineligible),
    ("startup_turned_business", 6, _startup_turned_business),
    ("accelerator_percent", 80, _accelerator_percent),
    ("accelerator_invoices", 25, _accelerator_invoices),
    ("accelerator_abroad", 25, _accelerator_abroad),
    ("accelerator_yen", 6, _accelerator_yen),
    ("non_profit_yearly", 12, _non_profit_yearly),
    ("non_profit_ineligible", 10, _non_profit_ineligible),
    ("follow_up_derived", 35, _follow_up_derived),
    ("follow_up_on_record", 20, _follow_up_on_record),
    ("follow_up_refused", 8, _follow_up_refused),
    ("win_back", 20, _win_back),
    ("once_dollars", 20, _once_dollars),
    ("once_on_zero_bill", 6, _once_on_zero_bill),
    ("limited", 50, _limited),
    ("stacked_in_order_of_redemption", 12, _stacked_in_order_of_redemption),
    ("credit_apology", 30, _credit_apology),
    ("credit_revoked", 10, _credit_revoked),
    ("credit_in_euros", 10, _credit_in_euros),
    ("duplicate_for_workspace", 12, _duplicate_for_workspace),
    ("duplicate_for_user", 14, _duplicate_for_user),
    ("unknown_workspace", 5, _unknown_workspace),
    ("after_close", 26, _after_close),
    ("before_close", 12, _before_close),
    ("percent_revoked", 15, _percent_revoked),
    ("yearly_percent", 25, _yearly_percent),
    ("business_percent", 18, _business_percent),
    ("scheduled", 5, _scheduled),
    ("scheduled_end", 6, _scheduled_end),
    ("own_end", 8, _own_end),
    ("free_pilot", 10, _free_pilot),
    ("paused", 10, _paused),
    ("dormant", 4, _dormant),
    ("startup", 80, _startup),
    ("list_price", 330, _list_price),
)

_LIST_PRICE: Final = len(SCENARIOS) - 1


def _chances(rng: Random, choices: tuple[tuple[float, int, int], ...]) -> int:
    """Draw a whole number from one of several ranges, (share, from, to)."""
    chance = rng.random()
    for share, low, high in choices:
        if chance < share:
            return rng.randrange(low, high)
        chance -= share
    return rng.randrange(choices[-1][1], choices[-1][2])


def _stranger(number: int, desk: Desk, rng: Random) -> Workspace:
    """Return a workspace before its story is known."""
    span = desk.end - desk.start
    if rng.random() < 0.86:
        created_at = desk.start - rng.randrange(15 * DAY, 900 * DAY)
    else:
        created_at = desk.start + rng.randrange(max(DAY, int(span * 0.6)))
    currency = rng.choices(("USD", "EUR", "GBP", "JPY"), (82, 9, 5, 4))[0]
    name = f"{rng.choice(_FIRST_WORDS)} {rng.choice(_LAST_WORDS)}"
    if number % 29 == 0:
        name = _AWKWARD_NAMES[number // 29 % len(_AWKWARD_NAMES)]
    chance = rng.random()
    workspace = Workspace(
        number=number,
        workspace_id=f"ws_{number:05d}",
        workspace_name=name,
        owner_user_id=f"usr_{rng.randrange(16**8):08x}{number:05d}",
        created_at=created_at,
        currency=currency,
        billing_interval="year" if rng.random() < 0.1 else "month",
        tax_rate=rng.choice(TAX_RATES[currency]),
        billing_second=rng.randrange(22 * 3600),
        mtus=_chances(
            rng,
            (
                (0.25, 2_000, 9_000),
                (0.45, 9_000, 40_000),
                (0.25, 40_000, 150_000),
                (0.05, 150_000, 400_000),
            ),
        ),
        growth=0.985 + 0.075 * rng.random(),
        season=rng.choice((0, 0, 1, 1, 2)),
        bills_zero=rng.random() < 0.2,
    )
    if chance < 0.05:
        workspace.business_from = workspace.anchor
    elif chance < 0.07:
        workspace.business_from = (desk.start + rng.randrange(max(DAY, span))) // DAY
    return workspace


def _give_notice(workspace: Workspace, desk: Desk, rng: Random) -> None:
    """Let about one workspace in eleven end: by the day, or at the end of a paid year."""
    if workspace.is_shown or rng.random() > 0.09:
        return
    first = max(desk.start // DAY, workspace.anchor) + 20
    last = desk.end // DAY
    if first >= last:
        return
    stop = rng.randrange(first, last)
    if workspace.billing_interval == "year":
        anchor_month = month_of(workspace.anchor)
        day_of_month = workspace.anchor - month_start(anchor_month) + 1
        years = (month_of(stop) - anchor_month) // 12 + 1
        stop = day_in_month(anchor_month + 12 * years, day_of_month)
    workspace.cancelled_on = stop


def workspaces(count: int, desk: Desk, seed: int) -> list[Workspace]:
    """Invent the workspaces and send their redemptions to the desk.

    Args:
        count: How many.
        desk: Takes the redemptions.
        seed: Same seed, same workspaces.

    Returns:
        The workspaces by number.
    """
    rng = Random(seed)
    weights = [weight for _, weight, _ in SCENARIOS]
    choices = range(len(SCENARIOS))
    result = []
    for number in range(1, count + 1):
        workspace = _stranger(number, desk, rng)
        turn = number // 2
        workspace.is_shown = number % 2 == 1 and turn < _LIST_PRICE
        chosen = turn if workspace.is_shown else rng.choices(choices, weights)[0]
        workspace.scenario, _, story = SCENARIOS[chosen]
        story(desk, workspace, rng)
        _give_notice(workspace, desk, rng)
        result.append(workspace)
    return result
