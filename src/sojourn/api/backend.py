"""Calls of application backends: an API key in Authorization, a person's token in X-Session-Token.

They run on the event loop, in either lane, and hand their request to the batcher. A key that has not
been seen before is looked up first (see `proofs`), so that whoever guesses keys never gets into the queue
of those who have one; from then on each batch looks up the keys of its requests, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from sojourn.api.call import (
    Call,
    Method,
    Reader,
    Receive,
    Respond,
    Scope,
    Who,
    admit_key,
    answered,
    words,
)
from sojourn.api.context import Context
from sojourn.api.limits import DATA_BODY_MAX, check_body, read_body, scan
from sojourn.api.steps import Asked, Awaited, Hot, Incoming, Step, caller_of
from sojourn.idempotency import Presented, Replayed
from sojourn.service.backends import NO_TOKEN, BackendCall
from sojourn.service.keys import Permission
from sojourn.service.sessions import FOREIGN_MAX
from sojourn.session import Gone, TooMany
from sojourn.token import TokenKind
from sojourn.wire.bodies import Done, retry_after_header
from sojourn.wire.problems import answer_problem
from sojourn.wire.proof import bearer
from sojourn.wire.reply import Reply, done, replayed
from sojourn.wire.sessions import gone_problem, limit_problem, room_in

# A backend is refused by `Bearer realm="sojourn"`; here it is the person whose proof is no good.
_CHALLENGE = (b"www-authenticate", b'Bearer realm="sojourn session"')

Handler = Callable[..., Asked]


class Knock(Struct, frozen=True, gc=False):
    """What a handler is given besides its parameters: who asks, and with whose token."""

    key_hash: bytes
    token: str | None
    may: Permission
    once: Presented | None = None

    def wants(self, verb: str, request: Any, *, current: bool = False) -> Asked:
        """Have a request carried out; with `current`, about the session that the token stands for."""
        token = self.token if current else None
        call = BackendCall(
            key_hash=self.key_hash, request=request, token=token, may=self.may, once=self.once
        )
        return Asked(verb, call)


def backend(
    method: Method,
    path: str,
    *,
    tell: Callable[[Any], Done[Any]],
    who: Who = Who.BACKEND,
    may: Permission = Permission.SESSIONS,
    status: int = 200,
    body_required: bool = True,
    problems: tuple[str, ...] = (),
    keeps: bool = False,
) -> Callable[[Handler], Call]:
    """Make a call of a function that says what is to be asked, and of one that tells the outcome.

    `keeps`: see `Hot`.
    `tell` is given no outcome that is a refusal: where there is no such session, and where a user has
    too many, the answer is the same for all calls.
    """

    def decorate(handler: Handler) -> Call:
        reader = Reader(handler, path)
        takes_key = method != "GET"
        ask = _asking(handler, reader, who, may, body_required=body_required, takes_key=takes_key)
        hot = Hot(ask, _telling(tell, status), keeps)
        return Call(
            name=handler.__name__,
            method=method,
            path=path,
            who=who,
            may=may,
            respond=_responding(hot, reader),
            hot=hot,
            takes_key=takes_key,
            body=reader.body,
            body_required=body_required,
            query=reader.query,
            params=reader.params,
            answer=answered(tell),
            status=status,
            problems=problems,
            words=words(handler),
        )

    return decorate


def _asking(
    handler: Handler,
    reader: Reader,
    who: Who,
    may: Permission,
    *,
    body_required: bool,
    takes_key: bool,
) -> Callable[[Context, Incoming, bytes], Step]:
    def ask(context: Context, incoming: Incoming, body: bytes) -> Step:
        presented, key_hash = _presented(context, incoming)

        def asked(_: Any = None) -> Asked:
            if reader.body is not None:
                content_type = incoming.by_name.get(b"content-type", b"")
                check_body(body, content_type, _body_max(context))
            said = b"{}" if reader.body is not None and not body and not body_required else body
            given = reader.read(incoming.params, incoming.query, said)
            token = None if who is Who.BACKEND else session_token(incoming)
            if token is None and who is Who.PERSON:
                token = NO_TOKEN  # refused further on: whether the key may ask comes first
            once = incoming.once(handler.__name__, body) if takes_key else None
            return handler(Knock(key_hash, token, may, once), **given)

        if context.api_keys.seen(key_hash):
            return asked()
        return Awaited(partial(admit_key, context, presented, key_hash, incoming.client), asked)

    return ask


def _telling(tell: Callable[[Any], Done[Any]], status: int) -> Callable[[Context, Any], Reply]:
    def told(context: Context, outcome: Any) -> Reply:
        if isinstance(outcome, Replayed):
            return replayed(told(context, outcome.answer))
        if isinstance(outcome, Gone):
            return refuse_gone(outcome)
        if isinstance(outcome, TooMany):
            retry = retry_after_header(room_in(outcome)).encode()
            return answer_problem(limit_problem(outcome), (b"retry-after", retry))
        return done(tell(outcome), status)

    return told


def _responding(hot: Hot, reader: Reader) -> Respond:
    async def respond(context: Context, scope: Scope, receive: Receive) -> Reply:
        incoming = Incoming.of(scope)
        _, content_type = scan(incoming.headers, _body_max(context))
        presented, key_hash = _presented(context, incoming)
        await admit_key(
            context, presented, key_hash, incoming.client
        )  # before any of the body is taken
        body = b""
        if reader.body is not None:
            body = await read_body(receive, content_type, _body_max(context))
        return await hot.walk(context, hot.ask(context, incoming, body), caller_of(scope))

    return respond


def _body_max(context: Context) -> int:
    return max(DATA_BODY_MAX, context.settings.body_max)


def _presented(context: Context, incoming: Incoming) -> tuple[str, bytes]:
    """Return the API key that a request shows, and its hash."""
    presented = bearer(incoming.one(b"authorization"), "<API key>")
    return presented, context.services.keys.recognize(presented)


def refuse_gone(gone: Gone) -> Reply:
    return answer_problem(gone_problem(gone), _CHALLENGE)


def session_token(incoming: Incoming) -> str | None:
    """Return the person's token; of what no system would make, only that it is none. It is judged by
    the service: a call may be about the token of a system that was here before us."""
    token = incoming.one(b"x-session-token")
    if not token:
        return None
    if len(token) > FOREIGN_MAX or not token.isascii():
        return TokenKind.SESSION.value
    return token.decode("ascii")


__all__ = ["Knock", "backend"]
