"""The frame of the operators' console: signing in, what stands around every page, and what is said where
no page can be shown. Every address in it is relative, as in the pages for people.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from msgspec import Struct

from sojourn.console.render import render
from sojourn.finding import Verdict
from sojourn.people.pages import POLICY, RENDERED_MAX, SECURED, HtmlPage
from sojourn.service.keys import GRANTS, Permission
from sojourn.service.operators import KEY_REVOKED, Operator
from sojourn.session import Gone, GoneReason

CONSOLE = "/console"
PLACES = (
    (
        "Watch",
        (
            ("overview", "Overview", "gauge"),
            ("seats", "Seats", "seat"),
            ("sessions", "Sessions", "devices"),
            ("people", "People", "people"),
        ),
    ),
    (
        "Understand",
        (
            ("analytics", "Analytics", "chart"),
            ("denials", "Denials", "denied"),
            ("audit", "Audit", "scroll"),
        ),
    ),
    (
        "Keep well",
        (
            ("doctor", "Doctor", "doctor"),
            ("sweeps", "Sweeps", "broom"),
            ("webhooks", "Webhooks", "webhook"),
            ("nodes", "Nodes", "server"),
        ),
    ),
    (
        "Set up",
        (
            ("licenses", "Licenses", "ticket"),
            ("keys", "Keys", "key"),
            ("settings", "Settings", "settings"),
        ),
    ),
)
"""The pages that there are, in groups: address, title, icon."""
NEEDS = {"keys": Permission.KEYS}
"""What it takes to see a page; all others take a sign-in."""
TABS = ("overview", "seats", "sessions", "doctor")
"""Those with a tab of their own on a phone."""

# Without a referrer a browser also hides the origin of a form that it sends, which is what tells our own
# pages from others' where there is no Sec-Fetch-Site (HTTP).
# htmx reads what the server answers as HTML: by the one policy that console.js makes.
_OTHERWISE = {
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": POLICY.replace("trusted-types 'none'", "trusted-types default"),
}
HEADERS = [(name, _OTHERWISE.get(name, value)) for name, value in SECURED]
_CHALLENGE = ("WWW-Authenticate", 'Cookie realm="console"')  # a 401 must name a way


class Notice(Struct, frozen=True, kw_only=True):
    """Something to tell, with a way on if there is one. `aloud`: to screen readers alone, since the page
    itself shows it."""

    verdict: Verdict
    title: str
    text: str = ""
    link: str = ""
    label: str = ""
    steps: tuple[Any, ...] = ()
    aloud: bool = False


class Count(Struct, frozen=True, kw_only=True):
    """How many things wait on a page. `tone`: bad or warn."""

    number: int
    title: str
    tone: str


def console_page(
    template: str,
    *,
    site_name: str,
    operator: Operator,
    here: str,
    status: int = 200,
    banner: Notice | None = None,
    counts: dict[str, Count] | None = None,
    **values: Any,
) -> HtmlPage:
    """Return a page of the console for somebody who is signed in. `counts`: what the menu says beside pages,
    by their addresses."""
    body = render(
        template,
        site_name=site_name,
        operator=operator,
        here=here,
        places=places(operator),
        counts=counts or {},
        tabs=TABS,
        banner=banner,
        rows=rows,
        **values,
    )
    return HtmlPage(status, HEADERS, body)


def may_see(operator: Operator, here: str) -> bool:
    needed = NEEDS.get(here)
    return needed is None or needed in GRANTS[operator.key.role]


def places(operator: Operator) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return the pages that somebody may see, in groups."""
    return [
        (title, [page for page in pages if may_see(operator, page[0])]) for title, pages in PLACES
    ]


def fragment(template: str, *, status: int = 200, **values: Any) -> HtmlPage:
    """Return a piece of a page, to be put into one that is open."""
    return HtmlPage(status, HEADERS, render(template, rows=rows, **values))


def sign_in_page(site_name: str, *, status: int = 200, problem: Notice | None = None) -> HtmlPage:
    headers = [_CHALLENGE, *HEADERS] if status == 401 else HEADERS
    return HtmlPage(status, headers, _sign_in(site_name, problem))


@lru_cache(maxsize=RENDERED_MAX)
def _sign_in(site_name: str, problem: Notice | None) -> bytes:
    """Write the page once: strangers may ask for it as often as they like."""
    return render("sign_in.html", site_name=site_name, problem=problem)


def down_page(site_name: str, title: str, why: str, *, command: str) -> HtmlPage:
    """Return the page for when nobody can be recognized. `command`: what looks without a sign-in."""
    headers = [("Retry-After", "10"), *HEADERS]
    return HtmlPage(
        503,
        headers,
        render("console_down.html", site_name=site_name, title=title, why=why, command=command),
    )


def redirect(to: str, *cookies: str) -> HtmlPage:
    """Send the browser to another of our pages, by GET."""
    given = [("Set-Cookie", each) for each in cookies]
    return HtmlPage(303, [("Location", to), *given, *HEADERS], b"")


def signed_out(gone: Gone | None) -> Notice | None:
    """Say why somebody who brought a cookie is not signed in; None where nothing is to be said."""
    if gone is None:
        return None
    if gone.end_reason == KEY_REVOKED:
        return Notice(
            verdict=Verdict.WARNING,
            title="You were signed out: your API key was revoked, or has expired.",
            text="Sign in with another one.",
        )
    if gone.end_reason == "signed_out":
        return Notice(verdict=Verdict.OK, title="You are signed out.")
    return Notice(verdict=Verdict.WARNING, title=_WHY[gone.reason], text="Sign in again to go on.")


_WHY = {
    GoneReason.IDLE: "You were signed out: the console had not been used for half an hour.",
    GoneReason.EXPIRED: "You were signed out: a sign-in to the console ends after eight hours.",
    GoneReason.ENDED: "You were signed out: your session was ended.",
    GoneReason.ABSENT: "You are signed out: your session is not known any more.",
    GoneReason.FORGED: "You are signed out: the cookie was not made here, or the secret has changed.",
}


def rows(number: int) -> str:
    return {0: "no rows", 1: "1 row"}.get(number, f"{number:,} rows")
