"""One planted violation per data test: statements that break what the test checks.

Those of singular tests are written out here; those of generic tests are derived from their arguments.
"""

from __future__ import annotations

from typing import Any

A_DISCOUNTED_INVOICE = (
    "(select min(invoice_id) from marts.fct_discount_applications where application_rank = 1)"
)
A_DRAW = "(select min(entry_id) from marts.fct_credit_ledger where entry_type = 'draw')"

SINGULAR: dict[str, tuple[str, ...]] = {
    "assert_coupon_honoured_once_per_workspace": (
        "insert into marts.dim_coupon_redemptions by name select * replace ('copy' as redemption_id)"
        " from marts.dim_coupon_redemptions where is_honoured and coupon_id in (select coupon_id from"
        " marts.dim_coupons where once_per <> 'unlimited') limit 1",
    ),
    "assert_coupon_honoured_once_per_user": (
        "insert into intermediate.int_redemptions_with_terms by name"
        " select * replace ('copy' as redemption_id, 'elsewhere' as workspace_id)"
        " from intermediate.int_redemptions_with_terms where is_honoured and user_id is not null"
        " and once_per = 'user' limit 1",
    ),
    "assert_coupon_benefits_workspace_through_one_redemption": (
        "insert into marts.fct_discount_applications by name select * replace ('copy' as redemption_id)"
        " from marts.fct_discount_applications where coupon_id in (select coupon_id from marts.dim_coupons"
        " where once_per in ('user', 'workspace')) limit 1",
    ),
    "assert_credit_comes_through_one_redemption": (
        "insert into marts.fct_credit_ledger by name select * replace ('copy' as redemption_id)"
        " from marts.fct_credit_ledger where coupon_id in (select coupon_id from marts.dim_coupons"
        " where once_per in ('user', 'workspace')) limit 1",
    ),
    "assert_no_discount_outside_window": (
        "update marts.dim_coupon_redemptions set ends_at = (select issued_at from"
        f" marts.fct_discounted_charges where invoice_id = {A_DISCOUNTED_INVOICE}) where redemption_id ="
        f" (select redemption_id from marts.fct_discount_applications where invoice_id = {A_DISCOUNTED_INVOICE}"
        " and application_rank = 1)",
    ),
    "assert_no_credit_outside_window": (
        "update marts.dim_coupon_redemptions set started_at = (select effective_at + interval 1 microsecond"
        f" from marts.fct_credit_ledger where entry_id = {A_DRAW}) where redemption_id ="
        f" (select redemption_id from marts.fct_credit_ledger where entry_id = {A_DRAW})",
    ),
    "assert_nothing_given_after_recorded_end": (
        "update staging.stg_billing__redemptions set revoked_at = (select effective_at from"
        " marts.fct_credit_ledger where entry_type = 'draw' and redemption_id in (select redemption_id from"
        " staging.stg_billing__redemptions) order by entry_id limit 1) where redemption_id = (select"
        " redemption_id from marts.fct_credit_ledger where entry_type = 'draw' and redemption_id in (select"
        " redemption_id from staging.stg_billing__redemptions) order by entry_id limit 1)",
    ),
    "assert_first_bill_after_end_is_at_list": (
        "delete from marts.dim_coupon_redemptions where workspace_id in (select workspace_id from"
        " marts.dim_workspaces) and redemption_id not in (select arg_min(redemption_id, (ends_at, redemption_id))"
        " from marts.dim_coupon_redemptions where is_honoured and ends_at > started_at group by workspace_id)",
        "update marts.fct_discounted_charges set discount_amount = 1 where discount_amount = 0",
    ),
    "assert_charges_add_up": (
        f"update marts.fct_discounted_charges set net_amount = net_amount + 0.01 where invoice_id = {A_DISCOUNTED_INVOICE}",
    ),
    "assert_totals_agree_across_marts": (
        f"delete from marts.fct_discount_applications where invoice_id = {A_DISCOUNTED_INVOICE}",
    ),
    "assert_charges_reconcile_with_deliveries": (
        "delete from marts.fct_discounted_charges",
    ),
    "assert_invoices_of_later_days_do_not_count": (
        "delete from intermediate.int_invoices_not_counted where reason = 'after_as_of_date'",
    ),
    "assert_discounts_stack_without_gaps": (
        "update marts.fct_discount_applications set application_rank = application_rank + 1"
        f" where invoice_id = {A_DISCOUNTED_INVOICE}",
    ),
    "assert_grants_balance": (
        f"update marts.fct_credit_ledger set amount = amount - 0.01 where entry_id = {A_DRAW}",
    ),
    "assert_draws_equal_invoice_credit": (
        "delete from marts.fct_credit_draws where draw_amount > 0 and invoice_id = (select min(invoice_id)"
        " from marts.fct_credit_draws where draw_amount > 0)",
    ),
    "assert_burndown_agrees_with_ledger": (
        "delete from marts.fct_credit_burndown_monthly where grant_id = (select min(grant_id) from"
        " marts.fct_credit_burndown_monthly)",
    ),
    "assert_draws_agree_with_ledger": (
        "update marts.fct_credit_draws set draw_amount = draw_amount + 0.01, balance_before_amount ="
        " balance_before_amount + 0.01 where rowid = 0",
    ),
    "assert_credit_notes_agree_with_charges": (
        "delete from marts.fct_credit_notes where credit_note_id = (select min(credit_note_id) from"
        " marts.fct_credit_notes where is_counted)",
    ),
    "assert_credit_notes_without_invoice_are_findings": (
        "delete from marts.fct_audit_findings where finding_type = 'credit_note_without_invoice'",
    ),
    "assert_bridge_agrees_with_charges": (
        "update marts.fct_charge_bridge_monthly set net_amount = net_amount + 0.01,"
        " billing_error_amount = billing_error_amount - 0.01, percent_off_amount = percent_off_amount - 0.01"
        " where rowid = 0",
    ),
    "assert_outlook_adds_up": (
        "update marts.fct_bill_outlook_monthly set credit_amount = credit_amount + 0.01 where rowid = 0",
    ),
    "assert_outlook_gives_what_bills_allow": (
        "update intermediate.int_bills_looked_ahead set discountable_minor = discount_minor - 1 where"
        " invoice_id = (select min(invoice_id) from intermediate.int_bills_looked_ahead where discount_minor > 0)",
    ),
    "assert_outlook_gives_nothing_outside_window": (
        "update intermediate.int_benefits_given set issued_at = timestamp '1999-01-01' where invoice_id ="
        " (select min(invoice_id) from intermediate.int_benefits_given where is_expected)",
    ),
    "assert_outlook_overdraws_no_grant": (
        "update intermediate.int_credit_grants_scheduled set grant_minor = 0 where grant_id = (select"
        " min(grant_id) from intermediate.int_credit_draws where is_expected and draw_minor > 0)",
    ),
    "assert_budgets_agree_with_gifts": (
        "update marts.fct_program_budget_monthly set expected_amount = expected_amount + 0.01 where rowid = 0",
    ),
    "assert_variance_effects_sum_to_delta": (
        "update marts.fct_percent_off_variance_monthly set rate_effect_amount = rate_effect_amount + 0.01"
        " where rowid = 0",
    ),
    "assert_variance_deltas_sum_to_last_month": (
        "update marts.fct_percent_off_variance_monthly set delta_amount = delta_amount + 0.01 where rowid = 0",
    ),
    "assert_every_row_accounted_for": (
        "update intermediate.int_deliveries_reconciled set physical_rows = physical_rows + 1 where rowid = 0",
    ),
    "assert_accepted_rows_are_current_records": (
        "delete from staging.base_billing__invoices where (delivery_sequence, row_number) ="
        " (select (delivery_sequence, row_number) from staging.stg_billing__invoices limit 1)",
    ),
    "assert_findings_are_about_published_records": (
        "delete from marts.fct_audit_findings where invoice_id in (select invoice_id from"
        " marts.fct_discounted_charges where audit_status <> 'matched')",
    ),
} | {
    f"assert_source_{name}": (
        f"update marts.fct_audit_findings set finding_type = '{finding}' where rowid = 0",
    )
    for name, finding in {
        "redeems_once_per_workspace": "duplicate_for_workspace",
        "redeems_once_per_user": "duplicate_for_user",
        "respects_prior_coupon_rule": "prior_coupon",
        "redeems_before_close": "redeemed_after_close",
        "does_not_discount_after_expiry": "discount_after_expiry",
    }.items()
}  # fmt: skip

