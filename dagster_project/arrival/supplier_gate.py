"""The supplier's gate: takes a loaded but not yet committed batch and asks it what its contract says.

Here belongs how frames and facts come from the raw tables. What is asked stands in `expectations/`;
nothing of Great Expectations or pandas is imported before a batch is asked.

A file of up to 200,000 rows is asked row by row, in frames of 100,000. Of a larger one every n-th row
is asked, some 50,000 evenly spread over the file; what needs all rows (repeated keys, references,
counts) are aggregates over the whole file by DuckDB. So a million rows take about two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb

from dagster_project.arrival.report import GateResult, Refusal
from dagster_project.arrival.rows import Prepared
from dagster_project.arrival.warehouse import identifier
from dagster_project.feeds import Feed, feeds

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from expectations import Contract

FRAME_ROWS = 100_000
WHOLE_ROWS = 200_000
SAMPLE_ROWS = 50_000
DRIFT_SAMPLE_ROWS = 20_000
RECENT_DELIVERIES = 5
FEW_DELIVERIES = 3
FEW_ROWS = 20
REMEDY = (
    "check that the file is of this feed and delimited as its header says, and deliver it again"
)


class GateRefusal(Refusal):
    """The gate refuses a file; carries what it found.

    Attributes:
        results: All its answers.
    """

    def __init__(self, results: tuple[GateResult, ...]) -> None:
        """Make the reason from the checks of severity error that do not hold."""
        failed = [result for result in results if result.severity == "error" and not result.passed]
        reason = "; ".join(f"{result.check_name}: {result.observed}" for result in failed)
        super().__init__(f"the supplier's gate stops it ({reason})", REMEDY)
        self.results = results


def ask_gate(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    sequence: int,
    prepared: Prepared,
    loaded: str,
) -> tuple[GateResult, ...]:
    """Ask a batch everything its contract says.

    Args:
        connection: The warehouse, within the transaction that loaded the batch.
        feed: Its feed.
        sequence: Its delivery_sequence.
        prepared: Its counts, and which columns it lacks.
        loaded: SQL for its rows.

    Returns:
        One result per check.

    Raises:
        GateRefusal: If a check of severity error does not hold.
    """
    from expectations import CONTRACTS, ask

    contract = CONTRACTS[feed.name]
    rows = prepared.good_rows
    step = 1 if rows <= WHOLE_ROWS else -(-rows // SAMPLE_ROWS)
    frames = _frames(connection, feed, prepared, loaded, step)
    facts = _facts(connection, contract, sequence, prepared, loaded)
    results = tuple(
        GateResult(finding.check_name, finding.severity, finding.passed, finding.observed)
        for finding in ask(contract, frames, facts, is_sample=step > 1)
    )
    if any(result.severity == "error" and not result.passed for result in results):
        raise GateRefusal(results)
    return results


def _frames(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    prepared: Prepared,
    loaded: str,
    step: int,
) -> Iterator[pd.DataFrame]:
    """Frames of the delivered text, and of every number as an integer; at least one, maybe empty."""
    import pyarrow as pa

    from expectations.building import number_name, places

    selected = []
    for column in feed.columns:
        if column.name in prepared.absent_columns:
            continue
        name = identifier(column.name)
        selected.append(name)
        scale = places(column)
        if scale is not None:
            selected.append(f"{_scaled(name, scale)} as {identifier(number_name(column))}")
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
    """Text and integers; the integers are nullable, which is slower, where one is missing."""
    import pandas as pd
    import pyarrow as pa

    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    whole = [
        name
        for name, kind in frame.dtypes.items()
        if isinstance(kind, pd.Int64Dtype) and not table[name].null_count
    ]
    return frame.astype(dict.fromkeys(whole, "int64"))


def _scaled(name: str, scale: int) -> str:
    """SQL for a number as an integer of this many places; null where the text is no such number."""
    fraction = f"([.][0-9]{{1,{scale}}})?" if scale else ""
    return (
        f"case when regexp_full_match({name}, '-?[0-9]{{1,14}}{fraction}') "
        f"then cast(cast({name} as decimal(18, {scale})) * {10**scale} as bigint) end"
    )


def _facts(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    sequence: int,
    prepared: Prepared,
    loaded: str,
) -> dict[str, int]:
    from expectations.building import unknown_fact, usual_fact

    feed = contract.feed
    key = f"({', '.join(map(identifier, feed.key_names))})"
    is_given = " and ".join(f"{identifier(name)} is not null" for name in feed.key_names)
    records, malformed = prepared.physical_rows, prepared.malformed_rows
    facts = {
        "malformed_rows": malformed,
        "malformed_percent": -(-malformed * 100 // records) if records >= FEW_ROWS else 0,
        "repeated_keys": _number(
            connection,
            f"select count(*) - count(distinct {key}) from {loaded} where {is_given}",
        ),
    }
    recent = connection.execute(
        "select delivery_sequence, physical_rows from raw.deliveries where feed = ? "
        "and verdict = 'loaded' and delivery_sequence < ? and physical_rows > 0 "
        "order by delivery_sequence desc limit ?",
        [feed.name, sequence, RECENT_DELIVERIES],
    ).fetchall()
    if len(recent) >= FEW_DELIVERIES:
        usual = sorted(rows for _, rows in recent)[len(recent) // 2]
        facts["rows_percent_of_usual"] = records * 100 // usual
    rows = prepared.good_rows
    for name, referred in contract.refers_to.items():
        if rows < FEW_ROWS:
            continue
        other = identifier(feeds()[referred].key.name)
        unknown = _number(
            connection,
            f"select count(*) from {loaded} where {identifier(name)} "
            f"not in (select {other} from raw.{identifier(referred)} where {other} is not null)",
        )
        facts[unknown_fact(name)] = -(-unknown * 100 // rows)
    for name in contract.totals:
        if rows >= FEW_ROWS and len(recent) >= FEW_DELIVERIES:
            percent = _percent_of_usual(connection, feed, name, loaded, rows, recent)
            if percent is not None:
                facts[usual_fact(name)] = percent
    return facts


def _percent_of_usual(
    connection: duckdb.DuckDBPyConnection,
    feed: Feed,
    column: str,
    loaded: str,
    rows: int,
    recent: list[tuple[int, int]],
) -> int | None:
    """The average of an amount in the batch's commonest currency, in percent of recent deliveries'."""
    currency = connection.execute(f"select mode(currency) from {loaded}").fetchall()[0][0]
    value = _scaled(identifier(column), 2)

    def totals(source: str, size: int) -> tuple[int, int]:
        step = max(1, size // DRIFT_SAMPLE_ROWS)
        total, count = connection.execute(
            f"select sum(value), count(value) from (select {value} as value "
            f"from {source} where currency = ? and row_number % ? = 0)",
            [currency, step],
        ).fetchall()[0]
        return int(total or 0), int(count)

    earlier = f"(from raw.{identifier(feed.name)} where delivery_sequence = {{}})"
    total, count = totals(loaded, rows)
    before = [totals(earlier.format(int(of)), size) for of, size in recent]
    usual, usual_count = sum(one for one, _ in before), sum(one for _, one in before)
    if count == 0 or usual <= 0:
        return None
    return total * usual_count * 100 // (count * usual)


def _number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    return int(connection.execute(statement).fetchall()[0][0])
