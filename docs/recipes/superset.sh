#!/usr/bin/env bash
# Start Apache Superset 6.1.0 on a release and check what it reads: docs/recipes/superset.sh HOME [PORT]
#
# Installs Superset into a temporary folder (about 1 GB, a few minutes), registers HOME/current as a
# read-only database, starts the server on 127.0.0.1, and asks it through its own API for the schemas,
# the tables and a total per currency. With KEEP=1 the server stays up until Ctrl-C, to look around:
# user `admin`, password `admin`. Not part of the tests: it needs a package index.
set -euo pipefail

home=$(realpath "${1:?usage: docs/recipes/superset.sh HOME [PORT]}")
port=${2:-8088}
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

if [ -n "${SUPERSET_VENV:-}" ]; then # one that has the packages below
    bin=$SUPERSET_VENV/bin
else
    python3 -m venv "$work/venv"
    bin=$work/venv/bin
    # Superset 6.1.0 alone does not start: it imports rich and cachetools without asking for them, and
    # newer versions of flask-caching lack what it calls.
    "$bin/pip" install --quiet 'apache-superset==6.1.0' 'duckdb-engine==0.17.0' 'duckdb==1.5.6' \
        rich cachetools 'flask-caching==2.3.1'
fi

cat > "$work/superset_config.py" <<CONFIG
SECRET_KEY = "only-for-this-run"
SQLALCHEMY_DATABASE_URI = "sqlite:///$work/superset.db"
WTF_CSRF_ENABLED = False  # for the checks below; leave it on otherwise
TALISMAN_ENABLED = False
CONFIG
export SUPERSET_CONFIG_PATH=$work/superset_config.py SUPERSET_HOME=$work FLASK_APP=superset
{
    "$bin/superset" db upgrade
    "$bin/superset" fab create-admin --username admin --firstname A --lastname B \
        --email admin@example.com --password admin
    "$bin/superset" init
    # The slashes: sqlite's and DuckDB's addresses have three, and the path begins with a fourth.
    "$bin/superset" set-database-uri -d coupon_ledger -u "duckdb:///$home/current?access_mode=read_only"
} > "$work/log" 2>&1 || { tail -20 "$work/log"; exit 1; }

"$bin/superset" run -h 127.0.0.1 -p "$port" >> "$work/log" 2>&1 &
server=$!

"$bin/python" - "http://127.0.0.1:$port" <<'CHECK' || { tail -20 "$work/log"; exit 1; }
import json, sys, time, urllib.error, urllib.request

base, token = sys.argv[1], ""


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    head = {"Content-Type": "application/json"}
    if token:
        head["Authorization"] = f"Bearer {token}"
    with urllib.request.urlopen(urllib.request.Request(base + path, data, head), timeout=60) as found:
        return json.load(found)


for _ in range(120):
    try:
        urllib.request.urlopen(base + "/health", timeout=5)
        break
    except OSError:
        time.sleep(1)
token = ask(
    "/api/v1/security/login",
    {"username": "admin", "password": "admin", "provider": "db", "refresh": True},
)["access_token"]
(database,) = [one for one in ask("/api/v1/database/")["result"] if one["database_name"] == "coupon_ledger"]
schemas = ask(f"/api/v1/database/{database['id']}/schemas/")["result"]
print("schemas:", ", ".join(schemas))
tables = ask(f"/api/v1/database/{database['id']}/tables/?q=(schema_name:marts)")["result"]
print("tables in marts:", len(tables))
answer = ask(
    "/api/v1/sqllab/execute/",
    {
        "database_id": database["id"],
        "schema": "marts",
        "runAsync": False,
        "sql": "select currency, sum(net_amount) as net from marts.fct_discounted_charges"
        " group by currency order by currency",
    },
)
for row in answer["data"]:
    print(row["currency"], row["net"])
assert any(one.split(".")[-1].strip('"') == "marts" for one in schemas) and len(tables) > 10 and answer["data"]
CHECK
echo "Superset reads $home/current: duckdb:///$home/current?access_mode=read_only"
[ -z "${KEEP:-}" ] || wait "$server"
