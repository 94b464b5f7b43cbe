"""People and their own sessions: `/api/user/active-sessions`, wherever it is served.

    people = People(desk.sessions, desk.codec, rules=desk.rules)      in an application
    status, headers, body = people.respond(asked(…))

A person is known by their cookie, or by `Authorization: Bearer sjs_…`. A change that a cookie vouches
for must come from a page of our own origin, as far as the browser says. Nothing here fails without a
word that helps: a missing table is an empty list that says so, a store that is down says when to ask
again; the log is told each once, and once more when it is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Struct

from sojourn.cookie import Codec, cookie_values
from sojourn.device import Device
from sojourn.errors import (
    Forbidden,
    InvalidInput,
    InvalidToken,
    Overloaded,
    SojournError,
    StoreBroken,
    StoreError,
    TableMissing,
    Unauthenticated,
)
from sojourn.idempotency import Presented, presented
from sojourn.log import get_logger
from sojourn.origin import Origin, is_elsewhere
from sojourn.people.sessions import end_one, end_others, listing, rename
from sojourn.people.verbs import verbs
from sojourn.people.wire import (
    ActiveSessionsQuery,
    DeviceName,
    Renamed,
    SignedOut,
    active_sessions,
    for_people,
    nothing_set_up,
    words_of_ending,
)
from sojourn.service.request_session import Request, RequestSession, Rules, VisitStep, run
from sojourn.session import Gone, GoneReason, Sessions
from sojourn.text import plain as readable_text
from sojourn.token import TokenKind, hash_token, is_whole
from sojourn.wire.bodies import Done, Name
from sojourn.wire.problems import answer_problem, crash, invalid, refuse
from sojourn.wire.proof import wrong_kind
from sojourn.wire.reply import SECURITY, Reply, done, encode, plain, replayed
from sojourn.wire.sessions import gone_problem

log = get_logger(__name__)

BASE = "/api/user/active-sessions"
OTHERS = BASE + "/logout-others"
LIVE = BASE + "/live"

BODY_MAX = 4_096
"""Bytes of a body that are read: a name of a device."""
QUERY_FIELDS_MAX = 10
PREFLIGHT_AGE = 600  # seconds for which a browser need not ask again
_CHALLENGE = (b"www-authenticate", b'Bearer realm="sojourn session"')

PeopleAnswer = tuple[int, list[tuple[str, str]], bytes]
T = TypeVar("T")
Operation: TypeAlias = Callable[[RequestSession], VisitStep[T]]


class PersonRequest(Struct, frozen=True, kw_only=True):
    """What is to be known of a request. `path` as it was sent, from `/api` on; headers that are
    missing are empty: Cookie, Authorization, Host, Sec-Fetch-Site, Origin, User-Agent,
    Accept-Language and Idempotency-Key."""

    method: str
    path: str
    origin: Origin
    query: str = ""
    cookies: str = ""
    authorization: str = ""
    host: str = ""
    site: str = ""
    sender: str = ""
    agent: str = ""
    languages: str = ""
    key: str = ""
    body: bytes = b""


def asked(
    method: str,
    path: str,
    query: str,
    header: Callable[[str], str | None],
    origin: Origin,
    *,
    body: bytes = b"",
) -> PersonRequest:
    """Read a request of any framework; `header` looks a header up by its name in lower case. `body`: its
    first BODY_MAX bytes, and one more where there are more."""
    return PersonRequest(
        method=method,
        path=path,
        query=query,
        origin=origin,
        cookies=header("cookie") or "",
        authorization=header("authorization") or "",
        host=header("host") or "",
        site=header("sec-fetch-site") or "",
        sender=header("origin") or "",
        agent=header("user-agent") or "",
        languages=header("accept-language") or "",
        key=header("idempotency-key") or "",
        body=body,
    )


class People:
    """Answers what people ask about their own sessions. Safe from several threads.

    Attributes:
        within: how recent a sign-in it takes to end other sessions, in ms; None: any.
        trusted_origins: other origins whose pages may send changes.
    """

    def __init__(
        self,
        sessions: Sessions,
        codec: Codec,
        *,
        rules: Rules | None = None,
        within: int | None = None,
        trusted_origins: Collection[str] = (),
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        self.sessions = sessions
        self.verbs = verbs(sessions)
        self._codec = codec
        self._rules = rules or Rules()
        self.within = within
        self._trusted = frozenset(trusted_origins)
        self._trouble = FaultLog(broken)

    def respond(self, request: PersonRequest) -> PeopleAnswer:
        """Answer a request: status, headers, body. Never raises."""
        reply = self.reply(request)
        headers = [(name.decode(), value.decode()) for name, value in reply.headers]
        return reply.status, headers, reply.body

    async def respond_async(self, request: PersonRequest) -> PeopleAnswer:
        """Answer a request from an event loop, on a thread."""
        return await asyncio.to_thread(self.respond, request)

    def reply(self, request: PersonRequest) -> Reply:
        """Answer a request as this package does."""
        return self.shared(request, self._reply(request))

    def _reply(self, request: PersonRequest) -> Reply:
        try:
            if request.method == "OPTIONS":
                return _preflight(request.path)
            deed, ending = self._find(request)
            return self._carry_out(request, deed, ending=ending)
        except SojournError as fault:
            return refuse(fault)
        except Exception as fault:  # noqa: BLE001 - the last resort: logged, and answered without a trace
            return crash(fault)

    def permits(self, sender: str) -> bool:
        """Tell whether pages of this origin, as the header Origin says, may read what is answered."""
        return sender in self._trusted

    def shared(self, request: PersonRequest, reply: Reply) -> Reply:
        """Let the page that asks read an answer, if its origin is trusted (Fetch standard, 3.3)."""
        if not self._trusted:
            return reply
        headers = list(reply.own)
        headers.append((b"vary", b"Origin"))
        if self.permits(request.sender):
            headers += [(name.encode(), value.encode()) for name, value in cors(request.sender)]
        return msgspec.structs.replace(reply, own=headers)

    def note(self, fault: SojournError) -> None:
        """Tell the log of a fault of the store's, once."""
        self._trouble.note(fault)

    def visit(self, request: PersonRequest, *, change: bool, touch: bool = True) -> RequestSession:
        """Begin a visit. Raises Unauthenticated where nothing says who asks, and Forbidden where a
        page of another origin makes a browser send a change."""
        token, by_cookie = self._proof(request)
        if by_cookie and change and self._comes_from_elsewhere(request):
            raise Forbidden(
                "This came from a page of another site, so it was not carried out.",
                code="cross_origin",
                hint="Only pages of this site's own origin may do this, and those that its setting "
                "trusted_origins names.",
            )
        rules = self._rules if touch else msgspec.structs.replace(self._rules, no_touch=("/",))
        asking = Request(
            cookies=request.cookies,
            origin=request.origin,
            path=request.path,
            token=token,
            describe=lambda: Device(ip=request.origin.ip, user_agent=readable_text(request.agent)),
        )
        return RequestSession(rules, self._codec, asking)

    def _comes_from_elsewhere(self, request: PersonRequest) -> bool:
        return is_elsewhere(
            host=request.host, site=request.site, sender=request.sender, trusted=self._trusted
        )

    def _proof(self, request: PersonRequest) -> tuple[str | None, bool]:
        """Return the bearer token, if it is a session's, and whether it is the cookie that counts.

        Another Authorization header may be a proxy's, or the application's own: then the cookie counts.
        """
        scheme, _, token = request.authorization.partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        if bearer.startswith(TokenKind.SESSION.value):
            return bearer, False
        ours = self._rules.cookie.read_as(request.origin.https)
        names = (*ours, *(adopted.name for adopted in self._rules.adopted))
        if any(True for each in names for _ in cookie_values(request.cookies, each)):
            return None, True
        if bearer:
            raise wrong_kind("a person's session token: sjs_…")
        raise Unauthenticated("You are not signed in.", hint="Sign in, then come back.")

    def token_hash(self, request: PersonRequest) -> bytes | None:
        """Return the hash of the token that a request shows; None where it shows none that could be good.
        Asks nobody."""
        try:
            token, _ = self._proof(request)
            if token is None:
                names = self._rules.cookie.read_as(request.origin.https)
                values = (v for each in names for v in cookie_values(request.cookies, each))
                token = next(filter(None, map(self._signed, values)), None)
        except SojournError:
            return None
        return hash_token(token) if token is not None and is_whole(token) else None

    def _signed(self, value: str) -> str | None:
        try:
            return self._codec.decode(value)
        except InvalidToken:
            return None

    def _find(self, request: PersonRequest) -> tuple[Operation[Reply], bool]:
        """Return what is to be done, and whether it is a change. Raises SojournError."""
        if request.path == BASE:
            _expect(request, "GET")
            query = _query(request.query)
            return lambda visit: self._list(visit, query), False
        if request.path == OTHERS and request.method != "DELETE":
            _expect(request, "POST")
            once = _once(request)
            return lambda visit: self._end_others(visit, once), True
        session_id = _session_id(request.path)
        if request.method == "PATCH":
            return lambda visit: self._rename(visit, session_id, request.body), True
        _expect(request, "DELETE", "PATCH")
        return lambda visit: self._end_one(visit, session_id), True

    def carry_out(
        self, request: PersonRequest, deed: Operation[T], *, change: bool
    ) -> tuple[T | Gone, list[str]]:
        """Do what somebody asks; return what came of it, or why they are signed out, and the Set-Cookie
        headers to send. Raises SojournError; a fault of the store's is told to the log, once."""
        try:
            visit = self.visit(request, change=change)
            done = run(_steps(visit, deed), self.verbs)
        except (StoreError, Overloaded) as fault:
            self._trouble.note(fault)
            raise
        if _was_asked(visit, done[0]):
            self._trouble.over()
        return done

    def _carry_out(self, request: PersonRequest, deed: Operation[Reply], *, ending: bool) -> Reply:
        try:
            reply, cookies = self.carry_out(request, deed, change=ending)
        except TableMissing as fault:
            if not ending:
                return plain(encode(nothing_set_up()), b"application/json")
            return refuse(for_people(fault, ending=ending))
        except (StoreError, Overloaded) as fault:
            return refuse(for_people(fault, ending=ending))
        if isinstance(reply, Gone):
            return answer_problem(gone_problem(reply), _CHALLENGE)
        headers = [(b"set-cookie", each.encode()) for each in cookies]
        return msgspec.structs.replace(reply, own=[*reply.own, *headers])

    def _list(self, visit: RequestSession, query: ActiveSessionsQuery) -> VisitStep[Reply]:
        found = yield from listing(visit, after=query.cursor, limit=query.limit)
        return plain(encode(active_sessions(found)), b"application/json")

    def _rename(self, visit: RequestSession, session_id: str, body: bytes) -> VisitStep[Reply]:
        name = _name(body)
        yield from rename(visit, session_id, name.label)
        return done(Done(data=Renamed(id=session_id, name=name.label)))

    def _end_one(self, visit: RequestSession, session_id: str) -> VisitStep[Reply]:
        ending = yield from end_one(visit, session_id, within=self.within)
        said = words_of_ending(ending, others=False)
        data = SignedOut(ended=ending.ended, seats=ending.seats)
        return done(Done(data=data, message=said))

    def _end_others(self, visit: RequestSession, once: Presented | None) -> VisitStep[Reply]:
        ending = yield from end_others(visit, within=self.within, once=once)
        said = words_of_ending(ending, others=True)
        data = SignedOut(ended=ending.ended, seats=ending.seats)
        reply = done(Done(data=data, message=said))
        return replayed(reply) if ending.again else reply


