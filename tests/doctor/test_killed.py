"""Repairs killed before any of their steps, and run again: all is well, and nobody is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis
from sqlalchemy import text
from tests.adapters.express.pg import express_set, rows
from tests.doctor.conftest import Mend
from tests.doctor.planted import Plant, Ward, ward
from tests.doctor.sql_faults import columns, keyless
from tests.doctor.test_express import FAULTS, PEOPLE, TABLE, Fault
from tests.doctor.test_express import Ward as Express
from tests.doctor.test_redis import examined, forgotten, wrong
from tests.doctor.test_sql import CATALOGUE
from tests.doctor.test_sql_repair import LONG

from sojourn.adapters.express import install
from sojourn.stores.open import open_store
from sojourn.stores.sql.doctor import shape
from sojourn.stores.sql.doctor.job import COPY
from sojourn.testing.builders import sign_in
from sojourn.testing.redis_server import RedisServer, redis_server

RUNS_MAX = 3
MENDED = {fault.name: fault for fault in FAULTS if fault.mended}
AT_ONCE = ("multiple primary keys", "no cookie", "unreadable", "no index", "not pruned")


def killed_at(steps: int) -> Iterator[int]:
    """Say before which steps to die: every one in the campaign, else the second and the last."""
    yield from range(1, steps + 1) if LONG else sorted({min(2, steps), steps})


def steps_of(url: str, mend: Mend) -> int:
    whole = mend(url, 0)
    assert whole.returncode == 0, whole.stderr
    return int(whole.stdout.split()[-1])


def damaged(ward: Express, *faults: Fault) -> set[str]:
    """Make the table anew, with people; break it; return the sids that were in it."""
    asides = rows(ward.database, "SELECT tablename FROM pg_tables WHERE tablename ~ '_aside_'")
    ward.execute(*(f'DROP TABLE "{name}"' for (name,) in asides), 'DROP TABLE IF EXISTS "session"')
    ward.execute(TABLE)
    install(f"express+{ward.url}")
    ward.people()
    for fault in faults:
        ward.execute(*fault.plant)
    return {sid for (sid,) in rows(ward.database, 'SELECT sid FROM "session" WHERE expire > now()')}


def healed(ward: Express, before: set[str], lost: set[str]) -> None:
    """Doctor runs again, and all is well: everybody is signed in, what nobody could read is kept."""
    runs = 0
    while list(ward.doctor.repair()):
        runs += 1
        assert runs <= RUNS_MAX
    assert ward.wrong() == {}
    there = ward.signed_in()
    assert set(there) == before - lost
    for n in range(PEOPLE):
        assert there[f"sid {n}"] == {"passport": {"user": f"{n}"}, "cart": [n]}
    asides = rows(ward.database, "SELECT tablename FROM pg_tables WHERE tablename ~ '_aside_'")
    kept = {
        sid for (name,) in asides for (sid,) in rows(ward.database, f'SELECT sid FROM "{name}"')
    }
    assert lost <= kept
    express_set(ward.database, "sid 1", {"cookie": {}, **there["sid 1"]}, 4_000_000_000)


@pytest.mark.parametrize("names", [AT_ONCE, *((name,) for name in MENDED if LONG)], ids="+".join)
def test_express_killed_at_every_step(
    names: tuple[str, ...], postgres_url: str, mend: Mend
) -> None:
    ward, faults = Express(postgres_url), [MENDED[name] for name in names]
    lost = {sid for fault in faults for sid in fault.lost}
    with closing(ward.database), closing(ward.doctor):
        before = damaged(ward, *faults)
        steps = steps_of(f"express+{ward.url}", mend)
        assert steps > 0
        healed(ward, before, lost)
        for last in killed_at(steps):
            assert damaged(ward, *faults) == before
            dead = mend(f"express+{ward.url}", last)
            assert dead.returncode == -signal.SIGKILL, (last, dead.stderr)
            healed(ward, before, lost)


def break_sqlite(patient: Ward) -> None:
    """Twins without a key, with a column gone; another key and types; no index; a row that is none."""
    keyless("sojourn_sessions", twice=True)(patient)
    columns(patient, "sojourn_leases", user_id="INTEGER NOT NULL", fence="TEXT NOT NULL")
    patient.execute(
        "ALTER TABLE sojourn_sessions DROP COLUMN ended_at",
        "DROP TABLE sojourn_sweeps",
        "DROP INDEX sojourn_leases_session",
        "DELETE FROM sojourn_marks WHERE name = 'audits'",
        "UPDATE sojourn_leases SET device = '[1' WHERE id = 'l1'",
    )


BREAK_POSTGRES = [
    "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_pkey",
    "ALTER TABLE sojourn_sessions DROP CONSTRAINT sojourn_sessions_token",
    "INSERT INTO sojourn_sessions SELECT * FROM sojourn_sessions",
    "ALTER TABLE sojourn_sessions DROP COLUMN ended_at",
    "ALTER TABLE sojourn_sessions ALTER COLUMN data TYPE jsonb USING data::jsonb",
    'ALTER TABLE sojourn_leases ALTER COLUMN user_id TYPE varchar(256) COLLATE "default"',
    "ALTER TABLE sojourn_leases SET UNLOGGED",
    "DROP TABLE sojourn_sweeps",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sojourn_leases_session'::regclass",
    "DELETE FROM sojourn_marks WHERE name = 'audits'",
    "UPDATE sojourn_leases SET device = '[1' WHERE id = 'l1'",
]
BREAK_MARIADB = [
    "ALTER TABLE sojourn_sessions DROP PRIMARY KEY, DROP INDEX sojourn_sessions_token",
    "INSERT INTO sojourn_sessions SELECT * FROM sojourn_sessions",
    "ALTER TABLE sojourn_sessions DROP COLUMN ended_at, MODIFY data TEXT NOT NULL",
    "ALTER TABLE sojourn_leases MODIFY user_id VARCHAR(256) COLLATE utf8mb4_general_ci NOT NULL",
    "ALTER TABLE sojourn_sessions ENGINE = Aria ROW_FORMAT = PAGE",
    "DROP TABLE sojourn_sweeps",
    "DROP INDEX sojourn_leases_session ON sojourn_leases",
    "DELETE FROM sojourn_marks WHERE name = 'audits'",
    "UPDATE sojourn_leases SET device = '[1' WHERE id = 'l1'",
]
ALL_AT_ONCE: dict[str, Plant] = {
    "sqlite": break_sqlite,
    "postgres": BREAK_POSTGRES,
    "mariadb": BREAK_MARIADB,
}
EACH = [
    (kind, fault.name, fault.plant)
    for kind, faults in CATALOGUE.items()
    for fault in faults
    if fault.mended and LONG
]
PARTS = 4 if LONG else 1
"""The campaign's kills are shared out, every fourth statement to each."""
LEFT = (
    "DELETE FROM sojourn_sessions WHERE id IN ('spare', 'short') OR id LIKE 'old%'",
    "ALTER TABLE sojourn_sessions DROP COLUMN theirs",
    "ALTER TABLE sojourn_leases DROP INDEX holder",
)
"""What a fault leaves behind once it is mended, and keeps it from being planted again."""


