"""A request to the console: who asks, and what is answered where that cannot be known.

Every change comes by POST from a page of our own: what a browser does not say to come from one is refused,
since a cookie vouches for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote
from zoneinfo import ZoneInfo

import msgspec

from sojourn.api.active_sessions import from_scope, header_of
from sojourn.api.console.feed import FeedStream
from sojourn.api.context import Context
from sojourn.api.incoming import Incoming
from sojourn.api.limits import read_whole
from sojourn.api.pages import reply_of
from sojourn.api.streams import RunStream
from sojourn.console.counts import Counts
from sojourn.console.find import Finder
from sojourn.console.frame import Notice, down_page, fragment, sign_in_page, signed_out
from sojourn.console.lookup import Lookup
from sojourn.cookie import CookieOptions, cookie_values
from sojourn.errors import InvalidInput, Overloaded, SojournError, StoreBroken, StoreError
from sojourn.finding import Verdict
from sojourn.origin import is_elsewhere
from sojourn.people.calls import PersonRequest
from sojourn.people.pages import HtmlPage
from sojourn.plans.schedule import zone_of
from sojourn.service.operators import FORGED, Operator, Operators, Reasons, is_cookie
from sojourn.session import Gone

T = TypeVar("T")

COOKIE = CookieOptions(name="sojourn-console", same_site="lax").validate()
ZONE_COOKIE = "sojourn-zone"
"""Where `console.js` notes the zone of the browser. It names nobody, and opens nothing."""
FORM_MAX = 8_192  # bytes
FIELDS_MAX = 250
"""Fields of a form: one for each check that may be repaired, and a few."""

ConsoleAnswer = HtmlPage | RunStream | FeedStream
Respond = Callable[["Visitor"], Awaitable[ConsoleAnswer]]


class Visitor(msgspec.Struct, frozen=True):
    """One request to the console.

    Attributes:
        partial: htmx asks, for pieces of a page that is open.
    """

    asked: PersonRequest
    form: dict[str, list[str]]
    agent: str
    partial: bool

    @property
    def polls(self) -> bool:
        """Whether an open page reads itself anew: nobody need sit before it."""
        return self.partial and self.asked.method == "GET"

    @property
    def cookies(self) -> list[str]:
        """What browsers send under our name: beside the live one, perhaps one of an older path."""
        name = COOKIE.sent_as(self.asked.origin.https)
        return list(cookie_values(self.asked.cookies, name))

    @property
    def cookie(self) -> str | None:
        return next(iter(self.cookies), None)

    def field(self, name: str) -> str:
        return self.form.get(name, [""])[0]

    def query(self, name: str) -> str:
        return self.queries(name)[0]

    def queries(self, name: str) -> list[str]:
        """Return all that the address says under a name; one empty text where it says nothing."""
        return parse_qs(self.asked.query).get(name) or [""]


class Reception:
    """Says who asks, by the cookie that a sign-in gave. One for all pages of the console."""

    def __init__(self, context: Context) -> None:
        keys = [each.encode() for each in context.settings.secret] or [secrets.token_bytes(32)]
        self._context = context
        self.site = context.settings.site_name
        self.lookup = Lookup(context.services.store, context.services.ledger)
        self.finder = Finder(self.lookup, context.services.store, context.services.ledger)
        self.counts = Counts(self.lookup, context.services.ledger, context.rounds)
        self.operators = Operators(context.services.keys, context.services.sessions, keys)
        self._cookies = context.proofs_of("console_cookie", self._good)
        self._reasons = Reasons()

    async def admit(self, visitor: Visitor) -> Operator | Gone | HtmlPage | None:
        """Say who asks; a page where that cannot be known; None where nothing says it."""
        found: Operator | Gone | None = None
        try:
            for cookie in visitor.cookies:
                admitted = await self._known(cookie, visitor)
                if isinstance(admitted, Operator):
                    return admitted
                found = found or admitted
        except (StoreError, Overloaded) as fault:
            return await self._unknown(fault)
        return found

    async def _known(self, cookie: str, visitor: Visitor) -> Operator | Gone:
        """Look a cookie up; one that was never seen to be good beside other such ones, and no more."""
        if not is_cookie(cookie):
            return FORGED
        if not await self._cookies.admit(cookie, address=visitor.asked.origin.ip):
            return self._reasons.of(cookie)
        patience = self._context.settings.request_timeout
        admit = partial(self.operators.admit, cookie, touch=not visitor.polls)
        found = await self._context.blocking.run(patience, admit)
        if isinstance(found, Gone):
            self._cookies.forget(cookie)
        return found

    def _good(self, cookies: Sequence[str]) -> list[bool]:
        found = self.operators.admit_all(cookies, touch=False)  # `_known` looks again, and touches
        self._reasons.note(cookies, found)
        return [isinstance(each, Operator) for each in found]

    async def _unknown(self, fault: SojournError) -> HtmlPage:
        """Offer the way in that needs no sessions, if the ledger still knows keys."""
        if isinstance(fault, Overloaded):
            return self.down(fault)
        patience = self._context.settings.request_timeout
        try:
            await self._context.strangers.run(
                patience, self._context.services.keys.known_by_id, [""]
            )
        except (StoreError, Overloaded):
            return self.down(fault)
        notice = Notice(
            verdict=Verdict.WARNING,
            title="Sessions cannot be read just now, so you have to show your key again.",
            text=f"{plainly(fault)} Doctor tells more once you are in.",
        )
        return self.sign_in(notice, status=503)

    def turn_away(self, visitor: Visitor, found: Gone | HtmlPage | None) -> HtmlPage:
        if visitor.partial:
            notice = DOWN if isinstance(found, HtmlPage) else again(found)
            return fragment("_notice.html", notice=notice, status=503 if notice is DOWN else 401)
        if isinstance(found, HtmlPage):
            return found
        return self.sign_in(signed_out(found), status=401)

    def down(self, fault: SojournError) -> HtmlPage:
        broken = isinstance(fault, StoreBroken)
        title = "The store cannot be used" if broken else "The store does not answer"
        command = self._context.rounds.again("sojourn doctor")
        return down_page(self.site, title, plainly(fault), command=command)

    def sign_in(self, problem: Notice | None, *, status: int = 200) -> HtmlPage:
        return sign_in_page(self.site, problem=problem, status=status)

    async def thread(self, work: Callable[..., T], *args: object) -> T:
        return await self._context.blocking.run(self._context.settings.request_timeout, work, *args)


async def answer_visitor(context: Context, scope: Any, receive: Any, respond: Respond) -> Any:
    asked, header = from_scope(scope), header_of(scope)
    form: dict[str, list[str]] = {}
    Incoming.of(scope, FORM_MAX)  # refused as every call that nobody would send so
    if asked.method == "POST":
        if not _from_here(asked):
            problem = Notice(
                verdict=Verdict.FAILURE,
                title="This came from a page of another site, so nothing was done.",
            )
            return reply_of(sign_in_page(context.settings.site_name, problem=problem, status=403))
        form = _fields(await read_whole(receive, FORM_MAX))
    visitor = Visitor(
        asked=asked,
        form=form,
        agent=header("user-agent"),
        partial=header("hx-request") == "true",
    )
    answer = await respond(visitor)
    return reply_of(answer) if isinstance(answer, HtmlPage) else answer


def _fields(body: bytes) -> dict[str, list[str]]:
    """Read a form. Raises InvalidInput if it has more than FIELDS_MAX fields."""
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=FIELDS_MAX)
    except ValueError:
        raise InvalidInput(
            f"A form has {FIELDS_MAX} fields at most.", code="body_too_large"
        ) from None


def _from_here(asked: PersonRequest) -> bool:
    """Tell whether a page of ours sends this. Unlike for people, a request that says nothing of where it
    comes from is none: nobody but a browser has business here."""
    said = bool(asked.site or asked.sender)
    return said and not is_elsewhere(host=asked.host, site=asked.site, sender=asked.sender)


def zone_of_visitor(visitor: Visitor) -> ZoneInfo:
    """Return the zone that the address names, else the one that the console's script noted, else UTC."""
    noted = (unquote(each) for each in cookie_values(visitor.asked.cookies, ZONE_COOKIE))
    for name in (visitor.query("zone"), *islice(noted, 1)):
        try:
            return zone_of(name)
        except SojournError:
            continue
    return ZoneInfo("UTC")


def again(gone: Gone | None) -> Notice:
    said = signed_out(gone)
    title = said.title if said is not None else "You are signed out."
    text = "What you see is as it was. Sign in again to go on."
    return Notice(verdict=Verdict.WARNING, title=title, text=text, link="sign-in", label="Sign in")


def too_slow(fault: SojournError) -> Notice:
    return Notice(verdict=Verdict.FAILURE, title=fault.message, text=fault.hint)


def plainly(fault: SojournError) -> str:
    return fault.message if fault.message.endswith(".") else f"{fault.message}."


DOWN = Notice(
    verdict=Verdict.FAILURE,
    title="The store does not answer, so nobody can be recognized just now.",
    text="What you see is as it was. On the server’s own host, `sojourn doctor` needs no sign-in.",
)
