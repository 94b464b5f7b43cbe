"""Seats on an event loop: awaited, canceled, told of, and kept whatever the loop does."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.unit.client.client_fakes import KEY, Call, FakeServer, FakeWorld

from sojourn.client import (
    AsyncClient,
    AsyncSeat,
    Change,
    ClientClosed,
    SeatDenied,
    SeatLost,
    SeatState,
    Waiting,
)
from sojourn.client.async_client import THREADS
from sojourn.client.threads import Threads
from sojourn.errors import InvalidInput

DEADLINE = 30.0


@contextmanager
def scene(
    *, threads: int = THREADS, **server: Any
) -> Iterator[tuple[FakeWorld, FakeServer, AsyncClient]]:
    """A world that stands still, a server in it, and a client of that."""
    world = FakeWorld()
    fake = FakeServer(world, **server)
    client = AsyncClient(
        "http://127.0.0.1:8700",
        license_key=KEY,
        transport=httpx.MockTransport(fake),
        world=world,
        threads=threads,
    )
    world.beats.append(client._client._beats)
    yield world, fake, client
    fake.faults, fake.always = [], None


def seat(client: AsyncClient, user: str = "ada", **options: Any) -> AsyncSeat:
    return client.seat("render", user=user, client_id="c1", **options)


def test_a_seat_is_taken_and_given_back() -> None:
    async def story() -> None:
        with scene() as (world, server, client):
            async with client, seat(client) as held:
                held.check()
                assert (held.held, held.state) == (True, SeatState.SAFE)
                assert held.seat.fence == 1
                world.advance(45)
                assert len(server.times("beat")) == 1
            assert server.live() == []
            with pytest.raises(SeatLost):
                held.check()

    asyncio.run(story())


def test_many_seats_are_taken_at_once_and_kept_by_one_thread() -> None:
    async def story() -> None:
        with scene(capacity=20) as (world, server, client):
            seats = [seat(client, f"user{n}") for n in range(20)]
            await asyncio.gather(*(each.acquire() for each in seats))
            assert len(server.live()) == 20
            world.advance(300)
            assert all(each.state is SeatState.SAFE for each in seats)
            assert world.started.count("sojourn-heartbeats") == 1
            assert await client.aclose() == 0
            assert server.live() == []

    asyncio.run(story())


def test_who_is_denied_is_told_at_once() -> None:
    async def story() -> None:
        with scene() as (_, server, client):
            server.occupy()
            with pytest.raises(SeatDenied):
                await seat(client).acquire()
            await client.aclose()

    asyncio.run(story())


def test_a_loop_that_is_blocked_loses_no_seat() -> None:
    """Time passes while this coroutine does not give way: beats do not need it."""

    async def story() -> None:
        with scene() as (world, server, client):
            async with client, seat(client) as held:
                world.advance(3_600)
                held.check()
                assert len(server.times("beat")) > 100

    asyncio.run(story())


def test_callbacks_run_on_the_loop_in_order() -> None:
    """Functions and coroutine functions alike; one that raises silences nobody."""

    async def story() -> None:
        told: list[tuple[str, bool]] = []
        here = threading.get_ident()
        over = asyncio.Event()

        async def on_change(change: Change) -> None:
            told.append((change.reason, threading.get_ident() == here))
            if change.state is SeatState.RELEASED:
                over.set()
            raise ValueError("an application's own fault")

        with scene() as (world, _, client):
            held = await seat(client, on_change=on_change).acquire()
            world.settle()
            await held.release()
            world.settle()
            async with asyncio.timeout(DEADLINE):
                await over.wait()
            assert told == [("granted", True), ("released", True)]
            await client.aclose()

    asyncio.run(story())


def test_a_seat_that_is_lost_wakes_who_waits_for_it() -> None:
    async def story() -> None:
        with scene() as (world, server, client):
            held = await seat(client).acquire()
            waiting = asyncio.ensure_future(held.wait_lost())
            await asyncio.sleep(0)
            server.leases[0].ended = "revoked"
            world.advance(31)
            async with asyncio.timeout(DEADLINE):
                assert await waiting is True
            assert held.state is SeatState.LOST
            await client.aclose()

    asyncio.run(story())


def test_waiting_for_a_seat_that_was_never_taken_ends() -> None:
    async def story() -> None:
        with scene() as (_, _, client):
            async with asyncio.timeout(DEADLINE):
                assert await seat(client).wait_lost() is False
                await seat(client).wait(SeatState.NEW)
            await client.aclose()

    asyncio.run(story())


def test_a_canceled_acquire_gives_back_what_is_granted_after_all() -> None:
    """The request is on its way, and its answer comes when nobody waits for it any more."""

    async def story() -> None:
        with scene() as (_, server, client):
            asked, gate, back = threading.Event(), threading.Event(), threading.Event()

            def slow(call: Call) -> None:
                if call.verb == "acquire":
                    asked.set()
                    assert gate.wait(DEADLINE)
                else:
                    back.set()

            server.always = slow
            taking = asyncio.ensure_future(seat(client).acquire())
            assert await asyncio.to_thread(asked.wait, DEADLINE)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            gate.set()
            assert await asyncio.to_thread(back.wait, DEADLINE)
            await client.aclose()
            assert server.live() == []

    asyncio.run(story())


def test_a_canceled_acquire_that_was_still_queued_asks_for_nothing() -> None:
    """All threads are busy when it is canceled: what has not begun never begins."""

    async def story() -> None:
        with scene(threads=1, capacity=2) as (_, server, client):
            asked, gate = threading.Event(), threading.Event()

            def slow(call: Call) -> None:
                asked.set()
                assert gate.wait(DEADLINE)

            server.faults = [slow]
            first = asyncio.ensure_future(seat(client).acquire())
            assert await asyncio.to_thread(asked.wait, DEADLINE)
            late = seat(client, "bob")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await late.acquire()
            gate.set()
            await first
            await client.run(lambda: None)  # the queue was worked off
            assert [each.holder[0] for each in server.live()] == ["ada"]
            assert len(server.times("acquire")) == 1
            assert late.state is SeatState.NEW
            await late.acquire()  # it may be asked for once more
            assert late.held
            await client.aclose()

    asyncio.run(story())


def through(pool: Threads) -> None:
    """Wait until the threads have ended."""
    pool.shutdown()
    for thread in threading.enumerate():
        if thread.name == "sojourn-seats":
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_an_acquire_canceled_before_its_first_step_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread runs already, and has not said yet that it wants the seat."""

    async def story() -> None:
        with scene() as (_, server, client):
            beats = client._client._beats
            there, gate, real = threading.Event(), threading.Event(), beats.begin

            def begin(*arguments: Any, **options: Any) -> int | None:
                there.set()
                assert gate.wait(DEADLINE)
                return real(*arguments, **options)

            monkeypatch.setattr(beats, "begin", begin)
            server.occupy()
            taken = seat(client, wait=math.inf)
            taking = asyncio.ensure_future(taken.acquire())
            assert await asyncio.to_thread(there.wait, DEADLINE)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            server.leases[0].ended = "released"
            gate.set()
            pool = client._pool
            assert pool is not None
            await asyncio.to_thread(through, pool)
            assert server.live() == []
            assert server.times("acquire") == []
            assert taken.state is SeatState.NEW
            await client.aclose()

    asyncio.run(story())


