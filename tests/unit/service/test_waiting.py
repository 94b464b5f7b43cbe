"""Requests that wait for a seat: parked in the process, and woken when it is their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any, TypeVar

import pytest
from tests.waiting import becomes

from sojourn.api.protocol import CONNECTIONS_MAX, CONNECTIONS_SHARE
from sojourn.clock import ManualClock
from sojourn.lease import Acquire, Denied, EndReason, Lease, LeaseFilter, Release
from sojourn.line import WAITING_FOR, Pace
from sojourn.service import waiting
from sojourn.service.batcher import Batcher
from sojourn.service.caller import Abandoned, Caller
from sojourn.service.waiting import WaitingRoom
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import OPERATOR, POOL, acquire, pool, take

T = TypeVar("T")
DEADLINE = 30.0
"""Seconds that nothing here takes, on however busy a machine."""


class Hall:
    """A store, its batcher and a room, on the running loop."""

    def __init__(self, capacity: int = 1, *, clock: ManualClock | None = None) -> None:
        self.store = MemoryStore(clock or ManualClock(), max_pause=10**12)
        self.store.define([pool(capacity)])
        self.batcher = Batcher({"acquire": self.store.acquire})
        self.room = WaitingRoom(self.batcher)
        self.batcher.start()

    def begin(self, user_id: str, *, wait: float = 60.0, **more: Any) -> asyncio.Task[Any]:
        """Ask for a seat, and wait for it."""
        call = acquire(user_id, wait=True)

        async def within(answer: Awaitable[T]) -> T:
            return await answer

        async def ask() -> Any:
            answer = await self.batcher.submit("acquire", call)
            if not waiting.waits(answer):
                return answer
            return await self.room.wait(call, answer, seconds=wait, within=within, **more)

        return asyncio.create_task(ask(), name=user_id)

    async def until_parked(self, count: int) -> None:
        await becomes(lambda: len(self.line()) >= count and self.room.length >= count)

    def line(self) -> list[str]:
        return [entry.user_id for entry in self.store.waiting(POOL)[0]]

    def all_live_until(self, at: int) -> bool:
        return {entry.expires_at for entry in self.store.waiting(POOL)[0]} == {at}

    def give_back(self, lease: Lease) -> None:
        self.store.release([Release(lease_id=lease.id, fence=lease.fence)])
        self.room.freed({POOL})


@contextlib.asynccontextmanager
async def hall(capacity: int = 1, *, clock: ManualClock | None = None) -> AsyncIterator[Hall]:
    there = Hall(capacity, clock=clock)
    try:
        async with asyncio.timeout(DEADLINE):
            yield there
    finally:
        there.room.close()
        await there.batcher.close()


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks again by the clock: what comes, comes because somebody was woken."""
    monkeypatch.setattr(waiting, "POLL", 3_600.0)
    monkeypatch.setattr(waiting, "REFRESH", 3_600.0)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL", 0.01)


@pytest.mark.usefixtures("rarely")
def test_freed_seat_wakes_the_first() -> None:
    """Who is first gets a seat that this process frees, without a poll; one after the other."""

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            tasks = []
            for i in range(20):
                tasks.append(there.begin(f"user{i:02}"))
                await there.until_parked(i + 1)
            for task in tasks:
                there.give_back(held)
                held = await task
                assert held.user_id == task.get_name()
            assert there.room.length == 0
            assert there.room.served == 20
            assert sum(there.room.buckets) == 20

    asyncio.run(scene())


@pytest.mark.usefixtures("rarely")
def test_many_seats_serve_many() -> None:
    """When many seats come free at once, all who may have one get it, and nobody else."""

    async def scene() -> None:
        async with hall(50) as there:
            for i in range(50):
                take(there.store, f"holder{i}")
            tasks = [there.begin(f"user{i:02}") for i in range(80)]
            await there.until_parked(80)
            there.store.revoke(LeaseFilter(), OPERATOR)
            there.room.freed({POOL})
            for task in tasks[:50]:
                lease = await task
                assert lease.user_id == task.get_name()
            assert there.room.length == 30
            assert not any(task.done() for task in tasks[50:])
            for task in tasks[50:]:
                task.cancel()
            await asyncio.gather(*tasks[50:], return_exceptions=True)
            assert there.room.length == 0

    asyncio.run(scene())


