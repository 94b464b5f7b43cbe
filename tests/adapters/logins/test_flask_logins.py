"""Flask's login libraries on our sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask_login
import flask_principal
import pytest
from flask import Flask, jsonify, request, session
from flask_security import RoleMixin, Security, UserMixin, hash_password
from flask_security.datastore import UserDatastore
from flask_security.utils import login_user, logout_user
from flask_socketio import SocketIO
from tests.adapters.asgi_site import World
from tests.adapters.logins.story import WsgiTab, remembered, story

from sojourn.adapters.flask import Sojourn, visit
from sojourn.errors import Conflict

SECRET = "a secret of the login library's own, long enough"


@pytest.fixture
def world() -> World:
    return World()


def site(world: World, **config: Any) -> Flask:
    """A site without a way to sign in."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY=SECRET, TESTING=True, **config)
    Sojourn(app, desk=world.desk)

    @app.post("/basket")
    def basket() -> Any:
        session["basket"] = ["pen"]
        return jsonify()

    @app.post("/others")
    def others() -> Any:
        return jsonify(visit.end_others())

    return app


def rule(app: Flask, url: str, view: Callable[[], object], method: str = "POST") -> None:
    def answer() -> Any:
        return jsonify(view())

    app.add_url_rule(url, url, answer, methods=[method])


# Flask-Login


class Person(flask_login.UserMixin):  # type: ignore[misc]  # it ships no types
    id = "ann"


def with_flask_login(world: World, protection: str = "basic", **config: Any) -> Flask:
    app = site(world, **config)
    manager = flask_login.LoginManager(app)
    manager.session_protection = protection
    manager.user_loader(lambda _: Person())

    def who() -> Any:
        return {"user": flask_login.current_user.get_id(), "seen": visit.user_id}

    rule(app, "/who", who, "GET")
    rule(
        app,
        "/sign-in",
        lambda: flask_login.login_user(Person(), remember="remember" in request.args),
    )
    rule(app, "/sign-out", flask_login.logout_user)
    rule(app, "/fresh", lambda: {"fresh": flask_login.login_fresh()}, "GET")
    return app


def test_flask_login(world: World) -> None:
    app = with_flask_login(world)
    story(world, lambda: WsgiTab(app))
    remembered(world, WsgiTab(app))


def test_flask_logins_remembered_sign_in_is_not_fresh(world: World) -> None:
    tab = WsgiTab(with_flask_login(world))
    tab.post("/sign-in?remember=1")
    assert tab.get("/fresh") == {"fresh": True}
    tab.plant(None)
    assert tab.get("/fresh") == {"fresh": False}


def test_flask_logins_strong_protection_keeps_its_meaning(world: World) -> None:
    """A session that comes from another browser is nobody's."""
    app = with_flask_login(world, "strong")
    tab = WsgiTab(app)
    tab.post("/sign-in")
    assert tab.get("/who")["user"] == "ann"
    thief = app.test_client(use_cookies=False)
    stolen = {"User-Agent": "another", "Cookie": f"sojourn={tab.cookie()}"}
    answer = thief.get("/who", headers=stolen)
    assert answer.json is not None
    assert answer.json["user"] is None
    assert world.users() == 0


# Flask-Security


class Role(RoleMixin):
    name = "nobody"


class Account(UserMixin):
    id = 1
    email = "ann@example.com"
    username = None
    password = ""
    active = True
    roles: list[RoleMixin] = []  # noqa: RUF012  # one of it
    fs_uniquifier = "ann"


class Accounts(UserDatastore):
    """One user, in memory."""

    def __init__(self) -> None:
        super().__init__(Account, Role)
        self.account = Account()

    def find_user(self, case_insensitive: bool = False, **wanted: Any) -> Account | None:
        same = all(getattr(self.account, name) == value for name, value in wanted.items())
        return self.account if same else None

    def put(self, model: Any) -> Any:
        return model

    def commit(self) -> None:
        pass


def with_flask_security(world: World) -> Flask:
    app = site(
        world,
        SECURITY_PASSWORD_SALT="142857",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SCHEMES=["plaintext"],
        SECURITY_PASSWORD_SINGLE_HASH=True,
        SECURITY_CHANGEABLE=True,
        SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
        WTF_CSRF_ENABLED=False,
    )
    accounts = Accounts()
    Security(app, accounts)
    with app.app_context():
        accounts.account.password = hash_password("a password")

    def who() -> Any:
        user = flask_login.current_user
        return {"user": user.get_id() if user.is_authenticated else None, "seen": visit.user_id}

    def sign_in() -> None:
        login_user(accounts.account, remember="remember" in request.args)

    rule(app, "/who", who, "GET")
    rule(app, "/sign-in", sign_in)
    rule(app, "/sign-out", logout_user)
    return app


def test_flask_security(world: World) -> None:
    app = with_flask_security(world)
    story(world, lambda: WsgiTab(app))
    remembered(world, WsgiTab(app))


