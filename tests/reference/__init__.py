"""The second witness: what the rules say, worked out slowly in plain Python, and what tests it.

Here belong the reference model, the histories it is tried on, its own tests, and what says where
published marts differ from it. Nothing here may be derived from the dbt models: the two agree only
because they follow the same rules.
"""
