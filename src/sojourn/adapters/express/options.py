"""What has to be known of the Express application: where its sessions are, and what they look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from msgspec import Struct

from sojourn.address import spelled
from sojourn.clock import DAY
from sojourn.decoding import prepared
from sojourn.errors import SettingsError

NAME_MAX = 40
"""Bytes of a table's name: PostgreSQL cuts identifiers at 63, and what we make beside it is longer."""

_NAME = re.compile(r"[^\x00-\x1f%:{}$]+\Z")  # the rest would mean something in a statement's text
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@prepared
class Options(Struct, frozen=True, kw_only=True):
    """As in the Express application's own code.

    Attributes:
        table, schema: connect-pg-simple's `tableName` and `schemaName`.
        prefix: connect-redis's `prefix`.
        user_path: where in `req.session` the user's id is; the default is Passport's.
        user_number: write the user's id as a number, as applications with serial ids do.
        ttl: seconds; the store's `ttl`, for sessions whose cookie has no `maxAge`.
        secure, http_only, same_site, domain, path: `cookie` of express-session. They are written into
            each session, since Express obeys what it finds there, and not its own configuration.
        scan: Redis: read all sessions to find a user's that only Express has seen.
    """

    table: str = "session"
    schema: str | None = None
    prefix: str = "sess:"
    user_path: tuple[str, ...] = ("passport", "user")
    user_number: bool = False
    ttl: int = DAY // 1000
    secure: bool = False
    http_only: bool = True
    same_site: str | None = None
    domain: str | None = None
    path: str = "/"
    scan: bool = True

    def validate(self) -> Options:
        """Return itself. Raises SettingsError."""
        for name in (self.table, *([self.schema] if self.schema is not None else [])):
            if not _NAME.match(name) or len(name.encode()) > NAME_MAX:
                raise SettingsError(
                    f"A table or schema of Express cannot be called {name!r} here.",
                    hint=f"At most {NAME_MAX} bytes, and none of : % {{ }} $",
                )
        if not self.user_path or not all(_NAME.match(step) for step in self.user_path):
            raise SettingsError("user_path names the keys down to the user's id: passport.user")
        if self.user_path[0] == "cookie":
            raise SettingsError("The user's id cannot be inside `cookie`.")
        if self.ttl < 1:
            raise SettingsError("ttl is in seconds, and at least 1.")
        if self.same_site not in (None, "lax", "strict", "none"):
            raise SettingsError("same_site is lax, strict or none, or left out.")
        if self.same_site == "none" and not self.secure:
            raise SettingsError("Browsers drop a cookie with SameSite=None that is not Secure.")
        return self

    def cookie(self, max_age: int, expires: int) -> dict[str, Any]:
        """Return `sess.cookie` for this max-age and end, in ms: whole, in express-session's order."""
        whole = {
            "originalMaxAge": max_age,
            "expires": iso(expires),
            "secure": self.secure,
            "httpOnly": self.http_only,
            "domain": self.domain,
            "path": self.path,
            "sameSite": self.same_site,
        }
        return {name: value for name, value in whole.items() if value is not None}


def iso(instant: int) -> str:
    """Write an instant as JavaScript's Date does."""
    seconds, ms = divmod(instant, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def read_url(url: str, given: Mapping[str, Any]) -> tuple[str, str, Options]:
    """Split `express+…` into a scheme, a driver's URL, and options: those given, those in its query.

    Raises SettingsError, naming the culprit.
    """
    names = set(Options.__struct_fields__)
    place, _, asked = url.removeprefix("express+").partition("?")
    query = parse_qsl(asked, keep_blank_values=True)
    values: dict[str, Any] = {name: _value(name, text) for name, text in query if name in names}
    values |= {name: value for name, value in given.items() if value is not None}
    rest = urlencode([pair for pair in query if pair[0] not in names])
    url = spelled(f"{place}?{rest}" if rest else place)
    scheme = urlsplit(url).scheme
    try:
        options = msgspec.convert(values, Options, strict=False).validate()
    except msgspec.ValidationError as fault:
        raise SettingsError(f"The options of {scheme} for Express: {fault}.") from None
    return scheme, url, options


def _value(name: str, text: str) -> Any:
    if name == "user_path":
        return text.split(".")
    if name in ("user_number", "secure", "http_only", "scan"):
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise SettingsError(f"{name} in the store's URL is 1 or 0, not {text!r}.")
    return text
