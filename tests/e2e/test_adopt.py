"""`sojourn adopt` on real tables, made by the libraries whose tables they are."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask import Flask, session
from flask_session import Session as FlaskSession  # type: ignore[import-untyped]  # ships no types
from sqlalchemy import make_url, text
from tests.adapters.express import node
from tests.e2e.cli_harness import Program, environment, run, run_json
from tests.e2e.old_tables import (
    add_user_sessions,
    engine_of,
    executing,
    in_days,
    make_user_sessions,
)

from sojourn.adapters.express.cookies import ExpressCookies
from sojourn.clock import DAY
from sojourn.cookie import Codec, SignedTokens
from sojourn.origin import Origin
from sojourn.service.request_session import (
    AdoptedCookie,
    RawTokens,
    Request,
    RequestSession,
    Rules,
    verbs,
)
from sojourn.service.request_session import run as carry_out
from sojourn.service.sessions import SessionService
from sojourn.stores.open import migrate, open_store
from sojourn.testing.redis_server import redis_server

DJANGO_SECRET = "django-insecure-of-the-old-site"
DJANGO = """
import json, sys
from urllib.parse import urlsplit
import pymysql
pymysql.version_info = (2, 2, 7, "final", 0)  # what Django asks of mysqlclient
pymysql.install_as_MySQLdb()
from django.conf import settings
database, secret = json.loads(sys.argv[1]), sys.argv[2]
settings.configure(DATABASES={"default": database}, SECRET_KEY=secret, USE_TZ=True,
    INSTALLED_APPS=["django.contrib.sessions"])
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.sessions.backends.db import SessionStore
keys = []
for user in ("1", "2", None):
    store = SessionStore()
    if user: store["_auth_user_id"] = user
    store["cart"] = ["book"] * (40 if user == "1" else 1)
    store["name"] = "Zoë ☃"
    store.create()
    keys.append(store.session_key)
