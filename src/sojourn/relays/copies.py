"""Copies of licenses that an authority gives its relays, each signed for one relay. Pure.

A copy holds what a relay needs to serve a license's clients: its dates, its features and the hash of its key.
It says for how long it is fresh; past that time without a word of the authority it counts for nothing.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec
from msgspec import Struct

from sojourn.decoding import prepared
from sojourn.errors import InvalidToken
from sojourn.license import License, Policy

LABEL = b"sojourn license copy v1"
"""Keeps what is signed here from counting anywhere else (ASVS 5.0 9.2.4)."""
DIGEST_LENGTH = 16  # bytes of SHA-256


@prepared
class LicenseTerms(Struct, frozen=True, kw_only=True):
    """A license and its features, as its authority has them."""

    license: License
    key_hash: bytes
    features: dict[str, Policy]


@prepared
class LicenseCopy(Struct, frozen=True, kw_only=True):
    """Terms as they are given to one relay."""

    relay: str
    terms: LicenseTerms
    issued_at: int  # by the authority's clock
    fresh_for: int  # ms, from the instant before the request left that it answers


@prepared
class SignedCopy(Struct, frozen=True):
    """A copy as bytes, and who vouches for them."""

    document: bytes
    signature: bytes


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(LicenseCopy).decode


def digest_of(terms: LicenseTerms) -> str:
    """Name the content of terms: two copies with the same digest say the same."""
    return hashlib.sha256(_encode(terms)).hexdigest()[: 2 * DIGEST_LENGTH]


def sign_copy(copy: LicenseCopy, relay_key_hash: bytes) -> SignedCopy:
    """Sign a copy with what the authority and this relay alone know: the hash of the relay's key."""
    document = _encode(copy)
    return SignedCopy(document, _mac(document, relay_key_hash))


def read_copy(signed: SignedCopy, relay_key_hash: bytes) -> LicenseCopy:
    """Return a copy that was signed for this relay. Raises InvalidToken for any other."""
    if not hmac.compare_digest(_mac(signed.document, relay_key_hash), signed.signature):
        raise InvalidToken(
            "This copy of a license was not signed for this relay.",
            code="copy_forged",
            hint="Look who answers at the authority's address.",
        )
    try:
        return _decode(signed.document)
    except msgspec.MsgspecError:
        raise InvalidToken(
            "This copy of a license cannot be read.",
            code="copy_forged",
            hint="Authority and relay need the same version.",
        ) from None


def _mac(document: bytes, relay_key_hash: bytes) -> bytes:
    return hmac.digest(hmac.digest(relay_key_hash, LABEL, "sha256"), document, "sha256")
