"""`sojourn events`: what happened, as it was recorded with each change."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, add, command
from sojourn.cli.output import STYLES, Output, span
from sojourn.cli.server import Server

FOLLOW_INTERVAL = 0.5  # seconds
PAGE = 500

WORDS = {
    "lease.acquired": "acquired",
    "lease.resumed": "resumed",
    "lease.taken_over": "taken over",
    "lease.released": "released",
    "lease.evicted": "evicted",
    "lease.revoked": "revoked",
    "lease.expired": "expired",
    "lease.denied": "denied",
    "session.created": "session created",
    "session.rotated": "session rotated",
    "session.ended": "session ended",
    "store.returned": "returned",
    "operator.acted": "operator",
}
