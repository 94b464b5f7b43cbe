"""What a license client's device is called: by its own words, its User-Agent, and where it called from."""

from __future__ import annotations

from sojourn.api.incoming import Incoming
from sojourn.device import Device
from sojourn.wire.bodies import AcquireBody
from sojourn.wire.reply import Headers

TEXT_MAX = 256


def device_of(asked: AcquireBody, incoming: Incoming) -> Device:
    """Describe the client that asks for a seat."""
    said, client = asked.device, incoming.client
    return Device(
        name=said.name if said else None,
        browser=said.browser if said else None,
        os=said.os if said else None,
        kind=said.kind if said else None,
        ip=client[0] if client else None,
        user_agent=_user_agent(incoming.headers),
    )


def _user_agent(headers: Headers) -> str | None:
    for name, value in headers:
        if name == b"user-agent":
            text = value[:TEXT_MAX].decode("latin-1")
            return "".join(c for c in text if c.isprintable()) or None
    return None
