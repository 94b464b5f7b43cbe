"""What one caller can cost is bounded: waiting, threads, bodies, queries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, BEAT, CURRENT, SEATS, Answer, Api, api, gather, send

from sojourn.api.limits import Blocking, Deadlines
from sojourn.errors import Overloaded, StoreUnavailable
from sojourn.lease import Renewal
from sojourn.service.seats import BeatCall

PATIENCE = 10.0  # seconds until a test gives up
SESSION = "/api/sessions/current"


class Gate:
    """Holds the store's verbs until it is opened."""

    def __init__(self, world: Api, monkeypatch: pytest.MonkeyPatch, *verbs: str) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()
        for verb in verbs:
            real = getattr(world.store, verb)
            monkeypatch.setattr(world.store, verb, self._held(real))

    def _held(self, real: Any) -> Any:
        def verb(*args: Any, **kwargs: Any) -> Any:
            self.entered.set()
            assert self._open.wait(PATIENCE)
            return real(*args, **kwargs)

        return verb

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        await asyncio.to_thread(self.entered.wait, PATIENCE)


async def take(world: Api, user: str) -> Answer:
    return await send(world.app, "POST", SEATS, bearer=world.license_key, json=world.wish(user))


class TestOverload:
    def test_past_the_queue_the_answer_is_503_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with api(queue_max=1) as world:
            gate = Gate(world, monkeypatch, "acquire")

            async def story() -> tuple[Answer, Answer]:
                held = asyncio.create_task(take(world, "ann"))
                await gate.reached()
                refused = await take(world, "bob")
                gate.open()
                return refused, await held

            refused, held = world.run(story())
            assert (refused.status, refused.code) == (503, "overloaded")
            assert refused.header("retry-after") == "1"
            assert held.status == 201
            assert world.acquire("bob").status == 201

    def test_those_who_keep_or_free_a_seat_have_room_of_their_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many ask for one."""
        with api(queue_max=1, capacity=3) as world:
            tokens = [world.seat(user)["token"] for user in ("ann", "bob")]
            gate = Gate(world, monkeypatch, "acquire")

            async def story() -> list[Answer]:
                held = asyncio.create_task(take(world, "cy"))
                await gate.reached()
                kept = [
                    asyncio.create_task(send(world.app, "POST", BEAT, bearer=tokens[0])),
                    asyncio.create_task(send(world.app, "DELETE", CURRENT, bearer=tokens[1])),
                ]
                assert (await take(world, "dan")).code == "overloaded"
                gate.open()
                return [await held, *[await each for each in kept]]

            assert [answer.status for answer in world.run(story())] == [201, 200, 200]

    def test_what_is_refused_for_want_of_room_is_not_looked_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither its proof nor its body: that would cost what there is too little of."""
        with api(queue_max=1) as world:
            gate = Gate(world, monkeypatch, "acquire")

            async def story() -> list[Answer]:
                held = asyncio.create_task(take(world, "ann"))
                await gate.reached()
                refused = [
                    await send(world.app, "POST", SEATS, bearer="nonsense"),
                    await send(world.app, "POST", SEATS, body=b"{", bearer=world.license_key),
                    await send(world.app, "GET", SESSION),
                ]
                gate.open()
                await held
                return refused

            assert {answer.code for answer in world.run(story())} == {"overloaded"}

    def test_other_calls_are_bounded_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with api() as world:
            world.app.context.blocking = Blocking(threads=1, waiting_max=2)
            gate = Gate(world, monkeypatch, "leases")

            async def story() -> tuple[Answer, list[Answer]]:
                held = [
                    asyncio.create_task(send(world.app, "GET", SEATS, bearer=ADMIN))
                    for _ in range(2)
                ]
                await gate.reached()
                refused = await send(world.app, "GET", SEATS, bearer=ADMIN)
                gate.open()
                return refused, await asyncio.gather(*held)

            refused, held = world.run(story())
            assert (refused.status, refused.code) == (503, "overloaded")
            assert refused.header("retry-after") == "1"
            assert [answer.status for answer in held] == [200, 200]


class TestSlowStore:
    def test_a_caller_waits_no_longer_than_the_setting(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with api(request_timeout=0.1) as world:
            token = world.seat()["token"]
            gate = Gate(world, monkeypatch, "renew", "leases")
            hot, other = world.run(
                gather(
                    send(world.app, "POST", BEAT, bearer=token),
                    send(world.app, "GET", SEATS, bearer=ADMIN),
                )
            )
            for answer in (hot, other):
                assert (answer.status, answer.code) == (503, "store_unavailable")
                assert answer.header("retry-after") == "2"
                assert "not known" in answer.json["error"]
            gate.open()
            monkeypatch.undo()
            assert world.beat(token).status == 200

    def test_readyz_gives_up_on_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sojourn.api.readiness.PATIENCE", 0.1)
        with api() as world:
            gate = Gate(world, monkeypatch, "now")
            answer = world.call("GET", "/readyz")
            assert (answer.status, answer.code) == (503, "store_unavailable")
            gate.open()

    def test_readyz_asks_once_for_all_who_ask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with api() as world:
            asked: list[int] = []
            monkeypatch.setattr(world.store, "now", lambda: asked.append(1))
            answers = world.run(gather(*(send(world.app, "GET", "/readyz") for _ in range(20))))
            assert {answer.status for answer in answers} == {200}
            assert len(asked) == 1


class TestDeadlines:
    def test_one_timer_serves_all_and_ends_with_the_last(self) -> None:
        async def story() -> None:
            loop = asyncio.get_running_loop()
            deadlines = Deadlines(0.05)
            futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(3)]
            waits = [asyncio.ensure_future(deadlines.wait(future)) for future in futures]
            await asyncio.wait(waits[:1], timeout=0)
            futures[0].set_result(7)
            results = await asyncio.gather(*waits, return_exceptions=True)
            assert results[0] == 7
            assert all(isinstance(result, StoreUnavailable) for result in results[1:])
            assert not deadlines._since

        asyncio.run(story())

    def test_a_caller_that_goes_away_is_forgotten(self) -> None:
        async def story() -> None:
            deadlines = Deadlines(PATIENCE)
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            wait = asyncio.ensure_future(deadlines.wait(future))
            await asyncio.wait([wait], timeout=0)
            wait.cancel()
            await asyncio.wait([wait])
            assert not deadlines._since

        asyncio.run(story())


