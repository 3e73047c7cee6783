"""The supplier's contract for a delivered batch: one Great Expectations suite per feed, as code.

What is checked in a batch before it may be loaded belongs here, generated from the feed definitions
wherever they say the same thing. Making a frame from a file belongs to arrival; which row is rejected
and why, to the staging models. A suite refuses a file only if it is of another kind altogether, and
reports everything else.

Importing this package imports Great Expectations, with its telemetry switched off; arrival does so
only when something new has arrived.
"""

import os

from expectations.library import less_to_import

os.environ["GX_ANALYTICS_ENABLED"] = "false"

with less_to_import():
    import great_expectations  # noqa: F401

from expectations.asking import Finding, ask, ask_together
from expectations.budgets import BUDGETS
from expectations.building import Contract
from expectations.coupons import COUPONS
from expectations.credit_notes import CREDIT_NOTES
from expectations.invoices import INVOICES
from expectations.redemptions import REDEMPTIONS
from expectations.workspaces import WORKSPACES

CONTRACTS: dict[str, Contract] = {
    contract.feed.name: contract
    for contract in (WORKSPACES, COUPONS, REDEMPTIONS, INVOICES, CREDIT_NOTES, BUDGETS)
}
"""The contract of each feed by its name."""

__all__ = ["CONTRACTS", "Contract", "Finding", "ask", "ask_together"]
