"""The tables of a release: their sources, keys and descriptions.

The marts are those in dbt's manifest, and the one of what has changed in closed months. The pedigree is what a
reader needs to trace a number back to the files that were delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_project.quoting import quote
from dagster_project.releases import candidate, restatements
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.fingerprint import Column

# The pedigree's tables that are copied from the build: name, source, order, columns and meaning.
_DELIVERIES = {
    "delivery_id": "Identifies the delivery.",
    "feed": "Feed it belongs to.",
    "file_name": "Path of the file in the landing folder.",
    "sha256": "Fingerprint of its bytes, under which the archive keeps it.",
    "arrived_at": "When a run first saw it, in UTC.",
    "verdict": "Whether the file was loaded or refused.",
    "refusal_reason": "Why it was refused, if it was.",
    "notes": "What was accepted in it and is worth noting, with counts by column.",
    "physical_rows": "Records in the file, counted independently.",
    "blank_rows": "Blank lines in the file, which are no records.",
    "accepted_rows": "Records that count.",
    "superseded_rows": "Records with a later version.",
    "duplicate_rows": "Records that repeat another one exactly.",
    "rejected_rows": "Records rejected with a reason.",
}
_REJECTED = {
    "delivery_id": "Delivery the row came in.",
    "feed": "Feed of the delivery.",
    "file_name": "Path of the file in the landing folder.",
    "row_number": "Row as in the file: 1 is the first record after the header.",
    "reasons": "Every reason why it was rejected.",
    "record": "The row as delivered, without personal data.",
}
_SUPERSEDED = {
    "delivery_id": "Delivery the row came in.",
    "feed": "Feed of the delivery.",
    "file_name": "Path of the file in the landing folder.",
    "row_number": "Row as in the file: 1 is the first record after the header.",
    "record_id": "Id of the record the row is a version of.",
    "updated_at": "When the source says the version was made, in UTC.",
}
_NOT_COUNTED = {
    "invoice_id": "Identifies the invoice.",
    "workspace_id": "The workspace billed.",
    "status": "Status of its current version.",
    "reason": "draft or void; after_as_of_date: issued after the last day whose events count.",
    "plan": "The plan billed.",
    "billing_interval": "The unit in which the plan is billed.",
    "interval_count": "How many of these units each bill is for.",
    "currency": "Currency of its amounts.",
    "period_start": "Start of the period billed.",
    "period_end": "End of the period billed.",
    "issued_at": "When it was or will be issued, in UTC.",
    "list_amount": "Its list amount, before discounts and credit.",
    "billed_discount_amount": "The discount it shows.",
    "billed_credit_amount": "The credit it shows.",
    "updated_at": "When the source says its current version was made, in UTC.",
    "delivery_id": "Delivery its current version came in.",
    "delivery_row": "Row of that file: 1 is the first record after the header.",
}
_COUPON_VERSIONS = {
    "coupon_id": "Identifies the coupon.",
    "version_number": "Place among the versions of the coupon, from 1 on.",
    "updated_at": "When the source says the version was made, in UTC.",
    "is_current": "Whether it is the version that holds, for the past too.",
    "coupon_name": "Name for people.",
    "program": "The program it belongs to.",
    "discount_type": "percent_off, amount_off or credit.",
    "percent_off": "Percentage taken off, 0 to 100.",
    "amount_off": "Amount taken off, in major units.",
    "amount_off_per": "Whether amount_off is per invoice or per month of its period.",
    "credit_amount": "Credit granted per period, in major units.",
    "credit_period_months": "Months a grant of credit is valid.",
    "credit_max_periods": "How many grants there are at most.",
    "credit_priority": "Order in which grants are drawn on, lowest first.",
    "currency": "Currency of its amounts.",
    "applies_to_plan": "The only plan it applies to, if any.",
    "applies_to_interval": "The only billing interval it applies to, if any.",
    "duration": "once, repeating or forever.",
    "duration_months": "Months it lasts.",
    "duration_invoices": "Invoices it lasts for.",
    "redeem_by": "Last instant it may be redeemed, in UTC.",
    "max_redemptions": "How often it may be redeemed.",
    "requires_no_prior_coupon": "Whether it is only for those who had no other coupon.",
    "once_per": "What may redeem it only once.",
    "follow_up_coupon_id": "The coupon that starts the moment it expires.",
    "delivery_id": "Delivery the version came in.",
    "delivery_row": "Row of that file: 1 is the first record after the header.",
}


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a release.

    Attributes:
        schema: `marts` or `release`.
        name: Its name.
        source: The relation in the build it is copied from, as quoted SQL.
        columns: Columns to copy with their descriptions; None copies all.
        key: Columns that identify a row; tables that publication itself writes are in this order.
        description: What a row is.
        unique_id: dbt's id of the model that the table copies with all columns, if any.
    """

    schema: str
    name: str
    source: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    description: str
    unique_id: str = ""

    @property
    def full_name(self) -> str:
        """Schema and name, as quoted SQL."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def selected(self) -> str:
        """The rows in the build, as quoted SQL."""
        if self.schema == "marts":
            return self.source
        return f"(select {', '.join(map(quote, self.columns))} from {self.source})"


def mart_tables(manifest: Mapping[str, Any]) -> list[Table]:
    """Return the marts a manifest promises, by name.

    Raises:
        ReleaseError: There is no mart, or a mart has no `config.meta.primary_key`.
    """
    tables = []
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] != "model" or node["schema"] != "marts":
            continue
        key = (node["config"].get("meta") or {}).get("primary_key")
        if not key:
            raise ReleaseError(
                f"The mart {node['name']} ({node['original_file_path']}) has no key.",
                "Give it config.meta.primary_key, the list of columns that identify a row.",
            )
        tables.append(
            Table(
                schema="marts",
                name=str(node["alias"]),
                source=f"{candidate.DATABASE}.marts.{quote(str(node['alias']))}",
                columns={
                    name: _one_line(column["description"])
                    for name, column in node["columns"].items()
                },
                key=tuple([key] if isinstance(key, str) else key),
                description=_one_line(node["description"]),
                unique_id=unique_id,
            )
        )
    if not tables:
        raise ReleaseError(
            "The dbt project has no model in schema marts.", "Check dbt_project.yml."
        )
    return sorted(tables, key=lambda table: table.name)


def restatements_table() -> Table:
    """Return the mart of what has changed in closed months, which no model makes."""
    return Table(
        schema="marts",
        name=restatements.NAME,
        source=restatements.SOURCE,
        columns=restatements.COLUMNS,
        key=restatements.KEY,
        description=restatements.DESCRIPTION,
    )


def pedigree_contents() -> list[Table]:
    """Return the tables that are copied from the build besides the marts."""
    return [
        Table(
            schema="release",
            name="deliveries",
            source="build.intermediate.int_deliveries_reconciled",
            columns=_DELIVERIES,
            key=("arrived_at", "feed", "file_name", "delivery_id"),
            description="One row per delivered file: what became of it and of its rows.",
        ),
        Table(
            schema="release",
            name="rejected_rows",
            source="build.staging.stg_billing__rejected_rows",
            columns=_REJECTED,
            key=("delivery_id", "feed", "row_number", "reasons", "record"),
            description="One row per delivered row that was rejected, as it came.",
        ),
        Table(
            schema="release",
            name="superseded_rows",
            source="build.intermediate.int_rows_superseded",
            columns=_SUPERSEDED,
            key=("feed", "record_id", "updated_at", "delivery_id", "row_number"),
            description="One row per delivered row of a record that has a later version.",
        ),
        Table(
            schema="release",
            name="invoices_not_counted",
            source="build.intermediate.int_invoices_not_counted",
            columns=_NOT_COUNTED,
            key=("invoice_id",),
            description="One row per invoice on record that does not count, with the reason (R1).",
        ),
        Table(
            schema="release",
            name="coupon_versions",
            source="build.intermediate.int_coupon_versions_delivered",
            columns=_COUPON_VERSIONS,
            key=("coupon_id", "version_number"),
            description="One row per delivered version of a coupon, with its terms.",
        ),
    ]


def pedigree_sources() -> dict[str, Mapping[str, str]]:
    """Return the models that a release copies besides the marts, each with the columns copied."""
    return {table.source.removeprefix("build."): table.columns for table in pedigree_contents()}


def pedigree_tables() -> set[tuple[str, str]]:
    """Return the schema and name of the models that a release copies besides the marts."""
    return {
        (schema, name) for schema, _, name in (one.partition(".") for one in pedigree_sources())
    }


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())


def is_amount(column: Column) -> bool:
    """Return whether a column holds amounts of money, not percentages or quantities."""
    return column.type.startswith("DECIMAL") and "amount" in column.name.split("_")


def comments(table: Table, columns: Sequence[Column]) -> dict[str, str]:
    """Return the columns' comments, with warnings for amounts and instants.

    A reader who adds up a column sees its comment, not this project. So the comment of an amount says never to
    add currencies, and that of an instant says UTC, because instants have no zone in the file.

    Args:
        table: The table.
        columns: The columns that it has.
    """
    said = {}
    for column in columns:
        text = table.columns.get(column.name, "")
        if is_amount(column) and "per currency" not in text.lower():
            text = f"{text} Per currency: never add amounts of different currencies."
        if column.type == "TIMESTAMP" and "UTC" not in text:
            text = f"{text} In UTC."
        if text:
            said[column.name] = text.strip()
    return said
