"""The application: Litestar with every call, the fast lane before it, and a life of its own."""

from __future__ import annotations

import signal
import threading
from functools import cache
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from sojourn.api import (
    active_sessions,
    console,
    doctor,
    events,
    keys,
    licenses,
    machines,
    operations,
    pages,
    samples,
    seats,
    sessions,
    sweeps,
    webhooks,
)
from sojourn.api.call import Call, answer
from sojourn.api.context import Context
from sojourn.api.fast import FastLane, raw_path
from sojourn.api.letter import is_spelled_right
from sojourn.api.metrics import REFUSED
from sojourn.api.openapi import document
from sojourn.doctor.doctor import Doctor
from sojourn.errors import SojournError
from sojourn.finding import Board
from sojourn.log import get_logger
from sojourn.people.account import is_call
from sojourn.service.services import Services
from sojourn.settings import Settings
from sojourn.wire.problems import answer_problem, crash, problem
from sojourn.wire.reply import SECURITY, Reply, plain

log = get_logger(__name__)

CALLS: tuple[Call, ...] = (
    *seats.CALLS,
    *sessions.CALLS,
    *active_sessions.CALLS,
    *samples.CALLS,
    *operations.CALLS,
    *licenses.CALLS,
    *keys.CALLS,
    *events.CALLS,
    *sweeps.CALLS,
    *webhooks.CALLS,
    *doctor.CALLS,
    *machines.CALLS,
)


WHICH = "WHICH?"
"""A method that no path takes: Litestar's refusal says which ones it does take."""


def create_app(
    services: Services,
    settings: Settings,
    examiner: Doctor | None = None,
    board: Board | None = None,
) -> FastLane:
    """Make the ASGI application over these services. Its lifespan starts, stops and closes them.

    `examiner` looks after them; without one there is nothing to look at. `board`: where it shows what it
    found to the other processes of this server, if there are any.
    """
    context = Context(services, settings, webhooks.letter_of, examiner, board)
    return FastLane(context, (*seats.HOT, *sessions.HOT), behind=Behind(context))


class Behind:
    """What is behind the fast lane: the lifespan, and Litestar."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._litestar = _litestar(context)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(self._context, receive, send)
        elif scope["type"] == "http":
            # Litestar routes on the path as it was sent, so that an encoded slash stays in its piece.
            sent = raw_path(scope)
            if not is_spelled_right(sent):
                await _nothing_here()(scope, receive, send)
                return
            scope = {**scope, "path": sent.decode("latin-1")}
            if scope["method"] == "HEAD":
                scope["method"] = "GET"
                send = _without_body(send)
            elif scope["method"] == "OPTIONS":
                request = active_sessions.asked_by(scope)
                if self._context.people.permits(request.sender) and is_call(request.path):
                    await self._context.people.reply(request)(scope, receive, send)
                    return
                scope["method"] = WHICH
            await self._litestar(scope, receive, send)
        elif scope["type"] == "websocket":
            await active_sessions.serve_socket(self._context, scope, receive, send)


def _litestar(context: Context) -> Litestar:
    async def openapi() -> ASGIApp:
        if _described.cache_info().currsize:
            return _described()
        return await context.strangers.run(context.settings.request_timeout, _described)

    return Litestar(
        [
            *(_handler(call, context) for call in CALLS),
            *pages.handlers(context),
            *console.handlers(context),
            HTTPRouteHandler("/openapi.json", http_method="GET", name="openapi")(openapi),
        ],
        openapi_config=None,  # ours says more: every refusal, and the types as they go over the wire
        logging_config=None,
        exception_handlers={HTTPException: _refused, Exception: _crashed},
    )


@cache
def _described() -> Reply:
    """Write the OpenAPI document once, when somebody first asks for it."""
    return plain(document(CALLS), b"application/json")


def _handler(call: Call, context: Context) -> HTTPRouteHandler:
    tally = context.metrics.tally(call.name)

    async def endpoint(request: Request[Any, Any, Any]) -> ASGIApp:
        return await answer(call, tally, context, request.scope, request.receive)  # type: ignore[arg-type]  # a TypedDict is a mapping

    path = call.path.replace("}", ":str}")
    return HTTPRouteHandler(path, http_method=call.method, status_code=call.status, name=call.name)(
        endpoint
    )


def _refused(request: Request[Any, Any, Any], fault: HTTPException) -> Response[bytes]:
    """Answer what Litestar refuses by itself: unknown paths and methods."""
    if fault.status_code == 405:
        taken = set((fault.headers or {}).get("allow", "").split(", ")) | {"OPTIONS"}
        allow = ", ".join(sorted(taken | ({"HEAD"} if "GET" in taken else set())))
        if request.scope["method"] == WHICH:
            return _response(Reply(204, [(b"allow", allow.encode()), *SECURITY], b""))
        REFUSED["method_not_allowed"] += 1
        document = problem("method_not_allowed", "This path does not take this method.")
        return _response(answer_problem(document, (b"allow", allow.encode())))
    if fault.status_code == 404:
        return _response(_nothing_here())
    if fault.status_code < 500:
        return _response(answer_problem(problem("invalid_request", fault.detail)))
    return _response(crash(fault))


def _nothing_here() -> Reply:
    REFUSED["not_found"] += 1
    return answer_problem(
        problem("not_found", "There is nothing at this path.", "See /openapi.json.")
    )


def _crashed(_request: Request[Any, Any, Any], fault: Exception) -> Response[bytes]:
    return _response(crash(fault))


def _response(reply: Reply) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    media_type = headers.pop("content-type", None)
    return Response(reply.body, status_code=reply.status, headers=headers, media_type=media_type)


def _without_body(send: Any) -> Any:
    async def send_head(message: Any) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


async def _live(context: Context, receive: Any, send: Any) -> None:
    """Start and stop with the server."""
    await receive()
    try:
        context.start()
    except SojournError as fault:
        context.services.close()
        words = f"The server cannot start. {fault.message} {fault.hint}".strip()
        await send({"type": "lifespan.startup.failed", "message": words})
        return
    restore = _notice_signals(context)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    restore()
    try:
        await context.stop()
    except Exception as fault:
        log.exception("stop_failed")
        await send({"type": "lifespan.shutdown.failed", "message": str(fault)})
        return
    await send({"type": "lifespan.shutdown.complete"})


def _notice_signals(context: Context) -> Any:
    """Learn of a shutdown when it is asked for, not when the server gets round to telling us.

    The server's own handlers still run. Returns what puts them back.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    replaced: list[tuple[int, Any, Any]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before):
            replaced.append((number, before, _draining_handler(context, before)))
            signal.signal(number, replaced[-1][2])

    def restore() -> None:
        for number, before, ours in replaced:
            if signal.getsignal(number) is ours:
                signal.signal(number, before)

    return restore


def _draining_handler(context: Context, before: Any) -> Any:
    def handle(number: int, frame: Any) -> None:
        context.draining = True
        before(number, frame)

    return handle
