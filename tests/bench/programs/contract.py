"""What every program starts from and ends with.

Each starts from the current records of four feeds, typed, as staging has them: amounts are whole
minor units with the currency's minor units per major unit beside them, instants are in UTC. It ends
with five marts as they are published, without the columns of `LEFT_OUT`.

The programs of other tools know only the kinds of data in the benchmark's sample, those of the first
edition of the rules: no subscriptions, no part of a bill that coupons or credit may not act on, no
negative bills, no credit notes, coupons once per user, follow-ups of one step.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Final

INPUTS: Final = ("invoices", "coupons", "redemptions", "workspaces")
COUNTED_STATUSES: Final = ("open", "paid", "uncollectible")

_AMOUNT: Final = "decimal(18,2)"
_CHARGED: Final = (
    "list", "percent_off", "amount_off", "discount", "credit", "net", "tax",
    "billed_discount", "billed_credit", "billed_net", "billed_total", "discount_variance",
    "credit_variance",
)  # fmt: skip

# The columns of a mart that no result has: those of the outlook (R12), those that only later kinds of
# data fill, and those that say where a record was delivered.
LEFT_OUT: Final[Mapping[str, frozenset[str]]] = {
    "fct_discounted_charges": frozenset(
        {
            *("subscription_id", "interval_count", "discountable_amount", "creditable_amount"),
            *("credited_amount", "billed_net_after_notes_amount", "delivery_id", "delivery_row"),
        }
    ),
    "fct_credit_burndown_monthly": frozenset(
        {"projected_exhaustion_date", "projected_breakage_amount"}
    ),
}

# The columns of each mart in their order, with the types of dbt's contract.
RESULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "fct_discounted_charges": {
        "invoice_id": "string",
        "workspace_id": "string",
        "plan": "string",
        "billing_interval": "string",
        "currency": "string",
        "period_start": "date",
        "period_end": "date",
        "issued_at": "timestamp",
        "billing_month": "date",
        "status": "string",
        "mtus": "bigint",
        **{f"{name}_amount": _AMOUNT for name in _CHARGED},
        "audit_status": "string",
    },
    "fct_discount_applications": {
        "invoice_id": "string",
        "redemption_id": "string",
        "coupon_id": "string",
        "application_rank": "bigint",
        "discount_type": "string",
        "currency": "string",
        "base_amount": _AMOUNT,
        "discount_amount": _AMOUNT,
        "remaining_amount": _AMOUNT,
    },
    "fct_credit_ledger": {
        "entry_id": "string",
        "grant_id": "string",
        "redemption_id": "string",
        "coupon_id": "string",
        "workspace_id": "string",
        "currency": "string",
        "entry_type": "string",
        "invoice_id": "string",
        "effective_at": "timestamp",
        "amount": _AMOUNT,
        "balance_amount": _AMOUNT,
        "effective_month": "date",
    },
    "fct_credit_burndown_monthly": {
        "grant_id": "string",
        "redemption_id": "string",
        "coupon_id": "string",
        "workspace_id": "string",
        "currency": "string",
        "grant_period": "bigint",
        "grant_ends_at": "timestamp",
        "burn_month": "date",
        "opening_amount": _AMOUNT,
        "granted_amount": _AMOUNT,
        "drawn_amount": _AMOUNT,
        "expired_amount": _AMOUNT,
        "forfeited_amount": _AMOUNT,
        "closing_amount": _AMOUNT,
        "run_rate_amount": _AMOUNT,
    },
    "fct_percent_off_variance_monthly": {
        "workspace_id": "string",
        "currency": "string",
        "variance_month": "date",
        "is_covered": "boolean",
        "bill_amount": _AMOUNT,
        "percent_off_amount": _AMOUNT,
        "effective_percent": "decimal(9,4)",
        "previous_bill_amount": _AMOUNT,
        "previous_percent_off_amount": _AMOUNT,
        "delta_amount": _AMOUNT,
        "bill_effect_amount": _AMOUNT,
        "rate_effect_amount": _AMOUNT,
        "start_effect_amount": _AMOUNT,
        "end_effect_amount": _AMOUNT,
    },
}

Program = Callable[[Path, Path, date], None]


# Further inputs that only this product's models read; the sample has no rows of them.
EMPTY: Final[Mapping[str, Mapping[str, str]]] = {
    "stg_billing__credit_notes": {
        "credit_note_id": "string",
        "invoice_id": "string",
        "status": "string",
        "issued_at": "timestamp",
        "currency": "string",
        "amount_minor": "bigint",
        "tax_minor": "bigint",
        "reason": "string",
        "updated_at": "timestamp",
        "minor_per_major": "bigint",
        "delivery_sequence": "bigint",
        "row_number": "bigint",
    },
    "stg_arrival__deliveries": {
        "delivery_sequence": "bigint",
        "delivery_id": "string",
        "feed": "string",
        "file_name": "string",
    },
}


def nothing(name: str) -> str:
    """A query that returns no rows, with the columns of an empty input."""
    columns = ", ".join(f"cast(null as {kind}) as {column}" for column, kind in EMPTY[name].items())
    return f"select {columns} where false"


def source(inputs: Path, name: str) -> Path:
    """The file of an input."""
    return inputs / f"{name}.parquet"


def target(outputs: Path, name: str) -> Path:
    """The file of a result, or the folder of its files."""
    return outputs / f"{name}.parquet"


def command(program: Program) -> None:
    """Run a program with the arguments of this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("outputs", type=Path)
    parser.add_argument("as_of", type=date.fromisoformat)
    options = parser.parse_args()
    program(options.inputs, options.outputs, options.as_of)
