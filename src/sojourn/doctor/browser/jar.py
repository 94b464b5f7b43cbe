"""A browser's cookies: what it takes, what it drops without a word, and what it sends where.

RFC 6265bis, 5.6 and 5.7, as Chromium and Firefox have it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

PAIR_MAX = 4_096
"""Bytes of name and value together, of which browsers drop more."""
ATTRIBUTE_MAX = 1_024
_AGE = re.compile(r"-?[0-9]{1,18}")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Cookie(Struct, frozen=True, kw_only=True):
    """A Set-Cookie line, and what a browser makes of it. `dropped` says why it keeps nothing."""

    name: str
    value: str
    host: str  # who set it
    at: str  # the path of the page that did
    domain: str | None = None
    path: str | None = None
    secure: bool = False
    http_only: bool = False
    same_site: str | None = None
    partitioned: bool = False
    max_age: int | None = None
    expires: datetime | None = None
    dropped: str = ""

    @property
    def goes(self) -> bool:
        """Tell whether it takes itself away: it has no life left."""
        return self.max_age is not None and self.max_age <= 0

    @property
    def scope(self) -> str:
        return self.path or default_path(self.at)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.name, self.domain or f"={self.host}", self.scope)

    def sent_to(self, url: str) -> bool:
        """Tell whether a browser sends it with a request there, from the same site."""
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path or "/"
        if self.secure and parts.scheme != "https" and host not in LOOPBACK:
            return False
        if self.domain is None:
            return host == self.host and within(path, self.scope)
        return covers(self.domain, host) and within(path, self.scope)

    def told(self) -> str:
        """Write it as it came, without its value."""
        said = [f"{self.name}=…"]
        said += [f"Domain={self.domain}"] if self.domain else []
        said += [f"Path={self.path}"] if self.path else []
        said += [f"Max-Age={self.max_age}"] if self.max_age is not None else []
        said += ["HttpOnly"] if self.http_only else []
        said += ["Secure"] if self.secure else []
        said += ["Partitioned"] if self.partitioned else []
        said += [f"SameSite={self.same_site.capitalize()}"] if self.same_site else []
        return "; ".join(said)


def read(line: str, url: str) -> Cookie:
    """Read a Set-Cookie line that came from there."""
    parts = urlsplit(url)
    pair, *rest = line.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        name, value = "", pair
    found: dict[str, str] = {}
    for each in rest:
        key, _, said = each.partition("=")
        if len(said) <= ATTRIBUTE_MAX:
            found[key.strip().lower()] = said.strip()
    path = found.get("path", "")
    age = found.get("max-age", "")
    same_site = found.get("samesite", "").lower()
    cookie = Cookie(
        name=name.strip(),
        value=value.strip(),
        host=parts.hostname or "",
        at=parts.path or "/",
        domain=found.get("domain", "").lstrip(".").lower() or None,
        path=path if path.startswith("/") else None,
        secure="secure" in found,
        http_only="httponly" in found,
        same_site=same_site if same_site in ("lax", "strict", "none") else None,
        partitioned="partitioned" in found,
        max_age=int(age) if _AGE.fullmatch(age) else None,
        expires=_instant(found.get("expires", "")),
    )
    why = drops(cookie, https=parts.scheme == "https")
    return cookie if not why else _dropped(cookie, why)


def drops(cookie: Cookie, *, https: bool) -> str:
    """Say why a browser drops it; nothing if it does not."""
    lower = cookie.name.lower()
    safe = https or cookie.host in LOOPBACK
    if len(cookie.name.encode()) + len(cookie.value.encode()) > PAIR_MAX:
        return "size"
    if cookie.domain is not None and not covers(cookie.domain, cookie.host):
        return "domain"
    if cookie.domain is not None and "." not in cookie.domain and cookie.domain != cookie.host:
        return "domain"
    if lower.startswith("__secure-") and not (cookie.secure and safe):
        return "prefix"
    if lower.startswith("__host-") and not (
        cookie.secure and safe and cookie.domain is None and cookie.path == "/"
    ):
        return "prefix"
    if cookie.secure and not safe:
        return "secure"
    if (cookie.same_site == "none" or cookie.partitioned) and not cookie.secure:
        return "same-site"
    return ""


class Jar:
    """What a browser has."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._kept = {each.key: each for each in cookies}

    def take(self, lines: Iterable[str], url: str) -> list[Cookie]:
        """Take what an answer sets; return all of it, dropped ones too."""
        found = [read(line, url) for line in lines]
        for each in found:
            if each.dropped:
                continue
            self._kept.pop(each.key, None)
            if not each.goes:
                self._kept[each.key] = each
        return found

    def header(self, url: str) -> str:
        """Write the Cookie header of a request there, longest paths first."""
        sent = sorted(
            (x for x in self._kept.values() if x.sent_to(url)), key=lambda x: -len(x.scope)
        )
        return "; ".join(f"{x.name}={x.value}" for x in sent)

    def sent(self, url: str) -> list[Cookie]:
        return [x for x in self._kept.values() if x.sent_to(url)]

    def copy(self) -> Jar:
        return Jar(self._kept.values())


def covers(domain: str, host: str) -> bool:
    if domain == host:
        return True
    return host.endswith("." + domain) and not _address(host)


def within(path: str, scope: str) -> bool:
    return path == scope or (
        path.startswith(scope) and (scope[-1] == "/" or path[len(scope)] == "/")
    )


def default_path(page: str) -> str:
    """Where a cookie without a path belongs: the folder of the page that set it."""
    folder = page.rpartition("/")[0]
    return folder or "/"


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _instant(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text.replace("-", " ")) if text else None
    except ValueError:
        return None


def _dropped(cookie: Cookie, why: str) -> Cookie:
    return replace(cookie, dropped=why)
