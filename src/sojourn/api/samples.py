"""Sample sessions, on a server for developing: made, and taken away."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.api.sample_sessions import SAMPLES_MAX, USER, Samples
from sojourn.cookie import SignedTokens
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Answer, Done, Name, Wire, optional
from sojourn.wire.sessions import SessionBody, session_body

BASE = "/api/dev/sample-sessions"

Many = Annotated[int, Meta(ge=1, le=SAMPLES_MAX)]


class SamplesBody(Wire, frozen=True, kw_only=True):
    user_id: Name = USER
    count: Many = 7


class SamplesQuery(Wire, frozen=True, kw_only=True):
    after: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    limit: Many = SAMPLES_MAX


class SamplesAnswer(Answer, frozen=True, kw_only=True):
    """`cookie`: what the first one's browser would send, to look at the security page as this user."""

    user_id: str
    sessions: list[SessionBody]
    cookie: str


class SamplesRemovedAnswer(Answer, frozen=True, kw_only=True):
    """`next`: there may be more, after this one."""

    ended: int
    next: str | None


@operator("POST", BASE, may=Permission.SESSIONS, status=201, problems=("not_dev",))
def make_sample_sessions(ask: OperatorCall, body: SamplesBody) -> Done[SamplesAnswer]:
    """Make sample sessions, for trying a page out.

    Only a server with the setting `dev` does. Their ids begin with `ses_sample_`, and their data says
    `sojourn.sample`. All of them begin now.
    """
    settings = ask.context.settings
    begun = _samples(ask).make(body.user_id, body.count)
    codec = SignedTokens([each.encode() for each in settings.secret])
    return Done(
        data=SamplesAnswer(
            user_id=body.user_id,
            sessions=[session_body(each.session, data=True) for each in begun],
            cookie=f"{settings.cookie_name}={codec.encode(begun[0].token)}",
        )
    )


@operator("DELETE", BASE, may=Permission.SESSIONS_END)
def remove_sample_sessions(ask: OperatorCall, query: SamplesQuery) -> Done[SamplesRemovedAnswer]:
    """Take sample sessions away, and nothing else.

    A page at a time: ask again with `after`, until there is no `next`. Any server does, in case that
    some were made where they do not belong.
    """
    done = _samples(ask).remove(after=optional(query.after), limit=query.limit, actor=ask.actor)
    return Done(data=SamplesRemovedAnswer(ended=done.ended, next=done.next))


def _samples(ask: OperatorCall) -> Samples:
    return Samples(ask.context.services.sessions, dev=ask.context.settings.dev)


CALLS = (make_sample_sessions, remove_sample_sessions)
