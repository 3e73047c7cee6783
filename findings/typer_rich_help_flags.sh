#!/usr/bin/env bash
# Typer 0.29.2: in help laid out by rich (the default), a flag such as --strict or --help shows the type
# <bool>, as if it took a value; the plain help (rich_markup_mode=None) of the same command does not.
# Expected: no type beside an option that takes no value, in both.
# Output seen:
#   rich:  --strict                    <bool>  Be strict.
#   plain: --strict              Be strict.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check typer==0.29.2 rich==15.0.0
cat > "$folder/shown.py" <<'PYTHON'
import sys

import typer
from typer.testing import CliRunner


def help_of(mode):
    app = typer.Typer(rich_markup_mode=mode)

    @app.command()
    def run(strict: bool = typer.Option(False, "--strict", help="Be strict.")) -> None:
        """Run."""

    return CliRunner().invoke(app, ["--help"], env={"NO_COLOR": "1", "TERM": "dumb"}).stdout


rich, plain = help_of("rich"), help_of(None)
print("rich: ", next(line.strip("│ ") for line in rich.splitlines() if "--strict" in line))
print("plain:", next(line.strip() for line in plain.splitlines() if "--strict" in line))
sys.exit(0 if "<bool>" in rich and "<bool>" not in plain else 1)
PYTHON
"$folder/venv/bin/python" "$folder/shown.py"
