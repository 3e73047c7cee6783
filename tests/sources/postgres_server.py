"""A Postgres of its own for tests: Debian's, on a free port of this machine, run by a user without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSIONS = Path("/usr/lib/postgresql")


def binaries() -> Path:
    """The folder of the newest Postgres of this machine.

    Raises:
        RuntimeError: There is none.
    """
    found = sorted(VERSIONS.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise RuntimeError("There is no Postgres: apt-get install postgresql")
    return Path(on_path).parent


def missing() -> str:
    """What this machine lacks to run one; nothing if it is all there."""
    try:
        binaries()
    except RuntimeError as error:
        return str(error)
    return ""


def _as_nobody(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    """Run as a user without rights, where the tests run as root: Postgres refuses to be root."""
    extra: dict[str, object] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        extra = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, check=True, capture_output=True, text=True, cwd="/", **extra, **more
    )


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Start a Postgres in a folder that everybody may pass, and stop it.

    Args:
        folder: An empty folder.

    Yields:
        The variables to connect with.
    """
    data = folder / "data"
    _owned_by_nobody(folder)
    _as_nobody(
        [
            *(
                str(binaries() / "initdb"),
                "--pgdata",
                str(data),
                "--auth=trust",
                "--username=tester",
            ),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        ]
    )
    port = _free_port()
    with _started(data, port, "-c timezone=Europe/Berlin -c datestyle=SQL,DMY"):
        yield {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "tester",
            "PGDATABASE": "postgres",
        }


@contextmanager
def replica_of(port: str, folder: Path) -> Iterator[str]:
    """Start a replica of a Postgres in a folder that everybody may pass, and stop it.

    Yields:
        Its port.
    """
    _owned_by_nobody(folder)
    data = folder / "replica"
    _as_nobody(
        [
            *(str(binaries() / "pg_basebackup"), "--host=127.0.0.1", f"--port={port}"),
            *("--username=tester", f"--pgdata={data}", "--write-recovery-conf", "--no-sync"),
        ]
    )
    own = _free_port()
    with _started(data, own):
        yield str(own)


@contextmanager
def _started(data: Path, port: int, more: str = "") -> Iterator[None]:
    options = (
        f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off {more}"
    )
    control = [str(binaries() / "pg_ctl"), "--pgdata", str(data)]
    log = str(data.with_suffix(".log"))
    _as_nobody([*control, "--wait", "--log", log, "-o", options, "start"])
    try:
        yield
    finally:
        _as_nobody([*control, "--wait", "--mode=immediate", "stop"])


def _owned_by_nobody(folder: Path) -> None:
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
