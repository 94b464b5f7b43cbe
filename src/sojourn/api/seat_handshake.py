"""What opens a license client's socket: its proof, and where it may come from."""

from __future__ import annotations

from typing import Any

from sojourn.errors import Forbidden, Unauthenticated
from sojourn.origin import is_elsewhere
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


def check_origin(settings: Settings, scope: Any) -> None:
    """Refuse a page of another origin, unless `trusted_origins` names it. Raises SojournError."""
    said = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if is_elsewhere(
        host=said.get(b"host", ""),
        site="",  # an extension's requests are cross-site, too: its Origin is what counts
        sender=said.get(b"origin", ""),
        trusted=settings.trusted_origins,
    ):
        raise Forbidden(
            "A page of another site may not open a socket here.",
            code="cross_origin",
            hint="Name its origin in the setting trusted_origins.",
        )
