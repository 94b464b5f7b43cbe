"""Beside connect-redis: what holds, and what cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from tests.adapters.express.node import Both, both

from sojourn.adapters.express import open_express
from sojourn.adapters.express.redis import RedisSessions
from sojourn.adapters.express.scripts import GUARD_FOR
from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.errors import SettingsError, StoreBroken, StoreUnavailable
from sojourn.session import Begin, Begun, Check, End, Gone, GoneReason, Save, Session, Timeouts
from sojourn.testing.redis_server import redis_server

DEFAULT = Timeouts()
EMPTY = '{"cookie":{"originalMaxAge":3600000,"path":"/"},"passport":{"user":"ann"}}'


@pytest.fixture
def client(express_redis: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(express_redis, decode_responses=True) as opened:
        yield opened


@pytest.fixture
def sessions(express_redis: str, clock: ManualClock) -> Iterator[RedisSessions]:
    opened = open_express(f"express+{express_redis}", clock=clock)
    assert isinstance(opened, RedisSessions)
    yield opened
    opened.close()


@pytest.fixture
def applications(node_app: Path, express_redis: str) -> Iterator[Both]:
    with both(node_app, express_redis) as running:
        yield running


def begin(sessions: RedisSessions, user: str = "ann", timeouts: Timeouts = DEFAULT) -> Begun:
    begun = sessions.begin([Begin(user_id=user, timeouts=timeouts)])[0]
    assert isinstance(begun, Begun)
    return begun


def test_what_a_slow_request_revives_is_gone_with_the_next_look(
    applications: Both, client: redis.Redis
) -> None:
    """Redis has no triggers: Express brings its key back. We never see it, and our next look, at
    whatever session, takes it away from Express too."""
    with applications.browser() as browser, ThreadPoolExecutor(1) as pool:
        browser.sign_in_to_node("ann")
        key, cookie = f"sess:{browser.sid}", str(browser.cookie)
        late = pool.submit(browser.node, "POST", "/slow", late=True)
        assert applications.node.line() == {"slow": "in"}
        assert len(applications.desk.sessions.end([End(user_id="ann")])[0]) == 1
        with applications.browser() as other:
            other.node("POST", "/release")
        assert late.result(20) == {"error": None}
        assert client.exists(key) == 1  # the limit that the guide tells of
        browser.take(cookie)
        visit = browser.visit()
        assert visit.gone is not None
        assert visit.gone.reason is GoneReason.ENDED
        assert client.exists(key) == 0
        assert browser.me()["user"] is None


def test_the_guard_looks_again_whoever_asks(
    sessions: RedisSessions, client: redis.Redis, clock: ManualClock
) -> None:
    """Without anybody using the ended cookie again: for ten minutes, then nothing is left of it."""
    begun = begin(sessions)
    key = f"sess:{begun.token}"
    sessions.end([End(ids=(begun.session.id,))])
    for _ in range(3):
        client.set(key, EMPTY, ex=3600)
        clock.advance(milliseconds=GUARD_FOR // 4)
        sessions.check([Check("somebody-elses")])
        assert client.exists(key) == 0
    clock.advance(milliseconds=GUARD_FOR)
    sessions.check([Check("somebody-elses")])
    assert client.exists("sojourn:express:sess:guard") == 0


def test_a_late_key_is_refused_for_a_day(
    sessions: RedisSessions, client: redis.Redis, clock: ManualClock
) -> None:
    begun = begin(sessions)
    sessions.end([End(ids=(begun.session.id,), reason="why", actor="who")])
    clock.advance(milliseconds=GUARD_FOR * 2)
    client.set(f"sess:{begun.token}", EMPTY, ex=3600)
    answer = sessions.check([Check(begun.token)])[0]
    assert isinstance(answer, Gone)
    assert (answer.end_reason, answer.ended_by) == ("why", "who")
    assert client.exists(f"sess:{begun.token}") == 0
    left = client.pttl(f"sojourn:express:sess:t:{begun.session.id}")
    assert DAY - HOUR < int(str(left)) <= DAY


def test_touch_puts_the_end_off_and_revives_nothing(
    sessions: RedisSessions, client: redis.Redis, clock: ManualClock
) -> None:
    begun = begin(sessions, timeouts=Timeouts(DAY, HOUR))
    key = f"sess:{begun.token}"
    text = client.get(key)
    client.pexpire(key, HOUR // 2)
    clock.advance(seconds=61)
    answer = sessions.check([Check(begun.token)])[0]
    assert isinstance(answer, Session)
    assert HOUR - 1_000 <= int(str(client.pttl(key))) <= HOUR
    assert client.get(key) == text
    client.pexpire(key, 2 * HOUR)
    sessions.check([Check(begun.token)])
    assert int(str(client.pttl(key))) > HOUR
    client.delete(key)
    assert isinstance(sessions.check([Check(begun.token)])[0], Gone)
    assert client.exists(key) == 0


def test_the_lifetime_ends_it_when_it_is_next_looked_up(
    sessions: RedisSessions, client: redis.Redis, clock: ManualClock
) -> None:
    """Express puts the end off for ever, and nothing in Redis hinders it; a look here does."""
    begun = begin(sessions, timeouts=Timeouts(2 * HOUR, HOUR))
    client.pexpire(f"sess:{begun.token}", 5 * HOUR)
    clock.advance(milliseconds=2 * HOUR + 1)
    answer = sessions.check([Check(begun.token)])[0]
    assert isinstance(answer, Gone)
    assert answer.reason is GoneReason.EXPIRED
    assert client.exists(f"sess:{begun.token}") == 0


def test_keys_of_ours_are_not_expresss(sessions: RedisSessions, client: redis.Redis) -> None:
    """connect-redis lists and clears by its prefix; nothing of ours is below it."""
    begin(sessions)
    ours = [key for key in client.scan_iter("*") if key.startswith("sojourn:express:")]
    theirs = list(client.scan_iter("sess:*"))
    assert len(theirs) == 1
    assert len(ours) == 2


def test_without_scan_only_what_we_saw_is_listed(
    express_redis: str, sessions: RedisSessions, client: redis.Redis
) -> None:
    client.set("sess:unseen", EMPTY, ex=3600)
    thrifty = open_express(f"express+{express_redis}?scan=0")
    try:
        assert thrifty.of("ann") == []
        assert len(sessions.of("ann")) == 1
        assert len(thrifty.of("ann")) == 1
    finally:
        thrifty.close()


def test_the_index_forgets_what_expired(sessions: RedisSessions, client: redis.Redis) -> None:
    begun = begin(sessions)
    client.delete(f"sess:{begun.token}")
    assert sessions.of("ann") == []
    assert list(client.scan_iter("sojourn:*")) == []


def test_what_we_know_is_forgotten_with_the_session(
    sessions: RedisSessions, client: redis.Redis
) -> None:
    """A visitor's in an hour and a day; with a lifetime a week later, so that Express cannot outlast it."""
    client.set("sess:theirs", EMPTY, ex=3600)
    [theirs] = sessions.of("ann")
    ours = begin(sessions, "bob", Timeouts(DAY, HOUR)).session
    left = [int(str(client.pttl(f"sojourn:express:sess:m:{x.id}"))) for x in (theirs, ours)]
    assert DAY < left[0] <= DAY + HOUR
    assert 7 * DAY < left[1] <= 8 * DAY


