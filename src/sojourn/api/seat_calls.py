"""Hot calls about seats. A page of another origin may make them, where a license allows that."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

import msgspec

from sojourn.api.call import Method
from sojourn.api.context import Context
from sojourn.api.cross_origin import ORIGIN, page_of_request, share
from sojourn.api.hot import Awaited, BatchRequest, Hot, HotCall, HotStep, Parked, hot_call
from sojourn.api.incoming import AUTHORIZATION, Incoming
from sojourn.clock import SECOND
from sojourn.errors import SojournError, Unauthenticated
from sojourn.idempotency import Replayed
from sojourn.lease import Renewal
from sojourn.service.origins import FromPage, Shared, bare
from sojourn.service.seats import Seat
from sojourn.wire.problems import refuse
from sojourn.wire.reply import Reply

Handler = Callable[[Context, bytes, Incoming, bytes], HotStep]
Tell = Callable[[Context, Any], Reply]
Again = Callable[[Context, Any, Any], HotStep | None]


def seat_call(
    method: Method,
    path: str,
    *,
    tell: Tell,
    body: Any = None,
    keeps: bool = False,
    beacons: bool = False,
    forget: Callable[[Context, bytes, Any], None] | None = None,
    spent: tuple[type, ...] = (Unauthenticated,),
    again: Again | None = None,
    **described: Any,
) -> Callable[[Handler], HotCall]:
    """Make a call of a function that says what is to be asked, and of one that tells the outcome.

    `keeps`, `beacons`, `forget`, `spent`, `again`: see `Hot`. `described`: fields of `HotCall`.
    """

    def decorate(handler: Handler) -> HotCall:
        return hot_call(
            handler,
            Hot(
                _authorization,
                from_pages(handler),
                shared(tell),
                reads_body=body is not None,
                keeps=keeps,
                beacons=beacons,
                forget=forget,
                spent=spent,
                again=None if again is None else followed(again),
                aged=aged,
            ),
            for_pages=True,
            method=method,
            path=path,
            body=body,
            body_required=False,
            **described,
        )

    return decorate


def aged(outcome: Any, seconds: float) -> Any:
    """Return an outcome with what is left of a lease, so many seconds after it was asked for.

    The store decided after that, so its lease lives for longer than is told, however late the answer is.
    """
    kind = type(outcome)
    if kind is Renewal:
        left = max(0, outcome.expires_in - ceil(seconds * SECOND))
        return Renewal(expires_in=left, state=outcome.state)
    if kind is Seat:
        left = max(0, outcome.expires_in - ceil(seconds * SECOND))
        return msgspec.structs.replace(outcome, expires_in=left)
    if kind is Replayed:
        return msgspec.structs.replace(outcome, answer=aged(outcome.answer, seconds))
    return Shared(outcome.origin, aged(outcome.outcome, seconds)) if kind is Shared else outcome


def from_pages(handler: Handler) -> Handler:
    """Say with what a handler asks for that a page of another origin sent it, if one did."""

    def ask(context: Context, proof: bytes, incoming: Incoming, body: bytes) -> HotStep:
        step = handler(context, proof, incoming, body)
        if ORIGIN not in incoming.by_name:
            return step
        incoming.one(ORIGIN)
        origin = page_of_request(incoming.by_name)
        return step if origin is None else _from_page(origin, step)

    return ask


def _from_page(origin: str, step: HotStep) -> HotStep:
    if isinstance(step, Awaited):
        then = step.then
        return Awaited(step.work, lambda found: _from_page(origin, then(found)))
    if isinstance(step, Parked):
        return msgspec.structs.replace(step, request=FromPage(origin, step.request))
    return BatchRequest(step.verb, FromPage(origin, step.request))


def followed(again: Again) -> Again:
    """Let what follows an outcome follow that of a page's call, too."""

    def following(context: Context, request: Any, outcome: Any) -> HotStep | None:
        if type(request) is not FromPage:
            return again(context, request, outcome)
        step = again(context, request.call, bare(outcome))
        if isinstance(step, Parked):
            step = msgspec.structs.replace(step, answer=outcome)  # as it is to be told
        return None if step is None else _from_page(request.origin, step)

    return following


def shared(tell: Tell) -> Tell:
    """Let a page read what came of its call, where its license allows that."""

    def told(context: Context, outcome: Any) -> Reply:
        if type(outcome) is not Shared:
            return tell(context, outcome)
        found = outcome.outcome
        reply = refuse(found) if isinstance(found, SojournError) else tell(context, found)
        return share(reply, outcome.origin)

    return told


def _authorization(_context: Context, incoming: Incoming) -> bytes:
    return incoming.one(AUTHORIZATION)
