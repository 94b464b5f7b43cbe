"""Beside connect-pg-simple: what its table keeps, what the triggers hold, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from tests.adapters.express.node import Both, both
from tests.adapters.express.pg import express_set, rows

from sojourn.adapters.express import open_express
from sojourn.adapters.express.postgres import PostgresSessions
from sojourn.clock import DAY, HOUR, MINUTE, ManualClock, host_now
from sojourn.session import Begin, Begun, Check, End, Gone, GoneReason, Session, Timeouts

RACES = 200


@pytest.fixture
def sessions(express_pg: str, clock: ManualClock) -> Iterator[PostgresSessions]:
    opened = open_express(f"express+{express_pg}", clock=clock)
    assert isinstance(opened, PostgresSessions)
    yield opened
    opened.close()


@pytest.fixture
def applications(node_app: Path, express_pg: str) -> Iterator[Both]:
    with both(node_app, express_pg) as running:
        yield running


def begin(sessions: PostgresSessions, user: str | None = "ann", **more: Any) -> Begun:
    begun = sessions.begin([Begin(user_id=user, **more)])[0]
    assert isinstance(begun, Begun)
    return begun


# Ends


def test_a_slow_request_revives_nothing(
    applications: Both, database: psycopg.Connection[Any]
) -> None:
    """Express loads a session, Python ends it, Express saves it: it stays gone, and nobody errs."""
    for _ in range(10):
        with applications.browser() as browser, ThreadPoolExecutor(1) as pool:
            browser.sign_in_to_node("ann")
            cookie = browser.cookie
            late = pool.submit(browser.node, "POST", "/slow", late=True)
            assert applications.node.line() == {"slow": "in"}
            assert len(applications.desk.sessions.end([End(user_id="ann")])[0]) == 1
            with applications.browser() as other:
                other.node("POST", "/release")
            assert late.result(20) == {"error": None}
            browser.take(str(cookie))
            assert browser.me()["user"] is None
            assert browser.visit().gone is not None
    assert rows(database, 'SELECT count(*) FROM "session"') == [(0,)]


def test_a_sign_out_in_express_is_final_too(
    applications: Both, database: psycopg.Connection[Any]
) -> None:
    """expressjs/session#632: a request under way does not bring back what its user signed out of."""
    with applications.browser() as browser, ThreadPoolExecutor(1) as pool:
        browser.sign_in_to_node("ann")
        late = pool.submit(browser.node, "POST", "/slow", late=True)
        assert applications.node.line() == {"slow": "in"}
        with applications.browser() as other:
            other.take(str(browser.cookie))
            other.node("POST", "/logout")
            other.node("POST", "/release")
        late.result(20)
    assert rows(database, 'SELECT count(*) FROM "session"') == [(0,)]


def test_no_race_revives(
    sessions: PostgresSessions, express_pg: str, database: psycopg.Connection[Any]
) -> None:
    """Express's upsert at the very moment of the end, 200 times: 0 come back, 0 deadlocks."""
    ready = threading.Barrier(2)
    begun = [begin(sessions, f"user{n}") for n in range(RACES)]

    def express() -> None:
        with psycopg.connect(express_pg, autocommit=True) as connection:
            for each in begun:
                ready.wait(20)
                sess = {"cookie": {}, "passport": {"user": each.session.user_id}, "late": 1}
                express_set(connection, each.token, sess, host_now() / 1000 + 3600)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(express)
        for each in begun:
            ready.wait(20)
            assert sessions.end([End(ids=(each.session.id,))]) == [[each.session.id]]
        running.result(60)
    assert rows(database, 'SELECT count(*) FROM "session"') == [(0,)]
    answers = sessions.check([Check(each.token) for each in begun])
    assert {x.reason for x in answers if isinstance(x, Gone)} == {GoneReason.ENDED}
    assert len(answers) == RACES