@pytest.mark.usefixtures("often")
def test_seat_freed_elsewhere_is_found() -> None:
    """A seat that another process frees is found by asking now and then."""

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            first = there.begin("bob")
            await there.until_parked(1)
            second = there.begin("cid")
            await there.until_parked(2)
            there.store.release([Release(lease_id=held.id, fence=held.fence)])
            assert (await first).user_id == "bob"
            assert not second.done()
            second.cancel()

    asyncio.run(scene())


def test_wait_ends_in_a_place() -> None:
    """When its time is over, a request is told its place; its entry lives on."""

    async def scene() -> None:
        async with hall() as there:
            take(there.store, "ann")
            later = there.begin("bob")
            await there.until_parked(1)
            denied = await there.begin("cid", wait=0.01)
            assert isinstance(denied, Denied)
            assert (denied.position, denied.waiting) == (2, 2)
            assert there.room.unserved == 1
            assert there.line() == ["bob", "cid"]
            later.cancel()

    asyncio.run(scene())


def test_nobody_waits_who_need_not() -> None:
    """A free seat, and a refusal for another reason, are answered at once."""

    async def scene() -> None:
        async with hall(2) as there:
            assert isinstance(await there.begin("ann"), Lease)
            there.store.drop([POOL], OPERATOR)
            denied = await there.begin("bob")
            assert isinstance(denied, Denied)
            assert denied.entry is None
            assert there.room.served == there.room.unserved == 0

    asyncio.run(scene())


def test_who_hangs_up_does_not_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is gone is noticed when it is to ask; its entry is over in time."""
    monkeypatch.setattr(waiting, "POLL", 0.01)

    async def scene() -> None:
        clock = ManualClock()
        async with hall(clock=clock) as there:
            held = take(there.store, "ann")
            caller = Caller()
            gone = there.begin("bob", caller=caller)
            await there.until_parked(1)
            caller.gone = True
            with pytest.raises(Abandoned):
                await gone
            assert there.room.length == 0
            there.give_back(held)
            clock.advance(milliseconds=WAITING_FOR)
            take(there.store, "cid")

    asyncio.run(scene())


@pytest.mark.usefixtures("rarely")
def test_server_that_stops_sends_everybody_away() -> None:
    """At a stop all are told their places, at once: another server has them, too."""

    async def scene() -> None:
        async with hall() as there:
            take(there.store, "ann")
            tasks = [there.begin(f"user{i}") for i in range(5)]
            await there.until_parked(5)
            there.room.close()
            answers = await asyncio.gather(*tasks)
            assert [answer.position for answer in answers] == [1, 2, 3, 4, 5]
            late = await there.begin("late")
            assert late.position == 6

    asyncio.run(scene())


def test_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the room full is told its place at once."""
    monkeypatch.setattr(waiting, "WAITERS_MAX", 1)

    async def scene() -> None:
        async with hall() as there:
            take(there.store, "ann")
            first = there.begin("bob")
            await there.until_parked(1)
            denied = await there.begin("cid")
            assert denied.position == 2
            first.cancel()

    asyncio.run(scene())


def test_those_who_wait_leave_connections_for_those_who_beat() -> None:
    """Of one address's connections, and of all, waiters take up a part: else heartbeats were refused."""
    assert 2 * waiting.WAITERS_MAX <= CONNECTIONS_SHARE < CONNECTIONS_MAX


@pytest.mark.usefixtures("rarely")
def test_a_holder_waits_once_in_a_pool() -> None:
    """Who asks again while its request is parked has hung up on it, or has a copy: the newer one waits."""

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            older = there.begin("bob")
            await there.until_parked(1)
            other = there.begin("cid")
            await there.until_parked(2)
            for _ in range(3):
                newer = there.begin("bob")
                denied = await older
                assert isinstance(denied, Denied)
                assert denied.position == 1
                assert there.room.length == 2
                older = newer
            assert there.line() == ["bob", "cid"]
            there.give_back(held)
            assert (await older).user_id == "bob"
            assert there.room.length == 1
            assert not other.done()
            other.cancel()

    asyncio.run(scene())


@pytest.mark.usefixtures("rarely")
def test_a_full_room_lets_a_holder_change_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no room more than it had, and who has just been sent away ends nobody's line."""
    monkeypatch.setattr(waiting, "WAITERS_MAX", 1)

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            older = there.begin("bob")
            await there.until_parked(1)
            newer = there.begin("bob")
            assert isinstance(await older, Denied)
            assert there.room.length == 1
            there.give_back(held)
            assert (await newer).user_id == "bob"
            assert there.room.length == 0

    asyncio.run(scene())


