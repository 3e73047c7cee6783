"""The money rules once more, by hand: a clerk who takes invoices one at a time, in order of issue.

The rules R0 to R9, R11 and R13 belong here, written to be read beside the specification and never to
be fast. Money is whole minor units, grants are balances that go down, a coupon's uses are a number
that counts down. Nothing here knows of files, databases or the SQL it is compared with, and no clock
is read. `outlook` applies the rules to the future, and `model` arranges the results as marts.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import TypeVar
from zoneinfo import ZoneInfo

Record = Mapping[str, object]
Records = Mapping[str, Sequence[Record]]
Row = dict[str, object]
Kind = TypeVar("Kind")

# R0: currencies whose ISO 4217 exponent is or was zero; every other one is taken to have two places.
ZERO_DECIMAL_CURRENCIES = (
    *("BIF", "BYR", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX"),
    *("UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
)
COUNTED_STATUSES = ("open", "paid", "uncollectible")
DISCOUNTS = ("percent_off", "amount_off")
RECURRING_INTERVALS = ("day", "week", "month", "year")
LAST_DATE = date(9999, 12, 31)
CENT = Decimal("0.01")
FOLLOW_UP_SUFFIX = "~follow-up"
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


# ---------------------------------------------------------------------------------- the records


@dataclass
class Coupon:
    """One version of a coupon as recorded, its amounts in minor units and its defaults filled in."""

    coupon_id: str
    coupon_name: str
    program: str
    discount_type: str
    percent_off: Decimal | None
    amount_off: int
    amount_off_per: str
    credit_amount: int
    credit_period_months: int | None
    credit_max_periods: int
    credit_priority: int | None
    currency: str | None
    applies_to_plan: str | None
    applies_to_interval: str | None
    duration: str
    duration_months: int | None
    duration_invoices: int | None
    redeem_by: datetime | None
    max_redemptions: int | None
    requires_no_prior_coupon: bool
    once_per: str
    follow_up_coupon_id: str | None
    updated_at: datetime | None

    def terms(self) -> Row:
        """Findings: what the coupon gives, for how long, to what and to whom."""
        terms = dict(vars(self))
        for column in ("coupon_name", "program", "updated_at"):
            del terms[column]
        return terms


@dataclass(eq=False)
class Invoice:
    """One counted invoice (R1) or expected bill (R12), and what the clerk found it should be charged.

    All amounts are minor units of `currency`. `discountable_given` and `creditable_given` are as
    delivered, None where they were left out. `percent_off_by` has an entry for each percent-off
    redemption that covers the invoice, 0 where that redemption takes nothing.
    """

    invoice_id: str
    workspace_id: str
    status: str
    plan: str
    billing_interval: str
    interval_count: int
    subscription_id: str | None
    currency: str
    period_start: date
    period_end: date
    issued_at: datetime
    list_minor: int
    discountable_given: int | None = None
    creditable_given: int | None = None
    billed_discount: int = 0
    billed_credit: int = 0
    tax: int = 0
    total: int = 0
    mtus: int | None = None
    provenance: Row = field(default_factory=dict)
    is_expected: bool = False
    percent_off_given: int = 0
    amount_off_given: int = 0
    credit_given: int = 0
    credit_variance: int = 0
    percent_off_by: dict[str, int] = field(default_factory=dict)
    counted_notes: list[CreditNote] = field(default_factory=list)

    @property
    def key(self) -> tuple[datetime, str]:
        """R7: the order in which invoices are served."""
        return (self.issued_at, self.invoice_id)

    @property
    def discountable(self) -> int:
        """R6: what coupons may act on; nothing of a negative bill (R1)."""
        if self.list_minor < 0:
            return 0
        return self.list_minor if self.discountable_given is None else self.discountable_given

    @property
    def creditable(self) -> int:
        """R7: the most that credit may pay; nothing of a negative bill (R1)."""
        if self.list_minor < 0:
            return 0
        if self.creditable_given is None:
            return self.list_minor
        return min(self.creditable_given, self.list_minor)

    @property
    def discount_given(self) -> int:
        """R6: what percent-off and dollar-off coupons took."""
        return self.percent_off_given + self.amount_off_given

    @property
    def net(self) -> int:
        """R8: list less discounts less credit."""
        return self.list_minor - self.discount_given - self.credit_given

    @property
    def billed_net(self) -> int:
        """R9: list less what billing took off."""
        return self.list_minor - self.billed_discount - self.billed_credit

    @property
    def discount_variance(self) -> int:
        """R9: billed less expected discount."""
        return self.billed_discount - self.discount_given

    @property
    def credited(self) -> int:
        """R13: what counted credit notes took off what was billed."""
        return sum(note.amount for note in self.counted_notes)


@dataclass
class CreditNote:
    """One issued credit note (R13), its amounts in minor units of its own currency."""

    credit_note_id: str
    invoice_id: str
    issued_at: datetime
    currency: str
    amount: int
    tax: int
    reason: str | None
    workspace_id: str | None
    is_counted: bool
    provenance: Row


@dataclass
class Gift:
    """What one redemption gave on one invoice, in minor units; never both amounts zero."""

    invoice: Invoice
    discount: int
    credit: int


@dataclass
class Draw:
    """R7, R9: what an invoice takes from a grant that covers it, nothing included, and took as billed.

    Amounts are minor units; `rank` counts the grants that cover the invoice in the order of R7.
    """

    grant: Grant
    invoice: Invoice
    rank: int
    balance_before: int
    amount: int = 0
    billed_balance_before: int = 0
    billed_amount: int = 0


@dataclass(eq=False)
class Grant:
    """One grant of credit (R7): a balance that invoices draw down.

    `balance` follows the rules, `balance_as_billed` what billing drew (R9).
    """

    grant_id: str
    number: int
    redemption: Redemption
    start: datetime
    scheduled_end: datetime | None
    end: datetime | None
    amount: int
    balance: int
    balance_as_billed: int
    draws: list[tuple[Invoice, int]] = field(default_factory=list)
    expired: int = 0
    forfeited: int = 0

    def left_after(self, invoice: Invoice) -> int:
        """R7: what an invoice leaves of the grant; nothing once the grant has ended."""
        if self.end is not None and self.end <= invoice.issued_at:
            return 0
        return self.amount - sum(amount for by, amount in self.draws if by.key <= invoice.key)


@dataclass(frozen=True)
class LaterTerms:
    """What-if: the terms of coupons for bills issued from some instant on.

    Attributes:
        coupons: The coupons with other terms.
        first: The instant.
    """

    coupons: Mapping[str, Coupon]
    first: datetime


@dataclass(eq=False)
class Redemption:
    """One redemption, recorded or derived (R4), and what became of it.

    `derived_from` is the redemption that a derived one follows; `follows` lists all redemptions that
    this one follows up, and `used_on` the invoices that took one of its uses (R3).
    """

    redemption_id: str
    coupon_id: str
    coupon: Coupon | None
    workspace_id: str
    user_id: str | None
    redeemed_at: datetime
    start: datetime
    subscription_id: str | None = None
    ends_at: datetime | None = None
    revoked_at: datetime | None = None
    eligible_until: datetime | None = None
    application_order: int | None = None
    provenance: Row = field(default_factory=dict)
    derived_from: Redemption | None = None
    refusal_reason: str | None = None
    natural_end: datetime | None = None
    end: datetime | None = None
    ended_by: str | None = None
    uses: int | None = None
    used_on: list[Invoice] = field(default_factory=list)
    follows: list[Redemption] = field(default_factory=list)
    covered: list[Invoice] = field(default_factory=list)
    gifts: list[Gift] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)

    @property
    def is_derived(self) -> bool:
        """R4: derived rather than on record."""
        return self.derived_from is not None

    @property
    def is_honoured(self) -> bool:
        """R2: no reason refuses it."""
        return self.refusal_reason is None

    @property
    def uses_left(self) -> int | None:
        """R3: how many more invoices it may serve; None where there is no limit."""
        return None if self.uses is None else self.uses - len(self.used_on)

    @property
    def key(self) -> tuple[datetime, str]:
        """R2: the order in which redemptions are taken."""
        return (self.redeemed_at, self.redemption_id)

    @property
    def known_coupon(self) -> Coupon:
        """The coupon of a redemption that cannot have been refused for want of one."""
        if self.coupon is None:
            raise LookupError(f"redemption {self.redemption_id}: coupon {self.coupon_id} unknown")
        return self.coupon


def required(record: Record, name: str, kind: type[Kind]) -> Kind:
    """The value of a required column, which must have the type the feed says."""
    value = record.get(name)
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, got {value!r} in {dict(record)!r}")
    return value


def optional(record: Record, name: str, kind: type[Kind]) -> Kind | None:
    """The value of a column that may be absent."""
    return None if record.get(name) is None else required(record, name, kind)


# --------------------------------------------------------------------------- R0: money and time


def to_minor(amount: Decimal | None, currency: str | None) -> int:
    """R0: major units to whole minor units; an absent amount is zero."""
    if amount is None:
        return 0
    scaled = amount if currency in ZERO_DECIMAL_CURRENCIES else amount * 100
    if scaled != int(scaled):
        raise ValueError(f"{amount} {currency} has more places than the currency")
    return int(scaled)


def to_minor_if_given(amount: Decimal | None, currency: str) -> int | None:
    """R0: major units to whole minor units, where an absent amount stays absent."""
    return None if amount is None else to_minor(amount, currency)


def to_major(minor: int, currency: str | None) -> Decimal:
    """R0: minor units to the published amount with two places."""
    if currency in ZERO_DECIMAL_CURRENCIES:
        return Decimal(minor).quantize(CENT)
    return Decimal(minor).scaleb(-2).quantize(CENT)


def round_half_away(numerator: int, denominator: int) -> int:
    """R0: the quotient rounded to a whole number, halves away from zero."""
    whole, left = divmod(abs(numerator), denominator)
    if left * 2 >= denominator:
        whole += 1
    return whole if numerator >= 0 else -whole


def add_months(instant: datetime, months: int) -> datetime | None:
    """R0: calendar months on, clamped to the end of the month; None when past the year 9999."""
    year, month = instant.year, instant.month + months
    while month > 12:
        year, month = year + 1, month - 12
    if year > LAST_DATE.year:
        return None
    return instant.replace(year=year, month=month, day=min(instant.day, monthrange(year, month)[1]))


def month_of(day: date) -> date:
    """R0: the first day of the month of a date."""
    return date(day.year, day.month, 1)


def month_after(month: date) -> date:
    """R0: the first day of the next month."""
    return date(month.year + 1, 1, 1) if month.month == 12 else month.replace(month=month.month + 1)


def month_before(month: date) -> date:
    """R0: the first day of the month before."""
    return date(month.year - 1, 12, 1) if month.month == 1 else month.replace(month=month.month - 1)


@dataclass(frozen=True)
class ReportingCalendar:
    """R0: the calendar of the reporting time zone, which decides where days and months begin."""

    zone: ZoneInfo

    def day_of(self, instant: datetime) -> date:
        """The day of an instant there."""
        return instant.replace(tzinfo=UTC).astimezone(self.zone).date()

    def month_of(self, instant: datetime) -> date:
        """The first day of the month of an instant there."""
        return month_of(self.day_of(instant))

    def first_instant(self, day: date) -> datetime:
        """The first instant of a day there, or of the next day that exists if clocks leapt over it."""
        return first_instant_of(day, self.zone)

    def end_of(self, day: date) -> datetime:
        """The end of a day there: what happened before it is known, nothing else."""
        return self.first_instant(day + timedelta(days=1))

    def end_of_month(self, month: date) -> datetime:
        """The first instant of the next month there."""
        return self.first_instant(month_after(month))


@cache
def first_instant_of(day: date, zone: ZoneInfo) -> datetime:
    """R0: the first UTC instant at which the calendar of a time zone shows this day or a later one.

    A day begins at midnight, or in the middle of a leap of the clocks over midnight.
    """
    midnight = datetime.combine(day, time())

    def offset(instant: datetime) -> timedelta | None:
        return instant.replace(tzinfo=UTC).astimezone(zone).utcoffset()

    beginnings = [
        midnight.replace(tzinfo=zone, fold=fold).astimezone(UTC).replace(tzinfo=None)
        for fold in (0, 1)
    ]
    for hours in range(-30, 30):
        before = midnight + hours * HOUR
        after = before + HOUR
        if offset(before) != offset(after):
            old = offset(before)
            while after - before > SECOND:
                middle = before + (after - before) // 2
                middle = middle.replace(microsecond=0)
                if offset(middle) == old:
                    before = middle
                else:
                    after = middle
            beginnings.append(after)
    calendar = ReportingCalendar(zone)
    return min(instant for instant in beginnings if calendar.day_of(instant) >= day)


def effective_percent(given: int, base: int) -> Decimal | None:
    """R0, R10: given as a percentage of base with four places; None of nothing."""
    if base == 0:
        return None
    return Decimal(round_half_away(given * 100 * 10_000, base)).scaleb(-4)


# -------------------------------------------------------------------------- reading the records


def provenance_of(record: Record) -> Row:
    """Marts: the delivery and the row of a record, if the record has them."""
    return {name: record[name] for name in ("delivery_id", "delivery_row") if name in record}


def read_coupon(record: Record) -> Coupon:
    """R0: one version of a coupon, its amounts in minor units, its defaults filled in."""
    currency = optional(record, "currency", str)
    max_periods = optional(record, "credit_max_periods", int)
    return Coupon(
        coupon_id=required(record, "coupon_id", str),
        coupon_name=required(record, "coupon_name", str),
        program=required(record, "program", str),
        discount_type=required(record, "discount_type", str),
        percent_off=optional(record, "percent_off", Decimal),
        amount_off=to_minor(optional(record, "amount_off", Decimal), currency),
        amount_off_per=optional(record, "amount_off_per", str) or "invoice",
        credit_amount=to_minor(optional(record, "credit_amount", Decimal), currency),
        credit_period_months=optional(record, "credit_period_months", int),
        credit_max_periods=1 if max_periods is None else max_periods,
        credit_priority=optional(record, "credit_priority", int),
        currency=currency,
        applies_to_plan=optional(record, "applies_to_plan", str),
        applies_to_interval=optional(record, "applies_to_interval", str),
        duration=required(record, "duration", str),
        duration_months=optional(record, "duration_months", int),
        duration_invoices=optional(record, "duration_invoices", int),
        redeem_by=optional(record, "redeem_by", datetime),
        max_redemptions=optional(record, "max_redemptions", int),
        requires_no_prior_coupon=optional(record, "requires_no_prior_coupon", bool) or False,
        once_per=optional(record, "once_per", str) or "user",
        follow_up_coupon_id=optional(record, "follow_up_coupon_id", str),
        updated_at=optional(record, "updated_at", datetime),
    )


def read_coupon_versions(records: Iterable[Record]) -> dict[str, list[Coupon]]:
    """Per coupon its delivered versions in the order of `updated_at` and arrival; the last is current.

    An equal copy of a version is not a version of its own, but moves the version to where it arrived.

    Args:
        records: The delivered versions of all coupons in the order of their arrival.
    """
    versions: dict[str, list[Coupon]] = defaultdict(list)
    for record in records:
        coupon = read_coupon(record)
        of_coupon = versions[coupon.coupon_id]
        if coupon in of_coupon:
            of_coupon.remove(coupon)
        of_coupon.append(coupon)
    for of_coupon in versions.values():
        of_coupon.sort(key=lambda coupon: coupon.updated_at or datetime.min)
    return versions


def read_redemption(record: Record, coupons: Mapping[str, Coupon]) -> Redemption:
    """R3: one recorded redemption; it starts at `starts_at`, else when it was redeemed."""
    redeemed_at = required(record, "redeemed_at", datetime)
    starts_at = optional(record, "starts_at", datetime)
    coupon_id = required(record, "coupon_id", str)
    return Redemption(
        redemption_id=required(record, "redemption_id", str),
        coupon_id=coupon_id,
        coupon=coupons.get(coupon_id),
        workspace_id=required(record, "workspace_id", str),
        user_id=optional(record, "user_id", str),
        redeemed_at=redeemed_at,
        start=redeemed_at if starts_at is None else starts_at,
        subscription_id=optional(record, "subscription_id", str),
        ends_at=optional(record, "ends_at", datetime),
        revoked_at=optional(record, "revoked_at", datetime),
        eligible_until=optional(record, "eligible_until", datetime),
        application_order=optional(record, "application_order", int),
        provenance=provenance_of(record),
    )


def read_invoice(record: Record) -> Invoice:
    """R0: one invoice, its amounts in minor units."""
    currency = required(record, "currency", str)
    count = optional(record, "interval_count", int)
    return Invoice(
        invoice_id=required(record, "invoice_id", str),
        workspace_id=required(record, "workspace_id", str),
        status=required(record, "status", str),
        plan=required(record, "plan", str),
        billing_interval=required(record, "billing_interval", str),
        interval_count=1 if count is None else count,
        subscription_id=optional(record, "subscription_id", str),
        currency=currency,
        period_start=required(record, "period_start", date),
        period_end=required(record, "period_end", date),
        issued_at=required(record, "issued_at", datetime),
        list_minor=to_minor(required(record, "list_amount", Decimal), currency),
        discountable_given=to_minor_if_given(
            optional(record, "discountable_amount", Decimal), currency
        ),
        creditable_given=to_minor_if_given(
            optional(record, "creditable_amount", Decimal), currency
        ),
        billed_discount=to_minor(required(record, "discount_amount", Decimal), currency),
        billed_credit=to_minor(required(record, "credit_amount", Decimal), currency),
        tax=to_minor(required(record, "tax_amount", Decimal), currency),
        total=to_minor(required(record, "total_amount", Decimal), currency),
        mtus=optional(record, "mtus", int),
        provenance=provenance_of(record),
    )


def count_invoices(records: Iterable[Record], now: datetime) -> list[Invoice]:
    """R1: the invoices that count, in the order in which they are served (R7)."""
    counted = []
    for record in records:
        invoice = read_invoice(record)
        if invoice.issued_at < now and invoice.status in COUNTED_STATUSES:
            counted.append(invoice)
    counted.sort(key=lambda invoice: invoice.key)
    return counted


def read_credit_notes(
    records: Iterable[Record],
    counted: Sequence[Invoice],
    workspace_of_invoice: Mapping[str, str],
    now: datetime,
) -> list[CreditNote]:
    """R13: the issued credit notes, each marked whether it counts and, if so, deducted from its invoice.

    Args:
        records: The credit notes.
        counted: The invoices that count.
        workspace_of_invoice: The workspace of every invoice there is, counted or not.
        now: The end of the as-of day.
    """
    by_id = {invoice.invoice_id: invoice for invoice in counted}
    notes = []
    for record in records:
        issued_at = required(record, "issued_at", datetime)
        if required(record, "status", str) != "issued" or issued_at >= now:
            continue
        currency = required(record, "currency", str)
        invoice_id = required(record, "invoice_id", str)
        invoice = by_id.get(invoice_id)
        note = CreditNote(
            credit_note_id=required(record, "credit_note_id", str),
            invoice_id=invoice_id,
            issued_at=issued_at,
            currency=currency,
            amount=to_minor(required(record, "amount", Decimal), currency),
            tax=to_minor(optional(record, "tax_amount", Decimal), currency),
            reason=optional(record, "reason", str),
            workspace_id=workspace_of_invoice.get(invoice_id),
            is_counted=invoice is not None and invoice.currency == currency,
            provenance=provenance_of(record),
        )
        notes.append(note)
        if invoice is not None and note.is_counted:
            invoice.counted_notes.append(note)
    return notes


# ------------------------------------------------------------------- R2 to R4: which redemptions


def duplicate_reason(
    redemption: Redemption, coupon: Coupon, others: Iterable[Redemption]
) -> str | None:
    """R2: reason 4 or 5 as the coupon's `once_per` asks for them; None where neither holds.

    Args:
        redemption: The redemption judged.
        coupon: Its coupon.
        others: The redemptions of the same coupon that it is judged against.
    """
    if coupon.once_per == "unlimited":
        return None
    is_same_user = False
    for other in others:
        if other.workspace_id == redemption.workspace_id and (
            coupon.once_per != "subscription" or other.subscription_id == redemption.subscription_id
        ):
            return "duplicate_for_workspace"
        if redemption.user_id is not None and other.user_id == redemption.user_id:
            is_same_user = True
    return "duplicate_for_user" if is_same_user and coupon.once_per == "user" else None


def refuse_redemptions(
    recorded: Sequence[Redemption], workspace_ids: set[str], coupons: Mapping[str, Coupon]
) -> None:
    """R2: go through the redemptions in order, remember all seen, refuse for the first reason."""
    seen_by_workspace: dict[str, list[Redemption]] = defaultdict(list)
    seen_by_user: dict[str, list[Redemption]] = defaultdict(list)
    seen_of_coupon: dict[str, list[Redemption]] = defaultdict(list)
    for redemption in recorded:
        of_workspace = seen_by_workspace[redemption.workspace_id]
        of_user = seen_by_user[redemption.user_id] if redemption.user_id else []
        redemption.refusal_reason = first_refusal_reason(
            redemption,
            workspace_ids,
            coupons,
            of_workspace,
            of_user,
            seen_of_coupon[redemption.coupon_id],
        )
        of_workspace.append(redemption)
        of_user.append(redemption)
        seen_of_coupon[redemption.coupon_id].append(redemption)


def first_refusal_reason(
    redemption: Redemption,
    workspace_ids: set[str],
    coupons: Mapping[str, Coupon],
    earlier_of_workspace: Sequence[Redemption],
    earlier_of_user: Sequence[Redemption],
    earlier_of_coupon: Sequence[Redemption],
) -> str | None:
    """R2: reasons 1 to 7 in their order; None when the redemption is honoured."""
    coupon = redemption.coupon
    if coupon is None:
        return "unknown_coupon"
    if redemption.workspace_id not in workspace_ids:
        return "unknown_workspace"
    if coupon.redeem_by is not None and redemption.redeemed_at > coupon.redeem_by:
        return "redeemed_after_close"
    reason = duplicate_reason(redemption, coupon, earlier_of_coupon)
    if reason is not None:
        return reason
    if coupon.requires_no_prior_coupon:
        for earlier in [*earlier_of_workspace, *earlier_of_user]:
            if earlier.coupon_id == redemption.coupon_id:
                continue
            other = coupons.get(earlier.coupon_id)
            if other is None or other.follow_up_coupon_id != redemption.coupon_id:
                return "prior_coupon"
    if coupon.max_redemptions is not None:
        places_taken = 0
        for earlier in earlier_of_coupon:
            if earlier.refusal_reason in (None, "over_redeemed"):
                places_taken += 1
        if places_taken >= coupon.max_redemptions:
            return "over_redeemed"
    return None


def natural_end_of(redemption: Redemption, coupon: Coupon | None) -> datetime | None:
    """R3: the natural end of a redemption under the terms of a coupon; None where there is none."""
    if redemption.ends_at is not None or coupon is None:
        return redemption.ends_at
    if coupon.duration_months is not None:
        return add_months(redemption.start, coupon.duration_months)
    if coupon.discount_type == "credit" and coupon.credit_period_months is not None:
        return add_months(redemption.start, coupon.credit_period_months * coupon.credit_max_periods)
    return None


def natural_end_under(redemption: Redemption, later: LaterTerms) -> datetime | None:
    """What-if: a redemption that has ended when terms change stays ended; no other ends before they change."""
    recorded = natural_end_of(redemption, redemption.coupon)
    changed = natural_end_of(redemption, later.coupons.get(redemption.coupon_id, redemption.coupon))
    if redemption.start >= later.first:
        return changed
    if recorded is not None and recorded < later.first:
        return recorded
    return changed if changed is None else max(changed, later.first)


def set_window(redemption: Redemption, later: LaterTerms | None = None) -> None:
    """R3: when the redemption ends and by what, and how many invoices it may serve."""
    coupon = redemption.coupon
    if later is None:
        natural_end = natural_end_of(redemption, coupon)
    else:
        natural_end = natural_end_under(redemption, later)
    redemption.natural_end = natural_end
    redemption.end, redemption.ended_by = None, None
    for possible_end, by in (
        (natural_end, "expiry"),
        (redemption.revoked_at, "revocation"),
        (redemption.eligible_until, "eligibility"),
    ):
        if possible_end is not None and (redemption.end is None or possible_end < redemption.end):
            redemption.end, redemption.ended_by = possible_end, by
    if coupon is not None:
        redemption.uses = 1 if coupon.duration == "once" else coupon.duration_invoices


def is_in_force(redemption: Redemption, instant: datetime) -> bool:
    """R3: start included, end excluded, by the redemption's own dates."""
    return redemption.start <= instant and (redemption.end is None or instant < redemption.end)


