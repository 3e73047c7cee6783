"""The money rules once more, by hand: a clerk who takes invoices one at a time, in order of issue.

Here belong the rules R0 to R12 and the rows of the marts they lead to, written to be read beside
the specification and never to be fast. Money is whole minor units, grants are balances that go
down, a coupon's uses are a number that counts down, months are walked one after another. Nothing
here knows of files, databases or the SQL it is compared with, and no clock is read.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeVar

Record = Mapping[str, object]
Row = dict[str, object]
Kind = TypeVar("Kind")

# R0: currencies whose ISO 4217 exponent is zero; every other one is taken to have two places.
ZERO_DECIMAL_CURRENCIES = (
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"),
    *("VND", "VUV", "XAF", "XOF", "XPF"),
)
COUNTED_STATUSES = ("open", "paid", "uncollectible")
DISCOUNTS = ("percent_off", "amount_off")
LAST_DATE = date(9999, 12, 31)
CENT = Decimal("0.01")

MART_NAMES = (
    "fct_discounted_charges",
    "fct_discount_applications",
    "fct_credit_ledger",
    "fct_credit_burndown_monthly",
    "fct_percent_off_variance_monthly",
    "fct_program_performance_monthly",
    "fct_upcoming_expirations",
    "fct_promotion_retention",
    "fct_audit_findings",
    "dim_coupon_redemptions",
    "dim_coupons",
    "dim_workspaces",
)


# ---------------------------------------------------------------------------------- the records


@dataclass
class Coupon:
    """One coupon as recorded, its amounts in minor units and its defaults filled in."""

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
    follow_up_coupon_id: str | None
    updated_at: datetime | None


@dataclass
class Invoice:
    """One counted invoice (R1) and what the clerk found it should have been charged.

    All amounts are minor units of `currency`.
    """

    invoice_id: str
    workspace_id: str
    status: str
    plan: str
    billing_interval: str
    currency: str
    period_start: date
    period_end: date
    issued_at: datetime
    list_minor: int
    billed_discount: int
    billed_credit: int
    tax: int
    total: int
    mtus: int | None
    percent_off_given: int = 0
    amount_off_given: int = 0
    credit_given: int = 0
    credit_variance: int = 0
    has_percent_off: bool = False

    @property
    def discount_given(self) -> int:
        """R6: what percent-off and dollar-off coupons took."""
        return self.percent_off_given + self.amount_off_given

    @property
    def net(self) -> int:
        """R8: list less discounts less credit."""
        return self.list_minor - self.discount_given - self.credit_given

    @property
    def discount_variance(self) -> int:
        """R9: billed less expected discount."""
        return self.billed_discount - self.discount_given


@dataclass
class Gift:
    """What one redemption gave on one invoice, in minor units; never both amounts zero."""

    invoice: Invoice
    discount: int
    credit: int


@dataclass
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


@dataclass
class Redemption:
    """One redemption, recorded or derived (R4), and what became of it."""

    redemption_id: str
    coupon_id: str
    coupon: Coupon | None
    workspace_id: str
    user_id: str | None
    redeemed_at: datetime
    start: datetime
    ends_at: datetime | None = None
    revoked_at: datetime | None = None
    eligible_until: datetime | None = None
    application_order: int | None = None
    is_derived: bool = False
    refusal_reason: str | None = None
    natural_end: datetime | None = None
    end: datetime | None = None
    ended_by: str | None = None
    uses_left: int | None = None
    covered: list[Invoice] = field(default_factory=list)
    gifts: list[Gift] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)

    @property
    def is_honoured(self) -> bool:
        """R2: no reason refuses it."""
        return self.refusal_reason is None

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
    """R0: the first day of the month, of an instant or a date."""
    return date(day.year, day.month, 1)


def month_after(month: date) -> date:
    """R0: the first day of the next month."""
    return date(month.year + 1, 1, 1) if month.month == 12 else month.replace(month=month.month + 1)


def month_before(month: date) -> date:
    """R0: the first day of the month before."""
    return date(month.year - 1, 12, 1) if month.month == 1 else month.replace(month=month.month - 1)


def midnight_after(as_of: date) -> datetime:
    """R0: the end of the as-of day; what happened before it is known, nothing else."""
    return datetime.combine(as_of + timedelta(days=1), time())


def effective_percent(given: int, base: int) -> Decimal | None:
    """R0, R10: given as a percentage of base with four places; None of nothing."""
    if base == 0:
        return None
    return Decimal(round_half_away(given * 100 * 10_000, base)).scaleb(-4)


# -------------------------------------------------------------------------- reading the records


def read_coupon(record: Record) -> Coupon:
    """R0: one coupon, its amounts in minor units, its defaults filled in."""
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
        follow_up_coupon_id=optional(record, "follow_up_coupon_id", str),
        updated_at=optional(record, "updated_at", datetime),
    )


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
        ends_at=optional(record, "ends_at", datetime),
        revoked_at=optional(record, "revoked_at", datetime),
        eligible_until=optional(record, "eligible_until", datetime),
        application_order=optional(record, "application_order", int),
    )


def read_invoice(record: Record) -> Invoice:
    """R0: one invoice, its amounts in minor units."""
    currency = required(record, "currency", str)
    return Invoice(
        invoice_id=required(record, "invoice_id", str),
        workspace_id=required(record, "workspace_id", str),
        status=required(record, "status", str),
        plan=required(record, "plan", str),
        billing_interval=required(record, "billing_interval", str),
        currency=currency,
        period_start=required(record, "period_start", date),
        period_end=required(record, "period_end", date),
        issued_at=required(record, "issued_at", datetime),
        list_minor=to_minor(required(record, "list_amount", Decimal), currency),
        billed_discount=to_minor(required(record, "discount_amount", Decimal), currency),
        billed_credit=to_minor(required(record, "credit_amount", Decimal), currency),
        tax=to_minor(required(record, "tax_amount", Decimal), currency),
        total=to_minor(required(record, "total_amount", Decimal), currency),
        mtus=optional(record, "mtus", int),
    )


def count_invoices(records: Iterable[Record], now: datetime) -> list[Invoice]:
    """R1: the invoices that count, in the order in which they are served (R7)."""
    counted = []
    for record in records:
        invoice = read_invoice(record)
        if invoice.issued_at < now and invoice.status in COUNTED_STATUSES:
            counted.append(invoice)
    counted.sort(key=lambda invoice: (invoice.issued_at, invoice.invoice_id))
    return counted


# ------------------------------------------------------------------- R2 to R4: which redemptions


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
    for earlier in earlier_of_workspace:
        if earlier.coupon_id == redemption.coupon_id:
            return "duplicate_for_workspace"
    for earlier in earlier_of_user:
        if earlier.coupon_id == redemption.coupon_id:
            return "duplicate_for_user"
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


def set_window(redemption: Redemption) -> None:
    """R3: when the redemption ends and by what, and how many invoices it may serve."""
    coupon = redemption.coupon
    natural_end = redemption.ends_at
    if natural_end is None and coupon is not None:
        if coupon.duration_months is not None:
            natural_end = add_months(redemption.start, coupon.duration_months)
        elif coupon.discount_type == "credit" and coupon.credit_period_months is not None:
            natural_end = add_months(
                redemption.start, coupon.credit_period_months * coupon.credit_max_periods
            )
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
        redemption.uses_left = 1 if coupon.duration == "once" else coupon.duration_invoices


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
    """R4: the known other coupon that follows; a derived redemption has none."""
    coupon = redemption.coupon
    if coupon is None or redemption.is_derived or coupon.follow_up_coupon_id is None:
        return None
    if coupon.follow_up_coupon_id == coupon.coupon_id:
        return None
    return coupons.get(coupon.follow_up_coupon_id)


def derive_follow_ups(
    recorded: Sequence[Redemption], coupons: Mapping[str, Coupon], now: datetime
) -> list[Redemption]:
    """R4: the follow-ups nobody recorded, honoured or refused for reasons 4 and 5."""
    workspaces_on_record = {(r.coupon_id, r.workspace_id) for r in recorded}
    users_on_record = {(r.coupon_id, r.user_id) for r in recorded if r.user_id}
    derived: list[Redemption] = []
    for expired in recorded:
        coupon = follow_up_coupon(expired, coupons)
        if coupon is None or expired.end is None or not has_expired(expired, now):
            continue
        if (coupon.coupon_id, expired.workspace_id) in workspaces_on_record:
            continue
        derived.append(
            Redemption(
                redemption_id=expired.redemption_id + "~follow-up",
                coupon_id=coupon.coupon_id,
                coupon=coupon,
                workspace_id=expired.workspace_id,
                user_id=expired.user_id,
                redeemed_at=expired.end,
                start=expired.end,
                is_derived=True,
            )
        )
    derived.sort(key=lambda redemption: (redemption.start, redemption.redemption_id))
    for redemption in derived:
        if (redemption.coupon_id, redemption.workspace_id) in workspaces_on_record:
            redemption.refusal_reason = "duplicate_for_workspace"
        elif (redemption.coupon_id, redemption.user_id) in users_on_record:
            redemption.refusal_reason = "duplicate_for_user"
        workspaces_on_record.add((redemption.coupon_id, redemption.workspace_id))
        if redemption.user_id:
            users_on_record.add((redemption.coupon_id, redemption.user_id))
        set_window(redemption)
    return derived


# --------------------------------------------------------------------- R5 to R9: a bill at a time


def is_eligible(redemption: Redemption, invoice: Invoice) -> bool:
    """R5: in force, plan and interval as the coupon says, currency where the coupon has an amount.

    The workspace is the same by construction: an invoice only meets its workspace's redemptions.
    """
    coupon = redemption.known_coupon
    if not is_in_force(redemption, invoice.issued_at):
        return False
    if coupon.applies_to_plan is not None and coupon.applies_to_plan != invoice.plan:
        return False
    if coupon.applies_to_interval not in (None, invoice.billing_interval):
        return False
    return coupon.discount_type == "percent_off" or coupon.currency == invoice.currency


def cover(redemption: Redemption, invoice: Invoice) -> bool:
    """R3, R5: whether the redemption covers the invoice; a non-zero one takes one of its uses."""
    if redemption.uses_left == 0 or not is_eligible(redemption, invoice):
        return False
    if redemption.uses_left is not None and invoice.list_minor > 0:
        redemption.uses_left -= 1
    redemption.covered.append(invoice)
    return True


def application_key(redemption: Redemption) -> tuple[bool, int, datetime, str]:
    """R6: application_order with empty last, then redeemed_at, then redemption_id."""
    order = redemption.application_order
    return (order is None, order or 0, redemption.redeemed_at, redemption.redemption_id)


def months_billed(invoice: Invoice) -> int:
    """R6: calendar-month difference of the invoice's period, at least 1."""
    years = invoice.period_end.year - invoice.period_start.year
    return max(1, years * 12 + invoice.period_end.month - invoice.period_start.month)


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
    remaining = invoice.list_minor
    for redemption in sorted(covering, key=application_key):
        coupon = redemption.known_coupon
        if coupon.discount_type not in DISCOUNTS:
            continue
        if coupon.discount_type == "percent_off":
            invoice.has_percent_off = True
        amount = discount_of(coupon, invoice, remaining)
        if amount == 0:
            continue
        if coupon.discount_type == "percent_off":
            invoice.percent_off_given += amount
        else:
            invoice.amount_off_given += amount
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