def _steps(visit: RequestSession, deed: Operation[T]) -> VisitStep[tuple[T | Gone, list[str]]]:
    yield from visit.open()
    if visit.session is None and visit.gone is not None:
        return visit.gone, []
    done = yield from deed(visit)
    given = yield from visit.commit()
    return done, [value for name, value in given if name.lower() == "set-cookie"]


def _was_asked(visit: RequestSession, done: object) -> bool:
    """Tell whether the store has answered, and not only what can be told without it."""
    gone = done if isinstance(done, Gone) else None
    return visit.session is not None or (gone is not None and gone.reason is not GoneReason.FORGED)


def cors(origin: str) -> list[tuple[str, str]]:
    """Return the headers that let pages of an origin read an answer, cookies and all."""
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "Date, Idempotency-Replayed, Retry-After"),
    ]


def _preflight(path: str) -> Reply:
    """Say which methods and headers a path takes; whether a page may use them is for `shared` to say."""
    method = "GET" if path == BASE else "POST" if path == OTHERS else "DELETE, PATCH"
    headers = [
        (b"allow", f"{method}, OPTIONS".encode()),
        (b"access-control-allow-methods", method.encode()),
        (
            b"access-control-allow-headers",
            b"accept, authorization, content-type, idempotency-key",
        ),
        (b"access-control-max-age", str(PREFLIGHT_AGE).encode()),
    ]
    return Reply(204, [*headers, *SECURITY], b"")


