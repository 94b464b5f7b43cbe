"""A browser's cookies: what it takes, what it drops without a word, and what it sends where.

RFC 6265bis, 5.6 and 5.7, as Chromium and Firefox have it; names that promise HttpOnly as Chromium 140 and
later. Which domains are shared by strangers is said by the Public Suffix List (publicsuffix.org).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

PAIR_MAX = 4_096
"""Bytes of name and value together, of which browsers drop more."""
ATTRIBUTE_MAX = 1_024
AGE_MAX = 400 * 86_400
"""Seconds for which browsers keep a cookie at most."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_AGE = re.compile(r"(-?)([0-9]+)")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DATE_PARTS = re.compile(r"[^\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY = re.compile(r"([0-9]{1,2})(?![0-9])")
_YEAR = re.compile(r"([0-9]{2,4})(?![0-9])")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


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
        """Tell whether it takes itself away: it has no life left, by the clock here as by a person's."""
        if self.max_age is not None:
            return self.max_age <= 0
        return self.expires is not None and self.expires <= datetime.now(UTC)

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
        said += [f"Expires={self.expires:%a, %d %b %Y %H:%M:%S} GMT"] if self.expires else []
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
    host, path = (parts.hostname or "").lower(), found.get("path", "")
    domain = _canonical(found.get("domain", "").removeprefix("."))
    if domain == host and is_public_suffix(domain):
        domain = ""  # a site of that very name: the cookie is its own alone
    same_site = found.get("samesite", "").lower()
    cookie = Cookie(
        name=name.strip(),
        value=value.strip(),
        host=host,
        at=parts.path or "/",
        domain=domain or None,
        path=path if path.startswith("/") else None,
        secure="secure" in found,
        http_only="httponly" in found,
        same_site=same_site if same_site in ("lax", "strict", "none") else None,
        partitioned="partitioned" in found,
        max_age=_age(found.get("max-age", "")),
        expires=cookie_date(found.get("expires", "")),
    )
    why = "control" if _CONTROL.search(line) else drops(cookie, https=parts.scheme == "https")
    return cookie if not why else _dropped(cookie, why)


def drops(cookie: Cookie, *, https: bool) -> str:
    """Say why a browser drops it; nothing if it does not."""
    # A cookie without a name is sent as its value alone, and must not pass for one of these.
    lower = cookie.name.lower() or cookie.value.lower()
    safe = https or cookie.host in LOOPBACK
    if len(cookie.name.encode()) + len(cookie.value.encode()) > PAIR_MAX:
        return "size"
    if cookie.domain is not None and not covers(cookie.domain, cookie.host):
        return "domain"
    if cookie.domain is not None and is_public_suffix(cookie.domain):
        return "public-suffix"
    if _breaks_promise(cookie, lower, safe=safe):
        return "prefix"
    if cookie.secure and not safe:
        return "secure"
    if (cookie.same_site == "none" or cookie.partitioned) and not cookie.secure:
        return "same-site"
    return ""


def _breaks_promise(cookie: Cookie, lower: str, *, safe: bool) -> bool:
    """Tell whether a cookie is not what its name says that it is."""
    named = bool(cookie.name)
    secure = cookie.secure and safe and named
    alone = secure and cookie.domain is None and cookie.path == "/"
    for start, kept in (
        ("__host-http-", alone and cookie.http_only),
        ("__http-", secure and cookie.http_only),
        ("__host-", alone),
        ("__secure-", secure),
    ):
        if lower.startswith(start):
            return not kept
    return not named and not cookie.value


class Jar:
    """What a browser has."""

    def __init__(self, cookies: Iterable[Cookie] = ()) -> None:
        self._kept = {each.key: each for each in cookies}

    def take(self, lines: Iterable[str], url: str) -> list[Cookie]:
        """Take what an answer sets; return all of it, dropped ones too."""
        found = [self._judged(read(line, url), url) for line in lines]
        for each in found:
            if each.dropped:
                continue
            if each.goes:
                self._kept.pop(each.key, None)
            else:
                self._kept[each.key] = each  # in the place of the one before
        return found

    def _judged(self, cookie: Cookie, url: str) -> Cookie:
        """Drop what would take the place of a cookie that came by HTTPS (RFC 6265bis, 5.7, step 16)."""
        if cookie.dropped or cookie.secure or urlsplit(url).scheme == "https":
            return cookie
        hidden = any(
            x.secure
            and x.name == cookie.name
            and (
                covers(x.domain or x.host, cookie.domain or cookie.host)
                or covers(cookie.domain or cookie.host, x.domain or x.host)
            )
            and within(cookie.scope, x.scope)
            for x in self._kept.values()
        )
        return _dropped(cookie, "secure") if hidden else cookie

    def header(self, url: str) -> str:
        """Write the Cookie header of a request there, longest paths first."""
        sent = sorted(
            (x for x in self._kept.values() if x.sent_to(url) and not x.goes),
            key=lambda x: -len(x.scope),
        )
        return "; ".join(f"{x.name}={x.value}" if x.name else x.value for x in sent)

    def sent(self, url: str) -> list[Cookie]:
        return [x for x in self._kept.values() if x.sent_to(url) and not x.goes]

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


def is_public_suffix(domain: str) -> bool:
    """Tell whether strangers share a domain, so that no browser takes a cookie for all of it: com, co.uk,
    github.io."""
    if _address(domain):
        return False
    return bool(domain) and _suffixes().is_public(domain)


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415  # reading it takes 50 ms

    return PublicSuffixList()


def _canonical(domain: str) -> str:
    """Write a domain as browsers compare it: in lower case, its other letters in Punycode."""
    try:
        return domain.encode("idna").decode().lower()
    except UnicodeError:
        return domain.lower()


def _age(text: str) -> int | None:
    """Read a Max-Age; None if there is none that counts."""
    found = _AGE.fullmatch(text)
    if found is None:
        return None
    length = AGE_MAX if len(found[2]) > 9 else int(found[2])
    return -length if found[1] else min(length, AGE_MAX)


def cookie_date(text: str) -> datetime | None:
    """Read a date as browsers do, in whatever order its parts stand (RFC 6265bis, 5.1.1)."""
    clock = day = month = year = None
    for part in _DATE_PARTS.findall(text):
        if clock is None and (found := _TIME.match(part)):
            clock = [int(x) for x in found.groups()]
        elif day is None and (found := _DAY.match(part)):
            day = int(found[1])
        elif month is None and part[:3].lower() in _MONTHS:
            month = _MONTHS.index(part[:3].lower()) + 1
        elif year is None and (found := _YEAR.match(part)):
            year = int(found[1])
    if clock is None or day is None or month is None or year is None:
        return None
    year += 1900 if 70 <= year <= 99 else 2000 if year <= 69 else 0
    try:
        hour, minute, second = clock
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _dropped(cookie: Cookie, why: str) -> Cookie:
    return replace(cookie, dropped=why)
