"""Goodbyes of pages that are being closed: `navigator.sendBeacon` sets no headers, and where it asks another
origin it may not call its body JSON (Fetch standard, "CORS-safelisted request-header").

So the lease token may stand in the body of a heartbeat. It proves nothing there but `closing`: such a request
is sent without the browser's question before, by any page that has the token.
"""

from __future__ import annotations

from sojourn.api.incoming import Incoming
from sojourn.errors import InvalidInput, Unauthenticated
from sojourn.wire.bodies import HeartbeatBody
from sojourn.wire.proof import bearer

TEXT = b"text/plain"


def content_type(incoming: Incoming) -> bytes:
    """Return what the body of a request without a proof in its headers is called; text counts as JSON."""
    kind = incoming.content_type
    return b"" if kind.partition(b";")[0].strip().lower() == TEXT else kind


def proof_of(authorization: bytes, said: HeartbeatBody | None) -> str:
    """Return the lease token of a heartbeat. Raises SojournError for one in a body that is no goodbye."""
    if said is None or said.token is None:
        return bearer(authorization, "<lease token>")
    if authorization:
        raise InvalidInput("token: goes with no Authorization header.", hint="Send one of the two.")
    if not said.closing:
        raise Unauthenticated(
            "A lease token in the body proves a goodbye alone.",
            hint="Send `Authorization: Bearer <lease token>`, or `closing` along with the token.",
        )
    return said.token
