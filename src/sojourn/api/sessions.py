"""Sessions: what an application's backend asks for, which is hot, and the operators' view of them.

`current` is the session that the token in X-Session-Token stands for; a backend that knows a session
by its id names that instead, and the same code answers.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from sojourn.api.backend import BackendRequest, backend
from sojourn.api.call import Call, OperatorCall, Who, operator
from sojourn.api.hot import BatchRequest
from sojourn.device import Device
from sojourn.errors import InvalidInput, NotFound
from sojourn.service.backends import CURRENT, EndCurrent, EndSessions
from sojourn.service.keys import Permission
from sojourn.session import ROTATION_GRACE, Begun, Check, End, Rename, Rotate, Save, Session
from sojourn.text import isolated
from sojourn.wire.bodies import Done, Limit, Name, Page, Wire, optional, rfc3339
from sojourn.wire.paging import page_of
from sojourn.wire.sessions import (
    ACTOR_MAX,
    BeginBody,
    BegunAnswer,
    CutoffAnswer,
    CutoffBody,
    DeviceNameAnswer,
    DeviceNameBody,
    EndBody,
    EndedAnswer,
    EndedIdsAnswer,
    EndManyBody,
    LastDeviceAnswer,
    RotateBody,
    SaveBody,
    SavedAnswer,
    SessionAnswer,
    SessionBody,
    SessionDevice,
    begun_answer,
    session_body,
    storable,
    whole,
)

BASE = "/api/sessions"
GONE = ("session_absent", "session_idle", "session_expired", "session_ended", "session_forged")
INSTANT_DIGITS = 15
NEAR = 2
NEIGHBORS = 100
"""Ids that may share all characters but their last ones with a session's."""


class CheckQuery(Wire, frozen=True, kw_only=True):
    touch: bool = True
    adopted: bool = False


def _begun(begun: Begun) -> Done[BegunAnswer]:
    return Done(data=begun_answer(begun))


@backend(
    "POST",
    BASE,
    tell=_begun,
    who=Who.SIGN_IN,
    status=201,
    body_required=False,
    problems=("session_limit",),
)
def begin_session(ask: BackendRequest, body: BeginBody) -> BatchRequest:
    """Begin a session.

    With `userId`: a user signs in; without: a visitor's, for its data alone. The session whose token
    is in X-Session-Token, or that `replaces` names, ends in the same step, and its data is kept below
    the new `data` if it was a visitor's or the same user's: no token from before a sign-in is worth
    anything after it. With `limit`, a user who has as many sessions as that is refused, or their
    oldest is ended, as `atLimit` says; `ask` answers which there are, to begin again with some of them
    in `ending`. The answer holds the token, this once.
    """
    return ask.wants("begin", body.begin(), current=True)


def _checked(session: Session) -> Done[SessionAnswer]:
    return Done(data=SessionAnswer(session=session_body(session, data=True)))


@backend("GET", BASE + "/current", tell=_checked, who=Who.PERSON, problems=GONE)
def check_session(ask: BackendRequest, query: CheckQuery) -> BatchRequest:
    """Check a person's token.

    Marks the session as used, if that is due, unless `touch` is false. `adopted`: it is the token of a
    system that was here before, whose sessions were taken over. 401 with a code that begins
    with `session_` says that it is the person who must sign in again, and why; any other 401 is about
    the API key.
    """
    return ask.wants("check", Check(ask.token or "", query.touch, query.adopted))


def _saved(revision: int | None) -> Done[SavedAnswer]:
    if revision is None:
        raise unknown()
    return Done(data=SavedAnswer(revision=revision))


@backend(
    "PATCH", BASE + "/current", tell=_saved, who=Who.PERSON, problems=(*GONE, "data_too_large")
)
def save_current(ask: BackendRequest, body: SaveBody) -> BatchRequest:
    """Change keys of the session's data.

    Keys named by neither `set` nor `unset` stay as they are: parallel requests lose nothing.
    """
    return _save(ask, CURRENT, body)


@backend(
    "PATCH", BASE + "/{sessionId}", tell=_saved, problems=("session_unknown", "data_too_large")
)
def save_session(ask: BackendRequest, session_id: Name, body: SaveBody) -> BatchRequest:
    """Change keys of a session's data, by its id."""
    return _save(ask, session_id, body)


def _save(ask: BackendRequest, session_id: str, body: SaveBody) -> BatchRequest:
    save = Save(id=session_id, set=storable(body.set), unset=body.unset)
    return ask.wants("save", save, current=session_id == CURRENT)


def _rotated(begun: Begun | None) -> Done[BegunAnswer]:
    if begun is None:
        raise unknown()
    return _begun(begun)


@backend(
    "POST",
    BASE + "/current/rotate",
    tell=_rotated,
    who=Who.PERSON,
    body_required=False,
    problems=(*GONE, "conflict"),
)
def rotate_current(ask: BackendRequest, body: RotateBody) -> BatchRequest:
    """Give the session a new token.

    The old one works for `grace` seconds more, 20 unless said otherwise, for tabs whose requests are
    under way. With `level`, the person has just proved who they are again. `token`: the new one, where
    a backend does not leave it to chance.
    """
    return _rotate(ask, CURRENT, body)