def test_who_waits_keeps_nobody_from_giving_back() -> None:
    """All threads are taken by acquires that wait; a seat is given back, or lingers, all the same."""

    async def story(leave: str) -> None:
        with scene(threads=1, capacity=1) as (_, server, client):
            held = await seat(client).acquire()
            asked, gate = threading.Event(), threading.Event()

            def slow(call: Call) -> None:
                if call.verb == "acquire":
                    asked.set()
                    assert gate.wait(DEADLINE)

            server.always = slow
            waiting = asyncio.ensure_future(seat(client, "bob").acquire())
            assert await asyncio.to_thread(asked.wait, DEADLINE)
            try:
                async with asyncio.timeout(DEADLINE / 2):
                    assert await getattr(held, leave)() is True
            finally:
                gate.set()
            if leave == "release":
                assert (await waiting).held
            else:
                with pytest.raises(SeatDenied):
                    await waiting
            await client.aclose()

    for leave in ("release", "closing"):
        asyncio.run(story(leave))


def test_a_canceled_wait_in_line_ends() -> None:
    """Who waits for ever, canceled: the thread asks no more, and is free for others."""

    async def story() -> None:
        with scene() as (_, server, client):
            server.occupy()
            in_line = asyncio.Event()

            def on_wait(waiting: Waiting) -> None:
                assert isinstance(waiting.error, SeatDenied)
                in_line.set()

            waiter = seat(client, wait=math.inf, on_wait=on_wait)
            taking = asyncio.ensure_future(waiter.acquire())
            async with asyncio.timeout(DEADLINE):
                await in_line.wait()
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            async with asyncio.timeout(DEADLINE):
                await client.run(lambda: None)
            server.leases[0].ended = "released"
            await waiter.acquire()
            assert waiter.held
            await client.aclose()

    asyncio.run(story())


