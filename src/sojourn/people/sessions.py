"""What people do with their own sessions: see where they are signed in, name one, end one, end the others.

Written as steps, as `visit` is, so that a server, an ASGI application and a Flask one carry out the
same. Who somebody is, is for the visit to say; a step never names a user that the request does.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from sojourn.device import check_label
from sojourn.errors import Forbidden, NotFound, Unauthenticated
from sojourn.idempotency import Presented, Repeated, Replayed, key_of
from sojourn.service.request_session import RequestSession, VisitStep
from sojourn.session import End, Rename, Session, SessionPage

After = tuple[int, str]


class Listing(Struct, frozen=True, kw_only=True):
    """Some of a person's sessions, newest first; on the first page always the one that asks."""

    current: Session
    sessions: tuple[Session, ...]
    seats: dict[str, int]  # by session; those that hold none are left out
    total: int
    next: After | None


class Ending(Struct, frozen=True, kw_only=True):
    """What was ended, and how many seats came free with it."""

    ended: int
    seats: int
    own: bool = False
    again: bool = False  # it is the first answer to a request that came again


def listing(visit: RequestSession, *, after: After | None, limit: int) -> VisitStep[Listing]:
    """List a person's sessions. Raises Unauthenticated.

    The current one is shown on the first page, before the others if its place is further down; then it
    is left out there.
    """
    current = _signed_in(visit)
    page: SessionPage = yield "page", (current.user_id, after, limit + 1)
    shown, more = list(page.sessions[:limit]), len(page.sessions) > limit
    following = (shown[-1].created_at, shown[-1].id) if more else None
    if after is not None:
        shown = [each for each in shown if each.id != current.id]
    elif current.id not in {each.id for each in shown}:
        if len(shown) == limit:  # one has to wait for the next page
            last = shown.pop()
            following = (shown[-1].created_at, shown[-1].id) if shown else (last.created_at, "")
        shown.insert(0, current)
    held = yield "held", End(ids=tuple(each.id for each in shown))
    return Listing(
        current=current,
        sessions=tuple(shown),
        seats=held,
        total=max(page.total, len(shown)),
        next=following,
    )


def rename(visit: RequestSession, session_id: str, label: str | None) -> VisitStep[None]:
    """Call the device of one of a person's sessions so; None: as it says itself.

    Raises NotFound, also for somebody else's session; Unauthenticated; Forbidden, for who acts as somebody
    else; InvalidInput, for a name that cannot be read.
    """
    current = _signed_in(visit)
    if visit.impersonator is not None:
        raise Forbidden(
            "Whoever acts as somebody else cannot name their devices.",
            hint="Act as yourself again.",
        )
    check_label(label)
    assert current.user_id is not None  # somebody is signed in
    wish = Rename(id=session_id, user_id=current.user_id, label=label)
    if not (yield "rename", wish):
        raise NotFound(
            "You have no such session; it may have ended already.",
            code="session_unknown",
            hint="Refresh the list.",
        )


def end_one(visit: RequestSession, session_id: str, *, within: int | None) -> VisitStep[Ending]:
    """End one of a person's sessions; the current one signs them out.

    `within`: how recent a sign-in it takes to end another, in ms. Raises NotFound, also for somebody
    else's session; Unauthenticated; Forbidden.
    """
    current = _signed_in(visit)
    own = session_id == current.id
    if not own:
        may_end_others(visit, within)
    held: dict[str, int] = yield "held", End(ids=(session_id,))
    if own:
        yield from visit.end()
        return Ending(ended=1, seats=held.get(session_id, 0), own=True)
    wish = End(ids=(session_id,), user_id=current.user_id, reason="signed_out_elsewhere")
    ended: list[str] = yield "end_own", wish
    if not ended:
        raise NotFound(
            "You have no such session; it may have ended already.",
            code="session_unknown",
            hint="Refresh the list.",
        )
    return Ending(ended=len(ended), seats=held.get(session_id, 0))


def end_others(
    visit: RequestSession, *, within: int | None, once: Presented | None = None
) -> VisitStep[Ending]:
    """End all of a person's sessions but the current one. Raises Unauthenticated, Forbidden.

    `once`: the key that the request came with. What has begun since the first under that key is not ended.
    Raises InvalidInput where the first said something else.
    """
    current = _signed_in(visit)
    may_end_others(visit, within)
    held: dict[str, int] = yield "held", End(user_id=current.user_id)
    key = key_of(f"session:{current.id}", "end_others", once)
    if key is not None:  # a copy's seats are gone by then
        others = sum(seats for name, seats in held.items() if name != current.id)
        key = replace(key, note=str(others))
    ended: Repeated = yield (
        "end",
        End(
            user_id=current.user_id,
            keep=(current.id,),
            reason="signed_out_elsewhere",
            idempotency=key,
        ),
    )
    if isinstance(ended, Replayed):
        return Ending(ended=len(ended.answer), seats=int(ended.note), again=True)
    return Ending(ended=len(ended), seats=sum(held.get(each, 0) for each in ended))


def _signed_in(visit: RequestSession) -> Session:
    if visit.session is None or visit.session.user_id is None:
        raise Unauthenticated("You are not signed in.", hint="Sign in, then come back.")
    return visit.session


def may_end_others(visit: RequestSession, within: int | None) -> None:
    """Raises Forbidden for whoever may not end sessions but their own."""
    if visit.impersonator is not None:
        raise Forbidden(
            "Whoever acts as somebody else cannot sign them out.", hint="Act as yourself again."
        )
    if within is not None and not visit.recent(within):
        raise Forbidden(
            "Please sign in again before you sign out other devices.",
            code="reauth_required",
            hint="Confirm who you are, then try again.",
        )
