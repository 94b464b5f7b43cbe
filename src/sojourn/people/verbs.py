"""What the steps of `service.people` ask for, of whatever keeps sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sojourn.people.sessions import After
from sojourn.service import request_session as visits
from sojourn.service.request_session import Verb
from sojourn.service.sessions import SessionService
from sojourn.session import End, SessionPage, Sessions
from sojourn.store import LIST_MAX


def verbs(sessions: Sessions) -> Mapping[str, Verb]:
    """Return what steps may ask for, as functions of a batch; also of sessions that are kept where
    there are no seats, and no pages."""
    if isinstance(sessions, SessionService):
        mine: dict[str, Verb] = {
            "page": lambda asked: [sessions.page(u, after=a, limit=n) for u, a, n in asked],
            "held": lambda asked: [sessions.held(each) for each in asked],
            "end_own": sessions.end,
        }
    else:
        mine = {
            "page": lambda asked: [_page(sessions, *each) for each in asked],
            "held": lambda asked: [{} for _ in asked],
            "end_own": lambda asked: [_end_own(sessions, each) for each in asked],
        }
    return {**visits.verbs(sessions), **mine}


def _page(sessions: Sessions, user_id: str, after: After | None, limit: int) -> SessionPage:
    """Read a page out of a whole list; its order is that of stores."""
    found = sessions.of(user_id, limit=LIST_MAX)
    rest: Sequence[Any] = found
    if after is not None:
        rest = [x for x in found if (-x.created_at, x.id) > (-after[0], after[1])]
    return SessionPage(sessions=tuple(rest[:limit]), total=len(found))


def _end_own(sessions: Sessions, wish: End) -> list[str]:
    assert wish.user_id is not None  # whose they must be
    theirs = {each.id for each in sessions.of(wish.user_id, limit=LIST_MAX)}
    mine = tuple(each for each in wish.ids or () if each in theirs)
    return sessions.end([End(ids=mine, reason=wish.reason)])[0] if mine else []