def test_a_canceled_release_is_carried_out() -> None:
    async def story() -> None:
        with scene() as (_, server, client):
            held = await seat(client).acquire()
            giving = asyncio.ensure_future(held.release())
            await asyncio.sleep(0)
            giving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await giving
            await client.aclose()
            assert server.live() == []

    asyncio.run(story())


def test_a_goodbye_lets_the_seat_linger() -> None:
    async def story() -> None:
        with scene() as (world, server, client):
            held = await seat(client).acquire()
            assert await held.closing() is True
            assert server.leases[0].expires_at == world.time + 10
            await client.aclose()

    asyncio.run(story())


def test_closing_ends_those_who_wait_in_line() -> None:
    async def story() -> None:
        with scene() as (_, server, client):
            server.occupy()
            in_line = asyncio.Event()
            waiter = seat(client, wait=math.inf, on_wait=lambda _: in_line.set())
            taking = asyncio.ensure_future(waiter.acquire())
            async with asyncio.timeout(DEADLINE):
                await in_line.wait()
                await client.aclose()
                with pytest.raises(ClientClosed):
                    await taking

    asyncio.run(story())


def test_a_forked_child_starts_afresh() -> None:
    """Threads do not come along: the pool is made anew when it is needed."""

    async def story() -> None:
        with scene(capacity=2) as (_, server, client):
            held = await seat(client).acquire()
            client.forked()
            client._client._beats.forked()
            assert held.state is SeatState.LOST
            await seat(client, "bob").acquire()
            assert len(server.live()) == 2
            await client.aclose()

    asyncio.run(story())


def test_nothing_secret_is_shown_and_threads_are_some() -> None:
    with scene() as (_, _, client):
        assert KEY not in repr(client) + repr(seat(client))
        assert repr(client).startswith("<AsyncClient of ")
    with pytest.raises(InvalidInput):
        AsyncClient("http://127.0.0.1:8700", license_key=KEY, threads=0)


def test_a_thread_that_was_not_to_be_had_is_not_counted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that waited for the only thread leaves no second one idle."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, go = Threads(2, "few"), threading.Event()
    first = pool.submit(lambda: go.wait(DEADLINE))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: "waited")
    go.set()
    assert first.result(DEADLINE)
    assert second.result(DEADLINE) == "waited"
    met = threading.Barrier(2)
    both = [pool.submit(lambda: met.wait(DEADLINE)) for _ in range(2)]
    assert {each.result(2 * DEADLINE) for each in both} == {0, 1}
    pool.shutdown()