def was_ever_in_force(redemption: Redemption) -> bool:
    """R3: an end at or before the start means never in force."""
    return redemption.end is None or redemption.start < redemption.end


def is_in_force_at_end_of(redemption: Redemption, boundary: datetime) -> bool:
    """R10, R11: in force at the end of a day or month: started before, not ended before it."""
    return redemption.start < boundary and (redemption.end is None or redemption.end >= boundary)


def has_expired(redemption: Redemption, now: datetime) -> bool:
    """R4: honoured, was in force, and ended by expiry before the end of the as-of day."""
    return (
        redemption.is_honoured
        and was_ever_in_force(redemption)
        and redemption.ended_by == "expiry"
        and redemption.end is not None
        and redemption.end < now
    )


def follow_up_coupon(redemption: Redemption, coupons: Mapping[str, Coupon]) -> Coupon | None:
    """R4: the known other coupon that follows, unless the chain of derived ones had it already."""
    if redemption.coupon is None or redemption.coupon.follow_up_coupon_id is None:
        return None
    follow_up_id = redemption.coupon.follow_up_coupon_id
    link: Redemption | None = redemption
    while link is not None:
        if link.coupon_id == follow_up_id:
            return None
        link = link.derived_from
    return coupons.get(follow_up_id)


def is_on_record_for(candidate: Redemption, redemption: Redemption) -> bool:
    """R4: whether a redemption of the follow-up coupon is one of the same workspace and subscription."""
    if candidate.workspace_id != redemption.workspace_id:
        return False
    if candidate.subscription_id is None or redemption.subscription_id is None:
        return True
    return candidate.subscription_id == redemption.subscription_id


