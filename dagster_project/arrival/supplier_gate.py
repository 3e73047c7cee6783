"""The supplier's gate: checks loaded but not yet committed batches against their contract.

Making frames and facts from the raw tables belongs here. What is checked is defined in `expectations/`;
nothing of Great Expectations or pandas is imported before a batch is checked.

A file of up to 200,000 rows is checked row by row, in frames of 100,000. In a larger file, every n-th row
is checked, some 50,000 evenly spread over the file; checks that need all rows (repeated keys, references,
counts) are aggregates over the whole file by DuckDB. So a million rows take about two seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import duckdb

from dagster_project.arrival.report import GateResult, Refusal
from dagster_project.arrival.rows import AMOUNT_PLACES, OwnParquet, sample_step
from dagster_project.arrival.warehouse import (
    Batch,
    RawRows,
    landed_relation,
    landed_sample,
    relation,
    text_of,
    value_name,
)
from dagster_project.feeds import Column, Feed, feeds
from dagster_project.quoting import quote

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from expectations import Contract

FRAME_ROWS = 100_000
DRIFT_SAMPLE_ROWS = 20_000
RECENT_DELIVERIES = 5
FEW_DELIVERIES = 3
FEW_ROWS = 20
MOST_DIGITS = 14
"""The most digits before the point of a number that is checked; fewer if it has more than two places
(`_most_digits`)."""
REMEDY = (
    "correct the values or the rows that it names; if they look like those of other columns, check that"
    " the file is of this feed and delimited as its header says"
)


def gate_refusal(results: Sequence[GateResult]) -> Refusal | None:
    """Return the refusal of a file by the gate; None if no check of severity error fails."""
    failed = [result for result in results if result.severity == "error" and not result.passed]
    if not failed:
        return None
    reason = "; ".join(f"{result.check_name}: {result.observed}" for result in failed)
    return Refusal(f"the supplier's gate stops it ({reason})", REMEDY)


def ask_gate(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    batches: Sequence[Batch],
    rows: RawRows,
) -> dict[int, tuple[GateResult, ...]]:
    """Check batches against the contract of their feed, together but each with its own results.

    Args:
        connection: The warehouse, within the transaction that loaded the batches.
        feed: Their feed.
        batches: The batches, in the order of their delivery_sequence.
        rows: Where their rows are.

    Returns:
        One result per check, by delivery_sequence.
    """
    from expectations import CONTRACTS, ask_together

    contract = CONTRACTS[feed.name]
    paths = [rows.path(feed.name, batch.sequence) for batch in batches]
    loaded = relation(feed, paths)
    most = max(batch.prepared.good_rows for batch in batches)
    step = sample_step(most)
    facts = _facts(connection, contract, batches, loaded)

    def usual(refused: Collection[int]) -> dict[int, dict[str, int]]:
        return _usual(connection, contract, batches, refused, rows)

    answers: dict[int, tuple[GateResult, ...]] = {}
    for absent, alike in _by_absent_columns(batches).items():
        frames = _frames(connection, feed, absent, _looked_at(feed, alike, rows, step), step)
        some = {batch.sequence: facts[batch.sequence] for batch in alike}
        found = ask_together(contract, frames, some, usual, is_sample=step > 1)
        for sequence, findings in found.items():
            answers[sequence] = tuple(
                GateResult(one.check_name, one.severity, one.passed, one.observed)
                for one in findings
            )
    return answers


def _by_absent_columns(batches: Sequence[Batch]) -> dict[frozenset[str], list[Batch]]:
    alike: dict[frozenset[str], list[Batch]] = {}
    for batch in batches:
        alike.setdefault(frozenset(batch.prepared.absent_columns), []).append(batch)
    return alike


def _looked_at(feed: Feed, batches: Sequence[Batch], rows: RawRows, step: int) -> str:
    """Return SQL for landed rows that include all those whose number is divisible by a step.

    They are all rows, unless a sample was written when the file was read.
    """
    [batch, *others] = batches
    source = batch.prepared.source
    if (
        not others
        and isinstance(source, OwnParquet)
        and source.sample is not None
        and sample_step(batch.prepared.physical_rows) == step
    ):
        return landed_sample(feed, batch.sequence, source.form, source.sample)
    return landed_relation(feed, [rows.path(feed.name, one.sequence) for one in batches])


def _frames(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    absent: Collection[str],
    loaded: str,
    step: int,
) -> Iterator[pd.DataFrame]:
    """Yield frames of delivered text with every number as an integer; at least one, maybe empty.

    Each row has its delivery_sequence and its row_number, too.
    """
    import pyarrow as pa

    from expectations.building import number_name, places

    selected = ["delivery_sequence", "row_number"]
    for column in feed.columns:
        if column.name in absent:
            continue
        name, scale = quote(column.name), places(column)
        if scale is None:
            selected.append(f"{text_of(column)} as {name}")
        else:  # the text of a delivered value is not checked, so '0' stands for it
            text = f"coalesce({name}, case when {value_name(column)} is not null then '0' end)"
            selected.append(f"{text} as {name}")
            selected.append(f"{_number(column, scale)} as {quote(number_name(column))}")
    cursor = connection.execute(
        f"select {', '.join(selected)} from {loaded} where row_number % ? = 0",
        [step],
    )
    reader = cursor.to_arrow_reader(FRAME_ROWS)
    pending: list[pa.RecordBatch] = []
    held = given = 0
    for batch in reader:
        pending.append(batch)
        held += len(batch)
        if held >= FRAME_ROWS:
            yield _frame(pa.Table.from_batches(pending))
            pending, held, given = [], 0, given + 1
    if pending or not given:
        yield _frame(pa.Table.from_batches(pending, reader.schema))


def _frame(table: pa.Table) -> pd.DataFrame:
    """Return a frame of text and integers; a column of integers is nullable (slower) only if one is missing."""
    import pandas as pd
    import pyarrow as pa

    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    whole = [
        name
        for name, kind in frame.dtypes.items()
        if isinstance(kind, pd.Int64Dtype) and not table[name].null_count
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _number(column: Column, scale: int) -> str:
    """Return SQL for the number in a column of landed rows, as `_scaled` returns that of a text."""
    value, most = value_name(column), 10 ** (_most_digits(scale) + scale) - 1
    return (
        f"coalesce(case when {value} between -{most} and {most} then {value} end,"
        f" {_scaled(quote(column.name), scale)})"
    )


def _scaled(name: str, scale: int) -> str:
    """Return SQL for a number as an integer of this many places; null if it is no such number."""
    fraction = f"([.][0-9]{{1,{scale}}}0*)?" if scale else "([.]0*)?"
    return (
        f"case when regexp_full_match({name}, '-?[0-9]{{1,{_most_digits(scale)}}}{fraction}') "
        f"then cast(cast({name} as decimal(18, {scale})) * {10**scale} as bigint) end"
    )


def _most_digits(scale: int) -> int:
    """Return how many digits before the point leave room for the multiplication in 18 digits."""
    return min(MOST_DIGITS, 18 - 2 * scale)


def _facts(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    batches: Sequence[Batch],
    loaded: str,
) -> dict[int, dict[str, int]]:
    """Return facts about each whole file, apart from comparisons with earlier files."""
    from expectations.building import unknown_fact

    feed = contract.feed
    key = f"({', '.join(map(quote, feed.key_names))})"
    is_given = " and ".join(f"{quote(name)} is not null" for name in feed.key_names)
    repeated = _numbers(
        connection,
        f"select delivery_sequence, count(*) - count(distinct {key}) from {loaded}"
        f" where {is_given} group by delivery_sequence",
    )
    facts = {}
    for batch in batches:
        records, malformed = batch.prepared.physical_rows, batch.prepared.malformed_rows
        facts[batch.sequence] = {
            "malformed_rows": malformed,
            "malformed_percent": -(-malformed * 100 // records) if records >= FEW_ROWS else 0,
            "repeated_keys": repeated.get(batch.sequence, 0),
        }
    many = {
        batch.sequence: batch.prepared.good_rows
        for batch in batches
        if batch.prepared.good_rows >= FEW_ROWS
    }
    for name, referred in contract.refers_to.items() if many else ():
        other = quote(feeds()[referred].key.name)
        unknown = _numbers(
            connection,
            f"select delivery_sequence, count(*) from {loaded} where {quote(name)} "
            f"not in (select {other} from raw.{quote(referred)} where {other} is not null) "
            "group by delivery_sequence",
        )
        for sequence, rows in many.items():
            facts[sequence][unknown_fact(name)] = -(-unknown.get(sequence, 0) * 100 // rows)
    return facts


def _usual(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    batches: Sequence[Batch],
    refused: Collection[int],
    rows: RawRows,
) -> dict[int, dict[str, int]]:
    """Return how each file compares with earlier deliveries of its feed.

    Args:
        connection: The warehouse.
        contract: The contract of the feed.
        batches: The files, in their order.
        refused: The refused files among them, with which later ones are not compared.
        rows: Where their rows are.
    """
    from expectations.building import usual_fact

    feed = contract.feed
    before = connection.execute(
        "select delivery_sequence, physical_rows from raw.deliveries where feed = ? "
        "and verdict = 'loaded' and delivery_sequence < ? and physical_rows > 0 "
        "order by delivery_sequence desc limit ?",
        [feed.name, batches[0].sequence, RECENT_DELIVERIES],
    ).fetchall()
    recent = [(int(sequence), int(records)) for sequence, records in before]
    facts: dict[int, dict[str, int]] = {}
    for batch in batches:
        facts[batch.sequence] = found = {}
        records = batch.prepared.physical_rows
        if len(recent) >= FEW_DELIVERIES:
            found["rows_percent_of_usual"] = (
                records * 100 // sorted(size for _, size in recent)[len(recent) // 2]
            )
            for name in contract.totals if batch.prepared.good_rows >= FEW_ROWS else ():
                percent = _percent_of_usual(connection, feed, name, batch, recent, rows)
                if percent is not None:
                    found[usual_fact(name)] = percent
        if batch.sequence not in refused and records:
            recent = [(batch.sequence, records), *recent][:RECENT_DELIVERIES]
    return facts


def _percent_of_usual(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    column: str,
    batch: Batch,
    recent: list[tuple[int, int]],
    rows: RawRows,
) -> int | None:
    """Return an amount's average in the most common currency, in percent of that in recent deliveries."""
    value = _number(feed.column(column), AMOUNT_PLACES)

    def source(sequence: int) -> str:
        return landed_relation(feed, [rows.path(feed.name, sequence)])

    currency = connection.execute(
        f"select mode(currency) from {source(batch.sequence)}"
    ).fetchall()[0][0]

    def totals(sequence: int, size: int) -> tuple[int, int]:
        step = max(1, size // DRIFT_SAMPLE_ROWS)
        total, count = connection.execute(
            f"select sum(value), count(value) from (select {value} as value "
            f"from {source(sequence)} where currency = ? and row_number % ? = 0)",
            [currency, step],
        ).fetchall()[0]
        return int(total or 0), int(count)

    total, count = totals(batch.sequence, batch.prepared.good_rows)
    before = [totals(of, size) for of, size in recent]
    usual, usual_count = sum(one for one, _ in before), sum(one for _, one in before)
    if count == 0 or usual <= 0:
        return None
    return total * usual_count * 100 // (count * usual)


def _numbers(connection: duckdb.DuckDBPyConnection, statement: str) -> dict[int, int]:
    return {
        int(sequence): int(number) for sequence, number in connection.execute(statement).fetchall()
    }
