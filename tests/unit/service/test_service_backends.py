"""Backends' requests in batches: what is looked up once, and what one request never does to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api, gather, send
from tests.session_harness import CURRENT, Backend, counted

from sojourn.errors import Conflict, Forbidden, StoreUnavailable, Unauthenticated
from sojourn.ledger import Role
from sojourn.service.backends import BackendCall, Backends, EndCurrent, EndSessions
from sojourn.service.ticker import Ticker
from sojourn.session import Begin, Begun, Check, End, Gone, GoneReason, Rotate, Save, Session
from sojourn.token import TokenKind, hash_token, new_token

PATIENCE = 10.0  # seconds until a test that hangs fails


@pytest.fixture
def world() -> Iterator[Api]:
    with api() as world:
        yield world


@pytest.fixture
def backends(world: Api) -> Backends:
    return world.services.backends


def begun(world: Api, count: int = 1) -> list[Begun]:
    answers = world.services.sessions.begin([Begin(user_id="ann")] * count)
    return [answer for answer in answers if isinstance(answer, Begun)]


def asked(world: Api, request: Any, *, role: Role = Role.APP, **more: Any) -> BackendCall:
    return BackendCall(key_hash=hash_token(world.keys[role]), request=request, **more)


def test_a_batch_looks_its_key_up_once(
    world: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [each.token for each in begun(world, 100)]
    calls = [asked(world, Check(token)) for token in tokens]
    calls += [asked(world, Check(tokens[0]), role=Role.ADMIN)]
    looked_up: list[bytes] = []
    look_up = world.ledger.key_by_hash

    def key_by_hash(key_hash: bytes) -> Any:
        looked_up.append(key_hash)
        return look_up(key_hash)

    monkeypatch.setattr(world.ledger, "key_by_hash", key_by_hash)
    verbs = counted(world, monkeypatch)
    found = backends.check(calls)
    assert all(isinstance(each, Session) for each in found)
    assert len(looked_up) == 2
    assert verbs == ["load"]


def test_each_request_is_answered_by_its_own_key(world: Api, backends: Backends) -> None:
    (one,) = begun(world)
    unknown = BackendCall(key_hash=b"x" * 32, request=Check(one.token))
    found = backends.check(
        [
            asked(world, Check(one.token)),
            unknown,
            asked(world, Check(one.token), role=Role.VIEWER),
            asked(world, Check("sjs_forged")),
        ]
    )
    assert [type(each) for each in found] == [Session, Unauthenticated, Forbidden, Gone]


def test_requests_by_token_and_by_id_go_together(
    world: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = begun(world, 2)
    verbs = counted(world, monkeypatch)
    saved = backends.save(
        [
            asked(world, Save(id="", set={"a": 1}), token=one.token),
            asked(world, Save(id=two.session.id, set={"a": 1})),
            asked(world, Save(id="ses_unknown")),
            asked(world, Save(id=""), token=new_token(TokenKind.SESSION)),
        ]
    )
    assert saved == [2, 2, None, Gone(reason=GoneReason.ABSENT)]
    assert verbs == ["load", "save"]


def test_a_rotation_is_never_repeated_because_of_a_neighbor(
    world: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carried out twice, it would have cost the first caller the token it was just told."""
    one, two, three = begun(world, 3)
    rotate = world.store.rotate

    def sometimes(session_id: str, *args: Any, **kwargs: Any) -> Any:
        if session_id == two.session.id:
            raise Conflict("The hash is taken.")
        return rotate(session_id, *args, **kwargs)

    monkeypatch.setattr(world.store, "rotate", sometimes)
    calls = [asked(world, Rotate(id=each.session.id)) for each in (one, two, three)]
    answers = world.run(gather(*(submit(world, "rotate", call) for call in calls)))
    assert [type(each) for each in answers] == [Begun, Conflict, Begun]
    for answer in (answers[0], answers[2]):
        (found,) = world.services.sessions.check([Check(answer.token)])
        assert isinstance(found, Session)


def test_a_store_that_is_away_is_not_asked_again_and_again(
    world: Api, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = 0

    def fail(**_: Any) -> Any:
        nonlocal asks
        asks += 1
        raise StoreUnavailable("Away.")

    monkeypatch.setattr(world.store, "end", fail)
    calls = [asked(world, EndSessions(end=End(user_id="ann"))) for _ in range(50)]
    answers = backends.end(calls)
    assert {type(each) for each in answers} == {StoreUnavailable}
    assert asks == 1


def test_an_end_is_seen_by_a_check_of_the_same_round(world: Api) -> None:
    """What ends runs first: nobody is told of a session that this round has ended."""
    (one,) = begun(world)

    async def together() -> list[Any]:
        check = submit(world, "check", asked(world, Check(one.token)))
        end = submit(world, "end", asked(world, EndCurrent(reason="bye"), token=one.token))
        return await gather(check, end)

    found, ended = world.run(together())
    assert ended == [one.session.id]
    assert isinstance(found, Gone)


def test_guessed_keys_never_get_into_the_queue(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait on the few threads that look up strangers; who has a key does not wait for them."""
    app = Backend(world)
    app.begin()
    submitted: list[str] = []
    submit_ = world.services.batcher.submit

    def noting(verb: str, request: Any) -> Any:
        submitted.append(verb)
        return submit_(verb, request)

    monkeypatch.setattr(world.services.batcher, "submit", noting)
    guesses = [send(world.app, "GET", CURRENT, bearer=new_token(TokenKind.API)) for _ in range(30)]
    answers = world.run(gather(*guesses))
    assert {answer.code for answer in answers} == {"unauthenticated"}
    assert submitted == []


async def submit(world: Api, verb: str, call: BackendCall) -> Any:
    """Put a request into the queue; a fault of its own is its answer."""
    try:
        return await world.services.batcher.submit(verb, call)
    except Conflict as fault:
        return fault


def test_a_ticker_that_is_woken_does_not_wait() -> None:
    done = threading.Semaphore(0)
    ticker = Ticker("test", done.release, 3_600)
    ticker.wake()  # asked for before the start: not forgotten
    ticker.start()
    assert done.acquire(timeout=PATIENCE)
    ticker.wake()
    assert done.acquire(timeout=PATIENCE)
    ticker.stop()
    assert not done.acquire(blocking=False)  # stopping is no tick
