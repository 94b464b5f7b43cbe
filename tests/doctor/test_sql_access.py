"""Faults of a database as a whole, each made for real: found, told, and no secret among it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec import Struct
from sqlalchemy import make_url
from tests.doctor.planted import Ward, ward

from sojourn.clock import HOUR, host_now
from sojourn.doctor.doctor import Doctor, Examined
from sojourn.finding import Verdict
from sojourn.stores import open as stores
from sojourn.stores.sql.doctor.examiner import SqlExaminer
from sojourn.testing import processes
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.servers import Server, fresh_database, mariadb, postgres

FAILURE, WARNING = Verdict.FAILURE, Verdict.WARNING
BOUND = 15.0  # seconds
Statements = tuple[str, ...]


def seen(url: str, **changed: Any) -> dict[str, Examined]:
    """What doctor finds behind a URL, opened anew; `changed` is what its source is to believe."""
    examiner = stores.open_examiner(url, place="here")
    assert isinstance(examiner, SqlExaminer)
    for name, value in changed.items():
        setattr(examiner._source, name, value)
    with closing(Doctor([examiner], nullcontext)) as doctor:
        return {each.check.id: each for each in doctor.examine()}


def wrong(url: str, **changed: Any) -> dict[str, Verdict]:
    found = seen(url, **changed)
    return {name: x.finding.verdict for name, x in found.items() if x.finding.verdict.rank}


def soon(happened: Callable[[], bool]) -> bool:
    """A server reads its configuration again when it comes to it."""
    return processes.wait_until(happened, BOUND)


def told(url: str) -> str:
    """The one thing that is wrong, all words of it."""
    found = seen(url)
    [name] = [name for name, each in found.items() if each.finding.verdict.rank]
    assert name == "store.reachable"
    assert all(x.finding.verdict is Verdict.SKIPPED for n, x in found.items() if n != name)
    finding = found[name].finding
    assert finding.fix is not None
    return " ".join([finding.title, *finding.evidence, finding.means, finding.fix.text])


def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for scheme in ("postgresql", "mysql"):
            said = told(f"{scheme}://me:hidden@127.0.0.1:{port}/x")
            assert f"Nothing listens on 127.0.0.1:{port}" in said
            assert "hidden" not in said


def test_no_such_host() -> None:
    assert "There is no host nowhere.invalid" in told("mysql://me:hidden@nowhere.invalid/x")


def test_wrong_password(mariadb_url: str, mariadb_server: Server) -> None:
    with ward(mariadb_url) as patient:
        patient.execute("CREATE USER guarded@'%' IDENTIFIED BY 'right'")
        try:
            url = make_url(mariadb_url).set(username="guarded", password="hidden")
            said = told(url.render_as_string(hide_password=False))
        finally:
            patient.execute("DROP USER guarded@'%'")
    assert "does not let us in" in said
    assert "1045" in said
    assert "hidden" not in said


@pytest.mark.parametrize("part", [{"username": "nobody_we_know"}, {"database": "no_such"}])
def test_not_let_in(postgres_server: Server, part: dict[str, str]) -> None:
    said = told(str(make_url(postgres_server.url).set(**part)))  # type: ignore[arg-type]  # of a URL's own names
    assert "does not let us in" in said
    assert next(iter(part.values())) in said


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A file that is not there is not made by looking; one that is no database is told."""
    missing = tmp_path / "missing.db"
    assert "no database file" in told(f"sqlite:///{missing}")
    assert not missing.exists()
    assert "no database file" in told(f"sqlite:///{tmp_path}/no/folder/at.db")
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"This is no database." * 400)
    assert "NOTADB" in told(f"sqlite:///{garbage}")


def test_a_slow_network(postgres_url: str) -> None:
    with FaultProxy(postgres_url) as proxy:
        proxy.latency(0.03)  # each way
        examiner = stores.open_examiner(proxy.url, place="here")
        assert examiner is not None
        with closing(examiner):
            [check] = [check for check in examiner.checks() if check.id == "store.latency"]
            assert check.look().verdict is WARNING
            proxy.pass_through()
            assert check.look().verdict is Verdict.OK


class Setting(Struct, frozen=True):
    """A setting of a database, and what finds that it is wrong."""

    check: str
    verdict: Verdict
    plant: Statements
    cure: Statements = ()


