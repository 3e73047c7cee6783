"""What is checked in a batch of credit notes beyond its columns: that its invoices are known."""

from expectations.building import Contract, contract

CREDIT_NOTES = Contract(
    feed=contract("credit_notes"),
    refers_to={"invoice_id": "invoices"},
    totals=("amount",),
)
