"""Can this process serve? Asked by balancers, as often as they like, at the cost of one question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from sojourn.doctor.runs import Rounds
from sojourn.finding import Verdict
from sojourn.service.services import Services

PATIENCE = 2.0  # seconds
FRESH = 1.0  # seconds for which an answer is repeated
BUSY_SHARE = 0.8


class State(Struct, frozen=True):
    """`ready` is what a balancer asks; `reasons` say what does not work as it should."""

    ready: bool
    reasons: tuple[str, ...] = ()


class Readiness:
    """Probes the store and the ledger, one probe at a time.

    Without the store nothing can be decided: not ready. Without the ledger, beats and releases still
    work, and taking this process out of service would end them: ready, but degraded. So it is with what
    doctor finds: it says where, and no more, since anybody may ask.
    """

    def __init__(
        self,
        services: Services,
        rounds: Rounds,
        *,
        queue_max: int,
        look_soon: Callable[[], None] = lambda: None,
    ) -> None:
        self._services = services
        self._rounds = rounds
        self._look_soon = look_soon  # while something fails: whoever asks waits for its end
        self._busy_at = queue_max * BUSY_SHARE
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="sojourn-probe")
        self._probe: asyncio.Task[State] | None = None
        self._ended_at = float("-inf")

    async def state(self) -> State:
        """Answer from the probe under way, or the last one if it is fresh, or a new one."""
        loop = asyncio.get_running_loop()
        if self._probe is None or (self._probe.done() and loop.time() - self._ended_at > FRESH):
            self._probe = loop.create_task(self._ask())
        state = await asyncio.shield(self._probe)
        reasons = list(state.reasons)
        if self._services.batcher.depth > self._busy_at:
            reasons.append("The queue is nearly full.")
        if failing := self._rounds.areas(Verdict.FAILURE):
            self._look_soon()
            reasons.append(f"Doctor finds failures: {', '.join(failing)}. See /console/doctor.")
        return State(state.ready, tuple(reasons))

    async def _ask(self) -> State:
        loop = asyncio.get_running_loop()
        store = loop.run_in_executor(self._pool, self._services.store.now)
        ledger = loop.run_in_executor(self._pool, self._services.ledger.now)
        await asyncio.wait({store, ledger}, timeout=PATIENCE)
        self._ended_at = loop.time()
        answers = {"store": _answered(store), "ledger": _answered(ledger)}
        reasons = tuple(f"The {name} does not answer." for name, ok in answers.items() if not ok)
        return State(answers["store"], reasons)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)


def _answered(future: asyncio.Future[int]) -> bool:
    if future.done():
        return not future.cancelled() and future.exception() is None
    future.cancel()
    return False
