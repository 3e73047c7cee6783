"""Import Great Expectations without the libraries that no suite here needs.

Only the import belongs here; the use of the library is in `asking.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def less_to_import() -> Iterator[None]:
    """Hide Spark, charts and statistics from the imports in this block.

    Spark, where it is installed, takes a process without a main module, such as a run of Dagster, for
    doctests of its own and ends it with exit code 0. Charts and statistics take a second to import; two
    expectations about distributions would use them.
    """
    statistics = ModuleType("scipy")
    statistics.stats = ModuleType("scipy.stats")  # type: ignore[attr-defined]
    instead: dict[str, ModuleType | None] = {
        "pyspark": None,  # an import reads this as "not installed"
        "altair": ModuleType("altair"),
        "scipy": statistics,
    }
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    absent = [name for name in instead if name not in modules]
    modules.update({name: instead[name] for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del modules[name]