POSTGRES = [
    Setting(
        "store.durability",
        WARNING,
        ("ALTER DATABASE {name} SET synchronous_commit = off",),
        ("ALTER DATABASE {name} RESET synchronous_commit",),
    ),
    Setting(
        "store.writable",
        FAILURE,
        ("ALTER DATABASE {name} SET default_transaction_read_only = on",),
        ("SET default_transaction_read_only = off", "ALTER DATABASE {name} RESET ALL"),
    ),
    Setting(
        "schema.copies",
        WARNING,
        ("CREATE TABLE sojourn_sessions_before_20200101 AS TABLE sojourn_sessions",),
        ("DROP TABLE sojourn_sessions_before_20200101",),
    ),
]


def test_settings_of_postgres(postgres_url: str) -> None:
    """Each is found when a connection is opened anew, and no other check is disturbed."""
    with ward(postgres_url) as patient:
        name = make_url(postgres_url).database
        for setting in POSTGRES:
            patient.execute(*(sql.format(name=name) for sql in setting.plant))
            assert wrong(postgres_url) == {setting.check: setting.verdict}
            patient.execute(*(sql.format(name=name) for sql in setting.cure))
        assert wrong(postgres_url) == {}


def test_an_encoding_that_cannot_hold_every_name(postgres_server: Server) -> None:
    name = f"latin_{os.getpid()}"
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0".encode())
        try:
            url = postgres_server.database_url(name)
            stores.migrate(url)
            assert wrong(url) == {"store.encoding": FAILURE}
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def restarted(server: Server, before: str, after: str) -> None:
    """Start it again with another setting of its command line."""
    server.stop()
    argv = [each.replace(before, after) for each in server.plan.argv]
    assert argv != server.plan.argv
    server.plan = msgspec.structs.replace(server.plan, argv=argv)
    server.start()


def test_settings_of_mariadb() -> None:
    """They are the server's: hence one for this test alone."""
    log = {"log-bin": "changes", "server-id": "1", "sync-binlog": "1"}
    settings = {**log, "innodb-doublewrite": "OFF"}
    with mariadb(settings) as server, fresh_database(server) as url:
        stores.migrate(url)
        assert wrong(url) == {"store.durability": FAILURE}
        assert "doublewrite" in seen(url)["store.durability"].finding.title
        restarted(server, "doublewrite=OFF", "doublewrite=ON")
        assert wrong(url) == {}
        mend_settings_of_mariadb(url)


def mend_settings_of_mariadb(url: str) -> None:
    with ward(url) as patient:
        planted = {
            "sync_binlog": ("0", "1", {"store.durability": WARNING}),
            "innodb_flush_log_at_trx_commit": ("2", "1", {"store.durability": WARNING}),
            "read_only": ("ON", "OFF", {"store.writable": FAILURE}),
        }
        for name, (bad, good, found) in planted.items():
            patient.execute(f"SET GLOBAL {name} = {bad}")
            assert wrong(url) == found
            patient.execute(f"SET GLOBAL {name} = {good}")
        patient.execute(
            "CREATE USER reader@'%'",
            f"GRANT SELECT, INSERT, UPDATE ON {make_url(url).database}.* TO reader@'%'",
        )
        assert wrong(str(make_url(url).set(username="reader"))) == {"store.grants": FAILURE}
        assert wrong(url) == {}


