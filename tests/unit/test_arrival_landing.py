"""Which names are deliveries, of which format."""

from __future__ import annotations

import pytest

from dagster_project.arrival.landing import format_of, is_delivery_name
from dagster_project.arrival.report import Refusal


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", ("csv", False)),
        ("a.csv.gz", ("csv", True)),
        ("A.JSONL", ("jsonl", False)),
        ("a.jsonl.GZ", ("jsonl", True)),
        ("a.b.parquet", ("parquet", False)),
        ("a.json", ("jsonl", False)),
        ("a.JSON.gz", ("jsonl", True)),
        ("a.ndjson", ("jsonl", False)),
        ("a.ndjson.gz", ("jsonl", True)),
        ("part-0.gz.parquet", ("parquet", False)),
    ],
)
def test_the_extension_says_the_format(name: str, expected: tuple[str, bool]) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize(
    "name",
    ["a", "a.gz", "a.txt", "a.csv.zip", "a.parquet.gz", "csv", "a.csv ", "a.json.zst", "a.xlsx"],
)
def test_any_other_extension_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="unknown extension"):
        format_of(name)


@pytest.mark.parametrize("name", ["a.csv.part", "a.PART", ".a.csv", "a.csv.manifest.json", ".part"])
def test_unfinished_hidden_and_accompanying_files_are_not_deliveries(name: str) -> None:
    assert not is_delivery_name(name)


@pytest.mark.parametrize("name", ["a.csv", "part.csv", "manifest.json", "a.part.csv", "-a"])
def test_any_other_file_is_meant_as_a_delivery(name: str) -> None:
    assert is_delivery_name(name)
