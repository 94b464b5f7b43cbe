"""Hot calls: those that are asked most, and go through the batcher.

A hot call is two plain functions: what it asks of the batcher, and how it tells the outcome.

    def ask(context, proof, incoming, body) -> BatchRequest("release", claims)
    def tell(context, released) -> Reply

Which lane carries them out is no business of theirs: see `api.lanes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from msgspec import Struct

from sojourn.api.beacons import content_type
from sojourn.api.call import Call, words
from sojourn.api.context import Context
from sojourn.api.incoming import Incoming, caller_of
from sojourn.api.limits import DATA_BODY_MAX, check_body, read_whole
from sojourn.errors import SojournError, Unauthenticated
from sojourn.service.batcher import overloaded
from sojourn.service.caller import Caller
from sojourn.wire.problems import refuse
from sojourn.wire.reply import Reply

OVERLOADED = refuse(overloaded())
"""The answer to a hot call that there is no room for, before anything of it is looked at."""


class BatchRequest(Struct, frozen=True, gc=False):
    """A request for the batcher."""

    verb: str
    request: Any


class Awaited(Struct, frozen=True):
    """Other work that takes time, and the next step after it. Rare: only a task can wait for it."""

    work: Callable[[], Awaitable[Any]]
    then: Callable[[Any], HotStep]


class Parked(Struct, frozen=True):
    """A request for a seat that has a place in the line, as `answer` says, and waits for so many seconds."""

    request: Any
    answer: Any
    seconds: float


HotStep: TypeAlias = BatchRequest | Awaited | Parked


class Hot(Struct, frozen=True):
    """The functions of a hot call, the same in both lanes. Each may raise a SojournError.

    Attributes:
        prove: reads who asks from the headers, before any of a body is taken.
        admission: what a proof that was not seen before has to wait for (see `proofs`); it raises a
            SojournError where nobody is let in. None: nothing.
        forget: is told of a proof that was good once, and an outcome of `spent` that says it is no longer.
        spent: kinds of such outcomes.
        ask: is given what `prove` has read.
        again: returns the next step where an outcome is not final yet, such as a tentative refusal; None: it
            is told.
        keeps: it keeps or frees a seat, so it has room in the queue that other calls cannot take
            (`batcher.KEEPS`).
        aged: returns an outcome with what it promises from now on, given the seconds since it was queued;
            None: nothing is promised for a time.
        beacons: without a proof in its headers, its body may be called text (see `beacons`).
        holds_data: its body may hold a session's data, and be as large as that.
    """

    prove: Callable[[Context, Incoming], Any]
    ask: Callable[[Context, Any, Incoming, bytes], HotStep]
    tell: Callable[[Context, Any], Reply]
    reads_body: bool
    admission: Callable[[Context, Any, Incoming], Callable[[], Awaitable[None]] | None] | None = (
        None
    )
    forget: Callable[[Context, Any, Any], None] | None = None
    spent: tuple[type, ...] = (Unauthenticated,)
    again: Callable[[Context, Any, Any], HotStep | None] | None = None
    aged: Callable[[Any, float], Any] | None = None
    keeps: bool = False
    beacons: bool = False
    holds_data: bool = False

    def body_max(self, context: Context) -> int:
        """Return how many bytes a body may have."""
        given = context.settings.body_max
        return max(DATA_BODY_MAX, given) if self.holds_data else given

    def waits_for(
        self, context: Context, proof: Any, incoming: Incoming
    ) -> Callable[[], Awaitable[None]] | None:
        """Return what comes before the first step, if anything does."""
        return None if self.admission is None else self.admission(context, proof, incoming)

    def begin(self, context: Context, proof: Any, incoming: Incoming, body: bytes) -> HotStep:
        """Return the first step, once the body is here."""
        if not self.reads_body:
            body = b""
        elif body:
            bare = self.beacons and not proof
            kind = content_type(incoming) if bare else incoming.content_type
            check_body(body, kind, self.body_max(context))
        return self.ask(context, proof, incoming, body)

    async def respond(
        self, context: Context, scope: Any, receive: Callable[[], Awaitable[Any]]
    ) -> Reply:
        """Carry the call out in a task, from the headers on."""
        if context.services.batcher.refuses(keeps=self.keeps):
            return OVERLOADED
        incoming = Incoming.of(scope, self.body_max(context))
        proof = self.prove(context, incoming)
        if (admission := self.waits_for(context, proof, incoming)) is not None:
            await admission()
        body = await read_whole(receive, self.body_max(context)) if self.reads_body else b""
        step = self.begin(context, proof, incoming, body)
        try:
            return await self.walk(context, proof, step, caller_of(scope))
        except SojournError as fault:
            self.note(context, proof, fault)
            raise

    def note(self, context: Context, proof: Any, outcome: object) -> None:
        """Learn from an outcome that a proof is good no longer."""
        if self.forget is not None and isinstance(outcome, self.spent):
            self.forget(context, proof, outcome)

    async def walk(
        self, context: Context, proof: Any, step: HotStep, caller: Caller | None = None
    ) -> Reply:
        """Carry the call out in a task, from a step on, unless its caller hangs up before."""
        following: HotStep | None = step
        while following is not None:
            step = following
            while isinstance(step, Awaited):
                step = step.then(await step.work())
            if isinstance(step, Parked):
                parked = step
                return self.tell(
                    context,
                    await context.services.waiting.wait(
                        parked.request,
                        parked.answer,
                        seconds=parked.seconds,
                        caller=caller,
                        within=partial(self._within, context),
                    ),
                )
            asked = context.services.batcher.submit(step.verb, step.request, caller)
            outcome = await self._within(context, asked)
            following = self.following(context, step.request, outcome)
        self.note(context, proof, outcome)
        return self.tell(context, outcome)

    async def _within(self, context: Context, asked: asyncio.Future[Any]) -> Any:
        """Await an answer to what was queued just now; return it as it is by then."""
        loop = asked.get_loop()
        since = loop.time()
        outcome = await context.deadlines.wait(asked)
        return outcome if self.aged is None else self.aged(outcome, loop.time() - since)

    def following(self, context: Context, request: Any, outcome: Any) -> HotStep | None:
        """Return the step that comes after an outcome; None: that is to be told."""
        return None if self.again is None else self.again(context, request, outcome)


class HotCall(Call, frozen=True, kw_only=True):
    """A call that both lanes answer. `looks_at_client`: it wants to know the client's address."""

    hot: Hot
    looks_at_client: bool = False


def hot_call(handler: Callable[..., Any], hot: Hot, **described: Any) -> HotCall:
    """Make a call that is named and explained as its handler is."""
    name = handler.__name__
    return HotCall(name=name, words=words(handler), respond=hot.respond, hot=hot, **described)
