#!/usr/bin/env bash
# dbt-core 1.11.16: a Manifest that was pickled and read again has its attributes mixed up: `__reduce_ex__` gives
# the constructor's values in their order, but leaves `fixtures` out, so every later one lands one place too
# early: `fixtures` holds the lookup of docs, `_source_lookup` that of models. dbt then fails to compile with
# "RefableLookup.find() missing 1 required positional argument: 'manifest'".
# Expected: a manifest that is equal to the one that was pickled. Manifest.to_msgpack does keep it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dbt-core==1.11.16 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import pickle

from dbt.contracts.graph.manifest import Manifest

manifest = Manifest()
manifest.doc_lookup, manifest.ref_lookup  # made when first asked for
again = pickle.loads(pickle.dumps(manifest))
found = {name: type(getattr(again, name)).__name__ for name in ("fixtures", "_source_lookup", "_ref_lookup")}
print(found)
assert found == {"fixtures": "DocLookup", "_source_lookup": "RefableLookup", "_ref_lookup": "NoneType"}
PYTHON
