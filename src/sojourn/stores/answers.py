"""What a store keeps of a first answer, so that a request which comes again can be given it: as little as
makes the same answer. Of a session that is its id; of a refusal, no evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.lease import DenialReason, Denied, Lease
from sojourn.session import Session, TooMany

KEPT_MAX = 100_000
"""The most answers that a store in a process's memory keeps: the oldest go first."""
Sessions = Mapping[str, Session]


class FirstAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the following. `ids`: of the sessions shown beside a limit, or of those that were ended."""

    lease: Lease | None = None
    denied: Denied | None = None
    session: str | None = None
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    revision: int | None = None


def keeps(answer: Any) -> bool:
    """Tell whether an answer is worth keeping. A session that is gone stays gone. A pool that is not
    known may be in a moment: the service asks once more after it has told the store of it; so it does after a
    tentative refusal. Who waits in a line asks again."""
    if isinstance(answer, Denied):
        again = answer.tentative or answer.entry is not None
        return answer.reason is not DenialReason.FEATURE_UNKNOWN and not again
    return answer is not None


def kept_of(answer: Any) -> FirstAnswer:
    """Return what is kept of an answer."""
    if isinstance(answer, Lease):
        return FirstAnswer(lease=answer)
    if isinstance(answer, Denied):
        return FirstAnswer(denied=replace(answer, mine=(), evidence=()))
    if isinstance(answer, Session):
        return FirstAnswer(session=answer.id)
    if isinstance(answer, TooMany):
        return FirstAnswer(limit=answer.limit, ids=tuple(each.id for each in answer.sessions))
    if isinstance(answer, int):
        return FirstAnswer(revision=answer)
    return FirstAnswer(ids=tuple(answer))


def sessions_in(kept: Iterable[FirstAnswer]) -> set[str]:
    """Name the sessions that are needed to tell these answers."""
    named: set[str] = set()
    for each in kept:
        if each.session is not None:
            named.add(each.session)
        elif each.limit is not None:
            named.update(each.ids or ())
    return named


def answer_of(kept: FirstAnswer, sessions: Sessions) -> Any:
    """Return the answer; None if its session was forgotten meanwhile."""
    if kept.session is not None:
        return sessions.get(kept.session)
    if kept.limit is not None:
        shown = tuple(sessions[i] for i in kept.ids or () if i in sessions)
        return TooMany(limit=kept.limit, sessions=shown)
    if kept.ids is not None:
        return list(kept.ids)
    return next(x for x in (kept.lease, kept.denied, kept.revision) if x is not None)


__all__ = ["KEPT_MAX", "FirstAnswer", "answer_of", "keeps", "kept_of", "sessions_in"]
