"""Sessions, as an application's backend asks for them: with an API key, and by a person's token or by
a session's id.

Batch verbs (`check begin save rotate end`) are what the batcher runs: each request is answered with its
outcome or its own error, in order. The key is looked up once per batch, with the requests it vouches
for, so that a revoked key stops at once and costs nobody a round trip of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from sojourn.errors import Forbidden, SojournError, StoreError, Unauthenticated
from sojourn.idempotency import IdempotencyKey, Presented, Repeated, key_of
from sojourn.ledger import ApiKey
from sojourn.service.keys import Keys, Permission
from sojourn.service.sessions import SessionService
from sojourn.session import (
    Begin,
    Begun,
    Check,
    End,
    Gone,
    GoneReason,
    Rotate,
    Save,
    Session,
    TooMany,
)

T = TypeVar("T")

CURRENT = ""
"""In place of a session's id: the one that the call's token stands for."""


NO_TOKEN = ""
"""In place of a token that was not sent, though the call is about a person's session."""


class BackendCall(Struct, frozen=True, kw_only=True):
    """What a backend wants, and its proof. A `request` about CURRENT is about the token's session."""

    key_hash: bytes
    request: Any
    token: str | None = None
    may: Permission = Permission.SESSIONS
    once: Presented | None = None  # the key that it came with


class EndSessions(Struct, frozen=True, kw_only=True):
    """Sessions to end. `actor`: None is the holder itself, unset the key that asks. What an application
    names is kept as `app:<its key's id>:<actor>`."""

    end: End
    actor: str | None | UnsetType = UNSET


class EndCurrent(Struct, frozen=True, kw_only=True):
    """The token's session to end; or, with `others`, all of its user's but that one."""

    reason: str
    others: bool = False


class Backends:
    """The service. Synchronous; safe from several threads."""

    def __init__(self, sessions: SessionService, keys: Keys) -> None:
        self._sessions = sessions
        self._keys = keys

    def check(self, calls: Sequence[BackendCall]) -> Sequence[Session | Gone | SojournError]:
        """Look tokens up."""
        admitted, answers = self._admit(calls)
        found = self._look_up([request for _, request, _ in admitted])
        if len(found) == len(calls):
            return found
        for (i, _, _), each in zip(admitted, found, strict=True):
            answers[i] = each
        return answers

    def begin(
        self, calls: Sequence[BackendCall]
    ) -> list[Begun | TooMany | Repeated | SojournError]:
        """Begin sessions. One with a token takes the place of the token's session, if that is live."""
        requests, answers = self._admit(calls)
        present = self._present(calls, (i for i, _, _ in requests))
        begins = [
            _once(_replacing(request, present.get(i)), _key(calls[i], "begin", key))
            for i, request, key in requests
        ]
        begun = self._sessions.begin(begins) if begins else []
        for (i, _, _), each in zip(requests, begun, strict=True):
            answers[i] = each
        return answers

    def save(
        self, calls: Sequence[BackendCall]
    ) -> list[int | Gone | Repeated | None | SojournError]:
        """Merge top-level keys. None: there is no such session; Gone: why the token has none."""

        def saves(requests: list[Any]) -> Sequence[Any]:
            return self._sessions.save(requests)

        return self._carry("save", calls, _named_save, saves)

    def rotate(
        self, calls: Sequence[BackendCall]
    ) -> list[Begun | Gone | Repeated | None | SojournError]:
        """Replace tokens. None: there is no such session; Gone: why the token has none."""

        def rotations(requests: list[Any]) -> Sequence[Any]:
            return _one_by_one(lambda each: self._sessions.rotate([each])[0], requests)

        return self._carry("rotate", calls, _named_rotation, rotations)

    def end(self, calls: Sequence[BackendCall]) -> list[list[str] | Gone | Repeated | SojournError]:
        """End sessions, and say which. A token whose session is over already ends nothing, which is
        as good; one that is forged is told so."""

        def ends(requests: list[Any]) -> Sequence[Any]:
            return _one_by_one(lambda each: self._sessions.end([each])[0], requests)

        answers: list[Any] = self._carry("end", calls, self._named_end, ends)
        return [
            [] if isinstance(each, Gone) and _once_was(call, each) else each
            for call, each in zip(calls, answers, strict=True)
        ]

    def _carry(
        self,
        named: str,
        calls: Sequence[BackendCall],
        name: Callable[[Any, ApiKey, Session | None], Any],
        verb: Callable[[list[Any]], Sequence[Any]],
    ) -> list[Any]:
        """Carry out what concerns a session that exists: `name` puts the session's id into a request.

        One look-up for all tokens, and then the verb, once for all. Where a token's session is gone, a
        copy of this very request may have ended it, or have given it another token.
        """
        admitted, answers = self._admit(calls)
        present = self._present(calls, (i for i, _, _ in admitted))
        requests: list[tuple[int, Any]] = []
        before: dict[int, IdempotencyKey] = {}
        for i, request, key in admitted:
            own = present.get(i)
            once = _key(calls[i], named, key)
            if isinstance(own, Gone):
                answers[i] = own
                if once is not None:
                    before[i] = once
                continue
            try:
                requests.append((i, _once(name(request, key, own), once)))
            except SojournError as fault:
                answers[i] = fault
        if before:
            self._recall(calls, before, answers)
        outcomes = verb([request for _, request in requests]) if requests else ()
        lost = []
        for (i, _), outcome in zip(requests, outcomes, strict=True):
            answers[i] = outcome
            if outcome is None and i in present:
                lost.append(i)
        for i, gone in self._present(
            calls, lost
        ).items():  # it ended since it was looked up: say how
            answers[i] = gone if isinstance(gone, Gone) else _ABSENT
        return answers

    def _recall(
        self, calls: Sequence[BackendCall], keys: dict[int, IdempotencyKey], answers: list[Any]
    ) -> None:
        """Give those calls that came before their first answer."""
        asked = [(key, getattr(calls[i].request, "token", None)) for i, key in keys.items()]
        for i, answer in zip(keys, self._sessions.answered(asked), strict=True):
            if answer is not None:
                answers[i] = answer

    def _admit(
        self, calls: Sequence[BackendCall]
    ) -> tuple[list[tuple[int, Any, ApiKey]], list[Any]]:
        """Sort calls into those whose key permits them, by position, and the answers to the others."""
        answers: list[Any] = [None] * len(calls)
        admitted = []
        known: dict[bytes, ApiKey | Unauthenticated] = {}
        last: BackendCall | None = None
        verdict: ApiKey | SojournError | None = None
        for i, call in enumerate(calls):
            # Nearly always all of a batch come from one backend, and want the same.
            if last is None or call.may is not last.may or call.key_hash != last.key_hash:
                last, verdict = call, self._judge(call, known)
            if isinstance(verdict, ApiKey):
                admitted.append((i, call.request, verdict))
            else:
                answers[i] = verdict
        return admitted, answers

    def _judge(
        self, call: BackendCall, known: dict[bytes, ApiKey | Unauthenticated]
    ) -> ApiKey | SojournError:
        """Return a call's key, or why it is turned away. `known`: what has been looked up."""
        key = known.get(call.key_hash)
        try:
            if key is None:
                key = known[call.key_hash] = self._keys.known(call.key_hash)
            if isinstance(key, Unauthenticated):
                return key
            self._keys.require(key, call.may)
        except Unauthenticated as fault:
            known[call.key_hash] = fault
            return fault
        except Forbidden as fault:
            return fault
        return key

    def _present(
        self, calls: Sequence[BackendCall], which: Iterable[int]
    ) -> dict[int, Session | Gone]:
        """Look up the sessions of those calls that bring a token, without marking them as used."""
        tokens = {i: token for i in which if (token := calls[i].token) is not None}
        if not tokens:
            return {}
        checks = [Check(token, touch=False) for token in tokens.values()]
        return dict(zip(tokens, self._look_up(checks), strict=True))

    def _look_up(self, checks: Sequence[Check]) -> list[Session | Gone]:
        found = self._sessions.check(checks)
        return [
            _ABSENT if check.token == NO_TOKEN else each
            for check, each in zip(checks, found, strict=True)
        ]

    def _named_end(
        self, request: EndSessions | EndCurrent, key: ApiKey, own: Session | None
    ) -> End:
        if isinstance(request, EndCurrent):
            assert own is not None  # a call that brings no token never gets here
            if request.others and own.user_id is not None:
                return End(user_id=own.user_id, keep=(own.id,), reason=request.reason)
            return End(ids=() if request.others else (own.id,), reason=request.reason)
        if isinstance(request.actor, UnsetType):
            return replace(request.end, actor=f"key:{key.id}")
        self._keys.require(key, Permission.SESSIONS)  # nobody else may say who it was
        return replace(request.end, actor=_said(request.actor, key))