@pytest.mark.usefixtures("rarely")
def test_who_was_sent_away_while_it_asked_ends_nobody_elses_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer of the older request comes after the newer one has ended, and others wait by then."""

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            older = there.begin("bob")
            await there.until_parked(1)
            submit, gate, asks = there.batcher.submit, asyncio.Event(), asyncio.Event()

            async def late(call: Any) -> Any:
                asks.set()
                await gate.wait()
                return await submit("acquire", call)

            def slow(verb: str, call: Any, caller: Any = None) -> asyncio.Future[Any]:
                return asyncio.ensure_future(late(call))

            monkeypatch.setattr(there.batcher, "submit", slow)
            there.room.freed({POOL})
            await asks.wait()
            monkeypatch.setattr(there.batcher, "submit", submit)
            newer = there.begin("bob", wait=0.01)
            assert isinstance(await newer, Denied)
            other = there.begin("cid")
            await becomes(lambda: there.room.length == 1 and "cid" in there.line())
            gate.set()
            assert isinstance(await older, Denied)
            left = there.store.waiting(POOL)[0]
            assert [each.user_id for each in left] == ["bob", "cid"]
            there.store.release([Release(lease_id=held.id, fence=held.fence)])
            again = there.begin("bob")
            there.give_back(await again)
            assert (await other).user_id == "cid"
            assert there.room.length == 0

    asyncio.run(scene())


def test_entry_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody who is parked asks again before its entry is over."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    monkeypatch.setattr(waiting, "REFRESH", 0.02)

    async def scene() -> None:
        clock = ManualClock()
        async with hall(clock=clock) as there:
            take(there.store, "ann")
            tasks = [there.begin(f"user{i}") for i in range(5)]
            await there.until_parked(5)
            for _ in range(3):
                clock.advance(milliseconds=WAITING_FOR - 1)
                due = clock.now() + WAITING_FOR
                await becomes(partial(there.all_live_until, due))
            for task in tasks:
                task.cancel()

    asyncio.run(scene())


def test_pace_is_learned() -> None:
    """The estimate follows how fast places were gained."""
    pace = Pace()
    assert pace.estimate(1) is None
    pace.note(0, 5_000)
    assert pace.estimate(1) is None
    for _ in range(100):
        pace.note(5, 5_000)
    assert pace.estimate(10) == pytest.approx(10_000, rel=0.01)
    pace.note(1_000, 10)  # too short to tell
    assert pace.estimate(10) == pytest.approx(10_000, rel=0.01)
    assert pace.estimate(10**9) is None
    pace.note(-3, 5_000)  # others of higher priority came
    assert pace.estimate(10) > 10_000  # type: ignore[operator]  # it is known by now


def test_thousand_wait_in_one_process() -> None:
    """A thousand requests hold no thread, and are served in the order in which they came."""

    async def scene() -> None:
        async with hall(10) as there:
            held = [take(there.store, f"holder{i}") for i in range(10)]
            served: list[str] = []
            tasks = []

            def note(done: asyncio.Task[Any]) -> None:
                if isinstance(done.result(), Lease):
                    served.append(done.result().user_id)

            for i in range(1_000):
                task = there.begin(f"user{i:04}")
                task.add_done_callback(note)
                tasks.append(task)
            await there.until_parked(1_000)
            for _ in range(12):
                for lease in held:
                    there.give_back(lease)
                count = len(served)
                await becomes(partial(lambda least: len(served) >= least, count + 10))
                held = [task.result() for task in tasks[count : count + 10]]
            assert sorted(served) == [f"user{i:04}" for i in range(120)]
            blocks = [sorted(served[i : i + 10]) for i in range(0, 120, 10)]
            assert [each for block in blocks for each in block] == sorted(served)
            there.room.close()
            await asyncio.gather(*tasks)

    asyncio.run(scene())


def test_seat_of_a_waiter_is_like_any_other() -> None:
    """What a waiter gets is a seat like any other: an acquire of its own holder takes it over."""

    async def scene() -> None:
        async with hall() as there:
            held = take(there.store, "ann")
            task = there.begin("bob")
            await there.until_parked(1)
            there.give_back(held)
            first = await task
            again = await there.begin("bob")
            assert (again.id, again.fence) == (first.id, first.fence + 1)
            request: Acquire = acquire("cid")
            assert isinstance(there.store.acquire([request])[0], Denied)
            ended = there.store.revoke(LeaseFilter(), OPERATOR)
            assert [lease.end_reason for lease in ended] == [EndReason.REVOKED]

    asyncio.run(scene())
