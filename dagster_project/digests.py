"""The digest that identifies the bytes of a file, wherever the product needs one.

The digest of a file on the product's own disks belongs here. A file of the landing folder, which another
program may be writing, is digested by arrival as it reads it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the sha256 of the bytes of a file, in hexadecimal digits.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
