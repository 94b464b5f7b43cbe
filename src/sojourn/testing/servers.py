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
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from sojourn.testing import processes
from sojourn.testing.binaries import (
    MissingServer,
    library_folders,
    mariadb_system_tables,
    mariadbd,
    postgres_folder,
)

__all__ = [
    "Kind",
    "MissingServer",
    "Server",
    "fresh_database",
    "mariadb",
    "postgres",
    "shared",
]

CONNECT_TIMEOUT = 10  # seconds
START_TIMEOUT = 60.0  # seconds; crash recovery on a slow disk included
PORT_TRIES_MAX = 100
PORTS = range(15_000, 30_000)
"""Below every system's ephemeral range: nobody takes our port while the server is down."""

POSTGRES_USER = "sojourn"
POSTGRES_SETTINGS: Mapping[str, str | int] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a path in a deep temporary folder may be too long for a socket
    "max_connections": 300,
    "shared_buffers": "32MB",
    "synchronous_commit": "on",
    "fsync": "on",
}
MARIADB_SETTINGS: Mapping[str, str | int] = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",  # as Debian's packages and the official images have it
    "max-connections": 300,
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "innodb-flush-log-at-trx-commit": 1,
}
BOOTSTRAP_SIZES = ("--max-allowed-packet=8M", "--net-buffer-length=16K")
BOOTSTRAP_HEAD = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
"""Statements end at a line's end. Without a socket's user, root gets in by TCP with no password."""


class Kind(StrEnum):
    """A kind of server, by the scheme of its URLs."""

    POSTGRES = "postgresql"
    MARIADB = "mysql"


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


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a server in its folder: all another process needs to use it too."""

    kind: Kind
    folder: Path
    port: int
    argv: list[str]
    libraries: str = ""  # LD_LIBRARY_PATH
    owner: int | None = None  # the system user it runs as, where that is not the caller


class Server:
    """A database server that may be stopped, killed, paused and started again.

    Attributes:
        kind: PostgreSQL or MariaDB.
        url: its administrator's database; the user needs no password.
        port: the same for as long as the server's folder exists.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kind = plan.kind
        self.port = plan.port
        self.url = self.database_url(
            "postgres" if plan.kind is Kind.POSTGRES else "mysql"
        )

    def database_url(self, database: str) -> str:
        user = POSTGRES_USER if self.kind is Kind.POSTGRES else "root"
        return f"{self.kind}://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it is down."""
        return processes.noted(self.plan.folder)

    def start(self) -> None:
        """Start it, recovering from a crash if there was one; answer once it takes connections."""
        if self.pid is not None:
            return
        plan = self.plan
        (plan.folder / "data" / "postmaster.pid").unlink(
            missing_ok=True
        )  # of a killed server
        pid = processes.detach(
            plan.argv,
            folder=plan.folder,
            owner=plan.owner,
            env=_environment(plan.libraries),
        )
        ready = _postgres_ready if self.kind is Kind.POSTGRES else _mariadb_ready
        processes.wait_until(
            lambda: not processes.alive(pid) or ready(plan), START_TIMEOUT
        )
        if not processes.alive(pid) or not ready(plan):
            processes.end(plan.folder, signal.SIGKILL)
            raise RuntimeError(
                f"{self.kind} did not start; its log ends:\n{self.log()}"
            )

    def stop(self) -> None:
        """Shut it down in good order: open connections are cut, nothing is lost."""
        polite = signal.SIGINT if self.kind is Kind.POSTGRES else signal.SIGTERM
        processes.end(self.plan.folder, polite)

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
        lines = (self.plan.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])


