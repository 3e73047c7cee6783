#!/usr/bin/env bash
# Arrow 26.0.1 (pyarrow): a Parquet text column encoded as DELTA_LENGTH_BYTE_ARRAY or DELTA_BYTE_ARRAY can be read as
# text, but not with `read_dictionary`. Arrow therefore cannot read back its own file of a dictionary column (a pandas
# categorical) with these encodings. With `parquet_version v2`, DuckDB 1.5.6 writes the first of them for text that
# rarely repeats.
# Expected: `read_dictionary` works for every encoding, as it does for PLAIN, or at least writing refuses what cannot
# be read back.
# Output seen:
#   pyarrow 26.0.1, DuckDB 1.5.6
#   PLAIN: as text True, with read_dictionary True
#   DELTA_LENGTH_BYTE_ARRAY: as text True, with read_dictionary OSError (Not yet implemented)
#   DELTA_BYTE_ARRAY: as text True, with read_dictionary OSError (Not yet implemented)
#   DuckDB, parquet_version v2, DELTA_LENGTH_BYTE_ARRAY: as text True, with read_dictionary OSError (Not yet implemented)
#   Arrow's own file of a dictionary, PLAIN: True
#   Arrow's own file of a dictionary, DELTA_BYTE_ARRAY: OSError (Not yet implemented)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = [f"a text of its own, {number}" for number in range(2_000)]


def read(path, **options):
    """Return whether the texts are read back, or else the error."""
    try:
        return pq.read_table(path, **options)["a"].to_pylist() == TEXTS
    except OSError as error:
        return f"OSError ({str(error).partition(':')[0]})"


def told(label, path):
    """Print and return the results of reading a file as text and as a dictionary."""
    result = read(path), read(path, read_dictionary=["a"])
    print(f"{label}: as text {result[0]}, with read_dictionary {result[1]}")
    return result


def write(values, encoding):
    """Write a column to a.parquet in an encoding."""
    table = pa.table({"a": values})
    pq.write_table(table, "a.parquet", use_dictionary=False, column_encoding={"a": encoding})


print(f"pyarrow {pa.__version__}, DuckDB {duckdb.__version__}")
FAILS = "OSError (Not yet implemented)"
changed = False
for encoding in ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
    write(TEXTS, encoding)
    changed |= told(encoding, "a.parquet") != (True, encoding == "PLAIN" or FAILS)
texts = pa.table({"a": TEXTS})
duckdb.sql("copy (from texts) to 'b.parquet' (format parquet, parquet_version v2)")
encodings = pq.ParquetFile("b.parquet").metadata.row_group(0).column(0).encodings
changed |= told(f"DuckDB, parquet_version v2, {', '.join(encodings)}", "b.parquet") != (True, FAILS)
for encoding in ("PLAIN", "DELTA_BYTE_ARRAY"):
    write(pa.array(TEXTS).dictionary_encode(), encoding)
    found = read("a.parquet")
    print(f"Arrow's own file of a dictionary, {encoding}: {found}")
    changed |= found != (encoding == "PLAIN" or FAILS)
sys.exit(changed)
PYTHON
