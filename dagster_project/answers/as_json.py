"""An answer as JSON: amounts as text with all their decimals, instants as ISO 8601 in UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any


def as_json(data: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return an answer as JSON: amounts as text with all their decimals, instants as ISO 8601 in UTC."""
    return json.dumps(data, default=_plain, indent=2)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{value!r} cannot be written as JSON")