def derive_follow_ups(
    recorded: Sequence[Redemption],
    coupons: Mapping[str, Coupon],
    now: datetime,
    later: LaterTerms | None = None,
) -> list[Redemption]:
    """R4: the follow-ups nobody recorded, and theirs, honoured or refused for reasons 4 and 5.

    Records on each follow-up, on record or derived, which redemptions it follows.
    """
    recorded_of_coupon: dict[str, list[Redemption]] = defaultdict(list)
    for redemption in recorded:
        recorded_of_coupon[redemption.coupon_id].append(redemption)
    derived: list[Redemption] = []
    derived_of_coupon: dict[str, list[Redemption]] = defaultdict(list)
    due: list[Redemption] = []

    def follow(expired: Redemption) -> None:
        coupon = follow_up_coupon(expired, coupons)
        if coupon is None or expired.end is None or not has_expired(expired, now):
            return
        on_record = [
            candidate
            for candidate in recorded_of_coupon[coupon.coupon_id]
            if is_on_record_for(candidate, expired)
        ]
        for candidate in on_record:
            if candidate.is_honoured and candidate.key > expired.key:
                candidate.follows.append(expired)
                break
        if not on_record:
            follow_up = Redemption(
                redemption_id=expired.redemption_id + FOLLOW_UP_SUFFIX,
                coupon_id=coupon.coupon_id,
                coupon=coupon,
                workspace_id=expired.workspace_id,
                user_id=expired.user_id,
                redeemed_at=expired.end,
                start=expired.end,
                subscription_id=expired.subscription_id,
                provenance=dict.fromkeys(expired.provenance),
                derived_from=expired,
            )
            follow_up.follows.append(expired)
            due.append(follow_up)

    for redemption in recorded:
        follow(redemption)
    while due:
        due.sort(key=lambda redemption: redemption.key)
        redemption = due.pop(0)
        others = recorded_of_coupon[redemption.coupon_id] + derived_of_coupon[redemption.coupon_id]
        redemption.refusal_reason = duplicate_reason(redemption, redemption.known_coupon, others)
        set_window(redemption, later)
        derived.append(redemption)
        derived_of_coupon[redemption.coupon_id].append(redemption)
        follow(redemption)
    return derived