print(json.dumps(keys))
"""


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the old site."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/old.db"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def signed_in(store_url: str, name: str, value: str, codec: Codec) -> str | None:
    """Tell who is signed in by an old cookie, and that ours takes its place: the same one for all
    requests of a page."""
    store = open_store(store_url)
    try:
        rules = Rules(adopted=(AdoptedCookie(name, codec),))
        carry = verbs(SessionService(store))
        request = Request(cookies=f"{name}={value}", origin=Origin(ip=None, https=True))
        ours = SignedTokens([b"s" * 32])
        visits = [RequestSession(rules, ours, request) for _ in range(3)]
        given = set()
        for visit in visits:
            carry_out(visit.open(), carry)
            headers = carry_out(visit.commit(), carry)
            cookies = (value for header, value in headers if header == "Set-Cookie")
            # But for Max-Age, which counts down.
            given.add(tuple(value.partition(";")[0] for value in cookies))
        ((cookie, cleared),) = given
        assert cookie.startswith("__Host-sojourn=sjs_")
        assert cleared == f"{name}="
        return visits[-1].user_id
    finally:
        store.close()


def accounted(report: dict[str, Any]) -> None:
    skipped = sum(each["count"] for each in report["skipped"].values())
    assert report["read"] == report["taken"] + report["already_there"] + skipped


OVER_COLUMNS = {  # a word, a time, a flag
    "sqlite": ("TEXT", "TEXT", "BOOLEAN"),
    "postgresql": ("TEXT", "TIMESTAMPTZ", "BOOLEAN"),
    "mysql": ("ENUM('active', 'ended', 'paused')", "DATETIME(3)", "BIT(1)"),
}
THEN = "'2026-01-02 00:00:00'"
WORDS = [f"status = '{word}'" for word in ("active", "ended", "paused")]
SAID = [
    *WORDS,
    f"ended_at = {THEN}",
    f"revokedAt = {THEN}",
    "is_revoked = (1 = 1)",
    "is_revoked = (1 = 0)",
]


def test_what_was_ended_stays_so(old_url: str, tmp_path: Path) -> None:
    """By whatever column the old system says so."""
    make_user_sessions(old_url)
    add_user_sessions(old_url, [{"id": i} for i in range(1, 8)])
    word, when, flag = OVER_COLUMNS[make_url(old_url).get_backend_name()]
    columns = (("status", word), ("ended_at", when), ("revokedAt", when), ("is_revoked", flag))
    with executing(old_url) as execute:
        for column, kind in columns:
            execute(f"ALTER TABLE user_sessions ADD COLUMN {column} {kind}")
        for number, said in enumerate(SAID, start=1):
            execute(f"UPDATE user_sessions SET {said} WHERE id = {number}")
    done = run_json(tmp_path, "adopt", "--from", old_url, "--apply")
    accounted(done)
    reasons = {name: x["examples"] for name, x in done["skipped"].items()}
    assert done["taken"] == 2
    assert reasons == {"inactive": [f"id {i}" for i in (2, 4, 5, 6)], "unclear_status": ["id 3"]}


def test_user_sessions(old_url: str, tmp_path: Path) -> None:
    """What can be taken is, once; what cannot is named; the source is not changed."""
    make_user_sessions(old_url)
    add_user_sessions(
        old_url,
        [
            *({"id": i} for i in range(1, 601)),
            {"id": 5_000_000_001, "user": None},
            {"id": 5_000_000_002, "active": False},
            {"id": 5_000_000_003, "expires": in_days(-1)},
            {"id": 5_000_000_004, "token": None},
            {"id": 5_000_000_005, "user": "x" * 1_500},
            {"id": 5_000_000_006, "expires": "9999-12-31 00:00:00"},
        ],
    )
    arguments = ("adopt", "--from", old_url)
    dry = run_json(tmp_path, *arguments)
    accounted(dry)
    assert (dry["applied"], dry["read"], dry["taken"], dry["already_there"]) == (False, 606, 601, 0)
    assert not (tmp_path / "sojourn-data" / "sojourn.db").exists()
    done = run_json(tmp_path, *arguments, "--apply", "--report", "report.json")
    accounted(done)
    assert done == json.loads((tmp_path / "report.json").read_text())
    assert (done["taken"], done["complete"], done["source"]["kind"]) == (601, True, "user-sessions")
    reasons = {name: (x["count"], x["examples"]) for name, x in done["skipped"].items()}
    assert reasons == {
        "no_user": (1, ["id 5000000001"]),
        "inactive": (1, ["id 5000000002"]),
        "expired": (1, ["id 5000000003"]),
        "no_token": (1, ["id 5000000004"]),
        "bad_user": (1, ["id 5000000005"]),
    }
    assert done["remarks"]["expiry_capped"]["count"] == 1
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    assert signed_in(store_url, "sid", "old-token-00000007", RawTokens()) == "user-7"
    store = open_store(store_url)
    (kept,) = store.of("user-8")
    store.close()
    assert abs(kept.last_used_at - kept.created_at - 2 * DAY) < 2_000
    assert abs(kept.expires_at - kept.last_used_at - 3 * DAY) < 2_000
    again = run_json(tmp_path, *arguments, "--apply")
    assert (again["taken"], again["already_there"]) == (0, 601)  # also the one that was rotated
    with executing(old_url) as execute:
        assert execute("SELECT count(*) FROM user_sessions").scalar() == 606


def test_into_every_store(old_url: str, tmp_path: Path) -> None:
    """The old site's database may be ours, too."""
    make_user_sessions(old_url)
    add_user_sessions(old_url, [{"id": i} for i in range(300)])
    store_url = old_url.replace("old.db", "new.db")
    done = run_json(tmp_path, "adopt", "--from", old_url, "--store", store_url, "--apply")
    assert done["taken"] == 300
    again = run_json(tmp_path, "adopt", "--from", old_url, "--store", store_url, "--apply")
    assert (again["taken"], again["already_there"]) == (0, 300)
    assert signed_in(store_url, "sid", "old-token-00000007", RawTokens()) == "user-7"


