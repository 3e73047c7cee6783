"""The compared programs: each makes the same five marts from the same typed records, as Parquet.

The inputs and results of all programs (contract.py) and one module per program belong here, each a
command: `python -m tests.bench.programs.<module> INPUTS OUTPUTS AS_OF`. Measuring and comparing do not.
The programs share only the contract: each is written in the idiom of its own tool. The numbers of the
rules (R1 to R12) are those of `dbt/rules.md`.
"""
