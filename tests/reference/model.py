"""The marts as the money rules have them: what R0 to R13 lead to, laid out column by column.

The rows of the marts, rule R10 and the findings belong here, written to be read beside the
specification and never to be fast. The rules themselves are in `rules`, the outlook in `outlook`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.reference.outlook import (
    MONTHS_LISTED,
    Outlook,
    breakage,
    exhaustion_date,
    look_ahead,
    per_month,
    rise_after,
    run_rate,
    runs_out,
    workspaces_concerned,
)
from tests.reference.rules import (
    DISCOUNTS,
    Coupon,
    CreditNote,
    Draw,
    Grant,
    Invoice,
    LaterTerms,
    Record,
    Records,
    Redemption,
    ReportingCalendar,
    Row,
    State,
    add_months,
    calculate,
    count_invoices,
    currency_of,
    effective_percent,
    has_expired,
    is_in_force,
    is_in_force_at_end_of,
    is_in_one_currency,
    month_after,
    month_before,
    month_of,
    next_event_of,
    optional,
    promotion_of,
    read_coupon,
    read_coupon_versions,
    read_credit_notes,
    required,
    round_half_away,
    status_of,
    to_major,
    to_minor,
    was_ever_in_force,
)

MART_NAMES = (
    "fct_discounted_charges",
    "fct_discount_applications",
    "fct_credit_ledger",
    "fct_credit_draws",
    "fct_credit_burndown_monthly",
    "fct_credit_notes",
    "fct_percent_off_variance_monthly",
    "fct_program_performance_monthly",
    "fct_program_budget_monthly",
    "fct_charge_bridge_monthly",
    "fct_bill_outlook_monthly",
    "fct_upcoming_expirations",
    "fct_promotion_retention",
    "fct_audit_findings",
    "dim_coupon_redemptions",
    "dim_coupons",
    "dim_workspaces",
)


# ------------------------------------------------------------------------ charges and what they took


def charge_row(invoice: Invoice, calendar: ReportingCalendar) -> Row:
    """R8, R9, R13: one row of fct_discounted_charges."""

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
        "interval_count": invoice.interval_count,
        "subscription_id": invoice.subscription_id,
        "currency": invoice.currency,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "issued_at": invoice.issued_at,
        "billing_month": calendar.month_of(invoice.issued_at),
        "status": invoice.status,
        "mtus": invoice.mtus,
        "list_amount": major(invoice.list_minor),
        "discountable_amount": major(invoice.discountable),
        "percent_off_amount": major(invoice.percent_off_given),
        "amount_off_amount": major(invoice.amount_off_given),
        "discount_amount": major(invoice.discount_given),
        "credit_amount": major(invoice.credit_given),
        "net_amount": major(invoice.net),
        "tax_amount": major(invoice.tax),
        "billed_discount_amount": major(invoice.billed_discount),
        "billed_credit_amount": major(invoice.billed_credit),
        "billed_net_amount": major(invoice.billed_net),
        "credited_amount": major(invoice.credited),
        "billed_net_after_notes_amount": major(invoice.billed_net - invoice.credited),
        "billed_total_amount": major(invoice.total),
        "discount_variance_amount": major(invoice.discount_variance),
        "credit_variance_amount": major(invoice.credit_variance),
        "audit_status": audit_status,
        **invoice.provenance,
    }


def credit_note_row(note: CreditNote, calendar: ReportingCalendar) -> Row:
    """R13: one row of fct_credit_notes."""
    return {
        "credit_note_id": note.credit_note_id,
        "invoice_id": note.invoice_id,
        "workspace_id": note.workspace_id,
        "currency": note.currency,
        "issued_at": note.issued_at,
        "note_month": calendar.month_of(note.issued_at),
        "amount": to_major(note.amount, note.currency),
        "tax_amount": to_major(note.tax, note.currency),
        "reason": note.reason,
        "is_counted": note.is_counted,
        **note.provenance,
    }


def draw_row(draw: Draw) -> Row:
    """R7, R9: one row of fct_credit_draws."""
    currency = draw.invoice.currency
    return {
        "grant_id": draw.grant.grant_id,
        "redemption_id": draw.grant.redemption.redemption_id,
        "workspace_id": draw.invoice.workspace_id,
        "invoice_id": draw.invoice.invoice_id,
        "currency": currency,
        "draw_rank": draw.rank,
        "balance_before_amount": to_major(draw.balance_before, currency),
        "draw_amount": to_major(draw.amount, currency),
        "billed_balance_before_amount": to_major(draw.billed_balance_before, currency),
        "billed_draw_amount": to_major(draw.billed_amount, currency),
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


def burndown_rows(
    grant: Grant, foreseen: Grant, horizon: datetime, as_of: date, calendar: ReportingCalendar
) -> list[Row]:
    """R7, R12: one grant month by month, with a look ahead on the last row while it is valid.

    Args:
        grant: As it is at the end of the as-of day.
        foreseen: The same grant as the outlook has it.
        horizon: The end of the outlook.
        as_of: The as-of day.
        calendar: The calendar of the months.
    """
    now = calendar.end_of(as_of)
    currency = grant.redemption.known_coupon.currency
    drawn_by_month: dict[date, int] = defaultdict(int)
    for invoice, amount in grant.draws:
        drawn_by_month[calendar.month_of(invoice.issued_at)] += amount
    end = grant.end if grant.end is not None and grant.end < now else None
    last_month = month_of(as_of) if end is None else calendar.month_of(end)
    rows: list[Row] = []
    month = calendar.month_of(grant.start)
    opening = 0
    while month <= last_month:
        is_last = month == last_month
        granted = grant.amount if month == calendar.month_of(grant.start) else 0
        drawn = drawn_by_month[month]
        expired = grant.expired if is_last else 0
        forfeited = grant.forfeited if is_last else 0
        closing = opening + granted - drawn - expired - forfeited
        rate = exhausted_on = lapsing = None
        if is_last and end is None:
            rate = run_rate(drawn_by_month, grant.start, as_of, calendar)
            exhausted_on = exhaustion_date(foreseen, calendar) if grant.balance else None
            lapsing = breakage(foreseen, horizon)
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
                "projected_exhaustion_date": exhausted_on,
                "projected_breakage_amount": (
                    None if lapsing is None else to_major(lapsing, currency)
                ),
            }
        )
        opening = closing
        month = month_after(month)
    return rows


# ------------------------------------------------------------------------- month to month (R10)


@dataclass
class Month:
    """R10: what coupons may act on and what they took in a covered month, in minor units."""

    bill: int = 0
    discount: int = 0

    def add(self, invoice: Invoice, discount: int) -> None:
        """Add an invoice that percent-off covers, with what percent-off takes from it."""
        self.bill += invoice.discountable
        self.discount += discount


def has_uses_left_before(redemption: Redemption, boundary: datetime) -> bool:
    """R10: whether some use is left after the invoices issued before an instant."""
    if redemption.uses is None:
        return True
    return redemption.uses > sum(invoice.issued_at < boundary for invoice in redemption.used_on)


@dataclass
class PromotionMonths:
    """R10: the months of one promotion in one currency."""

    links: list[Redemption]
    months: dict[date, Month] = field(default_factory=lambda: defaultdict(Month))

    def is_in_force_at_end_of(self, month: date, calendar: ReportingCalendar) -> bool:
        """R10: whether some honoured percent-off link is, with uses left."""
        boundary = calendar.end_of_month(month)
        return any(
            is_in_force_at_end_of(link, boundary) and has_uses_left_before(link, boundary)
            for link in self.links
        )

    def effects(self, month: date, calendar: ReportingCalendar) -> dict[str, int]:
        """R10: what the change from the month before is due to: bill, rate, start or end."""
        this, before = self.months.get(month), self.months.get(month_before(month))
        effects = {"bill": 0, "rate": 0, "start": 0, "end": 0}
        if this is not None and before is not None:
            delta = this.discount - before.discount
            effects["bill"] = delta
            if before.bill != 0:
                change = before.discount * (this.bill - before.bill)
                effects["bill"] = round_half_away(change, before.bill)
            effects["rate"] = delta - effects["bill"]
        elif this is not None:
            has_begun = any(earlier < month for earlier in self.months)
            no_bill_came = has_begun and self.is_in_force_at_end_of(month_before(month), calendar)
            effects["bill" if no_bill_came else "start"] = this.discount
        elif before is not None:
            no_bill_came = self.is_in_force_at_end_of(month, calendar)
            effects["bill" if no_bill_came else "end"] = -before.discount
        return effects


def variance_rows(state: State, as_of: date, calendar: ReportingCalendar) -> list[Row]:
    """R10: every workspace and currency, month by month from the first covered one."""
    promotions = {
        redemption.redemption_id: promotion_of(redemption) for redemption in state.honoured
    }
    links: dict[str, list[Redemption]] = defaultdict(list)
    for redemption in state.honoured:
        if redemption.known_coupon.discount_type == "percent_off":
            links[promotions[redemption.redemption_id]].append(redemption)
    totals: dict[tuple[str, str], dict[date, Month]] = defaultdict(lambda: defaultdict(Month))
    parts: dict[tuple[str, str], dict[str, PromotionMonths]] = defaultdict(dict)
    for invoice in state.invoices:
        if not invoice.percent_off_by:
            continue
        key, month = (invoice.workspace_id, invoice.currency), calendar.month_of(invoice.issued_at)
        totals[key][month].add(invoice, sum(invoice.percent_off_by.values()))
        taken: dict[str, int] = defaultdict(int)
        for redemption_id, amount in invoice.percent_off_by.items():
            taken[promotions[redemption_id]] += amount
        for promotion_id, amount in taken.items():
            part = parts[key].setdefault(promotion_id, PromotionMonths(links[promotion_id]))
            part.months[month].add(invoice, amount)

    rows: list[Row] = []
    for (workspace_id, currency), months in totals.items():
        month = min(months)
        last_month = min(month_after(max(months)), month_of(as_of))
        while month <= last_month:
            this = months.get(month) or Month()
            before = months.get(month_before(month)) or Month()
            effects = {"bill": 0, "rate": 0, "start": 0, "end": 0}
            for part in parts[workspace_id, currency].values():
                for effect, amount in part.effects(month, calendar).items():
                    effects[effect] += amount
            amounts = {
                "bill_amount": this.bill,
                "percent_off_amount": this.discount,
                "previous_bill_amount": before.bill,
                "previous_percent_off_amount": before.discount,
                "delta_amount": this.discount - before.discount,
                **{f"{effect}_effect_amount": amount for effect, amount in effects.items()},
            }
            rows.append(
                {
                    "workspace_id": workspace_id,
                    "currency": currency,
                    "variance_month": month,
                    "is_covered": month in months,
                    "effective_percent": effective_percent(this.discount, this.bill),
                    **{name: to_major(amount, currency) for name, amount in amounts.items()},
                }
            )
            month = month_after(month)
    return rows


# -------------------------------------------------------------------------- programs and all charges


@dataclass
class Performance:
    """What one program did in one currency and month; amounts in minor units."""

    invoices: dict[str, Invoice] = field(default_factory=dict)
    new: int = 0
    ended: int = 0
    discount: int = 0
    credit: int = 0


def performance_rows(
    honoured: Sequence[Redemption], now: datetime, calendar: ReportingCalendar
) -> list[Row]:
    """Marts: fct_program_performance_monthly, from applications, draws and new redemptions."""
    cells: dict[tuple[str, str | None, date], Performance] = defaultdict(Performance)
    for redemption in honoured:
        program = redemption.known_coupon.program
        currency = currency_of(redemption)
        cells[program, currency, calendar.month_of(redemption.redeemed_at)].new += 1
        for gift in redemption.gifts:
            invoice = gift.invoice
            cell = cells[program, invoice.currency, calendar.month_of(invoice.issued_at)]
            cell.invoices[invoice.invoice_id] = invoice
            cell.discount += gift.discount
            cell.credit += gift.credit
    for redemption in honoured:
        if redemption.end is None or redemption.end >= now or not was_ever_in_force(redemption):
            continue
        key = (
            redemption.known_coupon.program,
            currency_of(redemption),
            calendar.month_of(redemption.end),
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


def bridge_rows(invoices: Iterable[Invoice], calendar: ReportingCalendar) -> list[Row]:
    """Marts: fct_charge_bridge_monthly, from list to what was billed after credit notes."""
    cells: dict[tuple[str, date, str], list[Invoice]] = defaultdict(list)
    for invoice in invoices:
        cells[invoice.currency, calendar.month_of(invoice.issued_at), invoice.plan].append(invoice)
    rows: list[Row] = []
    for (currency, month, plan), of_cell in cells.items():
        net = sum(invoice.net for invoice in of_cell)
        billed_net = sum(invoice.billed_net for invoice in of_cell)
        credited = sum(invoice.credited for invoice in of_cell)
        amounts = {
            "list_amount": sum(invoice.list_minor for invoice in of_cell),
            "percent_off_amount": sum(invoice.percent_off_given for invoice in of_cell),
            "amount_off_amount": sum(invoice.amount_off_given for invoice in of_cell),
            "credit_amount": sum(invoice.credit_given for invoice in of_cell),
            "net_amount": net,
            "billing_error_amount": billed_net - net,
            "billed_net_amount": billed_net,
            "credited_amount": credited,
            "billed_net_after_notes_amount": billed_net - credited,
        }
        rows.append(
            {
                "currency": currency,
                "bridge_month": month,
                "plan": plan,
                "invoices": len(of_cell),
                **{name: to_major(amount, currency) for name, amount in amounts.items()},
            }
        )
    return rows


# --------------------------------------------------------------------------- what lies ahead (R12)


def outlook_rows(
    outlook: Outlook, concerned: Iterable[str], calendar: ReportingCalendar
) -> list[Row]:
    """R12: fct_bill_outlook_monthly, the expected bills of the workspaces concerned."""
    cells: dict[tuple[str, str, date], list[Invoice]] = defaultdict(list)
    for workspace_id in concerned:
        for bill in outlook.expected_of(workspace_id):
            cells[workspace_id, bill.currency, calendar.month_of(bill.issued_at)].append(bill)
    rows: list[Row] = []
    for (workspace_id, currency, month), bills in cells.items():
        amounts = {
            "list_amount": sum(bill.list_minor for bill in bills),
            "percent_off_amount": sum(bill.percent_off_given for bill in bills),
            "amount_off_amount": sum(bill.amount_off_given for bill in bills),
            "discount_amount": sum(bill.discount_given for bill in bills),
            "credit_amount": sum(bill.credit_given for bill in bills),
            "net_amount": sum(bill.net for bill in bills),
        }
        rows.append(
            {
                "workspace_id": workspace_id,
                "currency": currency,
                "outlook_month": month,
                "expected_bills": len(bills),
                **{name: to_major(amount, currency) for name, amount in amounts.items()},
            }
        )
    return rows


def expiration_row(
    redemption: Redemption, outlook: Outlook, as_of: date, calendar: ReportingCalendar
) -> Row | None:
    """R12: one row of fct_upcoming_expirations, or None when it does not run out within 12 months.

    Args:
        redemption: As it is at the end of the as-of day.
        outlook: The outlook.
        as_of: The as-of day.
        calendar: The calendar of the months.
    """
    listed_until = add_months(outlook.now, MONTHS_LISTED)
    if status_of(redemption, outlook.now) != "active":
        return None
    foreseen = outlook.state.by_id[redemption.redemption_id]
    end = runs_out(foreseen)
    if end is None or (listed_until is not None and end[0] >= listed_until):
        return None
    runs_out_at, runs_out_by = end
    given_by_month: dict[date, int] = defaultdict(int)
    for gift in redemption.gifts:
        month = calendar.month_of(gift.invoice.issued_at)
        given_by_month[month] += gift.discount + gift.credit
    rate = run_rate(given_by_month, redemption.start, as_of, calendar)
    currency = currency_of(foreseen)
    benefit, rise = rise_after(foreseen, outlook)
    monthly_rise = None if benefit is None or rise is None else per_month(rise, benefit)
    return {
        "redemption_id": redemption.redemption_id,
        "workspace_id": redemption.workspace_id,
        "coupon_id": redemption.coupon_id,
        "program": redemption.known_coupon.program,
        "currency": currency,
        "ends_at": redemption.end,
        "ends_month": calendar.month_of(runs_out_at),
        "run_rate_amount": (
            None if rate is None or not is_in_one_currency(foreseen) else to_major(rate, currency)
        ),
        "follow_up_coupon_id": redemption.known_coupon.follow_up_coupon_id,
        "is_followed_up": foreseen in outlook.followed_up,
        "runs_out_at": runs_out_at,
        "runs_out_by": runs_out_by,
        "last_benefit_invoice_id": None if benefit is None else benefit.invoice_id,
        "last_benefit_at": None if benefit is None else benefit.issued_at,
        "rise_amount": None if rise is None else to_major(rise, currency),
        "monthly_rise_amount": None if monthly_rise is None else to_major(monthly_rise, currency),
    }


def budget_rows(
    records: Iterable[Record], state: State, outlook: Outlook, calendar: ReportingCalendar
) -> list[Row]:
    """Marts: fct_program_budget_monthly, the budgets beside what was given and is expected to be."""
    budgets: dict[tuple[str, str, date], int] = {}
    for record in records:
        currency = required(record, "currency", str)
        key = (required(record, "program", str), currency, required(record, "month", date))
        budgets[key] = to_minor(required(record, "amount", Decimal), currency)
    given: dict[tuple[str, str, date], int] = defaultdict(int)
    expected: dict[tuple[str, str, date], int] = defaultdict(int)
    for source, cells in ((state, given), (outlook.state, expected)):
        for redemption in source.honoured:
            for gift in redemption.gifts:
                if cells is expected and not gift.invoice.is_expected:
                    continue
                month = calendar.month_of(gift.invoice.issued_at)
                key = (redemption.known_coupon.program, gift.invoice.currency, month)
                cells[key] += gift.discount + gift.credit
    rows: list[Row] = []
    for key in {**budgets, **given, **expected}:
        program, currency, month = key
        budget = budgets.get(key)
        left = None if budget is None else budget - given.get(key, 0) - expected.get(key, 0)
        rows.append(
            {
                "program": program,
                "currency": currency,
                "budget_month": month,
                "budget_amount": None if budget is None else to_major(budget, currency),
                "given_amount": to_major(given.get(key, 0), currency),
                "expected_amount": to_major(expected.get(key, 0), currency),
                "difference_amount": None if left is None else to_major(left, currency),
            }
        )
    return rows


# --------------------------------------------------------------------------- redemptions and coupons


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
    """R2 to R4, R11: one row of dim_coupon_redemptions."""
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
                and invoice.list_minor > 0
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
        "subscription_id": redemption.subscription_id,
        "promotion_id": promotion_of(redemption),
        "uses_left": redemption.uses_left if redemption.is_honoured else None,
        **redemption.provenance,
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
        "credit_note_id": None,
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
        "credit_note_id": None,
        "description": sentence,
    }


def redemption_findings(recorded: Iterable[Redemption]) -> list[Row]:
    """R2, R4: refused recorded redemptions, and follow-ups that did not start at once."""
    rows: list[Row] = []
    for redemption in recorded:
        if redemption.refusal_reason is not None:
            sentence = f"Redemption {redemption.redemption_id} is refused."
            rows.append(redemption_finding(redemption, redemption.refusal_reason, sentence))
        ends = [followed.end for followed in redemption.follows]
        if ends and redemption.start not in ends:
            sentence = (
                f"Redemption {redemption.redemption_id} does not start when the one before it ends."
            )
            rows.append(redemption_finding(redemption, "follow_up_not_immediate", sentence))
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
    expected_total = invoice.billed_net + invoice.tax
    if invoice.total != expected_total:
        sentence = f"Invoice {invoice.invoice_id} does not add up."
        at_stake = abs(invoice.total - expected_total)
        rows.append(invoice_finding(invoice, "invoice_does_not_add_up", at_stake, sentence))
    excess = invoice.credited - invoice.billed_net
    if invoice.counted_notes and excess > 1:
        sentence = f"Invoice {invoice.invoice_id} was credited more than it was billed."
        row = invoice_finding(invoice, "credited_beyond_bill", excess, sentence)
        row["occurred_at"] = max(note.issued_at for note in invoice.counted_notes)
        rows.append(row)
    return rows


def credit_note_findings(notes: Iterable[CreditNote]) -> list[Row]:
    """R13: credit notes of no counted invoice of their currency."""
    return [
        {
            "finding_id": f"credit_note_without_invoice:{note.credit_note_id}",
            "finding_type": "credit_note_without_invoice",
            "severity": "error",
            "workspace_id": note.workspace_id,
            "redemption_id": None,
            "invoice_id": note.invoice_id,
            "coupon_id": None,
            "occurred_at": note.issued_at,
            "currency": note.currency,
            "amount_at_stake": to_major(note.amount, note.currency),
            "credit_note_id": note.credit_note_id,
            "description": f"Credit note {note.credit_note_id} has no counted invoice.",
        }
        for note in notes
        if not note.is_counted
    ]


def terms_findings(versions: Mapping[str, Sequence[Coupon]], redeemed: set[str]) -> list[Row]:
    """Findings: versions of redeemed coupons that give something else than the version before.

    Args:
        versions: Per coupon its versions in the order of `updated_at` and arrival.
        redeemed: The coupons that have a redemption on record.
    """
    rows: list[Row] = []
    for coupon_id, of_coupon in versions.items():
        if coupon_id not in redeemed:
            continue
        for number in range(1, len(of_coupon)):
            before, version = of_coupon[number - 1], of_coupon[number]
            if version.terms() == before.terms():
                continue
            rows.append(
                {
                    "finding_id": f"coupon_terms_changed:{coupon_id}:{number + 1}",
                    "finding_type": "coupon_terms_changed",
                    "severity": "warn",
                    "workspace_id": None,
                    "redemption_id": None,
                    "invoice_id": None,
                    "coupon_id": coupon_id,
                    "occurred_at": version.updated_at,
                    "currency": version.currency,
                    "amount_at_stake": None,
                    "credit_note_id": None,
                    "description": f"The terms of coupon {coupon_id} were changed.",
                }
            )
    return rows


# --------------------------------------------------------------------------------- putting it all


def publish(
    records: Records,
    as_of: date,
    time_zone: str = "UTC",
    changed: tuple[date, Records] | None = None,
) -> dict[str, list[Row]]:
    """R0 to R13: the rows of every mart, from the records and the as-of date alone.

    Args:
        records: Per feed the current valid records, values typed as the feed says, None or
            missing where empty: instants naive UTC, amounts in major units. Every delivered version of
            a coupon may be given, in the order of arrival. Records that have a `delivery_id` and a
            `delivery_row` are published with them.
        as_of: The day at whose end the state is published.
        time_zone: The reporting time zone, an IANA name.
        changed: What-if: a day, and coupons with the terms that hold for bills issued from then on.

    Returns:
        Per mart its rows with every column of the contract. Amounts have two places.
    """
    calendar = ReportingCalendar(ZoneInfo(time_zone))
    now = calendar.end_of(as_of)
    versions = read_coupon_versions(records.get("coupons", ()))
    coupons = {coupon_id: of_coupon[-1] for coupon_id, of_coupon in versions.items()}
    counted = count_invoices(records.get("invoices", ()), now)
    workspace_of_invoice = {
        required(record, "invoice_id", str): required(record, "workspace_id", str)
        for record in records.get("invoices", ())
    }
    notes = read_credit_notes(records.get("credit_notes", ()), counted, workspace_of_invoice, now)
    later = None
    if changed is not None:
        terms = [read_coupon(record) for record in changed[1].get("coupons", ())]
        first = calendar.first_instant(changed[0])
        later = LaterTerms({coupon.coupon_id: coupon for coupon in terms}, first)
    state = calculate(records, coupons, now, now, counted, later)
    outlook = look_ahead(records, coupons, now, later)
    coupons = coupons if later is None else {**coupons, **later.coupons}

    marts: dict[str, list[Row]] = {name: [] for name in MART_NAMES}
    marts["fct_discount_applications"] = state.applications
    marts["fct_credit_draws"] = [draw_row(draw) for draw in state.draws]
    marts["fct_credit_notes"] = [credit_note_row(note, calendar) for note in notes]
    for invoice in counted:
        marts["fct_discounted_charges"].append(charge_row(invoice, calendar))
        marts["fct_audit_findings"] += invoice_findings(
            invoice, state.of_workspace.get(invoice.workspace_id, ())
        )
    marts["fct_audit_findings"] += redemption_findings(state.recorded)
    marts["fct_audit_findings"] += credit_note_findings(notes)
    marts["fct_audit_findings"] += terms_findings(versions, {r.coupon_id for r in state.recorded})

    for redemption in state.honoured:
        foreseen = outlook.state.by_id[redemption.redemption_id]
        for grant, foreseen_grant in zip(redemption.grants, foreseen.grants, strict=False):
            marts["fct_credit_ledger"] += ledger_rows(grant)
            marts["fct_credit_burndown_monthly"] += burndown_rows(
                grant, foreseen_grant, outlook.horizon, as_of, calendar
            )
        expiration = expiration_row(redemption, outlook, as_of, calendar)
        if expiration is not None:
            marts["fct_upcoming_expirations"].append(expiration)
        retention = retention_row(
            redemption, state.invoices_of_workspace.get(redemption.workspace_id, ()), now
        )
        if retention is not None:
            marts["fct_promotion_retention"].append(retention)

    concerned = workspaces_concerned(state, outlook)
    marts["fct_bill_outlook_monthly"] = outlook_rows(outlook, concerned, calendar)
    marts["fct_percent_off_variance_monthly"] = variance_rows(state, as_of, calendar)
    marts["fct_program_performance_monthly"] = performance_rows(state.honoured, now, calendar)
    marts["fct_program_budget_monthly"] = budget_rows(
        records.get("budgets", ()), state, outlook, calendar
    )
    marts["fct_charge_bridge_monthly"] = bridge_rows(counted, calendar)
    marts["dim_coupon_redemptions"] = [
        redemption_row(
            redemption, state.invoices_of_workspace.get(redemption.workspace_id, ()), now
        )
        for redemption in state.by_id.values()
    ]
    marts["dim_coupons"] = [coupon_row(coupon) for coupon in coupons.values()]
    for record in records.get("workspaces", ()):
        workspace_id = required(record, "workspace_id", str)
        honoured = [r for r in state.of_workspace.get(workspace_id, ()) if r.is_honoured]
        marts["dim_workspaces"].append(
            workspace_row(record, state.invoices_of_workspace.get(workspace_id, ()), honoured, now)
        )
    return marts
