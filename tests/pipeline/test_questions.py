"""The README's questions have answers on the sample."""

from __future__ import annotations

import pytest

from dagster_project.releases import open_release
from tests.pipeline.conftest import SampleRun
from tests.unit.test_readme import queries


@pytest.mark.parametrize("number", range(1, 11))
def test_a_question_of_the_readme_has_an_answer(sample_run: SampleRun, number: int) -> None:
    with open_release(sample_run.home) as connection:
        assert connection.execute(queries()[number - 1]).fetchall()