def followed_first(redemption: Redemption) -> Redemption | None:
    """R4: of those that a redemption follows, the first at whose end it starts, else the first."""
    followed = sorted(redemption.follows, key=lambda other: other.key)
    for other in followed:
        if other.end == redemption.start:
            return other
    return followed[0] if followed else None


def promotion_of(redemption: Redemption) -> str:
    """R4: the id of the redemption that the chain begins with.

    Where redemptions dated back follow each other in a circle, the circle begins with the one that starts
    first.
    """
    chain = [redemption]
    before = followed_first(redemption)
    while before is not None:
        if before in chain:
            circle = chain[chain.index(before) :]
            return min(circle, key=lambda link: (link.start, link.redemption_id)).redemption_id
        chain.append(before)
        before = followed_first(before)
    return chain[-1].redemption_id


# --------------------------------------------------------------------- R5 to R9: a bill at a time


def is_eligible(redemption: Redemption, invoice: Invoice) -> bool:
    """R5: in force, not a negative bill, and all that the coupon and the redemption ask for.

    The workspace is the same by construction: an invoice only meets its workspace's redemptions.
    """
    coupon = redemption.known_coupon
    if invoice.list_minor < 0 or not is_in_force(redemption, invoice.issued_at):
        return False
    if coupon.applies_to_plan is not None and coupon.applies_to_plan != invoice.plan:
        return False
    if coupon.applies_to_interval not in (None, invoice.billing_interval):
        return False
    if redemption.subscription_id not in (None, invoice.subscription_id):
        return False
    return coupon.discount_type == "percent_off" or coupon.currency == invoice.currency


