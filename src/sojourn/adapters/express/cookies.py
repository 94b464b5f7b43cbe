"""The cookie of express-session: `s:` + sid + `.` + HMAC-SHA256, as its cookie-signature writes it."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from sojourn.cookie import CookieOptions
from sojourn.errors import InvalidToken, SettingsError

EXPRESS_COOKIE = CookieOptions(name="connect.sid", host_prefix=False)
"""express-session's own choice. Set whatever else its `cookie` sets: same_site, secure, domain, path."""
UNESCAPED = "!~*'()-_."
"""What JavaScript's encodeURIComponent leaves alone, besides letters and digits."""
SID_MAX = 512
"""Characters. express-session makes 32, custom makers seldom more than 64."""

_MALFORMED = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ExpressCookies:
    """A Codec. The first secret signs, all verify. Raises SettingsError if there is none."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets or not all(secrets):
            raise SettingsError(
                "No secret is set, and the Express application signs its cookies with one.",
                hint="Set SOJOURN_SECRET to the `secret` of express-session.",
            )
        self._keys = [secret.encode() for secret in secrets]

    def encode(self, token: str) -> str:
        return quote(f"s:{token}.{sign(token, self._keys[0])}", safe=UNESCAPED)

    def decode(self, value: str) -> str:
        """Return the sid. A value that was never percent-encoded is accepted, as Express accepts it."""
        signed = _percent_decoded(value)
        if not signed.startswith("s:"):
            raise InvalidToken("The cookie is not one of express-session's.")
        sid, dot, signature = signed[2:].rpartition(".")
        if not dot or not sid or len(sid) > SID_MAX or "\0" in sid:
            raise InvalidToken("The cookie is garbled.")
        given = signature.encode(errors="surrogatepass")
        valid = False
        for key in self._keys:  # all of them, so that the time taken does not tell which one it was
            valid |= hmac.compare_digest(given, sign(sid, key).encode())
        if not valid:
            raise InvalidToken(
                "The cookie was not signed here.",
                code="token_forged",
                hint="Both applications need the same secret; after a change, keep the old one in the "
                "list of both.",
            )
        return sid


def sign(sid: str, key: bytes) -> str:
    """Return cookie-signature's HMAC of a sid: base64, without padding."""
    mac = hmac.digest(key, sid.encode(errors="replace"), "sha256")
    return base64.b64encode(mac).rstrip(b"=").decode()


def _percent_decoded(value: str) -> str:
    """Do what the cookie package does: decodeURIComponent, or nothing if that would throw."""
    if "%" not in value or _MALFORMED.search(value):
        return value
    try:
        return unquote_to_bytes(value).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return value