_CHARGES = "update marts.fct_discounted_charges set"
_ONE_CHARGE = f"where invoice_id = {A_DISCOUNTED_INVOICE}"
_ONE_NEGATIVE = "where invoice_id = (select min(invoice_id) from marts.fct_discounted_charges where list_amount < 0)"
_ONE_CREDITED = "where invoice_id = (select min(invoice_id) from marts.fct_discounted_charges where credit_amount > 0)"
_ONE_EXPECTED = (
    "where invoice_id = (select min(invoice_id) from intermediate.int_bills_looked_ahead"
    " where {} > 0)"
)
_ONE_FINDING = "where finding_id = (select min(finding_id) from marts.fct_audit_findings where finding_type = '{}')"

# Further conditions of data tests that have several, each broken alone.
FURTHER: dict[tuple[str, str], tuple[str, ...]] = {
    ("assert_charges_add_up", "a discount below zero"): (
        f"{_CHARGES} discount_amount = -1, amount_off_amount = -1 - percent_off_amount, net_amount = list_amount"
        f" + 1 - credit_amount, discount_variance_amount = billed_discount_amount + 1 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "credit below zero"): (
        f"{_CHARGES} credit_amount = -1, net_amount = list_amount - discount_amount + 1 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "more than the list price"): (
        f"{_CHARGES} credit_amount = list_amount - discount_amount + 1, net_amount = -1, creditable_amount = null"
        f" {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "a discount on a negative bill"): (
        f"{_CHARGES} discount_amount = 1, amount_off_amount = 1 - percent_off_amount, discountable_amount = 1,"
        " net_amount = list_amount - 1 - credit_amount, discount_variance_amount = billed_discount_amount - 1"
        f" {_ONE_NEGATIVE}",
    ),
    ("assert_charges_add_up", "credit on a negative bill"): (
        f"{_CHARGES} credit_amount = 1, net_amount = list_amount - 1, creditable_amount = null {_ONE_NEGATIVE}",
    ),
    ("assert_charges_add_up", "more than coupons may act on"): (
        f"{_CHARGES} discountable_amount = discount_amount - 0.01 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "more than credit may pay"): (
        f"{_CHARGES} creditable_amount = credit_amount - 0.01 {_ONE_CREDITED}",
    ),
    ("assert_charges_add_up", "parts that are not the discount"): (
        f"{_CHARGES} percent_off_amount = percent_off_amount + 0.01 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "another net as billed"): (
        f"{_CHARGES} billed_net_amount = billed_net_amount + 0.01, billed_net_after_notes_amount ="
        f" billed_net_after_notes_amount + 0.01 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "another net after notes"): (
        f"{_CHARGES} billed_net_after_notes_amount = billed_net_after_notes_amount + 0.01 {_ONE_CHARGE}",
    ),
    ("assert_charges_add_up", "another variance"): (
        f"{_CHARGES} discount_variance_amount = discount_variance_amount + 0.01 {_ONE_CHARGE}",
    ),
    ("assert_grants_balance", "a grant twice"): (
        "insert into marts.fct_credit_ledger by name select * replace (entry_id || ':copy' as entry_id, 0 as amount)"
        " from marts.fct_credit_ledger where entry_type = 'grant' limit 1",
    ),
    ("assert_grants_balance", "something left of what has ended"): (
        "update intermediate.int_credit_grants_scheduled set has_ended = true where grant_id in (select grant_id"
        " from marts.fct_credit_ledger group by grant_id having sum(amount) > 0)",
    ),
    **{
        ("assert_draws_agree_with_ledger", f"another {column}"): (
            f"update marts.fct_credit_draws set {column} = 'other' where draw_amount > 0 and rowid ="
            " (select min(rowid) from marts.fct_credit_draws where draw_amount > 0)",
        )
        for column in ("redemption_id", "workspace_id", "currency")
    },
    ("assert_draws_agree_with_ledger", "a draw that only the ledger has"): (
        f"update marts.fct_credit_ledger set invoice_id = 'other' where entry_id = {A_DRAW}",
    ),
    ("assert_credit_comes_through_one_redemption", "a discount through another"): (
        "insert into marts.fct_discount_applications by name select applications.* replace"
        " (ledger.coupon_id as coupon_id, 'copy' as redemption_id)"
        " from marts.fct_discount_applications as applications"
        " inner join marts.fct_discounted_charges as charges using (invoice_id)"
        " inner join marts.fct_credit_ledger as ledger on charges.workspace_id = ledger.workspace_id"
        " where ledger.coupon_id in (select coupon_id from marts.dim_coupons"
        " where once_per in ('user', 'workspace')) limit 1",
    ),
    ("assert_invoices_of_later_days_do_not_count", "an earlier one left out"): (
        "update intermediate.int_invoices_not_counted set reason = 'after_as_of_date' where reason = 'void'",
    ),
    ("assert_coupon_honoured_once_per_workspace", "a subscription twice"): (
        "insert into marts.dim_coupon_redemptions by name select * replace ('copy' as redemption_id)"
        " from marts.dim_coupon_redemptions where is_honoured and subscription_id is not null and coupon_id in"
        " (select coupon_id from marts.dim_coupons where once_per = 'subscription') limit 1",
    ),
    ("assert_outlook_gives_what_bills_allow", "more than credit may pay"): (
        "update intermediate.int_bills_looked_ahead set creditable_minor = credit_minor - 1"
        f" {_ONE_EXPECTED.format('credit_minor')}",
    ),
    ("assert_outlook_gives_what_bills_allow", "more than the bill"): (
        f"update intermediate.int_bills_looked_ahead set net_minor = -1 {_ONE_EXPECTED.format('list_minor')}",
    ),
    ("assert_outlook_adds_up", "a month without a bill"): (
        "update marts.fct_bill_outlook_monthly set expected_bills = 0 where rowid = 0",
    ),
    ("assert_outlook_adds_up", "parts that are not the discount"): (
        "update marts.fct_bill_outlook_monthly set amount_off_amount = amount_off_amount + 0.01 where rowid = 0",
    ),
    ("assert_budgets_agree_with_gifts", "a budget left out"): (
        "update marts.fct_program_budget_monthly set budget_amount = null, difference_amount = null where rowid ="
        " (select min(rowid) from marts.fct_program_budget_monthly where budget_amount is not null)",
    ),
    ("assert_budgets_agree_with_gifts", "another budget"): (
        "update marts.fct_program_budget_monthly set budget_amount = budget_amount + 1, difference_amount ="
        " difference_amount + 1 where budget_amount is not null",
    ),
    ("assert_budgets_agree_with_gifts", "another difference"): (
        "update marts.fct_program_budget_monthly set difference_amount = difference_amount + 0.01 where rowid ="
        " (select min(rowid) from marts.fct_program_budget_monthly where budget_amount is not null)",
    ),
    ("assert_findings_are_about_published_records", "an unknown invoice"): (
        "update marts.fct_audit_findings set invoice_id = 'nowhere', workspace_id = null"
        f" {_ONE_FINDING.format('invoice_does_not_add_up')}",
    ),
    ("assert_findings_are_about_published_records", "an unknown redemption"): (
        "update marts.fct_audit_findings set redemption_id = 'nowhere', workspace_id = null"
        f" {_ONE_FINDING.format('unknown_coupon')}",
    ),
    ("assert_findings_are_about_published_records", "no record at all"): (
        "update marts.fct_audit_findings set redemption_id = null, workspace_id = null, coupon_id = null"
        f" {_ONE_FINDING.format('unknown_coupon')}",
    ),
    ("assert_findings_are_about_published_records", "another finding than that of the variance"): (
        "update marts.fct_audit_findings set finding_type = 'invoice_does_not_add_up'"
        f" {_ONE_FINDING.format('over_discounted')}",
    ),
    ("assert_bridge_agrees_with_charges", "another billing error"): (
        "update marts.fct_charge_bridge_monthly set billing_error_amount = billing_error_amount + 0.01"
        " where rowid = 0",
    ),
    ("assert_bridge_agrees_with_charges", "another amount credited"): (
        "update marts.fct_charge_bridge_monthly set credited_amount = credited_amount + 0.01 where rowid = 0",
    ),
}  # fmt: skip


def of_generic(node: Any, relation: str) -> list[tuple[str, ...]]:
    """The ways to violate a generic test on a relation, each as statements.

    Raises:
        KeyError: There is no recipe for this kind of test.
    """
    given = node.test_metadata.kwargs
    first = "where rowid = 0"
    statements = {
        "primary_key": lambda: [
            f"insert into {relation} select * from {relation} {first}",
            *(
                f"update {relation} set {column} = null {first}"
                for column in given["columns"]
                if column not in given.get("nullable", [])
            ),
        ],
        "accepted_values": lambda: [
            f"update {relation} set {given['column_name']} = 'nonsense' {first}"
        ],
    }
    return [(statement,) for statement in statements[node.test_metadata.name]()]