def kept(patient: Ward) -> dict[str, set[str]]:
    """The ids in each table, and in its copies; for who takes the copies away first, what there is."""
    found: dict[str, set[str]] = {"sojourn_sessions": set(), "sojourn_leases": set()}
    with patient.store._db.writing() as tx:
        for name in shape.tables(tx):
            copied = COPY.fullmatch(name)
            table = copied[1] if copied else name
            if table in found:
                found[table] |= {row[0] for row in tx.core(text(f"SELECT id FROM {name}"))}
    return found


def plant_anew(patient: Ward, plant: Plant) -> dict[str, set[str]]:
    """Take away what an earlier repair has left, break it again, and return who is in it."""
    with patient.store._db.writing() as tx:
        copies = [name for name in shape.tables(tx) if COPY.fullmatch(name)]
    patient.execute(*(f"DROP TABLE {name}" for name in copies))
    for statement in LEFT:
        with suppress(Exception):  # mostly it is not there
            patient.execute(statement)
    patient.do(plant)
    return kept(patient)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("kind", "name", "plant"),
    [*((kind, "all at once", plant) for kind, plant in ALL_AT_ONCE.items()), *EACH],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_killed_at_every_step(
    kind: str,
    name: str,
    plant: Plant,
    part: int,
    mend: Mend,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A doctor that dies before any statement of a repair loses nothing; the next one heals."""
    with ward(request.getfixturevalue(f"{kind}_url")) as patient:
        patient.do(plant)
        steps = steps_of(patient.url, mend)
        assert steps > 0
        assert not patient.wrong()
        thirds = sorted({1 + steps // 3, 1 + 2 * steps // 3, steps})
        deaths = range(part + 1, steps + 1, PARTS) if LONG else thirds
        for last in deaths:
            before = plant_anew(patient, plant)
            dead = mend(patient.url, last)
            assert dead.returncode == -signal.SIGKILL, (last, dead.stderr)
            runs = 0
            while list(patient.doctor.repair()):  # its lock went with it
                runs += 1
                assert runs <= RUNS_MAX
            assert not patient.wrong(), last
            patient.check_on_everybody()
            if name != "nobody sweeps":
                left = kept(patient)
                assert all(before[table] - {None} <= left[table] for table in before), last
    if LONG:
        with capsys.disabled():
            print(f"\n{kind}, {name}: killed {len(deaths)} times of {steps}, healed")  # noqa: T201 - a campaign's figure


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def leave_behind(client: Any, server: RedisServer) -> dict[bytes, Any]:
    """What an older deployment left, beside somebody who is signed in; by key, what it holds."""
    client.flushall()
    with closing(open_store(server.url)) as store:
        sign_in(store, "ours", "ann")
    for n in range(3):
        forgotten(client, f"session:old-{n}", lambda key: client.set(key, key))
    forgotten(client, "feature:editor:count", lambda key: client.set(key, 7))
    client.set("session:live", "{}", ex=600)
    client.sadd("user_sessions:ann", "live", "gone-1", "gone-2")
    client.sadd("user_sessions:bob", "gone-3")
    return contents(client)


def contents(client: Any) -> dict[bytes, Any]:
    """Return the older layout's keys, and its sets; what was moved aside counts as there.

    Reads no value that may be an orphan: it would have been used, then.
    """
    found: dict[bytes, Any] = {}
    for key in client.scan_iter():
        if key.startswith(b"sojourn:"):
            continue
        name = key.split(b":", 2)[2] if key.startswith(b"sojourn-aside:") else key
        if client.type(key) == b"set":
            found[name] = found.get(name, set()) | client.smembers(key)
        else:
            assert name not in found
            found[name] = None
    return found


def test_redis_orphans_killed_at_every_step(server: RedisServer, mend: Mend) -> None:
    """Each name is in its set or aside, each key here or aside, whenever doctor dies; then it goes on."""
    with redis.Redis.from_url(server.url) as client:
        before = leave_behind(client, server)
        steps = steps_of(server.url, mend)
        assert steps == 8  # two sets in two steps each, three sessions, a counter
        for last in killed_at(steps):
            assert leave_behind(client, server) == before
            dead = mend(server.url, last)
            assert dead.returncode == -signal.SIGKILL, (last, dead.stderr)
            assert contents(client) == before
            assert set(wrong(server.url)) == {"store.redis-orphans"}
            with closing(examined(server.url)) as doctor:
                assert list(doctor.repair())
                assert list(doctor.repair()) == []
            assert wrong(server.url) == {}
            assert contents(client) == before
            assert client.smembers("user_sessions:ann") == {b"live"}
            (aside,) = client.keys("sojourn-aside:*:session:old-1")
            assert client.get(aside) == b"session:old-1"
            with closing(open_store(server.url)) as store:
                assert len(store.sessions()) == 1
