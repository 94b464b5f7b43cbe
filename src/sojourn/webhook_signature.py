"""Signatures as in Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,…`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as random
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.decoding import prepared
from sojourn.errors import InvalidInput

PREFIX = "whsec_"
VERSION = "v1"
SECRET_BYTES = 32
KEY_MIN = 24
"""Bytes of a secret (Standard Webhooks 1.0); of a shorter one signatures can be guessed."""
GIVE_ONE = "Give the secret that was shown once when the webhook was made: whsec_…"
TOLERANCE = 300
"""Seconds; a message that is older, or from further in the future, may have been recorded."""
SIGNATURES_MAX = 16


class WebhookRefused(InvalidInput):
    """What came is not, or not provably, a message of the webhook: answer 400 and do nothing."""

    code = "webhook_refused"


class WebhookMessage(Struct, frozen=True, kw_only=True):
    """A message that was verified. `id` is the same however often it comes."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


@prepared
class _Body(Struct, frozen=True, kw_only=True):
    type: str
    timestamp: str
    data: dict[str, Any]


def new_secret() -> str:
    """Make a secret of 256 random bits."""
    return PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


def headers(signing: Iterable[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove a body; every secret signs, so that receivers can change over."""
    signatures = (_signature(secret, message_id, str(timestamp), body) for secret in signing)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"{VERSION},{each}" for each in signatures),
    }


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secrets: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> WebhookMessage:
    """Return the message if one of the secrets signed it lately. Raises WebhookRefused otherwise.

    `body` is the raw body, byte for byte as it came. Secrets are as they were shown once, with or without
    base64's padding; empty ones, as of a list that was split at its commas, count for nothing, and one
    at least must not be. Keep the ids you have seen for a few days: what
    was delivered may be delivered again, under the same id.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp = given["webhook-id"], given["webhook-timestamp"]
        presented = given["webhook-signature"].split(" ")[:SIGNATURES_MAX]
    except KeyError as missing:
        raise WebhookRefused(f"The header {missing} is missing.") from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise WebhookRefused("The webhook-timestamp is no number of seconds.")
    age = (time.time() if now is None else now) - int(stamp)
    if abs(age) > tolerance:
        raise WebhookRefused(
            f"The message is {age:.0f} s old.", hint="Check the clocks of both machines."
        )
    given_secrets = [secrets] if isinstance(secrets, str) else list(secrets)
    keys = [x for each in given_secrets if (x := each.strip()) not in ("", PREFIX)]
    if not keys:
        raise WebhookRefused("There is no secret to verify with.", hint=GIVE_ONE)
    due = [f"{VERSION},{_signature(key, message_id, stamp, body)}".encode() for key in keys]
    matches = [hmac.compare_digest(a, b.encode(errors="replace")) for a in due for b in presented]
    if not any(matches):  # all were compared: how long it took tells nothing
        raise WebhookRefused("No signature is by any of the secrets.")
    try:
        said = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise WebhookRefused(f"The body is not what a webhook sends: {fault}.") from None
    return WebhookMessage(id=message_id, type=said.type, timestamp=said.timestamp, data=said.data)


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise WebhookRefused(
            "The secret is garbled.", hint=f"It begins with {PREFIX} and goes on in base64."
        ) from None
    if len(key) < KEY_MIN:  # an empty key signs for everybody
        raise WebhookRefused("The secret is empty, or too short to prove anything.", hint=GIVE_ONE)
    content = b".".join((message_id.encode(errors="replace"), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()
