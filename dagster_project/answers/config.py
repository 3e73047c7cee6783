"""The settings in force, where each comes from, and variables that name no setting.

Showing settings belongs here. The settings themselves are defined in `settings`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from dagster_project.product import CODE, IS_INSTALLED, product_version
from dagster_project.settings import Settings, descriptions

PREFIX = "COUPON_LEDGER_"
SECRET = "(secret)"  # noqa: S105 (a placeholder)
_NAMES_A_SECRET = re.compile(r"secret|password|passwd|token|credential|key", re.IGNORECASE)
_LOG_IN = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")
_IN_YAML = re.compile(rf"\benv:\s*[\"']?({PREFIX}\w+)", re.IGNORECASE)


def config(
    settings: Settings, environment: Mapping[str, str], given: Collection[str] = ()
) -> dict[str, Any]:
    """Return every setting in force, and the variables that look like settings but are not.

    Args:
        settings: The settings in force.
        environment: The environment that they were read from.
        given: Names of the settings that an option of the command sets.

    Returns:
        `version`, `code` (the folder it runs from), `is_installed`; `settings`, each with `name`,
        `variable`, `value`, `source` (`option`, `environment` or `default`), `default`,
        `is_secret`, `description`; `unknown`, each with `variable` and the variables `near` it.
        A secret is never shown, only that it is set.
    """
    variables = {name.upper() for name in environment}
    described = descriptions()
    storage = Path(environment.get("DAGSTER_HOME") or settings.dagster_home)
    shown = []
    for name, field in Settings.model_fields.items():
        variable = PREFIX + name.upper()
        source = "environment" if variable in variables else "default"
        value = getattr(settings, name)
        shown.append(
            {
                "name": name,
                "variable": variable,
                "value": _plain(value),
                "source": "option" if name in given else source,
                "default": _plain(field.get_default(call_default_factory=True)),
                "is_secret": "SecretStr" in str(field.annotation),
                "description": described[name],
            }
        )
    return {
        "version": product_version(),
        "code": str(CODE),
        "is_installed": IS_INSTALLED,
        "settings": shown,
        "unknown": _unknown(variables, storage),
    }


def _unknown(variables: Collection[str], storage: Path) -> list[dict[str, Any]]:
    known = sorted(name.upper() for name in Settings.model_fields)
    read_by_dagster = _named_in(storage / "dagster.yaml")
    names = [one.removeprefix(PREFIX) for one in sorted(variables) if one.startswith(PREFIX)]
    return [
        {
            "variable": PREFIX + name,
            "near": [PREFIX + one for one in difflib.get_close_matches(name, known, cutoff=0.65)],
        }
        for name in names
        if name not in known and PREFIX + name not in read_by_dagster
    ]


def _named_in(path: Path) -> set[str]:
    """Return the variables that the configuration of Dagster's storage reads, if it exists."""
    try:
        return {name.upper() for name in _IN_YAML.findall(path.read_text("utf-8"))}
    except (OSError, ValueError):
        return set()


def _plain(value: object) -> Any:
    """Return a setting as a plain value, without anything secret."""
    if isinstance(value, SecretStr):
        return SECRET
    if isinstance(value, Mapping):
        return {
            str(name): SECRET if _NAMES_A_SECRET.search(str(name)) else _plain(one)
            for name, one in value.items()
        }
    plain = to_jsonable_python(value)
    return _LOG_IN.sub(rf"\1:{SECRET}@", plain) if isinstance(plain, str) else plain
