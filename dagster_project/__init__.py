"""The Python half of Coupon Ledger: what moves bytes, what runs, what is published, what is asked.

Here belong arrival (bytes to raw tables), the Dagster definitions that run everything, releases, the
command line and the sample generator. Rules about coupons and money do not: they are the dbt models.
"""
