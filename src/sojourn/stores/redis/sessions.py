"""Sessions: what the scripts are asked, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sojourn.errors import Conflict, InvalidInput
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
)
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import hash_text, new_session_row, save_row, session_of, unpack
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.seats import bounded

PIECE = 1_000
"""Sessions of a user that one script looks at: others wait meanwhile, about 10 ms."""
_ABSENT = Gone(reason=GoneReason.ABSENT)
_REASONS = {reason.value: reason for reason in GoneReason}


def _too_large(size: int) -> InvalidInput:
    return InvalidInput(
        f"A session holds {DATA_MAX} bytes of JSON at most, and this would be {size}.",
        hint="Keep large things elsewhere, and their names in the session.",
    )


def create(
    db: Connection, sessions: Sequence[NewSession], *, ips: bool
) -> list[Session | TooMany | None]:
    if any(new.limit is not None and new.limit < 1 for new in sessions):
        raise InvalidInput("A user needs room for one session at least.")
    if not sessions:
        return []
    rows = [
        new_session_row(x, deny=x.at_limit is not AtLimit.END_OLDEST, ips=ips) for x in sessions
    ]
    said = db.run(scripts.CREATE, [DATA_MAX, *rows])
    if said[0] == b"large":
        raise _too_large(said[1])
    now = said[1]
    answers: list[Session | TooMany | None] = []
    for new, (outcome, *shown) in zip(sessions, said[2], strict=True):
        if outcome == 1:
            answers.append(session_of(shown[0], now))
        elif outcome and new.limit is not None:
            live = tuple(session_of(each, now) for each in shown)
            answers.append(TooMany(limit=new.limit, sessions=live))
        else:
            answers.append(None)
    return answers


def load(db: Connection, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
    if not token_hashes:
        return []
    asked = ["load", [*map(hash_text, token_hashes)]]
    now, *found = db.run(scripts.VISITS, asked, now_in=lambda said: int(said[0]))
    return [_session_or_gone(said, now) for said in found]


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


def save(db: Connection, saves: Sequence[Save]) -> list[int | None]:
    if not saves:
        return []
    outcome, said = db.run(scripts.VISITS, ["save", [DATA_MAX, *map(save_row, saves)]])
    if outcome == b"large":
        raise _too_large(said)
    return [revision or None for revision in said]


def touch(db: Connection, ids: Sequence[str]) -> list[bool]:
    if not ids:
        return []
    return [bool(said) for said in db.run(scripts.VISITS, ["touch", [*ids]])]


def rotate(
    db: Connection, session_id: str, new_hash: bytes, *, grace: int, level: int | None
) -> Session | None:
    said = db.run(scripts.VISITS, ["rotate", [session_id, hash_text(new_hash), grace, level]])
    if said == 0:
        return None
    if said == 1:
        raise Conflict("The new token's hash is in use already.")
    now, shown = said
    return session_of(shown, now)


def _pieces(
    db: Connection, verb: str, user_id: str, *asked: Any
) -> Iterator[tuple[int, list[Any]]]:
    """Ask about all sessions of a user, some at a time, newest first; yield the instant and what is said."""
    place: str | None = None
    while place != "":
        now, on, *said = db.run(scripts.VISITS, [verb, [user_id, place, PIECE, *asked]])
        place = on.decode()
        yield now, said


def of(db: Connection, user_id: str, *, limit: int) -> list[Session]:
    found: list[Session] = []
    for now, said in _pieces(db, "of", user_id, limit := bounded(limit)):
        found += (session_of(each, now) for each in said)
        if len(found) >= limit:
            break
    return found[:limit]


def page(db: Connection, user_id: str, *, after: tuple[int, str] | None, limit: int) -> SessionPage:
    found: list[Session] = []
    total, limit = 0, bounded(limit)
    for now, (count, *said) in _pieces(db, "page", user_id, limit, *(after or (None, None))):
        total += count
        found += (session_of(each, now) for each in said[: limit - len(found)])
    return SessionPage(sessions=tuple(found), total=total)


def held(db: Connection, *, ids: Sequence[str] | None, user_id: str | None) -> dict[str, int]:
    if (ids is None) == (user_id is None):
        raise InvalidInput("Name sessions by their ids or by their user: one of the two.")
    if user_id is not None:
        flat = [each for _, said in _pieces(db, "held", user_id) for each in said]
    else:
        flat = db.run(scripts.VISITS, ["held", [False, False, False, list(ids or ())]])[2:]
    return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}


def gone(db: Connection, ids: Sequence[str]) -> list[Gone | None]:
    if not ids:
        return []
    return [None if said == 1 else _gone(said) for said in db.run(scripts.VISITS, ["gone", [*ids]])]


def sessions(
    db: Connection, *, after: str | None, limit: int, user_id: str | None
) -> list[Session]:
    limit = bounded(limit)
    if user_id is not None:
        pieces = _pieces(db, "of_by_id", user_id, limit, after or "")
        named = [session_of(each, now) for now, said in pieces for each in said]
        return sorted(named, key=lambda each: each.id)[:limit]
    now, *found = db.run(scripts.VISITS, ["sessions", [after or "", limit]])
    return [session_of(each, now) for each in found]


def end(
    db: Connection,
    *,
    ids: Sequence[str] | None,
    user_id: str | None,
    keep: Sequence[str],
    reason: str,
    actor: str | None,
) -> list[str]:
    if ids is None and user_id is None:
        raise InvalidInput("Name sessions by their ids, or by their user.")
    named = None if ids is None else list(ids)
    ended = db.run(scripts.ENDING, ["end", [user_id, named, list(keep), reason, actor]])
    return [each.decode() for each in ended]


def cut_off(db: Connection, user_id: str | None, *, reason: str, actor: str | None) -> int:
    if user_id == "":
        raise InvalidInput("Whose sessions? The user's id is empty.")
    return int(db.run(scripts.ENDING, ["cut_off", [user_id, reason, actor]]))
