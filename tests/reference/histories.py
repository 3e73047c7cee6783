"""Histories that try the rules: small worlds of coupons, redemptions and invoices, full of ties.

The Hypothesis strategy of one world, the joining of many worlds into one build, plenty of worlds at
once without Hypothesis, and the records as text rows of the feeds belong here. What must hold for a
history's result belongs in the tests.

Every record is made from one seed of its own, so a failing world shrinks by leaving records out.
Instants come from a few per world, moved by whole months and at times by a microsecond, so that
starts, ends, closing dates and invoices meet exactly, or miss each other by a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from hypothesis import strategies as st

from dagster_project.feeds import feeds
from tests.reference.rules import (
    add_months,
    calculate,
    count_invoices,
    read_coupon_versions,
    to_minor,
)

Record = dict[str, object]
Records = dict[str, list[Record]]

AS_OF = date(2025, 6, 30)
END_OF_AS_OF = datetime(2025, 7, 1)
FEEDS = ("workspaces", "coupons", "redemptions", "invoices", "credit_notes", "budgets")
MICROSECOND = timedelta(microseconds=1)
UPDATED_AT = datetime(2025, 6, 30, 12)

# Columns that hold an id of the world, so that worlds stay apart when they are joined.
ID_COLUMNS = (
    "workspace_id",
    "owner_user_id",
    "coupon_id",
    "follow_up_coupon_id",
    "redemption_id",
    "subscription_id",
    "user_id",
    "invoice_id",
    "credit_note_id",
)

# Ids that only differ in case are different ids.
WORKSPACE_IDS = ("w1", "W1", "w2")
COUPON_IDS = ("c1", "C1", "c2", "C2", "c3")
USER_IDS = ("u1", "u1", "U1", "u2")

# Month ends, leap days and the instants around the end of the as-of day.
INSTANTS = (
    datetime(2023, 7, 1),
    datetime(2023, 12, 31, 23, 59, 59, 999999),
    datetime(2024, 1, 31),
    datetime(2024, 2, 29),
    datetime(2024, 2, 29, 12, 30),
    datetime(2024, 6, 30),
    datetime(2024, 7, 1),
    datetime(2024, 8, 31),
    datetime(2024, 10, 31, 8, 15, 30),
    datetime(2024, 12, 31),
    datetime(2025, 1, 1),
    datetime(2025, 1, 31),
    datetime(2025, 2, 28),
    datetime(2025, 3, 31),
    datetime(2025, 4, 1),
    datetime(2025, 4, 30, 17),
    datetime(2025, 5, 31),
    datetime(2025, 6, 1),
    datetime(2025, 6, 30),
    datetime(2025, 6, 30, 23, 59, 59, 999999),
    END_OF_AS_OF,
    END_OF_AS_OF + MICROSECOND,
    # Where a month begins or the as-of day ends in Kathmandu, Berlin, St. John's, Eucla and Apia.
    datetime(2025, 5, 31, 18, 15),
    datetime(2025, 6, 30, 18, 15),
    datetime(2025, 5, 31, 22),
    datetime(2025, 6, 30, 22),
    datetime(2025, 6, 1, 2, 30),
    datetime(2025, 7, 1, 2, 30),
    datetime(2025, 6, 30, 15, 15),
    datetime(2025, 6, 30, 10),
)
MONTHS_MOVED = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 6, 12, 24)
DISCOUNT_TYPES = (
    ("percent_off",),
    ("percent_off", "percent_off", "percent_off", "credit"),
    ("percent_off", "percent_off", "amount_off"),
    ("percent_off", "amount_off", "credit"),
    ("percent_off", "amount_off", "credit", "credit"),
    ("credit",),
)
PERCENTS = ("100", "50", "20", "20", "10", "33.3333", "12.5", "0.0001", "99.9999", "7.25")
LIST_AMOUNTS = (0, 0, 1, 3, 5, 99, 999, *[10_000] * 3, *[12_000] * 4, 50_000, 60_000, 62_000)
OFF_AMOUNTS = (1, 1, 2, 33, 100, 1_000, 12_000, 12_000, 50_000)
CREDIT_AMOUNTS = (1, 100, 5_000, 10_000, 20_000, 25_000, 100_000, 2_500_000)
HUGE_AMOUNT = 999_999_999_999

# What lines of bills a workspace has: most are monthly, some daily bills make hundreds of expected ones.
INTERVALS: tuple[list[tuple[str, int]], ...] = (
    *([("month", 1)],) * 9,
    *([("month", 1), ("year", 1)],) * 3,
    [("month", 3)],
    [("month", 7), ("month", 1)],
    [("year", 1)],
    [("year", 2)],
    [("week", 1)],
    [("week", 6), ("month", 1)],
    [("day", 30), ("month", 1)],
    [("day", 17)],
    [("once", 1), ("month", 1)],
)
SUBSCRIPTIONS: tuple[tuple[str | None, ...], ...] = (
    (None,),
    (None,),
    (None,),
    ("s1", "s2"),
    (None, "s1"),
    ("s1", "s1", "S1", None),
)
DAILY: list[tuple[str, int]] = [("day", 1)]
DAYS_OF_GRACE = timedelta(days=15)


def months_between(first: datetime, last: datetime) -> int:
    """Calendar-month difference of two instants."""
    return (last.year - first.year) * 12 + last.month - first.month


def last_of_a_line(interval: str, count: int) -> datetime:
    """The earliest last bill of a line that is still running at the end of the as-of day (R12)."""
    due = END_OF_AS_OF - DAYS_OF_GRACE
    if interval in ("day", "week"):
        return due - timedelta(days=count * (7 if interval == "week" else 1))
    months = count * (12 if interval == "year" else 1)
    month = due.year * 12 + due.month - 1 - months
    return due.replace(year=month // 12, month=month % 12 + 1)


def to_amount(minor: int, currency: str) -> Decimal:
    """Minor units of JPY, or of a currency with two places, as major units."""
    return Decimal(minor) if currency == "JPY" else Decimal(minor).scaleb(-2)


class World:
    """The few instants, currencies and plans all records of one world draw from."""

    def __init__(self, seed: int, workspaces: int) -> None:
        """Make the pools.

        Args:
            seed: Makes the pools; the records have seeds of their own.
            workspaces: Number of workspaces, 1 to 3.
        """
        random = Random(seed)
        self.is_recent = random.randrange(2) == 0
        first = random.choice(INSTANTS[8:18] if self.is_recent else INSTANTS[:14])
        second = add_months(first, random.choice((1, 1, 2, 3)))
        self.instants = [first, first, second or first, random.choice(INSTANTS)]
        self.series = range(months_between(first, END_OF_AS_OF) % 17 + 2)
        self.discount_types = random.choice(DISCOUNT_TYPES)
        self.follow_up_coupon_id = random.choice(COUPON_IDS[:3])
        self.currencies = random.choice((["USD"], ["USD"], ["USD", "EUR"], ["JPY"], ["JPY", "USD"]))
        self.plans = random.choice((["team"], ["team"], ["team", "free"]))
        self.intervals = random.choice(INTERVALS) if random.randrange(60) else DAILY
        self.subscriptions = random.choice(SUBSCRIPTIONS)
        # In some worlds every coupon hands on to the next, and the last to the first.
        self.is_chain = random.randrange(4) == 0
        day = random.choice((1, 5, 15, 28, 30))
        self.recent = [datetime(2025, month, day) for month in (4, 5, 6)]
        self.workspace_ids = WORKSPACE_IDS[:workspaces]
        # In some of these, redemptions are dated back, so that they can follow each other in a circle.
        self.is_circle = self.is_chain and random.randrange(3) == 0
        if self.is_circle:
            self.instants[0] = random.choice(INSTANTS[:12])

    def instant(self, random: Random, slack: int = 4) -> datetime:
        """An instant of the pool, some months on, one in `slack` times a microsecond off."""
        instant = add_months(random.choice(self.instants), random.choice(MONTHS_MOVED))
        assert instant is not None
        if random.randrange(slack) == 0:
            instant += random.choice((-MICROSECOND, -MICROSECOND, MICROSECOND))
        return instant

    def next_coupon_id(self, coupon_id: str) -> str:
        """The coupon after this one in a chain that comes back to its beginning."""
        return COUPON_IDS[(COUPON_IDS.index(coupon_id) + 1) % 3]

    def maybe_instant(self, random: Random, one_in: int) -> datetime | None:
        """An instant, one time in `one_in`; else None."""
        return self.instant(random) if random.randrange(one_in) == 0 else None


def make_workspace(workspace_id: str) -> Record:
    """A workspace; nothing about it but its existence matters to the rules."""
    return {
        "workspace_id": workspace_id,
        "workspace_name": None if workspace_id == "W1" else f"Workspace {workspace_id}",
        "owner_user_id": "u1",
        "created_at": datetime(2023, 1, 1),
        "updated_at": UPDATED_AT,
    }


def make_coupon(world: World, coupon_id: str, seed: int) -> Record:
    """A valid coupon of any program, discount type and duration."""
    random = Random(seed)
    discount_type = random.choice(world.discount_types)
    currency = random.choice(world.currencies)
    duration = random.choice((*["forever"] * 2, *["repeating"] * 4, "once"))
    duration_months = duration_invoices = None
    if duration == "repeating":
        if random.randrange(3) == 0:
            duration_invoices = random.choice((1, 2, 2, 3, 5))
        else:
            some_months = (1, 1, 2) if world.is_chain else (1, 1, 2, 3, 6, 12, 12, 13)
            duration_months = random.choice(some_months)
    usual = world.follow_up_coupon_id
    follow_up = random.choice((*[usual] * 6, *COUPON_IDS[:2], coupon_id, "missing", *[None] * 5))
    if world.is_chain:
        follow_up = random.choice((*[world.next_coupon_id(coupon_id)] * 5, follow_up))
    coupon: Record = {
        "coupon_id": coupon_id,
        "coupon_name": f"Coupon {coupon_id}",
        "program": random.choice(("startup", "accelerator", "non_profit", "special", "special")),
        "discount_type": discount_type,
        "percent_off": None,
        "amount_off": None,
        "amount_off_per": None,
        "credit_amount": None,
        "credit_period_months": None,
        "credit_max_periods": None,
        "credit_priority": None,
        "currency": currency,
        "applies_to_plan": random.choice(("team", "team", "Team", *[None] * 9)),
        "applies_to_interval": random.choice(("month", "year", *[None] * 12)),
        "duration": duration,
        "duration_months": duration_months,
        "duration_invoices": duration_invoices,
        "redeem_by": world.maybe_instant(random, 7),
        "max_redemptions": random.choice((1, 1, 2, 2, *[None] * 12)),
        "requires_no_prior_coupon": random.choice((True, True, False, *[None] * 9)),
        "once_per": random.choice(
            (*[None] * 5, "user", "workspace", "subscription", "subscription", "unlimited")
        ),
        "follow_up_coupon_id": follow_up,
        "updated_at": UPDATED_AT,
    }
    if discount_type == "percent_off":
        coupon["percent_off"] = Decimal(random.choice(PERCENTS))
        coupon["currency"] = random.choice((None, None, None, "USD"))
    elif discount_type == "amount_off":
        coupon["amount_off"] = to_amount(random.choice(OFF_AMOUNTS), currency)
        coupon["amount_off_per"] = random.choice((None, "invoice", "month", "month"))
    else:
        amount = HUGE_AMOUNT if random.randrange(40) == 0 else random.choice(CREDIT_AMOUNTS)
        coupon["credit_amount"] = to_amount(amount, currency)
        coupon["credit_period_months"] = random.choice((None, 1, 1, 2, 12, 12))
        coupon["credit_max_periods"] = random.choice((None, 1, 2, 2, 3, 11))
        coupon["credit_priority"] = random.choice((None, None, -1, 0, 1))
    if world.is_circle and coupon_id in COUPON_IDS[:3] and random.randrange(8):
        coupon |= {
            "duration": "repeating",
            "duration_months": random.choice((1, 1, 2)),
            "duration_invoices": None,
            "redeem_by": None,
            "max_redemptions": None,
            "requires_no_prior_coupon": None,
            "follow_up_coupon_id": world.next_coupon_id(coupon_id),
        }
    return coupon


def make_coupon_versions(world: World, coupon_id: str, seed: int) -> list[Record]:
    """The versions of a coupon in the order of their arrival: mostly one, at times some edits of it.

    An edit changes nothing that matters, one column, or everything; `updated_at` may go back, may be
    the same again and may lie after the as-of day.
    """
    random = Random(seed + 1)
    first = make_coupon(world, coupon_id, seed)
    versions = [first]
    while random.randrange(6) == 0:
        edited = dict(versions[-1])
        edit = random.randrange(4)
        if edit == 0:
            edited["coupon_name"] = f"Coupon {coupon_id} {len(versions)}"
        elif edit == 1:
            edited["max_redemptions"] = random.choice((None, 1, 3))
        elif edit == 2 and edited["percent_off"] is not None:
            edited["percent_off"] = Decimal(random.choice(PERCENTS))
        else:
            edited = make_coupon(world, coupon_id, seed + 1 + len(versions))
        edited["updated_at"] = UPDATED_AT + timedelta(days=random.choice((-400, -40, -1, 0, 1, 40)))
        versions.append(edited)
    return versions


def make_redemption(world: World, number: int, seed: int, coupons: int) -> Record:
    """A redemption, now and then of an unknown coupon or by an unknown workspace."""
    random = Random(seed)
    coupon_id = COUPON_IDS[(number + random.choice((0, 0, 0, 0, 1))) % coupons]
    workspace_id = random.choice(world.workspace_ids)
    if random.randrange(30) == 0:
        coupon_id = "missing"
    if random.randrange(40) == 0:
        workspace_id = "nowhere"
    starts_at, ends_at = world.maybe_instant(random, 6), world.maybe_instant(random, 8)
    if random.randrange(40) == 0:
        starts_at = datetime(9999, 11, 30)  # what lasts longer than a month never ends
    if random.randrange(25) == 0:
        ends_at = datetime.max
    elif random.randrange(6) == 0:
        ends_at = add_months(END_OF_AS_OF, random.choice((0, 1, 3, 6, 11, 12, 13, 24)))
        assert ends_at is not None
        ends_at += random.choice((-MICROSECOND, timedelta(), timedelta(days=5)))
    made: Record = {
        "redemption_id": f"{random.choice('rrrRé')}{number}",
        "coupon_id": coupon_id,
        "workspace_id": workspace_id,
        "user_id": random.choice((*USER_IDS, None, None, f"own {number}")),
        "subscription_id": (
            random.choice((*world.subscriptions, None)) if random.randrange(20) else "other"
        ),
        "redeemed_at": world.instant(random) if random.randrange(3) else world.instants[0],
        "starts_at": starts_at,
        "ends_at": ends_at,
        "revoked_at": world.maybe_instant(random, 8),
        "eligible_until": world.maybe_instant(random, 8),
        "channel": random.choice(("self_serve", "support", "partner", "follow_up", None)),
        "application_order": random.choice((None, None, None, -1, 0, 1, 1)),
        "updated_at": UPDATED_AT,
    }
    if world.is_circle and random.randrange(6):
        date_back(made, world, random)
    return made


def date_back(redemption: Record, world: World, random: Random) -> None:
    """Make a redemption one of several that can follow each other in a circle.

    One of the first coupon is redeemed long after it was in force; its follow-up, derived, is then earlier
    than a redemption of the third coupon, which the one of the first coupon may follow up.
    """
    is_first = random.randrange(2) == 0
    months = random.choice((4, 5, 6)) if is_first else random.choice((2, 3, 3))
    redemption |= {
        "coupon_id": COUPON_IDS[0 if is_first else 2],
        "redeemed_at": add_months(world.instants[0], months),
        "starts_at": world.instants[0] if is_first else None,
        "ends_at": None,
        "revoked_at": None,
        "eligible_until": None,
        "subscription_id": random.choice(world.subscriptions),
    }


def make_invoice(world: World, workspace_id: str, number: int, seed: int) -> Record:
    """An invoice that has not been billed with any discount yet.

    Most are of a monthly series, either from the world's first instant on or up to the as-of day; a few
    are the last of a line that has only just not ended, or only just ended.
    """
    random = Random(seed)
    interval, count = random.choice(world.intervals)
    kind = random.randrange(12)
    if kind == 0:
        issued_at = last_of_a_line(interval, count)
        issued_at += random.choice((timedelta(), -MICROSECOND, MICROSECOND))
    elif world.is_recent and kind < 9:
        issued_at = random.choice(world.recent)
    elif kind < 6:
        monthly = add_months(world.instants[0], random.choice(world.series))
        assert monthly is not None
        issued_at = monthly
    else:
        issued_at = world.instant(random, slack=3)
    currency = world.currencies[0] if random.randrange(5) else random.choice(world.currencies)
    minor = HUGE_AMOUNT if random.randrange(150) == 0 else random.choice(LIST_AMOUNTS)
    tax = random.choice((0, 0, 1, 850))
    if random.randrange(14) == 0:
        minor, tax = -minor, -tax if minor else tax
    period_start = issued_at.date()
    period_end = random.choice(
        (
            period_start + timedelta(days=1),
            period_start + timedelta(days=30),
            period_start + timedelta(days=31),
            (add_months(issued_at, 1) or issued_at).date(),
            (add_months(issued_at, 3) or issued_at).date(),
            (add_months(issued_at, 12) or issued_at).date(),
        )
    )
    discountable = creditable = None
    if random.randrange(5) == 0:
        discountable = random.choice((0, 0, 1, minor // 3, minor // 2, minor))
        discountable = max(0, min(discountable, minor))
    if random.randrange(6) == 0:
        creditable = random.choice((0, 0, 1, abs(minor) // 3, abs(minor) // 2, abs(minor) * 2))
    return {
        "invoice_id": f"{random.choice('iiiI')}{number}",
        "workspace_id": workspace_id,
        "status": random.choice(
            ("paid", "paid", "paid", "open", "open", "uncollectible", "void", "draft")
        ),
        "plan": random.choice(world.plans),
        "billing_interval": interval,
        "interval_count": None if count == 1 and random.randrange(2) else count,
        "subscription_id": random.choice(world.subscriptions),
        "currency": currency,
        "period_start": period_start,
        "period_end": period_end,
        "issued_at": issued_at,
        "list_amount": to_amount(minor, currency),
        "discountable_amount": None if discountable is None else to_amount(discountable, currency),
        "creditable_amount": None if creditable is None else to_amount(creditable, currency),
        "discount_amount": to_amount(0, currency),
        "credit_amount": to_amount(0, currency),
        "tax_amount": to_amount(tax, currency),
        "total_amount": to_amount(minor + tax, currency),
        "mtus": random.choice((None, 0, 10_000, 25_001)),
        "updated_at": UPDATED_AT,
    }


def make_credit_note(
    world: World, invoices: Sequence[Mapping[str, object]], number: int, seed: int
) -> Record:
    """A credit note, mostly of a billed invoice, for a part of it or a little less or more than all."""
    random = Random(seed)
    invoice = random.choice(invoices) if invoices else {}
    currency = str(invoice.get("currency", world.currencies[0]))
    billed = 1_000
    if invoice:
        billed = to_minor(Decimal(str(invoice["list_amount"])), currency)
        billed -= to_minor(Decimal(str(invoice["discount_amount"])), currency)
        billed -= to_minor(Decimal(str(invoice["credit_amount"])), currency)
    amount = max(1, billed // random.choice((1, 1, 2, 3)) + random.choice((0, 0, 1, 2, -1)))
    if random.randrange(10) == 0:
        currency = random.choice(("USD", "JPY"))
    issued_at, billed_at = world.instant(random), invoice.get("issued_at")
    if isinstance(billed_at, datetime) and random.randrange(3):
        issued_at = billed_at + timedelta(days=random.choice((0, 1, 3)))
    return {
        "credit_note_id": f"n{number}",
        "invoice_id": invoice.get("invoice_id", "missing") if random.randrange(12) else "missing",
        "status": random.choice((*["issued"] * 6, "void")),
        "issued_at": issued_at,
        "currency": currency,
        "amount": to_amount(amount, currency),
        "tax_amount": random.choice((None, Decimal(0), Decimal(3))),
        "reason": random.choice((None, "goodwill")),
        "updated_at": UPDATED_AT,
    }


def make_budget(world: World, seed: int) -> Record:
    """A budget of a month in which there may be bills, past or expected."""
    random = Random(seed)
    month = random.choice((world.instant(random), *world.recent, END_OF_AS_OF))
    month = add_months(month, random.choice((0, 0, 1, 13))) or month
    currency = random.choice(world.currencies)
    return {
        "program": random.choice(("startup", "accelerator", "non_profit", "special", "special")),
        "currency": currency,
        "month": date(month.year, month.month, 1),
        "amount": to_amount(random.choice((0, 1, 5_000, 10_000, 1_000_000)), currency),
        "updated_at": UPDATED_AT,
    }


def bill(records: Records, seeds: Mapping[str, int]) -> None:
    """Fill in what was billed: mostly right, at times wrong, at times by a single minor unit.

    Args:
        records: The world; its invoices are changed in place.
        seeds: Per invoice id the seed of its mistakes.
    """
    versions = read_coupon_versions(records["coupons"])
    coupons = {coupon_id: of_coupon[-1] for coupon_id, of_coupon in versions.items()}
    counted = count_invoices(records["invoices"], END_OF_AS_OF)
    calculate(records, coupons, END_OF_AS_OF, END_OF_AS_OF, counted)
    expected = {charge.invoice_id: charge for charge in counted}
    for invoice in records["invoices"]:
        random = Random(seeds[str(invoice["invoice_id"])] + 1)
        currency = str(invoice["currency"])
        charge = expected.get(str(invoice["invoice_id"]))
        list_minor = to_minor(Decimal(str(invoice["list_amount"])), currency)
        tax = to_minor(Decimal(str(invoice["tax_amount"])), currency)
        discount = mistake(random, charge.discount_given if charge else 0, list_minor)
        credit = mistake(random, charge.credit_given if charge else 0, list_minor - discount)
        total = list_minor - discount - credit + tax
        total += random.choice((-1, 1, 2, *[0] * 37))
        invoice["discount_amount"] = to_amount(discount, currency)
        invoice["credit_amount"] = to_amount(credit, currency)
        invoice["total_amount"] = to_amount(total, currency)


def mistake(random: Random, right: int, most: int) -> int:
    """An amount as billed: right three times in four, else near it or far off, never negative."""
    if random.randrange(4):
        return right
    wrong = random.choice(
        (right - 1, right + 1, right - 2, right + 2, right * 2, 0, right // 2, most, most + 5, 1, 3)
    )
    return max(0, wrong)


def make_world(
    seed: int,
    workspaces: int,
    coupon_seeds: Sequence[int],
    redemption_seeds: Sequence[int],
    invoice_seeds: Sequence[Sequence[int]],
    note_seeds: Sequence[int] = (),
    budget_seeds: Sequence[int] = (),
) -> Records:
    """One world from its seeds: one per coupon, redemption, credit note and budget, and per workspace
    one per invoice.
    """
    world = World(seed, workspaces)
    seeds: dict[str, int] = {}
    records: Records = {
        "workspaces": [make_workspace(workspace_id) for workspace_id in world.workspace_ids],
        "coupons": [
            version
            for coupon_id, coupon_seed in zip(COUPON_IDS, coupon_seeds, strict=False)
            for version in make_coupon_versions(world, coupon_id, coupon_seed)
        ],
        "redemptions": [
            make_redemption(world, number, redemption_seed, len(coupon_seeds))
            for number, redemption_seed in enumerate(redemption_seeds, start=1)
        ],
        "invoices": [],
        "credit_notes": [],
        "budgets": [],
    }
    for workspace_id, seeds_of_workspace in zip(
        (*world.workspace_ids, "nowhere"), invoice_seeds, strict=False
    ):
        for invoice_seed in seeds_of_workspace:
            number = len(records["invoices"]) + 1
            invoice = make_invoice(world, workspace_id, number, invoice_seed)
            seeds[str(invoice["invoice_id"])] = invoice_seed
            records["invoices"].append(invoice)
    bill(records, seeds)
    records["credit_notes"] = [
        make_credit_note(world, records["invoices"], number, note_seed)
        for number, note_seed in enumerate(note_seeds, start=1)
    ]
    records["budgets"] = without_repeated_budgets(
        make_budget(world, budget_seed) for budget_seed in budget_seeds
    )
    return records


def without_repeated_budgets(budgets: Iterable[Record]) -> list[Record]:
    """The budgets, of each program, currency and month only the first."""
    kept: dict[tuple[object, ...], Record] = {}
    for budget in budgets:
        kept.setdefault((budget["program"], budget["currency"], budget["month"]), budget)
    return list(kept.values())


SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def workspace_histories(draw: st.DrawFn) -> Records:
    """One world of 1 to 3 workspaces, 1 to 5 coupons, up to 8 redemptions, 10 invoices each.

    Shrinks to fewer workspaces, coupons, redemptions, invoices, credit notes and budgets.
    """
    workspaces = draw(st.integers(1, 3))
    return make_world(
        draw(SEEDS),
        workspaces,
        draw(st.lists(SEEDS, min_size=1, max_size=5)),
        draw(st.lists(SEEDS, max_size=8)),
        [draw(st.lists(SEEDS, max_size=10)) for _ in range(workspaces)],
        draw(st.lists(SEEDS, max_size=3)),
        draw(st.lists(SEEDS, max_size=2)),
    )


def sample_worlds(count: int, seed: int = 0) -> list[Records]:
    """Many full worlds at once, always the same for the same seed; nothing shrinks.

    Hypothesis cannot draw thousands of worlds in one example; this fills one large build.
    """
    worlds = []
    for number in range(count):
        random = Random(f"{seed}-{number}")
        workspaces = random.choice((1, 1, 2, 2, 3))

        def some(least: int, most: int, random: Random = random) -> list[int]:
            return [random.getrandbits(32) for _ in range(random.randint(least, most))]

        invoice_seeds = [some(1, 10) for _ in range(workspaces)]
        if random.randrange(20) == 0:
            invoice_seeds.append(some(1, 2))
        world_seed, coupon_seeds, redemption_seeds = random.getrandbits(32), some(2, 5), some(1, 8)
        worlds.append(
            make_world(
                *(world_seed, workspaces, coupon_seeds, redemption_seeds, invoice_seeds),
                note_seeds=some(0, 3),
                budget_seeds=some(0, 2),
            )
        )
    return worlds


def combine(worlds: Iterable[Mapping[str, Sequence[Mapping[str, object]]]]) -> Records:
    """Join worlds into one set of records, every id prefixed with its world: `w0001-r1`.

    The worlds share no workspace, coupon or user, so the marts of the whole are the marts of the
    worlds together, except those that add workspaces up. A program, currency and month has the budget of
    the first world that has one.
    """
    combined: Records = {feed: [] for feed in FEEDS}
    for number, world in enumerate(worlds, start=1):
        for feed in FEEDS:
            for record in world.get(feed, ()):
                copy = dict(record)
                for column in ID_COLUMNS:
                    if copy.get(column) is not None:
                        copy[column] = f"w{number:04d}-{copy[column]}"
                combined[feed].append(copy)
    combined["budgets"] = without_repeated_budgets(combined["budgets"])
    return combined


def moved(records: Records, by: timedelta) -> Records:
    """The records at another time: instants moved by a duration, days by its days.

    Instants after the year 9000 are not moved.
    """

    def move(value: object) -> object:
        if isinstance(value, datetime):
            return value if value.year > 9000 else value + by
        if isinstance(value, date):
            return value + timedelta(days=by.days)
        return value

    moved_records = {
        feed: [{name: move(value) for name, value in record.items()} for record in rows]
        for feed, rows in records.items()
    }
    for budget in moved_records["budgets"]:
        month = budget["month"]
        assert isinstance(month, date)
        budget["month"] = month.replace(day=1)
    moved_records["budgets"] = without_repeated_budgets(moved_records["budgets"])
    return moved_records


def delivered(records: Records) -> Records:
    """The records as they are after one delivery of each feed: with its id and their rows in it."""
    return {
        feed: [
            {**record, "delivery_id": f"d{number}", "delivery_row": row}
            for row, record in enumerate(records.get(feed, ()), start=1)
        ]
        for number, feed in enumerate(feeds(), start=1)
    }


def without_ties(records: Records) -> Records:
    """The records without versions of a coupon that only the order of arrival tells apart."""
    last = {(coupon["coupon_id"], coupon["updated_at"]): coupon for coupon in records["coupons"]}
    return {**records, "coupons": list(last.values())}


def to_text(value: object) -> str:
    """One value as the text of a delivery; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def as_deliveries(
    records: Mapping[str, Sequence[Mapping[str, object]]],
) -> dict[str, list[dict[str, str]]]:
    """The records as text rows of the feeds, every column of the contract present."""
    return {
        feed: [
            {column: to_text(record.get(column)) for column in feeds()[feed].column_names}
            for record in records.get(feed, ())
        ]
        for feed in FEEDS
        if feed in feeds()
    }