def test_django(old_url: str, tmp_path: Path) -> None:
    """Sessions that Django itself has stored, compressed and not, read with its SECRET_KEY."""
    parsed = make_url(old_url)
    backend = parsed.get_backend_name()
    engine = {"sqlite": "sqlite3"}.get(backend, backend)
    database = {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": parsed.database,
        "HOST": parsed.host or "",
        "PORT": parsed.port or "",
        "USER": parsed.username or "",
    }
    argv = [sys.executable, "-c", DJANGO, json.dumps(database), DJANGO_SECRET]
    made = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment())
    first, _, _ = json.loads(made.stdout)
    (tmp_path / "secret").write_text(f"newer-one\n{DJANGO_SECRET}\n")
    arguments = ("adopt", "--from", old_url, "--apply")
    run(tmp_path, *arguments, code=2)
    run(tmp_path, *arguments, code=1, env={"SOJOURN_ADOPT_SECRET": "wrong"})
    with executing(old_url) as execute:
        execute(
            "INSERT INTO django_session VALUES ('damaged-000000000000000000000000', 'e30:1:x', :at)",
            {"at": in_days(1)},
        )
    done = run_json(tmp_path, *arguments, "--secret-file", "secret")
    accounted(done)
    assert (done["taken"], done["source"]["kind"]) == (2, "django")
    assert {name: x["count"] for name, x in done["skipped"].items()} == {
        "no_user": 1,
        "bad_signature": 1,
    }
    assert done["skipped"]["bad_signature"]["examples"] == ["token dama…"]
    assert first not in json.dumps(done)
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    store = open_store(store_url)
    (kept,) = store.of("1")
    store.close()
    assert kept.data == {"_auth_user_id": "1", "cart": ["book"] * 40, "name": "Zoë ☃"}
    assert abs(kept.expires_at - kept.created_at - 14 * DAY) < 60_000
    assert signed_in(store_url, "sessionid", first, RawTokens()) == "1"


def test_connect_pg_simple(postgres_url: str, tmp_path: Path) -> None:
    """Its own table, written by connections in Tokyo, as a node process there would."""
    secret = "keyboard cat"
    with executing(postgres_url) as execute:
        execute("SET TimeZone = 'Asia/Tokyo'")
        execute(
            'CREATE TABLE "session" ("sid" varchar NOT NULL COLLATE "default",'
            ' "sess" json NOT NULL, "expire" timestamp(6) NOT NULL)'
        )
        execute('ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid")')
        now = datetime.now(UTC).replace(microsecond=0)
        rows = []
        for i in range(60):
            expires = now + timedelta(hours=1, seconds=i * 61)
            cookie = {"originalMaxAge": 3_600_000, "expires": expires.isoformat(), "path": "/"}
            sess = {"cookie": cookie, "passport": {"user": f"u{i}"}, "note": "a\0b"}
            rows.append(
                {"sid": f"sid-{i:028}", "sess": json.dumps(sess), "at": expires.timestamp()}
            )
        rows.append({"sid": "damaged-" + "0" * 24, "sess": '"text"', "at": now.timestamp() + 99})
        rows.append({"sid": "nobody-" + "0" * 24, "sess": "{}", "at": now.timestamp() + 99})
        add = 'INSERT INTO "session" SELECT :sid, CAST(:sess AS json), to_timestamp(:at)'
        execute(add, rows)
        execute("INSERT INTO \"session\" VALUES ('forever-and-ever', '{}', 'infinity')")
    done = run_json(tmp_path, "adopt", "--from", postgres_url, "--apply")
    accounted(done)
    assert done["source"]["timezone"].startswith("UTC+09:00, as 60 rows tell")
    assert (done["taken"], done["skipped"]["no_user"]["count"]) == (60, 2)
    assert done["skipped"]["bad_data"]["examples"] == ["token dama…"]
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    store = open_store(store_url)
    (kept,) = store.of("u3")
    store.close()
    assert kept.expires_at == round((now + timedelta(hours=1, seconds=183)).timestamp() * 1000)
    assert kept.data == {"passport": {"user": "u3"}, "note": "a\0b"}
    value = ExpressCookies([secret]).encode(f"sid-{5:028}")
    assert signed_in(store_url, "connect.sid", value, ExpressCookies([secret])) == "u5"


def test_what_express_itself_has_stored(postgres_url: str, tmp_path: Path) -> None:
    """An unmodified Express application signs somebody in; its cookie signs in after the move."""
    settings = {"CREATE": "1", "TABLE": "session"}
    app = node.NodeApp(node.installed(), postgres_url, **settings)
    try:
        with httpx.Client(base_url=app.url, timeout=20) as client:
            assert client.post("/login", json={"user": "ann"}).status_code == 200
            cookie = client.cookies["connect.sid"]
    finally:
        app.close()
    done = run_json(tmp_path, "adopt", "--from", postgres_url, "--apply")
    assert (done["taken"], done["source"]["kind"]) == (1, "connect-pg-simple")
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    assert signed_in(store_url, "connect.sid", cookie, ExpressCookies([node.SECRET])) == "ann"


