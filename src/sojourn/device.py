"""What a person recognizes in a list of sessions or leases."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple, replace

from sojourn.errors import InvalidInput
from sojourn.text import WORDS_MAX, check_words, plain, simple

UNKNOWN = "Unknown device"
LABEL_MAX = 64
"""Characters of the name that a user gives a device."""


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
        said = [text for text in astuple(self) if text is not None]
        if simple(said, WORDS_MAX):
            return
        for name in self.__struct_fields__:
            text = getattr(self, name)
            if text is not None:
                check_words(f"device.{name}", text)


def readable(device: Device) -> bool:
    """Tell whether it may be kept: what comes along with a request unasked refuses none."""
    try:
        device.check()
    except InvalidInput:
        return False
    return True


IPV4_KEPT = 24
IPV6_KEPT = 48
"""Bits of an address that stay when it is shortened: a street, so to speak, and not a door."""


def shortened(ip: str) -> str:
    """Return an address without what tells one household from the next; of what is none, nothing."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    kept = IPV4_KEPT if address.version == 4 else IPV6_KEPT
    return str(ipaddress.ip_network((address, kept), strict=False).network_address)


def moved_to(before: Device | None, now: Device) -> Device | None:
    """Return what a session is to be noted as last used from, or None: it is used from what was known
    `before`, or from what may not be kept."""
    before = before or Device()
    if now.user_agent == before.user_agent:  # of the two, a sign-in knows more of a browser
        if now.ip == before.ip:
            return None
        now = replace(before, ip=now.ip, place=now.place)
    return now if readable(now) else None


NO_DEVICES: Mapping[str, Device] = MappingProxyType({})


def check_label(label: str | None) -> None:
    """Raise InvalidInput unless a user may call a device that. None takes a name back."""
    check_words("name", label, most=LABEL_MAX)
    if label is not None and not label.strip():
        raise InvalidInput("name: is empty.")


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