def issue_grants(redemption: Redemption, now: datetime) -> None:
    """R7: grants 1, 2, … of an honoured credit redemption, as far as they have started."""
    coupon = redemption.known_coupon
    number = 1
    start = grant_start(redemption, number)
    while start is not None and start < now:
        own_end = None
        if coupon.credit_period_months is not None:
            own_end = add_months(redemption.start, number * coupon.credit_period_months)
        redemption.grants.append(
            Grant(
                grant_id=f"{redemption.redemption_id}#{number}",
                number=number,
                redemption=redemption,
                start=start,
                scheduled_end=earliest(own_end, redemption.natural_end),
                end=earliest(own_end, redemption.end),
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


def draw_credit(invoice: Invoice, grants: Sequence[Grant]) -> None:
    """R7: pay what discounts left of the bill from the grants, one after another."""
    unpaid = invoice.list_minor - invoice.discount_given
    for grant in grants:
        amount = min(grant.balance, unpaid)
        if amount == 0:
            continue
        grant.balance -= amount
        unpaid -= amount
        grant.draws.append((invoice, amount))
        invoice.credit_given += amount
        grant.redemption.gifts.append(Gift(invoice, discount=0, credit=amount))


def judge_billed_credit(invoice: Invoice, grants: Sequence[Grant]) -> None:
    """R9: draw the billed credit from the balances as billed so far, and note what is wrong.

    What no grant covers is over-drawn. Where the bill after billed discounts could have drawn
    more from what was then left, the rest is under-drawn.
    """
    available = sum(grant.balance_as_billed for grant in grants)
    undrawn = invoice.billed_credit
    for grant in grants:
        amount = min(grant.balance_as_billed, undrawn)
        grant.balance_as_billed -= amount
        undrawn -= amount
    possible = min(available, max(0, invoice.list_minor - invoice.billed_discount))
    if undrawn > 0:
        invoice.credit_variance = undrawn
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


def run_rate(by_month: Mapping[date, int], start: datetime, now: datetime) -> int | None:
    """R12: the mean over the last three months that have ended, from the month of the start on."""
    total = months = 0
    month = month_of(now)
    for _ in range(3):
        month = month_before(month)
        if month >= month_of(start):
            total += by_month.get(month, 0)
            months += 1
    return round_half_away(total, months) if months else None


def projected_exhaustion(balance: int, rate: int | None, as_of: date) -> date | None:
    """R12: the day the balance is used up at this rate, in months of 365.25/12 days."""
    if not rate:
        return None
    days = balance * 36_525 // (rate * 1_200)
    return as_of + timedelta(days=days) if days <= (LAST_DATE - as_of).days else None


def projected_breakage(grant: Grant, rate: int | None, as_of: date) -> int | None:
    """R12: what this rate leaves of the balance at the grant's end."""
    if rate is None or grant.end is None:
        return None
    days = (grant.end.date() - as_of).days
    return max(0, grant.balance - round_half_away(rate * days * 1_200, 36_525))


# ------------------------------------------------------------------------------------- the marts


def charge_row(invoice: Invoice) -> Row:
    """R8, R9: one row of fct_discounted_charges."""

    def major(minor: int) -> Decimal:
        return to_major(minor, invoice.currency)

    variance = invoice.discount_variance + invoice.credit_variance
    audit_status = "matched"
    if abs(invoice.discount_variance) > 1 or abs(invoice.credit_variance) > 1:
        if variance > 0:
            audit_status = "over_discounted"
        elif variance < 0:
            audit_status = "under_discounted"
    return {
        "invoice_id": invoice.invoice_id,
        "workspace_id": invoice.workspace_id,
        "plan": invoice.plan,
        "billing_interval": invoice.billing_interval,
        "currency": invoice.currency,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "issued_at": invoice.issued_at,
        "billing_month": month_of(invoice.issued_at),
        "status": invoice.status,
        "mtus": invoice.mtus,
        "list_amount": major(invoice.list_minor),
        "percent_off_amount": major(invoice.percent_off_given),
        "amount_off_amount": major(invoice.amount_off_given),
        "discount_amount": major(invoice.discount_given),
        "credit_amount": major(invoice.credit_given),
        "net_amount": major(invoice.net),
        "tax_amount": major(invoice.tax),
        "billed_discount_amount": major(invoice.billed_discount),
        "billed_credit_amount": major(invoice.billed_credit),
        "billed_net_amount": major(
            invoice.list_minor - invoice.billed_discount - invoice.billed_credit
        ),
        "billed_total_amount": major(invoice.total),
        "discount_variance_amount": major(invoice.discount_variance),
        "credit_variance_amount": major(invoice.credit_variance),
        "audit_status": audit_status,
    }


def ledger_rows(grant: Grant) -> list[Row]:
    """R7: the entries of one grant in order: the grant, its draws, what expired or was lost."""
    entries: list[tuple[str, str | None, datetime, int]] = [
        ("grant", None, grant.start, grant.amount)
    ]
    for invoice, amount in grant.draws:
        entries.append(("draw", invoice.invoice_id, invoice.issued_at, -amount))
    if grant.end is not None and grant.expired:
        entries.append(("expire", None, grant.end, -grant.expired))
    if grant.end is not None and grant.forfeited:
        entries.append(("forfeit", None, grant.end, -grant.forfeited))
    rows: list[Row] = []
    balance = 0
    currency = grant.redemption.known_coupon.currency
    for entry_type, invoice_id, effective_at, amount in entries:
        balance += amount
        rows.append(
            {
                "entry_id": ":".join(filter(None, (grant.grant_id, entry_type, invoice_id))),
                "grant_id": grant.grant_id,
                "redemption_id": grant.redemption.redemption_id,
                "coupon_id": grant.redemption.coupon_id,
                "workspace_id": grant.redemption.workspace_id,
                "currency": currency,
                "entry_type": entry_type,
                "invoice_id": invoice_id,
                "effective_at": effective_at,
                "amount": to_major(amount, currency),
                "balance_amount": to_major(balance, currency),
            }
        )
    return rows


def burndown_rows(grant: Grant, as_of: date, now: datetime) -> list[Row]:
    """R7, R12: one grant month by month, with a look ahead on the last row while it is valid."""
    currency = grant.redemption.known_coupon.currency
    drawn_by_month: dict[date, int] = defaultdict(int)
    for invoice, amount in grant.draws:
        drawn_by_month[month_of(invoice.issued_at)] += amount
    end = grant.end if grant.end is not None and grant.end < now else None
    last_month = month_of(as_of) if end is None else month_of(end)
    rows: list[Row] = []
    month = month_of(grant.start)
    opening = 0
    while month <= last_month:
        is_last = month == last_month
        granted = grant.amount if month == month_of(grant.start) else 0
        drawn = drawn_by_month[month]
        expired = grant.expired if is_last else 0
        forfeited = grant.forfeited if is_last else 0
        closing = opening + granted - drawn - expired - forfeited
        rate = exhaustion = breakage = None
        if is_last and end is None:
            rate = run_rate(drawn_by_month, grant.start, now)
            exhaustion = projected_exhaustion(grant.balance, rate, as_of)
            breakage = projected_breakage(grant, rate, as_of)
        rows.append(
            {
                "grant_id": grant.grant_id,
                "redemption_id": grant.redemption.redemption_id,
                "coupon_id": grant.redemption.coupon_id,
                "workspace_id": grant.redemption.workspace_id,
                "currency": currency,
                "grant_period": grant.number,
                "grant_ends_at": grant.end,
                "burn_month": month,
                "opening_amount": to_major(opening, currency),
                "granted_amount": to_major(granted, currency),
                "drawn_amount": to_major(drawn, currency),
                "expired_amount": to_major(expired, currency),
                "forfeited_amount": to_major(forfeited, currency),
                "closing_amount": to_major(closing, currency),
                "run_rate_amount": None if rate is None else to_major(rate, currency),
                "projected_exhaustion_date": exhaustion,
                "projected_breakage_amount": (
                    None if breakage is None else to_major(breakage, currency)
                ),
            }
        )
        opening = closing
        month = month_after(month)
    return rows


def split_delta(
    this: tuple[int, int] | None,
    before: tuple[int, int] | None,
    in_force_now: bool,
    in_force_before: bool,
) -> tuple[str, int]:
    """R10: the effect that takes the delta, and how much; what is left of it is `rate`.

    Args:
        this: Bill and discount of the month, None when it is not covered.
        before: The same of the month before.
        in_force_now: Whether a percent-off redemption is in force at the end of the month.
        in_force_before: Whether one was at the end of the month before.
    """
    if this is not None and before is not None:
        (bill, _), (bill_before, discount_before) = this, before
        if bill_before == 0:
            return "bill", this[1] - discount_before
        return "bill", round_half_away(discount_before * (bill - bill_before), bill_before)
    if this is not None:
        return ("bill" if in_force_before else "start"), this[1]
    if before is not None:
        return ("bill" if in_force_now else "end"), -before[1]
    return "bill", 0


def variance_rows(
    workspace_id: str,
    currency: str,
    invoices: Sequence[Invoice],
    honoured: Sequence[Redemption],
    as_of: date,
) -> list[Row]:
    """R10: one workspace and currency, month by month from the first covered one."""
    months: dict[date, tuple[int, int]] = {}
    for invoice in invoices:
        month = month_of(invoice.issued_at)
        bill, discount = months.get(month, (0, 0))
        months[month] = (bill + invoice.list_minor, discount + invoice.percent_off_given)

    def is_in_force_at_end(month: date) -> bool:
        boundary = datetime.combine(month_after(month), time())
        for redemption in honoured:
            if redemption.known_coupon.discount_type == "percent_off" and is_in_force_at_end_of(
                redemption, boundary
            ):
                return True
        return False

    rows: list[Row] = []
    month = min(months)
    last_month = min(month_after(max(months)), month_of(as_of))
    while month <= last_month:
        this, before = months.get(month), months.get(month_before(month))
        bill, discount = this or (0, 0)
        bill_before, discount_before = before or (0, 0)
        delta = discount - discount_before
        effects = {"bill": 0, "rate": 0, "start": 0, "end": 0}
        effect, amount = split_delta(
            this, before, is_in_force_at_end(month), is_in_force_at_end(month_before(month))
        )
        effects[effect] = amount
        effects["rate"] = delta - amount
        rows.append(
            {
                "workspace_id": workspace_id,
                "currency": currency,
                "variance_month": month,
                "is_covered": this is not None,
                "bill_amount": to_major(bill, currency),
                "percent_off_amount": to_major(discount, currency),
                "effective_percent": effective_percent(discount, bill),
                "previous_bill_amount": to_major(bill_before, currency),
                "previous_percent_off_amount": to_major(discount_before, currency),
                "delta_amount": to_major(delta, currency),
                "bill_effect_amount": to_major(effects["bill"], currency),
                "rate_effect_amount": to_major(effects["rate"], currency),
                "start_effect_amount": to_major(effects["start"], currency),
                "end_effect_amount": to_major(effects["end"], currency),
            }
        )
        month = month_after(month)
    return rows


@dataclass
class Performance:
    """What one program did in one currency and month; amounts in minor units."""

    invoices: dict[str, Invoice] = field(default_factory=dict)
    new: int = 0
    ended: int = 0
    discount: int = 0
    credit: int = 0


def performance_rows(honoured: Sequence[Redemption], now: datetime) -> list[Row]:
    """Marts: fct_program_performance_monthly, from applications, draws and new redemptions."""
    cells: dict[tuple[str, str | None, date], Performance] = defaultdict(Performance)
    for redemption in honoured:
        program = redemption.known_coupon.program
        currency = currency_of(redemption)
        cells[program, currency, month_of(redemption.redeemed_at)].new += 1
        for gift in redemption.gifts:
            invoice = gift.invoice
            cell = cells[program, invoice.currency, month_of(invoice.issued_at)]
            cell.invoices[invoice.invoice_id] = invoice
            cell.discount += gift.discount
            cell.credit += gift.credit
    for redemption in honoured:
        if redemption.end is None or redemption.end >= now or not was_ever_in_force(redemption):
            continue
        key = (
            redemption.known_coupon.program,
            currency_of(redemption),
            month_of(redemption.end),
        )
        if key in cells:
            cells[key].ended += 1
    rows: list[Row] = []
    for (program, cell_currency, month), cell in cells.items():
        invoices = list(cell.invoices.values())
        list_minor = sum(invoice.list_minor for invoice in invoices)
        rows.append(
            {
                "program": program,
                "currency": cell_currency,
                "performance_month": month,
                "active_workspaces": len({invoice.workspace_id for invoice in invoices}),
                "new_redemptions": cell.new,
                "ended_redemptions": cell.ended,
                "list_amount": to_major(list_minor, cell_currency),
                "discount_amount": to_major(cell.discount, cell_currency),
                "credit_amount": to_major(cell.credit, cell_currency),
                "net_amount": to_major(sum(invoice.net for invoice in invoices), cell_currency),
                "effective_percent": effective_percent(cell.discount + cell.credit, list_minor),
            }
        )
    return rows


def is_followed_up(
    redemption: Redemption,
    coupons: Mapping[str, Coupon],
    recorded_of_coupon: Mapping[str, Sequence[Redemption]],
    derived_by_end: Mapping[str, Redemption],
) -> bool:
    """R4, R12: whether, when this redemption expires, a follow-up is or will be there.

    Args:
        redemption: The redemption in force.
        coupons: All coupons.
        recorded_of_coupon: The redemptions on record by coupon.
        derived_by_end: What will have been derived once everything known has ended, by id.
    """
    coupon = follow_up_coupon(redemption, coupons)
    if coupon is None or redemption.ended_by != "expiry":
        return False
    derived = derived_by_end.get(redemption.redemption_id + "~follow-up")
    if derived is not None:
        return derived.is_honoured
    return any(
        other.is_honoured and order_key(other) >= order_key(redemption)
        for other in recorded_of_coupon.get(coupon.coupon_id, ())
        if other.workspace_id == redemption.workspace_id
    )


def expiration_row(
    redemption: Redemption,
    coupons: Mapping[str, Coupon],
    recorded_of_coupon: Mapping[str, Sequence[Redemption]],
    derived_by_end: Mapping[str, Redemption],
    now: datetime,
) -> Row | None:
    """R12: one row of fct_upcoming_expirations, or None when it does not end within 12 months."""
    horizon = add_months(now, 12)
    if redemption.end is None or not is_in_force_at_end_of(redemption, now):
        return None
    if horizon is not None and redemption.end >= horizon:
        return None
    given_by_month: dict[date, int] = defaultdict(int)
    for gift in redemption.gifts:
        given_by_month[month_of(gift.invoice.issued_at)] += gift.discount + gift.credit
    rate = run_rate(given_by_month, redemption.start, now)
    currency = currency_of(redemption)
    is_known = rate is not None and is_in_one_currency(redemption)
    return {
        "redemption_id": redemption.redemption_id,
        "workspace_id": redemption.workspace_id,
        "coupon_id": redemption.coupon_id,
        "program": redemption.known_coupon.program,
        "status": status_of(redemption, now),
        "currency": currency,
        "ends_at": redemption.end,
        "ends_month": month_of(redemption.end),
        "run_rate_amount": to_major(rate or 0, currency) if is_known else None,
        "follow_up_coupon_id": redemption.known_coupon.follow_up_coupon_id,
        "is_followed_up": is_followed_up(redemption, coupons, recorded_of_coupon, derived_by_end),
    }


def retention_row(redemption: Redemption, invoices: Sequence[Invoice], now: datetime) -> Row | None:
    """Marts: one row of fct_promotion_retention, or None when it has not expired."""
    end = redemption.end
    if end is None or not has_expired(redemption, now):
        return None
    currency = currency_of(redemption)

    def is_retained(months: int) -> bool | None:
        after = add_months(end, months)
        for invoice in invoices:
            if after is not None and invoice.issued_at >= after and invoice.net > 0:
                return True
        return None if after is None or after >= now else False

    year_end = add_months(end, 12)
    in_year = [
        invoice
        for invoice in invoices
        if invoice.issued_at >= end and (year_end is None or invoice.issued_at < year_end)
    ]
    given = sum(gift.discount + gift.credit for gift in redemption.gifts)
    is_net_known = all(invoice.currency == currency for invoice in in_year) and (
        currency is not None or is_in_one_currency(redemption)
    )
    net = sum(invoice.net for invoice in in_year)
    return {
        "redemption_id": redemption.redemption_id,
        "workspace_id": redemption.workspace_id,
        "coupon_id": redemption.coupon_id,
        "program": redemption.known_coupon.program,
        "currency": currency,
        "ended_at": end,
        "total_discount_amount": (
            to_major(given, currency) if is_in_one_currency(redemption) else None
        ),
        "is_retained_1m": is_retained(1),
        "is_retained_3m": is_retained(3),
        "is_retained_6m": is_retained(6),
        "is_retained_12m": is_retained(12),
        "net_amount_12m": to_major(net, currency) if is_net_known else None,
    }


def redemption_row(redemption: Redemption, invoices: Sequence[Invoice], now: datetime) -> Row:
    """R2, R3, R11: one row of dim_coupon_redemptions."""
    coupon = redemption.coupon
    currency = currency_of(redemption)
    is_known = is_in_one_currency(redemption)
    discount = sum(gift.discount for gift in redemption.gifts)
    credit = sum(gift.credit for gift in redemption.gifts)
    balance = sum(grant.balance for grant in redemption.grants)
    discounted = {gift.invoice.invoice_id: gift.invoice.issued_at for gift in redemption.gifts}
    first_list_rate_invoice_at = None
    if redemption.is_honoured and redemption.end is not None and redemption.end < now:
        for invoice in invoices:
            if (
                invoice.issued_at >= redemption.end
                and invoice.discount_given == 0
                and invoice.credit_given == 0
            ):
                first_list_rate_invoice_at = invoice.issued_at
                break
    next_event, next_event_at = next_event_of(redemption, now)
    return {
        "redemption_id": redemption.redemption_id,
        "workspace_id": redemption.workspace_id,
        "coupon_id": redemption.coupon_id,
        "program": None if coupon is None else coupon.program,
        "discount_type": None if coupon is None else coupon.discount_type,
        "currency": currency,
        "redeemed_at": redemption.redeemed_at,
        "started_at": redemption.start,
        "ends_at": redemption.end,
        "ended_by": redemption.ended_by,
        "is_honoured": redemption.is_honoured,
        "refusal_reason": redemption.refusal_reason,
        "is_derived": redemption.is_derived,
        "status": status_of(redemption, now),
        "invoices_discounted": len(discounted),
        "last_discounted_invoice_at": max(discounted.values(), default=None),
        "first_list_rate_invoice_at": first_list_rate_invoice_at,
        "discount_to_date_amount": to_major(discount, currency) if is_known else None,
        "credit_to_date_amount": to_major(credit, currency) if is_known else None,
        "credit_balance_amount": to_major(balance, currency) if is_known else None,
        "next_event": next_event,
        "next_event_at": next_event_at,
    }


def coupon_row(coupon: Coupon) -> Row:
    """Marts: one row of dim_coupons, the feed's columns with their defaults."""
    kind, currency = coupon.discount_type, coupon.currency
    row: Row = dict(vars(coupon))
    row["percent_off"] = (
        None if coupon.percent_off is None else coupon.percent_off.quantize(Decimal("0.0001"))
    )
    row["amount_off"] = to_major(coupon.amount_off, currency) if kind == "amount_off" else None
    row["credit_amount"] = to_major(coupon.credit_amount, currency) if kind == "credit" else None
    return row


def workspace_row(
    record: Record, invoices: Sequence[Invoice], honoured: Sequence[Redemption], now: datetime
) -> Row:
    """Marts: one row of dim_workspaces."""
    issued = [invoice.issued_at for invoice in invoices]
    return {
        "workspace_id": required(record, "workspace_id", str),
        "workspace_name": optional(record, "workspace_name", str),
        "created_at": required(record, "created_at", datetime),
        "first_invoice_at": min(issued, default=None),
        "last_invoice_at": max(issued, default=None),
        "is_discounted": any(is_in_force_at_end_of(redemption, now) for redemption in honoured),
    }


# ---------------------------------------------------------------------------------- the findings


def redemption_finding(redemption: Redemption, finding_type: str, sentence: str) -> Row:
    """Findings: what a recorded redemption did that the rules do not allow."""
    is_late = finding_type == "follow_up_not_immediate"
    return {
        "finding_id": f"{finding_type}:{redemption.redemption_id}",
        "finding_type": finding_type,
        "severity": "warn" if is_late else "error",
        "workspace_id": redemption.workspace_id,
        "redemption_id": redemption.redemption_id,
        "invoice_id": None,
        "coupon_id": redemption.coupon_id,
        "occurred_at": redemption.start if is_late else redemption.redeemed_at,
        "currency": currency_of(redemption),
        "amount_at_stake": None,
        "description": sentence,
    }


def invoice_finding(invoice: Invoice, finding_type: str, at_stake: int, sentence: str) -> Row:
    """Findings: what an invoice did that the rules do not allow; `at_stake` is minor units."""
    return {
        "finding_id": f"{finding_type}:{invoice.invoice_id}",
        "finding_type": finding_type,
        "severity": "error",
        "workspace_id": invoice.workspace_id,
        "redemption_id": None,
        "invoice_id": invoice.invoice_id,
        "coupon_id": None,
        "occurred_at": invoice.issued_at,
        "currency": invoice.currency,
        "amount_at_stake": to_major(at_stake, invoice.currency),
        "description": sentence,
    }


def redemption_findings(
    recorded: Sequence[Redemption], coupons: Mapping[str, Coupon], now: datetime
) -> list[Row]:
    """R2, R4: refused recorded redemptions, and follow-ups that did not start at once."""
    rows: list[Row] = []
    honoured_of: dict[tuple[str, str], list[Redemption]] = defaultdict(list)
    for redemption in recorded:
        if redemption.refusal_reason is not None:
            sentence = f"Redemption {redemption.redemption_id} is refused."
            rows.append(redemption_finding(redemption, redemption.refusal_reason, sentence))
        else:
            honoured_of[redemption.coupon_id, redemption.workspace_id].append(redemption)
    ends_followed: dict[str, list[datetime]] = defaultdict(list)
    by_id: dict[str, Redemption] = {}
    for expired in recorded:
        coupon = follow_up_coupon(expired, coupons)
        if coupon is None or expired.end is None or not has_expired(expired, now):
            continue
        for candidate in honoured_of[coupon.coupon_id, expired.workspace_id]:
            if order_key(candidate) >= order_key(expired):
                ends_followed[candidate.redemption_id].append(expired.end)
                by_id[candidate.redemption_id] = candidate
                break
    for redemption_id, ends in ends_followed.items():
        if by_id[redemption_id].start not in ends:
            sentence = f"Redemption {redemption_id} does not start when the one before it ends."
            rows.append(
                redemption_finding(by_id[redemption_id], "follow_up_not_immediate", sentence)
            )
    return rows


def discount_finding_type(invoice: Invoice, of_workspace: Sequence[Redemption]) -> str | None:
    """R9: what is wrong with the billed discount, None when it is right to one minor unit."""
    if abs(invoice.discount_variance) <= 1:
        return None
    has_ended = is_refused_in_force = False
    for redemption in of_workspace:
        coupon = redemption.coupon
        if redemption.is_honoured:
            if redemption.known_coupon.discount_type not in DISCOUNTS:
                continue
            if is_in_force(redemption, invoice.issued_at):
                return "over_discounted" if invoice.discount_variance > 0 else "under_discounted"
            if (
                was_ever_in_force(redemption)
                and redemption.end is not None
                and redemption.end <= invoice.issued_at
            ):
                has_ended = True
        elif (coupon is None or coupon.discount_type in DISCOUNTS) and is_in_force(
            redemption, invoice.issued_at
        ):
            is_refused_in_force = True
    if has_ended:
        return "discount_after_expiry"
    if is_refused_in_force:
        return "discount_on_refused_redemption"
    return "discount_without_coupon"


def invoice_findings(invoice: Invoice, of_workspace: Sequence[Redemption]) -> list[Row]:
    """R9: what is wrong with one invoice as billed."""
    rows: list[Row] = []
    finding_type = discount_finding_type(invoice, of_workspace)
    if finding_type is not None:
        sentence = f"Invoice {invoice.invoice_id} was billed another discount than expected."
        at_stake = abs(invoice.discount_variance)
        rows.append(invoice_finding(invoice, finding_type, at_stake, sentence))
    if abs(invoice.credit_variance) > 1:
        finding_type = "credit_over_drawn" if invoice.credit_variance > 0 else "credit_under_drawn"
        sentence = f"Invoice {invoice.invoice_id} was billed another credit than possible."
        rows.append(invoice_finding(invoice, finding_type, abs(invoice.credit_variance), sentence))
    expected_total = (
        invoice.list_minor - invoice.billed_discount - invoice.billed_credit + invoice.tax
    )
    if invoice.total != expected_total:
        sentence = f"Invoice {invoice.invoice_id} does not add up."
        at_stake = abs(invoice.total - expected_total)
        rows.append(invoice_finding(invoice, "invoice_does_not_add_up", at_stake, sentence))
    return rows


# --------------------------------------------------------------------------------- putting it all


def order_key(redemption: Redemption) -> tuple[datetime, str]:
    """R2: the order in which redemptions are taken."""
    return (redemption.redeemed_at, redemption.redemption_id)


def publish(records: Mapping[str, Sequence[Record]], as_of: date) -> dict[str, list[Row]]:
    """R0 to R12: the rows of every mart, from the current records and the as-of date alone.

    Args:
        records: Per feed the current valid records, values typed as the feed says, None or
            missing where empty: instants naive UTC, amounts in major units.
        as_of: The day at whose end the state is published.

    Returns:
        Per mart its rows with every column of the contract. Amounts have two places.
    """
    now = midnight_after(as_of)
    coupons: dict[str, Coupon] = {}
    for record in records.get("coupons", ()):
        coupon = read_coupon(record)
        coupons[coupon.coupon_id] = coupon
    workspace_ids = {required(r, "workspace_id", str) for r in records.get("workspaces", ())}

    recorded: list[Redemption] = []
    for record in records.get("redemptions", ()):
        redemption = read_redemption(record, coupons)
        if redemption.redeemed_at < now:
            set_window(redemption)
            recorded.append(redemption)
    recorded.sort(key=order_key)
    refuse_redemptions(recorded, workspace_ids, coupons)
    redemptions = recorded + derive_follow_ups(recorded, coupons, now)
    derived_by_end = {
        r.redemption_id: r for r in derive_follow_ups(recorded, coupons, datetime.max)
    }
    honoured = [redemption for redemption in redemptions if redemption.is_honoured]
    for redemption in honoured:
        issue_grants(redemption, now)

    of_workspace: dict[str, list[Redemption]] = defaultdict(list)
    honoured_of_workspace: dict[str, list[Redemption]] = defaultdict(list)
    recorded_of_coupon: dict[str, list[Redemption]] = defaultdict(list)
    for redemption in redemptions:
        of_workspace[redemption.workspace_id].append(redemption)
        if redemption.is_honoured:
            honoured_of_workspace[redemption.workspace_id].append(redemption)
        if not redemption.is_derived:
            recorded_of_coupon[redemption.coupon_id].append(redemption)

    marts: dict[str, list[Row]] = {name: [] for name in MART_NAMES}
    invoices_of_workspace: dict[str, list[Invoice]] = defaultdict(list)
    percent_off_invoices: dict[tuple[str, str], list[Invoice]] = defaultdict(list)
    for invoice in count_invoices(records.get("invoices", ()), now):
        candidates = honoured_of_workspace.get(invoice.workspace_id, [])
        covering = [redemption for redemption in candidates if cover(redemption, invoice)]
        marts["fct_discount_applications"] += apply_discounts(invoice, covering)
        grants = covering_grants(invoice, covering)
        draw_credit(invoice, grants)
        judge_billed_credit(invoice, grants)
        marts["fct_discounted_charges"].append(charge_row(invoice))
        marts["fct_audit_findings"] += invoice_findings(
            invoice, of_workspace.get(invoice.workspace_id, [])
        )
        invoices_of_workspace[invoice.workspace_id].append(invoice)
        if invoice.has_percent_off:
            percent_off_invoices[invoice.workspace_id, invoice.currency].append(invoice)

    for redemption in honoured:
        for grant in redemption.grants:
            close_grant(grant, now)
            marts["fct_credit_ledger"] += ledger_rows(grant)
            marts["fct_credit_burndown_monthly"] += burndown_rows(grant, as_of, now)
        expiration = expiration_row(redemption, coupons, recorded_of_coupon, derived_by_end, now)
        if expiration is not None:
            marts["fct_upcoming_expirations"].append(expiration)
        retention = retention_row(
            redemption, invoices_of_workspace.get(redemption.workspace_id, []), now
        )
        if retention is not None:
            marts["fct_promotion_retention"].append(retention)

    for (workspace_id, currency), invoices in percent_off_invoices.items():
        marts["fct_percent_off_variance_monthly"] += variance_rows(
            workspace_id, currency, invoices, honoured_of_workspace[workspace_id], as_of
        )
    marts["fct_program_performance_monthly"] = performance_rows(honoured, now)
    marts["fct_audit_findings"] += redemption_findings(recorded, coupons, now)
    marts["dim_coupon_redemptions"] = [
        redemption_row(redemption, invoices_of_workspace.get(redemption.workspace_id, []), now)
        for redemption in redemptions
    ]
    marts["dim_coupons"] = [coupon_row(coupon) for coupon in coupons.values()]
    for record in records.get("workspaces", ()):
        workspace_id = required(record, "workspace_id", str)
        marts["dim_workspaces"].append(
            workspace_row(
                record,
                invoices_of_workspace.get(workspace_id, []),
                honoured_of_workspace.get(workspace_id, []),
                now,
            )
        )
    return marts
