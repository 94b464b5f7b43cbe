"""Sessions for Django.

    SESSION_ENGINE = "sojourn.adapters.django"
    SOJOURN = {"store": "postgresql://…"}            what is left out comes from SOJOURN_… and sojourn.toml
    MIDDLEWARE = ["sojourn.adapters.django.SessionMiddleware", …]        in the place of Django's own

`request.session` is what it always was, with JSON values; `django.contrib.auth` works unchanged. With
the middleware, `request.sojourn` tells more: the public id, where else the user is signed in.

The session belongs to whom its data says (`_auth_user_id`): when that changes, a new session begins in
the place of the old one, so that no key from before a sign-in is worth anything after it.
"""

from __future__ import annotations

from sojourn.extras import need

need("django", "django", "sojourn.adapters.django")

import asyncio
import weakref
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Self, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware as DjangoMiddleware
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from msgspec.json import encode
from msgspec.structs import replace

from sojourn.adapters.desk import Desk
from sojourn.adapters.django_checks import check_sessions
from sojourn.adapters.django_keys import ID, is_live, keyed, live, look_up
from sojourn.adapters.django_responses import load_cookie, unavailable
from sojourn.adapters.django_settings import check_settings, lazy_desk, sent_by_header
from sojourn.adapters.django_tests import in_tests, remember, with_tokens
from sojourn.adapters.sync import Headers, SyncVisit
from sojourn.clock import SECOND
from sojourn.data import SessionData
from sojourn.errors import CookiesTooLarge, Overloaded, StoreError
from sojourn.log import get_logger
from sojourn.service.request_session import FAULT_STATUS, RequestSession
from sojourn.service.sessions import LIFETIME_MAX
from sojourn.session import End, Session, Timeouts, TooMany

log = get_logger(__name__)

M = TypeVar("M")
EXPIRY = "_session_expiry"
"""The key under which Django keeps what `set_expiry` was given."""


class DjangoVisit(SyncVisit):
    """The session of one request: `request.sojourn`. To sign in and out, use `django.contrib.auth`."""

    def impersonate(self, user: Any) -> Session:
        """Act as another user (a model's instance), visibly, for an hour at most. Whether the signed-in
        user may do so is for you to decide, before you ask. Redirect afterwards: `request.user` is
        somebody else from the next request on."""
        pk = user._meta.pk.value_to_string(user)  # noqa: SLF001  # as django.contrib.auth does
        backend = getattr(user, "backend", None) or self.data.get(BACKEND_SESSION_KEY)
        session = self.run(self.visit.impersonate(pk))
        self.data[SESSION_KEY] = pk
        self.data[BACKEND_SESSION_KEY] = backend
        self.data[HASH_SESSION_KEY] = user.get_session_auth_hash()
        return session

    begin_due: Callable[[], object] | None = None
    """Begins the session of a sign-in that is under way."""

    @property
    def token(self) -> str | None:
        """What a client of an API sends as `Authorization: Bearer …`; see `Rules.header_tokens`. A secret."""
        if self.begin_due is not None:
            self.begin_due()
        return super().token

    def _settle(self, desk: Desk, visit: RequestSession) -> None:
        """End a session that outlived the date which `set_expiry` was given."""
        expiry = dict.get(visit.data, EXPIRY)
        if visit.session is None or not isinstance(expiry, str):
            return
        if datetime.fromisoformat(expiry).timestamp() * SECOND <= visit.session.at:
            desk.run(visit.end("expired"))


