"""`python -m dagster_project.cli`, the same as `coupon-ledger`."""

from dagster_project.cli.app import main

main()
