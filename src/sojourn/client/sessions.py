"""Sessions kept by a Sojourn server: `session.Sessions` over its API, for an application's backend.

Plain and synchronous, as the verbs of a store are. The requests of a batch go in parallel.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.client.connection import Connection, Question, Refusal, SessionProblem, fault_of
from sojourn.client.forks import renew_after_fork
from sojourn.client.transport import HttpxTransport, Transport
from sojourn.decoding import prepared
from sojourn.device import Device, check_label, moved_to, shortened
from sojourn.errors import InvalidToken, SojournError, StoreBroken, StoreUnavailable
from sojourn.log import get_logger
from sojourn.session import (
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rename,
    Rotate,
    Save,
    Session,
    TooMany,
)
from sojourn.text import plain
from sojourn.token import Secret, TokenKind, check_token

log = get_logger(__name__)

BASE = "/api/sessions"
PARALLEL = 16
"""Requests of one batch under way at once."""
TIMEOUT = 10.0  # seconds for one request and its answer, sent again or not
TEXT_MAX = 512  # characters of a device's description that are sent
LIST_MAX = 1_000
IDS_MAX = 100  # of sessions that one request ends by their ids
FOREIGN_MAX = 8_192  # characters of a token that another system made
OLDER = (404, 405)
"""What a server answers that does not have a call."""
_ID = re.compile(r"[0-9A-Za-z_-]{1,256}")

_Q = TypeVar("_Q")
_A = TypeVar("_A")


class _Device(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    name: str | None = None
    browser: str | None = None
    os: str | None = None
    kind: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    place: str | None = None


@prepared
class _Session(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    user_id: str | None
    revision: int
    created_at: datetime
    authenticated_at: datetime
    last_used_at: datetime
    at: datetime
    expires_in: float
    idle_in: float
    idle_timeout: float
    level: int
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    impersonator: str | None = None
    name: str | None = None
    device: _Device | None = None
    last_device: _Device | None = None

    def session(self) -> Session:
        """Return the session as the server's store told it: on the store's clock, not on ours."""
        at = _instant(self.at)
        return Session(
            id=self.id,
            user_id=self.user_id,
            data=self.data,
            revision=self.revision,
            created_at=_instant(self.created_at),
            authenticated_at=_instant(self.authenticated_at),
            last_used_at=_instant(self.last_used_at),
            idle_timeout=round(self.idle_timeout * 1000),
            idle_at=at + round(self.idle_in * 1000),
            expires_at=at + round(self.expires_in * 1000),
            device=_device(self.device),
            level=self.level,
            impersonator=self.impersonator,
            label=self.name,
            last_device=_device(self.last_device),
            at=at,
        )


@prepared
class _Told(Struct, frozen=True, kw_only=True):
    session: _Session


@prepared
class _Begun(Struct, frozen=True, kw_only=True):
    session: _Session
    token: str


@prepared
class _Saved(Struct, frozen=True, kw_only=True):
    revision: int


@prepared
class _Ended(Struct, frozen=True, kw_only=True):
    ids: list[str]


@prepared
class _Named(Struct, frozen=True, kw_only=True):
    id: str


@prepared
class _Noted(Struct, frozen=True, kw_only=True, rename="camel"):
    last_device: _Device


@prepared
class _Page(Struct, frozen=True, kw_only=True):
    items: list[_Session]
    next: str | None = None


class RemoteSessions:
    """Implements `session.Sessions` over the API of the server at `url`, with an API key of role app.

    `complete`: what is known here of a device beyond what it says, and how much of its address is sent.

    Safe from several threads; connects on first use. Beside StoreUnavailable and StoreBroken (which is
    also raised when the server does not accept the key), verbs raise InvalidInput.
    """

    parallel = 1  # a batch is sent over several connections as it is

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float = TIMEOUT,
        transport: Transport | HttpxTransport | None = None,
        complete: Callable[[Device], Device | None] | None = None,
    ) -> None:
        self._connection = Connection(
            url, key, connections=2 * PARALLEL, timeout=timeout, transport=transport
        )
        self._complete = complete
        self._older = False  # the server knows nothing of last devices
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        renew_after_fork(self)

    def check(self, checks: Sequence[Check]) -> list[Session | Gone]:
        """Look tokens up. One whose checksum is wrong is FORGED; the server is not asked."""
        return self._each(self._check, checks)

    def begin(self, begins: Sequence[Begin]) -> list[Begun | TooMany]:
        return self._each(self._begin, begins)

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        """Merge top-level keys. Saves of one session in a batch are applied in order."""
        return self._in_order(self._save, saves)

    def rotate(self, rotations: Sequence[Rotate]) -> list[Begun | None]:
        return self._in_order(self._rotate, rotations)

    def rename(self, named: Rename) -> bool:
        """Call the device of a user's session so; see `Store.rename`."""
        (done,) = self._each(self._rename, [named])
        return done

    def _rename(self, named: Rename) -> bool:
        check_label(named.label)
        body = {"userId": named.user_id, "name": named.label}
        try:
            return self._about(named.id, "PUT", "/name", body, _Named, again=True) is not None
        except Refusal as refusal:
            if refusal.status not in OLDER:
                raise
            raise StoreBroken(
                "The Sojourn server keeps no names of devices: it is older than this application.",
                hint="Upgrade the server.",
            ) from None

    def end(self, ends: Sequence[End]) -> list[list[str]]:
        """End sessions, and say which."""
        return self._each(self._end, ends)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        found: list[Session] = []
        limit = max(1, min(limit, LIST_MAX))
        after: dict[str, Any] = {}
        while True:
            query = {
                "userId": user_id,
                "newestFirst": "true",
                "data": "true",
                "limit": limit - len(found),
                **after,
            }
            question = Question(method="GET", path=BASE, query=query, again=True)
            (page,) = self._each(lambda each: self._connection.ask(each, _Page), [question])
            found += [each.session() for each in page.items]
            if page.next is None or not page.items or len(found) >= limit:
                return found
            after = {"after": page.next}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        self._connection.close()

    def forked(self) -> None:
        """Begin anew in a forked process: its threads are the parent's."""
        self._lock = threading.Lock()
        self._pool = None

    def _check(self, check: Check) -> Session | Gone:
        if not _may_be_known(check):
            return Gone(reason=GoneReason.FORGED)
        query = {} if check.touch else {"touch": "false"}
        if check.adopted:
            query["adopted"] = "true"
        question = Question(
            method="GET",
            path=BASE + "/current",
            query=query,
            token=Secret(check.token),
            again=True,  # a touch only ever moves forward
        )
        try:
            session = self._connection.ask(question, _Told).session.session()
        except Refusal as refusal:
            if refusal.problem.code.startswith("session_"):
                return _gone(refusal.problem)
            raise
        noted = session.created_at < session.last_used_at == session.at
        if not noted or check.describe is None or self._older:
            return session
        return self._use_from(session, check.describe().tidy())

    def _use_from(self, session: Session, device: Device) -> Session:
        """Have noted what a session is used from, if that has changed, now that its use has been. Who cannot
        be told is no reason to keep somebody out."""
        before = session.last_device or session.device or Device()
        device = self._completed(device)
        if device.user_agent == before.user_agent and shortened(device.ip or "") == before.ip:
            return session  # the server keeps less of addresses than is known here
        moved = moved_to(before, device)
        if moved is None:
            return session
        try:
            noted = self._about(
                session.id, "PUT", "/last-device", _described(moved), _Noted, again=True
            )
        except Refusal as refusal:
            self._older = refusal.status in OLDER
            log.warning("use_not_noted", code=refusal.problem.code, older_server=self._older)
            return session
        except SojournError as fault:
            log.warning("use_not_noted", code=fault.code, error=fault.message)
            return session
        return (
            session if noted is None else replace(session, last_device=_device(noted.last_device))
        )

    def _completed(self, device: Device) -> Device:
        return (None if self._complete is None else self._complete(device)) or device

    def _begin(self, begin: Begin) -> Begun | TooMany:
        body = {
            "userId": begin.user_id,
            "data": begin.data,
            "timeouts": {
                "lifetime": begin.timeouts.lifetime / 1000,
                "idleTimeout": begin.timeouts.idle_timeout / 1000,
            },
            "device": None if begin.device is None else _described(self._completed(begin.device)),
            "level": begin.level,
            "impersonator": begin.impersonator,
            "replaces": begin.replaces,
            "ending": begin.ending,
            "limit": begin.limit,
            "atLimit": begin.at_limit,
        }
        try:
            told = self._connection.ask(Question(method="POST", path=BASE, body=body), _Begun)
        except Refusal as refusal:
            if refusal.problem.code != "session_limit":
                raise
            live = msgspec.json.decode(refusal.problem.sessions, type=tuple[_Session, ...])
            return TooMany(
                limit=refusal.problem.limit, sessions=tuple(each.session() for each in live)
            )
        return _begun(told)

    def _save(self, save: Save) -> int | None:
        body = {"set": save.set, "unset": save.unset}
        told = self._about(save.id, "PATCH", "", body, _Saved)
        return None if told is None else told.revision

    def _rotate(self, rotation: Rotate) -> Begun | None:
        body = {
            "grace": rotation.grace / 1000,
            "level": rotation.level,
            "token": rotation.token,
        }
        told = self._about(rotation.id, "POST", "/rotate", body, _Begun)
        return None if told is None else _begun(told)

    def _about(
        self,
        session_id: str,
        method: str,
        suffix: str,
        body: Any,
        kind: type[_A],
        *,
        again: bool = False,
    ) -> _A | None:
        """Ask something of a session by its id. None: it is gone, or no session ever had such an id."""
        if _ID.fullmatch(session_id) is None or session_id == "current":
            return None
        path = f"{BASE}/{session_id}{suffix}"
        question = Question(method=method, path=path, body=body, again=again)
        try:
            return self._connection.ask(question, kind)
        except Refusal as refusal:
            if refusal.problem.code == "session_unknown":
                return None
            raise

    def _end(self, end: End) -> list[str]:
        if end.ids is None or len(end.ids) <= IDS_MAX:
            return self._end_some(end)
        ended: list[str] = []
        for start in range(0, len(end.ids), IDS_MAX):
            some = end.ids[start : start + IDS_MAX]
            ended += self._end_some(replace(end, ids=some, idempotency=None))
        return ended

    def _end_some(self, end: End) -> list[str]:
        body = {
            "ids": end.ids,
            "userId": end.user_id,
            "keep": end.keep,
            "reason": end.reason,
            "actor": end.actor,
        }
        once = None if end.idempotency is None else end.idempotency.digest.hex()
        question = Question(method="POST", path=BASE + "/end", body=body, key=once)
        return self._connection.ask(question, _Ended).ids

    def _each(self, verb: Callable[[_Q], _A], requests: Sequence[_Q]) -> list[_A]:
        """Carry requests out in parallel; each is answered with its outcome or its own fault.

        A fault is raised where nobody got an answer, as a store's would be.
        """
        return _or_raise(self._map(lambda each: self._one(verb, each), requests))

    def _in_order(self, verb: Callable[[Any], _A], requests: Sequence[Any]) -> list[_A]:
        """As `_each`, but what concerns the same session goes one after the other."""
        by_session: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            by_session.setdefault(request.id, []).append(i)
        answers: list[Any] = [None] * len(requests)

        def in_turn(places: list[int]) -> None:
            for i in places:
                answers[i] = self._one(verb, requests[i])

        self._map(in_turn, list(by_session.values()))
        return _or_raise(answers)

    def _map(self, work: Callable[[_Q], _A], items: Sequence[_Q]) -> list[_A]:
        if len(items) < 2:  # the usual case needs no thread but the caller's
            return [work(item) for item in items]
        return list(self._threads().map(work, items))

    def _one(self, verb: Callable[[_Q], _A], request: _Q) -> _A | SojournError:
        try:
            return verb(request)
        except Refusal as refusal:
            return fault_of(refusal, self._connection.name)
        except SojournError as fault:
            return fault

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("These sessions were closed.", hint="Open them again.")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="sojourn-sessions")
            return self._pool