class CarryingKey(str):
    """A public id that knows the request's visit until the response leaves. A copy of it, such as one
    that was stored, is a plain str and opens nothing."""

    __slots__ = ("_visit",)
    _visit: weakref.ref[DjangoVisit]

    def __new__(cls, key: str, visit: DjangoVisit) -> Self:
        made = super().__new__(cls, key)
        made._visit = weakref.ref(visit)  # a key that somebody keeps does not keep the request
        return made

    @property
    def visit(self) -> DjangoVisit | None:
        """The visit, while its request goes on."""
        visit = self._visit()
        return None if visit is None or visit.left else visit

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class SessionStore(SessionBase):  # type: ignore[misc]  # Django ships no types
    """Django's session. Changes are found by comparing, however deep: nobody has to set `modified`."""

    def __init__(
        self,
        session_key: str | None = None,
        *,
        visit: DjangoVisit | None = None,
        user_agent: str | None = None,
        ip: str | None = None,
    ) -> None:
        """`user_agent` and `ip`: as django-user-sessions' middleware knows them, for lists of devices.

        A store that is made of the key of the request's own, as django-allauth does on the way to a
        provider, takes its place: what was looked up and begun there is here, the cookie included."""
        if visit is None and isinstance(session_key, CarryingKey):
            visit = session_key.visit
        self._seen = (user_agent, ip)
        self.sojourn = DjangoVisit(lazy_desk, keyed(None, self._seen))
        self._forced = False
        self._requested = visit is not None
        self._quiet = b""
        super().__init__(session_key if visit is None else None)
        if visit is not None:
            self._brought = True
            self.sojourn = visit  # in the place of the one that the constructor has made of the key
            visit.begin_due = self._begin_due

    # What SessionBase stands on

    @property
    def session_key(self) -> str | None:
        """The session's public id, which opens nothing; None unless the session is live. A sign-in that
        is under way begins its session now, so that receivers of `user_logged_in` have its key.

        A store that was opened by a key, as by Django's own middleware, has what its cookie must be: the
        signed token, a secret."""
        visit = self.sojourn.visit
        self._begin_due()
        session, token = visit.session, visit.token
        if session is None or token is None:
            return None
        key = remember(session, token) if in_tests() else session.id
        if self._requested:
            return CarryingKey(key, self.sojourn)
        return key if in_tests() else lazy_desk.get().codec.encode(token)

    def _begin_due(self) -> None:
        visit = self.sojourn.visit
        if dict.get(visit.data, SESSION_KEY) not in (None, visit.user_id):
            self._apply_expiry(visit)
            self._change_hands(visit)

    @property
    def _session_key(self) -> str | None:
        return self.session_key

    @_session_key.setter
    def _session_key(self, value: str | None) -> None:
        self._brought = bool(value)
        self.sojourn = DjangoVisit(lazy_desk, keyed(value, self._seen))

    def hide_token(self) -> None:
        """Let `session_key` be the public id, as under our middleware."""
        self._requested = True

    def _get_session(self, no_load: bool = False) -> SessionData:  # noqa: ARG002  # Django's
        self.accessed = True
        return self.sojourn.data

    async def _aget_session(self, no_load: bool = False) -> SessionData:
        if self.sojourn.opened:
            return self._get_session(no_load)
        found: SessionData = await _in_thread(self._get_session)(no_load)
        return found

    _session = property(_get_session)

    @property
    def modified(self) -> bool:
        """Tell whether there is anything to save, nested values included."""
        if self._forced:
            return True
        delta = self.sojourn.data.delta() if self.sojourn.opened else None
        return bool(delta) and encode(delta) != self._quiet

    @modified.setter
    def modified(self, value: bool) -> None:
        """True: a save is due. False: what has changed so far is no reason for one."""
        self._forced = bool(value)
        delta = self.sojourn.data.delta() if not value and self.sojourn.opened else None
        self._quiet = encode(delta) if delta else b""

    def is_empty(self) -> bool:
        """Tell whether there is neither a session nor anything to begin one for. Django's middleware
        asks after every request: a page that did not look at its session does not cost a look-up, and
        does not take the cookie away."""
        if not self.sojourn.opened and not (self._brought and settings.SESSION_SAVE_EVERY_REQUEST):
            return not self._brought
        return self.sojourn.session is None and not dict.__len__(self.sojourn.data)

    def model(self, kind: type[M], key: str | None = None) -> M:
        """Return a key's value as a msgspec, pydantic or dataclass model; see `SessionData.model`."""
        return self._get_session().model(kind, key)

    # Verbs

    def load(self) -> dict[str, Any]:
        """Return what is stored now, {} if the session is not live; whatever changed here is kept."""
        if not self.sojourn.opened:
            return dict(self._get_session())
        token = self.sojourn.visit.token
        found = None if token is None else look_up(token)
        return {} if found is None else found.data

    def exists(self, session_key: str | None) -> bool:
        """Tell whether a key is that of a live session, by its public id or signed here."""
        return live(session_key) is not None or is_live(session_key)

    def create(self) -> None:
        """Begin a session at once, whatever it holds. Where there is one, it gets a new key."""
        if self.sojourn.session is not None:
            self.cycle_key()
        self._save(even_empty=True)
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        """Save what has changed, key by key. Raises UpdateError if the session has ended meanwhile: it
        is not brought back; and CreateError for `must_create` where there is one."""
        if must_create and self.sojourn.session is not None:
            raise CreateError
        self._save(even_empty=True)

    def delete(self, session_key: str | None = None) -> None:
        """End a session: this one, or that of another key."""
        session = self.sojourn.session if session_key is None else live(session_key)
        ended = session_key if session is None else session.id
        if ended is not None and ended.startswith(ID):
            lazy_desk.get().verbs["end"]([End(ids=(ended,), reason="deleted")])

    def flush(self) -> None:
        """End the session and forget its data: what `logout` does."""
        self.accessed = True
        self.sojourn.end()
        self.modified = True

    def clear(self) -> None:
        """Forget the data; the session stays."""
        self._get_session().clear()
        self.modified = True

    def cycle_key(self) -> None:
        """Change the key and keep the data; the old key dies at once. Without a session there is none
        to change: the next save makes one."""
        self.accessed = True
        if self.sojourn.session is not None:
            self._apply_expiry(self.sojourn.visit)
            self.sojourn.run(self.sojourn.visit.rotate(grace=0))
        self.modified = True

    async def aflush(self) -> None:
        await _in_thread(self.flush)()

    async def acycle_key(self) -> None:
        await _in_thread(self.cycle_key)()

    @classmethod
    def clear_expired(cls) -> None:
        """Forget what ended long enough ago, in bounded batches (`manage.py clearsessions`). A Sojourn
        server sees to that by itself."""
        sweep = getattr(lazy_desk.get().sessions, "sweep", None)
        if sweep is not None:
            sweep()

    def get_session_cookie_age(self) -> int:
        """Return for how many seconds the session may live on, or might if it began now."""
        session = self.sojourn.session
        if session is not None and settings.SESSION_SAVE_EVERY_REQUEST:
            return max(1, min(session.idle_timeout, session.expires_at - session.at) // SECOND)
        if session is not None:
            return max(1, (session.expires_at - session.at) // SECOND)
        return lazy_desk.get().rules.timeouts.lifetime // SECOND

    # Committing

    def commit(self, status: int) -> Headers:
        """Save unless the response reports a fault; return the headers that it must carry."""
        renew = settings.SESSION_SAVE_EVERY_REQUEST and status < FAULT_STATUS
        if not self.sojourn.opened:
            if not renew:
                return []
            try:
                _ = self.sojourn.visit
            except (StoreError, Overloaded, CookiesTooLarge):
                return []  # nobody has asked for the session: the page is served, and renews nothing
        if status < FAULT_STATUS:
            self._save()
            self.sojourn.visit.rewrite_cookie()  # `set_expiry` may have come after the session began
        if renew:
            self.sojourn.visit.renew_cookie()
        return self.sojourn.commit(status)

    def _save(self, *, even_empty: bool = False) -> None:
        visit = self.sojourn.visit
        self._apply_expiry(visit)
        self._change_hands(visit)
        before = visit.session
        self.sojourn.run(visit.save())
        if visit.session is None and before is not None:
            raise UpdateError("The session has ended meanwhile; nothing was saved.")
        if visit.session is None and even_empty:
            self.sojourn.run(visit.begin_visitor())

    def _change_hands(self, visit: RequestSession) -> None:
        """See to it that the session belongs to the user whom its data names."""
        user_id = dict.get(visit.data, SESSION_KEY)
        if user_id == visit.user_id:
            return
        if visit.user_id is not None:  # rewritten by hand, rather than by login() or logout()
            data = visit.take_data()
            self.sojourn.end("user_changed")
            visit.data.update(data)
        if user_id is None:
            return
        begun = self.sojourn.run(visit.begin(str(user_id)))
        if isinstance(begun, TooMany):
            raise PermissionDenied(
                f"You are signed in {begun.limit} times, which is the most allowed. Sign out there."
            )

    def _apply_expiry(self, visit: RequestSession) -> None:
        """Let what `set_expiry` was given decide about a session that is about to begin."""
        expiry = dict.get(visit.data, EXPIRY)
        rules = lazy_desk.get().rules
        if expiry is None:
            visit.rules = rules
        elif expiry == 0:
            visit.rules = replace(rules, cookie=replace(rules.cookie, persistent=False))
        else:
            age = round(self.get_expiry_age(expiry=expiry) * SECOND)
            age = min(LIFETIME_MAX, max(1, age))
            # A date is the end; a number of seconds is how long it may lie unused.
            lifetime = age if isinstance(expiry, str) else max(age, rules.timeouts.lifetime)
            timeouts = Timeouts(lifetime=lifetime, idle_timeout=age)
            visit.rules = replace(rules, timeouts=timeouts, visitors=timeouts)


class SessionMiddleware(DjangoMiddleware):  # type: ignore[misc]  # Django ships no types
    """Takes the place of Django's: gives `request.sojourn`, sends the cookie only when it changes,
    saves nothing of a request that failed, and answers 503 while the store is down."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        check_settings()  # now, not with the first visitor
        for said in check_sessions():
            log.warning("django_check", id=said.id, said=said.msg, hint=said.hint)
        super().__init__(get_response)

    def __call__(self, request: HttpRequest) -> Any:
        try:
            return super().__call__(request)
        except BaseException:
            _abandon(request)
            raise

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        try:
            return await super().__acall__(request)
        except BaseException:  # canceled, mostly, and maybe more than once
            task = asyncio.ensure_future(_in_thread(_abandon)(request))
            _abandoning.add(task)
            task.add_done_callback(_abandoning.discard)
            await asyncio.shield(task)
            raise

    def process_request(self, request: HttpRequest) -> None:
        def make(desk: Desk) -> RequestSession:
            meta = request.META
            name = desk.rules.cookie.sent_as(request.scheme == "https")
            return desk.visit(
                cookies=with_tokens(meta.get("HTTP_COOKIE", ""), name, desk.codec),
                path=request.path,
                peer=meta.get("REMOTE_ADDR"),
                scheme=request.scheme,  # Django's own word, SECURE_PROXY_SSL_HEADER included
                forwarded_for=meta.get("HTTP_X_FORWARDED_FOR", ""),
                forwarded_proto=meta.get("HTTP_X_FORWARDED_PROTO", ""),
                header=lambda name: meta.get(f"HTTP_{name.upper().replace('-', '_')}"),
                tentative=True,
            )

        request.sojourn = DjangoVisit(lazy_desk, make)
        if sent_by_header(request):
            # Browsers send no such header by themselves, so no page of others can make one send it.
            request._dont_enforce_csrf_checks = True  # noqa: SLF001  # as DRF does
        request.session = self.SessionStore(visit=request.sojourn)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, StoreError | Overloaded | CookiesTooLarge):
            return unavailable(request, exception)
        return None

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            return super().process_response(request, response)
        answer = self._committed(request, session, response)
        session.sojourn.sent()
        late = partial(session.sojourn.tell_late, request.path)
        answer._resource_closers.append(late)  # noqa: SLF001  # as Django itself does
        return answer

    def _committed(
        self, request: HttpRequest, session: SessionStore, response: HttpResponse
    ) -> HttpResponse:
        if session.sojourn.fault is not None and response.status_code >= FAULT_STATUS:
            # Another middleware has met it, and made a page of its own of it.
            return unavailable(request, session.sojourn.fault, response)
        try:
            headers = session.commit(response.status_code)
        except UpdateError:
            raise SessionInterrupted(
                "The session ended before this request was done: somebody signed out elsewhere. "
                "Nothing was saved."
            ) from None
        except (StoreError, Overloaded, CookiesTooLarge) as fault:
            answer = unavailable(request, fault, response)
            if session.sojourn.opened:  # the session that a given cookie opens is there
                for name, value in session.sojourn.visit.finish(FAULT_STATUS):
                    if name == "Set-Cookie":
                        load_cookie(answer, value)
            return answer
        if session.accessed or session.sojourn.opened:
            patch_vary_headers(response, ("Cookie",))
        for name, value in headers:
            if name == "Set-Cookie":
                load_cookie(response, value)
            elif name == "Cache-Control" and response.has_header(name):
                response[name] = f"{response[name]}, {value}"
            elif name == "Vary":
                patch_vary_headers(response, (value,))
            else:
                response[name] = value
        return response


_abandoning: set[asyncio.Future[None]] = set()


def _abandon(request: HttpRequest) -> None:
    """Take back what no response has told the browser of."""
    if isinstance(getattr(request, "sojourn", None), DjangoVisit):
        request.sojourn.abandon()


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run off the loop, and beside others: a store may be called from several threads."""
    return sync_to_async(function, thread_sensitive=False)


__all__ = ["DjangoVisit", "SessionMiddleware", "SessionStore"]
