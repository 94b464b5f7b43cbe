"""Sessions for Flask.

    app = Flask(__name__)
    Sojourn(app)                                     settings from app.config, SOJOURN_… and sojourn.toml

`flask.session` holds JSON values, as ever. `visit` says who is signed in and signs people in and out:

    from sojourn.adapters.flask import visit
    visit.begin(user.id)

The session is looked up when it is first asked for, and saved before the response starts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Flask, abort, current_app, has_request_context, redirect, request
from flask import session as flask_session
from flask.sessions import SessionInterface, SessionMixin
from flask.wrappers import Request, Response
from msgspec.structs import replace
from werkzeug.local import LocalProxy
from werkzeug.wrappers import Response as AnyResponse

from sojourn.adapters.account import Account, Mount, make_account
from sojourn.adapters.desk import Desk, LazyDesk, open_desk
from sojourn.adapters.options import NAMES, make_rules
from sojourn.adapters.sync import SyncVisit
from sojourn.clock import MINUTE
from sojourn.data import SessionData
from sojourn.errors import Overloaded, SettingsError, SojournError, StoreError, Unauthenticated
from sojourn.log import get_logger
from sojourn.people.account import METHODS, PATHS
from sojourn.people.outage import outage
from sojourn.people.sign_in import sign_in_problem
from sojourn.service.request_session import Rules, Visit
from sojourn.session import Session, Timeouts, TooMany

log = get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

PREFIX = "SOJOURN_"
PERMANENT = "_permanent"
"""The key under which Flask keeps `session.permanent`."""


class Sojourn:
    """Installs Sojourn on Flask applications: `Sojourn(app)`, or `init_app` later.

    `app.config` may hold SOJOURN_STORE, SOJOURN_SECRET, SOJOURN_KEY and SOJOURN_TRUSTED_PROXIES, and
    rules: SOJOURN_RULES (`Rules`, or a dict of its fields), or each by itself, such as SOJOURN_TIMEOUTS
    ("aal2", or `Timeouts`), SOJOURN_COOKIE (`CookieOptions`, or a dict) and SOJOURN_LIMIT. They are read
    here, the store is opened at the first request. A `desk` takes the place of them all.

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
        lazy = LazyDesk(_opener(app.config) if desk is None else lambda: desk)
        app.session_interface = SojournSessions(lazy)
        app.extensions["sojourn"] = self
        app.register_error_handler(StoreError, _unavailable)
        app.register_error_handler(Overloaded, _unavailable)
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


def _opener(config: Mapping[str, Any]) -> Callable[[], Desk]:
    """Read the configuration now; open what it names later."""
    rules = config.get(f"{PREFIX}RULES", {})
    if not isinstance(rules, Rules):
        single = {name: config.get(PREFIX + name.upper()) for name in NAMES}
        rules = {**{k: v for k, v in single.items() if v is not None}, **rules}
    made = make_rules(rules)
    made.cookie.validate()
    proxies: Sequence[str] | str | None = config.get(f"{PREFIX}TRUSTED_PROXIES")
    return functools.partial(
        open_desk,
        config.get(f"{PREFIX}STORE"),
        secret=config.get(f"{PREFIX}SECRET"),
        key=config.get(f"{PREFIX}KEY"),
        rules=made,
        trusted_proxies=[proxies] if isinstance(proxies, str) else proxies,
    )


class FlaskVisit(SyncVisit):
    """The session of one request: `visit`, or `current()`."""

    def begin(
        self,
        user_id: str,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
    ) -> Session | TooMany:
        """Sign a user in, under a new token; see `Visit.begin`."""
        return self.run(self.visit.begin(user_id, level=level, timeouts=timeouts, ending=ending))

    def impersonate(self, user_id: str) -> Session:
        """Act as another user, visibly, for an hour at most; see `Visit.impersonate`."""
        return self.run(self.visit.impersonate(user_id))


class FlaskSession(SessionMixin):
    """What `flask.session` stands for. Changes are found by comparing, however deep: nobody has to set
    `modified`, and setting it does nothing."""

    def __init__(self, visit: FlaskVisit) -> None:
        self.sojourn = visit
        self.accessed = False

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

    def __repr__(self) -> str:
        return f"<session of {self.sojourn!r}>"  # not the values: reprs end up in logs

    @property
    def modified(self) -> bool:
        return self.sojourn.opened and self.sojourn.data.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        """Take no notice: a change is a change, and the same value is none."""

    @property
    def new(self) -> bool:  # type: ignore[override]  # Flask's is an attribute that nobody sets
        """Tell whether there is no session in the store yet."""
        return self.sojourn.session is None

    @property
    def permanent(self) -> bool:
        """Tell whether the cookie outlives the browser. By default it does (`CookieOptions.persistent`);
        what is set here holds from the next sign-in on."""
        return bool(self.get(PERMANENT, self.sojourn.visit.rules.cookie.persistent))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if bool(value) != self.permanent:
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
            if visit.session is None and dict.__len__(visit.data) == 1:
                visit.data.clear()  # how long to remember nothing is not worth a row
        return self.sojourn.commit(status)


class SojournSessions(SessionInterface):
    """Flask's `session_interface`."""

    def __init__(self, desk: LazyDesk) -> None:
        self._desk = desk

    def open_session(self, app: Flask, request: Request) -> FlaskSession:  # noqa: ARG002  # Flask's
        def make(desk: Desk) -> Visit:
            environ = request.environ
            return desk.visit(
                cookies=environ.get("HTTP_COOKIE", ""),
                path=request.path,
                peer=environ.get("REMOTE_ADDR"),
                scheme=environ.get("wsgi.url_scheme", "http"),
                forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", ""),
                forwarded_proto=environ.get("HTTP_X_FORWARDED_PROTO", ""),
                header=lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}"),
            )

        return FlaskSession(FlaskVisit(self._desk, make))

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:  # noqa: ARG002  # Flask's
        """Commit. The response of a request whose changes cannot be saved is not sent: it would claim
        what has not happened."""
        if not isinstance(session, FlaskSession):
            return
        try:
            headers = session.commit(response.status_code)
        except (StoreError, Overloaded) as fault:
            _replace(response, fault)
            return
        if session.accessed or session.sojourn.opened:
            response.vary.add("Cookie")
        for name, value in headers:
            if name == "Vary":
                response.vary.add(value)
            else:
                response.headers.add(name, value)


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


def _accept() -> str:
    return request.headers.get("Accept", "")


def _unavailable(fault: Exception) -> AnyResponse:
    assert isinstance(fault, SojournError)
    response = current_app.response_class()
    _replace(response, fault)
    return response


def _replace(response: Response, fault: SojournError) -> None:
    """Put the page that says "back in a moment" in the place of what was to be answered."""
    log.error("sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint)
    status, headers, body = outage(fault, _accept())
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
