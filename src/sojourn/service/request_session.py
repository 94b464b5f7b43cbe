"""One request's session: opened from its cookie, used by the application, committed before the
response starts.

The logic is written once, as generators that yield what they want of `session.Sessions` and are sent
the answers; `run` carries them out one call at a time, `run_async` through a batcher. Adapters hand in
the cookie header and put the headers of `commit` on the response.

    open ──► (application: data, begin, rotate, elevate, end …) ──► commit ──► Set-Cookie?

A visit without a cookie asks the store nothing. Reading costs one look-up, and one more statement when
a touch is due; only a change of data writes, and only a new or an ended token sets the cookie.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from sojourn.cookie import Codec, CookieOptions, cookie_values
from sojourn.data import SessionData
from sojourn.device import Device
from sojourn.errors import Conflict, InvalidInput, InvalidToken, Unauthenticated
from sojourn.log import get_logger
from sojourn.origin import Origin
from sojourn.service.adopted import AdoptedCookie as AdoptedCookie
from sojourn.service.adopted import RawTokens as RawTokens
from sojourn.service.adopted import successor
from sojourn.session import (
    ROTATION_GRACE,
    AtLimit,
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rotate,
    Save,
    Session,
    Sessions,
    Timeouts,
    TooMany,
)

log = get_logger(__name__)

T = TypeVar("T")
Step: TypeAlias = Generator[tuple[str, Any], Any, T]
"""Logic that yields (verb, request) and is sent the answer."""
Verb: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]

OWN_SESSION = "sojourn:own"
"""The key under which the data of an impersonated session names the impersonator's own."""
FAULT_STATUS = 500
"""From this status on, a response does not save what its request changed."""


class Rules(Struct, frozen=True, kw_only=True):
    """How an application wants its sessions.

    Attributes:
        timeouts: of a signed-in user's sessions; `visitors` of those without a user.
        limit: how many sessions a user may have at once; None: any number.
        grace: ms for which a rotated token still works, for tabs whose requests were under way.
        no_touch: prefixes of paths whose requests do not count as use, such as a page's own polling.
        adopted: cookies from before the move, looked at where there is none of ours. The session that
            answers gets a token of ours at once, and the browser our cookie in the old one's place.
    """

    cookie: CookieOptions = CookieOptions()
    timeouts: Timeouts = Timeouts()
    visitors: Timeouts = Timeouts()
    limit: int | None = None
    at_limit: AtLimit = AtLimit.END_OLDEST
    grace: int = ROTATION_GRACE
    no_touch: tuple[str, ...] = ()
    adopted: tuple[AdoptedCookie, ...] = ()


class Request(Struct, frozen=True, kw_only=True):
    """What a visit needs to know of a request.

    Attributes:
        cookies: the Cookie header, "" if there is none.
        token: what was sent as `Authorization: Bearer sjs_…`. It goes before cookies, and none is set.
        describe: says on which device a session begins; asked when one does.
    """

    cookies: str
    origin: Origin
    path: str = "/"
    token: str | None = None
    describe: Callable[[], Device] | None = None