def cover(redemption: Redemption, invoice: Invoice) -> bool:
    """R3, R5: whether the redemption covers the invoice, which takes a use if it has an amount to act on."""
    if redemption.uses_left == 0 or not is_eligible(redemption, invoice):
        return False
    is_credit = redemption.known_coupon.discount_type == "credit"
    acts_on = invoice.creditable if is_credit else invoice.discountable
    if redemption.uses is not None and acts_on > 0:
        redemption.used_on.append(invoice)
    redemption.covered.append(invoice)
    return True


def application_key(redemption: Redemption) -> tuple[bool, int, datetime, str]:
    """R6: application_order with empty last, then redeemed_at, then redemption_id."""
    order = redemption.application_order
    return (order is None, order or 0, redemption.redeemed_at, redemption.redemption_id)


def months_billed(invoice: Invoice) -> int:
    """R6: the most whole months from the start of the period that are not after its end, at least 1."""
    start = datetime.combine(invoice.period_start, time())
    months = 1
    while True:
        end = add_months(start, months + 1)
        if end is None or end.date() > invoice.period_end:
            return months
        months += 1


def discount_of(coupon: Coupon, invoice: Invoice, remaining: int) -> int:
    """R6: what one coupon takes from what the ones before it left."""
    if coupon.percent_off is not None:
        return round_half_away(remaining * int(coupon.percent_off * 10_000), 100 * 10_000)
    amount = coupon.amount_off
    if coupon.amount_off_per == "month":
        amount *= months_billed(invoice)
    return min(amount, remaining)


