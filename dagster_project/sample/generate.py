"""Make a sample: invent, bill, plant errors, deliver, and write down the truth.

Here the other modules meet; the only public function is `generate_sample`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

from dagster_project.sample.billing import Account, Bill, Judgement, Redemption, judge
from dagster_project.sample.deliver import (
    COLUMNS,
    EXPORTED,
    Delivery,
    Format,
    RejectedRow,
    Row,
    reordered,
    with_offset,
    write,
)
from dagster_project.sample.mistakes import Charge, Mischief
from dagster_project.sample.moments import (
    DAY,
    add_months,
    day_date,
    day_number,
    day_text,
    instant,
    instant_text,
    month_of,
    month_start,
    optional_instant_text,
)
from dagster_project.sample.plans import Desk
from dagster_project.sample.plans import workspaces as invent_workspaces
from dagster_project.sample.prices import EXPONENTS, PRICES, money_text, rounded_share
from dagster_project.sample.programs import Catalogue, Coupon, catalogue
from dagster_project.sample.schedule import Workspace, bills
from dagster_project.sample.showcase import MONTHS as SHOWCASE_MONTHS
from dagster_project.sample.showcase import Showcase

# Above this many workspace-months the files are few and large, and all of them CSV.
_SMALL: Final = 20_000

_FORMATS: Final[tuple[Format, ...]] = ("csv", "csv.gz", "jsonl", "csv", "parquet")
_OFFSET_HOURS: Final = 2


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What a sample consists of.

    Attributes:
        out: Folder it was written to.
        last_day: Its last day, the as-of date of its truth.
        workspaces: Workspaces in it.
        coupons: Coupons in it.
        redemptions: Redemptions on record, refused ones too.
        invoices: Invoices, each counted once however often it was delivered.
        credit_notes: Credit notes, void ones too.
        budgets: Budgets of a program, currency and month.
        counted_invoices: Those neither draft nor void (R1).
        planted_errors: Invoices billed wrongly.
        refused_redemptions: Redemptions that the rules refuse.
        late_follow_ups: Follow-ups on record that do not start at once.
        rejected_rows: Delivered rows that cannot be read.
        files: Files in the landing folder.
        rows: Records in them, bad ones too.
    """

    out: Path
    last_day: date
    workspaces: int
    coupons: int
    redemptions: int
    invoices: int
    credit_notes: int
    budgets: int
    counted_invoices: int
    planted_errors: int
    refused_redemptions: int
    late_follow_ups: int
    rejected_rows: int
    files: int
    rows: int


@dataclass(slots=True)
class _Books:
    """Everything billed so far, as CSV lines with the instant they are sorted by.

    Attributes:
        extracts: (issued_at, line) of each invoice as first delivered, by bucket.
        corrections: (updated_at, line, reason) of those delivered again.
        invoices: Invoices billed.
    """

    extracts: list[list[tuple[int, str]]]
    corrections: list[tuple[int, str, str]]
    invoices: int = 0


