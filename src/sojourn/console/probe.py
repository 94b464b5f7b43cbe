"""Whether a person's own browser keeps a cookie like the one people are known by, and sends it back.

Asked in two requests, as a sign-in is: a form is sent, and answered with a cookie and a redirect; the
request that follows shows what the browser made of it. What was known at the first is kept in the
session of whoever asks, never in the address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.cookie import CookieOptions, cookie_values
from sojourn.decoding import prepared
from sojourn.finding import Area, Check, Finding, Fix, failure, ok, skipped, warning

KEY = "console:probe"
"""Of the session's data."""
LIFETIME = 60
"""Seconds for which the probing cookie is kept."""
HEADER_MAX = 8_000
"""Bytes of cookies; common proxies refuse a request whose headers are larger than 8 KB."""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@prepared
class Sent(Struct, frozen=True, kw_only=True):
    """What was known when the cookie was given."""

    nonce: str
    https: bool  # as this server saw the request
    host: str
    sender: str  # the header Origin: what the browser calls the page's site


def check() -> Check:
    """Describe the question, for the page; `judge` answers it."""
    return Check(
        id="cookies.browser",
        area=Area.COOKIES,
        title="Does this browser keep the cookie that people are known by, and send it back?",
        looked_at="Two requests of this very browser",
        look=lambda: skipped("Only a browser can tell what a browser keeps."),
    )


def probing(cookie: CookieOptions) -> CookieOptions:
    """Return the application's cookie under another name: all else is as browsers judge it."""
    return msgspec.structs.replace(cookie, name=cookie.name + "-probe")


def remembered(data: Mapping[str, Any]) -> Sent | None:
    """Read what was kept; None if nothing was, or somebody else wrote it."""
    try:
        return msgspec.convert(data.get(KEY), Sent)
    except msgspec.ValidationError:
        return None


def judge(sent: Sent, cookies: str, cookie: CookieOptions) -> Finding:
    """Say what has become of the probing cookie, from the header of the request after."""
    probe = probing(cookie)
    name = probe.sent_as(sent.https)
    given = probe.set("…", https=sent.https, max_age=LIFETIME)
    evidence = (f"Set-Cookie: {given}", f"Host: {sent.host}", f"Origin: {sent.sender or '(none)'}")
    values = list(cookie_values(cookies, name))
    hidden = sent.sender.startswith("https://") and not sent.https
    if sent.nonce not in values:
        return _lost(sent, cookie, evidence, hidden=hidden)
    if hidden:
        return _hidden(evidence)
    twice = len(list(cookie_values(cookies, cookie.sent_as(sent.https))))
    if twice > 1:
        return _twice(cookie, twice, sent, evidence)
    if len(cookies) > HEADER_MAX:
        return warning(
            f"Your browser sends {len(cookies):,} bytes of cookies to this host.",
            evidence=evidence,
            means="Proxies and servers refuse requests with headers that large: then whoever has "
            "collected so many cookies meets an error on every page.",
            fix=Fix(text="Find the cookies that grow, and keep their content on the server."),
        )
    host = sent.host.rpartition(":")[0] or sent.host
    if not sent.https and host not in LOOPBACK:
        return warning(
            "Your browser sends the cookie back, but by HTTP, where others can read it on the way.",
            evidence=evidence,
            means="Whoever can read the network can act as the people who are signed in.",
            fix=Fix(text="Serve by HTTPS; then the cookie is Secure by itself."),
        )
    return ok("Your browser keeps the cookie, and sends it back.", *evidence)


def _lost(sent: Sent, cookie: CookieOptions, evidence: tuple[str, ...], *, hidden: bool) -> Finding:
    means = "People sign in, and are signed out again on the next page."
    host = sent.host.partition(":")[0].lower()
    domain = (cookie.domain or "").lstrip(".").lower()
    if domain and host != domain and not host.endswith("." + domain):
        return failure(
            f"Your browser dropped the cookie: its domain {domain} does not cover {host}.",
            evidence=evidence,
            means=means,
            fix=Fix(
                text="Leave the domain out, so that the cookie is this host's own, or name one that "
                "covers every host where people are.",
                setting='cookie_domain = ""',
            ),
        )
    if hidden:
        return _hidden(evidence, lost=True)
    return failure(
        "Your browser did not send the cookie back.",
        evidence=evidence,
        means=means,
        fix=Fix(
            text="See in the browser’s developer tools, below Network, why it blocked Set-Cookie: a "
            "proxy may have changed the header, or this browser refuses cookies."
        ),
    )


def _hidden(evidence: tuple[str, ...], *, lost: bool = False) -> Finding:
    return failure(
        "Your browser speaks HTTPS, but this server was told HTTP: a proxy hides it.",
        evidence=evidence,
        means="The browser drops the cookie, and nobody stays signed in."
        if lost
        else "Cookies are given without Secure and without the prefix __Host-, so a page on a "
        "neighboring host can overwrite them.",
        fix=Fix(
            text="Let the proxy send X-Forwarded-Proto, and name the proxy’s address here.",
            setting='trusted_proxies = ["private"]',
        ),
    )


def _twice(cookie: CookieOptions, number: int, sent: Sent, evidence: tuple[str, ...]) -> Finding:
    name = cookie.sent_as(sent.https)
    return warning(
        f"Your browser has {number} cookies called {name} for this host, and sends them all.",
        evidence=evidence,
        means="An old one may be read in the place of the present one, so that people seem signed out.",
        fix=Fix(
            text="One was given with another Domain or Path, perhaps by an earlier version. Let the "
            "application take it back with the same Domain and Path and Max-Age=0, or choose a new name.",
            setting=f'cookie_name = "{cookie.name}2"',
        ),
    )