def apply_discounts(invoice: Invoice, covering: Iterable[Redemption]) -> list[Row]:
    """R6: the covering coupons one after another; a row for each that takes something."""
    rows: list[Row] = []
    remaining = invoice.discountable
    for redemption in sorted(covering, key=application_key):
        coupon = redemption.known_coupon
        if coupon.discount_type not in DISCOUNTS:
            continue
        amount = discount_of(coupon, invoice, remaining)
        if coupon.discount_type == "percent_off":
            invoice.percent_off_by[redemption.redemption_id] = amount
            invoice.percent_off_given += amount
        else:
            invoice.amount_off_given += amount
        if amount == 0:
            continue
        redemption.gifts.append(Gift(invoice, discount=amount, credit=0))
        rows.append(
            {
                "invoice_id": invoice.invoice_id,
                "redemption_id": redemption.redemption_id,
                "coupon_id": redemption.coupon_id,
                "application_rank": len(rows) + 1,
                "discount_type": coupon.discount_type,
                "currency": invoice.currency,
                "base_amount": to_major(remaining, invoice.currency),
                "discount_amount": to_major(amount, invoice.currency),
                "remaining_amount": to_major(remaining - amount, invoice.currency),
            }
        )
        remaining -= amount
    return rows


def earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    """R0: the earlier of two ends, where no end means never."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def grant_start(redemption: Redemption, number: int) -> datetime | None:
    """R7: when grant k of a redemption would start; None when it never does.

    Grant 1 needs the redemption to be in force at some time; a further one must start before the
    redemption's end and not after the coupon's redeem_by.
    """
    coupon = redemption.known_coupon
    if coupon.discount_type != "credit" or not was_ever_in_force(redemption):
        return None
    if number == 1:
        return redemption.start
    if coupon.credit_period_months is None or number > coupon.credit_max_periods:
        return None
    start = add_months(redemption.start, (number - 1) * coupon.credit_period_months)
    if start is None or (redemption.end is not None and start >= redemption.end):
        return None
    if coupon.redeem_by is not None and start > coupon.redeem_by:
        return None
    return start


def own_end(redemption: Redemption, number: int) -> datetime | None:
    """R7: when the period of grant k ends, whatever becomes of the redemption; None for no period."""
    coupon = redemption.known_coupon
    if coupon.credit_period_months is None:
        return None
    return add_months(redemption.start, number * coupon.credit_period_months)


def issue_grants(redemption: Redemption, now: datetime, later: LaterTerms | None = None) -> None:
    """R7: grants 1, 2, … of an honoured credit redemption, as far as they have started."""
    number = 1
    start = grant_start(redemption, number)
    while start is not None and start < now:
        coupon = redemption.known_coupon
        if later is not None and start >= later.first:
            coupon = later.coupons.get(redemption.coupon_id, coupon)
        period_end = own_end(redemption, number)
        redemption.grants.append(
            Grant(
                grant_id=f"{redemption.redemption_id}#{number}",
                number=number,
                redemption=redemption,
                start=start,
                scheduled_end=earliest(period_end, redemption.natural_end),
                end=earliest(period_end, redemption.end),
                amount=coupon.credit_amount,
                balance=coupon.credit_amount,
                balance_as_billed=coupon.credit_amount,
            )
        )
        number += 1
        start = grant_start(redemption, number)


def next_grant_start(redemption: Redemption, now: datetime) -> datetime | None:
    """R7, R11: when the next further grant comes, None when none will."""
    if redemption.known_coupon.discount_type != "credit":
        return None
    start = grant_start(redemption, len(redemption.grants) + 1)
    return start if start is not None and start >= now else None


def draw_key(grant: Grant) -> tuple[bool, int, bool, datetime, datetime, str]:
    """R7: credit_priority with empty last, scheduled end with none last, start, grant_id."""
    priority = grant.redemption.known_coupon.credit_priority
    return (
        priority is None,
        priority or 0,
        grant.scheduled_end is None,
        grant.scheduled_end or datetime.max,
        grant.start,
        grant.grant_id,
    )


def covering_grants(invoice: Invoice, covering: Iterable[Redemption]) -> list[Grant]:
    """R7: the grants valid when the invoice was issued, in the order they are drawn on."""
    grants = []
    for redemption in covering:
        for grant in redemption.grants:
            if grant.start <= invoice.issued_at and (
                grant.end is None or invoice.issued_at < grant.end
            ):
                grants.append(grant)
    grants.sort(key=draw_key)
    return grants


def draw_credit(invoice: Invoice, grants: Sequence[Grant]) -> list[Draw]:
    """R7: pay what discounts left of the bill, as far as credit may, from one grant after another."""
    draws = []
    unpaid = min(invoice.list_minor - invoice.discount_given, invoice.creditable)
    for rank, grant in enumerate(grants, start=1):
        draw = Draw(grant, invoice, rank, balance_before=grant.balance)
        draws.append(draw)
        draw.amount = min(grant.balance, unpaid)
        if draw.amount == 0:
            continue
        grant.balance -= draw.amount
        unpaid -= draw.amount
        grant.draws.append((invoice, draw.amount))
        invoice.credit_given += draw.amount
        grant.redemption.gifts.append(Gift(invoice, discount=0, credit=draw.amount))
    return draws


def judge_billed_credit(invoice: Invoice, draws: Sequence[Draw]) -> None:
    """R9: draw the billed credit from the balances as billed so far, and note what is wrong.

    What no grant covers is over-drawn, and so is what grants cover beyond what credit may pay. Where
    the bill after billed discounts could have drawn more from what was then left, the rest is
    under-drawn.
    """
    available = sum(draw.grant.balance_as_billed for draw in draws)
    undrawn = invoice.billed_credit
    for draw in draws:
        grant = draw.grant
        draw.billed_balance_before = grant.balance_as_billed
        draw.billed_amount = min(grant.balance_as_billed, undrawn)
        grant.balance_as_billed -= draw.billed_amount
        undrawn -= draw.billed_amount
    covered = invoice.billed_credit - undrawn
    over_drawn = undrawn
    possible = max(0, invoice.list_minor - invoice.billed_discount)
    if invoice.creditable_given is not None:
        over_drawn += max(0, covered - invoice.creditable_given)
        possible = min(possible, invoice.creditable_given)
    possible = min(possible, available)
    if over_drawn > 0:
        invoice.credit_variance = over_drawn
    elif possible > invoice.billed_credit:
        invoice.credit_variance = invoice.billed_credit - possible


def close_grant(grant: Grant, now: datetime) -> None:
    """R7: what an ended grant has left expires, or is forfeited if it was cut short."""
    if grant.end is None or grant.end >= now:
        return
    is_cut_short = grant.redemption.ended_by in ("revocation", "eligibility") and (
        grant.scheduled_end is None or grant.end < grant.scheduled_end
    )
    if is_cut_short:
        grant.forfeited = grant.balance
    else:
        grant.expired = grant.balance
    grant.balance = 0


# --------------------------------------------------------------- the calculation at one instant


@dataclass(eq=False)
class State:
    """R1 to R8: what the rules make of redemptions and bills at one instant.

    `recorded` and `derived` are together all redemptions; `invoices` are in the order in which they
    were served.
    """

    now: datetime
    recorded: list[Redemption]
    derived: list[Redemption]
    invoices: list[Invoice]
    applications: list[Row] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    by_id: dict[str, Redemption] = field(default_factory=dict)
    of_workspace: dict[str, list[Redemption]] = field(default_factory=dict)
    invoices_of_workspace: dict[str, list[Invoice]] = field(default_factory=dict)

    @property
    def honoured(self) -> list[Redemption]:
        """R2: the redemptions that no reason refuses."""
        return [redemption for redemption in self.by_id.values() if redemption.is_honoured]


def calculate(
    records: Records,
    coupons: Mapping[str, Coupon],
    known_before: datetime,
    now: datetime,
    invoices: list[Invoice],
    later: LaterTerms | None = None,
) -> State:
    """R2 to R8: apply the redemptions to the bills, one bill after another.

    Args:
        records: The records of the feeds.
        coupons: The current coupons, by id.
        known_before: The instant before which a redemption must have been made to be known.
        now: The instant of the calculation: what ends and starts before it has done so.
        invoices: The bills in the order in which they are served; they must not have been served yet.
        later: Terms that hold for bills issued from some instant on, if there are such.
    """
    workspace_ids = {required(r, "workspace_id", str) for r in records.get("workspaces", ())}
    recorded = []
    for record in records.get("redemptions", ()):
        redemption = read_redemption(record, coupons)
        if redemption.redeemed_at < known_before:
            set_window(redemption, later)
            recorded.append(redemption)
    recorded.sort(key=lambda redemption: redemption.key)
    refuse_redemptions(recorded, workspace_ids, coupons)
    state = State(now, recorded, derive_follow_ups(recorded, coupons, now, later), invoices)
    for redemption in [*state.recorded, *state.derived]:
        state.by_id[redemption.redemption_id] = redemption
        state.of_workspace.setdefault(redemption.workspace_id, []).append(redemption)
        if redemption.is_honoured:
            issue_grants(redemption, now, later)
    are_changed = later is None
    for invoice in invoices:
        if later is not None and not are_changed and invoice.issued_at >= later.first:
            change_terms(state, later)
            are_changed = True
        covering = [
            redemption
            for redemption in state.of_workspace.get(invoice.workspace_id, ())
            if redemption.is_honoured and cover(redemption, invoice)
        ]
        state.applications += apply_discounts(invoice, covering)
        draws = draw_credit(invoice, covering_grants(invoice, covering))
        judge_billed_credit(invoice, draws)
        state.draws += draws
        state.invoices_of_workspace.setdefault(invoice.workspace_id, []).append(invoice)
    if later is not None:
        change_terms(state, later)
    for redemption in state.honoured:
        for grant in redemption.grants:
            close_grant(grant, now)
    return state


def change_terms(state: State, later: LaterTerms) -> None:
    """What-if: give redemptions the terms that hold for the bills still to be served."""
    for redemption in state.by_id.values():
        redemption.coupon = later.coupons.get(redemption.coupon_id, redemption.coupon)


# -------------------------------------------------------------------- what redemptions amount to


def currency_of(redemption: Redemption) -> str | None:
    """Marts: the coupon's currency, else the one all covered invoices share."""
    if redemption.coupon is not None and redemption.coupon.currency is not None:
        return redemption.coupon.currency
    currencies = {invoice.currency for invoice in redemption.covered}
    return currencies.pop() if len(currencies) == 1 else None


