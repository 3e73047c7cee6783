"""The pages about one record: all that `workspace` says about a workspace and `explain` about a bill.

The choice of blocks for these two answers belongs here; their sentences come from `answers/words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from dagster_project.answers import words
from dagster_project.answers.asking import Connection, Row, invoice, workspace
from dagster_project.answers.values import amount, clean, day, moment, money
from dagster_project.dashboard.blocks import (
    Block,
    Chosen,
    Column,
    Heading,
    Note,
    Table,
    Tile,
    Tiles,
)

ACCOUNT = Column("workspace_id", "Workspace", "account")
NAME = Column("workspace_name", "Name")
BILL = Column("invoice_id", "Bill", "bill")


def account(connection: Connection, chosen: Chosen) -> list[Block]:
    """Return everything about one workspace."""
    from dagster_project.answers.workspace import workspace as about_workspace

    if not chosen.id:
        return [Note("Enter the id of a workspace, or follow a link in a table.")]
    data = about_workspace(connection, workspace(connection, chosen.id))
    known = data["workspace"] or {}
    coupons = data["coupons"]
    statuses = Counter(one["status"] for one in coupons)
    return [
        Heading(
            f"{clean(data['workspace_id'])} {clean(known.get('workspace_name') or '')}".strip()
        ),
        *(
            [
                Note(
                    f"Created {day(known['created_at'])}, first bill {day(known['first_invoice_at'])},"
                    f" last bill {day(known['last_invoice_at'])}."
                )
            ]
            if known
            else [Note("This workspace was never delivered.", is_warning=True)]
        ),
        Tiles(
            (
                *(
                    Tile("Credit left", money(one["balance_amount"], one["currency"]))
                    for one in data["credit_left"]
                ),
                Tile(
                    "Coupons now",
                    f"{statuses['active']:,}",
                    f"and {statuses['exhausted']:,} used up" if statuses["exhausted"] else "",
                ),
                Tile("Open findings", f"{len(data['findings']):,}"),
            )
        ),
        *_to_come(data),
        Heading("Coupons"),
        Table(
            "coupons",
            (
                Column("standing", "When"),
                Column("coupon_id", "Coupon"),
                Column("coupon_name", "Name"),
                Column("offer", "Gives"),
                Column("status", "Status"),
                Column("redeemed_at", "Redeemed", "day"),
                Column("started_at", "Started", "day"),
                Column("ends_at", "Ends", "day"),
                Column("ended_by", "Ended by"),
                Column("uses_left", "Uses left", "count"),
                Column("next", "Next"),
                Column("refusal", "Why refused"),
                Column("redemption_id", "Redemption"),
            ),
            [{**one, "next": _next(one)} for one in coupons],
            None,
            "No coupon was ever redeemed.",
        ),
        *_changed_terms(coupons),
        *_given(coupons),
        *_grants_left(coupons),
        Heading("The last bills"),
        Table(
            "bills",
            (
                BILL,
                Column("issued_at", "Issued", "day"),
                Column("status", "Status"),
                Column("currency", "Currency"),
                Column("list_amount", "List", "amount"),
                Column("discount_amount", "Discount", "amount"),
                Column("credit_amount", "Credit", "amount"),
                Column("net_amount", "Net", "amount"),
                Column("billed_net_amount", "Billed", "amount"),
                Column("audit_status", "Audit"),
            ),
            data["bills"],
            None,
            "No bill counts.",
        ),
        *(
            Note(
                f"In total, {one['bills']:,} of the last bills in {one['currency']}:"
                f" list {amount(one['list_amount'], one['currency'])},"
                f" discount {amount(one['discount_amount'], one['currency'])},"
                f" credit {amount(one['credit_amount'], one['currency'])},"
                f" net {amount(one['net_amount'], one['currency'])},"
                f" billed {money(one['billed_net_amount'], one['currency'])}."
            )
            for one in data["bill_totals"]
        ),
        Heading("Findings"),
        Table(
            "account_findings",
            (
                Column("finding_type", "Type"),
                BILL,
                Column("review_status", "Review"),
                Column("amount_at_stake", "At stake", "amount"),
                Column("currency", "Currency"),
                Column("description", "What is wrong", "prose"),
                Column("accepted", "Accepted"),
            ),
            [
                *data["findings"],
                *({**one, "accepted": words.accepted(one)} for one in data["findings_accepted"]),
            ],
            None,
            "Nothing was found.",
        ),
    ]


def _to_come(data: Row) -> list[Block]:
    """Return what happens next, and what bills will come to."""
    blocks: list[Block] = []
    event = data["next_event"]
    if event:
        what = words.NEXT_EVENTS[event["next_event"]]
        blocks.append(
            Note(f"Next: {clean(event['coupon_id'])} {what} on {day(event['next_event_at'])}.")
        )
    changes = data["bill_changes"]
    for currency in dict.fromkeys(row["currency"] for row in changes):
        of_currency = [row for row in changes if row["currency"] == currency]
        blocks += [
            Note(words.bill_change(row, is_first=row is of_currency[0])) for row in of_currency
        ]
    return blocks


def _next(coupon: Row) -> str | None:
    if coupon["next_event"] is None:
        return None
    return f"{words.NEXT_EVENTS[coupon['next_event']]} on {day(coupon['next_event_at'])}"


def _changed_terms(coupons: Iterable[Row]) -> list[Block]:
    """Return a note for each change of the terms of a coupon."""
    return [
        Note(
            f"Terms of {clean(one['coupon_id'])} changed: {clean(words.changed_terms(changed))} by the"
            f" version of {day(changed['updated_at'])} ({clean(changed['file_name'])}, row"
            f" {changed['delivery_row']}); they hold for earlier bills too."
        )
        for one in coupons
        for changed in one["terms_changed"]
    ]


def _given(coupons: Sequence[Row]) -> list[Block]:
    """Return what each coupon gave, and what is left of its credit."""
    if not coupons:
        return []
    return [
        Heading("What they gave"),
        Table(
            "given",
            (
                Column("coupon_id", "Coupon"),
                Column("invoices_discounted", "Bills", "count"),
                Column("last_discounted_invoice_at", "Last", "day"),
                Column("discount_to_date_amount", "Discount so far", "amount"),
                Column("granted_amount", "Credit granted", "amount"),
                Column("drawn_amount", "Used", "amount"),
                Column("expired_amount", "Expired", "amount"),
                Column("forfeited_amount", "Forfeited", "amount"),
                Column("credit_balance_amount", "Left", "amount"),
                Column("monthly_rise_to_expect", "Bills rise by, a month", "amount"),
                Column("currency", "Currency"),
            ),
            [one for one in coupons if one["is_honoured"]],
            None,
            "No coupon is honoured.",
        ),
    ]


def _grants_left(coupons: Iterable[Row]) -> list[Block]:
    """Return the grants of credit with something left."""
    left = [
        {**grant, "coupon_id": one["coupon_id"], "currency": grant.get("currency", one["currency"])}
        for one in coupons
        for grant in one["grants_left"]
    ]
    if not left:
        return []
    return [
        Heading("Credit left"),
        Table(
            "grants_left",
            (
                Column("grant_id", "Grant"),
                Column("coupon_id", "Coupon"),
                Column("grant_ends_at", "Ends", "day"),
                Column("runs_out_on", "Runs out", "day"),
                Column("balance_amount", "Left", "amount"),
                Column("expected_use_amount", "Expected use", "amount"),
                Column("projected_breakage_amount", "Lapses", "amount"),
                Column("currency", "Currency"),
            ),
            left,
        ),
    ]


def bill(connection: Connection, chosen: Chosen) -> list[Block]:
    """Return why one bill is what it is, or why it does not count."""
    from dagster_project.answers.explain import explain
    from dagster_project.answers.lineage import not_counted

    if not chosen.id:
        return [Note("Enter the id of a bill, or follow a link in a table.")]
    apart = not_counted(connection, chosen.id)
    if apart is not None:
        return _not_counted(apart)
    data = explain(connection, invoice(connection, chosen.id))
    facts, code = data["invoice"], data["invoice"]["currency"]
    expected, billed = data["expected"], data["billed"]
    tax = facts["tax_amount"]
    compared = [
        {
            "what": what,
            "expected": expected[name],
            "billed": billed[name],
            "difference": None if billed[name] is None else billed[name] - expected[name],
        }
        for what, name in (
            ("List", "list_amount"),
            ("Discount", "discount_amount"),
            ("Credit", "credit_amount"),
            ("Net, before tax", "net_amount"),
        )
    ]
    compared.append({"what": "Tax, as billed", "billed": tax})
    total = billed["total_amount"]
    if total is not None and tax is not None:
        right = expected["net_amount"] + tax
        compared.append(
            {
                "what": "Total, with that tax",
                "expected": right,
                "billed": total,
                "difference": total - right,
            }
        )
    before = data["bill_before"]
    acted_on = words.acted_on(facts).lstrip(":; ")
    return [
        Heading(f"Bill {clean(facts['invoice_id'])}, {code}"),
        *(Note(one) for one in data["answer"]),
        Table(
            "bill",
            (
                Column("what", ""),
                Column("expected", "Expected", "amount"),
                Column("billed", "Billed", "amount"),
                Column("difference", "Difference", "signed"),
            ),
            compared,
            code,
        ),
        *([Note(f"{acted_on[0].upper()}{acted_on[1:]}.")] if acted_on else []),
        Table(
            "bill_facts",
            (
                ACCOUNT,
                NAME,
                Column("plan", "Plan"),
                Column("interval", "Billed"),
                Column("subscription_id", "Subscription"),
                Column("issued_at", "Issued", "day"),
                Column("period_start", "From", "day"),
                Column("period_end", "To", "day"),
                Column("mtus", "Tracked users", "count"),
                Column("status", "Status"),
                Column("audit_status", "Audit"),
            ),
            [_of_bill(facts, data["workspace_name"])],
            code,
        ),
        Heading("Every coupon of the workspace, and why it acts on this bill or not"),
        Table(
            "considered",
            (
                Column("coupon_id", "Coupon"),
                Column("offer", "Gives"),
                Column("rule", "Rule"),
                Column("words", "Why", "prose"),
                Column("months_counted", "Months", "count"),
                Column("base_amount", "Of", "amount"),
                Column("discount_amount", "Discount", "amount"),
                Column("remaining_amount", "Leaves", "amount"),
                Column("redemption_id", "Redemption"),
            ),
            data["redemptions"],
            code,
            "No coupon was ever redeemed.",
        ),
        *_changed_terms(data["redemptions"]),
        Heading("Credit"),
        Table(
            "grants_of_bill",
            (
                Column("grant_id", "Grant"),
                Column("coupon_id", "Coupon"),
                Column("granted_at", "Granted", "day"),
                Column("ends_at", "Ends", "day"),
                Column("balance_before_amount", "Before", "amount"),
                Column("drawn_amount", "Used", "amount"),
                Column("balance_after_amount", "After", "amount"),
                Column("remaining_amount", "Leaves to pay", "amount"),
            ),
            data["grants"],
            code,
            "No credit could be drawn.",
        ),
        *_credit_notes(data["credit_notes"]),
        Heading("From the bill before"),
        *(
            [
                Table(
                    "bill_before",
                    (
                        BILL,
                        Column("issued_at", "Issued", "day"),
                        Column("list_amount", "List", "amount"),
                        Column("discount_amount", "Discount", "amount"),
                        Column("credit_amount", "Credit", "amount"),
                        Column("net_amount", "Net", "amount"),
                    ),
                    [before],
                    code,
                )
            ]
            if before
            else []
        ),
        Table(
            "bill_bridge",
            (Column("about", "Because of"), Column("amount", "Net changed by", "signed")),
            data["bridge"],
            code,
            "Nothing changed." if before else "There is no bill before.",
        ),
        Heading("Findings"),
        Table(
            "bill_findings",
            (
                Column("finding_type", "Type"),
                Column("review_status", "Review"),
                Column("amount_at_stake", "At stake", "amount"),
                Column("description", "What is wrong", "prose"),
            ),
            data["findings"],
            code,
            "Nothing was found.",
        ),
        *_origin(data["standing"]),
    ]


def _of_bill(facts: Row, workspace_name: str | None) -> Row:
    """Return the facts of a bill with the name of its workspace, and in words how often it recurs."""
    return {**facts, "workspace_name": workspace_name, "interval": words.interval(facts)}


def _not_counted(apart: Row) -> list[Block]:
    """Return why a bill on record does not count."""
    facts = apart["invoice"]
    return [
        Heading(f"Bill {clean(facts['invoice_id'])}, {facts['currency']}"),
        Note("This bill does not count.", is_warning=True),
        *(Note(one) for one in words.does_not_count(facts, apart["as_of_date"])),
        Table(
            "bill_facts",
            (
                ACCOUNT,
                NAME,
                Column("plan", "Plan"),
                Column("interval", "Billed"),
                Column("issued_at", "Issued", "day"),
                Column("period_start", "From", "day"),
                Column("period_end", "To", "day"),
                Column("status", "Status"),
                Column("list_amount", "List", "amount"),
                Column("billed_discount_amount", "Discount shown", "amount"),
                Column("billed_credit_amount", "Credit shown", "amount"),
            ),
            [_of_bill(facts, apart["workspace_name"])],
            facts["currency"],
        ),
        *_credit_notes(apart["credit_notes"]),
        *_origin(apart["standing"]),
    ]


def _credit_notes(notes: list[Row]) -> list[Block]:
    """Return the credit notes of a bill, and where each was delivered."""
    if not notes:
        return []
    return [
        Heading("Credit notes"),
        Table(
            "credit_notes",
            (
                Column("credit_note_id", "Credit note"),
                Column("issued_at", "Issued", "day"),
                Column("amount", "Amount", "amount"),
                Column("currency", "Currency"),
                Column("reason", "Reason"),
                Column("counts", "Counts"),
                Column("file_name", "Delivered in"),
                Column("delivery_row", "Row", "count"),
            ),
            [
                {**one["standing"], **one, "counts": "yes" if one["is_counted"] else "no"}
                for one in notes
            ],
        ),
    ]


def _origin(standing: Row) -> list[Block]:
    """Return where a record was delivered, with its earlier versions."""
    place = "This release does not record the file in which it was delivered."
    if standing["file_name"]:
        place = (
            f"Delivered in {clean(standing['file_name'])}, row {standing['delivery_row']}, which"
            f" arrived {moment(standing['arrived_at'])}."
        )
    return [
        Heading("Where it was delivered"),
        Note(place),
        Table(
            "versions",
            (
                Column("file_name", "Earlier version in file"),
                Column("row_number", "Row number", "count"),
                Column("updated_at", "Updated", "day"),
                Column("arrived_at", "Arrived", "day"),
            ),
            standing["earlier_versions"],
            None,
            "It has no earlier version.",
        ),
        *(
            Note(
                f"Rejected: {clean(row['file_name'])}, row {row['row_number']}: {clean(row['reasons'])}"
            )
            for row in standing["rejected_versions"]
        ),
    ]
