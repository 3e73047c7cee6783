"""Where the marts and the reference model differ, said so that a person can find out why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Row = dict[str, object]

KEYS: dict[str, tuple[str, ...]] = {
    "fct_discounted_charges": ("invoice_id",),
    "fct_discount_applications": ("invoice_id", "redemption_id"),
    "fct_credit_ledger": ("entry_id",),
    "fct_credit_burndown_monthly": ("grant_id", "burn_month"),
    "fct_percent_off_variance_monthly": ("workspace_id", "currency", "variance_month"),
    "fct_program_performance_monthly": ("program", "currency", "performance_month"),
    "fct_upcoming_expirations": ("redemption_id",),
    "fct_promotion_retention": ("redemption_id",),
    "fct_audit_findings": ("finding_id",),
    "dim_coupon_redemptions": ("redemption_id",),
    "dim_coupons": ("coupon_id",),
    "dim_workspaces": ("workspace_id",),
}

# A sentence for people is each witness's own.
FREE_TEXT = {("fct_audit_findings", "description")}


def differences(
    name: str, rows: Sequence[Mapping[str, object]], expected: Sequence[Mapping[str, object]]
) -> list[str]:
    """One line per row missing, row too many, and cell that differs between a mart and the model.

    Args:
        name: The mart.
        rows: Its rows as published.
        expected: Its rows as the reference model has them.
    """
    key = KEYS[name]

    def by_key(
        given: Sequence[Mapping[str, object]],
    ) -> dict[tuple[object, ...], Mapping[str, object]]:
        keyed = {tuple(row[column] for column in key): row for row in given}
        assert len(keyed) == len(given), f"{name}: two rows share a key"
        return keyed

    found, wanted = by_key(rows), by_key(expected)
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
            if (name, column) in FREE_TEXT:
                continue
            is_, should = found[row_key].get(column, "no such column"), wanted[row_key][column]
            if is_ != should or type(is_) is not type(should):
                lines.append(f"{name} {row_key} {column}: is {is_!r}, expected {should!r}")
    return sorted(lines)