@backend(
    "POST",
    BASE + "/{sessionId}/rotate",
    tell=_rotated,
    body_required=False,
    problems=("session_unknown", "conflict"),
)
def rotate_session(ask: BackendRequest, session_id: Name, body: RotateBody) -> BatchRequest:
    """Give a session a new token, by its id."""
    return _rotate(ask, session_id, body)


def _rotate(ask: BackendRequest, session_id: str, body: RotateBody) -> BatchRequest:
    grace = ROTATION_GRACE if isinstance(body.grace, UnsetType) else round(body.grace * 1000)
    rotation = Rotate(id=session_id, grace=grace, level=body.level, token=whole(body.token))
    return ask.wants("rotate", rotation, current=session_id == CURRENT)


def _ended(ended: list[str]) -> Done[EndedAnswer]:
    return Done(data=EndedAnswer(ended=len(ended)))


@backend(
    "DELETE",
    BASE + "/current",
    tell=_ended,
    keeps=True,
    who=Who.PERSON,
    body_required=False,
    problems=("session_absent", "session_forged"),
)
def end_current(ask: BackendRequest, body: EndBody) -> BatchRequest:
    """Sign a person out.

    The session and the seats that belong to it end. `ended` is 0 when it was over already, which is as
    good.
    """
    reason = optional(body.reason) or "signed_out"
    return ask.wants("end", EndCurrent(reason=reason), current=True)


@backend(
    "POST",
    BASE + "/current/end-others",
    tell=_ended,
    keeps=True,
    who=Who.PERSON,
    body_required=False,
    problems=GONE,
)
def end_others(ask: BackendRequest, body: EndBody) -> BatchRequest:
    """Sign a person out everywhere else."""
    reason = optional(body.reason) or "signed_out_elsewhere"
    return ask.wants("end", EndCurrent(reason=reason, others=True), current=True)


def _ended_ids(ended: list[str]) -> Done[EndedIdsAnswer]:
    return Done(data=EndedIdsAnswer(ended=len(ended), ids=ended))


@backend("POST", BASE + "/end", tell=_ended_ids, keeps=True, may=Permission.SESSIONS_END)
def end_sessions(ask: BackendRequest, body: EndManyBody) -> BatchRequest:
    """End sessions by their ids, or all of a user's but some.

    `actor` is for backends, which know who asked them: it is kept as `app:<id of the key>:<actor>`.
    Whoever else asks is named by their key.
    """
    if (body.ids is None) == (body.user_id is None):
        raise InvalidInput("ids, userId: give one of the two.")
    if body.keep and body.user_id is None:
        raise InvalidInput("keep: goes with userId.")
    if isinstance(body.actor, str) and len(body.actor) > ACTOR_MAX:
        raise InvalidInput(f"actor: takes {ACTOR_MAX} characters at most.")
    end = End(ids=body.ids, user_id=body.user_id, keep=body.keep, reason=body.reason)
    return ask.wants("end", EndSessions(end=end, actor=body.actor))


class SessionsQuery(Wire, frozen=True, kw_only=True):
    user_id: Name | UnsetType = UNSET
    after: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    limit: Limit = 100
    newest_first: bool = False
    data: bool = False


@operator("GET", BASE, may=Permission.SESSIONS_READ)
def list_sessions(ask: OperatorCall, query: SessionsQuery) -> Done[Page[SessionBody]]:
    """List live sessions, by id, or with `newestFirst` one user's latest first.

    Never their tokens. Their `data` belongs to the application: only backends may ask for it, and an
    application's key lists one user's sessions at a time.
    """
    services, user_id = ask.context.services, optional(query.user_id)
    if query.data:
        services.keys.require(ask.key, Permission.SESSIONS)
    if user_id is None:
        services.keys.require(ask.key, Permission.READ)
    after = optional(query.after)
    if query.newest_first:
        if user_id is None:
            raise InvalidInput("newestFirst: goes with userId.")
        return Done(data=_newest(ask, user_id, query))
    sessions = services.sessions
    return Done(
        data=page_of(
            lambda last, limit: sessions.list(after=last, limit=limit, user_id=user_id),
            lambda each: session_body(each, data=query.data),
            after=after,
            limit=query.limit,
            cursor=lambda each: each.id,
            name=lambda each: each.id,
        )
    )


def _newest(ask: OperatorCall, user_id: str, query: SessionsQuery) -> Page[SessionBody]:
    """Read on in a user's sessions, newest first: without their data, which is then read one by one."""

    def body(shown: Session) -> SessionBody:
        found = _find(ask, shown.id) if query.data else None
        return session_body(shown if found is None else found, data=query.data)

    return page_of(
        lambda after, limit: (
            ask.context.services.sessions.page(user_id, after=after, limit=limit).sessions
        ),
        body,
        after=_cursor(optional(query.after)),
        limit=query.limit,
        cursor=lambda each: (each.created_at, each.id),
        name=lambda each: f"{each.created_at}~{each.id}",
    )


