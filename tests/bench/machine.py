"""Where a measurement was made: the machine, how busy it was, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster_project.settings import CHECKOUT


def described(packages: Sequence[str]) -> dict[str, Any]:
    """Facts about this machine and this moment, for the record of a measurement.

    Args:
        packages: The packages whose versions matter; with pyspark, Java's version too.
    """
    commit = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "processor": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo"))) / 2**20, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            "Python": platform.python_version(),
            **{package: version(package) for package in packages},
            **({"Java": _java()} if "pyspark" in packages else {}),
        },
    }


def sentence(facts: dict[str, Any]) -> str:
    """The same in words."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['cores']} cores ({facts['processor']}), {facts['memory_gib']} GiB; {versions};"
        f" commit {facts['commit']}; load before {facts['load_before']}; {facts['measured_at']}"
    )


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "([^"]+)"', told.stderr)
    return found[1] if found else "unknown"


def _first(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text("utf-8"))
    return found[1].strip() if found else "0"
