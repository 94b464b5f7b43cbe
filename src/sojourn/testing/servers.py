"""Throwaway database servers: real ones, on loopback, in folders of their own.

    with postgres() as server, fresh_database(server) as url:
        store = open_store(url)

`kill` and `start` are a crash and a recovery: the data folder and the port stay the same. Servers are
as durable as in production (every commit reaches the disk), and end with whoever uses them, even if
that is killed: see `processes`. PostgreSQL refuses to run as root, so root runs it as `nobody`.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sojourn.testing import processes
from sojourn.testing.binaries import MissingServer
from sojourn.testing.plans import POSTGRES_USER, Kind, Plan, Settings, new_folder, prepare
from sojourn.testing.wall_clock import WallClock

__all__ = ["Kind", "MissingServer", "Server", "fresh_database", "mariadb", "postgres", "shared"]

CONNECT_TIMEOUT = 10  # seconds
START_TIMEOUT = 60.0  # seconds; crash recovery on a slow disk included
DROP = {
    Kind.POSTGRES: "DROP DATABASE {name} WITH (FORCE)",
    Kind.MARIADB: """
        BEGIN NOT ATOMIC
            DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;  -- that connection has just gone by itself
            FOR other IN (SELECT id FROM information_schema.processlist WHERE db = '{name}')
                DO KILL other.id; END FOR;
            DROP DATABASE {name};
        END
    """,
}


class Server:
    """A database server that may be stopped, killed, paused and started again.

    Attributes:
        kind: PostgreSQL or MariaDB.
        url: its administrator's database; the user needs no password.
        port: the same for as long as the server's folder exists.
    """

    def __init__(self, plan: Plan, wall: WallClock | None = None) -> None:
        self.plan = plan
        self._wall = wall
        self.kind = plan.kind
        self.port = plan.port
        self.url = self.database_url("postgres" if plan.kind is Kind.POSTGRES else "mysql")

    def database_url(self, database: str) -> str:
        user = POSTGRES_USER if self.kind is Kind.POSTGRES else "root"
        return f"{self.kind}://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it is down."""
        return processes.noted(self.plan.root)

    def start(self) -> None:
        """Start it, recovering from a crash if there was one; answer once it takes connections."""
        if self.pid is not None:
            return
        plan = self.plan
        (plan.root / "data" / "postmaster.pid").unlink(missing_ok=True)  # of a killed server
        pid = processes.detach(
            plan.argv,
            folder=plan.root,
            owner=plan.owner,
            env=plan.environment | (self._wall.environ if self._wall else {}),
        )
        ready = _postgres_ready if self.kind is Kind.POSTGRES else _mariadb_ready
        processes.wait_until(lambda: not processes.alive(pid) or ready(plan), START_TIMEOUT)
        if not processes.alive(pid) or not ready(plan):
            processes.end(plan.root, signal.SIGKILL)
            raise RuntimeError(f"{self.kind} did not start; its log ends:\n{self.log()}")

    def stop(self) -> None:
        """Shut it down in good order: open connections are cut, nothing is lost."""
        polite = signal.SIGINT if self.kind is Kind.POSTGRES else signal.SIGTERM
        processes.end(self.plan.root, polite)

    def kill(self) -> None:
        """End it at once, with SIGKILL, all its processes with it."""
        if (pid := self.pid) is not None:
            processes.kill_tree(pid)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers."""
        if (pid := self.pid) is not None:
            processes.freeze(pid)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if (pid := self.pid) is not None:
            processes.signal_all(processes.tree(pid), signal.SIGCONT)

    def log(self) -> str:
        """The last lines of its log."""
        lines = (self.plan.root / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])


def _postgres_ready(plan: Plan) -> bool:
    try:
        lines = (plan.root / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() in ("ready", "standby")


def _mariadb_ready(plan: Plan) -> bool:
    """Tell whether it greets us, which it does once recovery is over."""
    try:
        with socket.create_connection(("127.0.0.1", plan.port), timeout=1) as connection:
            return len(connection.recv(5)) > 0
    except OSError:
        return False


@contextlib.contextmanager
def postgres(
    settings: Settings | None = None, *, wall: WallClock | None = None
) -> Iterator[Server]:
    """Run a PostgreSQL server of one's own; `settings` are as in postgresql.conf. It goes by
    `wall`, if there is one."""
    with _own(Kind.POSTGRES, settings, wall) as server:
        yield server


@contextlib.contextmanager
def mariadb(settings: Settings | None = None, *, wall: WallClock | None = None) -> Iterator[Server]:
    """Run a MariaDB server of one's own; `settings` are as in my.cnf. It goes by `wall`, if
    there is one."""
    with _own(Kind.MARIADB, settings, wall) as server:
        yield server


@contextlib.contextmanager
def shared(kind: Kind, folder: Path) -> Iterator[Server]:
    """Use the one server of this kind that all who name this folder share.

    The first to come starts it, the last to go ends it. Do not kill or pause it.
    """
    note = folder / f"{kind}.json"
    with contextlib.ExitStack() as stack:
        with (folder / f"{kind}.lock").open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            server = _join(note, stack)
            if server is None:
                server = stack.enter_context(_created(kind, {}))
                note.write_bytes(msgspec.json.encode(server.plan))
        yield server


def _join(note: Path, stack: contextlib.ExitStack) -> Server | None:
    if not note.exists():
        return None
    plan = msgspec.json.decode(note.read_bytes(), type=Plan)
    lock = processes.hold(plan.root)
    if lock is None:
        return None
    stack.enter_context(lock)
    return Server(plan)


@contextlib.contextmanager
def _own(kind: Kind, settings: Settings | None, wall: WallClock | None) -> Iterator[Server]:
    with _created(kind, settings or {}, wall) as server:
        try:
            yield server
        finally:
            processes.end(server.plan.root, _last_signal(kind))


@contextlib.contextmanager
def _created(kind: Kind, settings: Settings, wall: WallClock | None = None) -> Iterator[Server]:
    """Make a folder, its keeper, and a running server. Letting go leaves the rest to the keeper."""
    folder = new_folder(kind)
    lock = processes.hold(folder)
    if lock is None:
        raise FileNotFoundError(folder)
    with lock:
        processes.start_keeper(folder, _last_signal(kind))
        server = Server(prepare(kind, folder, settings), wall)
        server.start()
        yield server


def _last_signal(kind: Kind) -> int:
    """Say what ends a server whose data nobody wants: PostgreSQL frees shared memory on SIGQUIT."""
    return signal.SIGQUIT if kind is Kind.POSTGRES else signal.SIGKILL


@contextlib.contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    """Make an empty database with a name of its own, hand out its URL, and drop it afterwards.

    Connections left open are cut. A server that is down by then keeps the database.
    """
    name = f"fresh_{secrets.token_hex(6)}"
    execute = _postgres_execute if server.kind is Kind.POSTGRES else _mariadb_execute
    execute(server, f"CREATE DATABASE {name}")
    try:
        yield server.database_url(name)
    finally:
        if server.pid is not None:
            execute(server, DROP[server.kind].format(name=name))


def _postgres_execute(server: Server, statement: str) -> None:
    import psycopg  # noqa: PLC0415  # an extra that only PostgreSQL needs

    with psycopg.connect(
        server.url, autocommit=True, connect_timeout=CONNECT_TIMEOUT
    ) as connection:
        connection.execute(statement.encode())


def _mariadb_execute(server: Server, statement: str) -> None:
    import pymysql  # noqa: PLC0415  # an extra that only MariaDB needs

    with (
        pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user="root",
            connect_timeout=CONNECT_TIMEOUT,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