def test_flask_securitys_own_form_signs_in(world: World) -> None:
    app = with_flask_security(world)
    tab = WsgiTab(app)
    tab.post("/basket")
    before = tab.cookie()
    form = {"email": "ann@example.com", "password": "a password"}
    tab.post("/login", data=form)
    assert tab.get("/who") == {"user": "ann", "seen": "ann"}
    assert tab.cookie() != before
    assert world.users() == 1


def test_flask_securitys_new_password_signs_the_others_out(world: World) -> None:
    """As its own test wants, which looks into Flask's cookie: who is named by then is another."""
    app = with_flask_security(world)
    tab, elsewhere = WsgiTab(app), WsgiTab(app)
    for each in (tab, elsewhere):
        each.post("/sign-in")
    before = tab.cookie()
    new = {"new_password": "another password", "new_password_confirm": "another password"}
    tab.post("/change", data={"password": "a password", **new})
    mine = tab.get("/who")
    assert mine["user"] == mine["seen"] not in (None, "ann")
    assert tab.cookie() != before
    assert world.users(mine["user"]) == 1
    assert elsewhere.get("/who")["user"] is None


# Flask-Principal


def with_flask_principal(world: World) -> Flask:
    app = site(world, SOJOURN_USER_KEY="identity.id")
    flask_principal.Principal(app)

    def change(identity: flask_principal.Identity) -> None:
        flask_principal.identity_changed.send(app, identity=identity)

    def sign_out() -> None:
        for key in ("identity.id", "identity.auth_type"):
            session.pop(key, None)
        change(flask_principal.AnonymousIdentity())

    def who() -> Any:
        from flask import g  # noqa: PLC0415  # Principal's place

        return {"user": g.identity.id, "seen": visit.user_id}

    rule(app, "/who", who, "GET")
    rule(app, "/sign-in", lambda: change(flask_principal.Identity("ann")))
    rule(app, "/sign-out", sign_out)
    return app


def test_flask_principal(world: World) -> None:
    app = with_flask_principal(world)
    story(world, lambda: WsgiTab(app))


# Flask-SocketIO


def with_socketio(world: World, **options: Any) -> tuple[Flask, SocketIO]:
    app = with_flask_login(world)
    sockets = SocketIO(app, async_mode="threading", **options)

    @sockets.on("who")  # type: ignore[untyped-decorator]  # it ships no types
    def who() -> dict[str, Any]:
        return {"user": flask_login.current_user.get_id(), "basket": session.get("basket")}

    @sockets.on("put")  # type: ignore[untyped-decorator]  # it ships no types
    def put() -> None:
        session["basket"] = ["from a socket"]

    @sockets.on("sign in")  # type: ignore[untyped-decorator]  # it ships no types
    def sign_in() -> str:
        flask_login.login_user(Person())
        return "signed in"

    return app, sockets


def socket_of(app: Flask, sockets: SocketIO, tab: WsgiTab) -> Any:
    client = app.test_client()
    client.set_cookie("sojourn", tab.cookie() or "")
    return sockets.test_client(app, flask_test_client=client)


@pytest.mark.parametrize("managed", [True, False])
def test_a_socket_knows_who_is_signed_in(world: World, managed: bool) -> None:
    app, sockets = with_socketio(world, manage_session=managed)
    tab = WsgiTab(app)
    tab.post("/basket")
    tab.post("/sign-in")
    socket = socket_of(app, sockets, tab)
    assert socket.emit("who", callback=True) == {"user": "ann", "basket": ["pen"]}
    socket.disconnect()


def test_flask_socketio(world: World) -> None:
    """Sessions that sockets and pages share (`manage_session=False`)."""
    app, sockets = with_socketio(world, manage_session=False)
    story(world, lambda: WsgiTab(app))
    tab = WsgiTab(app)
    tab.post("/sign-in")
    socket = socket_of(app, sockets, tab)
    socket.emit("put")
    assert world.service.of("ann")[0].data["basket"] == ["from a socket"]
    elsewhere = WsgiTab(app)
    elsewhere.post("/sign-in")
    elsewhere.post("/others")
    assert socket.emit("who", callback=True) == {"user": None, "basket": None}
    socket.disconnect()


def test_a_sign_in_by_a_socket_is_refused_in_words(world: World) -> None:
    """It could give no cookie: the person would be signed out, and a session left that nobody holds."""
    app, sockets = with_socketio(world, manage_session=False)
    tab = WsgiTab(app)
    tab.post("/basket")
    socket = socket_of(app, sockets, tab)
    with pytest.raises(Conflict, match="cannot be given a new token"):
        socket.emit("sign in", callback=True)
    assert world.users() == 0
    assert tab.get("/who")["user"] is None
    socket.disconnect()


def test_what_a_socket_cannot_keep_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A visitor who has no session yet cannot be given one."""
    app, sockets = with_socketio(world, manage_session=False)
    socket = socket_of(app, sockets, WsgiTab(app))
    socket.emit("put")
    assert "session_changed_too_late" in caplog.text
    assert world.service.list() == []
    socket.disconnect()