def generate_sample(
    workspaces: int,
    months: int,
    seed: int,
    out: Path,
    start: date = date(2023, 7, 1),
    *,
    plain: bool = False,
) -> SampleSummary:
    """Write a sample: `landing/<feed>/…` and `truth.json`.

    The same arguments give the same bytes and modification times.

    Args:
        workspaces: How many workspaces, at least 1; the workspaces of the showcase are additional.
        months: How many calendar months, at least 1; from 18 on the sample has the showcase.
        seed: Any whole number; another seed gives another sample.
        out: Folder to write to.
        start: First day; the sample's months are counted from its month.
        plain: Whether all files are CSV, few, and without unreadable rows, and the showcase is left
            out.

    Returns:
        What was written.

    Raises:
        ValueError: If `workspaces` or `months` is below 1.
        FileExistsError: If `out` holds another sample.
    """
    if workspaces < 1 or months < 1:
        raise ValueError(
            f"a sample needs at least 1 workspace and 1 month, not {workspaces} and {months}"
        )
    first_day = day_number(start)
    end_day = month_start(month_of(first_day) + months)
    begin, end = first_day * DAY, end_day * DAY
    coupons = catalogue(begin, end, workspaces)
    desk = Desk(begin, end, {coupon.coupon_id: coupon for coupon in coupons.final})
    people = invent_workspaces(workspaces, desk, seed)
    judgement = judge(
        desk.redemptions,
        desk.coupons,
        frozenset(person.workspace_id for person in people),
        end,
    )

    is_small = workspaces * months <= _SMALL and not plain
    step = 6 if is_small else 12
    mischief = Mischief(Random(f"mischief {seed}"))
    books = _Books([[] for _ in range(_bucket(end_day - 1, first_day, step) + 1)], [])
    for person in people:
        _bill_workspace(person, judgement, desk, mischief, books, seed, step)

    deliveries = [
        *_workspace_deliveries(people, begin, end, is_small),
        *_coupon_deliveries(coupons, begin),
        *_redemption_deliveries(desk, begin, end, seed, is_small),
        *_invoice_deliveries(books, first_day, end_day, step, is_small),
    ]
    shown = Showcase(end, len(people), len(desk.redemptions))
    if is_small and months >= SHOWCASE_MONTHS:
        shown.fill()
        deliveries += _showcase_deliveries(shown)
    if plain:
        for delivery in deliveries:
            delivery.bad_rows = ()
    rejected = write(Path(out) / "landing", deliveries)
    summary = SampleSummary(
        out=Path(out),
        last_day=day_date(end_day - 1),
        workspaces=len(people) + len(shown.workspaces),
        coupons=len(coupons.final) + len(shown.coupons),
        redemptions=len(desk.redemptions) + len(shown.redemptions),
        invoices=books.invoices + len(shown.invoices),
        credit_notes=len(shown.credit_notes),
        budgets=len(shown.budgets),
        counted_invoices=mischief.counted + shown.counted_invoices,
        planted_errors=len(mischief.planted),
        refused_redemptions=sum(one.refusal is not None for one in desk.redemptions)
        + len(shown.refused),
        late_follow_ups=len(judgement.late_follow_ups),
        rejected_rows=len(rejected),
        files=len(deliveries),
        rows=sum(len(delivery.lines) or len(delivery.rows) for delivery in deliveries),
    )
    truth = _truth(
        summary,
        seed,
        months,
        start,
        people,
        desk,
        coupons,
        judgement,
        mischief,
        shown,
        rejected,
    )
    (Path(out) / "truth.json").write_text(truth, "utf-8")
    return summary


# --- Billing -----------------------------------------------------------------------------------


def _bucket(number: int, first_day: int, step: int) -> int:
    """Return the extract a day belongs to: calendar half-years or years, counted from the first."""
    return month_of(number) // step - month_of(first_day) // step


def _with_statuses(
    workspace: Workspace, planned: Iterator[Bill], last_day: int, rng: Random
) -> list[Bill]:
    """Decide how each invoice ends: paid, open, written off, void, void and issued again, draft."""
    result: list[Bill] = []
    last = last_day * DAY
    for position, bill in enumerate(planned):
        chance = rng.random()
        age = last - bill.issued_at
        if position == workspace.void_bill:
            chance = 0.0
        if position == workspace.restated_bill:
            bill.correction = "coupon_forgotten"
        if age < 3 * DAY and chance > 0.5:
            bill.status = "draft"
        elif age < 12 * DAY and chance > 0.25:
            bill.status = "open"
        elif chance < 0.012:
            bill.status = "void"
            if age > 70 * DAY and chance > 0.004:
                bill.correction = "voided"
            result.append(bill)
            if chance < 0.006 and age > 6 * DAY:
                days = 1 + int(rng.random() * 4)
                again = replace(
                    bill,
                    invoice_id=bill.invoice_id + "r",
                    issued_at=bill.issued_at + days * DAY,
                    status="paid",
                    correction=None,
                )
                result.append(again)
            continue
        elif chance < 0.018:
            bill.status = "uncollectible"
        elif chance < 0.019:
            bill.status = "draft"
        else:
            bill.status = "paid"
            if bill.correction is None and age > 70 * DAY and chance < 0.031:
                if chance < 0.022:
                    bill.correction = "finalised"
                elif chance < 0.027:
                    bill.correction = "coupon_forgotten"
                elif bill.mtus is not None and bill.plan == "team":
                    bill.correction = "usage"
        result.append(bill)
    result.sort(key=lambda one: (one.issued_at, one.invoice_id))
    return result


