"""The page `/account/security`, and its assets, for whatever serves them: no framework is known here.

Every address in a page is relative to it, so that an application may mount the pages below any prefix.
It shows who is signed in, and where, without scripts (`panel`); with them the web component takes over, asks
by itself from then on, and is live.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.errors import SettingsError
from sojourn.people.assets import ASSETS, Assets
from sojourn.people.panel import Card, Panel
from sojourn.people.render import Templates
from sojourn.people.translation import ENGLISH, Words

SECURITY_PATH = "/account/security"
RENDERED_MAX = 32
"""Pages for strangers that are kept as they were written."""
ASSETS_PATH = "/account/assets/"
API = "../api/user/active-sessions"  # as seen from the page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
GUARDED = [
    ("X-Content-Type-Options", "nosniff"),
    # Not no-referrer: then a browser says of a form that it comes from nowhere ("Origin: null").
    ("Referrer-Policy", "same-origin"),
]
SECURED = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", POLICY),
    ("Cache-Control", "no-store"),
    ("Vary", "Cookie, Accept-Language"),
    *GUARDED,
]
Headers: TypeAlias = Sequence[tuple[str, str]]
FOREVER = "public, max-age=31536000, immutable"


TEMPLATES = Templates(Path(__file__).parent / "templates", assets=ASSETS)


class HtmlPage(Struct, frozen=True):
    """An answer, for a framework to send."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Look(Struct, frozen=True, kw_only=True):
    """What a site may say about its pages.

    Attributes:
        site_name: in the header and in titles.
        sign_in_url: where people sign in; they are sent there with `next`, the page to come back to.
        change_password_url: where people change their password; the page names it where it says to.
        socket: whether the server takes WebSockets; where it does not, lists are read again each minute.
    """

    site_name: str = "Sojourn"
    sign_in_url: str = ""
    change_password_url: str = ""
    socket: bool = True

    def __post_init__(self) -> None:
        for name, example in (("sign_in_url", "sign-in"), ("change_password_url", "password")):
            url = getattr(self, name)
            if url and not url.startswith(("/", "http://", "https://")):
                raise SettingsError(
                    f"{name}: {url!r} is no address.",
                    hint=f"Write /{example}, or https://example.com/{example}.",
                )

    def sign_in(self, back: str) -> str:
        """Return the address of the sign-in page, from which one comes back to the path `back`."""
        if not self.sign_in_url:
            return ""
        # One slash in front: a path that starts with two would name another host.
        back = "/" + back.lstrip("/\\")
        joint = "&" if "?" in self.sign_in_url else "?"
        return f"{self.sign_in_url}{joint}{urlencode({'next': back})}"


def security_page(
    look: Look,
    path: str,
    panel: Panel | None = None,
    *,
    status: int = 200,
    headers: Headers = (),
    live: bool = True,
    words: Words = ENGLISH,
) -> HtmlPage:
    """Return the page for somebody who is signed in, or of whom nothing can be known just now.

    `path` is that of the request, prefix and all. `panel` stands until the component has read the list,
    and for good where there are no scripts; `live` tells whether there is to be a component, which gets its
    `words` along.
    """
    how = ("socket" if look.socket else "poll") if live else ""
    page = _render("security.html", look, path, api=API, live=how, panel=panel, catalog=words)
    return HtmlPage(status, [*_spoken(words), *headers], page)


def card_page(
    look: Look,
    path: str,
    card: Card,
    *,
    status: int = 200,
    headers: Headers = (),
    words: Words = ENGLISH,
) -> HtmlPage:
    """Return a page that asks, or says, one thing."""
    page = _render("card.html", look, path, card=card, catalog=words)
    return HtmlPage(status, [*_spoken(words), *headers], page)


def signed_out_page(
    look: Look, path: str, why: str = "", *, headers: Headers = (), words: Words = ENGLISH
) -> HtmlPage:
    """Return the page for somebody who is not."""
    challenge = ("WWW-Authenticate", 'Cookie realm="sessions"')  # a 401 must name a way
    page = _signed_out(look, path, why or words.text("notSignedIn"), words)
    return HtmlPage(401, [challenge, *_spoken(words), *headers], page)


def _spoken(words: Words) -> list[tuple[str, str]]:
    return [*SECURED, ("Content-Language", words.language)]


@lru_cache(maxsize=RENDERED_MAX)
def _signed_out(look: Look, path: str, why: str, words: Words) -> bytes:
    """Write the page once: strangers may ask for it as often as they like."""
    return _render("signed_out.html", look, path, why=why, catalog=words)


def asset_page(name: str, accept_encoding: str = "", *, assets: Assets = ASSETS) -> HtmlPage | None:
    """Return an asset by the name that a page calls it; None if there is none, or none any more."""
    found = assets.find(name)
    if found is None:
        return None
    headers = [
        ("Content-Type", found.content_type),
        ("Cache-Control", FOREVER),
        ("Vary", "Accept-Encoding"),
        *GUARDED,
    ]
    if found.packed is not None and "gzip" in accept_encoding:
        return HtmlPage(200, [*headers, ("Content-Encoding", "gzip")], found.packed)
    return HtmlPage(200, headers, found.body)


def _render(template: str, look: Look, path: str, **values: Any) -> bytes:
    return TEMPLATES.render(
        template,
        site_name=look.site_name,
        sign_in_url=look.sign_in(path),
        change_password_url=look.change_password_url,
        **values,
    )
