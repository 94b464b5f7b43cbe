"""What other session stores keep in a row, decoded: data from outside, so never with pickle.

Django 5.2 `django.core.signing`, connect-pg-simple 10, Flask-Session 0.8; bounded in size.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct, field

from sojourn.session import DATA_MAX

DJANGO_SALT = b"django.contrib.sessions.SessionStore"
DJANGO_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
STAMP_MAX = 8  # digits of a Django timestamp; six are enough until 3770


class Kind(StrEnum):
    USER_SESSIONS = "user-sessions"
    CONNECT_PG = "connect-pg-simple"
    DJANGO = "django"
    FLASK = "flask-session"
    SEATS = "license-sessions"


class Reason(StrEnum):
    """Why a row is not taken. Stable: scripts may switch on them."""

    EXPIRED = "expired"
    INACTIVE = "inactive"
    UNCLEAR = "unclear_status"
    NO_USER = "no_user"
    BAD_USER = "bad_user"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a reason
    SHORT_TOKEN = "short_token"  # noqa: S105 - as above
    BAD_TOKEN = "bad_token"  # noqa: S105 - as above
    OTHER_PREFIX = "other_prefix"
    BAD_DATA = "bad_data"
    PICKLED = "pickled"
    BAD_SIGNATURE = "bad_signature"
    TOO_LARGE = "too_large"
    BAD_DATE = "bad_date"
    SIGNED_OUT = "signed_out"
    REFUSED = "refused"
    SILENT = "silent"
    NO_LICENSE = "no_license"
    NO_FEATURE = "no_feature"
    NO_SEAT = "no_seat"
    LICENSE_SUSPENDED = "license_suspended"
    LICENSE_EXPIRED = "license_expired"
    LICENSE_NOT_YET_VALID = "license_not_yet_valid"


class Unreadable(Exception):  # not a fault: what becomes of a row
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Stored(Struct, frozen=True, kw_only=True):
    """What a row holds.

    Attributes:
        user_paths: where the user may be in the data.
        used_at: when it was written last, if it says so.
        max_age: how long the old system puts a session's end off, in ms, if it says so.
    """

    data: dict[Any, Any] = field(default_factory=dict)
    user_paths: tuple[tuple[str, ...], ...] = ()
    used_at: int | None = None
    max_age: int | None = None


def _nothing(_: Any, __: Sequence[str]) -> Stored:
    return Stored()


def _connect_pg(value: Any, _: Sequence[str]) -> Stored:
    data = _json(_bounded(value))
    cookie = data.pop("cookie", None)
    age = cookie.get("originalMaxAge") if isinstance(cookie, dict) else None
    usable = isinstance(age, int | float) and not isinstance(age, bool) and 0 < age < 2**53
    max_age = int(age) if usable and age is not None else None
    return Stored(data=data, user_paths=(("passport", "user"),), max_age=max_age)


def _django(value: Any, secrets: Sequence[str]) -> Stored:
    text = _bounded(value).decode("latin-1")
    signed, _, signature = text.rpartition(":")
    payload, _, stamp = signed.rpartition(":")
    if not _signed(signed, signature, secrets):
        raise Unreadable(Reason.BAD_SIGNATURE)
    try:
        raw = _base64(payload.removeprefix("."))
        if payload.startswith("."):
            inflate = zlib.decompressobj()
            raw = inflate.decompress(raw, DATA_MAX + 1)
    except (ValueError, zlib.error):
        raise Unreadable(Reason.BAD_DATA) from None
    if raw.startswith(b"\x80"):  # PickleSerializer, until Django 5.0
        raise Unreadable(Reason.PICKLED)
    data = _json(_bounded(raw.decode("latin-1").encode()))
    return Stored(data=data, user_paths=(("_auth_user_id",),), used_at=_django_time(stamp))


def _signed(signed: str, signature: str, secrets: Sequence[str]) -> bool:
    valid = False
    for secret in secrets:
        key = hashlib.sha256(DJANGO_SALT + b"signer" + secret.encode()).digest()
        mac = hmac.digest(key, signed.encode(), "sha256")
        expected = base64.urlsafe_b64encode(mac).rstrip(b"=")
        valid |= hmac.compare_digest(expected, signature.encode())
    return valid


def _django_time(stamp: str) -> int | None:
    if not 0 < len(stamp) <= STAMP_MAX or any(digit not in DJANGO_DIGITS for digit in stamp):
        return None
    seconds = 0
    for digit in stamp:
        seconds = seconds * 62 + DJANGO_DIGITS.index(digit)
    return seconds * 1000


def _base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)


def _flask(value: Any, _: Sequence[str]) -> Stored:
    raw = _bounded(value)
    try:
        data = msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        if raw.startswith(b"\x80"):  # what Flask-Session wrote before 0.7
            raise Unreadable(Reason.PICKLED) from None
        data = _json(raw)
    if not isinstance(data, dict):
        raise Unreadable(Reason.BAD_DATA)
    return Stored(data=data, user_paths=(("_user_id",), ("user_id",)))


def _bounded(value: Any) -> bytes:
    """Return a row's data as bytes; it was read up to one byte more than we hold."""
    if isinstance(value, str):
        value = value.encode(errors="replace")
    if not isinstance(value, bytes) or not value:
        raise Unreadable(Reason.BAD_DATA)
    if len(value) > DATA_MAX:
        raise Unreadable(Reason.TOO_LARGE)
    return value


def _json(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Unreadable(Reason.BAD_DATA) from None


DECODERS: Mapping[Kind, Callable[[Any, Sequence[str]], Stored]] = {
    Kind.USER_SESSIONS: _nothing,
    Kind.CONNECT_PG: _connect_pg,
    Kind.DJANGO: _django,
    Kind.FLASK: _flask,
    Kind.SEATS: _nothing,  # its rows are seats: see `seats.read_seat`
}
