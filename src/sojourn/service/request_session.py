"""One request's session: opened from its cookie, used by the application, committed before the
response starts.

The logic is written once, as generators that yield what they want of `session.Sessions` and are sent
the answers; `run` carries them out one call at a time, `run_async` through a batcher. Adapters hand in
the cookie header and put the headers of `commit` on the response.

    open ──► (application: data, begin, rotate, elevate, end …) ──► commit ──► Set-Cookie?

A visit without a cookie asks the store nothing. Reading costs one look-up, and one more statement when
a touch is due; only a change of data writes, and only a new or an ended token sets the cookie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from sojourn.errors import Conflict, Forbidden, Unauthenticated
from sojourn.log import get_logger
from sojourn.service.adopted import AdoptedCookie as AdoptedCookie
from sojourn.service.adopted import RawTokens as RawTokens
from sojourn.service.opening import REMEMBER, OpenVisit, Replaced
from sojourn.service.rules import Request as Request
from sojourn.service.rules import Rules as Rules
from sojourn.service.steps import T as T
from sojourn.service.steps import Verb as Verb
from sojourn.service.steps import VisitStep as VisitStep
from sojourn.service.steps import run as run
from sojourn.service.steps import run_async as run_async
from sojourn.service.steps import verbs as verbs
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
    Timeouts,
    TooMany,
    user_text,
)
from sojourn.signing_in import keeps_label
from sojourn.token import TokenKind, new_token

log = get_logger(__name__)

OWN_SESSION = "sojourn:own"
"""The key under which the data of an impersonated session names the impersonator's own."""
CHOICES = (REMEMBER, OWN_SESSION)
"""Keys of ours in the data: the session's, whatever the application does with the rest of it."""
FAULT_STATUS = 500
"""From this status on, a response does not save what its request changed."""
_NEVER = object()