def _cursor(text: str | None) -> tuple[int, str] | None:
    """Read where a page ended that began with the newest. Raises InvalidInput."""
    if text is None:
        return None
    at, tilde, session_id = text.partition("~")
    if not (tilde and at.isascii() and at.isdigit() and len(at) <= INSTANT_DIGITS):
        raise InvalidInput("after: goes with newestFirst as the `next` of a page before.")
    return int(at), session_id


@operator("GET", BASE + "/{sessionId}", may=Permission.SESSIONS_READ, problems=("session_unknown",))
def get_session(ask: OperatorCall, session_id: Name) -> Done[SessionAnswer]:
    """Show a live session, without its data."""
    session = _find(ask, session_id)
    if session is None:
        raise unknown()
    return Done(data=SessionAnswer(session=session_body(session, data=False)))


def _find(ask: OperatorCall, session_id: str) -> Session | None:
    """Look a session up by its id: the first ones after what it begins with."""
    sessions = ask.context.services.sessions
    last = session_id[:-1]
    for _ in range(0, NEIGHBORS, NEAR):
        near = sessions.list(after=last, limit=NEAR)  # with their data: a few at a time
        for each in near:
            if each.id == session_id:
                return each
        if len(near) < NEAR:
            break
        last = near[-1].id
    return None


@operator("PUT", BASE + "/{sessionId}/name", may=Permission.SESSIONS, problems=("session_unknown",))
def name_device(
    ask: OperatorCall, session_id: Name, body: DeviceNameBody
) -> Done[DeviceNameAnswer]:
    """Name the device of a session, for its user.

    Only for who is signed in under `userId`: of somebody else's session it is 404. Show the name beside what
    the device says of itself, and to nobody but that user.
    """
    wish = Rename(id=session_id, user_id=body.user_id, label=body.name)
    if not ask.context.services.sessions.rename(wish):
        raise unknown()
    return Done(data=DeviceNameAnswer(id=session_id, name=body.name))


@operator(
    "PUT",
    BASE + "/{sessionId}/last-device",
    may=Permission.SESSIONS,
    problems=("session_unknown",),
)
def note_last_device(
    ask: OperatorCall, session_id: Name, body: SessionDevice
) -> Done[LastDeviceAnswer]:
    """Note what a session is used from.

    For backends: people's requests come to them. It counts as a use of the session, so send it when a check
    has noted one and the device is another than the session tells: once a minute at most.
    """
    device = ask.context.services.sessions.use_from(session_id, Device(**asdict(body)))
    if device is None:
        raise unknown()
    return Done(data=LastDeviceAnswer(last_device=SessionDevice(**asdict(device))))


@operator("DELETE", BASE + "/{sessionId}", may=Permission.SESSIONS_END)
def end_session(ask: OperatorCall, session_id: Name) -> Done[EndedAnswer]:
    """End one session, and give back the seats that belong to it."""
    end = End(ids=(session_id,), reason="revoked", actor=ask.actor)
    (ended,) = ask.context.services.sessions.end([end])
    said = "The session is over." if ended else "There is no live session with this id."
    return Done(data=EndedAnswer(ended=len(ended)), message=said)


class OfUserQuery(Wire, frozen=True, kw_only=True):
    user_id: Name


@operator("DELETE", BASE, may=Permission.SESSIONS_END)
def end_user_sessions(ask: OperatorCall, query: OfUserQuery) -> Done[CutoffAnswer]:
    """End all sessions of a user begun up to now, however many, in one step.

    They are refused from now on; their entries in the events, and the seats they held, follow at once.
    """
    at = ask.context.services.cut_off(query.user_id, reason="revoked", actor=ask.actor)
    said = f"Every session of user {isolated(query.user_id)} begun up to now is over."
    return Done(data=CutoffAnswer(at=rfc3339(at)), message=said)


@operator("POST", BASE + "/cutoff", may=Permission.SESSIONS_CUTOFF)
def cut_off_sessions(ask: OperatorCall, body: CutoffBody) -> Done[CutoffAnswer]:
    """End all sessions begun up to now: of a user, or of everybody if `userId` is null."""
    at = ask.context.services.cut_off(body.user_id, reason="cut_off", actor=ask.actor)
    whose = (
        "Everybody's sessions"
        if body.user_id is None
        else f"The sessions of {isolated(body.user_id)}"
    )
    return Done(data=CutoffAnswer(at=rfc3339(at)), message=f"{whose} begun up to now are over.")


def unknown() -> NotFound:
    return NotFound(
        "There is no live session with this id.",
        code="session_unknown",
        hint="It may have ended. Check the person's token: the answer says why.",
    )


CALLS: tuple[Call, ...] = (
    begin_session,
    check_session,
    save_current,
    save_session,
    rotate_current,
    rotate_session,
    end_current,
    end_others,
    end_sessions,
    list_sessions,
    get_session,
    name_device,
    note_last_device,
    end_session,
    end_user_sessions,
    cut_off_sessions,
)
