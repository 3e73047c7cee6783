"""Where the parts of the product are stored, and which version of it this is.

The folders of code, dbt project and sample belong here, in a checkout and in an installed package
alike. Where a user's data is stored does not: that is a setting.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_project"  # where the wheel puts everything but Python

CODE = _PACKAGE.parent
"""The folder from which the packages are imported: the checkout, or `site-packages`."""
IS_INSTALLED = _INSTALLED.is_dir()
"""Whether this is an installed package, which may be read-only, and not a checkout."""
DBT_PROJECT = _INSTALLED / "dbt" if IS_INSTALLED else CODE / "dbt"
SAMPLE = _INSTALLED / "sample" if IS_INSTALLED else CODE / "data" / "sample"


def product_version() -> str:
    """Return the installed version of the product, or that of the checkout."""
    try:
        return version("coupon-ledger")
    except PackageNotFoundError:
        import tomllib

        project = tomllib.loads((CODE / "pyproject.toml").read_text("utf-8"))["project"]
        return str(project["version"])
