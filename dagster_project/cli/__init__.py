"""The command line, `coupon-ledger`: options in, text out, exit codes.

Here belongs what a person types and sees at a terminal: one module per command or small group of
commands. What a command does or answers is defined in the packages below; nothing imports this one.
"""

from dagster_project.cli.app import app, main

__all__ = ["app", "main"]
