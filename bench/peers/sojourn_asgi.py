"""Sojourn's ASGI middleware around an application that reads or writes one key."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sojourn.adapters.asgi import SessionMiddleware


async def login(request: Request) -> JSONResponse:
    await request.state.sojourn.begin("ann")
    request.session["n"] = 0
    return JSONResponse({})


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.state.sojourn.user_id, "n": request.session["n"]})


async def put(request: Request) -> JSONResponse:
    request.session["n"] += 1
    return JSONResponse({})


routes = [
    Route("/login", login, methods=["POST"]),
    Route("/me", me),
    Route("/set", put, methods=["POST"]),
]
app: Any = SessionMiddleware(
    Starlette(routes=routes), os.environ["STORE"], secret=os.environ["SECRETS"]
)
