#!/usr/bin/env bash
# Streamlit 1.67.0: an application served as ASGI (`streamlit.starlette.App`) reads config.toml but ignores settings in
# the environment, which only the streamlit command reads. With STREAMLIT_BROWSER_GATHER_USAGE_STATS=false,
# `streamlit config show` says false, but in a process that creates an App usage statistics stay on.
# Expected: the precedence that `streamlit.config.get_config_options` documents, in which environment variables
# come after config.toml, however the application is served.
# Output seen:
#   command false, application true
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check streamlit==1.67.0 2>/dev/null
cd "$folder"
export HOME=$folder STREAMLIT_BROWSER_GATHER_USAGE_STATS=false
echo 'import streamlit' >script.py
cat >asgi.py <<'PYTHON'
from streamlit import config
from streamlit.starlette import App

App("script.py")
print(str(config.get_option("browser.gatherUsageStats")).lower())
PYTHON
command=$("$folder/venv/bin/streamlit" config show 2>/dev/null | sed -n 's/^ *gatherUsageStats *= *//p')
application=$("$folder/venv/bin/python" asgi.py 2>/dev/null | tail -1)
found="command $command, application $application"
echo "$found"
[ "$found" = "command false, application true" ]
