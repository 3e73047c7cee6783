#!/usr/bin/env bash
# PySpark 4.3.0: a timestamp has microseconds, but to_json writes only three decimal places, so two different
# instants within a millisecond give the same JSON, and a record read back with from_json differs from the original. A
# cast to text keeps all six places, and so does the option timestampNTZFormat (timestampFormat for timestamps in the
# session's time zone) with six digits. Expected: JSON, which does not limit decimal places, keeps the whole value.
# Needs Java 17.
# Output seen:
#   PySpark 4.3.0
#   as text: 2026-01-02 03:04:05.123456 and 2026-01-02 03:04:05.123999
#   as JSON: {"at":"2026-01-02T03:04:05.123"} and {"at":"2026-01-02T03:04:05.123"}
#   read back from JSON: 2026-01-02 03:04:05.123
#   as JSON with a format: {"at":"2026-01-02T03:04:05.123456"} and {"at":"2026-01-02T03:04:05.123999"}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pyspark==4.3.0
cd "$work"
"$work/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import pyspark
from pyspark.sql import SparkSession

session = (
    SparkSession.builder.master("local[1]")
    .config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
INSTANTS = ("2026-01-02 03:04:05.123456", "2026-01-02 03:04:05.123999")


def each(expression):
    """Return the value of an expression for each of the two instants."""
    return [
        session.sql(f"select {expression} from (select timestamp_ntz '{one}' as at)").first()[0]
        for one in INSTANTS
    ]


text = each("cast(at as string)")
json = each("to_json(named_struct('at', at))")
back = each("cast(from_json(to_json(named_struct('at', at)), 'at timestamp_ntz').at as string)")
exact = each(
    "to_json(named_struct('at', at),"
    """ map('timestampNTZFormat', "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"))"""
)
print("PySpark", pyspark.__version__)
print("as text:", *text[:1], "and", *text[1:])
print("as JSON:", *json[:1], "and", *json[1:])
print("read back from JSON:", *sorted(set(back)))
print("as JSON with a format:", *exact[:1], "and", *exact[1:])
session.stop()
sys.exit(
    tuple(text) != INSTANTS
    or json != ['{"at":"2026-01-02T03:04:05.123"}'] * 2
    or set(back) != {"2026-01-02 03:04:05.123"}
    or len(set(exact)) != 2
)
PYTHON
