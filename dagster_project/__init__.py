"""The Python half of Coupon Ledger: it moves bytes, runs models, publishes releases, answers questions.

Arrival (bytes to raw tables), the Dagster definitions that run everything, releases, the command line
and the sample generator belong here. Rules about coupons and money do not: they are the dbt models.
"""
