"""Check a batch against its contract, with Great Expectations, and add up the answers.

Everything that handles the library belongs here: a context in memory, no progress bars, frames in,
counts out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import great_expectations as gx
import numpy as np
import numpy.typing as npt
import pandas as pd
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.validator.v1_validator import Validator

from dagster_project.feeds import Column, Feed
from expectations.building import Contract, given_check, readable_check, unreadable_fact
from expectations.hints import explanation_of

SHOWN_VALUES = 3
SHOWN_CHARACTERS = 40
SHOWN = {"result_format": "BASIC", "partial_unexpected_count": SHOWN_VALUES}
"""What is reported of the rows of one file: counts and some values."""
LOCATED = {
    "result_format": "COMPLETE",
    "partial_unexpected_count": SHOWN_VALUES,
    "return_unexpected_index_query": False,
}
"""What is reported of the rows of several files: also which rows they are."""
DELIVERY, ROW = "delivery_sequence", "row_number"
"""Columns of a frame that are not checked: the delivery of the row, and its number."""
FEW_ROWS = 20
"""In fewer rows than these a share means nothing, so it refuses no file."""


@dataclass(frozen=True)
class Finding:
    """The answer to one check, over all frames of a batch.

    Attributes:
        check_name: Name of the check.
        severity: `error` if the file must not be loaded, `warn` if it is only reported.
        passed: Whether it holds.
        observed: Counts and some values, never of a personal column.
    """

    check_name: str
    severity: Literal["error", "warn"]
    passed: bool
    observed: str


Facts = Mapping[int, Mapping[str, int]]
"""Integers about whole files, by delivery; an unknown fact is absent."""


@dataclass
class _Answer:
    severity: str
    columns: list[str]
    asked: int = 0
    unexpected: int = 0
    failed: bool = False
    problem: str | None = None
    values: list[tuple[str, int | None]] = field(default_factory=list)
    """Unexpected values as delivered, each with its row; missing values and numbers derived from them
    are not among them."""


Answers = dict[int, dict[str, _Answer]]
"""By delivery and check."""


def ask(
    contract: Contract,
    frames: Iterable[pd.DataFrame],
    facts: Mapping[str, int],
    is_sample: bool,
) -> list[Finding]:
    """Check one batch against everything its contract says.

    Args:
        contract: The contract of its feed.
        frames: Its rows, in frames of text and integers; columns the file lacks are absent.
        facts: Integers about the whole file; an unknown fact is absent.
        is_sample: Whether the frames are a sample of the rows.

    Returns:
        One finding per check.
    """
    owned = (frame.assign(**{DELIVERY: 0}) for frame in frames)
    return ask_together(contract, owned, {0: facts}, lambda _: {}, is_sample)[0]


def ask_together(
    contract: Contract,
    frames: Iterable[pd.DataFrame],
    facts: Facts,
    usual: Callable[[Collection[int]], Facts],
    is_sample: bool,
) -> dict[int, list[Finding]]:
    """Check batches of one feed that lack the same columns against everything their contract says.

    Args:
        contract: The contract of their feed.
        frames: Their rows, in frames of text and integers, each with its delivery; columns that the
            files lack are absent.
        facts: What is known of each file.
        usual: What is known of each file once the refused files are known.
        is_sample: Whether the frames are a sample of the rows.

    Returns:
        One finding per check, by delivery.
    """
    batches = _Batches()
    answers: Answers = {delivery: {} for delivery in facts}
    rows = dict.fromkeys(facts, 0)
    for frame in frames:
        owners = frame[DELIVERY].to_numpy()
        numbers = frame[ROW].to_numpy() if ROW in frame else None
        for delivery, count in zip(*np.unique(owners, return_counts=True), strict=True):
            rows[int(delivery)] += int(count)
        plain = frame.drop(columns=[name for name in (DELIVERY, ROW) if name in frame])
        derived = contract.derive(plain)
        suite = contract.rows_suite(list(derived.columns))
        batches.validate(suite, derived, answers, owners, numbers)
    known = {
        delivery: dict(of_file)
        | (
            _unreadable_percents(contract.feed, answers[delivery], rows[delivery])
            if rows[delivery] >= FEW_ROWS
            else {}
        )
        for delivery, of_file in facts.items()
    }
    by_delivery = batches.ask_facts(contract, known)
    refused = [
        delivery
        for delivery, found in by_delivery.items()
        if any(answer.failed and answer.severity == "critical" for answer in found.values())
    ]
    compared = {delivery: of_file for delivery, of_file in usual(refused).items() if of_file}
    if compared:
        for delivery, more in batches.ask_facts(contract, compared).items():
            if delivery in by_delivery:
                by_delivery[delivery] |= more
                known[delivery] |= compared[delivery]
    personal = {column.name for column in contract.feed.columns if column.personal}
    unit = "sampled rows" if is_sample else "rows"
    findings: dict[int, list[Finding]] = {}
    for delivery, of_rows in answers.items():
        findings[delivery] = [
            _finding(
                name, answer, _rows_observed(answer, unit, bool(personal & set(answer.columns)))
            )
            for name, answer in of_rows.items()
        ]
        findings[delivery] += [
            _finding(name, answer, _facts_observed(contract.feed, answer, known[delivery], of_rows))
            for name, answer in by_delivery[delivery].items()
        ]
    return findings


class _Batches:
    """A validator of frames, in a context in memory that ends with this object."""

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
        answers: Answers,
        owners: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64] | None,
    ) -> None:
        """Validate one frame and add the answers to those of the frames before.

        Args:
            suite: What is checked.
            frame: The rows.
            answers: Those of every delivery.
            owners: The delivery of each row.
            numbers: The number of each row in its file, if known.
        """
        frame = frame.reset_index(drop=True)
        deliveries = [int(delivery) for delivery in np.unique(owners)] or list(answers)
        for result in self._results(suite, frame, SHOWN if len(deliveries) == 1 else LOCATED):
            config = result.expectation_config
            assert config is not None, "a result without the expectation it answers"
            places = result.result.get("unexpected_index_list")
            column = config.kwargs.get("column")
            for delivery in deliveries:
                meta = config.meta
                answer = answers[delivery].setdefault(
                    meta["check"], _Answer(str(config.severity.value), list(meta["columns"]))
                )
                answer.problem = answer.problem or _problem(result.exception_info)
                if len(deliveries) == 1:
                    answer.asked += int(result.result.get("element_count", 0))
                    answer.unexpected += int(result.result.get("unexpected_count", 0))
                    answer.failed |= not result.success
                else:
                    answer.asked += int((owners == delivery).sum())
                    answer.failed |= not result.success and not places
                if column in answer.columns and len(deliveries) == 1:
                    shown = result.result.get("partial_unexpected_list", [])
                    answer.values += [
                        (value, _first(frame, column, value, numbers))
                        for value in shown
                        if isinstance(value, str)
                    ]
            for place in places or () if len(deliveries) > 1 else ():
                answer = answers[int(owners[place])][config.meta["check"]]
                answer.unexpected += 1
                answer.failed = True
                value = frame[column][place] if column in answer.columns else None
                if isinstance(value, str) and len(answer.values) < SHOWN_VALUES:
                    answer.values.append((value, None if numbers is None else int(numbers[place])))

    def ask_facts(self, contract: Contract, facts: Facts) -> Answers:
        """Check what is known of whole files, a row for each; an unknown fact is not checked."""
        names = list(dict.fromkeys(name for of_file in facts.values() for name in of_file))
        frame = pd.DataFrame(
            {
                name: pd.array([of_file.get(name) for of_file in facts.values()], dtype="Int64")
                for name in names
            }
        )
        whole = [name for name in names if not frame[name].isna().any()]
        frame = frame.astype(dict.fromkeys(whole, "int64"))
        deliveries = list(facts)
        answers: Answers = {delivery: {} for delivery in deliveries}
        result_format = "BOOLEAN_ONLY" if len(deliveries) == 1 else LOCATED
        for result in self._results(contract.facts_suite(names), frame, result_format):
            config = result.expectation_config
            assert config is not None, "a result without the expectation it answers"
            places = set(result.result.get("unexpected_index_list") or ())
            for place, delivery in enumerate(deliveries):
                if config.kwargs["column"] in facts[delivery]:
                    meta = config.meta
                    answers[delivery][meta["check"]] = _Answer(
                        str(config.severity.value),
                        list(meta["columns"]),
                        failed=place in places if len(deliveries) > 1 else not result.success,
                        problem=_problem(result.exception_info),
                    )
        return answers

    def _results(
        self, suite: gx.ExpectationSuite, frame: pd.DataFrame, result_format: str | dict[str, Any]
    ) -> Sequence[ExpectationValidationResult]:
        """Validate one frame.

        This does what a batch's own validation does, without making the batch and hashing the frame
        again each time.
        """
        validator = Validator(self._definition, result_format, {"dataframe": frame})
        results: Sequence[ExpectationValidationResult] = validator.validate_expectation_suite(
            suite
        ).results
        return results


def _first(
    frame: pd.DataFrame, column: str, value: str, numbers: npt.NDArray[np.int64] | None
) -> int | None:
    """Return the first row that has a value, by its number in the file."""
    if numbers is None:
        return None
    return int(numbers[(frame[column] == value).to_numpy(dtype=bool, na_value=False).argmax()])


def _problem(info: Mapping[str, Any]) -> str | None:
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _unreadable_percents(feed: Feed, answers: Mapping[str, _Answer], rows: int) -> dict[str, int]:
    """Return the percentage of rows whose required value is missing or unreadable, rounded up."""
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
        shown = dict.fromkeys(value[:SHOWN_CHARACTERS] for value, _ in answer.values)
        values = ", ".join(repr(value) for value in list(shown)[:SHOWN_VALUES])
        observed += f", such as {values}" if values else ""
    return observed


def _facts_observed(
    feed: Feed, answer: _Answer, facts: Mapping[str, int], of_rows: Mapping[str, _Answer]
) -> str:
    observed = ", ".join(f"{name.replace('_', ' ')}: {facts[name]}" for name in answer.columns)
    if not answer.failed:
        return observed
    for column in feed.columns:
        if unreadable_fact(column.name) in answer.columns:
            observed += f"; {_what_is_unreadable(column, of_rows.get(readable_check(column.name)))}"
    return observed


def _what_is_unreadable(column: Column, answer: _Answer | None) -> str:
    """Return the first unreadable value, its place, and what is expected."""
    if answer is None or not answer.values:
        return explanation_of(column, None)
    value, row = answer.values[0]
    where = "" if row is None else f"row {row}: "
    if column.personal:
        return f"{where}{explanation_of(column, None)}"
    return f"{where}{value[:SHOWN_CHARACTERS]!r}: {explanation_of(column, value)}"