@pytest.mark.parametrize("user", ['a"b\\c', "Zoë 😀", "x\ny", "1e5"])
def test_users_with_odd_names_are_found(
    sessions: RedisSessions, client: redis.Redis, user: str
) -> None:
    sess = {"cookie": {"originalMaxAge": 1}, "passport": {"user": user}}
    client.set("sess:theirs", json.dumps(sess, ensure_ascii=False), ex=3600)
    assert [x.user_id for x in sessions.of(user)] == [user]
    assert len(sessions.end([End(user_id=user)])[0]) == 1


def test_save_keeps_the_end(sessions: RedisSessions, client: redis.Redis) -> None:
    begun = begin(sessions, timeouts=Timeouts(DAY, HOUR))
    client.pexpire(f"sess:{begun.token}", HOUR // 2)
    assert sessions.save([Save(id=begun.session.id, set={"a": 1})]) != [None]
    assert int(str(client.pttl(f"sess:{begun.token}"))) <= HOUR // 2


def test_keys_that_are_no_sessions(sessions: RedisSessions, client: redis.Redis) -> None:
    client.set("sess:garbage", "{not json")
    client.set("sess:list", "[1]")
    client.lpush("sess:odd", 1)
    answers = sessions.check([Check("garbage"), Check("list")])
    assert [x.reason for x in answers if isinstance(x, Gone)] == [GoneReason.ABSENT] * 2
    with pytest.raises(StoreBroken):
        sessions.check([Check("odd")])


def test_outages_are_unavailable() -> None:
    with redis_server() as server:
        sessions = open_express(f"express+{server.url}")
        try:
            begun = sessions.begin([Begin(user_id="ann")])[0]
            assert isinstance(begun, Begun)
            server.kill()
            with pytest.raises(StoreUnavailable):
                sessions.check([Check(begun.token)])
            server.start()
            assert isinstance(sessions.check([Check(begun.token)])[0], Session)
        finally:
            sessions.close()
        with pytest.raises(SettingsError, match="cluster"):
            open_express("express+redis+cluster://127.0.0.1/")
