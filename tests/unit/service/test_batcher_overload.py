"""The batcher with more to do than it can: what keeps seats has its room, what is given up is dropped."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from sojourn.errors import Overloaded, StoreUnavailable
from sojourn.service.batcher import KEEPS, Batcher
from sojourn.service.caller import Abandoned, Caller

PATIENCE = 20.0  # seconds until a test that hangs fails


class Desk:
    """Verbs that note what they are given; those named in `blocked` wait until they are let through."""

    def __init__(self, *blocked: str) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)  # once for each batch of a blocked verb
        self.done: list[tuple[str, list[Any]]] = []
        self.blocked = blocked
        names = (*KEEPS, "acquire", "check")
        self.verbs = {name: self._verb(name) for name in names}

    def _verb(self, name: str) -> Callable[[Sequence[Any]], list[Any]]:
        def run(requests: Sequence[Any]) -> list[Any]:
            if name in self.blocked:
                self.entered.release()
                assert self.gate.wait(PATIENCE)
            self.done.append((name, list(requests)))
            return list(requests)

        return run

    def drive(self, scenario: Callable[[Batcher], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            batcher = Batcher(self.verbs, **options)
            batcher.start()
            try:
                await scenario(batcher)
            finally:
                self.gate.set()
                await batcher.close()
            assert batcher.depth == 0

        asyncio.run(main())

    async def block(self, batcher: Batcher, runners: int = 1) -> list[asyncio.Future[Any]]:
        """Have every runner wait with one acquire."""
        held = []
        for n in range(runners):
            held.append(batcher.submit("acquire", f"held {n}"))
            assert await asyncio.to_thread(self.entered.acquire, True, PATIENCE)
        return held


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0)


class TestRoom:
    def test_a_queue_full_of_acquires_takes_what_keeps_and_frees_seats_and_does_it_first(
        self,
    ) -> None:
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            waiting = await desk.block(batcher)
            waiting += [batcher.submit("acquire", n) for n in range(4)]
            for verb in ("acquire", "check"):
                assert batcher.refuses(keeps=False)
                with pytest.raises(Overloaded):
                    batcher.submit(verb, 99)
            kept = [batcher.submit(verb, verb) for verb in reversed(KEEPS)]
            desk.gate.set()
            assert await asyncio.gather(*kept) == list(reversed(KEEPS))
            await asyncio.gather(*waiting)

        desk.drive(scenario, queue_max=5)
        first, *then = desk.done
        assert first == ("acquire", ["held 0"])
        assert then == [*((verb, [verb]) for verb in KEEPS), ("acquire", [0, 1, 2, 3])]

    def test_their_room_is_bounded_too_and_nobody_elses(self) -> None:
        desk = Desk("renew")

        async def scenario(batcher: Batcher) -> None:
            kept = [batcher.submit("renew", 0)]
            assert await asyncio.to_thread(desk.entered.acquire, True, PATIENCE)
            kept += [batcher.submit("release", n) for n in range(2)]
            for verb in KEEPS:
                with pytest.raises(Overloaded):
                    batcher.submit(verb, 99)
            assert batcher.refuses(keeps=True)
            assert not batcher.refuses(keeps=False)
            other = batcher.submit("acquire", 1)
            desk.gate.set()
            await asyncio.gather(*kept, other)
            assert await batcher.submit("renew", 1) == 1

        desk.drive(scenario, keep_max=3)

    def test_what_would_wait_for_too_long_is_refused_and_room_comes_back(self) -> None:
        """Longer than its client would wait: the oldest in the queue tells how long that is."""
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            held = await desk.block(batcher)
            held.append(batcher.submit("acquire", 1))
            await until(lambda: batcher.refuses(keeps=False))
            with pytest.raises(Overloaded):
                batcher.submit("check", 2)
            renewed = batcher.submit("renew", 3)
            desk.gate.set()
            assert await renewed == 3
            await asyncio.gather(*held)
            assert not batcher.refuses(keeps=False)
            assert await batcher.submit("check", 4) == 4

        desk.drive(scenario, wait_max=0.01)


class TestRunners:
    def test_renewals_go_on_while_every_runner_waits_for_a_lock(self) -> None:
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            held = await desk.block(batcher, runners=2)
            for n in range(3):  # the reserve is one that comes back
                assert await batcher.submit("renew", n) == n
            assert not any(each.done() for each in held)

        desk.drive(scenario, runners=2, stall=0.01)

    def test_the_reserve_begins_nothing_while_a_runner_is_free(self) -> None:
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            await desk.block(batcher, runners=1)
            assert await batcher.submit("renew", 1) == 1  # by the second runner
            assert batcher._relief is None

        desk.drive(scenario, runners=2, stall=PATIENCE)

    def test_a_renewal_is_answered_before_the_acquires_of_its_round(self) -> None:
        """They may wait for a lock, for seconds."""
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            acquire = batcher.submit("acquire", 1)
            assert await batcher.submit("renew", 2) == 2
            assert not acquire.done()
            desk.gate.set()
            assert await acquire == 1

        desk.drive(scenario)
        assert [verb for verb, _ in desk.done] == ["renew", "acquire"]


class TestGivenUp:
    def test_what_is_withdrawn_in_time_is_not_carried_out(self) -> None:
        desk = Desk("acquire")
        answers: list[Any] = []

        async def scenario(batcher: Batcher) -> None:
            held = await desk.block(batcher)
            gone = batcher.put("acquire", "gone", answers.append)
            stays = batcher.submit("acquire", "stays")
            late = batcher.put("renew", "late", answers.append)
            assert batcher.depth == 4
            assert batcher.withdraw(gone)
            assert not batcher.withdraw(gone)
            assert (batcher.depth, batcher.withdrawn) == (3, 1)
            desk.gate.set()
            await asyncio.gather(*held, stays)
            assert not batcher.withdraw(late)

        desk.drive(scenario)
        assert answers == ["late"]
        assert ("acquire", ["stays"]) in desk.done

    def test_room_that_was_withdrawn_is_room(self) -> None:
        """However often: nothing is kept of what was taken back."""
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            await desk.block(batcher)
            for n in range(1_000):
                assert batcher.withdraw(batcher.put("acquire", n, print))
            assert batcher.depth == 1
            assert not batcher._waiting["acquire"]

        desk.drive(scenario, queue_max=2)

    def test_what_was_sent_by_somebody_who_has_hung_up_is_dropped(self) -> None:
        """Also when the event loop has not heard of it yet: the system is asked."""
        desk = Desk("acquire")
        answers: list[Any] = []
        here, there = socket.socketpair()
        stays, other = socket.socketpair()

        async def scenario(batcher: Batcher) -> None:
            there.sendall(b"a request that nobody has read yet")
            there.close()
            batcher.put("end", 1, answers.append, Caller(here.fileno()))
            assert await batcher.submit("end", 2, Caller(stays.fileno())) == 2
            assert batcher.withdrawn == 1

        with here, stays, other:
            desk.drive(scenario)
        assert [type(each) for each in answers] == [Abandoned]
        assert desk.done == [("end", [2])]

    @pytest.mark.parametrize("canceled", [True, False])
    def test_what_nobody_awaits_any_more_is_dropped(self, canceled: bool) -> None:
        """Canceled, or answered otherwise: that it took too long."""
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            held = await desk.block(batcher)
            given_up = batcher.submit("acquire", 1)
            stays = batcher.submit("acquire", 2)
            if canceled:
                given_up.cancel()
            else:
                given_up.set_exception(StoreUnavailable("It took too long."))
                given_up.exception()
            desk.gate.set()
            await asyncio.gather(*held, stays)

        desk.drive(scenario)
        assert desk.done == [("acquire", ["held 0"]), ("acquire", [2])]

    def test_a_round_of_which_nothing_is_left_is_none(self) -> None:
        desk = Desk()

        async def scenario(batcher: Batcher) -> None:
            caller = Caller()
            asked = batcher.submit("check", 1, caller)
            caller.gone = True
            with pytest.raises(Abandoned):
                await asked

        desk.drive(scenario)
        assert desk.done == []

    @pytest.mark.parametrize(("verb", "blocked"), [("check", 0), ("check", 1), ("renew", 2)])
    def test_those_behind_a_batch_that_has_gone_are_carried_out(
        self, verb: str, blocked: int
    ) -> None:
        """By a free runner, by the one that comes free, and by the reserve."""
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            held = await desk.block(batcher, runners=blocked)
            caller = Caller()
            gone = [batcher.submit(verb, n, caller) for n in range(3)]
            stays = batcher.submit(verb, "stays")
            caller.gone = True
            if verb == "check":
                desk.gate.set()
            assert await stays == "stays"
            assert {type(await _fault(each)) for each in gone} == {Abandoned}
            desk.gate.set()
            await asyncio.gather(*held)

        desk.drive(scenario, runners=max(1, blocked), batch_max=2, stall=0.01)


async def _fault(future: asyncio.Future[Any]) -> BaseException | None:
    await asyncio.wait([future])
    return future.exception()


class TestAsk:
    def test_a_thread_is_answered(self) -> None:
        desk = Desk()

        async def scenario(batcher: Batcher) -> None:
            assert await asyncio.to_thread(batcher.ask, "pulse", 7, patience=PATIENCE) == 7

        desk.drive(scenario)

    def test_a_thread_that_waits_no_longer_withdraws(self) -> None:
        desk = Desk("acquire")

        async def scenario(batcher: Batcher) -> None:
            await desk.block(batcher)
            with pytest.raises(StoreUnavailable):
                await asyncio.to_thread(batcher.ask, "pulse", 7, patience=0.01)
            await until(lambda: batcher.withdrawn == 1)

        desk.drive(scenario)
        assert desk.done == [("acquire", ["held 0"])]

    def test_a_thread_is_told_that_it_is_over(self) -> None:
        desk = Desk()
        left: list[Batcher] = []

        async def scenario(batcher: Batcher) -> None:
            left.append(batcher)

        desk.drive(scenario)
        with pytest.raises(StoreUnavailable):
            left[0].ask("pulse", None, patience=PATIENCE)
