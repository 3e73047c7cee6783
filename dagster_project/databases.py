"""How the product opens the DuckDB files of a build for writing.

At every checkpoint, DuckDB vacuums the tables from which rows were deleted: it writes four row groups that hold the rows
of three again, in all columns. If rows are deleted and added daily, that is most of the cost of writing. So it is
switched off here, and the models do it once many of the stored rows are deleted ones (`refresh/carrying_on.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import duckdb

NO_VACUUM: Final = {"max_vacuum_tasks": 0}
"""DuckDB's configuration under which deleted rows stay where they are."""


def open_to_write(path: Path, **config: Any) -> duckdb.DuckDBPyConnection:
    """Open a file of a build for writing, and leave deleted rows in it where they are.

    Args:
        path: The file.
        config: Further configuration of DuckDB.
    """
    return duckdb.connect(str(path), config={**NO_VACUUM, **config})
