"""Sessions: what the scripts are asked, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sojourn.device import NO_DEVICES, Device, check_label
from sojourn.errors import Conflict, InvalidInput
from sojourn.idempotency import IdempotencyKey, KeyReused, Repeated, Replayed
from sojourn.session import (
    DATA_MAX,
    AtLimit,
    Gone,
    GoneReason,
    NewSession,
    Save,
    Session,
    SessionPage,
    TooMany,
    check_cutoff,
    check_ending,
)
from sojourn.store import bounded
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import (
    device_text,
    hash_text,
    key_row,
    new_session_row,
    save_row,
    session_of,
    unpack,
)
from sojourn.stores.redis.connection import Connection, Verbs

PIECE = 1_000
"""Sessions of a user that one script looks at: others wait meanwhile, about 10 ms."""
_ABSENT = Gone(reason=GoneReason.ABSENT)
_REASONS = {reason.value: reason for reason in GoneReason}


def _too_large(size: int) -> InvalidInput:
    return InvalidInput(
        f"A session holds {DATA_MAX} bytes of JSON at most, and this would be {size}.",
        hint="Keep large things elsewhere, and their names in the session.",
    )


class SessionVerbs(Verbs):
    """Verbs of sessions."""

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        if any(new.limit is not None and new.limit < 1 for new in sessions):
            raise InvalidInput("A user needs room for one session at least.")
        if not sessions:
            return []
        rows = [
            new_session_row(x, deny=x.at_limit is not AtLimit.END_OLDEST, ips=self._ips_in_events)
            for x in sessions
        ]
        said = self._db.run(scripts.CREATE, [DATA_MAX, *rows])
        if said[0] == b"large":
            raise _too_large(said[1])
        now = said[1]
        return [_created(each, now) for each in said[2]]

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        if not token_hashes:
            return []
        asked = ["load", [*map(hash_text, token_hashes)]]
        now, *found = self._db.run(scripts.VISITS, asked, now_in=lambda said: int(said[0]))
        return [_session_or_gone(said, now) for said in found]

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        if not saves:
            return []
        outcome, said, *now = self._db.run(
            scripts.VISITS, ["save", [DATA_MAX, *map(save_row, saves)]]
        )
        if outcome == b"large":
            raise _too_large(said)
        return [_saved(each, now[0]) for each in said]

    def touch(
        self, ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES
    ) -> list[bool]:
        if not ids:
            return []
        asked: list[Any] = []
        for each in ids:
            device = last_devices.get(each)
            has_ip = device is not None and device.ip is not None
            asked += (each, device_text(device) or False, has_ip)
        return [bool(said) for said in self._db.run(scripts.VISITS, ["touch", asked])]

    def rename(self, session_id: str, *, user_id: str, label: str | None) -> bool:
        check_label(label)
        asked = [session_id, user_id, label or False]
        return bool(self._db.run(scripts.VISITS, ["rename", asked]))

    def rotate(
        self,
        session_id: str,
        new_token_hash: bytes,
        *,
        grace: int = 0,
        level: int | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session | Repeated | None:
        asked = [session_id, hash_text(new_token_hash), grace, level, key_row(idempotency)]
        said = self._db.run(scripts.VISITS, ["rotate", asked])
        if said == 0:
            return None
        if said == 1:
            raise Conflict("The new token's hash is in use already.")
        if said == 2:
            return KeyReused()
        now, shown, *note = said
        session = session_of(shown, now)
        return Replayed(answer=session, at=now, note=note[0].decode()) if note else session

    def answered(self, keys: Sequence[IdempotencyKey]) -> list[Repeated | None]:
        if not keys:
            return []
        now, *found = self._db.run(scripts.VISITS, ["answered", [*map(key_row, keys)]])
        return [_answered(said, now) for said in found]

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        found: list[Session] = []
        for now, said in _pieces(self._db, "of", user_id, limit := bounded(limit)):
            found += (session_of(each, now) for each in said)
            if len(found) >= limit:
                break
        return found[:limit]

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        found: list[Session] = []
        total, limit = 0, bounded(limit)
        for now, (count, *said) in _pieces(
            self._db, "page", user_id, limit, *(after or (None, None))
        ):
            total += count
            found += (session_of(each, now) for each in said[: limit - len(found)])
        return SessionPage(sessions=tuple(found), total=total)

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        if (ids is None) == (user_id is None):
            raise InvalidInput("Name sessions by their ids or by their user: one of the two.")
        if user_id is not None:
            flat = [each for _, said in _pieces(self._db, "held", user_id) for each in said]
        else:
            flat = self._db.run(scripts.VISITS, ["held", [False, False, False, list(ids or ())]])[
                2:
            ]
        return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        if not ids:
            return []
        return [
            None if said == 1 else _gone(said)
            for said in self._db.run(scripts.VISITS, ["gone", [*ids]])
        ]

    def sessions(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        limit = bounded(limit)
        if user_id is not None:
            pieces = _pieces(self._db, "of_by_id", user_id, limit, after or "")
            named = [session_of(each, now) for now, said in pieces for each in said]
            return sorted(named, key=lambda each: each.id)[:limit]
        now, *found = self._db.run(scripts.VISITS, ["sessions", [after or "", limit]])
        return [session_of(each, now) for each in found]

    def end(
        self,
        *,
        ids: Sequence[str] | None = None,
        user_id: str | None = None,
        keep: Sequence[str] = (),
        reason: str = "ended",
        actor: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> list[str] | Repeated:
        if ids is None and user_id is None:
            raise InvalidInput("Name sessions by their ids, or by their user.")
        check_ending(reason, actor)
        named = None if ids is None else list(ids)
        asked = [user_id, named, list(keep), reason, actor, key_row(idempotency)]
        outcome, *told = self._db.run(scripts.ENDING, ["end", asked])
        if outcome == 2:
            return KeyReused()
        ended = [each.decode() for each in told[0]]
        if outcome == 1:
            return Replayed(answer=ended, at=0, note=told[1].decode())
        return ended

    def cut_off(
        self, user_id: str | None, *, reason: str = "cut_off", actor: str | None = None
    ) -> int:
        check_cutoff(user_id, reason, actor)
        return int(self._db.run(scripts.ENDING, ["cut_off", [user_id, reason, actor]]))


def _created(said: Sequence[Any], now: int) -> Session | TooMany | Repeated | None:
    outcome, *told = said
    if outcome == 0:
        return None
    if outcome == 1:
        return session_of(told[0], now)
    if outcome == 2:
        limit, *shown = told
        return TooMany(limit=limit, sessions=tuple(session_of(each, now) for each in shown))
    if outcome == 5:
        return KeyReused()
    note, *told = told
    first = _created([outcome - 2, *told], now)
    return Replayed(answer=first, at=now, note=note.decode())


def _session_or_gone(said: Any, now: int) -> Session | Gone:
    if isinstance(said, list):
        return session_of(said, now)
    return _gone(said)


def _gone(said: Any) -> Gone:
    if not said:
        return _ABSENT
    reason, ended_by, end_reason, at = unpack(said)
    return Gone(
        reason=_REASONS[reason],
        ended_by=None if ended_by is False else ended_by,
        end_reason=None if end_reason is False else end_reason,
        at=at,
    )


def _saved(said: Any, now: int) -> int | Repeated | None:
    if isinstance(said, list):
        return Replayed(answer=said[1], at=now, note=said[0].decode())
    return KeyReused() if said < 0 else said or None


def _answered(said: Any, now: int) -> Repeated | None:
    if not isinstance(said, list):
        return KeyReused() if said else None
    note, kind, answer = said
    if kind == b"session":
        answer = session_of(answer, now)
    elif kind == b"ended":
        answer = [each.decode() for each in answer]
    return Replayed(answer=answer, at=now, note=note.decode())


def _pieces(
    db: Connection, verb: str, user_id: str, *asked: Any
) -> Iterator[tuple[int, list[Any]]]:
    """Ask about all sessions of a user, some at a time, newest first; yield the instant and what is said."""
    place: str | None = None
    while place != "":
        now, on, *said = db.run(scripts.VISITS, [verb, [user_id, place, PIECE, *asked]])
        place = on.decode()
        yield now, said