FLASK_ROWS = """
CREATE TABLE sessions (id {key}, session_id VARCHAR(255) UNIQUE, data {blob}, expiry {when})
"""
FLASK_TYPES = {
    "sqlite": ("INTEGER PRIMARY KEY", "BLOB", "DATETIME"),
    "postgresql": ("SERIAL PRIMARY KEY", "BYTEA", "TIMESTAMP"),
    "mysql": ("INTEGER PRIMARY KEY AUTO_INCREMENT", "BLOB", "DATETIME"),
}


@contextlib.contextmanager
def flask_on_redis() -> Iterator[tuple[Any, str, str]]:
    """Sign in through Flask-Session itself; give the client of its Redis, its URL and the cookie."""

    with redis_server() as server:
        client = redis.Redis.from_url(server.url)
        app = Flask("old")
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=client, SECRET_KEY="x")
        FlaskSession(app)

        @app.get("/in")
        def sign_in() -> str:
            session["_user_id"] = "5"
            session["cart"] = [1]
            return ""

        cookie = app.test_client().get("/in").headers["Set-Cookie"]
        try:
            yield client, server.url, cookie.partition("=")[2].partition(";")[0]
        finally:
            client.close()


def test_flask_on_redis(tmp_path: Path) -> None:
    with flask_on_redis() as (client, url, sid):
        client.set("session:" + "p" * 43, b"\x80\x04\x95.", ex=1_000)
        client.lpush("session:" + "l" * 43, "a list")
        client.set("other", "not a session")
        for i in range(700):
            client.set(f"session:{i:043}", json.dumps({"_user_id": f"u{i}"}), ex=1_000)
        done = run_json(tmp_path, "adopt", "--from", url, "--apply")
        accounted(done)
        assert {name: x["count"] for name, x in done["skipped"].items()} == {
            "pickled": 1,
            "bad_data": 1,
        }
        assert done["taken"] == 701
        assert run_json(tmp_path, "adopt", "--from", url, "--apply")["taken"] == 0
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    assert signed_in(store_url, "session", sid, RawTokens()) == "5"


def test_flask_in_a_table(old_url: str, tmp_path: Path) -> None:
    """The value is Flask-Session's own, as it stands in its table for SQLAlchemy."""
    with flask_on_redis() as (client, _, sid):
        value = client.get(f"session:{sid}")
    key, blob, when = FLASK_TYPES[make_url(old_url).get_backend_name()]
    with executing(old_url) as execute:
        execute(FLASK_ROWS.format(key=key, blob=blob, when=when))
        execute(
            "INSERT INTO sessions (session_id, data, expiry) VALUES (:id, :data, :at)",
            [
                {"id": f"session:{sid}", "data": value, "at": in_days(30)},
                {"id": "session:" + "x" * 43, "data": b"\xc1\xff", "at": in_days(30)},
                {"id": "session:" + "y" * 43, "data": value, "at": None},
            ],
        )
    store = f"sqlite:///{tmp_path}/new.db"
    done = run_json(tmp_path, "adopt", "--from", old_url, "--store", store, "--apply")
    accounted(done)
    assert (done["taken"], done["source"]["kind"]) == (2, "flask-session")
    assert done["skipped"]["bad_data"]["examples"] == ["id 2"]
    assert done["remarks"]["no_expiry"]["count"] == 1
    assert signed_in(store, "session", sid, RawTokens()) == "5"


def test_a_missing_table_names_those_that_look_like_one(old_url: str, tmp_path: Path) -> None:
    with executing(old_url) as execute:
        execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    said = run(tmp_path, "adopt", "--from", old_url, code=4).stderr
    assert "users" in said
    make_user_sessions(old_url)
    said = run(tmp_path, "adopt", "--from", old_url, "--table", "sesions", code=4).stderr
    assert "user_sessions (user-sessions)" in said
    said = run(tmp_path, "adopt", "--from", old_url, "--kind", "django", code=4).stderr
    assert "user_sessions (user-sessions)" in said


