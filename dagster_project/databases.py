"""How the product opens the DuckDB files of a build to write to them.

Whenever DuckDB writes its log to a file, it writes all columns of four row groups of a table again that hold the rows
of three, in whichever table rows were deleted. Where rows are deleted and added daily that is most of what writing costs.
It is therefore left to the models, which do it where much of what is stored is deleted rows (`refresh/carrying_on.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import duckdb

NO_VACUUM: Final = {"max_vacuum_tasks": 0}
"""DuckDB's configuration under which deleted rows stay where they are."""


def open_to_write(path: Path, **config: Any) -> duckdb.DuckDBPyConnection:
    """Open a file of a build, and leave deleted rows in it where they are.

    Args:
        path: The file.
        config: More of DuckDB's configuration.
    """
    return duckdb.connect(str(path), config={**NO_VACUUM, **config})
