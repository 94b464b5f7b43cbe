"""The application: a router with every call, the hot lanes before it, and a life of its own."""

from __future__ import annotations

import signal
import threading
from functools import cache
from typing import Any

from sojourn.api import (
    active_sessions,
    analytics,
    console,
    doctor,
    events,
    front_door,
    keys,
    licenses,
    machines,
    operations,
    pages,
    relay_orders,
    relays,
    samples,
    seats,
    sessions,
    sweep_plans,
    sweeps,
    webhooks,
)
from sojourn.api.call import Call, answer
from sojourn.api.context import Context, Given
from sojourn.api.cross_origin import METHODS
from sojourn.api.hot import HotCall
from sojourn.api.lanes import FastLane
from sojourn.api.openapi import document
from sojourn.api.router import Route, Router, raw_path
from sojourn.api.seat_handshake import LIVE
from sojourn.doctor.doctor import Doctor
from sojourn.errors import SojournError
from sojourn.finding import Board
from sojourn.log import get_logger
from sojourn.people.account import is_call
from sojourn.service.services import Services
from sojourn.settings import Settings
from sojourn.wire.reply import Reply, plain

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
    *sweep_plans.CALLS,
    *analytics.CALLS,
    *webhooks.CALLS,
    *relays.CALLS,
    *relay_orders.CALLS,
    *doctor.CALLS,
    *machines.CALLS,
)
HOT = tuple(call for call in CALLS if isinstance(call, HotCall))


def create_app(
    services: Services,
    settings: Settings,
    examiner: Doctor | None = None,
    board: Board | None = None,
    *,
    given: Given | None = None,
) -> FastLane:
    """Make the ASGI application over these services. Its lifespan starts, stops and closes them.

    `examiner` looks after them; without one there is nothing to look at. `board`: where it shows what it
    found to the other processes of this server, if there are any. `given`: how the settings came about.
    """
    context = Context(services, settings, webhooks.letter_of, examiner, board, given=given)
    return FastLane(context, HOT, behind=Behind(context))


class Behind:
    """What is behind the hot lanes: the lifespan, WebSockets, and the router."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._router = _router(context)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(self._context, receive, send)
        elif scope["type"] == "websocket" and scope["path"] == LIVE:
            await self._context.seat_sockets.serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await active_sessions.serve_socket(self._context, scope, receive, send)
        elif scope["type"] == "http":
            if scope["method"] == "OPTIONS":
                if (path := raw_path(scope)) in METHODS:
                    by_name = dict(scope["headers"])
                    reply = await self._context.cross_origin.preflight(path, by_name)
                    await reply(scope, receive, send)
                    return
                request = active_sessions.from_scope(scope)
                if self._context.people.permits(request.sender) and is_call(request.path):
                    await self._context.people.reply(request)(scope, receive, send)
                    return
            await self._router(scope, receive, send)


def _router(context: Context) -> Router:
    async def openapi(_scope: Any, _receive: Any) -> Reply:
        if _described.cache_info().currsize:
            return _described()
        return await context.strangers.run(context.settings.request_timeout, _described)

    return Router(
        [
            *(_route(call, context) for call in CALLS),
            *pages.routes(context),
            *console.routes(context),
            *front_door.routes(context, lambda: _described().body),
            Route("GET", "/openapi.json", openapi),
        ],
        dressed=front_door.for_people,
    )


@cache
def _described() -> Reply:
    """Write the OpenAPI document once, when somebody first asks for it."""
    return plain(document(CALLS), b"application/json")


def _route(call: Call, context: Context) -> Route:
    tally = context.metrics.tally(call.name)

    async def endpoint(scope: Any, receive: Any) -> Reply:
        return await answer(call, tally, context, scope, receive)

    return Route(call.method, call.path, endpoint)


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
