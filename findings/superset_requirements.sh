#!/usr/bin/env bash
# Apache Superset 6.1.0, as pip installs it into an empty environment, does not start: `superset version` imports
# rich, which the package does not require; with rich, its cache class fails, because the requirement of
# Flask-Caching has no upper bound and Flask-Caching 2.5 passes an option that this class does not accept. With
# rich and Flask-Caching 2.4.1 it starts. Expected: it starts with the packages that pip installs.
# Output seen:
#   as installed, Flask-Caching 2.5.1: ModuleNotFoundError: No module named 'rich'
#   with rich 15.0.0: TypeError: SupersetMetastoreCache.__init__() got an unexpected keyword argument 'ignore_delete_many_errors'
#   with Flask-Caching 2.4.1: it starts
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
cat > "$work/superset_config.py" <<CONFIG
SECRET_KEY = "only-for-this-run"
SQLALCHEMY_DATABASE_URI = "sqlite:///$work/superset.db"
CONFIG
export SUPERSET_CONFIG_PATH=$work/superset_config.py SUPERSET_HOME=$work FLASK_APP=superset
changed=0
# install_and_start PACKAGES WHEN EXPECTED
install_and_start() {
  # shellcheck disable=SC2086
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check $1
  told=$("$work/venv/bin/superset" version 2>&1) && found="it starts" || found=$(tail -1 <<<"$told")
  echo "$2: $found"
  [ "$found" = "$3" ] || changed=1
}
install_and_start "apache-superset==6.1.0 flask-caching==2.5.1" "as installed, Flask-Caching 2.5.1" \
  "ModuleNotFoundError: No module named 'rich'"
install_and_start rich==15.0.0 "with rich 15.0.0" \
  "TypeError: SupersetMetastoreCache.__init__() got an unexpected keyword argument 'ignore_delete_many_errors'"
install_and_start flask-caching==2.4.1 "with Flask-Caching 2.4.1" "it starts"
exit $changed
