"""What a batch of workspaces is asked beyond its columns: nothing so far."""

from expectations.building import Contract, contract

WORKSPACES = Contract(feed=contract("workspaces"))
