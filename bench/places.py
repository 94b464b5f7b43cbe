"""Where a benchmark runs: databases and servers of its own, on cores of their own."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sojourn.testing import processes
from sojourn.testing.servers import Server, fresh_database, mariadb, postgres

HERE = Path(__file__).parent
BACKENDS = ("sqlite", "postgres", "mariadb")
ADMIN_KEY = "bench-admin-key-of-thirty-two-characters"
SECRET = "bench-tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1"
SERVER_CORE, OTHER_CORE = 0, 1
"""The server under test has one core; the database and the load share the other."""

START_TIMEOUT = 120  # seconds, on a machine that others use


def pin(pid: int, core: int) -> None:
    """Keep a process, and what it starts from now on, on one core, where the system can do that."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        for one in processes.tree(pid) if pid else [0]:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(one, {core})


@contextlib.contextmanager
def backend(name: str) -> Iterator[str]:
    """Give the URL of an empty database of a kind, durable as in production."""
    if name == "sqlite":
        # Not /tmp where that is memory: durability is part of what is measured.
        with tempfile.TemporaryDirectory(dir=HERE) as folder:
            yield f"sqlite:///{folder}/bench.db"
        return
    with (postgres if name == "postgres" else mariadb)() as server, fresh_database(server) as url:
        _pin_server(server)
        yield url


def _pin_server(server: Server) -> None:
    if server.pid is not None:
        pin(server.pid, OTHER_CORE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """Run `bench/server.py` on the server's core; give its port."""
    with started(*arguments) as (port, _):
        yield port


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process and its children have used; 0.0 where nothing tells."""
    ticks = 0
    for one in processes.tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime, stime: proc_pid_stat(5)
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[int, int]]:
    """As `serving`; give its port and its process id."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), f"--port={port}", *arguments]
    )
    try:
        pin(child.pid, SERVER_CORE)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start: {arguments}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port, child.pid
    finally:
        child.terminate()
        child.wait(20)


def machine() -> dict[str, object]:
    """Say what the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