def test_a_table_without_a_key(postgres_url: str, tmp_path: Path) -> None:
    """It cannot be read in pieces, unless its tokens are unique."""
    with executing(postgres_url) as execute:
        execute("CREATE TABLE session (sid varchar, sess json, expire timestamp)")
        sess = '{"passport": {"user": 7}}'
        add = "INSERT INTO session VALUES (:sid, :sess, now() + interval '1 day')"
        execute(add, [{"sid": f"sid-{i:028}", "sess": sess} for i in range(600)])
    arguments = ("adopt", "--from", postgres_url, "--table", "public.session")
    assert "ADD PRIMARY KEY (sid)" in run(tmp_path, *arguments, code=1).stderr
    with executing(postgres_url) as execute:
        execute("CREATE UNIQUE INDEX of_sids ON session (sid)")
    assert run_json(tmp_path, *arguments)["taken"] == 600


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    run(tmp_path, "adopt", code=2)
    run(tmp_path, "adopt", "--from", "ftp://x", code=2)
    run(tmp_path, "adopt", "--from", "memory:", code=2)
    run(tmp_path, "adopt", "--from", "sqlite:///missing.db", code=2)
    run(tmp_path, "adopt", "--from", "sqlite:///missing.db", "--kind", "rails", code=2)
    run(tmp_path, "adopt", "--from", "postgresql://127.0.0.1:9/x", code=6)
    run(tmp_path, "adopt", "--from", "redis://127.0.0.1:9/0", code=6)


def test_after_a_day_it_asks_first(tmp_path: Path) -> None:
    """Sessions that were ended, and forgotten, would come back."""
    old = f"sqlite:///{tmp_path}/old.db"
    make_user_sessions(old)
    add_user_sessions(old, [{"id": 1}])
    run(tmp_path, "adopt", "--from", old, "--apply")
    store_url = f"sqlite:///{tmp_path}/sojourn-data/sojourn.db"
    with executing(store_url) as execute:
        execute("UPDATE sojourn_marks SET value = value - 86400000 WHERE name LIKE 'adopt:%'")
    assert "--again" in run(tmp_path, "adopt", "--from", old, "--apply", code=1).stderr
    assert "already there" in run(tmp_path, "adopt", "--from", old, "--apply", "--again").stdout


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_half_way_and_run_again(how: int, postgres_url: str, tmp_path: Path) -> None:
    """Every one of 60,000 rows is there exactly once."""
    make_user_sessions(postgres_url)
    with executing(postgres_url) as execute:
        execute(
            "INSERT INTO user_sessions SELECT i, 'u' || i % 977, md5(i::text), now(), now(),"
            " now() + interval '1 day', NULL, NULL, true, false FROM generate_series(1, 60000) AS i"
        )
    migrate(postgres_url)
    arguments = ("adopt", "--from", postgres_url, "--store", postgres_url, "--apply")
    counted = "SELECT count(*), count(DISTINCT token_hash) FROM sojourn_sessions"
    quickly = "SELECT count(*) FROM sojourn_sessions"
    with Program(tmp_path, *arguments) as program:
        engine = engine_of(postgres_url)
        try:
            ticks = threading.Event()
            found = 0
            while found < 2_000 and program.process.poll() is None:
                with engine.connect() as connection:
                    found = connection.execute(text(quickly)).scalar_one()
                ticks.wait(0.01)
        finally:
            engine.dispose()
        code = program.end(how)
    with executing(postgres_url) as execute:
        half = execute(counted).one()[0]
    assert 2_000 <= half < 60_000
    assert half % 250 == 0
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), program.stderr
    done = run_json(tmp_path, *arguments)
    assert (done["taken"], done["already_there"]) == (60_000 - half, half)
    with executing(postgres_url) as execute:
        assert tuple(execute(counted).one()) == (60_000, 60_000)
        users = execute("SELECT count(DISTINCT user_id) FROM sojourn_sessions").scalar()
    assert users == 977


def test_no_token_is_ever_printed(tmp_path: Path) -> None:
    old = f"sqlite:///{tmp_path}/old.db"
    with executing(old) as execute:
        execute("CREATE TABLE session (sid TEXT PRIMARY KEY, sess TEXT, expire TEXT)")
        token = secrets.token_hex()
        execute("INSERT INTO session VALUES (:t, '{', :at)", {"t": token, "at": in_days(1)})
    for flags in ((), ("--json",), ("--apply",)):
        done = run(tmp_path, "adopt", "--from", old, *flags)
        assert token[:4] in done.stdout
        assert token[:5] not in done.stdout + done.stderr
