"""What Dagster runs: assets, checks, the job, its schedule and sensor.

Thin by rule: every body is a call into a package beside this one. Each module gives its part as
`defs(...)`, built when asked, so that nothing is read on import.
"""
