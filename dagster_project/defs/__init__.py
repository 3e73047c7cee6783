"""What Dagster runs: assets, checks, the job, its schedule and sensor.

This package is thin by rule: every body is a call into a package beside it. Each module returns its part
from `defs(...)`, built on demand, so nothing is read on import.
"""
