"""Steps: logic that yields what it wants of `session.Sessions`, and is sent the answers.

`run` carries a step out one call at a time, `run_async` through a batcher.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from sojourn.session import Sessions

T = TypeVar("T")
VisitStep: TypeAlias = Generator[tuple[str, Any], Any, T]
"""Logic that yields (verb, request) and is sent the answer."""
Verb: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]


def verbs(sessions: Sessions) -> Mapping[str, Verb]:
    """Return what steps may ask for, as functions of a batch."""
    return {
        "end": sessions.end,
        "begin": sessions.begin,
        "rotate": sessions.rotate,
        "save": sessions.save,
        "check": sessions.check,
        "of": lambda users: [sessions.of(user) for user in users],
        "rename": lambda asked: [sessions.rename(each) for each in asked],
    }


def run(step: VisitStep[T], carry_out: Mapping[str, Verb]) -> T:
    """Carry a step out, here and now."""
    answer: Any = None
    fault: Exception | None = None
    while True:
        try:
            verb, request = step.send(answer) if fault is None else step.throw(fault)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
        answer, fault = None, None
        try:
            answer = carry_out[verb]([request])[0]
        except Exception as raised:  # noqa: BLE001 - the step is to see it where it asked
            fault = raised
        if isinstance(answer, Exception):
            answer, fault = None, answer


async def run_async(step: VisitStep[T], submit: Callable[[str, Any], Awaitable[Any]]) -> T:
    """Carry a step out through a batcher."""
    answer: Any = None
    fault: Exception | None = None
    while True:
        try:
            verb, request = step.send(answer) if fault is None else step.throw(fault)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
        answer, fault = None, None
        try:
            answer = await submit(verb, request)
        except Exception as raised:  # noqa: BLE001 - the step is to see it where it asked
            fault = raised
