from __future__ import annotations

from typing import Any

from tests.bench import question


def test_the_page_on_speed_tells_what_part_of_a_refresh_a_question_costs() -> None:
    result: dict[str, Any] = {
        "asked_invoices": 1_000_000,
        "workspaces": 200,
        "rounds": 1,
        "refresh_cpu_seconds": 40.0,
        "refresh_seconds": 25.0,
        "questions": [
            {
                "discount_type": "percent_off",
                "coupon_id": "HALF",
                "coupon_workspaces": 18,
                "seconds": 3.0,
                "cpu_seconds": 3.2,
            }
        ],
        "cores": 2,
        "processor": "any",
        "memory_gib": 8,
        "versions": {"duckdb": "1"},
        "commit": "abc",
        "load_before": 0,
        "measured_at": "today",
    }
    assert "| 1,000,000 | percentage | 9% | 40.0 | 3.2 | 0.08 |" in question.table([result])
    assert "3.2 CPU seconds, 0.080 of the refresh" in question.block(result)
