"""Take seats and keep them: `Client(url, license_key=…).seat(feature, user=…)`.

For an application's backend, the sessions of its users: `SessionsClient(url, api_key)`.

And, for receivers of webhooks: `verify_webhook(headers, body, secrets)`.

A name is imported when it is asked for, so that this package costs nothing to a program that may need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sojourn.client.async_client import AsyncClient as AsyncClient
    from sojourn.client.async_client import AsyncSeat as AsyncSeat
    from sojourn.client.client import Client as Client
    from sojourn.client.errors import ClientClosed as ClientClosed
    from sojourn.client.errors import Holder as Holder
    from sojourn.client.errors import SeatDenied as SeatDenied
    from sojourn.client.errors import SeatLost as SeatLost
    from sojourn.client.errors import ServerUnreachable as ServerUnreachable
    from sojourn.client.hold import SeatState as SeatState
    from sojourn.client.identity import default_client_id as default_client_id
    from sojourn.client.seat import Change as Change
    from sojourn.client.seat import Seat as Seat
    from sojourn.client.seat import Waiting as Waiting
    from sojourn.client.user_sessions import AsyncSessionsClient as AsyncSessionsClient
    from sojourn.client.user_sessions import SessionsClient as SessionsClient
    from sojourn.webhook_signature import WebhookMessage as WebhookMessage
    from sojourn.webhook_signature import WebhookRefused as WebhookRefused
    from sojourn.webhook_signature import verify_webhook as verify_webhook

_HOMES = {
    "AsyncClient": "sojourn.client.async_client",
    "AsyncSeat": "sojourn.client.async_client",
    "AsyncSessionsClient": "sojourn.client.user_sessions",
    "Change": "sojourn.client.seat",
    "Client": "sojourn.client.client",
    "ClientClosed": "sojourn.client.errors",
    "Holder": "sojourn.client.errors",
    "Seat": "sojourn.client.seat",
    "SeatDenied": "sojourn.client.errors",
    "SeatLost": "sojourn.client.errors",
    "SeatState": "sojourn.client.hold",
    "ServerUnreachable": "sojourn.client.errors",
    "SessionsClient": "sojourn.client.user_sessions",
    "Waiting": "sojourn.client.seat",
    "WebhookMessage": "sojourn.webhook_signature",
    "WebhookRefused": "sojourn.webhook_signature",
    "default_client_id": "sojourn.client.identity",
    "verify_webhook": "sojourn.webhook_signature",
}
__all__ = list(_HOMES)  # the keys are names


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
