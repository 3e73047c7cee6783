"""What a batch of credit notes is asked beyond its columns: that the invoices it names are known."""

from expectations.building import Contract, contract

CREDIT_NOTES = Contract(
    feed=contract("credit_notes"),
    refers_to={"invoice_id": "invoices"},
    totals=("amount",),
)
