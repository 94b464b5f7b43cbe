"""A throwaway PgBouncer in front of a PostgreSQL server: on loopback, in a folder of its own.

    with postgres() as server, pgbouncer(server) as pooler:
        store = open_store(pooler.url_of(url))

Its program is Debian's, unpacked by `make servers`, or found on PATH. It lends a connection of the server for
one transaction at a time, as it usually does for the web, unless it is told otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from sojourn.testing import processes
from sojourn.testing.binaries import SYSTEM_FOLDERS, MissingServer
from sojourn.testing.plans import POSTGRES_USER, _free_port
from sojourn.testing.servers import Server

START_TIMEOUT = 20.0  # seconds
POOL_SIZE = 3  # connections of the server, for any number of clients: few, so that each is many's
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
SETTINGS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "any",
    "pool_mode": "transaction",
    "max_client_conn": "300",
    "server_login_retry": "1",  # seconds: a server that was away is asked again so soon
    "query_wait_timeout": "10",
}


class Pooler:
    """Attributes: port: where clients come."""

    def __init__(self, server_port: int, port: int) -> None:
        self.port = port
        self._server_port = server_port

    def url_of(self, url: str) -> str:
        """Return the URL of a database of the server, as it is reached by way of this."""
        return url.replace(f":{self._server_port}/", f":{self.port}/")


@contextlib.contextmanager
def pgbouncer(
    server: Server,
    *,
    settings: Mapping[str, str] = NO_SETTINGS,
    pool_size: int = POOL_SIZE,
    port: int | None = None,
) -> Iterator[Pooler]:
    """Run one of one's own; `settings` are as in pgbouncer.ini. It connects to the server's port, or to
    another that leads there."""
    folder = Path(tempfile.mkdtemp(prefix="sojourn-pgbouncer-")).resolve()
    (folder / "lock").touch()
    lock = processes.hold(folder)
    assert lock is not None
    with lock:
        processes.start_keeper(folder, signal.SIGKILL)
        pooler = Pooler(server.port, _free_port())
        said = SETTINGS | {"listen_port": str(pooler.port), "default_pool_size": str(pool_size)}
        leads = f"host=127.0.0.1 port={port or server.port} user={POSTGRES_USER}"
        if os.getuid() == 0:
            said["user"] = "nobody"  # whom it becomes: it refuses to serve as root
        lines = ["[databases]", f"* = {leads}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in {**said, **settings}.items()]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        try:
            pid = processes.detach([program(), folder / "pgbouncer.ini"], folder=folder)
            processes.wait_until(lambda: not processes.alive(pid) or _ready(pooler), START_TIMEOUT)
            if not processes.alive(pid) or not _ready(pooler):
                log = (folder / "log").read_text(errors="replace")[-4_000:]
                raise RuntimeError(f"PgBouncer did not start; its log ends:\n{log}")
            yield pooler
        finally:
            processes.end(folder, signal.SIGKILL)


def program() -> Path:
    """Find PgBouncer: $PGBOUNCER, PATH, or where systems put it."""
    named = os.environ.get("PGBOUNCER"), shutil.which("pgbouncer")
    for found in (*named, *(f"{folder}/pgbouncer" for folder in SYSTEM_FOLDERS)):
        if found and os.access(found, os.X_OK):
            return Path(found)
    raise MissingServer(
        "No PgBouncer was found.\n"
        "Tests start one of their own, so its program must be installed; none has to run.\n"
        "Run `make servers`, `brew install pgbouncer` on a Mac, or set PGBOUNCER to the program."
    )


def _ready(pooler: Pooler) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", pooler.port), timeout=1):
            return True
    except OSError:
        return False
