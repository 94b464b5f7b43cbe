"""Sojourn's ASGI middleware around the least application."""

from __future__ import annotations

import os
from typing import Any

import plain

from sojourn.adapters.asgi import SessionMiddleware

app: Any = SessionMiddleware(plain.app, os.environ["STORE"], secret=os.environ["SECRETS"])
