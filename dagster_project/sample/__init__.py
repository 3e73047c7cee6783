"""A seeded sample: the deliveries of an invented billing system, and the truth about them.

The invented workspaces, a plain invoice-by-invoice billing engine of their supplier, the errors it is
made to commit, and the files it drops belong here. Nothing here is part of the calculation: the dbt
models never see this package, so they can be measured against the truth it writes. Only the standard
library is imported (and pyarrow inside one function, for the one Parquet file), except in scale.py, which
has DuckDB copy a sample until it is large.
"""

from dagster_project.sample.generate import SampleSummary, generate_sample

__all__ = ["SampleSummary", "generate_sample"]
