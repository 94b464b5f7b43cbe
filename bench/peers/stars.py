"""starsessions on Redis: the same application behind it."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore


async def login(request: Request) -> JSONResponse:
    request.session.update(user="ann", n=0)
    return JSONResponse({})


async def me(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.session["user"], "n": request.session["n"]})


async def put(request: Request) -> JSONResponse:
    request.session["n"] += 1
    return JSONResponse({})


store = RedisStore(os.environ["STORE"], gc_ttl=3600)
app: Any = Starlette(
    routes=[
        Route("/login", login, methods=["POST"]),
        Route("/me", me),
        Route("/set", put, methods=["POST"]),
    ],
    middleware=[
        Middleware(SessionMiddleware, store=store, lifetime=3600, cookie_https_only=False),
        Middleware(SessionAutoloadMiddleware),
    ],
)
