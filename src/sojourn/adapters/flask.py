"""Sessions for Flask.

    app = Flask(__name__)
    Sojourn(app)                                     settings from app.config, SOJOURN_… and sojourn.toml

`flask.session` holds JSON values, as ever. `visit` says who is signed in and signs people in and out:

    from sojourn.adapters.flask import visit
    visit.begin(user.id)

The session is looked up when it is first asked for, and saved before the response starts.
"""

from __future__ import annotations

from sojourn.extras import need

need("flask", "flask", "sojourn.adapters.flask")

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Flask, abort, current_app, has_request_context, redirect, request
from flask import session as flask_session
from flask.globals import request_ctx
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from flask.wrappers import Request, Response
from msgspec.structs import replace
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Response as AnyResponse

from sojourn.adapters.account import READ, Account, Mount, make_account
from sojourn.adapters.desk import Desk, LazyDesk
from sojourn.adapters.flask_config import PREFIX, USER_KEY, FlaskTags, opener, tell_unread
from sojourn.adapters.sync import UserVisit
from sojourn.clock import MINUTE
from sojourn.data import SessionData
from sojourn.errors import (
    CookiesTooLarge,
    Forbidden,
    Overloaded,
    SettingsError,
    SojournError,
    StoreError,
    Unauthenticated,
)
from sojourn.log import get_logger
from sojourn.people.account import METHODS, PATHS
from sojourn.people.sign_in import refusal, sign_in_problem
from sojourn.service.request_session import FAULT_STATUS, RequestSession

log = get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M")

PERMANENT = "_permanent"
"""The key under which Flask keeps `session.permanent`."""


class Sojourn:
    """Installs Sojourn on Flask applications: `Sojourn(app)`, or `init_app` later.

    `app.config` may hold SOJOURN_STORE, SOJOURN_SECRET, SOJOURN_KEY and SOJOURN_TRUSTED_PROXIES, and
    rules: SOJOURN_RULES (`Rules`, or a dict of its fields), or each by itself, such as SOJOURN_TIMEOUTS
    ("aal2", or `Timeouts`), SOJOURN_COOKIE (`CookieOptions`, or a dict) and SOJOURN_LIMIT. They are read
    here, the store is opened at the first request. A `desk` takes the place of them all. Flask's own
    SESSION_COOKIE_NAME, _DOMAIN, _PATH, _SECURE, _SAMESITE and _PARTITIONED hold where the rules name no
    cookie; what else is set and not read is named in the log.

    SOJOURN_USER_KEY: the key of the session by which a login library names the user; "_user_id" unless it
    is set, which is Flask-Login's. A sign-in through it renews the token, a sign-out ends the session.

    `account` (or SOJOURN_ACCOUNT, `Account` or a dict of its fields): serve the page
    `/account/security`, too, and the calls behind it.
    """

    def __init__(
        self, app: Flask | None = None, *, desk: Desk | None = None, account: Account | None = None
    ) -> None:
        self._given = desk
        self._account = account
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Take over the application's sessions. Raises SettingsError."""
        desk = self._given
        if desk is None:
            lazy = LazyDesk(opener(app.config))
        else:
            tell_unread(app.config)
            lazy = LazyDesk(lambda: desk)
        app.session_interface = SojournSessions(lazy)
        app.extensions["sojourn"] = self
        for fault in (StoreError, Overloaded, CookiesTooLarge):
            app.register_error_handler(fault, _unavailable)
        app.teardown_request(_abandon)
        app.register_error_handler(Unauthenticated, _sign_in)
        account = make_account(self._account or app.config.get(f"{PREFIX}ACCOUNT"))
        if account is not None:
            app.register_blueprint(_pages(lazy, Mount(account)))


def _pages(desk: LazyDesk, mount: Mount) -> Blueprint:
    """Return the page `/account/security`, and the calls behind it, which see to sessions themselves."""
    blueprint = Blueprint("sojourn", __name__)

    def answer(**_pieces: str) -> AnyResponse:
        environ = request.environ
        here = desk.get()
        asked = mount.read(
            here,
            method=request.method,
            path=environ.get("PATH_INFO", ""),
            query=environ.get("QUERY_STRING", ""),
            peer=environ.get("REMOTE_ADDR"),
            scheme=environ.get("wsgi.url_scheme", "http"),
            header=request.headers.get,
            body=request.stream.read(READ),
        )
        encoding = request.headers.get("Accept-Encoding", "")
        prefix = environ.get("SCRIPT_NAME", "")
        found = mount.respond(here, asked, prefix=prefix, accept_encoding=encoding)
        if found is None:
            abort(404)
        status, headers, body = found
        response = current_app.response_class(body, status)
        response.headers.clear()
        for name, value in headers:
            response.headers.add(name, value)
        return response

    for path in PATHS:
        rule = path.replace("{", "<").replace("}", ">")
        blueprint.add_url_rule(rule, path, answer, methods=METHODS)
    return blueprint


