"""Which deliveries are read, judged and loaded together."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_project.arrival import arriving
from dagster_project.arrival.archive import SideRecord

SMALL = arriving.SMALL_BYTES


def delivery(size_bytes: int, feed: str = "invoices", **others: Any) -> tuple[SideRecord, float]:
    facts: dict[str, Any] = {
        "delivery_id": "a", "delivery_sequence": 1, "feed": feed, "file_name": "a.csv",
        "sha256": "a", "size_bytes": size_bytes, "modified_ns": 0, "arrived_at": "", "run_id": "",
        "format": "csv", "is_packed": False, "manifest": None, "circumstances": (),
    }  # fmt: skip
    return SideRecord(**(facts | others)), 0.0


@pytest.mark.parametrize(
    ("deliveries", "groups"),
    [
        ([delivery(SMALL), delivery(1)], [2]),
        ([delivery(SMALL + 1), delivery(1)], [1, 1]),
        ([delivery(1), delivery(SMALL + 1), delivery(1), delivery(1)], [1, 1, 2]),
        ([delivery(1), delivery(1, "coupons"), delivery(1)], [1, 1, 1]),
        ([delivery(1), delivery(1, is_packed=True)], [1, 1]),
        ([delivery(1)] * (arriving.MOST_TOGETHER + 1), [arriving.MOST_TOGETHER, 1]),
        ([delivery(SMALL)] * 33, [32, 1]),
        ([delivery(SMALL)] * 31 + [delivery(SMALL - 1), delivery(1), delivery(1)], [33, 1]),
    ],
)
def test_small_files_of_a_feed_that_follow_each_other_are_taken_together_up_to_a_number_and_a_size(
    deliveries: list[tuple[SideRecord, float]], groups: list[int]
) -> None:
    found = arriving._together(deliveries)
    assert [len(group) for group in found] == groups
    assert [one for group in found for one in group] == deliveries
