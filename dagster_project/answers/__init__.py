"""The questions people ask a release, each a reading command: text for 80 columns, or JSON.

Here belongs one module per command or small group: it asks the open release (`asking`), puts the
facts into a plain dictionary, which is the JSON, and tells that dictionary as text (`layout`, `words`).
Only what the release holds is used; nothing here calculates a charge. Publishing does not belong here.
"""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the reading commands to the command line; loads nothing but their signatures."""
    from dagster_project.answers import commands

    for command in commands.COMMANDS:
        app.command()(command)
