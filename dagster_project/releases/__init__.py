"""Releases: read-only DuckDB files of checked marts, and the one pointer to the current release.

Everything that may touch `HOME/releases` and `HOME/current` belongs here: the gate a build must pass,
building and verifying a release, flipping the pointer, opening, listing, comparing, restoring,
pruning, and closing months. Calculating marts belongs to dbt, deciding when to refresh to Dagster.
"""

from dagster_project.releases.closing import (
    Closing,
    check_closable,
    close,
    closed_months,
    parse_month,
    register,
    reopen,
)
from dagster_project.releases.compare import TableDifference, diff, diff_cells
from dagster_project.releases.errors import (
    Busy,
    NoRelease,
    PublishRefused,
    ReleaseError,
)
from dagster_project.releases.files import current_release, release_ids, served_release
from dagster_project.releases.gate import Build, Check, Judgement, Problem, judge
from dagster_project.releases.lock import one_writer
from dagster_project.releases.publishing import Publication, publish
from dagster_project.releases.read import (
    ReleaseSummary,
    Verification,
    list_releases,
    open_release,
    verify,
)
from dagster_project.releases.retention import Pruned, prune, restore

__all__ = [
    "Build",
    "Busy",
    "Check",
    "Closing",
    "Judgement",
    "NoRelease",
    "Problem",
    "Pruned",
    "Publication",
    "PublishRefused",
    "ReleaseError",
    "ReleaseSummary",
    "TableDifference",
    "Verification",
    "check_closable",
    "close",
    "closed_months",
    "current_release",
    "diff",
    "diff_cells",
    "judge",
    "list_releases",
    "one_writer",
    "open_release",
    "parse_month",
    "prune",
    "publish",
    "register",
    "release_ids",
    "reopen",
    "restore",
    "served_release",
    "verify",
]
