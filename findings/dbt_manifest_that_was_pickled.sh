#!/usr/bin/env bash
# dbt-core 1.11.16: an unpickled Manifest has its attributes mixed up. `__reduce_ex__` returns the constructor's
# arguments in order but omits `fixtures`, so every later one is assigned one place too early: `fixtures` holds the
# lookup of docs, `_source_lookup` that of models. dbt then fails to compile with
# "RefableLookup.find() missing 1 required positional argument: 'manifest'".
# Expected: the unpickled manifest equals the pickled one, as it does with Manifest.to_msgpack.
# Output seen:
#   {'fixtures': 'DocLookup', '_source_lookup': 'RefableLookup', '_ref_lookup': 'NoneType'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dbt-core==1.11.16 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import pickle

from dbt.contracts.graph.manifest import Manifest

manifest = Manifest()
manifest.doc_lookup, manifest.ref_lookup  # created on first access
again = pickle.loads(pickle.dumps(manifest))
found = {name: type(getattr(again, name)).__name__ for name in ("fixtures", "_source_lookup", "_ref_lookup")}
print(found)
assert found == {"fixtures": "DocLookup", "_source_lookup": "RefableLookup", "_ref_lookup": "NoneType"}
PYTHON
