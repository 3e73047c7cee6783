#!/usr/bin/env bash
# Authlib 1.9.10: importing its client for Starlette prints an AuthlibDeprecationWarning to standard error, even with
# `-W ignore` or PYTHONWARNINGS=ignore: on import, the package registers an "always" filter, which takes precedence
# over the filters of the command line. An application cannot silence it by configuration, even if it does not import
# Authlib itself (Streamlit's log-in does).
# Expected: the user's warning filters apply to the warnings of a library.
# Output seen:
#   warnings although all are ignored: 1
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
