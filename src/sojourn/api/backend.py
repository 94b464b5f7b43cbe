"""Calls of application backends: an API key in Authorization, a person's token in X-Session-Token.

They run on the event loop, in either lane, and hand their request to the batcher. A key that has not
been seen before is looked up first (see `proofs`), so that whoever guesses keys never gets into the queue
of those who have one; from then on each batch looks up the keys of its requests, once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from msgspec import Struct

from sojourn.api.call import Method, Reader, Who, admit_key, answered
from sojourn.api.context import Context
from sojourn.api.hot import BatchRequest, Hot, HotCall, HotStep, hot_call
from sojourn.api.incoming import AUTHORIZATION, Incoming
from sojourn.idempotency import Presented, Replayed
from sojourn.service.backends import NO_TOKEN, BackendCall
from sojourn.service.keys import Permission
from sojourn.session import Gone, TooMany
from sojourn.token import FOREIGN_MAX, TokenKind
from sojourn.wire.bodies import Done, retry_after_header
from sojourn.wire.problems import answer_problem
from sojourn.wire.proof import bearer
from sojourn.wire.reply import Reply, done, replayed
from sojourn.wire.sessions import gone_problem, limit_problem, room_in

# A backend is refused by `Bearer realm="sojourn"`; here it is the person whose proof is no good.
_CHALLENGE = (b"www-authenticate", b'Bearer realm="sojourn session"')

RECOGNIZED_LENGTH = 256
"""Bytes of the longest header whose API key is not worked out anew each time."""
Handler = Callable[..., BatchRequest]


class BackendRequest(Struct, frozen=True, gc=False):
    """The backend that calls, and the person's token. Each handler gets one besides its parameters."""

    key_hash: bytes
    token: str | None
    may: Permission
    once: Presented | None = None

    def wants(self, verb: str, request: Any, *, current: bool = False) -> BatchRequest:
        """Have a request carried out; with `current`, about the session that the token stands for."""
        token = self.token if current else None
        call = BackendCall(
            key_hash=self.key_hash, request=request, token=token, may=self.may, once=self.once
        )
        return BatchRequest(verb, call)


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
) -> Callable[[Handler], HotCall]:
    """Make a call of a function that says what is to be asked, and of one that tells the outcome.

    `keeps`: see `Hot`.
    `tell` is given no outcome that is a refusal: where there is no such session, and where a user has
    too many, the answer is the same for all calls.
    """

    def decorate(handler: Handler) -> HotCall:
        reader = Reader(handler, path)
        takes_key = method != "GET"
        ask = _asking(handler, reader, who, may, body_required=body_required, takes_key=takes_key)
        hot = Hot(
            _shown,
            ask,
            _telling(tell, status),
            admission=_admission,
            forget=_forget,
            reads_body=reader.body is not None,
            keeps=keeps,
            holds_data=True,
        )
        return hot_call(
            handler,
            hot,
            method=method,
            path=path,
            who=who,
            may=may,
            takes_key=takes_key,
            body=reader.body,
            body_required=body_required,
            query=reader.query,
            params=reader.params,
            answer=answered(tell),
            status=status,
            problems=problems,
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
) -> Callable[[Context, _Shown, Incoming, bytes], HotStep]:
    def ask(_context: Context, shown: _Shown, incoming: Incoming, body: bytes) -> HotStep:
        if reader.body is not None and not body and not body_required:
            body = b"{}"
        given = reader.read(incoming.params, incoming.query, body)
        token = None if who is Who.BACKEND else session_token(incoming)
        if token is None and who is Who.PERSON:
            token = NO_TOKEN  # refused further on: whether the key may ask comes first
        once = incoming.once(handler.__name__, body) if takes_key else None
        return handler(BackendRequest(shown.key_hash, token, may, once), **given)

    return ask


_ODD = (Replayed, Gone, TooMany)
"""Outcomes that are told in a way of their own."""


def _telling(tell: Callable[[Any], Done[Any]], status: int) -> Callable[[Context, Any], Reply]:
    def told(context: Context, outcome: Any) -> Reply:
        if not isinstance(outcome, _ODD):
            return done(tell(outcome), status)
        if isinstance(outcome, Replayed):
            return replayed(told(context, outcome.answer))
        if isinstance(outcome, Gone):
            return refuse_gone(outcome)
        retry = retry_after_header(room_in(outcome)).encode()
        return answer_problem(limit_problem(outcome), (b"retry-after", retry))

    return told


class _Shown(Struct, frozen=True, gc=False):
    """An API key that a request shows, its hash, and the header that it came in."""

    key: str
    key_hash: bytes
    header: bytes


def _shown(context: Context, incoming: Incoming) -> _Shown:
    authorization = incoming.one(AUTHORIZATION)
    known: _Shown | None = context.recognized.get(authorization)
    if known is not None:
        return known
    presented = bearer(authorization, "<API key>")
    shown = _Shown(presented, context.services.keys.recognize(presented), authorization)
    if len(authorization) <= RECOGNIZED_LENGTH:
        context.recognized.put(authorization, shown)
    return shown


def _admission(
    context: Context, shown: _Shown, incoming: Incoming
) -> Callable[[], Awaitable[None]] | None:
    if context.api_keys.seen(shown.key_hash):
        return None
    return partial(admit_key, context, shown.key, shown.key_hash, incoming.client)


def _forget(context: Context, shown: _Shown, _outcome: object) -> None:
    context.api_keys.forget(shown.key_hash)
    context.recognized.forget(shown.header)


def refuse_gone(gone: Gone) -> Reply:
    return answer_problem(gone_problem(gone), _CHALLENGE)


def session_token(incoming: Incoming) -> str | None:
    """Return X-Session-Token, or a value that is never valid if it is too long or not ASCII. The service
    judges it, since a call may be about another system's token that was adopted."""
    token = incoming.one(b"x-session-token")
    if not token:
        return None
    if len(token) > FOREIGN_MAX or not token.isascii():
        return TokenKind.SESSION.value
    return token.decode("ascii")


__all__ = ["BackendRequest", "backend"]