class FlaskVisit(UserVisit):
    """The session of one request: `visit`, or `current()`."""


class FlaskSession(SessionMixin):
    """What `flask.session` stands for. Changes are found by comparing, however deep: nobody has to set
    `modified`, and setting it does nothing."""

    def __init__(self, visit: FlaskVisit, context: object) -> None:
        self.sojourn = visit
        self.accessed = False
        # The request's own: copies of it, for threads and greenlets, may end before the response leaves.
        self._context = weakref.ref(context)

    def is_of(self, context: object) -> bool:
        return self._context() is context

    @property
    def _data(self) -> SessionData:
        self.accessed = True
        return self.sojourn.data

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def clear(self) -> None:
        self._data.clear()  # at once, models included

    def __repr__(self) -> str:
        return f"<session of {self.sojourn!r}>"  # not the values: reprs end up in logs

    @property
    def modified(self) -> bool:
        return self.sojourn.opened and self.sojourn.data.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        """Take no notice: a change is a change, and the same value is none."""

    def model(self, kind: type[M], key: str | None = None) -> M:
        """Return a key's value as a msgspec, pydantic or dataclass model; see `SessionData.model`."""
        return self._data.model(kind, key)

    @property
    def new(self) -> bool:  # type: ignore[override]  # Flask's is an attribute that nobody sets
        """Tell whether there is no session in the store yet."""
        return self.sojourn.session is None

    @property
    def permanent(self) -> bool:
        """What was set, False before: others, such as Flask-Login's strong protection, decide by it. The
        cookie outlives the browser as `CookieOptions.persistent` says, until something is set here; that
        holds from the next sign-in on."""
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self.get(PERMANENT) is not bool(value):
            self[PERMANENT] = bool(value)

    def commit(self, status: int) -> list[tuple[str, str]]:
        """Save what has changed; return the headers that the response must carry."""
        if not self.sojourn.opened:
            return []
        visit = self.sojourn.visit
        stored = dict.get(visit.data, PERMANENT)
        if stored is not None:
            cookie = replace(visit.rules.cookie, persistent=bool(stored))
            visit.rules = replace(visit.rules, cookie=cookie)
            visit.rewrite_cookie()  # the session may have begun before
            if visit.session is None and dict.__len__(visit.data) == 1:
                visit.data.clear()  # how long to remember nothing is not worth a row
        return self.sojourn.commit(status)


