"""Asks a batch what its contract says, with Great Expectations, and adds up the answers.

Here belongs everything that handles the library: a context that lives in memory, no progress bars,
frames in, counts out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import great_expectations as gx
import pandas as pd
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.validator.v1_validator import Validator

from dagster_project.feeds import Feed
from expectations.building import Contract, given_check, readable_check, unreadable_fact

SHOWN_VALUES = 3
SHOWN_CHARACTERS = 40
SHOWN = {"result_format": "BASIC", "partial_unexpected_count": SHOWN_VALUES}
"""What is told of rows: counts and some values."""
FEW_ROWS = 20
"""In fewer rows than these a share says nothing, so it refuses no file."""


@dataclass(frozen=True)
class Finding:
    """The answer to one check, over all frames of a batch.

    Attributes:
        check_name: Name of the check.
        severity: `error` if the file must not be loaded, `warn` if it is only told.
        passed: Whether it holds.
        observed: Counts and some values, never of a personal column.
    """

    check_name: str
    severity: Literal["error", "warn"]
    passed: bool
    observed: str


@dataclass
class _Answer:
    severity: str
    columns: list[str]
    asked: int = 0
    unexpected: int = 0
    failed: bool = False
    problem: str | None = None
    values: list[str] = field(default_factory=list)
    """Unexpected values as delivered; none of a missing value, or of a number derived from one."""


def ask(
    contract: Contract,
    frames: Iterable[pd.DataFrame],
    facts: Mapping[str, int],
    is_sample: bool,
) -> list[Finding]:
    """Ask a batch everything its contract says.

    Args:
        contract: The contract of its feed.
        frames: Its rows, in frames of text and integers; columns the file lacks are absent.
        facts: Integers about the whole file; an unknown fact is absent.
        is_sample: Whether the frames are a sample of the rows.

    Returns:
        One finding per check.
    """
    batches = _Batches()
    answers: dict[str, _Answer] = {}
    rows = 0
    for frame in frames:
        rows += len(frame)
        derived = contract.derive(frame)
        batches.validate(contract.rows_suite(list(derived.columns)), derived, SHOWN, answers)
    known = dict(facts)
    if rows >= FEW_ROWS:
        known |= _unreadable_percents(contract.feed, answers, rows)
    told: dict[str, _Answer] = {}
    one_row = pd.DataFrame({name: [value] for name, value in known.items()}, dtype="int64")
    batches.validate(contract.facts_suite(list(known)), one_row, "BOOLEAN_ONLY", told)
    personal = {column.name for column in contract.feed.columns if column.personal}
    unit = "sampled rows" if is_sample else "rows"
    findings = [
        _finding(name, answer, _rows_observed(answer, unit, bool(personal & set(answer.columns))))
        for name, answer in answers.items()
    ]
    findings += [
        _finding(name, answer, _facts_observed(answer, known)) for name, answer in told.items()
    ]
    return findings


class _Batches:
    """Validates frames in a context that lives in memory and is forgotten with this object."""

    def __init__(self) -> None:
        logging.getLogger("great_expectations").setLevel(logging.ERROR)
        self._context = gx.get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
            ),
        )
        self._context.variables.progress_bars = ProgressBarsConfig(
            globally=False, metric_calculations=False
        )
        source = self._context.data_sources.add_pandas("arrival")
        asset = source.add_dataframe_asset("delivery")
        self._definition: BatchDefinition[Any] = asset.add_batch_definition_whole_dataframe("batch")

    def validate(
        self,
        suite: gx.ExpectationSuite,
        frame: pd.DataFrame,
        told: str | dict[str, Any],
        answers: dict[str, _Answer],
    ) -> None:
        """Validate one frame and add the answers to those of the frames before.

        Done as a batch validates itself, less the batch that is made, and the frame that is hashed,
        to be made and hashed again.
        """
        validator = Validator(self._definition, told, {"dataframe": frame})
        outcome = validator.validate_expectation_suite(suite)
        for result in outcome.results:
            config = result.expectation_config
            assert config is not None, "a result without the expectation it answers"
            meta = config.meta
            answer = answers.setdefault(
                meta["check"], _Answer(str(config.severity.value), list(meta["columns"]))
            )
            answer.failed |= not result.success
            answer.problem = answer.problem or _problem(result.exception_info)
            answer.asked += int(result.result.get("element_count", 0))
            answer.unexpected += int(result.result.get("unexpected_count", 0))
            if config.kwargs.get("column") in answer.columns:
                shown = result.result.get("partial_unexpected_list", [])
                answer.values += [value for value in shown if isinstance(value, str)]


def _problem(info: Mapping[str, Any]) -> str | None:
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _unreadable_percents(feed: Feed, answers: Mapping[str, _Answer], rows: int) -> dict[str, int]:
    """Percent of rows in which a required value is missing or unreadable, rounded up."""
    percents = {}
    for name in feed.required_names:
        checks = (answers.get(given_check(name)), answers.get(readable_check(name)))
        bad = sum(answer.unexpected for answer in checks if answer is not None)
        percents[unreadable_fact(name)] = -(-bad * 100 // rows)
    return percents


def _finding(name: str, answer: _Answer, observed: str) -> Finding:
    if answer.problem is not None:
        problem = " ".join(answer.problem.split())[:200]
        return Finding(name, "warn", False, f"could not be asked: {problem}")
    severity: Literal["error", "warn"] = "error" if answer.severity == "critical" else "warn"
    return Finding(name, severity, not answer.failed, observed)


def _rows_observed(answer: _Answer, unit: str, is_personal: bool) -> str:
    if not answer.columns:
        return "a column is missing" if answer.failed else "all there"
    observed = f"{answer.unexpected} of {answer.asked} {unit}"
    if answer.unexpected and not is_personal:
        shown = dict.fromkeys(value[:SHOWN_CHARACTERS] for value in answer.values)
        values = ", ".join(repr(value) for value in list(shown)[:SHOWN_VALUES])
        observed += f", such as {values}" if values else ""
    return observed


def _facts_observed(answer: _Answer, facts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {facts[name]}" for name in answer.columns)