def is_in_one_currency(redemption: Redemption) -> bool:
    """Marts: whether all covered invoices are in the redemption's currency."""
    currency = currency_of(redemption)
    return all(invoice.currency == currency for invoice in redemption.covered)


def status_of(redemption: Redemption, now: datetime) -> str:
    """R11: the first that holds."""
    if not redemption.is_honoured:
        return "refused"
    if redemption.end is not None and redemption.end < now:
        return {"revocation": "revoked", "eligibility": "ineligible", "expiry": "expired"}[
            redemption.ended_by or ""
        ]
    if redemption.start >= now:
        return "scheduled"
    if redemption.uses_left == 0:
        return "exhausted"
    if (
        redemption.grants
        and all(grant.balance == 0 for grant in redemption.grants)
        and next_grant_start(redemption, now) is None
    ):
        return "exhausted"
    return "active"


def next_event_of(redemption: Redemption, now: datetime) -> tuple[str | None, datetime | None]:
    """R11: what happens next to an honoured redemption: its start, a further grant or its end."""
    status = status_of(redemption, now)
    if not was_ever_in_force(redemption):
        return None, None
    if status == "scheduled":
        return "start", redemption.start
    if status not in ("exhausted", "active"):
        return None, None
    grant_at = next_grant_start(redemption, now)
    if grant_at is not None and (redemption.end is None or grant_at < redemption.end):
        return "grant", grant_at
    return redemption.ended_by, redemption.end
