#!/usr/bin/env bash
# DuckDB 1.5.6: hash() of texts of 16 bytes and more multiplies and combines eight bytes at a time, so that what
# the eighth byte adds reaches only the highest byte, where the sixteenth can take it away again: texts that differ
# in characters 8 and 16 alone have 256 hashes between them, however many they are. Ids with a counter at such
# places meet by nature: 32 of 9.9 million ids of invoices shared a hash with another, where one would expect none
# in a 64-bit hash. It matters where a sum of hashes is to tell whether a table is as it was, or where rows are
# compared by hash. Hashing a second time from the fifth character on, where the text is that long, tells them apart.
# Expected: 4,900 texts have 4,900 hashes.
# Output seen:
#   DuckDB 1.5.6
#   15 characters: 4900 texts, 4900 hashes
#   16 characters: 4900 texts, 256 hashes
#   36 characters: 4900 texts, 256 hashes
#   36 characters, hash(id, substr(id, 5)): 4900 texts, 4900 hashes
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
"$work/venv/bin/python" - <<'PYTHON'
import sys

import duckdb

print("DuckDB", duckdb.__version__)
texts = [f"account{chr(48 + a)}numbers{chr(48 + b)}" for a in range(70) for b in range(70)]
found = []
for length, of in ((15, "id"), (16, "id"), (36, "id"), (36, "id, substr(id, 5)")):
    ids = [text[1:] if length == 15 else text.ljust(length, "-") for text in texts]
    [(hashes,)] = duckdb.execute(
        f"select count(distinct hash({of})) from (select unnest(?::varchar[]) as id)", [ids]
    ).fetchall()
    about = "" if of == "id" else f", hash({of})"
    print(f"{length} characters{about}: {len(set(ids))} texts, {hashes} hashes")
    found.append(hashes)
sys.exit(found != [4900, 256, 256, 4900])
PYTHON