def _or_raise(answers: list[Any]) -> list[Any]:
    """Return the answers; raise the first fault if there is nothing else."""
    if answers and all(isinstance(answer, SojournError) for answer in answers):
        raise cast(SojournError, answers[0])
    return answers


def _may_be_known(check: Check) -> bool:
    """Tell whether the server need be asked: it would refuse the others at sight."""
    if check.adopted:
        ours = check.token.startswith(TokenKind.SESSION.value)
        plain = check.token.isascii() and check.token.isprintable()
        return 0 < len(check.token) <= FOREIGN_MAX and plain and not ours
    try:
        check_token(check.token, TokenKind.SESSION)
    except InvalidToken:
        return False
    return True


def _gone(problem: SessionProblem) -> Gone:
    return Gone(
        reason=GoneReason(problem.code.removeprefix("session_")),
        ended_by=problem.ended_by,
        end_reason=problem.end_reason,
        at=None if problem.ended_at is None else _instant(problem.ended_at),
    )


def _begun(told: _Begun) -> Begun:
    return Begun(token=told.token, session=told.session.session())


def _device(said: _Device | None) -> Device | None:
    return None if said is None else Device(**msgspec.structs.asdict(said))


def _described(device: Device) -> _Device:
    """Describe a device in what a server takes: no control characters, and not at any length."""
    said = {}
    for name, text in msgspec.structs.asdict(device).items():
        said[name] = plain(text, most=TEXT_MAX)
    return _Device(**said)


def _instant(value: datetime) -> int:
    return round(value.timestamp() * 1000)
