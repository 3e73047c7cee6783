"""`explain`: the steps that lead to a charge as text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from dagster_project.answers import words
from dagster_project.answers.values import amount, clean, day, moment, money, signed
from dagster_project.cli import layout
from dagster_project.cli.options import HomeOption, JsonOption, ReleaseOption
from dagster_project.cli.reading import answer, opened

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row


def explain(
    invoice_id: Annotated[str, typer.Argument(metavar="INVOICE", help="The invoice.")],
    home: HomeOption = None,
    release: ReleaseOption = None,
    json: JsonOption = False,
) -> None:
    """Explain step by step how a charge came about."""
    from dagster_project.answers import asking, lineage
    from dagster_project.answers import explain as charge

    with opened(home, release) as connection:
        apart = lineage.not_counted(connection, invoice_id)
        if apart is not None:
            answer(apart, tell_not_counted, json)
            return
        found = asking.invoice(connection, invoice_id)
        answer(charge.explain(connection, found), tell, json)


def tell(data: Row) -> str:
    """Lay out the explanation as text."""
    invoice = data["invoice"]
    code = invoice["currency"]
    name = data["workspace_name"]
    lines = layout.heading(f"Invoice {invoice['invoice_id']}", data)
    lines += tell_standing(data["standing"])
    lines += layout.wrap(
        f"Workspace {invoice['workspace_id']}" + (f": {name}" if name else ""), hanging="  "
    )
    usage = "" if invoice["mtus"] is None else f", {invoice['mtus']:,} MTUs"
    lines += layout.wrap(
        f"Plan {invoice['plan']} {words.interval(invoice)},"
        f" {day(invoice['period_start'])} to {day(invoice['period_end'])}{usage}"
    )
    lines += layout.wrap(f"Issued {moment(invoice['issued_at'])}, {invoice['status']}")
    lines += layout.wrap(
        f"List price {money(invoice['list_amount'], code)}{words.acted_on(invoice)}"
    )
    lines += ["", "1. Which coupons cover it"]
    for row in data["redemptions"]:
        named = f" ({row['offer']})" if row["offer"] else ""
        lines += layout.wrap(
            f"{'yes' if row['is_covered'] else 'no '} {row['coupon_id']}{named},"
            f" {row['redemption_id']}",
            "  ",
            "      ",
        )
        lines += layout.wrap(f"{row['words']} ({row['rule']})", "      ")
    if not data["redemptions"]:
        lines.append("  none was ever redeemed on this workspace")
    lines += ["", "2. Discounts, each on what the ones before left (R6)"]
    if data["discounts"]:
        lines += layout.table(
            ["", "coupon", "redemption", ">of", ">taken off", ">leaves"],
            [
                [
                    str(row["application_rank"]),
                    row["coupon_id"],
                    row["redemption_id"],
                    amount(row["base_amount"], code),
                    amount(row["discount_amount"], code),
                    amount(row["remaining_amount"], code),
                ]
                for row in data["discounts"]
            ],
        )
    else:
        lines.append("  none")
    lines += ["", "3. Credit, on what the discounts left (R7)"]
    if data["grants"]:
        lines += layout.table(
            ["grant", "coupon", "ends", ">before", ">drawn", ">after", ">leaves"],
            [
                [
                    row["grant_id"],
                    row["coupon_id"],
                    day(row["ends_at"]),
                    amount(row["balance_before_amount"], code),
                    amount(row["drawn_amount"], code),
                    amount(row["balance_after_amount"], code),
                    amount(row["remaining_amount"], code),
                ]
                for row in data["grants"]
            ],
        )
    else:
        lines.append("  none")
    lines += ["", "4. Expected against billed (R8, R9)", *_comparison(data)]
    lines += tell_credit_notes(data)
    if data["bridge"]:
        before = data["bill_before"]
        lines += ["", f"5. From the bill before, {clean(before['invoice_id'])}, to this one"]
        lines += layout.table(
            [f"in {clean(code)}", ">"],
            [
                [f"net of {day(before['issued_at'])}", amount(before["net_amount"], code)],
                *([row["about"], signed(row["amount"], code)] for row in data["bridge"]),
                [f"net of {day(invoice['issued_at'])}", amount(invoice["net_amount"], code)],
            ],
        )
    lines += ["", "Why is it not what I was told?"]
    for sentence in data["answer"]:
        lines += layout.wrap(sentence, "  ")
    return "\n".join(lines)


def tell_standing(standing: Row) -> list[str]:
    """Lay out where a record was delivered, with its earlier versions, as text."""
    if standing["file_name"] is None:
        return []  # a release of an earlier version does not have it
    lines = layout.wrap(
        f"Delivered in {standing['file_name']}, row {standing['delivery_row']}, arrived"
        f" {day(standing['arrived_at'])}",
        hanging="  ",
    )
    for row in standing["earlier_versions"]:
        lines += layout.wrap(
            f"Earlier version in {row['file_name']}, row {row['row_number']}, arrived"
            f" {day(row['arrived_at'])}, of {moment(row['updated_at'])}",
            "  ",
            "    ",
        )
    for row in standing["rejected_versions"]:
        lines += layout.wrap(
            f"Rejected in {row['file_name']}, row {row['row_number']}: {row['reasons']}",
            "  ",
            "    ",
        )
    return lines


def tell_not_counted(data: Row) -> str:
    """Lay out why a bill on record does not count as text."""
    invoice = data["invoice"]
    code, as_of = invoice["currency"], data["as_of_date"]
    name = data["workspace_name"]
    lines = layout.heading(f"Invoice {invoice['invoice_id']} does not count", data)
    lines += layout.wrap(
        f"Workspace {invoice['workspace_id']}" + (f": {name}" if name else ""), hanging="  "
    )
    lines += layout.wrap(
        f"Plan {invoice['plan']} {words.interval(invoice)},"
        f" {day(invoice['period_start'])} to {day(invoice['period_end'])}, list price"
        f" {money(invoice['list_amount'], code)}"
    )
    lines += tell_standing(data["standing"])
    lines.append("")
    for sentence in words.does_not_count(invoice, as_of):
        lines += layout.wrap(sentence)
    return "\n".join([*lines, *tell_credit_notes(data)])


def tell_credit_notes(data: Row) -> list[str]:
    """Lay out the credit notes of a bill as text: amount, where each stands, and whether it counts (R13)."""
    lines = []
    for note in data["credit_notes"]:
        told = (
            f"Credit note {note['credit_note_id']} of {day(note['issued_at'])},"
            f" {money(note['amount'], note['currency'])}"
        )
        if note["reason"]:
            told += f", {note['reason']}"
        if not note["is_counted"]:
            is_other = note["currency"] != data["invoice"]["currency"]
            why = "it is in another currency than the bill" if is_other else "the bill does not"
            told += f": does not count, since {why}"
        lines += layout.wrap(told, "  ", "    ")
        for line in tell_standing(note["standing"]):
            lines.append(f"    {line}")
    return ["", "Credit notes (R13)", *lines] if lines else []


def _comparison(data: Row) -> list[str]:
    invoice = data["invoice"]
    code = invoice["currency"]
    expected, billed = data["expected"], data["billed"]

    def compared(label: str, right: Decimal, found: Decimal) -> list[str]:
        difference = "" if found == right else signed(found - right, code)
        return [label, amount(right, code), amount(found, code), difference]

    body = [
        compared(label, expected[name], billed[name])
        for name, label in (
            ("list_amount", "list"),
            ("discount_amount", "discount"),
            ("credit_amount", "credit"),
            ("net_amount", "net, before tax"),
        )
    ]
    tax, total = invoice["tax_amount"], invoice.get("billed_total_amount")
    body.append(["tax, as billed", "", amount(tax, code), ""])
    if total is not None:  # a release of an earlier version does not have it
        body.append(compared("total, with that tax", expected["net_amount"] + tax, total))
    if invoice.get("credited_amount"):
        after = invoice["billed_net_after_notes_amount"]
        body.append(["credit notes", "", signed(-invoice["credited_amount"], code), ""])
        body.append(["net after credit notes", "", amount(after, code), ""])
    lines = layout.table([f"in {clean(code)}", ">expected", ">billed", ">difference"], body)
    variances = [
        f"{signed(invoice[name], code)} of {noun}"
        for name, noun in (
            ("discount_variance_amount", "discount"),
            ("credit_variance_amount", "credit"),
        )
        if invoice[name]
    ]
    judged = ", ".join(variances) + "; " if variances else ""
    return [*lines, *layout.wrap(f"audit: {judged}{invoice['audit_status']}", "  ")]
