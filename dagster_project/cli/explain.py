"""`explain`: the steps that lead to a charge as text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

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
    from dagster_project.answers import asking
    from dagster_project.answers import explain as charge

    with opened(home, release) as connection:
        found = asking.invoice(connection, invoice_id)
        answer(charge.explain(connection, found), tell, json)


def tell(data: Row) -> str:
    """Lay out the explanation as text."""
    invoice = data["invoice"]
    code = invoice["currency"]
    name = data["workspace_name"]
    lines = layout.heading(f"Invoice {invoice['invoice_id']}", data)
    lines += layout.wrap(
        f"Workspace {invoice['workspace_id']}" + (f": {name}" if name else ""), hanging="  "
    )
    usage = "" if invoice["mtus"] is None else f", {invoice['mtus']:,} MTUs"
    lines += layout.wrap(
        f"Plan {invoice['plan']} by the {invoice['billing_interval']},"
        f" {day(invoice['period_start'])} to {day(invoice['period_end'])}{usage}"
    )
    lines += layout.wrap(f"Issued {moment(invoice['issued_at'])}, {invoice['status']}")
    lines += layout.wrap(f"List price {money(invoice['list_amount'], code)}")
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
    lines += ["", "Why is it not what I was told?"]
    for sentence in data["answer"]:
        lines += layout.wrap(sentence, "  ")
    return "\n".join(lines)


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
    if total is not None:  # a release of an earlier version does not say
        body.append(compared("total, with that tax", expected["net_amount"] + tax, total))
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
