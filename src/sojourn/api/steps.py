"""A hot call as steps: a generator that yields what it waits for and is sent the outcome.

    def release(context, authorization, body, scope) -> Steps[Reply]:
        released = yield Asked("release", claims)
        return done(...)

The same steps are walked in a task, behind ASGI, or without one, by `api.direct`: which of the two is
no business of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from sojourn.api.context import Context
from sojourn.api.reply import Reply

T = TypeVar("T")


class Asked(Struct, frozen=True, gc=False):
    """A request for the batcher."""

    verb: str
    request: Any


class Awaited(Struct, frozen=True):
    """Whatever else takes time. Rare: only a task can wait for it."""

    work: Callable[[], Awaitable[Any]]


Step: TypeAlias = Asked | Awaited
Steps: TypeAlias = Generator[Step, Any, T]


async def walk(steps: Steps[Reply], context: Context, step: Step | None = None) -> Reply:
    """Carry steps out in a task, from the first one or from `step`, which has been yielded."""
    try:
        if step is None:
            step = next(steps)
        while True:
            try:
                outcome = await _carry_out(step, context)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the steps may know what to do
                step = steps.throw(fault)
            else:
                step = steps.send(outcome)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


async def _carry_out(step: Step, context: Context) -> Any:
    if isinstance(step, Asked):
        asked = context.services.batcher.submit(step.verb, step.request)
        return await context.deadlines.wait(asked)
    return await step.work()
