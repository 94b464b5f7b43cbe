"""starsessions on Redis around the least application."""

from __future__ import annotations

import os
from typing import Any

import plain
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

app: Any = SessionMiddleware(
    SessionAutoloadMiddleware(plain.app),
    store=RedisStore(os.environ["STORE"], gc_ttl=3600),
    lifetime=3600,
    cookie_https_only=False,
)