class FaultLog:
    """Tells the log of what is wrong once, however many people ask meanwhile, and when it is over.
    `broken` is called each time that somebody meets a store that does not mend by itself."""

    def __init__(self, broken: Callable[[], None]) -> None:
        self._broken = broken
        self._lock = threading.Lock()
        self._present: str | None = None

    def note(self, fault: SojournError) -> None:
        if isinstance(fault, StoreBroken):
            self._broken()
        kind = type(fault).__name__
        with self._lock:
            if self._present == kind:
                return
            self._present = kind
        event = (
            "sessions_table_missing" if isinstance(fault, TableMissing) else "sessions_unavailable"
        )
        log.error(event, error=fault.message, hint=fault.hint, code=fault.code)

    def over(self) -> None:
        if self._present is None:
            return
        with self._lock:
            was, self._present = self._present, None
        if was is not None:
            log.info("sessions_available_again")


def _expect(request: PersonRequest, *methods: str) -> None:
    if request.method not in methods:
        said = " and ".join(methods)
        raise InvalidInput(f"This path takes {said}.", code="method_not_allowed")


def _once(request: PersonRequest) -> Presented | None:
    """Return the key that a request came with, if it did. Raises InvalidInput."""
    if not request.key:
        return None
    said = (request.method.encode(), request.path.encode(), request.query.encode())
    return presented(request.key.encode(), *said)


