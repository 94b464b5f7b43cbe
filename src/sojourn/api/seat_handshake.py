"""What opens a license client's socket: its proof, and where it may come from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sojourn.errors import Forbidden, Unauthenticated
from sojourn.origin import foreign_origin, origin_allowed
from sojourn.settings import Settings
from sojourn.wire.proof import bearer

LIVE = "/api/licenses/sessions/live"
PROTOCOL = "sojourn.v1"


def proof_of(scope: Any) -> tuple[str, str | None]:
    """Return the lease token of a handshake, and the protocol to answer with. Raises SojournError."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            offered = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
            return bearer(value, "<lease token>"), offered
    offers = scope["subprotocols"]
    if len(offers) == 2 and offers[0] == PROTOCOL:
        return offers[1], PROTOCOL
    raise Unauthenticated(
        "No lease token was given.",
        hint="Send Authorization: Bearer sjl_…, or Sec-WebSocket-Protocol: sojourn.v1, sjl_…",
    )


def page_of(scope: Any) -> str | None:
    """Return the origin of a page elsewhere that opens a socket, if one does."""
    said = {name: value.decode("latin-1") for name, value in scope["headers"]}
    return foreign_origin(
        host=said.get(b"host", ""),
        site=said.get(b"sec-fetch-site", ""),
        sender=said.get(b"origin", ""),
    )


def check_page(origin: str, license_origins: Collection[str], settings: Settings) -> None:
    """Refuse a page that neither its license allows nor `trusted_origins` names: a page can read what a
    socket says, whatever CORS is told. Raises Forbidden."""
    if origin not in settings.trusted_origins and not origin_allowed(license_origins, origin):
        raise Forbidden(
            "This license is not for pages of this origin.",
            code="cross_origin",
            hint="Add the origin to those that the license allows.",
        )
