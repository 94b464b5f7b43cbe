"""Cookies of the system that was here before: how their tokens are read, and what takes their place."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from sojourn.cookie import Codec, CookieOptions
from sojourn.errors import InvalidToken
from sojourn.service.sessions import is_foreign
from sojourn.token import TokenKind, id_of, token_of


class RawTokens:
    """A Codec of cookies that hold a token and nothing else: Django's `sessionid`, Flask-Session's."""

    def encode(self, token: str) -> str:
        return token

    def decode(self, value: str) -> str:
        if not is_foreign(value):
            raise InvalidToken("The cookie is garbled.")
        return value


class AdoptedCookie(Struct, frozen=True):
    """A cookie of the system that was here before, whose sessions `sojourn adopt` has taken over.

    `path` and `domain` as that system set them, or the browser does not let go of it.
    """

    name: str
    codec: Codec
    path: str = "/"
    domain: str | None = None

    def clear(self, *, https: bool) -> str:
        """Write the Set-Cookie header that takes it away."""
        options = CookieOptions(
            name=self.name, path=self.path, domain=self.domain, host_prefix=False
        )
        return options.clear(https=https)


def successor(codec: Codec, token: str) -> str | None:
    """Return the token of ours that takes an adopted one's place.

    It follows from the old one and the secret that signs our cookies. So all requests that a page sends
    at once make it the same, and it does not matter whose answer the browser sees last; and whoever has
    only the old token cannot tell it once that is dead. None, for a token by chance, where our cookies
    are not signed.
    """
    signed = codec.encode(token)
    if signed == token:
        return None
    return token_of(TokenKind.SESSION, sha256(b"sojourn successor v1 " + signed.encode()).digest())


def public_id(token_hash: bytes) -> str:
    """Return the public id of an adopted session: always the same one, so that adopting twice adopts
    nothing twice, not even after the session has got a token of ours."""
    digest = sha256(b"sojourn adopted session v1 " + token_hash).digest()
    return id_of("ses_", digest[:16])
