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
from sojourn.errors import (
    Forbidden,
    InvalidInput,
    InvalidToken,
    NotFound,
    Overloaded,
    SojournError,
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
from sojourn.people.wire import (
    CURSOR,
    NOT_SET_UP,
    DeviceName,
    for_people,
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
GONE_ALREADY = "That device was signed out already."
WHY = {
    GoneReason.IDLE: "Your session had not been used for a while, so it was ended.",
    GoneReason.EXPIRED: "Your session had reached its end.",
    GoneReason.ENDED: "Your session was ended.",
}
BY_OPERATORS = {
    "revoked": "The site’s operators signed this device out.",
    "signed_out_by_operator": "The site’s operators signed this device out.",
    "cut_off": "The site’s operators signed everybody out.",
}
"""What is said of a session that was ended for a reason of theirs; of other ends, WHY."""
NOT_SIGNED_IN = "You are not signed in."


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
            return self._said(request, wish, GONE_ALREADY, [])
        except (Forbidden, InvalidInput) as fault:
            return self._refused(fault, path, wish)
        except SojournError as fault:
            return self.trouble(request, path, fault)

    def trouble(self, request: PersonRequest, path: str, fault: SojournError) -> HtmlPage:
        """Say that the store cannot be asked, and what to do; the component asks again by itself."""
        doing = request.method == "POST"
        if isinstance(fault, TableMissing) and not doing:
            empty = Panel(
                summary="",
                title="No active sessions",
                words=NOT_SET_UP,
                icon="desktop",
                again="Refresh",
            )
            return security_page(self._look, path, empty)
        said = for_people(fault, ending=doing)
        wait = fault.retry_after if isinstance(fault, Overloaded) else RETRY_AFTER
        headers = [("Retry-After", retry_after_header(wait))]
        if not doing:
            broken = Panel(
                summary="",
                title="Your sessions can’t be shown right now",
                words=f"{said.message} {said.hint}",
                icon="error",
                again="Try again",
            )
            return security_page(self._look, path, broken, status=503, headers=headers)
        wish = _wish(request.query)
        card = Card(
            title="We can’t tell whether that worked",
            words=said.hint,
            icon="error",
            action=wish.itself,
            go="Try again",
            danger=False,
            back=wish.back,
            leave="Back to your devices",
        )
        return card_page(self._look, path, card, status=503, headers=headers)

    def _show(self, request: PersonRequest, path: str, wish: SecurityForm) -> HtmlPage:
        def look(visit: RequestSession) -> VisitStep[Panel | Card]:
            if wish.end is not None:
                row = yield from self._row(visit, wish)
                if not row.shown.is_current:
                    may_end_others(visit, self._people.within)
                return about_one(row, action=wish.itself, back=wish.back)
            if wish.rename is not None:
                row = yield from self._row(visit, wish)
                return about_name(row, action=wish.itself, back=wish.back)
            if wish.others:
                may_end_others(visit, self._people.within)
                first = yield from listing(visit, after=None, limit=1)
                count = first.total - 1
                if not count:
                    raise NotFound("There are no others.")
                return about_others(count, action=wish.itself, back=wish.back)
            found = yield from listing(visit, after=wish.cursor, limit=ROWS)
            return panel(found, after=wish.after or "", said=_said_before(request))

        found, cookies = self._people.carry_out(request, look, change=False)
        if isinstance(found, Gone):
            return self._signed_out(request, path, found)
        headers = [("Set-Cookie", each) for each in cookies]
        if isinstance(found, Card):
            return card_page(self._look, path, found, headers=headers)
        if found.said:
            headers.append(("Set-Cookie", SAID.clear(https=request.origin.https)))
        # What continues a list stays as it is: the component would begin it anew.
        return security_page(self._look, path, found, headers=headers, live=wish.after is None)

    def _row(self, visit: RequestSession, wish: SecurityForm) -> VisitStep[PanelRow]:
        """Find the session that is asked about. Raises NotFound."""
        wanted = wish.end or wish.rename
        first = yield from listing(visit, after=None, limit=1)
        rows = list(panel(first, after="", said="").rows)
        if wanted != first.current.id:
            there = yield from listing(visit, after=(wish.at, ""), limit=ROWS)
            rows = list(panel(there, after="", said="").rows)
        for row in rows:
            if row.shown.id == wanted:
                return row
        raise NotFound("There is no such session.")

    def _do(self, request: PersonRequest, path: str, wish: SecurityForm) -> HtmlPage:
        def end(visit: RequestSession) -> VisitStep[str]:
            if wish.end is not None:
                row = yield from self._row(visit, wish)
                ending = yield from end_one(visit, wish.end, within=self._people.within)
                return words_of_ending(ending, others=False, device=row.shown.called)
            if wish.rename is not None:
                row = yield from self._row(visit, wish)
                label = _name_in(request.body)
                yield from rename(visit, wish.rename, label)
                return words_of_naming(label, device=row.shown.device)
            if wish.others:
                ending = yield from end_others(visit, within=self._people.within)
                return words_of_ending(ending, others=True)
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

    def _refused(self, fault: SojournError, path: str, wish: SecurityForm) -> HtmlPage:
        again = fault.code == "reauth_required"
        sign_in = self._look.sign_in(path.removesuffix("security") + wish.itself) if again else ""
        card = Card(
            title="First confirm that it is you" if again else "This was not carried out",
            words=f"{fault.message} {fault.hint}".strip(),
            icon="lock",
            link=sign_in,
            follow="Sign in again",
            back=wish.back,
            leave="Back to your devices",
        )
        status = 403 if isinstance(fault, Forbidden) else 400
        return card_page(self._look, path, card, status=status)

    def _signed_out(self, request: PersonRequest, path: str, gone: Gone | None) -> HtmlPage:
        said = _said_before(request)
        why = said or (_why(gone) if gone else NOT_SIGNED_IN)
        headers = [("Set-Cookie", SAID.clear(https=request.origin.https))] if said else []
        return signed_out_page(self._look, path, why, headers=headers)


def _why(gone: Gone) -> str:
    """Say why somebody is signed out."""
    return BY_OPERATORS.get(gone.end_reason or "") or WHY.get(gone.reason, NOT_SIGNED_IN)


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
