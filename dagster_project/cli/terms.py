"""Changed terms of coupons as text, for the commands that report them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster_project.answers import words
from dagster_project.cli import layout

if TYPE_CHECKING:
    from dagster_project.answers.asking import Row

_MOST_CHANGES = 10


def tell_changed(changed: Sequence[Row]) -> list[str]:
    """Lay out changes of terms as text: the coupon, old and new terms, where, and the effect.

    Args:
        changed: As `answers.terms.changed` returns it.
    """
    if not changed:
        return []
    lines = ["Changed terms of coupons, which apply to earlier bills too"]
    for row in changed[:_MOST_CHANGES]:
        lines += layout.wrap(words.change_of_terms(row), "  ", "    ")
    if len(changed) > _MOST_CHANGES:
        more = len(changed) - _MOST_CHANGES
        lines.append(f"  and {more:,} more: coupon-ledger findings --type coupon_terms_changed")
    return lines