class TestBlocking:
    def test_keeps_the_place_of_work_whose_caller_gave_up(self) -> None:
        async def story() -> None:
            blocking = Blocking(threads=1, waiting_max=1)
            gate = threading.Event()
            with pytest.raises(StoreUnavailable):
                await blocking.run(0.01, gate.wait, PATIENCE)
            assert blocking.busy == 1
            with pytest.raises(Overloaded):
                await blocking.run(PATIENCE, int)
            gate.set()
            await blocking.close()
            assert blocking.busy == 0

        asyncio.run(story())

    def test_raises_what_the_work_raised(self) -> None:
        async def story() -> None:
            blocking = Blocking()
            with pytest.raises(ZeroDivisionError):
                await blocking.run(PATIENCE, lambda: 1 / 0)
            await blocking.close()

        asyncio.run(story())


@pytest.fixture
def small() -> Iterator[Api]:
    with api(body_max=1_024) as world:
        yield world


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/licenses"), ("POST", SEATS), ("POST", BEAT), ("PATCH", "/api/licenses/x")],
)
class TestBodies:
    def test_too_large_by_its_own_word(self, small: Api, method: str, path: str) -> None:
        unread: list[Any] = []
        answer = small.admin(method, path, headers=[("content-length", "2000")], pieces=unread)
        assert (answer.status, answer.code) == (413, "body_too_large")

    def test_too_large_without_a_word(self, small: Api, method: str, path: str) -> None:
        token = self._token(small, path)
        before = small.footprint()
        answer = small.call(method, path, bearer=token, pieces=[b" " * 600] * 1_000)
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert small.footprint() == before

    def test_cut_off(self, small: Api, method: str, path: str) -> None:
        before = small.footprint()
        assert small.run(_cut(small, method, path)).status in (400, 401)
        assert small.footprint() == before

    @staticmethod
    def _token(world: Api, path: str) -> str:
        tokens: dict[str, str] = {SEATS: world.license_key, BEAT: world.seat()["token"]}
        return tokens.get(path, ADMIN)


async def _cut(world: Api, method: str, path: str) -> Answer:
    """Send the first piece of a body, then hang up."""
    messages = [
        {"type": "http.request", "body": b'{"na', "more_body": True},
        {"type": "http.disconnect"},
    ]
    answer = Answer()

    async def receive() -> Any:
        return messages.pop(0)

    async def deliver(message: Any) -> None:
        answer.status = message.get("status", answer.status)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {ADMIN}".encode())],
    }
    await world.app(scope, receive, deliver)
    return answer


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=5&limit=6",
        "userId=%FF",
        "userId=%00",
        "userId=" + "x" * 257,
        "after=" + "x" * 65,
        "unknown=1",
        "includeEnded=perhaps",
        "&".join(f"a{i}=1" for i in range(60)),
        "userId=%ED%A0%80",
    ],
)
def test_a_query_that_does_not_fit_is_refused(small: Api, query: str) -> None:
    answer = small.admin("GET", f"{SEATS}?{query}")
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_a_request_of_the_tick_in_which_we_stop_is_answered() -> None:
    with api() as world:
        batcher = world.services.batcher

        async def story() -> Any:
            beat = BeatCall(claims=world.keyring.verify(token))
            accepted = batcher.submit("renew", beat)
            await batcher.close()
            return await asyncio.wait_for(accepted, PATIENCE)

        token = world.seat()["token"]
        assert isinstance(world.run(story()), Renewal)


def test_threads_end_with_the_application() -> None:
    before = set(threading.enumerate())
    with api() as world:
        world.admin("GET", SEATS)
        world.call("GET", "/readyz")
    assert set(threading.enumerate()) <= before


def test_beats_of_many_callers_each_get_their_own_answer() -> None:
    with api(capacity=200) as world:
        tokens = [world.seat(f"user-{i}")["token"] for i in range(100)]
        for token in tokens[::2]:
            world.call("DELETE", CURRENT, bearer=token)
        answers = world.run(gather(*(send(world.app, "POST", BEAT, bearer=t) for t in tokens)))
        assert [answer.status for answer in answers] == [410, 200] * 50