def test_a_server_of_postgres_set_up_wrongly() -> None:
    """What is a whole server's: it does not wait for the disk; it wants a password; it is a standby."""
    with postgres({"fsync": "off"}) as server, fresh_database(server) as url:
        stores.migrate(url)
        assert wrong(url) == {"store.durability": FAILURE}
        assert "fsync" in seen(url)["store.durability"].finding.title
        restarted(server, "fsync=off", "fsync=on")
        with ward(url) as patient:
            patient.execute("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
            assert soon(lambda: wrong(url) == {"store.durability": FAILURE})
            patient.execute("ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
            assert soon(lambda: wrong(url) == {})
            for method in ("scram-sha-256", "md5"):
                refused(patient, server, method)
        server.stop()
        (server.plan.root / "data" / "standby.signal").touch()
        server.start()
        assert wrong(url) == {"store.writable": FAILURE}
        assert "standby" in seen(url)["store.writable"].finding.title
        server.stop()  # it lets nobody drop the database


def refused(patient: Ward, server: Server, method: str) -> None:
    """Let a server ask for a password; who has another is told so, and no password is shown."""
    role = method.partition("-")[0]
    patient.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'right'")
    hba = server.plan.root / "data" / "pg_hba.conf"
    hba.write_text(f"host all {role} 127.0.0.1/32 {method}\n{hba.read_text()}")
    patient.execute("SELECT pg_reload_conf()")
    bad, good = (
        make_url(patient.url).set(username=role, password=password).render_as_string(False)
        for password in ("hidden", "right")
    )
    assert soon(lambda: wrong(bad) == {"store.reachable": FAILURE})
    said = told(bad)
    assert "does not let us in" in said
    assert "password authentication failed" in said
    assert "hidden" not in said
    assert wrong(good) == {}


def test_grants_of_postgres(postgres_url: str) -> None:
    with ward(postgres_url) as patient:
        role = f"reader_{os.getpid()}"
        patient.execute(
            f"CREATE ROLE {role} LOGIN",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        )
        try:
            url = str(make_url(postgres_url).set(username=role))
            assert wrong(url) == {}
            patient.execute(f"REVOKE DELETE ON sojourn_leases FROM {role}")
            assert wrong(url) == {"store.grants": FAILURE}
            patient.execute(
                f"GRANT DELETE ON sojourn_leases TO {role}",
                "ALTER TABLE sojourn_sessions ENABLE ROW LEVEL SECURITY",
            )
            assert wrong(url) == {"store.grants": FAILURE}
        finally:
            patient.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_clocks_that_differ(postgres_url: str) -> None:
    stores.migrate(postgres_url)
    assert wrong(postgres_url, host_now=lambda: host_now() - HOUR) == {"store.clock": WARNING}


class Disk(Struct):
    total: int
    free: int


@pytest.mark.parametrize(("free", "verdict"), [(70, WARNING), (10, FAILURE)])
def test_a_full_disk(empty_sqlite: str, free: int, verdict: Verdict) -> None:
    full = Disk(total=2_000 << 20, free=free << 20)
    assert wrong(empty_sqlite, disk_usage=lambda _folder: full) == {"store.disk": verdict}


def test_a_file_that_others_may_read(empty_sqlite: str) -> None:
    with ward(empty_sqlite):
        Path(empty_sqlite.removeprefix("sqlite:///")).chmod(0o644)
        assert wrong(empty_sqlite) == {"store.file": WARNING}


OPEN_IT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM sojourn_sessions").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_somebody_else_has_the_file_open(empty_sqlite: str) -> None:
    """Another program is named; other servers, who take turns, are not."""
    with ward(empty_sqlite):
        path = empty_sqlite.removeprefix("sqlite:///")
        other = subprocess.Popen(
            [sys.executable, "-c", OPEN_IT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"open\n"
            found = seen(empty_sqlite)["store.writers"].finding
        assert found.verdict.rank
        assert str(other.pid) in found.evidence[0]
        assert wrong(empty_sqlite) == {}


def test_a_damaged_index_is_made_anew(empty_sqlite: str) -> None:
    """An index that lacks rows, as after a crash of a faulty disk: nobody is found by it."""
    with ward(empty_sqlite) as patient:
        path = empty_sqlite.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            [(root, sql)] = raw.execute(
                "SELECT rootpage, sql FROM sqlite_master WHERE name = 'sojourn_leases_user_id'"
            )
            raw.execute("PRAGMA writable_schema = ON")
            raw.execute("DELETE FROM sqlite_master WHERE name = 'sojourn_leases_user_id'")
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("UPDATE sojourn_leases SET user_id = 'moved' WHERE id = 'l3'")
            raw.execute("PRAGMA writable_schema = ON")
            raw.execute(
                "INSERT INTO sqlite_master"
                " VALUES ('index', 'sojourn_leases_user_id', 'sojourn_leases', ?, ?)",
                (root, sql),
            )
        assert wrong(empty_sqlite) == {"store.damage": FAILURE}
        steps = [mended.step.what for mended in patient.doctor.repair()]
        assert steps == ["Make the index sojourn_leases_user_id anew from the rows."]
        assert wrong(empty_sqlite) == {}
        assert not list(patient.doctor.repair())


def test_a_damaged_page_is_told(empty_sqlite: str) -> None:
    """What only a backup mends is not tried."""
    with ward(empty_sqlite) as patient:
        root = patient.ask("SELECT rootpage FROM sqlite_master WHERE name = 'sojourn_webhooks'")
    path = Path(empty_sqlite.removeprefix("sqlite:///"))
    pages = bytearray(path.read_bytes())
    pages[(root - 1) * 1_024 : root * 1_024] = b"\xff" * 1_024
    path.write_bytes(pages)
    found = seen(empty_sqlite)["store.damage"]
    assert found.finding.verdict is FAILURE
    assert not found.steps
