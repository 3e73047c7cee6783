#!/usr/bin/env bash
# Authlib 1.9.10: whoever imports its client for Starlette gets AuthlibDeprecationWarning on standard error,
# with `-W ignore` and PYTHONWARNINGS=ignore too: the package registers an "always" filter of its own when it
# is imported, which comes before the filters of the command line. Even the application that imports
# nothing of Authlib itself (Streamlit's log-in does) cannot quiet it by configuration.
# Expected: the filters that a user sets hold for the warnings of a library.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    authlib==1.9.10 httpx==0.28.1 starlette==1.10.0 itsdangerous==2.2.0 2>/dev/null
export PYTHONWARNINGS=ignore
"$folder/venv/bin/python" -W ignore -c 'import authlib.integrations.starlette_client' 2>"$folder/said"
found=$(grep -c 'AuthlibDeprecationWarning' "$folder/said" || true)
echo "warnings although all are ignored: $found"
[ "$found" = 1 ]