def _name(body: bytes) -> DeviceName:
    try:
        return msgspec.json.decode(small(body), type=DeviceName)
    except msgspec.ValidationError as fault:
        raise invalid(fault, "") from None
    except msgspec.DecodeError:
        raise InvalidInput("The body is no JSON.") from None


def small(body: bytes) -> bytes:
    """Return a body that is no longer than what we read of it. Raises InvalidInput."""
    if len(body) > BODY_MAX:
        raise InvalidInput(f"A body has {BODY_MAX:,} bytes at most here.", code="body_too_large")
    return body


def _query(text: str) -> ActiveSessionsQuery:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise InvalidInput("The query string cannot be read.") from None
    if len(dict(pairs)) < len(pairs):
        raise InvalidInput("Something in the query string is given more than once.")
    try:
        return msgspec.convert(dict(pairs), ActiveSessionsQuery, strict=False)
    except msgspec.ValidationError as fault:
        raise invalid(fault, "query") from None


def _session_id(path: str) -> str:
    """Read the id at the end of a path. Raises NotFound's kind where there is none."""
    raw = path.removeprefix(BASE + "/")
    if raw == path or "/" in raw:
        raise InvalidInput("There is nothing at this path.", code="not_found")
    try:
        name: str = msgspec.convert(unquote(raw, errors="strict"), Name)
    except UnicodeDecodeError:
        raise InvalidInput("sessionId: not UTF-8, percent-encoded.") from None
    except msgspec.ValidationError as fault:
        raise invalid(fault, "sessionId") from None
    return name
