"""Proof that a message is ours: by the published vector, and against what a forger may try."""

from __future__ import annotations

import base64
import hmac
import json

import pytest

from sojourn import webhook_signature as signature
from sojourn.client import WebhookRefused, verify_webhook

# https://github.com/standard-webhooks/standard-webhooks: the vector its libraries test with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

MESSAGE = json.dumps(
    {"type": "lease.denied", "timestamp": "2027-01-15T08:00:00.000Z", "data": {"id": 7}}
).encode()


def signed(*secrets: str, body: bytes = MESSAGE) -> dict[str, str]:
    return signature.headers(secrets, ID, AT, body)


def test_the_published_vector() -> None:
    assert signature.headers([SECRET], ID, AT, BODY)["webhook-signature"] == SIGNATURE


def test_a_message_of_ours() -> None:
    message = verify_webhook(signed(SECRET), MESSAGE, SECRET, now=AT)
    assert (message.id, message.type, message.data) == (ID, "lease.denied", {"id": 7})
    headers = {name.title(): value for name, value in signed(SECRET).items()}
    assert verify_webhook(headers, MESSAGE, [SECRET], now=AT + 300) == message


def test_while_a_secret_is_rotated() -> None:
    """Whichever of the two the receiver knows, and whichever signed."""
    new = signature.new_secret()
    assert len(new) == len("whsec_") + 44
    for known in ([SECRET], [new], [new, SECRET]):
        verify_webhook(signed(new, SECRET), MESSAGE, known, now=AT)
    verify_webhook(signed(new), MESSAGE, [SECRET, new], now=AT)
    with pytest.raises(WebhookRefused):
        verify_webhook(signed(new), MESSAGE, SECRET, now=AT)


@pytest.mark.parametrize("off", [-301, 301])
def test_a_recorded_message(off: int) -> None:
    with pytest.raises(WebhookRefused, match="old"):
        verify_webhook(signed(SECRET), MESSAGE, SECRET, now=AT + off)
    verify_webhook(signed(SECRET), MESSAGE, SECRET, now=AT + off, tolerance=400)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_other"),
        ("webhook-id", "\udcff"),
        ("webhook-signature", "\udcff"),
        ("webhook-timestamp", str(AT + 1)),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "9" * 5_000),
        ("webhook-timestamp", "-1"),
        ("webhook-signature", ""),
        ("webhook-signature", SIGNATURE),
        ("webhook-signature", "v1,\N{SNOWMAN}"),
        ("webhook-signature", signed(SECRET)["webhook-signature"].replace("v1,", "v2,")),
        ("webhook-signature", signed(SECRET)["webhook-signature"].removeprefix("v1,")),
        ("webhook-id", None),
        ("webhook-timestamp", None),
        ("webhook-signature", None),
    ],
)
def test_forged_headers(name: str, value: str | None) -> None:
    headers = {n: v for n, v in {**signed(SECRET), name: value}.items() if v is not None}
    with pytest.raises(WebhookRefused):
        verify_webhook(headers, MESSAGE, SECRET, now=AT)


def test_forged_bodies() -> None:
    with pytest.raises(WebhookRefused):
        verify_webhook(signed(SECRET), MESSAGE + b" ", SECRET, now=AT)
    for body in (b"", b"[]", b"\xff", b'{"type": 1}'):
        with pytest.raises(WebhookRefused, match="not what a webhook sends"):
            verify_webhook(signed(SECRET, body=body), body, SECRET, now=AT)


def test_a_garbled_secret_is_told_and_not_shown() -> None:
    with pytest.raises(WebhookRefused, match="garbled") as refused:
        verify_webhook(signed(SECRET), MESSAGE, "whsec_oops!", now=AT)
    assert "oops" not in refused.value.message + refused.value.hint
    with pytest.raises(WebhookRefused, match="no secret"):
        verify_webhook(signed(SECRET), MESSAGE, [], now=AT)


@pytest.mark.parametrize(
    "known", ["", " ", "whsec_", [], [""], ["", "whsec_"], "whsec_AAAA", ["whsec_=="]]
)
def test_a_secret_of_nothing_proves_nothing(known: str | list[str]) -> None:
    """Anybody can sign with an empty key, and settings that are missing are one."""
    content = b".".join((ID.encode(), str(AT).encode(), MESSAGE))
    for key in (b"", bytes(3)):
        mac = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
        forged = {
            "webhook-id": ID,
            "webhook-timestamp": str(AT),
            "webhook-signature": f"v1,{mac}",
        }
        with pytest.raises(WebhookRefused):
            verify_webhook(forged, MESSAGE, known, now=AT)


def test_an_empty_piece_of_a_list_is_none() -> None:
    """`"new,".split(",")`, as one writes it while nothing is being rotated."""
    verify_webhook(signed(SECRET), MESSAGE, f"{SECRET}, ".split(","), now=AT)
    with pytest.raises(WebhookRefused):
        verify_webhook(signed(signature.new_secret()), MESSAGE, f"{SECRET},".split(","), now=AT)


def test_a_secret_without_its_padding_is_the_same() -> None:
    secret = signature.new_secret()
    assert secret.endswith("=")
    for known in (secret.rstrip("="), secret.removeprefix("whsec_").rstrip("=")):
        verify_webhook(signed(secret), MESSAGE, known, now=AT)
