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
import binascii
import hashlib
import hmac
import os
import secrets
import zlib
from enum import StrEnum

import msgspec
from msgspec import Struct

from sojourn.errors import InvalidToken, SettingsError
from sojourn.recalled import Recalled

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_LENGTH = 43  # base62 digits that hold 256 bits
CHECK_LENGTH = 6
TOKEN_LENGTH = 4 + BODY_LENGTH + CHECK_LENGTH
LEASE_TOKEN_MAX = 2_048
FOREIGN_MAX = 8_192
"""Characters of a session token that another system made: a JWT may be long."""
IDS_AT_ONCE = 64
SECRET_MIN = 32  # bytes
VERIFIED_MAX = 65_536
"""Lease tokens in use whose signature is not looked at again: more than one process can keep by beats. Each
takes about 0.8 KiB. Only tokens that were signed here are kept, until their lease is lost or given back."""


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


_drawn: list[bytes] = []
"""Randomness for ids, which are public: a draw is a system call, and costs more than all the rest of an id.
Popping is one step to all threads. A process that forks shares none with its child."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drawn.clear)


def new_token(kind: TokenKind) -> str:
    """Make a random token of 256 bits."""
    return token_of(kind, secrets.token_bytes(32))


def token_of(kind: TokenKind, entropy: bytes) -> str:
    """Write 32 bytes as a token of a kind."""
    body = kind + _base62(int.from_bytes(entropy), BODY_LENGTH)
    return body + _checksum(body)


def new_id(prefix: str) -> str:
    """Make a public id of 128 random bits, such as `lic_4kD…`."""
    try:
        entropy = _drawn.pop()
    except IndexError:
        some = secrets.token_bytes(16 * IDS_AT_ONCE)
        _drawn.extend(some[at : at + 16] for at in range(16, len(some), 16))
        entropy = some[:16]
    return id_of(prefix, entropy)


def id_of(prefix: str, entropy: bytes) -> str:
    """Write 16 bytes as a public id."""
    return prefix + _base62(int.from_bytes(entropy), 22)


def hash_token(token: str) -> bytes:
    """Return the SHA-256 under which a token is stored and looked up."""
    return hashlib.sha256(token.encode()).digest()


def check_token(token: str, kind: TokenKind) -> str:
    """Return the token if it is whole and of this kind; raise InvalidToken otherwise."""
    if not token.startswith(kind):
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
    written = ""
    while (
        len(written) < length
    ):  # ten digits at a time: small numbers are divided at a fraction of the cost
        number, ten = divmod(number, 62**10)
        ten, e = divmod(ten, 3_844)
        ten, d = divmod(ten, 3_844)
        ten, c = divmod(ten, 3_844)
        a, b = divmod(ten, 3_844)
        written = f"{_PAIRS[a]}{_PAIRS[b]}{_PAIRS[c]}{_PAIRS[d]}{_PAIRS[e]}{written}"
    return written[-length:]


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
_BLOCK = 64  # bytes of SHA-256
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")
"""From the URL's alphabet to the one that `binascii` reads; what only that one has is in neither."""


class KeyedHash:
    """HMAC-SHA256 under one key (RFC 2104): the two states that the key makes are made once, which is two
    thirds of the work for what is as short as a token."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        assert len(key) <= _BLOCK, "a longer one would have to be hashed first"
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


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
        keys = [hmac.digest(s, b"sojourn lease token v1", "sha256") for s in secret_list]
        self._macs = [KeyedHash(key) for key in keys]
        self._verified: Recalled[str, LeaseClaims] = Recalled(VERIFIED_MAX)
        self._again = [hmac.digest(s, b"sojourn repeated token v1", "sha256") for s in secret_list]
        self._allotted = [hmac.digest(s, b"sojourn allotment v1", "sha256") for s in secret_list]

    def fingerprints(self, name: str) -> tuple[str, ...]:
        """Return what tells these secrets from others, in their order, under a name that salts it."""
        salted = b"sojourn fingerprint v1 " + name.encode()
        return tuple(mac.digest(salted)[:8].hex() for mac in self._macs)

    def sign(self, claims: LeaseClaims) -> str:
        """Return the token that proves these claims."""
        payload = _encode(claims)
        mac = self._macs[0].digest(payload)
        return TokenKind.LEASE + base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()

    def sign_allotment(self, what: bytes) -> str:
        """Return the signature that proves what an authority has allotted."""
        return hmac.digest(self._allotted[0], what, "sha256").hex()

    def proves_allotment(self, what: bytes, signature: str) -> bool:
        """Tell whether one of the secrets has signed this."""
        found = (hmac.digest(key, what, "sha256").hex() for key in self._allotted)
        return signature.isascii() and any(hmac.compare_digest(x, signature) for x in found)

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

    def verify(self, token: str, *, keep: bool = False) -> LeaseClaims:
        """Return the claims of a token that one of the secrets signed; raise InvalidToken otherwise.

        With `keep` its signature is not looked at again until `forget`, or until many others were kept. What
        its lease is worth by now is never kept: that is the store's to say.
        """
        known = self._verified.get(token)
        if known is not None:
            return known
        claims = self._verify(token)
        if keep:
            self._verified.put(token, claims)
        return claims

    def forget(self, token: str) -> None:
        """Note that a token's lease has ended."""
        self._verified.forget(token)

    def _verify(self, token: str) -> LeaseClaims:
        if not token.startswith(TokenKind.LEASE):
            raise InvalidToken("This is not a lease token.", code="token_wrong_kind")
        if len(token) > LEASE_TOKEN_MAX:
            raise InvalidToken("The token is too long.")
        try:
            raw = _decoded(token[len(TokenKind.LEASE) :])
        except ValueError:
            raise InvalidToken(
                "The token is mistyped, or not whole.", hint="Acquire again."
            ) from None
        payload, mac = raw[:-_MAC_LENGTH], raw[-_MAC_LENGTH:]
        for key in self._macs:
            if hmac.compare_digest(mac, key.digest(payload)):
                return _decode(payload)
        raise InvalidToken(
            "The token was not signed here.",
            code="token_forged",
            hint="Acquire again. If every client is refused, the server's secret has changed.",
        )


def _decoded(text: str) -> bytes:
    """Read base64 of the URL's alphabet, without padding. Raises ValueError for any but the one way in which
    we write it: in the bits of the last character that count for nothing, others could hide a mark."""
    standard = text.encode("ascii").translate(_STANDARD)
    raw = binascii.a2b_base64(standard + b"=" * (-len(standard) % 4), strict_mode=True)
    if binascii.b2a_base64(raw, newline=False).rstrip(b"=") != standard:
        raise ValueError
    return raw
