"""One queue at the edge: many async callers, few synchronous runners.

Callers put requests into a queue on the event loop; a runner's thread carries them out, a batch at a
time. While one batch is in the database the next one gathers, so an idle system adds one thread hop
and no waiting, and a busy one pays one commit for hundreds of requests. All bookkeeping happens on
the loop: there is no lock. A request whose caller has gone, by the time its batch is taken, is not
carried out; later it is, and its answer dropped.

What keeps and frees seats (`KEEPS`) has room of its own, which nothing else can take, and is carried
out first. Everything else is refused when too much of it waits, or waits for too long.

Where a store waits for a server, a few runners keep the server busy while we are, and the other way
round; where it writes one batch at a time, one is all that helps. Of several, all may wait for the
lock of a pool: then one more, kept in reserve, renews and releases.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from msgspec import Struct

from sojourn.errors import Overloaded, SojournError, StoreBroken, StoreUnavailable
from sojourn.log import get_logger
from sojourn.service.caller import Abandoned, Caller, look

QUEUE_MAX = 10_000
"""Requests that may be accepted and not yet answered, besides those of KEEPS."""
KEEP_MAX = 10_000
"""The same for KEEPS."""
WAIT_MAX = 2.0
"""Seconds for which the oldest of them may wait for a runner. Past that others are refused at once: they
would be answered after their clients have given up. What keeps seats is not."""
BATCH_MAX = 512
STALL = 0.1
"""Seconds for which KEEPS wait while all runners are busy; then they get the one in reserve."""
KEEPS = ("end", "release", "renew", "doubt", "pulse")
"""The verbs that free seats and keep them, in the order in which they are carried out."""
TICK = 0.001  # seconds; timers of a loop may fire early by its resolution
NEVER = float("inf")

log = get_logger(__name__)

type_verb = Callable[[Sequence[Any]], Sequence[Any]]


class Item(Struct, eq=False):
    """A request that was accepted. One is told from another by identity."""

    verb: str
    request: Any
    answered: Callable[[Any], None]
    since: float
    caller: Caller | None
    future: asyncio.Future[Any] | None
    link: Any = None  # what a trace of its batch names it by


Waiting: TypeAlias = OrderedDict[Item, None]  # a queue from which any one can be taken at once


class Batcher:
    """Carries out `verbs` in batches on threads of its own.

    A verb takes a sequence of requests and returns as many answers, in order; an answer that is an
    exception is raised to its caller alone. Within a round, KEEPS run first and then the others, in the
    order of `verbs`, so what frees seats comes before what takes them; `runners` rounds may be under
    way at once. With `idle_after`, in seconds, a runner ends when there was nothing to do for so long, and
    another starts when there is: an application's event loop may close without a word.
    """

    def __init__(
        self,
        verbs: Mapping[str, type_verb],
        *,
        queue_max: int = QUEUE_MAX,
        keep_max: int = KEEP_MAX,
        wait_max: float = WAIT_MAX,
        batch_max: int = BATCH_MAX,
        runners: int = 1,
        stall: float = STALL,
        idle_after: float | None = None,
    ) -> None:
        self._verbs = dict(verbs)
        self._queue_max = queue_max
        self._keep_max = keep_max
        self._wait_max = wait_max
        self._batch_max = batch_max
        self._stall = stall
        self._keeps: dict[str, Waiting] = {v: OrderedDict() for v in KEEPS if v in verbs}
        self._others: dict[str, Waiting] = {v: OrderedDict() for v in verbs if v not in KEEPS}
        self._waiting = self._keeps | self._others
        self._kept = 0  # requests of KEEPS accepted and not yet answered
        self._rest = 0  # the same of the others
        self._oldest = NEVER  # when the first of the others that wait was put there
        self._in_flight = 0
        self._runners = runners
        self._in_reserve = 1 if runners > 1 else 0  # rounds that the reserve may begin
        self._relief: asyncio.TimerHandle | None = None
        self._idle_after = idle_after
        self._lock = threading.Lock()  # around `_alive`, which runners that end count down
        self._alive = 0
        self._under_way = 0  # rounds that runners have, or are to take
        self._scheduled = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rounds: queue.SimpleQueue[_Round | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle: asyncio.Event | None = None
        self.withdrawn = 0  # requests that were accepted, and dropped since nobody waited any more
        self.observe: Callable[[str, int], None] | None = None  # (verb, batch size), for metrics
        self.link: Callable[[], Any] | None = None  # for traces, as the next one
        self.traced: Callable[[type_verb, str, Sequence[Item]], type_verb] | None = None

    def start(self) -> None:
        """Start the runners. Call on the event loop that will submit."""
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()
        if self._idle_after is None:
            for _ in range(self._runners + self._in_reserve):
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
        if self._relief is not None:
            self._relief.cancel()
        for _ in self._threads:
            self._rounds.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()

    @property
    def depth(self) -> int:
        """Requests accepted and not yet answered."""
        return self._kept + self._rest

    def refuses(self, *, keeps: bool) -> bool:
        """Tell whether a request would be refused now for want of room, one of KEEPS or another."""
        if keeps:
            return self._kept >= self._keep_max
        if self._rest >= self._queue_max:
            return True
        if self._oldest == NEVER or self._loop is None:
            return False
        return self._loop.time() - self._oldest > self._wait_max

    def submit(self, verb: str, request: Any, caller: Caller | None = None) -> asyncio.Future[Any]:
        """Queue a request; the future is resolved after its batch is committed. When it is canceled
        before that is begun, the request is dropped.

        Raises as `put` does.
        """
        loop = self._loop or asyncio.get_running_loop()  # asking which one runs is a system call
        future: asyncio.Future[Any] = loop.create_future()
        self.put(verb, request, partial(_settle, future), caller, future)
        return future

    def put(
        self,
        verb: str,
        request: Any,
        answered: Callable[[Any], None],
        caller: Caller | None = None,
        future: asyncio.Future[Any] | None = None,
    ) -> Item:
        """Queue a request; `answered` is called on the loop, after its batch is committed, with the
        outcome or the error. It must not raise.

        Before its batch is begun, a request is dropped whose caller has hung up, or whose future, if it
        is to resolve one, is done; then the error is Abandoned.

        Raises Overloaded at once when there is no room, and StoreUnavailable while shutting down.
        """
        loop = self._loop
        if loop is None or self._closing:
            raise StoreUnavailable("The server is shutting down.")
        keeps = verb in self._keeps
        if self._kept >= self._keep_max if keeps else self.refuses(keeps=False):
            raise overloaded()
        now = loop.time()
        item = Item(verb, request, answered, now, caller, future)
        if self.link is not None:
            item.link = self.link()
        self._waiting[verb][item] = None
        if keeps:
            self._kept += 1
        else:
            self._rest += 1
            if self._oldest == NEVER:
                self._oldest = now
        if self._in_flight < self._runners:
            if not self._scheduled:
                # At the end of this tick: requests that arrived together go together.
                self._scheduled = True
                loop.call_soon(self._flush)
        elif keeps:
            self._call_reserve()
        return item

    def withdraw(self, item: Item) -> bool:
        """Take a request back that no runner has taken yet; tell whether that came true. Then it is
        not carried out, and not answered."""
        waiting = self._waiting[item.verb]
        if item not in waiting:
            return False
        del waiting[item]
        self._forget([item])
        if item.since <= self._oldest:
            self._note_oldest()
        return True

    def ask(self, verb: str, request: Any, *, patience: float) -> Any:
        """Have a request carried out, from a thread other than the loop's; return its outcome.

        Raises what `put` raises, and StoreUnavailable past `patience` seconds; then it is withdrawn,
        unless it has begun.
        """
        loop = self._loop
        if loop is None or self._closing:
            raise StoreUnavailable("The server is shutting down.")
        asked: concurrent.futures.Future[Any] = concurrent.futures.Future()
        items: list[Item] = []

        def begin() -> None:
            try:
                items.append(self.put(verb, request, partial(_settle, asked)))
            except SojournError as fault:
                _settle(asked, fault)

        loop.call_soon_threadsafe(begin)
        try:
            return asked.result(patience)
        except concurrent.futures.TimeoutError:
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(lambda: [self.withdraw(item) for item in items])
            raise StoreUnavailable("The store did not answer in time.") from None

    def _forget(self, items: Sequence[Item]) -> None:
        """Count requests out that are not carried out."""
        kept = sum(item.verb in self._keeps for item in items)
        self._kept -= kept
        self._rest -= len(items) - kept
        self.withdrawn += len(items)

    def _note_oldest(self) -> None:
        self._oldest = _first(self._others)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight == self._runners:
            if any(self._keeps.values()):
                self._call_reserve()
            return
        while any(self._waiting.values()):
            if self._begin(self._waiting, reserve=False):
                self._in_flight += 1
                break
        else:
            if self._idle is not None and self._is_idle():
                self._idle.set()
        self._note_oldest()

    def _is_idle(self) -> bool:
        reserve_at_rest = self._in_reserve > 0 or self._runners == 1
        return not self._in_flight and reserve_at_rest

    def _call_reserve(self) -> None:
        """Have the reserve look, a stall from when the first of KEEPS began to wait."""
        if self._relief is None and self._in_reserve:
            assert self._loop is not None
            self._relief = self._loop.call_later(self._stall, self._relieve)

    def _relieve(self) -> None:
        self._relief = None
        if self._in_flight < self._runners or not self._in_reserve:
            return
        assert self._loop is not None
        since = _first(self._keeps)
        if since == NEVER:
            return
        if since + self._stall > self._loop.time() + TICK:
            self._relief = self._loop.call_at(since + self._stall, self._relieve)
        elif self._begin(self._keeps, reserve=True):
            self._in_reserve -= 1
        else:
            self._call_reserve()  # all of those had gone, and there may be more

    def _begin(self, waiting: dict[str, Waiting], *, reserve: bool) -> bool:
        """Hand a round to a runner; tell whether anything was left to do of what was taken."""
        taken = [self._take(each) for each in waiting.values() if each]
        dropped = self._drop(taken)
        batches = [_Batch(items[0].verb, items) for items in taken if items]
        if batches:
            if self._idle is not None:
                self._idle.clear()
            self._under_way += 1
            self._rounds.put(_Round(batches, reserve=reserve))
            if self._idle_after is not None:
                with self._lock:
                    if self._alive < self._under_way:
                        self._start_runner()
        for item in dropped:  # the runner has begun: it never waits for us
            item.answered(Abandoned())
        return bool(batches)

    def _take(self, waiting: Waiting) -> list[Item]:
        if len(waiting) <= self._batch_max:
            taken = list(waiting)
            waiting.clear()
            return taken
        return [waiting.popitem(last=False)[0] for _ in range(self._batch_max)]

    def _drop(self, taken: list[list[Item]]) -> list[Item]:
        """Take out what nobody waits for any more; return it."""
        callers = [item.caller for items in taken for item in items if item.caller is not None]
        if not look(callers) and not any(
            item.future is not None and item.future.done() for items in taken for item in items
        ):
            return []
        dropped = [item for items in taken for item in items if not _wanted(item)]
        for items in taken:
            items[:] = [item for item in items if _wanted(item)]
        self._forget(dropped)
        return dropped

    def _run(self) -> None:
        """A runner's thread."""
        while (under_way := self._next()) is not None:
            batches, told = under_way.batches, 0
            for i, batch in enumerate(batches):
                if i and batch.verb in self._others and batches[i - 1].verb in self._keeps:
                    # What takes seats may wait for a lock: those who keep theirs need not.
                    self._call(self._tell, batches[:i])
                    told = i
                verb = self._verbs[batch.verb]
                if self.traced is not None:
                    verb = self.traced(verb, batch.verb, batch.items)
                batch.answers = carry_out(verb, [item.request for item in batch.items])
            self._call(self._done, batches[told:], under_way.reserve)

    def _next(self) -> _Round | None:
        """Wait for a round; None: end."""
        while True:
            try:
                return self._rounds.get(timeout=self._idle_after)
            except queue.Empty:
                with self._lock:
                    if self._rounds.empty():
                        self._alive -= 1
                        return None

    def _call(self, work: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        # A loop that has closed meanwhile has no caller left to answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work, *args)

    def _done(self, batches: list[_Batch], reserve: bool) -> None:
        self._under_way -= 1
        if reserve:
            self._in_reserve += 1
        else:
            self._in_flight -= 1
        self._flush()  # first the next round, then the answers: the runner never waits for us
        self._tell(batches)

    def _tell(self, batches: list[_Batch]) -> None:
        for batch in batches:
            if batch.verb in self._keeps:
                self._kept -= len(batch.items)
            else:
                self._rest -= len(batch.items)
            if self.observe is not None:
                self.observe(batch.verb, len(batch.items))
            for item, answer in zip(batch.items, batch.answers, strict=True):
                item.answered(answer)


def overloaded() -> Overloaded:
    return Overloaded("The server has more requests waiting than it can serve in time.")


def _wanted(item: Item) -> bool:
    """Tell whether somebody waits for the answer, as far as we know."""
    return not (
        (item.caller is not None and item.caller.gone)
        or (item.future is not None and item.future.done())
    )


def _first(waiting: Mapping[str, Waiting]) -> float:
    """Return when the first of these began to wait; NEVER if there is none."""
    return min((next(iter(each)).since for each in waiting.values() if each), default=NEVER)


def _settle(future: asyncio.Future[Any] | concurrent.futures.Future[Any], answer: Any) -> None:
    if future.done():
        return  # its caller has gone
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class _Batch:
    __slots__ = ("answers", "items", "verb")

    def __init__(self, verb: str, items: list[Item]) -> None:
        self.verb = verb
        self.items = items
        self.answers: Sequence[Any] = ()


class _Round:
    __slots__ = ("batches", "reserve")

    def __init__(self, batches: list[_Batch], *, reserve: bool) -> None:
        self.batches = batches
        self.reserve = reserve


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
