"""Healthy set-ups, fresh and with many sessions and seats: no false alarm, and in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis
from tests.doctor.test_express import TABLE
from tests.doctor.test_sql_repair import BATCH, KINDS, LONG

from sojourn.adapters.express import EXPRESS, install
from sojourn.doctor.examiners import doctor
from sojourn.finding import Verdict
from sojourn.lease import Acquire, Lease
from sojourn.license import Policy
from sojourn.service.licenses import Licenses
from sojourn.session import NewSession, Session
from sojourn.settings import Settings
from sojourn.stores.open import open_ledger, open_store
from sojourn.testing.builders import token_hash
from sojourn.testing.redis_server import redis_server

MANY = 100_000 if LONG else 2_000
SEATED = MANY // 10
SECRET = "a-secret-of-doctor-on-full-stores-0123456789"
ROWS = """
INSERT INTO "session" (sid, sess, expire)
SELECT 'many ' || n, json_build_object(
    'cookie', json_build_object('originalMaxAge', 43200000, 'httpOnly', true, 'path', '/', 'expires',
        to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.000"Z"')),
    'passport', json_build_object('user', n::text), 'cart', json_build_array(n)), ends
FROM (SELECT n, date_trunc('second', now()) + interval '12 hours' - n % 3600 * interval '1 second' AS ends
    FROM generate_series(1, MANY) AS n) AS made
"""

Healthy = Callable[..., None]


@pytest.fixture
def healthy(capsys: pytest.CaptureFixture[str]) -> Healthy:
    """Look at everything, and find nothing: `needed` are checks that must have looked."""

    def full_run(settings: Settings, *needed: str, full: bool = False) -> None:
        with closing(doctor(settings, express=EXPRESS)) as opened:
            began = time.monotonic()
            seen = {each.check.id: each for each in opened.examine()}
            took = time.monotonic() - began
        wrong = {name: each.finding for name, each in seen.items() if each.finding.verdict.rank}
        assert wrong == {}
        for name in needed:
            assert seen[name].finding.verdict is Verdict.OK, seen[name]
        if LONG and full:
            slowest = sorted(seen.values(), key=lambda each: -each.milliseconds)[:3]
            with capsys.disabled():
                print(  # noqa: T201  # the campaign's figure
                    f"\n{MANY:,} sessions: {len(seen)} checks in {took:.1f} s, of it",
                    *(f"{each.check.id} {each.milliseconds} ms" for each in slowest),
                )

    return full_run


def fill(settings: Settings) -> None:
    """Sign many in, and let every tenth have a seat."""
    with (
        closing(open_store(settings.store_url)) as store,
        closing(open_ledger(settings.ledger_url)) as ledger,
    ):
        policy = Policy(capacity=SEATED, lost_after=3_600_000)
        license_, _ = Licenses(store, ledger).create("Acme", {"editor": policy}, actor="test")
        for numbers in batches():
            people = [
                NewSession(
                    id=f"many{n}",
                    token_hash=token_hash(f"many{n}"),
                    user_id=f"One of many {n}",
                    data={"cart": [n] * 20},
                )
                for n in numbers
            ]
            assert all(isinstance(each, Session) for each in store.create(people))
            seats = [
                Acquire(
                    pool_id=f"{license_.id}:editor",
                    user_id=f"One of many {n}",
                    client_id="tab",
                    lease_id=f"lea_{n}",
                    session_id=f"many{n}",
                )
                for n in numbers
                if n < SEATED
            ]
            assert all(isinstance(each, Lease) for each in store.acquire(seats))


def batches() -> Iterator[range]:
    for start in range(0, MANY, BATCH):
        yield range(start, min(start + BATCH, MANY))


CHECKED = ("schema.rows", "schema.keys", "round-trip.session", "round-trip.seat", "seats.orphans")


@pytest.mark.parametrize("kind", KINDS)
def test_sql(kind: str, healthy: Healthy, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{kind}_url" if LONG else f"empty_{kind}")
    with closing(open_store(url, migrate=True)):
        pass
    if kind == "sqlite":
        Path(url.removeprefix("sqlite:///")).chmod(0o600)
    settings = Settings(store=url, secret=(SECRET,), data=str(tmp_path))
    healthy(settings, *CHECKED)
    fill(settings)
    healthy(settings, *CHECKED, full=True)


def test_redis(healthy: Healthy, empty_sqlite: str, tmp_path: Path) -> None:
    """And an Express application's sessions in the same Redis."""
    Path(empty_sqlite.removeprefix("sqlite:///")).chmod(0o600)
    needed = ("store.redis-orphans", "schema.ledger-rows", *CHECKED[2:])
    with redis_server() as server, redis.Redis.from_url(server.url) as client:
        settings = Settings(
            store=server.url,
            ledger=empty_sqlite,
            express=f"express+{server.url}",
            secret=(SECRET,),
            data=str(tmp_path),
        )
        healthy(settings, *needed)
        fill(settings)
        healthy(settings, *needed, full=True)
        for numbers in batches():
            with client.pipeline(transaction=False) as pipe:
                for n in numbers:
                    sess = {"cookie": {"originalMaxAge": 43_200_000}, "passport": {"user": f"{n}"}}
                    pipe.set(f"sess:many {n}", json.dumps(sess), ex=43_200)
                pipe.execute()
        healthy(settings, *needed, full=True)
        assert client.dbsize() > MANY


def test_express(healthy: Healthy, postgres_url: str, empty_sqlite: str, tmp_path: Path) -> None:
    Path(empty_sqlite.removeprefix("sqlite:///")).chmod(0o600)
    express = f"express+{postgres_url}"
    settings = Settings(store=empty_sqlite, express=express, data=str(tmp_path))
    with closing(psycopg.connect(postgres_url, autocommit=True)) as database:
        database.execute(TABLE)
        install(express)
        healthy(settings, "schema.express-key", "schema.express-installed")
        database.execute(ROWS.replace("MANY", str(MANY)).encode())
    healthy(settings, "schema.express-rows", "store.express-zone", full=True)


def test_memory(healthy: Healthy, tmp_path: Path) -> None:
    """It lives in the process of its server: no other sees more of it than its settings."""
    healthy(Settings(store="memory:", data=str(tmp_path)), "secrets.set")
