"""What is checked in a batch of redemptions beyond its columns: ids that are ours, and its references."""

from expectations.building import Contract, avoids, contract

REDEMPTIONS = Contract(
    feed=contract("redemptions"),
    more_rows=(avoids("redemption_id", "~follow-up$", "redemption_id_is_not_derived"),),
    refers_to={"coupon_id": "coupons", "workspace_id": "workspaces"},
)
