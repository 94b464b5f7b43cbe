"""A sign-in of a user on a device.

    begin ──► live ──(idle_timeout without a touch)──► idle
               │ └──(expires_at)──► expired
               ├──► rotated: same session, new token; the old one works for a short grace
               └──► ended by its user, another device, an operator or a policy; a tombstone stays for a day

Only the SHA-256 of the token is ever stored. `data` belongs to the application: JSON values under
top-level keys, merged key by key so that parallel requests lose nothing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from sojourn.clock import DAY, HOUR
from sojourn.device import Device

LIFETIME = 7 * DAY
IDLE_TIMEOUT = 24 * HOUR
TOMBSTONE = DAY
"""How long ended sessions and leases are remembered, so that what ended is known from what never was."""


class GoneReason(StrEnum):
    ABSENT = "absent"
    IDLE = "idle"
    EXPIRED = "expired"
    ENDED = "ended"


class Gone(Struct, frozen=True, kw_only=True):
    """Why there is no session for a token."""

    reason: GoneReason
    ended_by: str | None = None  # actor, if it was ended
    end_reason: str | None = None
    at: int | None = None


class NewSession(Struct, frozen=True, kw_only=True):
    id: str
    token_hash: bytes
    user_id: str
    data: dict[str, Any] = field(default_factory=dict)
    lifetime: int = LIFETIME
    idle_timeout: int = IDLE_TIMEOUT
    device: Device | None = None
    level: int = 1  # of authentication


class Session(Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    data: dict[str, Any]
    revision: int
    created_at: int
    authenticated_at: int
    last_used_at: int
    idle_timeout: int
    idle_at: int  # when it goes idle, unless touched; never after expires_at
    expires_at: int
    device: Device | None = None
    level: int = 1


class Save(Struct, frozen=True, kw_only=True):
    """Changes to top-level keys of `data`; keys named by neither stay as they are."""

    id: str
    set: dict[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
