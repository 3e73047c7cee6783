"""Who reads a release, as assets downstream of it: dbt's exposures.

How they are shown belongs here. Who they are and what they read is defined beside the marts, in dbt.
"""

import dagster as dg

from dagster_project.defs import release
from dagster_project.defs.tables import code
from dagster_project.product import DBT_PROJECT
from dagster_project.refresh.dbt_build import Project

GROUP = "consumers"


def defs(project: Project) -> dg.Definitions:
    """Return the consumers of the release; none of them is built here."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                [GROUP, exposure["name"]],
                deps=[release.STEP],
                group_name=GROUP,
                description=" ".join(exposure["description"].split()),
                owners=[f"team:{exposure['owner']['name']}"],
                kinds={exposure["type"]},
                metadata={
                    "label": exposure["label"],
                    "reads": dg.MetadataValue.md(
                        "\n".join(
                            f"- `marts.{one.split('.')[-1]}`"
                            for one in exposure["depends_on"]["nodes"]
                        )
                    ),
                    **code(DBT_PROJECT / exposure["original_file_path"]),
                },
            )
            for exposure in project.manifest["exposures"].values()
        ]
    )
