"""Where the marts and the reference model differ, in a form from which a person can find out why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

Row = dict[str, object]

# Per mart, in the order of reading, what identifies a row. These marts are compared, with every column
# that the reference model has: those of the contract, and of the columns beyond it a grant's number and
# end, the currency of an application, and the total as billed.
KEYS: dict[str, tuple[str, ...]] = {
    "fct_discounted_charges": ("invoice_id",),
    "fct_discount_applications": ("invoice_id", "redemption_id"),
    "fct_credit_ledger": ("entry_id",),
    "fct_credit_draws": ("grant_id", "invoice_id"),
    "fct_credit_burndown_monthly": ("grant_id", "burn_month"),
    "fct_credit_notes": ("credit_note_id",),
    "fct_percent_off_variance_monthly": ("workspace_id", "currency", "variance_month"),
    "fct_program_performance_monthly": ("program", "currency", "performance_month"),
    "fct_program_budget_monthly": ("program", "currency", "budget_month"),
    "fct_charge_bridge_monthly": ("currency", "bridge_month", "plan"),
    "fct_bill_outlook_monthly": ("workspace_id", "currency", "outlook_month"),
    "fct_upcoming_expirations": ("redemption_id",),
    "fct_promotion_retention": ("redemption_id",),
    "fct_audit_findings": (
        *("finding_type", "redemption_id", "invoice_id", "credit_note_id", "coupon_id"),
        "occurred_at",
    ),
    "dim_coupon_redemptions": ("redemption_id",),
    "dim_coupons": ("coupon_id",),
    "dim_workspaces": ("workspace_id",),
}

# Each witness has its own sentences for people, and its own ids of findings about versions of a coupon.
OWN_WORDS = {("fct_audit_findings", "description")}
OWN_IDS = {"coupon_terms_changed"}

# Where a record was delivered; it does not matter if the same records are delivered in another way.
PROVENANCE = frozenset({"delivery_id", "delivery_row"})


def differences(
    name: str,
    rows: Sequence[Mapping[str, object]],
    expected: Sequence[Mapping[str, object]],
    ignored: Collection[str] = (),
) -> list[str]:
    """One line per row missing, row too many, and cell that differs between a mart and the model.

    Args:
        name: The mart.
        rows: Its rows as published.
        expected: Its rows as the reference model has them.
        ignored: Columns that are not compared.
    """
    compared = {column for row in expected for column in row} - {"finding_id", *ignored}
    compared -= {column for mart, column in OWN_WORDS if mart == name}
    found, wanted = _by_key(name, rows, compared), _by_key(name, expected, compared)
    lines = [
        f"{name} {row_key}: missing, expected {dict(wanted[row_key])}"
        for row_key in wanted.keys() - found.keys()
    ]
    lines += [
        f"{name} {row_key}: too many, is {dict(found[row_key])}"
        for row_key in found.keys() - wanted.keys()
    ]
    for row_key in wanted.keys() & found.keys():
        for column in wanted[row_key]:
            if (name, column) in OWN_WORDS or column in ignored:
                continue
            if column == "finding_id" and wanted[row_key]["finding_type"] in OWN_IDS:
                continue
            is_, should = found[row_key].get(column, "no such column"), wanted[row_key][column]
            if is_ != should or type(is_) is not type(should):
                lines.append(f"{name} {row_key} {column}: is {is_!r}, expected {should!r}")
    return sorted(lines)


def all_differences(
    found: Mapping[str, Sequence[Mapping[str, object]]],
    expected: Mapping[str, Sequence[Mapping[str, object]]],
    ignored: Collection[str] = (),
) -> list[str]:
    """Every difference between two sets of marts, one line each; a mart that only one has is one line."""
    lines = []
    for name in KEYS:
        if name in found and name in expected:
            lines += differences(name, found[name], expected[name], ignored)
        elif name in expected:
            lines.append(f"{name}: not published, {len(expected[name])} rows expected")
        elif name in found:
            lines.append(f"{name}: published, but not expected")
    return lines


def _by_key(
    name: str, rows: Sequence[Mapping[str, object]], compared: Collection[str]
) -> dict[tuple[object, ...], Mapping[str, object]]:
    """The rows by their key; findings that share a key are numbered in the order of the compared columns."""
    if name == "fct_audit_findings":
        columns = sorted(compared)
        rows = sorted(rows, key=lambda row: [str(row.get(column)) for column in columns])
    keyed: dict[tuple[object, ...], Mapping[str, object]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        row_key = tuple(row.get(column) for column in KEYS[name])
        seen[row_key] += 1
        if name == "fct_audit_findings":
            keyed[*row_key, seen[row_key]] = row
        else:
            assert row_key not in keyed, f"{name} {row_key}: two rows share a key"
            keyed[row_key] = row
    return keyed
