"""Keys and tokens: 256 random bits, told apart at sight, refused at sight when garbled.

    sjs_ session token    sjk_ license key    sja_ API key      random, with a checksum
    sjl_ lease token                                            signed: it says what its holder holds

A random token is `prefix + 43 characters of base62 + 6 of checksum`; only its SHA-256 is ever stored
(ASVS 5.0 6.5.2 allows a plain hash for secrets of 112 bits and more). The checksum lets a scanner, or
this process, refuse a typo without asking a store. A lease token carries everything needed to renew
and to re-admit its holder, under an HMAC-SHA256 of the first secret; every secret verifies.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import zlib
from enum import StrEnum

import msgspec
from msgspec import Struct

from sojourn.errors import InvalidToken, SettingsError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_LENGTH = 43  # base62 digits that hold 256 bits
CHECK_LENGTH = 6
TOKEN_LENGTH = 4 + BODY_LENGTH + CHECK_LENGTH
LEASE_TOKEN_MAX = 2_048
FOREIGN_MAX = 8_192
"""Characters of a session token that another system made: a JWT may be long."""
SECRET_MIN = 32  # bytes


class TokenKind(StrEnum):
    SESSION = "sjs_"
    LICENSE = "sjk_"
    API = "sja_"
    LEASE = "sjl_"

    @property
    def words(self) -> str:
        """What people call it."""
        return _WORDS[self]


_WORDS = {
    TokenKind.SESSION: "session token",
    TokenKind.LICENSE: "license key",
    TokenKind.API: "API key",
    TokenKind.LEASE: "lease token",
}


def new_token(kind: TokenKind) -> str:
    """Make a random token of 256 bits."""
    return token_of(kind, secrets.token_bytes(32))


def token_of(kind: TokenKind, entropy: bytes) -> str:
    """Write 32 bytes as a token of a kind."""
    body = kind + _base62(int.from_bytes(entropy), BODY_LENGTH)
    return body + _checksum(body)


def new_id(prefix: str) -> str:
    """Make a public id of 128 random bits, such as `lic_4kD…`."""
    return id_of(prefix, secrets.token_bytes(16))


def id_of(prefix: str, entropy: bytes) -> str:
    """Write 16 bytes as a public id."""
    return prefix + _base62(int.from_bytes(entropy), 22)


def hash_token(token: str) -> bytes:
    """Return the SHA-256 under which a token is stored and looked up."""
    return hashlib.sha256(token.encode()).digest()


def check_token(token: str, kind: TokenKind) -> str:
    """Return the token if it is whole and of this kind; raise InvalidToken otherwise."""
    if not token.startswith(kind.value):
        raise InvalidToken(f"This is no {kind.words} ({kind.value}…).", code="token_wrong_kind")
    if not is_whole(token):
        raise InvalidToken(
            f"This {kind.words} is mistyped, or not whole.",
            hint=f"Copy it again: it begins with {kind.value} and has {TOKEN_LENGTH} characters.",
        )
    return token


def is_whole(token: str) -> bool:
    """Tell whether a token is as long as those of ours, and its checksum right."""
    return (
        len(token) == TOKEN_LENGTH
        and token.isascii()
        and hmac.compare_digest(token[-CHECK_LENGTH:], _checksum(token[:-CHECK_LENGTH]))
    )


def mask(token: str) -> str:
    """Shorten a token for logs: its kind and four characters."""
    return token[:8] + "…" if len(token) > 8 else "…"


class Secret:
    """A token that shows itself to nobody who does not ask."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({mask(self._text)!r})"

    __str__ = __repr__


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
"""Two digits at a time: every request is checked."""


def _checksum(text: str) -> str:
    rest, low = divmod(zlib.crc32(text.encode()), 3_844)
    high, middle = divmod(rest, 3_844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


class LeaseClaims(Struct, frozen=True, kw_only=True, array_like=True):
    """What a lease token says. `issued_at` is the store's now at the grant."""

    version: int = 1
    pool_id: str
    user_id: str
    client_id: str
    lease_id: str
    fence: int
    issued_at: int
    session_id: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LeaseClaims).decode
_MAC_LENGTH = 32


def _token_again(key: bytes, seed: bytes, nonce: str) -> str:
    return token_of(TokenKind.SESSION, hmac.digest(key, seed + nonce.encode(), "sha256"))


def _mark(token: str) -> str:
    """Return the beginning of a token's hash: it tells under which of a few secrets it was made."""
    return hash_token(token)[:8].hex()


class Keyring:
    """Secrets in order: the first signs, all verify, so a secret can be rotated without a sign-out."""

    def __init__(self, secret_list: list[bytes]) -> None:
        if not secret_list:
            raise SettingsError("No secret is set.", hint="Make one with `sojourn secret new`.")
        for secret in secret_list:
            if len(secret) < SECRET_MIN:
                raise SettingsError(
                    f"A secret is shorter than {SECRET_MIN} bytes.",
                    hint="Make a good one with `sojourn secret new`.",
                )
        # Derived, so that a secret shared with another use never signs for both (ASVS 5.0 9.2.4).
        self._keys = [hmac.digest(s, b"sojourn lease token v1", "sha256") for s in secret_list]
        self._again = [hmac.digest(s, b"sojourn repeated token v1", "sha256") for s in secret_list]

    def fingerprints(self, name: str) -> tuple[str, ...]:
        """Return what tells these secrets from others, in their order, under a name that salts it."""
        salted = b"sojourn fingerprint v1 " + name.encode()
        return tuple(hmac.digest(key, salted, "sha256")[:8].hex() for key in self._keys)

    def sign(self, claims: LeaseClaims) -> str:
        """Return the token that proves these claims."""
        payload = _encode(claims)
        mac = hmac.digest(self._keys[0], payload, "sha256")
        return TokenKind.LEASE + base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()

    def mint(self, seed: bytes) -> tuple[str, str]:
        """Make a session token that can be made again from the seed and a note, which is no secret."""
        nonce = new_id("")
        token = _token_again(self._again[0], seed, nonce)
        return token, f"{nonce}.{_mark(token)}"

    def mint_again(self, seed: bytes, note: str) -> str | None:
        """Return the token that was minted with this note, under whichever secret; None if that secret is
        no longer there."""
        nonce, _, mark = note.partition(".")
        tokens = (_token_again(key, seed, nonce) for key in self._again)
        return next((x for x in tokens if hmac.compare_digest(_mark(x), mark)), None)

    def verify(self, token: str) -> LeaseClaims:
        """Return the claims of a token that one of the secrets signed; raise InvalidToken otherwise."""
        if not token.startswith(TokenKind.LEASE.value):
            raise InvalidToken("This is not a lease token.", code="token_wrong_kind")
        if len(token) > LEASE_TOKEN_MAX:
            raise InvalidToken("The token is too long.")
        text = token[len(TokenKind.LEASE) :]
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        except ValueError:
            raise InvalidToken(
                "The token is mistyped, or not whole.", hint="Acquire again."
            ) from None
        if base64.urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
            raise InvalidToken(
                "The token is mistyped, or not whole.", hint="Acquire again."
            )  # in unused bits
        payload, mac = raw[:-_MAC_LENGTH], raw[-_MAC_LENGTH:]
        for key in self._keys:
            if hmac.compare_digest(mac, hmac.digest(key, payload, "sha256")):
                return _decode(payload)
        raise InvalidToken(
            "The token was not signed here.",
            code="token_forged",
            hint="Acquire again. If every client is refused, the server's secret has changed.",
        )
