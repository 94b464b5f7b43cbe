"""Calls of application backends: an API key in Authorization, a person's token in X-Session-Token.

They run on the event loop, in either lane, and hand their request to the batcher. A key that has not
been seen before is looked up on a thread first, so that whoever guesses keys never gets into the queue
of those who have one; from then on each batch looks up the keys of its requests, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from sojourn.api.call import Call, Method, Reader, Receive, Scope, Who, words
from sojourn.api.context import Context
from sojourn.api.limits import check_body, read_body, scan
from sojourn.api.problems import answer_problem
from sojourn.api.proof import bearer
from sojourn.api.reply import Headers, Reply, done
from sojourn.api.steps import Asked, Awaited, Steps, walk
from sojourn.api.wire import Done, retry_after_header
from sojourn.api.wire_sessions import gone_problem, limit_problem, room_in
from sojourn.errors import InvalidInput
from sojourn.service.backends import NO_TOKEN, BackendCall
from sojourn.service.keys import Permission
from sojourn.service.sessions import FOREIGN_MAX
from sojourn.session import Gone, TooMany
from sojourn.token import TokenKind

# A backend is refused by `Bearer realm="sojourn"`; here it is the person whose proof is no good.
_CHALLENGE = (b"www-authenticate", b'Bearer realm="sojourn session"')

Handler = Callable[..., Steps[Done[Any]]]


class Refused(Exception):
    """Ends a handler with an answer that is not a success."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


class Knock(Struct, frozen=True):
    """What a handler is given besides its parameters: who asks, and with whose token."""

    context: Context
    key_hash: bytes
    token: str | None
    may: Permission

    def submit(self, verb: str, request: Any, *, current: bool = False) -> Steps[Any]:
        """Carry a request out; with `current`, about the session that the token stands for.

        Raises Refused where there is no such session, and where a user has too many.
        """
        call = BackendCall(
            key_hash=self.key_hash,
            request=request,
            token=self.token if current else None,
            may=self.may,
        )
        outcome = yield Asked(verb, call)
        if isinstance(outcome, Gone):
            raise Refused(refuse_gone(outcome))
        if isinstance(outcome, TooMany):
            retry = retry_after_header(room_in(outcome)).encode()
            raise Refused(answer_problem(limit_problem(outcome), (b"retry-after", retry)))
        return outcome


def refuse_gone(gone: Gone) -> Reply:
    return answer_problem(gone_problem(gone), _CHALLENGE)


def backend(
    method: Method,
    path: str,
    *,
    who: Who = Who.BACKEND,
    may: Permission = Permission.SESSIONS,
    status: int = 200,
    body_required: bool = True,
    problems: tuple[str, ...] = (),
) -> Callable[[Handler], Call]:
    """Make a call of a function that returns its steps, which run on the event loop."""

    def decorate(handler: Handler) -> Call:
        reader = Reader(handler, path)

        def key(context: Context, headers: Headers) -> tuple[bytes, bytes]:
            authorization, content_type = scan(headers, context.settings.body_max)
            presented = bearer(authorization, "<API key>")
            return context.services.keys.recognize(presented), content_type

        def steps(context: Context, scope: Scope, body: bytes) -> Steps[Reply]:
            headers = scope["headers"]
            key_hash, content_type = key(context, headers)
            if reader.body is not None:
                check_body(body, content_type, context.settings.body_max)
                if not body and not body_required:
                    body = b"{}"
            given = reader.read(scope, body)
            token = None if who is Who.BACKEND else session_token(headers)
            if token is None and who is Who.PERSON:
                token = NO_TOKEN  # refused further on: whether the key may ask comes first
            if key_hash not in context.admitted:
                yield Awaited(partial(_admit, context, key_hash))
            try:
                knock = Knock(context, key_hash, token, may)
                return done((yield from handler(knock, **given)), status)
            except Refused as refused:
                return refused.reply

        async def respond(context: Context, scope: Scope, receive: Receive) -> Reply:
            _, content_type = key(context, scope["headers"])
            body = b""
            if reader.body is not None:
                body = await read_body(receive, content_type, context.settings.body_max)
            scope.setdefault("path_params", {})
            return await walk(steps(context, scope, body), context)

        return Call(
            name=handler.__name__,
            method=method,
            path=path,
            who=who,
            may=may,
            respond=respond,
            steps=steps,
            body=reader.body,
            body_required=body_required,
            query=reader.query,
            params=reader.params,
            answer=reader.answer,
            status=status,
            problems=problems,
            words=words(handler),
        )

    return decorate


def session_token(headers: Headers) -> str | None:
    """Return the person's token; of what no system would make, only that it is none. It is judged by
    the service: a call may be about the token of a system that was here before us."""
    token: bytes | None = None
    for name, value in headers:
        if name == b"x-session-token":
            if token is not None:
                raise InvalidInput(
                    "X-Session-Token: given more than once.", hint="Send the header once."
                )
            token = value
    if not token:
        return None
    if len(token) > FOREIGN_MAX or not token.isascii():
        return TokenKind.SESSION.value
    return token.decode("ascii")


async def _admit(context: Context, key_hash: bytes) -> None:
    """Let a key in that was valid once. Raises Unauthenticated."""
    await context.blocking.run(
        context.settings.request_timeout, context.services.keys.known, key_hash
    )
    context.admitted.add(key_hash)


__all__ = ["Knock", "Refused", "backend"]
