"""Active sessions, served: the calls of `people`, and how a request of an ASGI server is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from sojourn.api.call import Call, Method, Receive, Scope, Who, Words
from sojourn.api.context import Context
from sojourn.api.incoming import IDEMPOTENCY_KEY, Incoming, caller_of
from sojourn.api.limits import read_whole
from sojourn.api.sockets import KNOWN
from sojourn.errors import NotFound, Overloaded, SojournError, StoreError
from sojourn.origin import Origin
from sojourn.people.calls import BASE, BODY_MAX, LIVE, OTHERS, PersonRequest, asked
from sojourn.people.live import reject
from sojourn.people.wire import (
    ActiveSessions,
    ActiveSessionsQuery,
    DeviceName,
    Renamed,
    SignedOut,
    for_people,
)
from sojourn.wire.bodies import Done, Name
from sojourn.wire.problems import refuse
from sojourn.wire.reply import Reply

T = TypeVar("T")


def header_of(scope: Scope) -> Callable[[str], str]:
    """Return what looks up a header by its name in lower case; empty where there is none."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"cookie" and name in found:
            value = found[name] + b"; " + value  # noqa: PLW2901 - HTTP/2 splits it (RFC 9113, 8.2.3)
        found[name] = value
    return lambda name: found.get(name.encode(), b"").decode("latin-1")


def from_scope(scope: Scope, body: bytes = b"") -> PersonRequest:
    """Read an ASGI scope, of which the server has seen to proxies already."""
    client = scope.get("client")
    https = scope.get("scheme") in ("https", "wss")
    raw = scope.get("raw_path") or scope["path"].encode()
    return asked(
        scope.get("method", "GET"),
        raw.decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        header_of(scope),
        Origin(https=https, ip=client[0] if client else None),
        body=body,
    )


async def _respond(context: Context, scope: Scope, receive: Receive) -> Reply:
    settings = context.settings
    incoming = Incoming.of(scope, settings.body_max)  # refused as every call nobody would send so
    incoming.one(IDEMPOTENCY_KEY)
    takes_body = scope["method"] == "PATCH"
    request = from_scope(scope, await read_whole(receive, BODY_MAX) if takes_body else b"")
    try:
        return await on_threads(context, request, scope, context.people.reply, request)
    except (StoreError, Overloaded) as fault:
        context.people.note(fault)
        reply = refuse(for_people(fault, ending=request.method != "GET"))
        return context.people.shared(request, reply)


async def on_threads(
    context: Context, request: PersonRequest, scope: Scope, work: Callable[..., T], *args: Any
) -> T:
    """Carry out what somebody asks, with others of their kind: people who are signed in, or strangers."""
    threads = await context.threads_for(request, request.origin.ip)
    return await threads.run(context.settings.request_timeout, work, *args, caller=caller_of(scope))


async def serve_socket(context: Context, scope: Scope, receive: Receive, send: Any) -> None:
    """Serve a person's WebSocket: the only path that takes one is `LIVE`."""
    request = from_scope(scope)
    if request.path != LIVE:
        await receive()
        await reject(send, refuse(NotFound("There is nothing at this path.")))
    elif context.draining:
        await receive()
        await reject(send, refuse(SojournError("The server stops.", code="shutting_down")))
    else:
        known = (scope.get("extensions") or {}).get(KNOWN, lambda: None)
        on_thread = partial(on_threads, context, request, scope)
        await context.live.serve(request, receive, send, on_thread=on_thread, known=known)


def _call(name: str, method: Method, path: str, words: Words, answer: Any, **more: Any) -> Call:
    return Call(
        name=name,
        method=method,
        path=path,
        who=Who.SELF,
        respond=_respond,
        words=words,
        answer=answer,
        **more,
    )


CALLS: tuple[Call, ...] = (
    _call(
        "list_active_sessions",
        "GET",
        BASE,
        Words(
            "Show a person where they are signed in",
            "Newest first; the session that asks is always on the first page. Where sessions have not "
            "been set up yet, the list is empty and `message` says so.",
        ),
        ActiveSessions,
        query=ActiveSessionsQuery,
    ),
    _call(
        "end_active_session",
        "DELETE",
        BASE + "/{sessionId}",
        Words(
            "Sign a person out on one device",
            "The seats that belong to the session come free in the same step. Ending the session that "
            "asks signs the person out and takes the cookie back. Somebody else's session is 404.",
        ),
        Done[SignedOut],
        params={"sessionId": Name},
        problems=("forbidden", "session_unknown", "reauth_required", "cross_origin"),
    ),
    _call(
        "rename_active_session",
        "PATCH",
        BASE + "/{sessionId}",
        Words(
            "Let a person name a device of theirs",
            "The name is shown in their lists from then on, beside what the device says of itself; null "
            "takes it back. A sign-in that replaces the session in the same browser keeps it. Somebody "
            "else's session is 404.",
        ),
        Done[Renamed],
        params={"sessionId": Name},
        body=DeviceName,
        problems=("forbidden", "session_unknown", "cross_origin"),
    ),
    _call(
        "end_other_active_sessions",
        "POST",
        OTHERS,
        Words(
            "Sign a person out on all other devices",
            "All their sessions but the one that asks end. A copy under the same `Idempotency-Key` ends "
            "nothing that has begun since.",
        ),
        Done[SignedOut],
        problems=("forbidden", "reauth_required", "cross_origin"),
        takes_key=True,
    ),
)
