"""What is checked in a batch of budgets beyond its columns: nothing so far."""

from expectations.building import Contract, contract

BUDGETS = Contract(feed=contract("budgets"))
