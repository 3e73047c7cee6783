"""What README and docs show is what the commands print on the sample, and every question has an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.releases import open_release
from tests.documents.pages import PAGES, asking, queries, with_outputs, without_accidents
from tests.pipeline.conftest import SampleRun


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_output_shown_is_the_real_one(page: Path, sample_run: SampleRun) -> None:
    text = page.read_text("utf-8")
    made = with_outputs(text, asking(sample_run.home, sample_run.result.stdout))
    assert without_accidents(made) == without_accidents(text), "run `make documents`"


@pytest.mark.parametrize("number", range(1, len(queries()) + 1))
def test_a_question_of_the_guide_has_an_answer(sample_run: SampleRun, number: int) -> None:
    with open_release(sample_run.home) as connection:
        assert connection.execute(queries()[number - 1]).fetchall()
