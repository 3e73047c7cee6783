"""Reads what a pull delivered, as a supplier's reader would."""

from __future__ import annotations

import csv
from pathlib import Path

KEYS = {
    "workspaces": "workspace_id",
    "coupons": "coupon_id",
    "redemptions": "redemption_id",
    "invoices": "invoice_id",
    "credit_notes": "credit_note_id",
}

Rows = dict[str, dict[str, dict[str, str]]]


def files(landing: Path) -> list[Path]:
    """Every delivery in a landing folder, oldest first."""
    return sorted(path for path in landing.glob("*/*") if not path.name.startswith("."))


def newest(landing: Path) -> Rows:
    """The newest version of each row, by feed and key; empty is left out."""
    found: Rows = {}
    for path in files(landing):
        feed = path.parent.name
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                kept = found.setdefault(feed, {})
                key = row[KEYS[feed]]
                if key not in kept or kept[key]["updated_at"] <= row["updated_at"]:
                    kept[key] = {name: value for name, value in row.items() if value}
    return found
