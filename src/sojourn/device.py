"""What a person recognizes in a list of sessions or leases."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.text import check_words, plain

UNKNOWN = "Unknown device"


class Device(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As reported by the client or read from its request; nothing here is trusted for a decision.

    `kind` is desktop, phone, tablet, extension, server or unknown, unless an application has words of
    its own.
    """

    name: str | None = None
    browser: str | None = None
    os: str | None = None
    kind: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    place: str | None = None

    @property
    def known_by(self) -> tuple[str, str]:
        """Return what tells a device that a person has used before from a new one: name and kind.

        Not the address, which changes with every train ride, nor a version, which does every month."""
        return self.name or "", self.kind or ""

    def tidy(self) -> Device:
        """Return it with a User-Agent that may be kept: that comes along unasked, and refuses nobody."""
        agent = plain(self.user_agent)
        return self if agent == self.user_agent else replace(self, user_agent=agent)

    def check(self) -> None:
        """Raise InvalidInput unless it may be kept and shown to people. What was kept before may be read."""
        for name in self.__struct_fields__:
            check_words(f"device.{name}", getattr(self, name))


def new_device_data(device: Device, *, first: bool, ip: bool) -> dict[str, Any]:
    """Say in an event on which device a user is seen for the first time. `first`: the store knows no
    other session of theirs at all, so that it may be their very first sign-in. `ip`: events may hold
    addresses."""
    said = {
        "device": device.name or UNKNOWN,
        "kind": device.kind,
        "browser": device.browser,
        "os": device.os,
        "ip": device.ip if ip else None,
        "place": device.place,
    }
    return {key: value for key, value in said.items() if value} | {"first": first}
