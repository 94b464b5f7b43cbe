"""How one request's session is found, and what its browser is told: the half of a visit below its verbs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from sojourn.cookie import Codec, cookie_values, other_places
from sojourn.data import SessionData
from sojourn.device import Device
from sojourn.errors import InvalidInput, InvalidToken, SojournError
from sojourn.log import get_logger
from sojourn.service.adopted import AdoptedCookie, successor
from sojourn.service.rules import Request, Rules
from sojourn.service.steps import VisitStep
from sojourn.session import Begun, Check, Gone, GoneReason, Rotate, Session
from sojourn.token import TokenKind

log = get_logger(__name__)

REMEMBER = "sojourn:remember"
"""The key under which data keeps whether the cookie outlives the browser, where a sign-in said so."""


class Replaced:
    """The session that a sign-in replaces, until the response leaves; `own`: its data is kept."""

    def __init__(self, session: Session, check: Check, *, own: bool) -> None:
        self.session, self.check, self.own = session, check, own


class OpenVisit:
    """One request's session.

    Attributes:
        data: what the application stores; changes are saved by `commit`.
        session: the live session, or None.
        gone: why there is none, though the request brought a cookie.
        asked: whether anybody has asked who is there, so that the response depends on the cookie.
        varied: whether the response says so.
        fault: why the session could not be looked up; set by `fail`.
    """

    # On the class, for every request makes one, and hardly any changes more than two of these.
    session: Session | None = None
    gone: Gone | None = None
    asked = False
    varied = False
    fault: SojournError | None = None
    _token: str | None = None
    _more: tuple[str, ...] = ()  # tokens of further cookies of our name, not looked up yet
    _stale = False  # a cookie of our name, beside the live one, is worth nothing
    _set_cookie: str | None = None
    _cookieless = False  # the sign-in of this request gives a token alone
    _sliding = False
    _adopted: AdoptedCookie | None = None  # what the token came from, if not from ours
    _clear_cookie: str | None = None
    _committed = False
    _saves = False
    # In a tentative request: what is done when the response leaves, and what is undone if none does.
    _rotation: Rotate | None = None
    _replaced: Replaced | None = None
    _leaving: str | None = None  # the impersonated session that was left
    _made: tuple[str, ...] = ()

    def __init__(self, rules: Rules, codec: Codec, request: Request) -> None:
        self.rules = rules
        self.data = SessionData()
        self.user_key = rules.user_key
        self._codec = codec
        self._request = request
        if request.token is None:
            try:
                self._read_cookie()
            except InvalidInput as fault:  # the header is longer than we look at
                self.fail(fault)
        else:
            self._token = request.token

    @property
    def _device(self) -> Device:
        describe = self._request.describe
        return Device(ip=self._request.origin.ip) if describe is None else describe()

    def _read_cookie(self) -> None:
        if not self._request.cookies:
            return
        tokens: list[str] = []
        worthless = 0
        for name in self.rules.cookie.read_as(self._request.origin.https):
            for value in cookie_values(self._request.cookies, name):
                try:
                    tokens.append(self._codec.decode(value))
                except InvalidToken:
                    worthless += 1
        if tokens:
            self._token = tokens[0]
            if worthless or len(tokens) > 1:
                self._stale = worthless > 0
                self._more = tuple(dict.fromkeys(tokens))[1:]
            return
        if worthless:
            self.gone = Gone(reason=GoneReason.FORGED)
            self._stale = worthless > 1  # a single one is replaced when there is a better
        for adopted in self.rules.adopted:
            for value in cookie_values(self._request.cookies, adopted.name):
                with contextlib.suppress(InvalidToken):
                    self._token = adopted.codec.decode(value)
                    self._adopted, self.gone = adopted, None
                    return

    @property
    def bearer(self) -> str | None:
        """What a client of an API sends as `Authorization: Bearer …`, where the rules have `header_tokens`.
        A secret: give it to nobody else, and never log it."""
        if self.session is None or self._token is None:
            return None
        if self._rotation is not None and self._rotation.token is not None:
            return self._rotation.token  # good once the response leaves
        ours = self._token.startswith(TokenKind.SESSION.value)
        return self._token if ours else self._codec.encode(self._token)

    def fail(self, fault: SojournError) -> None:
        """Note that the session could not be looked up: who asks for it is told so."""
        self.fault = self.data.fault = fault

    @property
    def user_id(self) -> str | None:
        """Who is signed in, if anybody."""
        return None if self.session is None else self.session.user_id

    @property
    def token(self) -> str | None:
        """The session's token, to hand to another service of yours. Never show or log it."""
        return None if self.session is None else self._token

    @property
    def impersonator(self) -> str | None:
        """Who really acts here, if somebody acts as the user. Show it on every page."""
        return None if self.session is None else self.session.impersonator

    def recent(self, max_age: int, level: int = 1) -> bool:
        """Tell whether the user proved who they are at most `max_age` ms ago, at this level or above."""
        session = self.session
        return (
            session is not None
            and session.user_id is not None
            and session.level >= level
            and session.at - session.authenticated_at <= max_age
        )

    def open(self) -> VisitStep[None]:
        """Look the session up, if the request brought a cookie that was signed here."""
        check = self.check
        if check is None:
            return
        rest = self.found((yield "check", check))
        if rest is not None:
            yield from rest

    @property
    def check(self) -> Check | None:
        """What `open` asks, for who asks without it; None: there is nothing to look up."""
        if self._token is None:
            return None
        touch = not self._request.path.startswith(self.rules.no_touch) or not self.rules.no_touch
        signed = self._request.token is None
        describe = self._request.describe
        return Check(self._token, touch, self._adopted is not None, signed, describe)

    def found(self, found: Session | Gone) -> VisitStep[Any] | None:
        """Take what `check` was answered; return what is left to do, hardly ever anything."""
        if isinstance(found, Gone):
            self.gone = found
            if self._more:
                return self._look_further()
            self._token = None
            # Of one that nobody knows, the session may be taken over yet.
            if found.reason not in (GoneReason.ABSENT, GoneReason.FORGED):
                self._let_go()
            return None
        self.session = found
        self.data.replace(found.data)
        if self._adopted is None or self._token is None:
            return None
        return self._rotate(self.rules.grace, None, successor(self._codec, self._token))

    def _rotate(
        self, grace: int, level: int | None, token: str | None = None
    ) -> VisitStep[Session | None]:
        raise NotImplementedError  # pragma: no cover - of RequestSession

    def _look_further(self) -> VisitStep[None]:
        """Try the other cookies of our name, which browsers send beside one of an older path or domain
        (RFC 6265, 5.4). The live one wins."""
        self._stale = True
        for token in self._others():
            self._token = token
            check = self.check
            assert check is not None
            found: Session | Gone = yield "check", check
            if isinstance(found, Session):
                self.session, self.gone = found, None
                self.data.replace(found.data)
                return
        self._token = None

    def _others(self) -> Iterator[str]:
        """Yield the tokens of our other cookies, each once."""
        while self._more:
            token, *rest = self._more
            self._more = tuple(rest)
            yield token

    def _let_go(self) -> None:
        """Delete the adopted cookie with the response, unless ours has the same name."""
        origin = self._request.origin
        if self._adopted is not None and self._adopted.name != self.rules.cookie.sent_as(
            origin.https
        ):
            self._clear_cookie = self._adopted.clear(https=origin.https)

    def _cleared(self) -> list[str]:
        """Take the cookies of our name back that are worth nothing, wherever they may have been set; and
        give the live one again, which some browsers take for one of them."""
        cookie, https = self.rules.cookie, self._request.origin.https
        if not self._stale or (self.session is None and self._set_cookie is None):
            return []
        request = self._request
        host = (request.header("host") if request.header is not None else None) or ""
        places = other_places(cookie, https=https, host=host, path=request.path)
        if cookie.read_as(https)[-1] != cookie.sent_as(
            https
        ):  # the one with `__Host-`, from before
            old = f"{cookie.read_as(https)[-1]}="
            places += [f"{old}; Path=/; Max-Age=0; Secure"] if old in request.cookies else []
        if places and self._set_cookie is None:
            self._set_again()
        return places

    def _give(self, begun: Begun) -> None:
        cookie, https = self.rules.cookie, self._request.origin.https
        self._let_go()
        if self._cookieless:
            self._set_cookie = None
            return
        if not https and (cookie.is_secure(https) or cookie.needs_secure):
            log.warning(
                "cookie_will_be_dropped",
                name=cookie.name,
                hint="Browsers take this cookie over HTTPS alone (Secure, SameSite=None or Partitioned), "
                "and the request came over HTTP. Behind a proxy that ends TLS, name it in "
                "trusted_proxies and let it send X-Forwarded-Proto.",
            )
        self._set_cookie = self._written(begun.session, begun.token)

    def rewrite_cookie(self) -> None:
        """Write a cookie that is about to be given anew, as the rules are now."""
        if self._set_cookie is not None and self.session is not None and self._token is not None:
            self._set_cookie = self._written(self.session, self._token)

    def renew_cookie(self) -> None:
        """Send the cookie again, from now on for as long as the session may lie unused."""
        self._sliding = True
        self._set_again()

    def _set_again(self) -> None:
        """Give the live session's cookie, unless the sign-in asked for none."""
        if self.session is not None and self._token is not None and not self._cookieless:
            self._set_cookie = self._written(self.session, self._token)

    def _written(self, session: Session, token: str) -> str:
        left = session.expires_at - session.at
        cookie = self.rules.cookie
        remember = dict.get(self.data, REMEMBER, self.data.stored.get(REMEMBER))
        if isinstance(remember, bool) and remember != cookie.persistent:
            cookie = replace(cookie, persistent=remember)
        return cookie.set(
            self._codec.encode(token),
            https=self._request.origin.https,
            max_age=max(1, (min(left, session.idle_timeout) if self._sliding else left) // 1000),
        )
