"""Cookies that carry a session's token: how they are signed, read and written. RFC 6265bis, no I/O.

A cookie's value is the token and a signature of it, so that a forged one is refused without asking
a store. The name starts with `__Host-` wherever the request came over HTTPS, which holds a browser
to Secure, to Path=/ and to this very host (RFC 6265bis, 4.1.3.2; ASVS 5.0 3.3.1).
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from sojourn.errors import CookiesTooLarge, InvalidToken, SettingsError
from sojourn.token import SECRET_MIN, KeyedHash, TokenKind, check_token

SameSite = Literal["lax", "strict", "none"]

COOKIE_HEADER_MAX = 65_536
"""Characters of a Cookie header that are looked at: as many as uvicorn takes of all headers together."""
VALUES_MAX = 8
"""Cookies of one name that are looked at. Browsers send one for each path and domain it was set for."""
PLACES_MAX = 6
"""Paths and domains in which a stale cookie of our name is cleared, with one response."""
LIFETIME_MAX = 400 * 86_400_000
"""ms; browsers keep no cookie for longer (RFC 6265bis, 5.5)."""
HOST_PREFIX = "__Host-"

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_PATH = re.compile(r"/[\x20-\x3a\x3c-\x7e]*\Z")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
_SIGNATURE_LENGTH = 43  # base64url of 32 bytes
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_SESSION = TokenKind.SESSION.value


class Codec(Protocol):
    """Between tokens and the values of cookies."""

    def encode(self, token: str) -> str:
        """Return the cookie's value for a token."""

    def decode(self, value: str) -> str:
        """Return the token. Raises InvalidToken if the value is garbled, or not signed here."""


class SignedTokens:
    """`sjs_….<HMAC-SHA256>`. The first secret signs, all verify, so a secret is rotated without sign-outs."""

    def __init__(self, secret_list: Sequence[bytes]) -> None:
        if not secret_list:
            raise SettingsError("No secret is set.", hint="Make one with `sojourn secret new`.")
        if any(len(secret) < SECRET_MIN for secret in secret_list):
            raise SettingsError(
                f"A secret is shorter than {SECRET_MIN} bytes.",
                hint="Make a good one with `sojourn secret new`.",
            )
        keys = [hmac.digest(s, b"sojourn session cookie v1", "sha256") for s in secret_list]
        # With each key worked in: every request is checked.
        self._keyed = [KeyedHash(key) for key in keys]

    def encode(self, token: str) -> str:
        return f"{token}.{_sign(self._keyed[0], token)}"

    def decode(self, value: str) -> str:
        token, _, signature = value.rpartition(".")
        if len(signature) != _SIGNATURE_LENGTH or not value.isascii():
            raise InvalidToken("The cookie is garbled.")
        if not token.startswith(_SESSION):  # its checksum is less than our signature
            check_token(token, TokenKind.SESSION)
        for keyed in self._keyed:
            if hmac.compare_digest(signature, _sign(keyed, token)):
                return token
        raise InvalidToken(
            "The cookie was not signed here.",
            code="token_forged",
            hint="If everybody is signed out, the secret has changed: add the old one to the list.",
        )


def _sign(keyed: KeyedHash, token: str) -> str:
    text = binascii.b2a_base64(keyed.digest(token.encode()), newline=False)
    return text.translate(_URLSAFE, b"=").decode()


