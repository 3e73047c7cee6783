"""The command line, `coupon-ledger`: options in, text out, exit codes.

What a person types and sees at a terminal belongs here: one module per command or small group of
commands. What a command does or answers is defined in the packages below; no package imports this one.
"""

from dagster_project.cli.app import app, main

__all__ = ["app", "main"]
