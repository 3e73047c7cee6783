"""Write what is generated in README.md and docs/: `python -m tests.documents`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dagster_project.settings import CHECKOUT
from tests.documents.pages import PAGES, asking, with_outputs, with_tables, without_accidents


def main() -> None:
    """Refresh from the sample and write every page whose generated parts have changed."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COUPON_LEDGER_", "DAGSTER_"))
    }
    with tempfile.TemporaryDirectory(prefix="coupon-ledger-documents-") as folder:
        home = Path(folder, "home")
        run = subprocess.run(
            [sys.executable, "-m", "dagster_project.cli", "run", "--home", home],
            cwd=CHECKOUT,
            env=clean,
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for page in PAGES:
            text = page.read_text("utf-8")
            made = with_outputs(with_tables(text), asking(home, run.stdout))
            if without_accidents(made) != without_accidents(text):
                page.write_text(made, "utf-8")
                print(f"Written: {page.relative_to(CHECKOUT)}")


if __name__ == "__main__":
    main()
