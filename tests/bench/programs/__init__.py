"""The programs compared: each makes the same five marts from the same typed records, as Parquet.

Here belong what they start from and end with (contract.py) and one module per program, each a command:
`python -m tests.bench.programs.<module> INPUTS OUTPUTS AS_OF`. Measuring and comparing them do not.
They share nothing but the contract: each is written as its own tool wants it. The numbers of the rules
(R1 to R12) are those of `dbt/rules.md`.
"""
