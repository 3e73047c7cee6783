"""What a batch of budgets is asked beyond its columns: nothing so far."""

from expectations.building import Contract, contract

BUDGETS = Contract(feed=contract("budgets"))
