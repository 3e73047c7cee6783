"""Check a batch against its contract, with Great Expectations, and add up the answers.

Everything that handles the library belongs here: suites prepared once, frames in, counts out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import great_expectations as gx
import numpy as np
import numpy.typing as npt
import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.validator.metrics_calculator import MetricsCalculator
from great_expectations.validator.validator import ValidationDependencies

from dagster_project.feeds import Column, Feed
from expectations.building import Contract, given_check, readable_check, unreadable_fact
from expectations.hints import explanation_of

SHOWN_VALUES = 3
SHOWN_CHARACTERS = 40
SHOWN = {"result_format": "BASIC", "partial_unexpected_count": SHOWN_VALUES}
"""What is reported about the rows of one file: counts and some values."""
LOCATED = {
    "result_format": "COMPLETE",
    "partial_unexpected_count": SHOWN_VALUES,
    "return_unexpected_index_query": False,
}
"""What is reported about the rows of several files: also which rows they are."""
DELIVERY, ROW = "delivery_sequence", "row_number"
"""Columns of a frame that are not checked: the delivery of the row, and its number."""
FEW_ROWS = 20
"""With fewer rows than this, a percentage means nothing, so it refuses no file."""


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

Shares = dict[int, dict[str, tuple[int, int]]]
"""By delivery and fact: the rows for which a statement is true, and those for which it is true or false."""


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
    answers: Answers = {delivery: {} for delivery in facts}
    rows = dict.fromkeys(facts, 0)
    shares: Shares = {delivery: {} for delivery in facts}
    for frame in frames:
        owners = frame[DELIVERY].to_numpy()
        numbers = frame[ROW].to_numpy() if ROW in frame else None
        for delivery, count in zip(*np.unique(owners, return_counts=True), strict=True):
            rows[int(delivery)] += int(count)
        plain = frame.drop(columns=[name for name in (DELIVERY, ROW) if name in frame])
        derived = contract.derive(plain)
        _count_shares(contract, derived, owners, shares)
        _validate(contract, derived, answers, owners, numbers)
    known = {
        delivery: dict(of_file)
        | (
            _unreadable_percents(contract.feed, answers[delivery], rows[delivery])
            if rows[delivery] >= FEW_ROWS
            else {}
        )
        | _share_percents(shares[delivery])
        for delivery, of_file in facts.items()
    }
    by_delivery = _ask_facts(contract, known)
    refused = [
        delivery
        for delivery, found in by_delivery.items()
        if any(answer.failed and answer.severity == "critical" for answer in found.values())
    ]
    compared = {delivery: of_file for delivery, of_file in usual(refused).items() if of_file}
    if compared:
        for delivery, more in _ask_facts(contract, compared).items():
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
            _finding(name, answer, _facts_observed(contract, answer, known[delivery], of_rows))
            for name, answer in by_delivery[delivery].items()
        ]
    return findings


@dataclass(frozen=True)
class _Question:
    """An expectation, with the metrics that its answer is made of."""

    expectation: Expectation
    dependencies: ValidationDependencies


@dataclass(frozen=True)
class _Answered:
    """The result of an expectation on a frame."""

    expectation: Expectation
    success: bool
    result: Mapping[str, Any]
    problem: str | None


class _Asked:
    """A suite that frames are validated against, prepared once for all of them.

    The library's own validator of a batch prepares the metrics of every expectation again for each frame,
    twice, and hashes the frame: for small files that is most of the gate's cost.
    """

    def __init__(self, suite: gx.ExpectationSuite, result_format: str | dict[str, Any]) -> None:
        self._engine = PandasExecutionEngine()
        self._calculator = MetricsCalculator(self._engine, show_progress_bars=False)
        self._configuration = {"result_format": result_format, "catch_exceptions": True}
        of_columns: dict[str | None, list[Expectation]] = {}
        for expectation in suite.expectations:
            of_columns.setdefault(getattr(expectation, "column", None), []).append(expectation)
        self._questions = [
            _Question(
                expectation,
                expectation.get_validation_dependencies(
                    execution_engine=self._engine, runtime_configuration=self._configuration
                ),
            )
            for together in of_columns.values()
            for expectation in together
        ]
        self._graph = self._calculator.build_metric_dependency_graph(
            [
                metric
                for question in self._questions
                for metric in question.dependencies.get_metric_configurations()
            ],
            self._configuration,
        )

    def answers(self, frame: pd.DataFrame) -> list[_Answered]:
        """Validate a frame."""
        self._engine.load_batch_data("frame", frame)
        try:
            metrics, aborted = self._calculator.resolve_validation_graph(
                self._graph, self._configuration
            )
            return [self._answer(question, metrics, aborted) for question in self._questions]
        finally:
            self._engine.load_batch_data("frame", pd.DataFrame())  # frees the rows

    def _answer(
        self, question: _Question, metrics: Mapping[Any, Any], aborted: Mapping[Any, Any]
    ) -> _Answered:
        needed = question.dependencies.metric_configurations
        try:
            found = question.expectation._validate(
                metrics={name: metrics[metric.id] for name, metric in needed.items()},
                runtime_configuration={"result_format": question.dependencies.result_format},
                execution_engine=self._engine,
            )
        except Exception as error:  # noqa: BLE001 (a failed check is an answer, too)
            reasons = [info["exception_info"].exception_message for info in aborted.values()]
            problem = next(iter(reasons), f"{type(error).__name__}: {error}")
            return _Answered(question.expectation, False, {}, problem)
        assert isinstance(found, dict), "an expectation that makes its result itself"
        return _Answered(
            question.expectation, bool(found["success"]), found.get("result", {}), None
        )


@cache
def _asked_of_rows(contract: Contract, columns: tuple[str, ...], is_located: bool) -> _Asked:
    return _Asked(contract.rows_suite(columns), LOCATED if is_located else SHOWN)


@cache
def _asked_of_facts(contract: Contract, facts: tuple[str, ...], is_located: bool) -> _Asked:
    return _Asked(contract.facts_suite(facts), LOCATED if is_located else "BOOLEAN_ONLY")


def _validate(
    contract: Contract,
    frame: pd.DataFrame,
    answers: Answers,
    owners: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64] | None,
) -> None:
    """Validate one frame and add the answers to those of earlier frames.

    Args:
        contract: What is checked.
        frame: The rows.
        answers: The answers so far, by delivery.
        owners: The delivery of each row.
        numbers: The number of each row in its file, if known.
    """
    frame = frame.reset_index(drop=True)
    deliveries = [int(delivery) for delivery in np.unique(owners)] or list(answers)
    asked = _asked_of_rows(contract, tuple(frame.columns), len(deliveries) > 1)
    for answered in asked.answers(frame):
        places = answered.result.get("unexpected_index_list")
        column = getattr(answered.expectation, "column", None)
        meta = answered.expectation.meta or {}
        for delivery in deliveries:
            answer = answers[delivery].setdefault(
                meta["check"], _Answer(_severity(answered), list(meta["columns"]))
            )
            answer.problem = answer.problem or answered.problem
            if len(deliveries) == 1:
                answer.asked += int(answered.result.get("element_count", 0))
                answer.unexpected += int(answered.result.get("unexpected_count", 0))
                answer.failed |= not answered.success
            else:
                answer.asked += int((owners == delivery).sum())
                answer.failed |= not answered.success and not places
            if column in answer.columns and len(deliveries) == 1:
                shown = answered.result.get("partial_unexpected_list", [])
                answer.values += [
                    (value, _first(frame, column, value, numbers))
                    for value in shown
                    if isinstance(value, str)
                ]
        for place in places or () if len(deliveries) > 1 else ():
            answer = answers[int(owners[place])][meta["check"]]
            answer.unexpected += 1
            answer.failed = True
            value = frame[column][place] if column in answer.columns else None
            if isinstance(value, str) and len(answer.values) < SHOWN_VALUES:
                answer.values.append((value, None if numbers is None else int(numbers[place])))


def _ask_facts(contract: Contract, facts: Facts) -> Answers:
    """Check the facts about whole files, with a row for each file; an unknown fact is not checked."""
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
    asked = _asked_of_facts(contract, tuple(names), len(deliveries) > 1)
    for answered in asked.answers(frame):
        places = set(answered.result.get("unexpected_index_list") or ())
        meta = answered.expectation.meta or {}
        for place, delivery in enumerate(deliveries):
            if getattr(answered.expectation, "column", None) in facts[delivery]:
                answers[delivery][meta["check"]] = _Answer(
                    _severity(answered),
                    list(meta["columns"]),
                    failed=place in places if len(deliveries) > 1 else not answered.success,
                    problem=answered.problem,
                )
    return answers


def _severity(answered: _Answered) -> str:
    return str(FailureSeverity(answered.expectation.severity).value)


def _first(
    frame: pd.DataFrame, column: str, value: str, numbers: npt.NDArray[np.int64] | None
) -> int | None:
    """Return the first row that has a value, by its number in the file."""
    if numbers is None:
        return None
    return int(numbers[(frame[column] == value).to_numpy(dtype=bool, na_value=False).argmax()])


def _count_shares(
    contract: Contract, frame: pd.DataFrame, owners: npt.NDArray[np.int64], shares: Shares
) -> None:
    """Add the rows of a frame to the counts so far."""
    for one in contract.shares:
        for delivery in map(int, np.unique(owners)):
            values = frame.loc[owners == delivery, one.column]
            true, asked = shares[delivery].get(one.fact_name, (0, 0))
            shares[delivery][one.fact_name] = true + int(values.sum()), asked + int(values.count())


def _share_percents(counts: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return the percentages, rounded up, where there are enough rows to tell a mistake from chance."""
    return {
        name: -(-true * 100 // asked) for name, (true, asked) in counts.items() if asked >= FEW_ROWS
    }


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
    contract: Contract, answer: _Answer, facts: Mapping[str, int], of_rows: Mapping[str, _Answer]
) -> str:
    observed = ", ".join(_fact_in_words(name, facts[name]) for name in answer.columns)
    if not answer.failed:
        return observed
    for one in contract.shares:
        if one.fact_name in answer.columns:
            observed += f"; {one.remedy}"
    for column in contract.feed.columns:
        if unreadable_fact(column.name) in answer.columns:
            observed += f"; {_what_is_unreadable(column, of_rows.get(readable_check(column.name)))}"
    return observed


def _fact_in_words(name: str, number: int) -> str:
    """Return a fact as text: `malformed rows: 2`, `malformed: 51%`, `rows: 12% of usual`."""
    what, percent, rest = name.replace("_", " ").partition(" percent")
    return f"{what}: {number}%{rest}" if percent else f"{what}: {number}"


def _what_is_unreadable(column: Column, answer: _Answer | None) -> str:
    """Return the first unreadable value, its place, and what is expected."""
    if answer is None or not answer.values:
        return explanation_of(column, None)
    value, row = answer.values[0]
    where = "" if row is None else f"row {row}: "
    if column.personal:
        return f"{where}{explanation_of(column, None)}"
    return f"{where}{value[:SHOWN_CHARACTERS]!r}: {explanation_of(column, value)}"