class CookieOptions(Struct, frozen=True, kw_only=True):
    """What the cookie says of itself.

    Attributes:
        name: without prefix; `__Host-` is put before it over HTTPS unless `path` or `domain` forbid it.
        secure: "auto" is Secure whenever the request came over HTTPS. True never sends it otherwise.
        persistent: it outlives the browser, as long as the session may live. Otherwise the browser
            drops it when it quits (most restore it with their tabs, though).
        partitioned: keep one per embedding site (CHIPS); needs `same_site="none"` to make sense.
    """

    name: str = "sojourn"
    path: str = "/"
    domain: str | None = None
    same_site: SameSite = "lax"
    secure: bool | Literal["auto"] = "auto"
    persistent: bool = True
    partitioned: bool = False
    host_prefix: bool = True

    def validate(self) -> CookieOptions:
        """Return itself. Raises SettingsError where a browser would drop the cookie without a word."""
        if not _NAME.match(self.name):
            raise SettingsError(f"A cookie cannot be named {self.name!r}.")
        if not _PATH.match(self.path):
            raise SettingsError(f"A cookie's path cannot be {self.path!r}: it starts with a slash.")
        if self.domain is not None and not _DOMAIN.match(self.domain):
            raise SettingsError(f"A cookie's domain cannot be {self.domain!r}.")
        if self.domain is not None and _is_shared(self.domain.lstrip(".").lower()):
            raise SettingsError(
                f"Browsers drop a cookie for all of {self.domain.lstrip('.')}: strangers share it.",
                hint="Leave the domain out, or name one that is yours alone.",
            )
        if (self.same_site == "none" or self.partitioned) and self.secure is False:
            raise SettingsError(
                "Browsers drop a cookie with SameSite=None or Partitioned that is not Secure.",
                hint="Serve over HTTPS and leave `secure` alone, or choose SameSite=Lax.",
            )
        if self.name.startswith(HOST_PREFIX) and (
            self.path != "/" or self.domain is not None or self.secure is False
        ):
            raise SettingsError(
                f"Browsers drop a cookie called {HOST_PREFIX}… unless it is Secure, has the path / and "
                "no domain."
            )
        if self.name.startswith("__Secure-") and self.secure is False:
            raise SettingsError("Browsers drop a cookie called __Secure-… that is not Secure.")
        return self

    @property
    def needs_secure(self) -> bool:
        """Tell whether browsers drop this cookie unless it is Secure."""
        return self.same_site == "none" or self.partitioned or self.name.startswith("__")

    def read_as(self, https: bool) -> tuple[str, ...]:
        """Return the names under which it may come back. One with `__Host-` that was given before the
        path, the domain or the prefix was set otherwise holds; never the other way round, for any
        neighbor of the host can set a cookie without the prefix."""
        name = self.sent_as(https)
        if https and not name.startswith("__"):
            return name, HOST_PREFIX + name
        return (name,)

    def sent_as(self, https: bool) -> str:
        """Return the cookie's whole name on such a connection."""
        prefixed = (
            self.host_prefix
            and self.is_secure(https)
            and self.path == "/"
            and self.domain is None
            and not self.name.startswith("__")
        )
        return HOST_PREFIX + self.name if prefixed else self.name

    def is_secure(self, https: bool) -> bool:
        return https if self.secure == "auto" else self.secure

    def set(self, value: str, *, https: bool, max_age: int) -> str:
        """Write the Set-Cookie header that gives it. `max_age` in seconds."""
        return self._write(value, https, max_age if self.persistent else None)

    def clear(self, *, https: bool) -> str:
        """Write the Set-Cookie header that takes it away."""
        return self._write("", https, 0)

    def _write(self, value: str, https: bool, max_age: int | None) -> str:
        parts = [f"{self.sent_as(https)}={value}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        parts.append(f"Path={self.path}")
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        parts.append("HttpOnly")
        if self.is_secure(https):
            parts.append("Secure")
        if self.partitioned:
            parts.append("Partitioned")
        parts.append(f"SameSite={self.same_site.capitalize()}")
        return "; ".join(parts)


SHARED = frozenset(
    {
        *(
            "amplifyapp.com",
            "appspot.com",
            "azurestaticapps.net",
            "azurewebsites.net",
            "blogspot.com",
        ),
        *(
            "cloudfront.net",
            "firebaseapp.com",
            "fly.dev",
            "github.io",
            "gitlab.io",
            "herokuapp.com",
        ),
        *("myshopify.com", "netlify.app", "ngrok.io", "ngrok.app", "onrender.com", "pages.dev"),
        *("pythonanywhere.com", "railway.app", "run.app", "s3.amazonaws.com", "trycloudflare.com"),
        *("vercel.app", "web.app", "workers.dev"),
    }
)
"""Domains below which strangers have their hosts, of the Public Suffix List: those that sites are often
served from. Doctor knows all of it."""
_SECOND_LEVEL = re.compile(r"(ac|co|com|edu|gov|net|org)\.[a-z]{2}\Z")


def _is_shared(domain: str) -> bool:
    return (
        domain in SHARED
        or bool(_SECOND_LEVEL.match(domain))
        or (domain.isalpha() and domain != "localhost")
    )


def cookie_values(header: str, name: str) -> Iterator[str]:
    """Yield the values that a Cookie header has for a name, in its order (RFC 6265, 4.2.1), up to
    VALUES_MAX. Raises CookiesTooLarge, if the header may have one beyond what is looked at."""
    if len(header) > COOKIE_HEADER_MAX:
        raise CookiesTooLarge(len(header), COOKIE_HEADER_MAX)
    if name not in header:
        return
    left = VALUES_MAX
    for pair in header.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip(" \t") == name:
            value = value.strip(" \t")
            if len(value) >= 2 and value[0] == value[-1] == '"':
                value = value[1:-1]
            yield value
            left -= 1
            if not left:
                return


def other_places(cookie: CookieOptions, *, https: bool, host: str, path: str) -> list[str]:
    """Write Set-Cookie headers that take a cookie away from the places where an older one of its name may
    have been set, but not from its own: paths above the request's, and the host's parent domains."""
    name = cookie.sent_as(https)
    if name.startswith(HOST_PREFIX):
        return []  # browsers know one place for it
    own = (cookie.domain or "").lstrip(".").lower()
    host = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    labels = host.lower().split(".")
    named = len(labels) > 1 and not labels[-1].isdigit() and ":" not in host
    domains = [".".join(labels[i:]) for i in range(len(labels) - 1)] if named else []
    steps = [part for part in path.split("/") if part]
    paths = ["/", *("/" + "/".join(steps[: i + 1]) for i in range(len(steps)))]
    places = [(None, each) for each in paths] + [(each, "/") for each in domains]
    ours = (own or None, cookie.path)
    return [
        replace(cookie, domain=domain, path=where, host_prefix=False).clear(https=https)
        for domain, where in places
        if (domain, where) != ours and _PATH.match(where)
    ][:PLACES_MAX]