_ABSENT = Gone(reason=GoneReason.ABSENT)


def _key(call: BackendCall, verb: str, key: ApiKey) -> IdempotencyKey | None:
    """Return the key of a request: no other API key's can be the same."""
    return None if call.once is None else key_of(f"api:{key.id}", verb, call.once)


def _once(request: T, key: IdempotencyKey | None) -> T:
    return request if key is None else replace(request, idempotency=key)  # type: ignore[type-var]  # a Struct


def _said(actor: str | None, key: ApiKey) -> str | None:
    """Mark an actor as named by an application, and by which: it must not read like an operator."""
    return None if actor is None else f"app:{key.id}:{actor}"


def _replacing(begin: Begin, own: Session | Gone | None) -> Begin:
    return replace(begin, replaces=own.id) if isinstance(own, Session) else begin


def _named_save(request: Save, _key: ApiKey, own: Session | None) -> Save:
    return request if own is None else replace(request, id=own.id)


def _named_rotation(request: Rotate, _key: ApiKey, own: Session | None) -> Rotate:
    return request if own is None else replace(request, id=own.id)


def _once_was(call: BackendCall, gone: Gone) -> bool:
    own = isinstance(call.request, EndCurrent) and not call.request.others
    return own and call.token != NO_TOKEN and gone.reason is not GoneReason.FORGED


def _one_by_one(verb: Callable[[Any], T], requests: Sequence[Any]) -> list[T | SojournError]:
    """Carry out what the store takes singly, each with its own fate: what has been done must not be
    done again because of a neighbor. A store that is away is not asked again and again."""
    answers: list[T | SojournError] = []
    away: StoreError | None = None
    for request in requests:
        if away is not None:
            answers.append(away)
            continue
        try:
            answers.append(verb(request))
        except StoreError as fault:
            away = fault
            answers.append(fault)
        except SojournError as fault:
            answers.append(fault)
    return answers


__all__ = ["CURRENT", "NO_TOKEN", "BackendCall", "Backends", "EndCurrent", "EndSessions"]
