"""How to run a throwaway server: a folder filled with empty data, and the command that serves it."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from sojourn.decoding import prepared
from sojourn.testing.binaries import (
    WHEEL_FOLDER,
    library_folders,
    mariadb_system_tables,
    mariadbd,
    postgres_folder,
)
from sojourn.testing.processes import group_of

Settings = Mapping[str, str | int]

PORT_TRIES_MAX = 100
PORTS = range(15_000, 30_000)
"""Below every system's ephemeral range: nobody takes our port while the server is down."""

POSTGRES_USER = "sojourn"
POSTGRES_SETTINGS: Settings = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a path in a deep temporary folder may be too long for a socket
    "max_connections": 300,
    "shared_buffers": "32MB",
    "synchronous_commit": "on",
    "fsync": "on",
}
MARIADB_SETTINGS: Settings = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "character-set-server": "utf8mb4",  # as Debian's packages have it
    "max-connections": 300,
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "innodb-flush-log-at-trx-commit": 1,
}
BOOTSTRAP = (
    "--bootstrap",
    "--enforce-storage-engine=",
    "--max-allowed-packet=8M",
    "--net-buffer-length=16K",
)
BOOTSTRAP_HEAD = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
"""Statements end at a line's end. Without a socket's user, root gets in by TCP with no password."""


class Kind(StrEnum):
    """A kind of server, by the scheme of its URLs."""

    POSTGRES = "postgresql"
    MARIADB = "mysql"


@prepared
class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a server in its folder: all that another process needs to use it too."""

    kind: Kind
    folder: str
    port: int
    argv: list[str]
    libraries: str = ""  # where an unpacked copy has what the system's loader does not know
    owner: int | None = None  # the system user it runs as, where that is not the caller

    @property
    def root(self) -> Path:
        return Path(self.folder)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | ({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})


def new_folder(kind: Kind) -> Path:
    """Make the folder of a server to be, with nothing in it but a lock and room for data."""
    base, owner = Path(tempfile.gettempdir()), _owner(kind)
    if owner is not None and not _open_to_all(base):
        base = Path("/tmp")  # noqa: S108  # all may enter it, and the folder's name is unguessable
    folder = Path(tempfile.mkdtemp(prefix=f"sojourn-{kind}-", dir=base)).resolve()
    (folder / "lock").touch()
    (folder / "data").mkdir(mode=0o700)
    if owner is not None:
        for path in (folder, folder / "data"):
            os.chown(path, owner, group_of(owner))
    return folder


def prepare(kind: Kind, folder: Path, settings: Settings) -> Plan:
    """Fill the folder with an empty server's data, and say how to serve it."""
    fill = _fill_postgres if kind is Kind.POSTGRES else _fill_mariadb
    return fill(folder, settings)


def _owner(kind: Kind) -> int | None:
    """Choose whom the server runs as: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_uid if kind is Kind.POSTGRES and os.getuid() == 0 else None


def _open_to_all(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def _free_port() -> int:
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port among {PORT_TRIES_MAX} tried in {PORTS}")


def _copy(programs: Path, target: Path) -> Path:
    """Copy PostgreSQL to where `nobody` may read it: a virtual environment may be in root's home.

    Programs find their libraries by relative paths: a wheel's are beside its package.
    """
    root = programs.parent
    if root.name != WHEEL_FOLDER:
        return shutil.copytree(root, target, symlinks=True) / programs.name
    package = root.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, target / part.name, symlinks=True)
    return target / package.name / root.name / programs.name


def _fill_postgres(folder: Path, settings: Settings) -> Plan:
    programs, owner = postgres_folder(), _owner(Kind.POSTGRES)
    if owner is not None and not _open_to_all(programs):
        programs = _copy(programs, folder / "programs")
    port = _free_port()
    data = str(folder / "data")
    options: Settings = {"port": port, **POSTGRES_SETTINGS, **settings}
    argv = [str(programs / "postgres"), "-D", data]
    argv += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    plan = Plan(kind=Kind.POSTGRES, folder=str(folder), port=port, argv=argv, owner=owner)
    rights = ["-U", POSTGRES_USER, "-A", "trust"]
    locale = ["-E", "UTF8", "--locale=C"]
    _run([str(programs / "initdb"), "-D", data, *rights, *locale, "--no-instructions"], plan)
    return plan


def _fill_mariadb(folder: Path, settings: Settings) -> Plan:
    """Do what mariadb-install-db does, which Debian's core package ships but cannot run."""
    program, port = mariadbd(), _free_port()
    options: Settings = {
        "basedir": str(program.parents[1]),
        "datadir": str(folder / "data"),
        "socket": str(folder / "socket"),
        "tmpdir": str(folder),  # a server that starts clears away temporary tables, others' too
        "port": port,
        **({"user": "root"} if os.getuid() == 0 else {}),  # it wants to be told
        **MARIADB_SETTINGS,
        **settings,
    }
    plan = Plan(
        kind=Kind.MARIADB,
        folder=str(folder),
        port=port,
        argv=[str(program), "--no-defaults", *(f"--{n}={value}" for n, value in options.items())],
        libraries=os.pathsep.join(map(str, library_folders(program))),
    )
    script = b"".join(part.read_bytes() for part in mariadb_system_tables(program))
    _run([*plan.argv, *BOOTSTRAP], plan, script=BOOTSTRAP_HEAD + script)
    return plan


def _run(argv: Sequence[str], plan: Plan, *, script: bytes = b"") -> None:
    result = subprocess.run(
        argv,
        cwd=plan.folder,
        env=plan.environment,
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=plan.owner,
        group=None if plan.owner is None else group_of(plan.owner),
        extra_groups=None if plan.owner is None else [],
        check=False,
    )
    if result.returncode != 0:
        output = result.stdout.decode(errors="replace")
        raise RuntimeError(f"{argv[0]} failed ({result.returncode}); it said:\n{output[-4_000:]}")