class Visit:
    """One request's session.

    Attributes:
        data: what the application stores; changes are saved by `commit`.
        session: the live session, or None.
        gone: why there is none, though the request brought a cookie.
    """

    def __init__(self, rules: Rules, codec: Codec, request: Request) -> None:
        self.rules = rules
        self.data = SessionData()
        self.session: Session | None = None
        self.gone: Gone | None = None
        self._codec = codec
        self._request = request
        self._token: str | None = None
        self._set_cookie: str | None = None
        self._adopted: AdoptedCookie | None = None  # what the token came from, if not from ours
        self._clear_cookie: str | None = None
        self._committed = self._saves = False
        if request.token is None:
            self._read_cookie()
        else:
            self._token = request.token

    @property
    def _device(self) -> Device:
        describe = self._request.describe
        return Device(ip=self._request.origin.ip) if describe is None else describe()

    def _read_cookie(self) -> None:
        name = self.rules.cookie.sent_as(self._request.origin.https)
        for value in cookie_values(self._request.cookies, name):
            try:
                self._token = self._codec.decode(value)
            except InvalidToken:
                self.gone = Gone(reason=GoneReason.FORGED)
            else:
                self.gone = None
                return
        for adopted in self.rules.adopted:
            for value in cookie_values(self._request.cookies, adopted.name):
                with contextlib.suppress(InvalidToken):
                    self._token = adopted.codec.decode(value)
                    self._adopted, self.gone = adopted, None
                    return

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

    def open(self) -> Step[None]:
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
        return Check(self._token, touch, self._adopted is not None, signed)

    def found(self, found: Session | Gone) -> Step[Any] | None:
        """Take what `check` was answered; return what is left to do, hardly ever anything."""
        if isinstance(found, Gone):
            self.gone = found
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

    def _let_go(self) -> None:
        """Take the old cookie back with the response; unless ours, of the same name, replaces it."""
        origin = self._request.origin
        if self._adopted is not None and self._adopted.name != self.rules.cookie.sent_as(
            origin.https
        ):
            self._clear_cookie = self._adopted.clear(https=origin.https)

    def begin(
        self,
        user_id: str,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
    ) -> Step[Session | TooMany]:
        """Sign a user in, under a new token; the one the browser had is worth nothing from now on.

        The data is kept, unless it was another user's. TooMany: the user has as many sessions as
        allowed, and the rules do not end the oldest; nothing has changed.
        """
        if not user_id:
            raise InvalidInput("Whose session is it? The user's id is empty.")
        self._before_response()
        old = self.session
        own = old is None or (old.user_id in (None, user_id) and old.impersonator is None)
        changes = self.data.delta()
        begun: Begun | TooMany = yield (
            "begin",
            Begin(
                user_id=user_id,
                data=changes.set if own else {},
                timeouts=timeouts or self.rules.timeouts,
                device=self._device,
                level=level,
                replaces=None if old is None else old.id,
                ending=tuple(ending),
                limit=self.rules.limit,
                at_limit=self.rules.at_limit,
            ),
        )
        if isinstance(begun, TooMany):
            return begun
        self._adopt(begun)
        if own:
            self.data.touch()
            for key in changes.unset:
                self.data.pop(key, None)
        return begun.session

    def impersonate(self, user_id: str) -> Step[Session]:
        """Act as another user, for an hour at most, visibly (`impersonator`). Whether the user of this
        session may do so is for the application to decide, before it asks."""
        own = self._signed_in()
        self._before_response()
        if own.impersonator is not None or own.user_id == user_id:
            raise Conflict("Somebody who is being impersonated cannot impersonate.")
        yield from self.save()  # what this request has put into one's own session stays there
        begun = yield (
            "begin",
            Begin(
                user_id=user_id,
                data={OWN_SESSION: own.id},
                timeouts=self.rules.timeouts,
                device=self._device,
                level=own.level,
                impersonator=own.user_id,
            ),
        )
        return self._adopt(begun)

    def stop_impersonating(self) -> Step[Session | None]:
        """End the impersonation and return to one's own session, under a new token. None: it has
        ended meanwhile, and nobody is signed in any more."""
        session = self._signed_in()
        self._before_response()
        own_id = session.data.get(OWN_SESSION)
        if session.impersonator is None or not isinstance(own_id, str):
            raise Conflict("Nobody is being impersonated here.")
        begun: Begun | None = yield "rotate", Rotate(id=own_id, grace=0)
        yield "end", End(ids=(session.id,), reason="impersonation_ended")
        if begun is None or begun.session.user_id != session.impersonator:
            self._drop("impersonation_ended")
            return None
        return self._adopt(begun)

    def begin_visitor(self) -> Step[Session]:
        """Begin a session without a user, even if there is nothing to store yet."""
        self._before_response()
        begun: Begun = yield (
            "begin",
            Begin(data=self.data.delta().set, timeouts=self.rules.visitors, device=self._device),
        )
        return self._adopt(begun)

    def rotate(self, *, grace: int | None = None) -> Step[Session | None]:
        """Give the session a new token; the old one works for a short grace, in ms."""
        return (yield from self._rotate(self.rules.grace if grace is None else grace, None))

    def elevate(self, level: int) -> Step[Session | None]:
        """Note that the user has just proved who they are again, at this level (step-up). The old
        token dies at once (ASVS 5.0 7.2.4)."""
        self._signed_in()
        return (yield from self._rotate(0, level))

    def _rotate(
        self, grace: int, level: int | None, token: str | None = None
    ) -> Step[Session | None]:
        if self.session is None:
            raise Unauthenticated("There is no session here.")
        self._before_response()
        begun: Begun | None = yield (
            "rotate",
            Rotate(id=self.session.id, grace=grace, level=level, token=token),
        )
        if begun is None:
            self._lose()
            return None
        self.session, self._token = begun.session, begun.token
        self._give(begun)
        return begun.session

    def end(self, reason: str = "signed_out") -> Step[None]:
        """Sign out: end the session, forget its data, take the cookie back."""
        if self.session is not None:
            yield "end", End(ids=(self.session.id,), reason=reason)
        self._drop(reason)

    def end_others(self, reason: str = "signed_out_elsewhere") -> Step[list[str]]:
        """End the user's other sessions; return their ids."""
        session = self._signed_in()
        ended: list[str] = yield (
            "end",
            End(user_id=session.user_id, keep=(session.id,), reason=reason),
        )
        return ended

    def end_all(self, reason: str = "signed_out_everywhere") -> Step[list[str]]:
        """End all of the user's sessions, this one included; return their ids."""
        session = self._signed_in()
        ended: list[str] = yield "end", End(user_id=session.user_id, reason=reason)
        self._drop(reason)
        return ended

    def others(self) -> Step[list[Session]]:
        """List the user's other live sessions, newest first."""
        session = self._signed_in()
        found: list[Session] = yield "of", session.user_id
        return [each for each in found if each.id != session.id]

    def commit(self, status: int = 200) -> Step[list[tuple[str, str]]]:
        """Save what has changed; return the headers that the response must carry.

        A visitor's first data begins a session. A response that reports a fault (5xx) saves nothing.
        A session that has ended meanwhile stays ended: what was to be saved is dropped.
        """
        if status < FAULT_STATUS:
            yield from self.save()
        return self.finish(status)

    @property
    def unchanged(self) -> bool:
        """Tell whether `commit` would ask nothing: most requests only read."""
        return not self.data.looks_modified

    def finish(self, status: int = 200) -> list[tuple[str, str]]:
        """Return the headers of the response, once there is nothing left to save; see `commit`."""
        self._committed, self._saves = True, status < FAULT_STATUS
        given = [each for each in (self._set_cookie, self._clear_cookie) if each is not None]
        headers = [("Vary", "Cookie")] if given or self.data.accessed else []
        if given and self._request.token is None:
            headers += [("Set-Cookie", each) for each in given]
            headers.append(("Cache-Control", 'no-cache="Set-Cookie"'))
        return headers

    @property
    def unsaved(self) -> bool:
        """Tell whether data was changed after the commit, which was too late."""
        return self._saves and self.data.looks_modified

    def save(self) -> Step[None]:
        """Save what has changed, now. A session that has ended meanwhile stays ended."""
        changes = self.data.delta()
        if not changes:
            return
        if self.session is None:
            if changes.set and not self._committed:  # or its cookie would never arrive
                begun = yield (
                    "begin",
                    Begin(data=changes.set, timeouts=self.rules.visitors, device=self._device),
                )
                self._adopt(begun)
            return
        revision = yield (
            "save",
            Save(id=self.session.id, set=changes.set, unset=changes.unset),
        )
        if revision is None:
            log.info("save_after_end", session=self.session.id, keys=len(changes.set))
            self._lose()
        else:
            self.data.rebase(dict(self.data))

    def _before_response(self) -> None:
        if self._committed:
            raise Conflict(
                "The response has started, so the browser cannot be given a new token any more.",
                hint="Do this before the response, or before the WebSocket is accepted.",
            )

    def _signed_in(self) -> Session:
        if self.session is None or self.session.user_id is None:
            raise Unauthenticated("Nobody is signed in here.", hint="Sign in first.")
        return self.session

    def _adopt(self, begun: Begun) -> Session:
        self.session, self.gone, self._token = begun.session, None, begun.token
        self.data.replace(begun.session.data)
        self._give(begun)
        return begun.session

    def _give(self, begun: Begun) -> None:
        cookie, https = self.rules.cookie, self._request.origin.https
        if cookie.is_secure(https) and not https:
            log.warning(
                "cookie_will_be_dropped",
                cookie=cookie.name,
                hint="The cookie is Secure, but the request came over HTTP. Behind a proxy that ends "
                "TLS, name it in trusted_proxies and let it send X-Forwarded-Proto.",
            )
        session = begun.session
        self._let_go()
        self._set_cookie = cookie.set(
            self._codec.encode(begun.token),
            https=https,
            max_age=max(1, (session.expires_at - session.at) // 1000),
        )

    def _drop(self, reason: str) -> None:
        self._lose()
        self.gone = Gone(reason=GoneReason.ENDED, end_reason=reason)
        self._set_cookie = self.rules.cookie.clear(https=self._request.origin.https)
        self._let_go()

    def _lose(self) -> None:
        self.session = self._token = None
        self.gone = Gone(reason=GoneReason.ENDED)
        self.data.replace({})


def verbs(sessions: Sessions) -> Mapping[str, Verb]:
    """Return what steps may ask for, as functions of a batch."""
    return {
        "end": sessions.end,
        "begin": sessions.begin,
        "rotate": sessions.rotate,
        "save": sessions.save,
        "check": sessions.check,
        "of": lambda users: [sessions.of(user) for user in users],
    }


def run(step: Step[T], carry_out: Mapping[str, Verb]) -> T:
    """Carry a step out, here and now."""
    answer: Any = None
    fault: Exception | None = None
    while True:
        try:
            verb, request = step.send(answer) if fault is None else step.throw(fault)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
        answer, fault = None, None
        try:
            answer = carry_out[verb]([request])[0]
        except Exception as raised:  # noqa: BLE001 - the step is to see it where it asked
            fault = raised
        if isinstance(answer, Exception):
            answer, fault = None, answer


async def run_async(step: Step[T], submit: Callable[[str, Any], Awaitable[Any]]) -> T:
    """Carry a step out through a batcher."""
    answer: Any = None
    fault: Exception | None = None
    while True:
        try:
            verb, request = step.send(answer) if fault is None else step.throw(fault)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # StopIteration is not generic
        answer, fault = None, None
        try:
            answer = await submit(verb, request)
        except Exception as raised:  # noqa: BLE001 - the step is to see it where it asked
            fault = raised
