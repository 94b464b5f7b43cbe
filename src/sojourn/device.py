"""What a person recognizes in a list of sessions or leases."""

from __future__ import annotations

from msgspec import Struct


class Device(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As reported by the client or read from its request; nothing here is trusted for a decision."""

    name: str | None = None
    browser: str | None = None
    os: str | None = None
    kind: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    place: str | None = None
