#!/usr/bin/env bash
# mypy 2.4.1 and dbt-core 1.11.16 cannot be installed into one environment: mypy 2 requires pathspec 1.0 or
# later, dbt-core pathspec below 0.13. A project of dbt models with typed Python is stuck with mypy 1 unless mypy
# is installed elsewhere (pip's --target, and PYTHONPATH when it runs). Expected: a type checker does not conflict
# with the packages of the code that it checks.
# Output seen:
#   mypy 2.4.1 depends on pathspec>=1.0.0
#   dbt-core 1.11.16 depends on pathspec<0.13 and >=0.9
#   pip: ResolutionImpossible
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
if "$work/venv/bin/pip" install --dry-run --disable-pip-version-check mypy==2.4.1 dbt-core==1.11.16 >"$work/told" 2>&1; then
  echo "mypy 2.4.1 and dbt-core 1.11.16 can be installed together"
  exit 1
fi
grep -oE '(mypy 2\.4\.1|dbt-core 1\.11\.16) depends on pathspec.*' "$work/told" | sort -ru
grep -o 'ResolutionImpossible' "$work/told" | sed 's/^/pip: /'
grep -q 'mypy 2.4.1 depends on pathspec' "$work/told"
grep -q 'dbt-core 1.11.16 depends on pathspec' "$work/told"
