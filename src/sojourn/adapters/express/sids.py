"""What both stores of Express's sessions share."""

from __future__ import annotations

import secrets

from msgspec.structs import replace

from sojourn.session import Session

SID_BYTES = 24  # as express-session's own


def new_sid() -> str:
    return secrets.token_urlsafe(SID_BYTES)


def touched(session: Session, ahead: int) -> Session:
    """Show a session as a touch has left it, its end put off to `ahead`."""
    idle_at = max(session.idle_at, ahead)
    return replace(
        session,
        last_used_at=session.at,
        idle_at=idle_at,
        expires_at=max(session.expires_at, idle_at),
    )