def _bill_workspace(
    workspace: Workspace,
    judgement: Judgement,
    desk: Desk,
    mischief: Mischief,
    books: _Books,
    seed: int,
    step: int,
) -> None:
    """Bill a workspace invoice by invoice and enter what was billed into the books."""
    rng = Random(seed * 1_000_003 + workspace.number)
    first_day, last_day = desk.start // DAY, desk.end // DAY - 1
    account = Account(judgement.by_workspace.get(workspace.workspace_id, []), desk.coupons)
    planned = bills(workspace, first_day, last_day, rng)
    for bill in _with_statuses(workspace, planned, last_day, rng):
        discount = account.discount(bill)
        if bill.is_counted:
            may_err = not workspace.is_shown and bill.correction is None
            charge = mischief.charge(
                workspace.workspace_id, account, bill, discount, may_err=may_err
            )
            account.draw(bill, charge.credit)
        else:
            charge = Charge(
                discount, min(bill.list_amount - discount, account.credit_available(bill))
            )
        books.invoices += 1
        updated_at = bill.issued_at + 60 + int(rng.random() * 2 * DAY)
        bucket = books.extracts[_bucket(bill.issued_at // DAY, first_day, step)]
        if bill.correction is None:
            bucket.append((bill.issued_at, _line(workspace, bill, charge, updated_at)))
            continue
        corrected_at = updated_at + (20 + int(rng.random() * 40)) * DAY
        first, first_charge, reason = _before_correction(bill, charge)
        bucket.append((bill.issued_at, _line(workspace, first, first_charge, updated_at)))
        books.corrections.append(
            (corrected_at, _line(workspace, bill, charge, corrected_at), reason)
        )


def _before_correction(bill: Bill, charge: Charge) -> tuple[Bill, Charge, str]:
    """Return an invoice as it was first delivered, and why it was restated."""
    if bill.correction == "voided":
        return replace(bill, status="open"), charge, "voided after it was sent"
    if bill.correction == "finalised":
        return replace(bill, status="draft"), charge, "draft finalised"
    if bill.correction == "coupon_forgotten" and charge.discount:
        credit = charge.credit
        return replace(bill, status="open"), Charge(0, credit), "coupon had been left out"
    if bill.correction == "usage" and bill.mtus is not None:
        prices = PRICES[bill.plan, bill.currency]
        mtus = bill.mtus + bill.mtus // 9 + 1
        list_amount = bill.list_amount - prices.overage(bill.mtus) + prices.overage(mtus)
        first = replace(bill, status="open", mtus=mtus, list_amount=list_amount)
        return first, charge, "tracked users counted twice"
    return replace(bill, status="open"), charge, "payment recorded late"


def _line(workspace: Workspace, bill: Bill, charge: Charge, updated_at: int) -> str:
    """Return an invoice as a CSV line; no value in it ever needs quotes."""
    exponent = EXPONENTS[bill.currency]
    net = bill.list_amount - charge.discount - charge.credit
    tax = rounded_share(net, workspace.tax_rate, 100_000)
    return (
        f"{bill.invoice_id},{workspace.workspace_id},{bill.status},{bill.plan},"
        f"{bill.billing_interval},{bill.currency},{day_text(bill.period_start)},"
        f"{day_text(bill.period_end)},{instant_text(bill.issued_at)},"
        f"{money_text(bill.list_amount, exponent)},{money_text(charge.discount, exponent)},"
        f"{money_text(charge.credit, exponent)},{money_text(tax, exponent)},"
        f"{money_text(net + tax + charge.slip, exponent)},"
        f"{'' if bill.mtus is None else bill.mtus},{instant_text(updated_at)}"
    )


# --- Deliveries --------------------------------------------------------------------------------


def _workspace_deliveries(
    people: list[Workspace], begin: int, end: int, is_small: bool
) -> list[Delivery]:
    """Return the workspaces known at the start, the new ones since, and a few renamed ones."""

    def row(person: Workspace, name: str, updated_at: int) -> Row:
        return (
            person.workspace_id,
            name,
            person.owner_user_id,
            instant_text(person.created_at),
            instant_text(updated_at),
        )

    middle = begin + (end - begin) // 2
    renamed = [person for person in people if person.number % 37 == 0]
    groups: list[tuple[str, Format, int, list[Row]]] = [
        ("workspaces-known-at-start", "csv", begin, []),
        ("workspaces-first-half", "jsonl" if is_small else "csv", middle, []),
        ("workspaces-second-half", "csv", end, []),
    ]
    for person in people:
        group = sum(person.created_at >= limit for limit in (begin, middle))
        groups[group][3].append(row(person, person.workspace_name, person.created_at))
    groups[2][3].extend(row(one, f"{one.workspace_name} (renamed)", end - DAY) for one in renamed)
    bad = (
        (
            ("ws_bad_00001", "Nobody Knows When", "usr_bad_00001", "", instant_text(begin)),
            "created_at is missing",
        ),
    )
    deliveries = [
        Delivery("workspaces", name, kind, modified_at + 3 * DAY, rows=rows)
        for name, kind, modified_at, rows in groups
        if rows
    ]
    if deliveries[0].format == "csv":
        deliveries[0].bad_rows = bad
    deliveries[-1].has_byte_order_mark = deliveries[-1].format == "csv"
    return deliveries


def _exported(feed: str, rows: Iterable[Row]) -> list[Row]:
    """Return the rows with only the columns the supplier's exports have."""
    return reordered(rows, COLUMNS[feed], EXPORTED[feed])


def _coupon_row(coupon: Coupon) -> Row:
    exponent = EXPONENTS.get(coupon.currency or "USD", 2)

    def number(value: int | None) -> str:
        return "" if value is None else str(value)

    def amount(value: int | None) -> str:
        return "" if value is None else money_text(value, exponent)

    percent = ""
    if coupon.percent_off is not None:
        percent = f"{coupon.percent_off // 10_000}.{coupon.percent_off % 10_000:04d}"
        percent = percent.rstrip("0").rstrip(".") if "." in percent else percent
    return (
        coupon.coupon_id,
        coupon.coupon_name,
        coupon.program,
        coupon.discount_type,
        percent,
        amount(coupon.amount_off),
        coupon.amount_off_per or "",
        amount(coupon.credit_amount),
        number(coupon.credit_period_months),
        number(coupon.credit_max_periods),
        number(coupon.credit_priority),
        coupon.currency or "",
        coupon.applies_to_plan or "",
        coupon.applies_to_interval or "",
        coupon.duration,
        number(coupon.duration_months),
        number(coupon.duration_invoices),
        optional_instant_text(coupon.redeem_by),
        number(coupon.max_redemptions),
        "true" if coupon.requires_no_prior_coupon else "",
        coupon.once_per or "",
        coupon.follow_up_coupon_id or "",
        instant_text(coupon.updated_at),
    )


def _coupon_deliveries(coupons: Catalogue, begin: int) -> list[Delivery]:
    """Return a full snapshot, then a changed one with its columns in another order."""
    columns = EXPORTED["coupons"]
    other = (*columns[:2], columns[-1], *columns[2:-1])
    changed = _exported("coupons", map(_coupon_row, coupons.final))
    return [
        Delivery(
            "coupons",
            f"coupons-{day_text(begin // DAY)}",
            "csv",
            begin + DAY,
            rows=_exported("coupons", map(_coupon_row, coupons.first)),
        ),
        Delivery(
            "coupons",
            f"coupons-{day_text(coupons.changed_at // DAY + 1)}",
            "csv",
            coupons.changed_at + DAY,
            rows=reordered(changed, columns, other),
            columns=other,
        ),
    ]


def _redemption_row(redemption: Redemption, updated_at: int) -> Row:
    order = redemption.application_order
    return (
        redemption.redemption_id,
        redemption.coupon_id,
        redemption.workspace_id,
        redemption.user_id,
        redemption.subscription_id,
        instant_text(redemption.redeemed_at),
        optional_instant_text(redemption.starts_at),
        optional_instant_text(redemption.ends_at),
        optional_instant_text(redemption.revoked_at),
        optional_instant_text(redemption.eligible_until),
        redemption.channel,
        "" if order is None else str(order),
        instant_text(updated_at),
    )


def _redemption_deliveries(
    desk: Desk, begin: int, end: int, seed: int, is_small: bool
) -> list[Delivery]:
    """Return redemptions by calendar year, and once more those that were revoked or lost eligibility."""
    rng = Random(f"redemptions {seed}")
    years: dict[str, list[Row]] = {}
    changes: list[tuple[int, Row]] = []
    for one in sorted(desk.redemptions, key=lambda item: (item.redeemed_at, item.redemption_id)):
        updated_at = one.redeemed_at + rng.randrange(1, 300)
        first = one
        ended_at = one.revoked_at if one.revoked_at is not None else one.eligible_until
        if ended_at is not None and ended_at < end and ended_at > updated_at + DAY:
            first = replace(one, revoked_at=None, eligible_until=None)
            changed_at = ended_at + rng.randrange(60, 7200)
            changes.append((changed_at, _redemption_row(one, changed_at)))
        year = instant_text(one.redeemed_at)[:4]
        years.setdefault(year, []).append(_redemption_row(first, updated_at))
    bad = (
        (
            ("rdm_bad_1", "ACCEL-20", "ws_00001", "", "2024-02-30T10:00:00Z", "", "", "", "",
             "support", "", instant_text(begin)),
            "redeemed_at is not a date",
        ),
        (
            ("rdm_bad_2~follow-up", "ACCEL-20", "ws_00001", "", instant_text(begin), "", "", "", "",
             "support", "", instant_text(begin)),
            "redemption_id may not end in ~follow-up",
        ),
    )  # fmt: skip
    deliveries = []
    for position, (year, rows) in enumerate(years.items()):
        closes = min(end, add_months(instant(date(int(year), 1, 1)), 12))
        kind: Format = "jsonl.gz" if is_small and position == 1 else "csv"
        deliveries.append(
            Delivery(
                "redemptions",
                f"redemptions-{year}",
                kind,
                closes + 3 * DAY,
                rows=_exported("redemptions", rows),
            )
        )
    if deliveries:
        deliveries[0].bad_rows = bad
    if changes:
        rows = _exported("redemptions", (row for _, row in sorted(changes)))
        deliveries.append(
            Delivery("redemptions", "redemptions-ended", "csv", end + 4 * DAY, rows=rows)
        )
    return deliveries


def _bad_invoices(begin: str) -> list[tuple[Row, str]]:
    def row(number: int, **changes: str) -> Row:
        values = {
            "invoice_id": f"in_bad_{number}",
            "workspace_id": "ws_00001",
            "status": "paid",
            "plan": "team",
            "billing_interval": "month",
            "currency": "USD",
            "period_start": "2023-07-01",
            "period_end": "2023-08-01",
            "issued_at": begin,
            "list_amount": "120.00",
            "discount_amount": "0.00",
            "credit_amount": "0.00",
            "tax_amount": "0.00",
            "total_amount": "120.00",
            "mtus": "",
            "updated_at": begin,
        }
        return tuple((values | changes).values())

    return [
        (row(1, list_amount="1e3"), "list_amount has an exponent"),
        (row(2, currency="KWD", list_amount="120.000"), "currency KWD is not supported"),
        (row(3, workspace_id=""), "workspace_id is missing"),
        (row(4, total_amount="1,120.00"), "total_amount has a thousands separator"),
        (row(5)[:-2], "number of fields"),
    ]


def _invoice_deliveries(
    books: _Books, first_day: int, end_day: int, step: int, is_small: bool
) -> list[Delivery]:
    """Return extracts by half-year or year, one month delivered twice, and the restatements."""
    columns = EXPORTED["invoices"]
    bad = _bad_invoices(instant_text(first_day * DAY))
    deliveries = []
    first_bucket = month_of(first_day) // step
    for position, extract in enumerate(books.extracts):
        if not extract:
            continue
        extract.sort()
        lines = [line for _, line in extract]
        closes = min(end_day, month_start((first_bucket + position + 1) * step))
        last = day_text(closes - 1)
        label = f"{last[:4]}" if step == 12 else f"{last[:4]}h{1 if last[5:7] < '07' else 2}"
        delivery = Delivery("invoices", f"invoices-{label}", "csv", (closes + 3) * DAY)
        deliveries.append(delivery)
        if not is_small:
            delivery.lines = lines
            continue
        delivery.format = _FORMATS[position % len(_FORMATS)]
        delivery.rows = [tuple(line.split(",")) for line in lines]
        if position % len(_FORMATS) == 3:
            # Another office's extract: its own time zone, its own order of columns.
            other = (columns[0], columns[8], *columns[1:8], *columns[9:])
            rows = [with_offset(row, columns, _OFFSET_HOURS) for row in delivery.rows]
            delivery.rows = reordered(rows, columns, other)
            delivery.columns = other
        if delivery.format == "parquet":
            # A Parquet column has one number of decimals and yen have none, so yen have files of their own.
            currency = columns.index("currency")
            yen = [row for row in delivery.rows if row[currency] == "JPY"]
            delivery.rows = [row for row in delivery.rows if row[currency] != "JPY"]
            if not delivery.rows:
                delivery.format, delivery.rows = "csv", yen
            elif yen:
                name = f"{delivery.name}-yen"
                deliveries.append(Delivery("invoices", name, "csv", delivery.modified_at, rows=yen))
    if deliveries and deliveries[0].format == "csv":
        deliveries[0].bad_rows = bad[:3]

    # The last month of the first extract and the first month of the next, delivered once more.
    middle = month_start((first_bucket + 1) * step)
    low, high = month_start(month_of(middle) - 1) * DAY, month_start(month_of(middle) + 1) * DAY
    again = [
        entry[1] for extract in books.extracts[:2] for entry in extract if low <= entry[0] < high
    ]
    if again and high <= end_day * DAY:
        delivery = Delivery("invoices", f"invoices-again-{day_text(middle)}", "csv", high + 4 * DAY)
        delivery.bad_rows = bad[3:]
        if is_small:
            delivery.rows = [tuple(line.split(",")) for line in again]
        else:
            delivery.lines = again
        deliveries.append(delivery)

    if books.corrections:
        deliveries.append(
            Delivery(
                "invoices",
                "invoices-restated",
                "csv",
                (end_day + 4) * DAY,
                rows=[(*line.split(","), reason) for _, line, reason in sorted(books.corrections)],
                columns=(*columns, "restatement_reason"),
            )
        )
    return deliveries


def _showcase_deliveries(shown: Showcase) -> list[Delivery]:
    """Return the showcase in files of its own, with every column of the contract."""

    def delivery(
        feed: str, name: str, kind: Format, modified_at: int, rows: Iterable[Row]
    ) -> Delivery:
        return Delivery(feed, name, kind, modified_at, rows=list(rows), columns=COLUMNS[feed])

    def rows(feed: str, records: Iterable[dict[str, str]]) -> list[Row]:
        return [tuple(record[column] for column in COLUMNS[feed]) for record in records]

    after = shown.end + 3 * DAY
    redemptions = (_redemption_row(one, one.redeemed_at + 60) for one in shown.redemptions)
    return [
        delivery(
            "workspaces", "workspaces-showcase", "csv", after, rows("workspaces", shown.workspaces)
        ),
        delivery(
            "coupons",
            "coupons-showcase",
            "csv",
            shown.begin + DAY,
            map(_coupon_row, shown.coupons),
        ),
        *(
            delivery(
                "coupons",
                f"coupons-showcase-{day_text(one.updated_at // DAY)}",
                "csv",
                one.updated_at + DAY,
                [_coupon_row(one)],
            )
            for one in shown.edited
        ),
        delivery("redemptions", "redemptions-showcase", "csv", after, redemptions),
        delivery("invoices", "invoices-showcase", "csv", after, rows("invoices", shown.invoices)),
        delivery(
            "credit_notes", "credit-notes", "csv", after, rows("credit_notes", shown.credit_notes)
        ),
        delivery("budgets", "budgets", "csv", after, rows("budgets", shown.budgets)),
    ]


# --- Truth -------------------------------------------------------------------------------------


def _truth(
    summary: SampleSummary,
    seed: int,
    months: int,
    start: date,
    people: list[Workspace],
    desk: Desk,
    coupons: Catalogue,
    judgement: Judgement,
    mischief: Mischief,
    shown: Showcase,
    rejected: list[RejectedRow],
) -> str:
    """Return `truth.json`: each finding and rejected row that an audit as of the last day must show.

    `errors` and `refused_redemptions` together are all findings, `follow_up_not_immediate` being
    among the errors.
    """
    errors: list[dict[str, Any]] = [
        {
            "type": one.type,
            "record_id": one.record_id,
            "workspace_id": one.workspace_id,
            "currency": one.currency,
            "billed_minus_correct": money_text(one.amount, EXPONENTS[one.currency]),
        }
        for one in mischief.planted
    ]
    errors += [
        {
            "type": "follow_up_not_immediate",
            "record_id": one.redemption_id,
            "workspace_id": one.workspace_id,
        }
        for one in judgement.late_follow_ups
    ]
    redeemed = {one.coupon_id for one in desk.redemptions}
    errors += [
        {"type": "coupon_terms_changed", "record_id": coupon_id}
        for coupon_id in coupons.edited
        if coupon_id in redeemed
    ]
    errors += shown.errors
    content: dict[str, Any] = {
        "seed": seed,
        "start": start.isoformat(),
        "months": months,
        "last_day": summary.last_day.isoformat(),
        "counts": {
            "workspaces": summary.workspaces,
            "coupons": summary.coupons,
            "redemptions": summary.redemptions,
            "invoices": summary.invoices,
            "credit_notes": summary.credit_notes,
            "budgets": summary.budgets,
            "counted_invoices": summary.counted_invoices,
            "files": summary.files,
            "rows": summary.rows,
        },
        "errors": sorted(errors, key=lambda one: (one["type"], one["record_id"])),
        "refused_redemptions": [
            {
                "type": one.refusal,
                "record_id": one.redemption_id,
                "workspace_id": one.workspace_id,
            }
            for one in sorted(
                [*desk.redemptions, *shown.redemptions], key=lambda item: item.redemption_id
            )
            if one.refusal is not None
        ],
        "rejected_rows": [
            {
                "feed": one.feed,
                "file": one.file,
                "row_number": one.row_number,
                "reason_hint": one.reason_hint,
            }
            for one in rejected
        ],
        "scenarios": {person.scenario: person.workspace_id for person in people if person.is_shown}
        | shown.scenarios,
    }
    return _one_record_per_line(content)


def _one_record_per_line(content: dict[str, Any]) -> str:
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            records = ",\n".join("  " + json.dumps(record) for record in value)
            parts.append(f' "{key}": [\n{records}\n ]')
        else:
            parts.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
