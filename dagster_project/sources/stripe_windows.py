"""The windows of a discount: one, or several where its bills show that it was set aside.

In Stripe a bill takes the discounts of its subscription in place of its customer's, and its own in
place of both; a draft keeps the discounts it was made with, although it is issued later. The ledger
knows only windows, so a window ends before a bill that was right not to carry the discount and covers a
bill that was right to carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

Window = tuple[int, int | None]
"""First second in force, and first second after; None means without end."""


class Mark(Enum):
    """What a bill reveals about a discount that could act on it."""

    CARRIES = "carries"
    SET_ASIDE = "set aside"
    """The bill does not carry the discount, and was right not to."""
    SILENT = "silent"
    """The bill does not carry the discount, and nothing shows why."""


def windows(
    start: int, end: int | None, marks: Sequence[tuple[int, Mark]], excluded: Sequence[Window] = ()
) -> list[Window]:
    """Return the windows in which a discount is in force.

    Args:
        start: When it was given.
        end: When it ends or was taken off.
        marks: What bills reveal, by the instant of their issue, in that order.
        excluded: When other discounts replace it.

    Returns:
        At least one window, in order; each window before the last holds a bill. A window that ends where
        it begins is never in force.
    """

    def is_inside(at: int) -> bool:
        return holds((start, end), at) and not any(holds(one, at) for one in excluded)

    found: list[Window] = []
    begun: int | None = None
    last = after = resumed = start
    for at, mark in marks:
        if mark is Mark.CARRIES or (mark is Mark.SILENT and is_inside(at)):
            if begun is None:
                begun = min(at, max(start, after))
            last = at
        else:
            if begun is not None:
                resumed = max(at if end is None else min(at, end), last + 1)
                found.append((begun, resumed))
                begun = None
            after = at + 1
            if end is None or at < end:
                resumed = after
    if begun is not None:
        rest = (begun, end if end is None or end > last else last + 1)
        parts = _without(rest, [(max(one[0], last + 1), one[1]) for one in excluded])
        found += parts[:1] + parts[1:][-1:]
    else:
        found += _without((max(start, resumed), end), excluded)[-1:]
    return found or [(start, start)]


def holds(window: Window, at: int) -> bool:
    """Return whether an instant is in a window."""
    return window[0] <= at and (window[1] is None or at < window[1])


def _without(window: Window, excluded: Sequence[Window]) -> list[Window]:
    """Return what is left of a window, in order."""
    left = [window]
    for first, after in excluded:
        if after is not None and after <= first:
            continue
        parts: list[Window] = []
        for begin, end in left:
            parts.append((begin, first if end is None else min(first, end)))
            if after is not None:
                parts.append((max(begin, after), end))
        left = [one for one in parts if one[1] is None or one[0] < one[1]]
    return [one for one in left if one[1] is None or one[0] < one[1]]
