"""What is checked in a batch of workspaces beyond its columns: nothing so far."""

from expectations.building import Contract, contract

WORKSPACES = Contract(feed=contract("workspaces"))
