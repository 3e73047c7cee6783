"""The second witness: what the rules say, worked out slowly in plain Python, and what tests it.

The reference model, the histories it is tried on, its own tests, and the comparison of published marts
with it belong here. Nothing here may be derived from the dbt models: the two agree only because they
follow the same rules.
"""