class RequestSession(OpenVisit):
    """One request's session, and what may be done with it."""

    def _end_others_here(self) -> VisitStep[None]:
        """End what the browser's other cookies of our name open: it would be found in the place of the
        session that begins here, or after a sign-out."""
        for token in self._others():
            found: Session | Gone = yield "check", Check(token, touch=False, signed=True)
            if isinstance(found, Session):
                yield "end", End(ids=(found.id,), reason="replaced")
            self._stale = True

    def begin(
        self,
        user_id: object,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
        remember: bool | None = None,
        cookie: bool = True,
    ) -> VisitStep[Session | TooMany]:
        """Sign a user in, under a new token; the one the browser had is worth nothing from now on.

        The data is kept, unless it was another user's. A `user_id` that is an int or a UUID is kept as
        text. `remember`: whether the cookie outlives the browser; None: as the rules say. `cookie`: False
        gives none, for clients of an API, which are sent `bearer`. TooMany: the user has as many sessions
        as allowed, and the rules do not end the oldest; nothing has changed.
        """
        user = user_text(user_id)
        self._before_response()
        old = self.session
        own = old is None or (old.user_id in (None, user) and old.impersonator is None)
        self._put_back()
        changes = self.data.delta()
        # The old one goes when the response leaves: without a response the browser keeps its cookie.
        later = self._request.tentative and old is not None and old.id not in self._made
        data = {**self.data.stored, **changes.set} if later else dict(changes.set)
        for key in changes.unset if later else ():
            data.pop(key, None)
        if not own:
            data = {}
        if remember is not None:
            data[REMEMBER] = remember
        elif REMEMBER in self.data.stored:  # of the sign-in before
            data[REMEMBER] = self.rules.cookie.persistent
        limit = self.rules.limit
        if later and old is not None and old.user_id == user and limit is not None:
            limit += 1  # the one that is about to go
        begun: Begun | TooMany = yield (
            "begin",
            Begin(
                user_id=user,
                data=data,
                timeouts=timeouts or self.rules.timeouts,
                device=self._device,
                level=level,
                replaces=None if old is None or later else old.id,
                ending=tuple(ending),
                limit=limit,
                at_limit=self.rules.at_limit,
            ),
        )
        if isinstance(begun, TooMany):
            return begun
        before = {} if old is None or not own else old.data
        if later and old is not None and self._token is not None:
            self._replaced = Replaced(
                old,
                Check(self._token, touch=False, adopted=self._adopted is not None, signed=True),
                own=own,
            )
        self._rotation = None
        self._made += (begun.session.id,)
        yield from self._end_others_here()
        self._cookieless = not cookie
        self._adopt(begun)
        self._keep(before, changes.unset)
        return begun.session

    def _put_back(self) -> None:
        """Put keys of ours back that went when the application cleared its data."""
        for key in CHOICES:
            if key in self.data.stored and not dict.__contains__(self.data, key):
                dict.__setitem__(self.data, key, self.data.stored[key])

    def take_data(self) -> dict[str, Any]:
        """Return what the application holds, models included, to go on with under another user: what the
        sign-in before chose is not part of it. Raises InvalidInput for what cannot be stored."""
        self.data.delta()  # writes models
        return {key: value for key, value in dict.items(self.data) if key not in CHOICES}

    def _keep(self, before: dict[str, Any], unset: Sequence[str]) -> None:
        """Keep what the old session held, though another tab's sign-in has ended it meanwhile."""
        missing = {k: v for k, v in before.items() if not dict.__contains__(self.data, k)}
        if missing or unset:
            self.data.touch()
        for key in unset:
            self.data.pop(key, None)
            missing.pop(key, None)
        if missing:
            self.data.update(missing)

    def impersonate(self, user_id: object) -> VisitStep[Session]:
        """Act as another user, for an hour at most, visibly (`impersonator`). Whether the user of this
        session may do so is for the application to decide, before it asks."""
        user = user_text(user_id)
        own = self._signed_in()
        self._before_response()
        if own.impersonator is not None or own.user_id == user:
            raise Conflict("Somebody who is being impersonated cannot impersonate.")
        yield from self._carry_out_rotation()
        yield from self.save()  # what this request has put into one's own session stays there
        begun = yield (
            "begin",
            Begin(
                user_id=user,
                data={OWN_SESSION: own.id},
                timeouts=self.rules.timeouts,
                device=self._device,
                level=own.level,
                impersonator=own.user_id,
            ),
        )
        self._made += (begun.session.id,)
        return self._adopt(begun)

    def stop_impersonating(self) -> VisitStep[Session | None]:
        """End the impersonation and return to one's own session, under a new token. None: it has
        ended meanwhile, and nobody is signed in any more."""
        session = self._signed_in()
        self._before_response()
        own_id = session.data.get(OWN_SESSION)
        if session.impersonator is None or not isinstance(own_id, str):
            raise Conflict("Nobody is being impersonated here.")
        begun: Begun | None = yield "rotate", Rotate(id=own_id, grace=0)
        self._rotation = None
        if self._request.tentative and begun is not None:
            self._leaving = session.id
        else:
            yield "end", End(ids=(session.id,), reason="impersonation_ended")
        if begun is None or begun.session.user_id != session.impersonator:
            self._drop("impersonation_ended")
            return None
        return self._adopt(begun)

    def begin_visitor(self) -> VisitStep[Session]:
        """Begin a session without a user, even if there is nothing to store yet."""
        self._before_response()
        begun: Begun = yield (
            "begin",
            Begin(data=self.data.delta().set, timeouts=self.rules.visitors, device=self._device),
        )
        self._made += (begun.session.id,)
        return self._adopt(begun)

    def rotate(self, *, grace: int | None = None) -> VisitStep[Session | None]:
        """Give the session a new token; the old one works for a short grace, in ms."""
        return (yield from self._rotate(self.rules.grace if grace is None else grace, None))

    def elevate(self, level: int) -> VisitStep[Session | None]:
        """Note that the user has just proved who they are again, at this level (step-up). The old
        token dies at once (ASVS 5.0 7.2.4)."""
        self._signed_in()
        return (yield from self._rotate(0, level))

    def _rotate(
        self, grace: int, level: int | None, token: str | None = None
    ) -> VisitStep[Session | None]:
        if self.session is None:
            raise Unauthenticated("There is no session here.")
        self._before_response()
        before = self._rotation
        named = self._request.token is not None
        ours = token is None and (self._token or "").startswith(TokenKind.SESSION)
        if ours and self._request.tentative and (named or self.rules.header_tokens):
            # Known now, for the response to tell, and good once it leaves.
            token = (before.token if before else None) or new_token(TokenKind.SESSION)
        rotation = Rotate(id=self.session.id, grace=grace, level=level, token=token)
        if before is not None:
            rotation = Rotate(
                id=rotation.id,
                grace=min(before.grace, grace),
                level=before.level if level is None else level,
                token=token,
            )
        self._rotation = rotation
        if not self._request.tentative or (named and token is None):
            yield from self._carry_out_rotation()
        elif level is not None:
            session = self.session
            self.session = replace(session, level=level, authenticated_at=session.at)
        return self.session

    def _carry_out_rotation(self) -> VisitStep[None]:
        rotation, self._rotation = self._rotation, None
        if rotation is None:
            return
        begun: Begun | None = yield "rotate", rotation
        if begun is None:
            self._lose()
            return
        self.session, self._token = begun.session, begun.token
        self._give(begun)

    def end(self, reason: str = "signed_out") -> VisitStep[None]:
        """Sign out: end the session, forget its data, take the cookie back."""
        if self.session is not None:
            yield "end", End(ids=(self.session.id,), reason=reason)
        yield from self._end_others_here()
        yield from self._end_replaced()
        self._drop(reason)

    def end_others(self, reason: str = "signed_out_elsewhere") -> VisitStep[list[str]]:
        """End the user's other sessions; return their ids."""
        session = self._signed_in()
        ended: list[str] = yield (
            "end",
            End(user_id=session.user_id, keep=(session.id,), reason=reason),
        )
        return ended

    def end_all(self, reason: str = "signed_out_everywhere") -> VisitStep[list[str]]:
        """End all of the user's sessions, this one included; return their ids."""
        session = self._signed_in()
        ended: list[str] = yield "end", End(user_id=session.user_id, reason=reason)
        yield from self._end_others_here()
        yield from self._end_replaced()
        self._drop(reason)
        return ended

    def others(self) -> VisitStep[list[Session]]:
        """List the user's other live sessions, newest first."""
        session = self._signed_in()
        found: list[Session] = yield "of", session.user_id
        return [each for each in found if each.id != session.id]

    def commit(self, status: int = 200) -> VisitStep[list[tuple[str, str]]]:
        """Save what has changed; return the headers that the response must carry.

        A visitor's first data begins a session. A response that reports a fault (5xx) saves nothing.
        A session that has ended meanwhile stays ended: what was to be saved is dropped.
        """
        if status < FAULT_STATUS:
            yield from self._follow_user()
            yield from self._carry_out_rotation()
        yield from self._end_replaced()
        if status < FAULT_STATUS:
            yield from self.save()
        return self.finish(status)

    def _follow_user(self) -> VisitStep[None]:
        """Let the session belong to whom its data names, if a key of it is to; see `Rules.user_key`. What
        else is in the data is kept, a "goodbye" for the next page included. Raises Forbidden if the user
        has as many sessions as allowed."""
        key = self.user_key
        if key is None:
            return
        named, before = dict.get(self.data, key), self.data.stored.get(key)
        user = None if named in (None, "") else user_text(named)
        if user is None and (before in (None, "") or self.user_id != user_text(before)):
            return
        if user == self.user_id:
            return
        if user is not None and self.user_id is not None and (named == before or self._made):
            return  # the application has said itself who is signed in, by another id
        data = self.take_data()
        if self.user_id is not None:
            yield from self.end("signed_out" if user is None else "user_changed")
            self.data.update(data)
        if user is None:
            return
        begun = yield from self.begin(user)
        if isinstance(begun, TooMany):
            raise Forbidden(
                f"You are signed in {begun.limit} times, which is the most allowed.",
                code="too_many_sessions",
                hint="Sign out somewhere else first.",
            )

    def _end_replaced(self) -> VisitStep[None]:
        """End what the browser had before, now that its cookie is about to be replaced."""
        replaced, self._replaced = self._replaced, None
        if replaced is not None:
            # Another request may have written to it since it was read.
            old = replaced.session
            seen: Session | Gone = yield "check", replaced.check
            if replaced.own and isinstance(seen, Session) and seen.revision != old.revision:
                for key, value in seen.data.items():
                    was = old.data.get(key, _NEVER)
                    if value != was and dict.get(self.data, key, _NEVER) == was:
                        self.data[key] = value
            yield from self._keep_label(seen)
            yield "end", End(ids=(old.id,), reason="replaced")
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            yield "end", End(ids=(leaving,), reason="impersonation_ended")

    def _keep_label(self, old: Session | Gone) -> VisitStep[None]:
        """Let the name of the device stay with the session that takes the place of its own (S7)."""
        new = self.session
        if new is None or not isinstance(old, Session) or old.label is None:
            return
        wish = Begin(user_id=new.user_id, impersonator=new.impersonator)
        if new.user_id is not None and keeps_label(wish, old):
            yield "rename", Rename(id=new.id, user_id=new.user_id, label=old.label)
            self.session = replace(new, label=old.label)

    def undo(self) -> VisitStep[None]:
        """Take back what no response will tell the browser of: it keeps the cookie that it has, so the
        session that this one opens must go on, and nothing that nobody holds may be left."""
        made, self._made = self._made, ()
        self._rotation = self._replaced = self._leaving = None
        if made:
            yield "end", End(ids=made, reason="unanswered")

    @property
    def in_doubt(self) -> bool:
        """Tell whether there is anything to `undo` if no response leaves."""
        return bool(self._made)

    def sent(self) -> None:
        """Note that the response has left, with its cookie."""
        self._made = ()

    @property
    def unchanged(self) -> bool:
        """Tell whether `commit` would ask nothing, and nothing waits for it: most requests only read."""
        pending = self._made or self._rotation or self._replaced or self._leaving or self.fault
        return not pending and not self.data.looks_modified

    def finish(self, status: int = 200) -> list[tuple[str, str]]:
        """Return the headers of the response, once there is nothing left to save; see `commit`."""
        if not self._committed:
            self._committed, self._saves = True, status < FAULT_STATUS
            self.data.close()
        given = [*self._cleared(), *filter(None, (self._set_cookie, self._clear_cookie))]
        headers = [("Vary", "Cookie")] if given or self.asked or self.data.accessed else []
        self.varied = bool(headers)
        if headers and self.rules.header_tokens:
            headers.append(("Vary", "Authorization"))
        if given and self._request.token is None:
            headers += [("Set-Cookie", each) for each in given]
            headers.append(("Cache-Control", 'no-cache="Set-Cookie"'))
        return headers

    @property
    def read_late(self) -> bool:
        """Tell whether somebody has asked who is there when the response could not say so any more. Who has
        changed something by then is told that, see `unsaved`."""
        asked = self.asked or self.data.accessed
        return asked and self._committed and not self.varied and not self.unsaved

    @property
    def unsaved(self) -> bool:
        """Tell whether data was changed after the commit, or looked up after it, which was too late."""
        return (self._saves or not self._committed) and self.data.looks_modified

    def save(self) -> VisitStep[None]:
        """Save what has changed, now. A session that has ended meanwhile stays ended."""
        if self.session is not None:
            self._put_back()
        changes = self.data.delta()
        if not changes:
            return
        if self.session is None:
            if changes.set and not self._committed:  # or its cookie would never arrive
                begun = yield (
                    "begin",
                    Begin(data=changes.set, timeouts=self.rules.visitors, device=self._device),
                )
                self._made += (begun.session.id,)
                self._adopt(begun)
            return
        revision = yield (
            "save",
            Save(id=self.session.id, set=changes.set, unset=changes.unset),
        )
        if revision is None:
            log.info("save_after_end", session=self.session.id, keys=len(changes.set))
            self._lose()
        else:
            self.data.saved(changes)

    def _before_response(self) -> None:
        if self._committed:
            raise Conflict(
                "The response has started, so the browser cannot be given a new token any more.",
                hint="Do this before the response, or before the WebSocket is accepted.",
            )

    def _signed_in(self) -> Session:
        if self.session is None or self.session.user_id is None:
            raise Unauthenticated("Nobody is signed in here.", hint="Sign in first.")
        return self.session

    def _adopt(self, begun: Begun) -> Session:
        self.session, self.gone, self._token = begun.session, None, begun.token
        self.data.replace(begun.session.data)
        self._give(begun)
        return begun.session

    def _drop(self, reason: str) -> None:
        self._lose()
        self.gone = Gone(reason=GoneReason.ENDED, end_reason=reason)
        self._set_cookie = self.rules.cookie.clear(https=self._request.origin.https)
        self._let_go()

    def _lose(self) -> None:
        self.session = self._token = None
        self._cookieless = False
        self.gone = Gone(reason=GoneReason.ENDED)
        self.data.forget()


Visit = RequestSession
"""Its old name."""
