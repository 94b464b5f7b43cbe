"""One queue at the edge: many async callers, few synchronous runners.

Callers put requests into a queue on the event loop; a runner's thread carries them out, a batch at a
time. While one batch is in the database the next one gathers, so an idle system adds one thread hop
and no waiting, and a busy one pays one commit for hundreds of requests. All bookkeeping happens on
the loop: there is no lock, and nothing to get wrong when a caller is cancelled (its request is still
carried out, and its answer dropped).

Where a store waits for a server, a few runners keep the server busy while we are, and the other way
round; where it writes one batch at a time, one is all that helps.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from sojourn.errors import Overloaded, SojournError, StoreBroken, StoreUnavailable
from sojourn.log import get_logger

QUEUE_MAX = 10_000
BATCH_MAX = 512

log = get_logger(__name__)

_Item: TypeAlias = tuple[Any, Callable[[Any], None]]
type_verb = Callable[[Sequence[Any]], Sequence[Any]]


class Batcher:
    """Carries out `verbs` in batches on a thread of its own.

    A verb takes a sequence of requests and returns as many answers, in order; an answer that is an
    exception is raised to its caller alone. Verbs run in the order of `verbs` within a round, so what
    frees seats comes before what takes them; `runners` rounds may be under way at once. With `idle_after`,
    in seconds, a runner ends when there was nothing to do for so long, and another starts when there is:
    an application's event loop may close without a word.
    """

    def __init__(
        self,
        verbs: Mapping[str, type_verb],
        *,
        queue_max: int = QUEUE_MAX,
        batch_max: int = BATCH_MAX,
        runners: int = 1,
        idle_after: float | None = None,
    ) -> None:
        self._verbs = dict(verbs)
        self._queue_max = queue_max
        self._batch_max = batch_max
        self._waiting: dict[str, list[_Item]] = {v: [] for v in verbs}
        self._depth = 0
        self._in_flight = 0
        self._runners = runners
        self._idle_after = idle_after
        self._lock = threading.Lock()  # around `_alive`, which runners that end count down
        self._alive = 0
        self._scheduled = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rounds: queue.SimpleQueue[list[_Batch] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle: asyncio.Event | None = None
        self.observe: Callable[[str, int], None] | None = None  # (verb, batch size), for metrics

    def start(self) -> None:
        """Start the runners. Call on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        if self._idle_after is None:
            for _ in range(self._runners):
                self._start_runner()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that submits."""
        return self._loop

    def _start_runner(self) -> None:
        self._alive += 1
        self._threads = [each for each in self._threads if each.is_alive()]
        thread = threading.Thread(target=self._run, name="sojourn-runner", daemon=True)
        self._threads.append(thread)
        thread.start()

    async def close(self) -> None:
        """Carry out what is queued, then stop. Later submissions are refused."""
        self._closing = True
        if self._idle is None:
            return
        if self._scheduled:
            await asyncio.sleep(0)  # what was submitted in this very tick has yet to be flushed
        await self._idle.wait()
        for _ in self._threads:
            self._rounds.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()

    @property
    def depth(self) -> int:
        """Requests accepted and not yet answered."""
        return self._depth

    def submit(self, verb: str, request: Any) -> asyncio.Future[Any]:
        """Queue a request; the future is resolved after its batch is committed.

        Raises as `put` does.
        """
        loop = self._loop or asyncio.get_running_loop()  # asking which one runs is a system call
        future: asyncio.Future[Any] = loop.create_future()
        self.put(verb, request, partial(_settle, future))
        return future

    def put(self, verb: str, request: Any, answered: Callable[[Any], None]) -> None:
        """Queue a request; `answered` is called on the loop, after its batch is committed, with the
        outcome or the error. It must not raise.

        Raises Overloaded at once when the queue is full, and StoreUnavailable while shutting down.
        """
        loop = self._loop
        if loop is None or self._closing:
            raise StoreUnavailable("The server is shutting down.")
        if self._depth >= self._queue_max:
            raise Overloaded("The server has more requests waiting than it can serve in time.")
        self._waiting[verb].append((request, answered))
        self._depth += 1
        if self._in_flight < self._runners and not self._scheduled:
            # At the end of this tick: requests that arrived together go together.
            self._scheduled = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight == self._runners:
            return
        batches = []
        for verb, waiting in self._waiting.items():
            if waiting:
                if len(waiting) <= self._batch_max:
                    taken = waiting
                    self._waiting[verb] = []
                else:
                    taken = waiting[: self._batch_max]
                    del waiting[: self._batch_max]
                batches.append(_Batch(verb, taken))
        if batches:
            self._in_flight += 1
            if self._idle is not None:
                self._idle.clear()
            self._rounds.put(batches)
            if self._idle_after is not None:
                with self._lock:
                    if self._alive < self._in_flight:
                        self._start_runner()
        elif self._idle is not None and not self._in_flight:
            self._idle.set()

    def _run(self) -> None:
        """A runner's thread."""
        assert self._loop is not None
        while (batches := self._next()) is not None:
            for batch in batches:
                batch.answers = carry_out(self._verbs[batch.verb], [r for r, _ in batch.items])
            # A loop that has closed meanwhile has no caller left to answer.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._done, batches)

    def _next(self) -> list[_Batch] | None:
        """Wait for a round; None: end."""
        while True:
            try:
                return self._rounds.get(timeout=self._idle_after)
            except queue.Empty:
                with self._lock:
                    if self._rounds.empty():
                        self._alive -= 1
                        return None

    def _done(self, batches: list[_Batch]) -> None:
        self._in_flight -= 1
        self._flush()  # first the next round, then the answers: the runner never waits for us
        for batch in batches:
            self._depth -= len(batch.items)
            if self.observe is not None:
                self.observe(batch.verb, len(batch.items))
            for (_, answered), answer in zip(batch.items, batch.answers, strict=True):
                answered(answer)


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return  # its caller has gone
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class _Batch:
    __slots__ = ("answers", "items", "verb")

    def __init__(self, verb: str, items: list[_Item]) -> None:
        self.verb = verb
        self.items = items
        self.answers: Sequence[Any] = ()


def carry_out(verb: type_verb, requests: list[Any]) -> Sequence[Any]:
    """Run a verb on a batch; answer each request with its result or its own error.

    A batch that fails as a whole is retried one by one, so that a request which cannot be carried out
    never fails its neighbors; unless the store is down or broken, which one by one would not mend.
    """
    try:
        answers = verb(requests)
        if len(answers) != len(requests):
            raise RuntimeError(f"{len(requests)} requests, {len(answers)} answers")
    except (StoreUnavailable, StoreBroken) as fault:
        return [fault] * len(requests)
    except Exception as fault:
        if len(requests) > 1:
            return [carry_out(verb, [request])[0] for request in requests]
        if not isinstance(fault, SojournError):
            log.exception("verb_failed", verb=getattr(verb, "__name__", str(verb)))
        return [fault]
    return answers
