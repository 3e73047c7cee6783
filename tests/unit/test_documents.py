"""README and docs: links that lead somewhere, tables as generated, a README that stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagster_project.settings import CHECKOUT, Settings
from tests.documents.pages import GUIDE, PAGES, README, queries, with_tables

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
ALL = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_the_readme_is_at_most_8_kb() -> None:
    assert len(README.read_bytes()) <= 8 * 1024


@ALL
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert file.is_relative_to(CHECKOUT), target
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


@ALL
def test_every_table_is_as_generated(page: Path) -> None:
    text = page.read_text("utf-8")
    assert with_tables(text) == text, "run `make documents`"


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    named = set(LINK.findall(README.read_text("utf-8")))
    pages = {path.relative_to(CHECKOUT).as_posix() for path in PAGES if path.parent.name == "docs"}
    assert pages <= {target.partition("#")[0] for target in named}


def test_the_guide_has_ten_questions_with_sql() -> None:
    assert len(queries()) >= 10
    assert GUIDE.read_text("utf-8").count("<!-- answer -->") == len(queries())


def test_every_setting_is_in_the_table_of_the_operations_page() -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
    for name in Settings.model_fields:
        assert f"| `{name.upper()}` |" in text


@ALL
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert "@@" not in page.read_text("utf-8")