def test_tombstones_are_forgotten_after_a_day(
    sessions: PostgresSessions, clock: ManualClock, database: psycopg.Connection[Any]
) -> None:
    first = begin(sessions)
    sessions.end([End(ids=(first.session.id,))])
    clock.advance(milliseconds=DAY + 1_000)
    second = begin(sessions)
    sessions.end([End(ids=(second.session.id,))])
    assert rows(database, "SELECT id FROM session_sojourn") == [(second.session.id,)]


def test_tombstones_of_express_are_forgotten_too(
    sessions: PostgresSessions, clock: ManualClock, database: psycopg.Connection[Any]
) -> None:
    """Where nobody ever ends or begins a session in Python, checks see to it."""
    express_set(database, "theirs", {"cookie": {}}, host_now() / 1000 + 3600)
    database.execute("""DELETE FROM "session" WHERE sid = 'theirs'""")
    assert rows(database, "SELECT end_reason FROM session_sojourn") == [("express",)]
    clock.advance(milliseconds=DAY + 1_000)
    begun = begin(sessions)
    clock.advance(seconds=61)
    sessions.check([Check(begun.token)])
    assert rows(database, "SELECT id FROM session_sojourn") == [(begun.session.id,)]


def test_an_ended_session_leaves_no_sid(
    sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    begun = begin(sessions)
    sessions.end([End(ids=(begun.session.id,), reason="why", actor="who")])
    found = rows(database, "SELECT sid, end_reason, ended_by FROM session_sojourn")
    assert found == [(None, "why", "who")]


def test_pruned_rows_leave_no_tombstone(
    sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    """Express's own pruning may find 300,000 of them."""
    begin(sessions)
    database.execute("""UPDATE "session" SET expire = now() - interval '1 hour'""")
    database.execute('DELETE FROM "session" WHERE expire < now()')
    assert rows(database, "SELECT * FROM session_sojourn") == []


# Uses and ends


def test_reading_is_one_statement(sessions: PostgresSessions) -> None:
    tokens = [begin(sessions, f"u{n}").token for n in range(3)]
    seen: list[str] = []

    @event.listens_for(sessions._db.engine, "before_cursor_execute")
    def count(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    answers = sessions.check([Check(each) for each in [*tokens, "unknown"]])
    assert [type(x) for x in answers] == [Session, Session, Session, Gone]
    assert len(seen) == 1


def test_touch_moves_the_end_only_and_seldom(
    sessions: PostgresSessions, clock: ManualClock, database: psycopg.Connection[Any]
) -> None:
    """At most once a minute, never nearer, and `sess` is not rewritten."""
    query = 'SELECT extract(epoch FROM expire::timestamptz)::bigint, sess::text FROM "session"'
    token = begin(sessions, timeouts=Timeouts(DAY, HOUR)).token
    [(first, text)] = rows(database, query)
    clock.advance(seconds=59)
    sessions.check([Check(token)])
    assert rows(database, query) == [(first, text)]
    clock.advance(seconds=10)
    sessions.check([Check(token, touch=False)])
    assert rows(database, query) == [(first, text)]
    answer = sessions.check([Check(token)])[0]
    [(second, after)] = rows(database, query)
    assert (second - first, after) == (69, text)
    assert isinstance(answer, Session)
    assert answer.last_used_at == answer.at
    clock.advance(seconds=-3_000)
    sessions.check([Check(token)])
    assert rows(database, query) == [(second, text)]


def test_no_use_in_express_outlives_the_lifetime(
    sessions: PostgresSessions, clock: ManualClock, database: psycopg.Connection[Any]
) -> None:
    """Express puts ends off for ever; a session begun here has one that holds there too."""
    begun = begin(sessions, timeouts=Timeouts(2 * HOUR, HOUR))
    cap = begun.session.expires_at
    far = cap / 1000 + 50_000
    database.execute(
        'UPDATE "session" SET expire = to_timestamp(%s) WHERE sid = %s', (far, begun.token)
    )
    query = 'SELECT extract(epoch FROM expire::timestamptz)::bigint FROM "session"'
    assert rows(database, query) == [(-(-cap // 1000),)]
    express_set(database, begun.token, {"cookie": {}}, far)
    assert rows(database, query) == [(-(-cap // 1000),)]
    clock.advance(milliseconds=2 * HOUR)
    answer = sessions.check([Check(begun.token)])[0]
    assert isinstance(answer, Gone)
    assert answer.reason is GoneReason.EXPIRED


def test_idle_in_both_at_the_same_second(
    sessions: PostgresSessions, clock: ManualClock, database: psycopg.Connection[Any]
) -> None:
    end = host_now() // 1000 + 3600
    express_set(database, "theirs", {"cookie": {"originalMaxAge": 3_600_000}}, end)
    answer = sessions.check([Check("theirs")])[0]
    assert isinstance(answer, Session)
    assert (answer.idle_at, answer.idle_timeout) == (end * 1000, HOUR)
    assert answer.user_id is None
    clock.advance(milliseconds=HOUR + MINUTE)
    gone = sessions.check([Check("theirs")])[0]
    assert isinstance(gone, Gone)
    assert gone.reason is GoneReason.IDLE


def test_express_goes_on_from_our_touch(
    applications: Both, database: psycopg.Connection[Any]
) -> None:
    """A use in Express puts the end off by the max-age that Python wrote."""
    with applications.browser() as browser:
        browser.sign_in_to_python("ann")
        database.execute("""UPDATE "session" SET expire = expire - interval '1 hour'""")
        browser.me()
        [(left,)] = rows(
            database, 'SELECT extract(epoch FROM expire - localtimestamp)::int FROM "session"'
        )
        assert 86_390 <= left <= 86_401


# What is in the rows


def test_rows_without_cookie_are_completed(
    applications: Both, database: psycopg.Connection[Any]
) -> None:
    """Express answers 500 for them, until Python has seen them once."""
    end = host_now() / 1000 + 3600
    express_set(database, "bare", {"passport": {"user": "ann"}, "a": 1}, end)
    with applications.browser() as browser:
        browser.take(applications.desk.codec.encode("bare"))
        assert browser.client.get("/me").status_code == 500
        assert browser.visit().user_id == "ann"
        me = browser.me()
        assert (me["user"], me["data"]["a"], me["cookie"]["path"]) == ("ann", 1, "/")


def test_nul_in_what_express_writes(applications: Both) -> None:
    """JSON allows it, PostgreSQL cannot read it: nothing breaks, and it comes back as it was."""
    with applications.browser() as browser:
        browser.sign_in_to_node("ann")
        browser.node("POST", "/set", odd="a\0b")
        visit = browser.visit()
        assert visit.data["odd"] == "a\0b"
        visit.data["n"] = 1
        browser.commit(visit)
        assert browser.me()["data"]["odd"] == "a\0b"


def test_users_index_follows_express(
    sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    end = host_now() / 1000 + 3600
    express_set(database, "s1", {"cookie": {}, "passport": {"user": 106}}, end)
    express_set(database, "s2", {"cookie": {}}, end)
    assert [x.user_id for x in sessions.of("106")] == ["106"]
    express_set(database, "s2", {"cookie": {}, "passport": {"user": "106"}}, end)
    assert len(sessions.of("106")) == 2
    express_set(database, "s1", {"cookie": {}, "passport": {}}, end)
    assert len(sessions.of("106")) == 1
    express_set(database, "s2", {"cookie": {}, "passport": {"user": {"not": "an id"}}}, end)
    assert sessions.of("106") == []


def test_users_are_found_by_the_index(
    sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    database.execute("SET enable_seqscan = off")
    plan = rows(
        database,
        """EXPLAIN SELECT * FROM session_sojourn AS s JOIN "session" AS e
        ON e.sid = s.sid WHERE s.user_ref = 'ann' AND s.ended_at IS NULL""",
    )
    text = "\n".join(line for (line,) in plan)
    assert "session_sojourn_user" in text
    assert "session_pkey" in text
