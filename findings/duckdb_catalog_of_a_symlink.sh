#!/usr/bin/env bash
# DuckDB 1.5.6: the catalog of a database opened through a symbolic link has a different name in the Python client
# than in the command line of the same version and in DuckDB 1.4.5. Python 1.5 takes the name of the file that the
# link points to, the others that of the link. SQL that names the catalog works in one and fails in the other.
# Expected: the same path gives the same name in every client and in every minor version.
# Output seen:
#   python 1.4.5 link, python 1.5.6 target, command line 1.5.6 link
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for line in 1.4.5 1.5.6; do
    python3 -m venv "$folder/$line"
    "$folder/$line/bin/pip" install --quiet --disable-pip-version-check "duckdb==$line" 2>/dev/null
done
python3 -m venv "$folder/cli"
"$folder/cli/bin/pip" install --quiet --disable-pip-version-check duckdb-cli==1.5.6 2>/dev/null
"$folder/1.4.5/bin/python" -c "import duckdb; duckdb.connect('$folder/target.duckdb').execute('create table t (a int)')"
ln -s target.duckdb "$folder/link"
ask='select current_catalog()'
python() {
    "$folder/$1/bin/python" -c "import duckdb; print(duckdb.connect('$folder/link', read_only=True).execute('$ask').fetchone()[0])"
}
found="python 1.4.5 $(python 1.4.5), python 1.5.6 $(python 1.5.6), command line 1.5.6 $("$folder/cli/bin/duckdb" -readonly -noheader -list "$folder/link" -c "$ask")"
echo "$found"
[ "$found" = "python 1.4.5 link, python 1.5.6 target, command line 1.5.6 link" ]
