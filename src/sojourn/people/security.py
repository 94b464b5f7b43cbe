"""The security page as it works with scripts off: lists, asks, does, and says what was done.

    GET  security                      the list; `after` continues it
    GET  security?end=ID&at=INSTANT    asks about one (`at`: where it is in the list); POST does it
    GET  security?others=1             asks about all others; POST does it
    GET  security?rename=ID&at=INSTANT asks for a name of a device; POST gives it, by its field `name`

A POST must come from a page of our own, as the calls want it too, and answers 303: so what was done stays
done once, however often a page is loaded again. What is then said travels in a cookie for a minute, and
not in the address, where anybody could make a page say it.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from msgspec import Meta, Struct

from sojourn.cookie import CookieOptions, cookie_values
from sojourn.decoding import prepared
from sojourn.device import LABEL_MAX
from sojourn.errors import (
    Forbidden,
    InvalidInput,
    InvalidToken,
    NotFound,
    Overloaded,
    SojournError,
    StoreBroken,
    TableMissing,
    Unauthenticated,
)
from sojourn.people.calls import QUERY_FIELDS_MAX, People, PersonRequest, small
from sojourn.people.pages import HtmlPage, Look, card_page, security_page, signed_out_page
from sojourn.people.panel import (
    Card,
    Panel,
    PanelRow,
    about_name,
    about_one,
    about_others,
    address,
    panel,
)
from sojourn.people.sessions import end_one, end_others, listing, may_end_others, rename
from sojourn.people.translation import ENGLISH, Words, words_for
from sojourn.people.wire import (
    CURSOR,
    DeviceName,
    words_of_ending,
    words_of_naming,
)
from sojourn.service.request_session import RequestSession, VisitStep
from sojourn.session import Gone, GoneReason
from sojourn.wire.bodies import Name, retry_after_header

ROWS = 20
"""Rows of a page: the component shows more, but who has more than that is seldom there."""
RETRY_AFTER = 5_000  # ms
SAID = CookieOptions(name="sojourn-said", same_site="strict")
SAID_FOR = 60  # seconds
SAID_MAX = 500  # bytes
WHY = {
    GoneReason.IDLE: "whyIdle",
    GoneReason.EXPIRED: "whyExpired",
    GoneReason.ENDED: "whyEnded",
}
BY_OPERATORS = frozenset({"revoked", "signed_out_by_operator", "cut_off"})
"""Reasons of ends that are said as they are; of other ends, WHY."""
REFUSALS = {"reauth_required": "confirmText", "cross_origin": "crossOrigin"}
"""Sentences of the catalogs, by code; all else that is refused is a name."""


@prepared
class SecurityForm(Struct, frozen=True):
    """What the address says: whose end or name, and where the list starts."""

    end: Name | None = None
    at: Annotated[int, Meta(ge=0, lt=10**15)] = 0
    others: bool = False
    rename: Name | None = None
    after: Annotated[str, Meta(max_length=300, pattern=CURSOR)] | None = None

    @property
    def cursor(self) -> tuple[int, str] | None:
        at, _, session_id = (self.after or "").partition("~")
        return (int(at), session_id) if self.after else None

    @property
    def back(self) -> str:
        """The address of the list that this came from."""
        return address(after=self.after)

    @property
    def itself(self) -> str:
        return address(
            end=self.end,
            rename=self.rename,
            at=self.at,
            others=int(self.others),
            after=self.after,
        )


def _wish(query: str) -> SecurityForm:
    """Read an address. One that somebody has garbled is that of the list."""
    try:
        pairs = parse_qsl(query, max_num_fields=QUERY_FIELDS_MAX, errors="strict")
        return msgspec.convert(dict(pairs), SecurityForm, strict=False)
    except (ValueError, msgspec.ValidationError):
        return SecurityForm()


class SecurityPage:
    """Answers requests for the page, whatever serves it. Safe from several threads."""

    def __init__(self, people: People, look: Look) -> None:
        self._people = people
        self._look = look

    def answer(self, request: PersonRequest, path: str) -> HtmlPage:
        """Answer a GET or a POST. `path` is the page's own, as the browser shows it. Never raises a
        SojournError."""
        wish = _wish(request.query)
        doing = request.method == "POST"
        try:
            return self._do(request, path, wish) if doing else self._show(request, path, wish)
        except (Unauthenticated, InvalidToken):
            return self._signed_out(request, path, None)
        except NotFound:
            said = words_for(request.languages).text("goneAlready")
            return self._said(request, wish, said, [])
        except (Forbidden, InvalidInput) as fault:
            return self._refused(request, fault, path, wish)
        except SojournError as fault:
            return self.trouble(request, path, fault)

    def trouble(self, request: PersonRequest, path: str, fault: SojournError) -> HtmlPage:
        """Say that the store cannot be asked, and what to do; the component asks again by itself."""
        doing = request.method == "POST"
        words = words_for(request.languages)
        if isinstance(fault, TableMissing) and not doing:
            empty = Panel(
                summary="",
                title=words.text("emptyTitle"),
                words=words.text("notSetUp"),
                icon="desktop",
                again=words.text("refresh"),
            )
            return security_page(self._look, path, empty, words=words)
        hint = words.text(
            "broken" if isinstance(fault, StoreBroken) else "safe" if doing else "soon"
        )
        wait = fault.retry_after if isinstance(fault, Overloaded) else RETRY_AFTER
        headers = [("Retry-After", retry_after_header(wait))]
        if not doing:
            broken = Panel(
                summary="",
                title=words.text("errorTitle"),
                words=f"{words.text('unavailable')} {hint}",
                icon="error",
                again=words.text("retry"),
            )
            return security_page(self._look, path, broken, status=503, headers=headers, words=words)
        wish = _wish(request.query)
        card = Card(
            title=words.text("uncertain"),
            words=hint,
            icon="error",
            action=wish.itself,
            go=words.text("retry"),
            danger=False,
            back=wish.back,
            leave=words.text("back"),
        )
        return card_page(self._look, path, card, status=503, headers=headers, words=words)

    def _show(self, request: PersonRequest, path: str, wish: SecurityForm) -> HtmlPage:
        words = words_for(request.languages)

        def look(visit: RequestSession) -> VisitStep[Panel | Card]:
            if wish.end is not None:
                row = yield from self._row(visit, wish, words)
                if not row.shown.is_current:
                    may_end_others(visit, self._people.within)
                return about_one(row, words, action=wish.itself, back=wish.back)
            if wish.rename is not None:
                row = yield from self._row(visit, wish, words)
                return about_name(row, words, action=wish.itself, back=wish.back)
            if wish.others:
                may_end_others(visit, self._people.within)
                first = yield from listing(visit, after=None, limit=1)
                count = first.total - 1
                if not count:
                    raise NotFound("There are no others.")
                return about_others(count, words, action=wish.itself, back=wish.back)
            found = yield from listing(visit, after=wish.cursor, limit=ROWS)
            return panel(found, words, after=wish.after or "", said=_said_before(request))

        found, cookies = self._people.carry_out(request, look, change=False)
        if isinstance(found, Gone):
            return self._signed_out(request, path, found)
        headers = [("Set-Cookie", each) for each in cookies]
        if isinstance(found, Card):
            return card_page(self._look, path, found, headers=headers, words=words)
        if found.said:
            headers.append(("Set-Cookie", SAID.clear(https=request.origin.https)))
        # What continues a list stays as it is: the component would begin it anew.
        live = wish.after is None
        return security_page(self._look, path, found, headers=headers, live=live, words=words)

    def _row(self, visit: RequestSession, wish: SecurityForm, words: Words) -> VisitStep[PanelRow]:
        """Find the session that is asked about. Raises NotFound."""
        wanted = wish.end or wish.rename
        first = yield from listing(visit, after=None, limit=1)
        rows = list(panel(first, words, after="", said="").rows)
        if wanted != first.current.id:
            there = yield from listing(visit, after=(wish.at, ""), limit=ROWS)
            rows = list(panel(there, words, after="", said="").rows)
        for row in rows:
            if row.shown.id == wanted:
                return row
        raise NotFound("There is no such session.")

    def _do(self, request: PersonRequest, path: str, wish: SecurityForm) -> HtmlPage:
        words = words_for(request.languages)

        def end(visit: RequestSession) -> VisitStep[str]:
            if wish.end is not None:
                row = yield from self._row(visit, wish, words)
                ending = yield from end_one(visit, wish.end, within=self._people.within)
                return words_of_ending(ending, others=False, device=row.shown.called, words=words)
            if wish.rename is not None:
                row = yield from self._row(visit, wish, words)
                label = _name_in(request.body)
                yield from rename(visit, wish.rename, label)
                return words_of_naming(label, device=row.shown.device, words=words)
            if wish.others:
                ending = yield from end_others(visit, within=self._people.within)
                return words_of_ending(ending, others=True, words=words)
            return ""

        said, cookies = self._people.carry_out(request, end, change=True)
        if isinstance(said, Gone):
            return self._signed_out(request, path, said)
        return self._said(request, wish, said, cookies)

    def _said(
        self, request: PersonRequest, wish: SecurityForm, said: str, cookies: list[str]
    ) -> HtmlPage:
        """Go back to the list, which says what was done."""
        headers = [("Location", wish.back), *(("Set-Cookie", each) for each in cookies)]
        if said:
            value = quote(said, safe="")[:SAID_MAX]
            cookie = SAID.set(value, https=request.origin.https, max_age=SAID_FOR)
            headers.append(("Set-Cookie", cookie))
        return HtmlPage(303, [*headers, ("Cache-Control", "no-store"), ("Vary", "Cookie")], b"")

    def _refused(
        self, request: PersonRequest, fault: SojournError, path: str, wish: SecurityForm
    ) -> HtmlPage:
        words = words_for(request.languages)
        again = fault.code == "reauth_required"
        sign_in = self._look.sign_in(path.removesuffix("security") + wish.itself) if again else ""
        card = Card(
            title=words.text("confirmTitle" if again else "refusedTitle"),
            words=_refusal(fault, words),
            icon="lock",
            go="",
            link=sign_in,
            follow=words.text("signIn"),
            back=wish.back,
            leave=words.text("back"),
        )
        status = 403 if isinstance(fault, Forbidden) else 400
        return card_page(self._look, path, card, status=status, words=words)

    def _signed_out(self, request: PersonRequest, path: str, gone: Gone | None) -> HtmlPage:
        said = _said_before(request)
        words = words_for(request.languages)
        why = said or (_why(gone, words) if gone else words.text("notSignedIn"))
        headers = [("Set-Cookie", SAID.clear(https=request.origin.https))] if said else []
        return signed_out_page(self._look, path, why, headers=headers, words=words)


def _refusal(fault: SojournError, words: Words) -> str:
    """Say why something was not done: exactly in English, and in other languages by its kind."""
    if words is ENGLISH:
        return f"{fault.message} {fault.hint}".strip()
    return words.text(REFUSALS.get(fault.code, "invalid"), n=LABEL_MAX)


def _why(gone: Gone, words: Words) -> str:
    """Say why somebody is signed out: exactly, if it was for a reason of the site's operators."""
    exact = words.reason(gone.end_reason) if gone.end_reason in BY_OPERATORS else ""
    return exact or words.text(WHY.get(gone.reason, "notSignedIn"))


def _name_in(body: bytes) -> str | None:
    """Read the form that names a device. Raises InvalidInput."""
    try:
        fields = dict(
            parse_qsl(
                small(body).decode(),
                keep_blank_values=True,
                max_num_fields=QUERY_FIELDS_MAX,
                errors="strict",
            )
        )
    except ValueError:
        raise InvalidInput("The form cannot be read.") from None
    return DeviceName(name=fields.get("name", "")).label


def _said_before(request: PersonRequest) -> str:
    """Return what was done just before, in words for people; empty: nothing."""
    name = SAID.sent_as(request.origin.https)
    return next((unquote(value) for value in cookie_values(request.cookies, name)), "")
