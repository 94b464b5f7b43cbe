"""What is known of a device, out of what its requests say: `agents` names it, `places` says where it is.

known = Devices(geo_database="/var/lib/GeoLite2-City.mmdb", ip_shorten=True)
known.complete(Device(ip="192.0.2.7", user_agent="Mozilla/5.0 …"))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from sojourn.device import Device, shortened
from sojourn.devices.agents import AGENT_MAX, HINTS, recognize
from sojourn.devices.places import Places, place_in_headers
from sojourn.settings import Settings

Header = Callable[[str], str | None]


class Devices:
    """Completes devices as the settings say. Safe from several threads; it never raises."""

    def __init__(
        self,
        *,
        geo_database: str = "",
        geo_headers: Sequence[str] = (),
        ip_shorten: bool = False,
    ) -> None:
        self._places = Places(geo_database) if geo_database else None
        self._headers = tuple(name.lower() for name in geo_headers)
        self._ip_shorten = ip_shorten

    @classmethod
    def from_settings(cls, settings: Settings) -> Devices:
        return cls(
            geo_database=settings.geo_database,
            geo_headers=settings.geo_headers,
            ip_shorten=settings.ip_shorten,
        )

    def of_request(
        self, *, ip: str | None, user_agent: str | None, header: Header, trusted: bool
    ) -> Device:
        """Describe who sends a request. `trusted`: it came by a proxy that is believed, so what its
        headers say of places is, too."""
        place = place_in_headers(self._headers, header) if trusted and self._headers else None
        known = recognize(user_agent or "", tuple(header(name) or "" for name in HINTS))
        return replace(known, ip=ip, user_agent=user_agent and user_agent[:AGENT_MAX], place=place)

    def complete(self, device: Device | None) -> Device | None:
        """Fill in what a device does not say of itself, and keep no more of its address than allowed."""
        if device is None:
            return None
        more: dict[str, Any] = {}
        if device.user_agent is not None:
            more["user_agent"] = device.user_agent[:AGENT_MAX]
        if device.name is None:
            known = recognize(device.user_agent or "")
            said = " on ".join(filter(None, (device.browser, device.os)))  # it knows itself best
            more |= {
                "name": said or known.name,
                "browser": device.browser or known.browser,
                "os": device.os or known.os,
                "kind": device.kind or known.kind,
            }
        if device.ip is not None:
            if device.place is None and self._places is not None:
                more["place"] = self._places.of(device.ip)
            if self._ip_shorten:
                more["ip"] = shortened(device.ip) or None
        return replace(device, **more)


__all__ = ["HINTS", "Devices", "recognize"]