def _postgres_ready(plan: Plan) -> bool:
    try:
        lines = (plan.folder / "data" / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def _mariadb_ready(plan: Plan) -> bool:
    """Tell whether it greets us, which it does once recovery is over."""
    try:
        with socket.create_connection(
            ("127.0.0.1", plan.port), timeout=1
        ) as connection:
            return len(connection.recv(5)) > 0
    except OSError:
        return False


@contextlib.contextmanager
def postgres(settings: Mapping[str, str | int] | None = None) -> Iterator[Server]:
    """Run a PostgreSQL server of one's own; `settings` are as in postgresql.conf."""
    with _own(Kind.POSTGRES, settings) as server:
        yield server


@contextlib.contextmanager
def mariadb(settings: Mapping[str, str | int] | None = None) -> Iterator[Server]:
    """Run a MariaDB server of one's own; `settings` are as in my.cnf."""
    with _own(Kind.MARIADB, settings) as server:
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
                note.write_bytes(msgspec.json.encode(server.plan, enc_hook=str))
        yield server


def _join(note: Path, stack: contextlib.ExitStack) -> Server | None:
    if not note.exists():
        return None
    plan = msgspec.json.decode(
        note.read_bytes(), type=Plan, dec_hook=lambda _, text: Path(text)
    )
    lock = processes.hold(plan.folder)
    if lock is None:
        return None
    stack.enter_context(lock)
    return Server(plan)


@contextlib.contextmanager
def _own(kind: Kind, settings: Mapping[str, str | int] | None) -> Iterator[Server]:
    with _created(kind, settings or {}) as server:
        try:
            yield server
        finally:
            processes.end(server.plan.folder, _last_signal(kind))


@contextlib.contextmanager
def _created(kind: Kind, settings: Mapping[str, str | int]) -> Iterator[Server]:
    """Make a folder, its keeper, and a running server. Letting go leaves the rest to the keeper."""
    as_nobody = kind is Kind.POSTGRES and os.getuid() == 0
    owner = pwd.getpwnam("nobody").pw_uid if as_nobody else None
    folder = _new_folder(kind, owner)
    lock = processes.hold(folder)
    if lock is None:
        raise FileNotFoundError(folder)
    with lock:
        processes.start_keeper(folder, _last_signal(kind))
        fill = _fill_postgres if kind is Kind.POSTGRES else _fill_mariadb
        server = Server(fill(folder, owner, settings))
        server.start()
        yield server


def _last_signal(kind: Kind) -> int:
    """Say what ends a server whose data nobody wants: PostgreSQL frees shared memory on SIGQUIT."""
    return signal.SIGQUIT if kind is Kind.POSTGRES else signal.SIGKILL


def _new_folder(kind: Kind, owner: int | None) -> Path:
    base = Path(tempfile.gettempdir())
    if owner is not None and not _open_to_all(base):
        base = Path("/tmp")  # noqa: S108  # the one folder every user may enter; mkdtemp is safe in it
    folder = Path(tempfile.mkdtemp(prefix=f"sojourn-{kind}-", dir=base)).resolve()
    (folder / "lock").touch()
    (folder / "data").mkdir(mode=0o700)
    if owner is not None:
        for path in (folder, folder / "data"):
            os.chown(path, owner, processes.group_of(owner))
    return folder


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def _free_port() -> int:
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(PORTS)  # noqa: S311  # no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port among {PORT_TRIES_MAX} tried in {PORTS}")


def _fill_postgres(
    folder: Path, owner: int | None, settings: Mapping[str, str | int]
) -> Plan:
    programs = postgres_folder()
    if owner is not None and not _open_to_all(programs):
        # A virtual environment in root's home, say: `nobody` needs a copy it may read.
        programs = (
            shutil.copytree(programs.parent, folder / "programs", symlinks=True) / "bin"
        )
    data, port = folder / "data", _free_port()
    options = {"port": port, **POSTGRES_SETTINGS, **settings}
    _run(
        [programs / "initdb", "-D", data, "-U", POSTGRES_USER, "-A", "trust"]
        + ["-E", "UTF8", "--locale=C", "--no-instructions"],
        folder=folder,
        owner=owner,
    )
    argv = [str(programs / "postgres"), "-D", str(data)]
    argv += [
        part for name, value in options.items() for part in ("-c", f"{name}={value}")
    ]
    return Plan(kind=Kind.POSTGRES, folder=folder, port=port, argv=argv, owner=owner)


def _fill_mariadb(
    folder: Path, _: int | None, settings: Mapping[str, str | int]
) -> Plan:
    """Fill a data folder as mariadb-install-db does, which Debian's core package cannot run."""
    program = mariadbd()
    libraries = os.pathsep.join(map(str, library_folders(program)))
    port = _free_port()
    common = [str(program), "--no-defaults", f"--basedir={program.parents[1]}"]
    common += [f"--datadir={folder / 'data'}"] + (
        ["--user=root"] if os.getuid() == 0 else []
    )
    options = {
        "port": port,
        "socket": folder / "socket",
        **MARIADB_SETTINGS,
        **settings,
    }
    common += [f"--{name}={value}" for name, value in options.items()]
    script = BOOTSTRAP_HEAD + b"".join(
        f.read_bytes() for f in mariadb_system_tables(program)
    )
    _run(
        [*common, "--bootstrap", "--enforce-storage-engine=", *BOOTSTRAP_SIZES],
        folder=folder,
        script=script,
        libraries=libraries,
    )
    return Plan(
        kind=Kind.MARIADB, folder=folder, port=port, argv=common, libraries=libraries
    )


def _run(
    argv: list[str | Path] | list[str],
    *,
    folder: Path,
    owner: int | None = None,
    script: bytes = b"",
    libraries: str = "",
) -> None:
    result = subprocess.run(
        argv,
        cwd=folder,
        env=_environment(libraries),
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=owner,
        group=None if owner is None else processes.group_of(owner),
        extra_groups=None if owner is None else [],
        check=False,
    )
    if result.returncode != 0:
        output = result.stdout.decode(errors="replace")
        raise RuntimeError(
            f"{argv[0]} failed ({result.returncode}); it said:\n{output[-4_000:]}"
        )


def _environment(libraries: str) -> dict[str, str]:
    return os.environ | ({"LD_LIBRARY_PATH": libraries} if libraries else {})


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
