"""The batcher: order, isolation, bounds, and no waiting when idle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sojourn.errors import Conflict, Overloaded, StoreUnavailable
from sojourn.service.batcher import Batcher, carry_out


class Gate:
    """A verb whose first call waits until it is let through, and that records each batch."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        self.batches.append(list(requests))
        self.entered.set()
        assert self.open.wait(10)
        return [r * 10 for r in requests]


def drive(verbs: dict[str, Any], scenario: Callable[[Batcher], Any], **options: int) -> Any:
    async def main() -> Any:
        batcher = Batcher(verbs, **options)
        batcher.start()
        try:
            return await scenario(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main())


def test_answers_each_caller_with_its_own_result() -> None:
    """Answers go to their callers, in whatever batches they were carried out."""

    async def scenario(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.submit("double", n) for n in range(1_000)))

    answers = drive({"double": lambda xs: [2 * x for x in xs]}, scenario)
    assert answers == [2 * n for n in range(1_000)]


def test_gathers_while_a_batch_is_under_way() -> None:
    """Requests that arrive while the store works go together in the next batch."""
    gate = Gate()

    async def scenario(batcher: Batcher) -> Any:
        first = batcher.submit("verb", 1)
        await asyncio.to_thread(gate.entered.wait, 10)
        rest = [batcher.submit("verb", n) for n in range(2, 50)]
        gate.open.set()
        return [await first, *[await r for r in rest]]

    assert drive({"verb": gate}, scenario) == [n * 10 for n in range(1, 50)]
    assert gate.batches == [[1], list(range(2, 50))]


def test_batches_are_bounded() -> None:
    """No batch is larger than batch_max, and order is kept across batches."""
    gate = Gate()
    gate.open.set()

    async def scenario(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.submit("verb", n) for n in range(25)))

    assert drive({"verb": gate}, scenario, batch_max=10) == [n * 10 for n in range(25)]
    assert [len(b) for b in gate.batches] == [10, 10, 5]
    assert [n for batch in gate.batches for n in batch] == list(range(25))


def test_a_full_queue_refuses_at_once() -> None:
    """Past the bound a caller is told to come back, without waiting; room returns with answers."""
    gate = Gate()

    async def scenario(batcher: Batcher) -> Any:
        accepted = [batcher.submit("verb", n) for n in range(3)]
        with pytest.raises(Overloaded):
            batcher.submit("verb", 99)
        gate.open.set()
        answers = [await f for f in accepted]
        assert batcher.depth == 0
        return [*answers, await batcher.submit("verb", 4)]

    assert drive({"verb": gate}, scenario, queue_max=3) == [0, 10, 20, 40]


def test_an_impossible_request_does_not_fail_its_neighbors() -> None:
    """A batch that fails as a whole is retried one by one."""

    def verb(requests: Sequence[int]) -> list[int]:
        if 13 in requests:
            raise ZeroDivisionError
        return [r + 1 for r in requests]

    async def scenario(batcher: Batcher) -> list[Any]:
        futures = [batcher.submit("verb", n) for n in (1, 13, 2)]
        return await asyncio.gather(*futures, return_exceptions=True)

    one, thirteen, two = drive({"verb": verb}, scenario)
    assert (one, two) == (2, 3)
    assert isinstance(thirteen, ZeroDivisionError)


def test_a_store_that_is_down_is_asked_once_per_batch() -> None:
    """Trying one by one would only keep everybody waiting longer."""
    asked = []

    def verb(requests: Sequence[int]) -> list[int]:
        asked.append(len(requests))
        raise StoreUnavailable("down")

    answers = carry_out(verb, [1, 2, 3])
    assert all(isinstance(a, StoreUnavailable) for a in answers)
    assert asked == [3]


def test_an_answer_that_is_an_error_reaches_its_caller_alone() -> None:
    """A verb may answer one request with an error of its own."""

    async def scenario(batcher: Batcher) -> list[Any]:
        futures = [batcher.submit("verb", n) for n in (1, 2)]
        return await asyncio.gather(*futures, return_exceptions=True)

    one, two = drive({"verb": lambda xs: [Conflict("no") if x == 2 else x for x in xs]}, scenario)
    assert one == 1
    assert isinstance(two, Conflict)


def test_a_verb_that_miscounts_is_a_fault_and_not_a_mixup() -> None:
    """Too few answers must never be handed to the wrong callers."""
    answers = carry_out(lambda xs: [1] if len(xs) > 1 else [xs[0]], [7, 8])
    assert answers == [7, 8]
    (answer,) = carry_out(lambda _: [], [7])
    assert isinstance(answer, RuntimeError)


def test_a_canceled_caller_takes_nobody_with_it() -> None:
    """The request is carried out, its answer dropped, and the neighbor gets its own answer."""
    gate = Gate()

    async def scenario(batcher: Batcher) -> int:
        gone = batcher.submit("verb", 1)
        stays = batcher.submit("verb", 2)
        await asyncio.to_thread(gate.entered.wait, 10)
        gone.cancel()
        gate.open.set()
        return int(await stays)

    assert drive({"verb": gate}, scenario) == 20


def test_verbs_run_in_their_order_within_a_round() -> None:
    """What frees seats is carried out before what takes them."""
    order: list[str] = []

    def verb(name: str) -> Callable[[Sequence[int]], list[int]]:
        def run(requests: Sequence[int]) -> list[int]:
            order.append(name)
            return list(requests)

        return run

    async def scenario(batcher: Batcher) -> None:
        await asyncio.gather(batcher.submit("take", 1), batcher.submit("free", 2))

    drive({"free": verb("free"), "take": verb("take")}, scenario)
    assert order == ["free", "take"]


def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    """A shutdown loses no accepted request."""
    gate = Gate()

    async def main() -> tuple[list[int], bool]:
        batcher = Batcher({"verb": gate})
        batcher.start()
        first = batcher.submit("verb", 1)
        await asyncio.to_thread(gate.entered.wait, 10)
        second = batcher.submit("verb", 2)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            batcher.submit("verb", 3)
        gate.open.set()
        await closing
        return [await first, await second], True

    assert asyncio.run(main()) == ([10, 20], True)