class SojournSessions(SessionInterface):
    """Flask's `session_interface`."""

    def __init__(self, desk: LazyDesk) -> None:
        self._desk = desk
        self._tags = FlaskTags()

    @property
    def serializer(self) -> TaggedJSONSerializer:
        """Where an application registers tags of its own, as with Flask's sessions."""
        return self._tags.serializer

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        def make(desk: Desk) -> RequestSession:
            environ = request.environ
            visit = desk.visit(
                cookies=environ.get("HTTP_COOKIE", ""),
                path=request.path,
                peer=environ.get("REMOTE_ADDR"),
                scheme=environ.get("wsgi.url_scheme", "http"),
                forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", ""),
                forwarded_proto=environ.get("HTTP_X_FORWARDED_PROTO", ""),
                header=lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}"),
                tentative=True,
            )
            visit.data.tags = self._tags
            visit.user_key = app.config.get(f"{PREFIX}USER_KEY", visit.user_key or USER_KEY)
            if _is_event(request):
                visit.finish()  # its response left when the socket opened
                visit.varied = True  # and no cache keeps it
            return visit

        return FlaskSession(FlaskVisit(self._desk, make), _context() or request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:  # noqa: ARG002  # Flask's
        """Commit. The response of a request whose changes cannot be saved is not sent: it would claim
        what has not happened."""
        if not isinstance(session, FlaskSession):
            return
        try:
            headers = session.commit(response.status_code)
        except (StoreError, Overloaded, Forbidden) as fault:
            given = session.sojourn.visit.finish(FAULT_STATUS) if session.sojourn.opened else []
            _replace(response, fault)
            for name, value in given:
                if name == "Set-Cookie":  # the session that it opens is there
                    response.headers.add(name, value)
            session.sojourn.sent()
            return
        session.sojourn.sent()
        if has_request_context() and _is_event(request):
            session.sojourn.tell_late(request.path)
        response.call_on_close(functools.partial(session.sojourn.tell_late, request.path))
        if session.accessed or session.sojourn.opened:
            response.vary.add("Cookie")
        for name, value in headers:
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers.add(name, value)


def _is_event(request: Request) -> bool:
    """Tell whether this is what came over a socket of Flask-SocketIO's."""
    return hasattr(request, "sid") and hasattr(request, "namespace")


def current() -> FlaskVisit:
    """Return this request's visit. Raises SettingsError where Sojourn is not installed."""
    if not has_request_context():
        raise RuntimeError("Working outside of a request: there is no session here.")
    session = flask_session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # a LocalProxy's
    if not isinstance(session, FlaskSession):
        raise SettingsError(
            "Sojourn is not installed on this application.", hint="Call Sojourn(app) first."
        )
    return session.sojourn


visit: FlaskVisit = LocalProxy(current)  # type: ignore[assignment]  # it stands for what current() returns


def require_session(view: Callable[P, R]) -> Callable[P, R]:
    """Let only those in who are signed in: others get a 401, or are sent to SOJOURN_SIGN_IN_URL."""

    @functools.wraps(view)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        _demand(current())
        return _call(view, *args, **kwargs)

    return wrapped


def require_recent_sign_in(
    minutes: float, level: int = 1
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only those in who proved who they are so recently, at this level or above (step-up)."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            here = current()
            _demand(here)
            if not here.recent(round(minutes * MINUTE), level):
                raise Unauthenticated(
                    "Please confirm that it is you.",
                    code="sign_in_not_recent",
                    hint="This asks for a sign-in that is more recent, or stronger. Sign in again.",
                )
            return _call(view, *args, **kwargs)

        return wrapped

    return decorate


def _call(view: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    answer: R = current_app.ensure_sync(view)(*args, **kwargs)  # the view may be async
    return answer


def _demand(here: FlaskVisit) -> None:
    if here.user_id is None:
        raise Unauthenticated("You are not signed in.", hint="Sign in first.")


def _context() -> Any:
    """Return the context of the request, None outside of one."""
    if not has_request_context():
        return None
    return request_ctx._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # a LocalProxy's


def _abandon(_fault: BaseException | None = None) -> None:
    """Take back what no response has told the browser of, as where a debugger shows an error's page."""
    context = _context()
    # From Flask 3.1.3 on, to ask for `session` counts as looking at it.
    session = context._session if hasattr(context, "_session") else context.session  # noqa: SLF001  # see above
    if not isinstance(session, FlaskSession) or not session.sojourn.opened:
        return
    if not session.is_of(context):
        return
    if session.sojourn.visit.in_doubt:
        session.sojourn.abandon()


def _accept() -> str:
    return request.headers.get("Accept", "")


def _unavailable(fault: Exception) -> AnyResponse:
    assert isinstance(fault, SojournError)
    response = current_app.response_class()
    _replace(response, fault)
    return response


def _replace(response: Response, fault: SojournError) -> None:
    """Put the page that says "back in a moment" in the place of what was to be answered."""
    say = log.error if isinstance(fault, StoreError | Overloaded) else log.warning
    say("sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint)
    status, headers, body = refusal(fault, _accept())
    response.call_on_close(getattr(response.response, "close", lambda: None))
    response.direct_passthrough = False
    response.headers.clear()
    response.status_code = status
    response.set_data(body)
    for name, value in headers:
        response.headers.set(name, value)


def _sign_in(fault: Exception) -> AnyResponse:
    assert isinstance(fault, Unauthenticated)
    url = current_app.config.get(f"{PREFIX}SIGN_IN_URL")
    page = request.method in ("GET", "HEAD") and "text/html" in _accept()
    if url and page:
        # One slash in front: a path that starts with two would name another host.
        back = "/" + request.full_path.rstrip("?").lstrip("/\\")
        return redirect(f"{url}{'&' if '?' in url else '?'}{urlencode({'next': back})}", 303)
    status, headers, body = sign_in_problem(fault, _accept())
    response = current_app.response_class(body, status)
    for name, value in headers:
        response.headers.set(name, value)
    return response


__all__ = [
    "FlaskSession",
    "FlaskVisit",
    "Sojourn",
    "SojournSessions",
    "current",
    "require_recent_sign_in",
    "require_session",
    "visit",
]
