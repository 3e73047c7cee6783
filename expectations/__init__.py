"""The supplier's contract for a delivered batch: one Great Expectations suite per feed, as code.

Here belongs what a batch is asked before it may be loaded, generated from the feed definitions
wherever they say the same thing. How a frame comes from a file belongs to arrival; which row is
rejected and why, to the staging models: a suite stops a file only where it is of another kind
altogether, everything else it reports.

Importing this package imports Great Expectations, with its telemetry switched off; arrival does so
only when something new has arrived.
"""

import os
import sys

os.environ["GX_ANALYTICS_ENABLED"] = "false"

# Great Expectations looks for Spark, which suites on frames do not need; where it is installed, its
# Spark Connect takes a process without a main module, such as a run of Dagster, for doctests of its
# own and ends it with exit code 0.
if "pyspark" not in sys.modules:
    sys.modules["pyspark"] = None  # type: ignore[assignment] # what an import takes for "not there"
    try:
        import great_expectations  # noqa: F401
    finally:
        del sys.modules["pyspark"]

from expectations.asking import Finding, ask
from expectations.building import Contract
from expectations.coupons import COUPONS
from expectations.invoices import INVOICES
from expectations.redemptions import REDEMPTIONS
from expectations.workspaces import WORKSPACES

CONTRACTS: dict[str, Contract] = {
    contract.feed.name: contract for contract in (WORKSPACES, COUPONS, REDEMPTIONS, INVOICES)
}
"""The contract of each feed by its name."""

__all__ = ["CONTRACTS", "Contract", "Finding", "ask"]
