"""`config` shows the settings in force; `--version` shows the version.

Exit codes: 0 shown, 2 a setting is invalid.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from dagster_project.cli.options import HomeOption, JsonOption, print_styled, settings_from


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        from dagster_project.product import product_version

        print(f"coupon-ledger {product_version()}")
        raise typer.Exit


def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Handle the options of the program itself, before any command."""


def config(home: HomeOption = None, json: JsonOption = False) -> None:
    """Show every setting in force and where it comes from.

    Environment variables that look like a setting but are unknown are named, with settings of similar
    spelling.
    """
    from dagster_project.answers.config import config as in_force

    settings = settings_from(home)
    found = in_force(settings, os.environ, ["home"] if home is not None else [])
    if json:
        from dagster_project.answers.as_json import as_json

        print(as_json(found))
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    kind = "the package in" if found["is_installed"] else "the checkout"
    print(f"Coupon Ledger {found['version']}, {kind} {found['code']}\n")
    width = max(len(one["variable"]) for one in found["settings"])
    for one in found["settings"]:
        origin = f"({one['source']})"
        if one["value"] != one["default"]:
            origin = f"({one['source']}; default {_shown(one['default'])})"
        is_default = one["source"] == "default"
        line = f"{one['variable']:<{width}}  {_shown(one['value'])}  {origin}"
        print_styled(line, "" if is_default else "bold", sys.stdout)
    for one in found["unknown"]:
        near = " or ".join(one["near"])
        remedy = f"did you mean {near}?" if near else "nothing reads it; remove it."
        print_styled(f"\nUnknown setting {one['variable']}: {remedy}", "red", sys.stdout)


def _shown(value: object) -> str:
    """Write a value on one line; what cannot be printed is escaped."""
    import json as library

    if value is None or value == "":
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and value.isprintable():
        return value
    return library.dumps(value, ensure_ascii=False)
