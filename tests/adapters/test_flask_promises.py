"""What a Flask application that moves in must find as it was, and what it must be told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import pytest
from flask import (
    Flask,
    flash,
    get_flashed_messages,
    session,
)
from flask.globals import request_ctx
from flask.json.tag import JSONTag
from flask.testing import FlaskClient
from markupsafe import Markup

from sojourn.adapters.desk import Desk
from sojourn.adapters.flask import Sojourn, visit
from sojourn.adapters.flask_config import opener
from sojourn.clock import ManualClock
from sojourn.cookie import COOKIE_HEADER_MAX, CookieOptions, SignedTokens
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.session import AtLimit
from sojourn.stores.memory import MemoryStore

CODEC = SignedTokens([b"a secret of thirty-two bytes or more"])
Make = Callable[..., Flask]


class World:
    def __init__(self) -> None:
        self.service = SessionService(MemoryStore(ManualClock()))

    def desk(self, **rules: Any) -> Desk:
        return Desk(self.service, CODEC, rules=Rules(**rules))

    def app(self, desk: Desk | None = None, **config: Any) -> Flask:
        app = Flask(__name__)
        app.config.update(config)
        Sojourn(app, desk=desk or self.desk())
        return app


@pytest.fixture
def world() -> World:
    return World()


def then_ok(change: Callable[[], object]) -> Callable[[], str]:
    """Make a view of a change."""

    def view() -> str:
        change()
        return "ok"

    return view


class Size(IntEnum):
    LARGE = 3


NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
KEPT = [
    (Markup("<b>x</b>"), Markup("<b>x</b>")),
    ((1, ("a", b"b")), (1, ("a", b"b"))),
    (b"\x00\xff", b"\x00\xff"),
    (UUID(int=7), UUID(int=7)),
    (NOW, NOW),
    ([{"deep": (NOW,)}], [{"deep": (NOW,)}]),
    ({" t": 1}, {" t": 1}),
    (Size.LARGE, 3),
    ({1: "one"}, {"1": "one"}),
    (Decimal("1.50"), "1.50"),
    (date(2026, 11, 30), "Mon, 30 Nov 2026 00:00:00 GMT"),
]


@pytest.mark.parametrize(("value", "kept"), KEPT)
def test_what_flask_stores_comes_back_as_from_flask(world: World, value: Any, kept: Any) -> None:
    """Held to Flask's own cookie sessions, value by value."""
    seen: dict[str, Any] = {}
    for name, app in (("ours", world.app()), ("flask's", Flask("plain"))):
        app.secret_key = "a secret for the cookie of Flask's own"

        @app.get("/put")
        def put() -> str:
            session["x"] = value
            return "ok"

        @app.get("/show")
        def show(name: str = name) -> str:
            seen[name] = session["x"]
            return "ok"

        client = app.test_client()
        assert client.get("/put").status_code == 200
        assert client.get("/show").status_code == 200
    assert seen == {"ours": kept, "flask's": kept}
    assert type(seen["ours"]) is type(seen["flask's"])


def test_reading_a_tagged_value_writes_nothing(world: World) -> None:
    app = world.app()
    app.add_url_rule("/put", "put", then_ok(lambda: session.update(x=(NOW, [b"b"]))))
    app.add_url_rule("/look", "look", lambda: str(len(session["x"])))

    @app.get("/deep")
    def deep() -> str:
        session["x"][1].append(b"c")
        return "ok"

    client = app.test_client()
    client.get("/put")
    (stored,) = world.service.list()
    client.get("/look")
    assert world.service.list()[0].revision == stored.revision
    client.get("/deep")
    assert world.service.list()[0].revision > stored.revision
    with client.session_transaction() as inside:
        assert inside["x"] == (NOW, [b"b", b"c"])


def test_a_tag_of_the_applications_own(world: World) -> None:
    class Complex(JSONTag):
        key = " c"

        def check(self, value: Any) -> bool:
            return isinstance(value, complex)

        def to_json(self, value: Any) -> Any:
            return [value.real, value.imag]

        def to_python(self, value: Any) -> Any:
            return complex(*value)

    app = world.app()
    app.session_interface.serializer.register(Complex)  # type: ignore[attr-defined]  # ours
    app.add_url_rule("/put", "put", then_ok(lambda: session.update(z=2 + 3j)))
    app.add_url_rule("/show", "show", lambda: str(session["z"]))
    client = app.test_client()
    client.get("/put")
    assert client.get("/show").text == "(2+3j)"


def test_markup_may_be_flashed(world: World) -> None:
    app = world.app()
    app.add_url_rule("/put", "put", then_ok(lambda: flash(Markup("<b>saved</b>"), "info")))

    @app.get("/show")
    def show() -> str:
        category, text = next(iter(get_flashed_messages(with_categories=True)))
        return f"{category} {type(text).__name__} {text}"

    client = app.test_client()
    client.get("/put")
    assert client.get("/show").text == "info Markup <b>saved</b>"


# Settings


def cookie_of(**config: Any) -> str:
    app = Flask(__name__)
    app.config.update(
        SOJOURN_STORE="sqlite:///:memory:",
        SOJOURN_SECRET="one secret that is long enough",
        **config,
    )
    with pytest.MonkeyPatch.context():
        Sojourn(app)
    rules = app.session_interface._desk._make.keywords["rules"]  # type: ignore[attr-defined]  # ours
    header: str = rules.cookie.set("v", https=True, max_age=60)
    return header


def test_flasks_own_cookie_settings_hold(caplog: pytest.LogCaptureFixture) -> None:
    header = cookie_of(
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_NAME="sid",
        SESSION_COOKIE_DOMAIN="app.example",
        SESSION_COOKIE_PATH="/shop",
    )
    assert header == (
        "sid=v; Domain=app.example; Path=/shop; Max-Age=60; HttpOnly; Secure; SameSite=Strict"
    )
    assert "setting_not_read" not in caplog.text


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ({"SESSION_COOKIE_HTTPONLY": False}, "SESSION_COOKIE_HTTPONLY"),
        ({"PERMANENT_SESSION_LIFETIME": 60}, "PERMANENT_SESSION_LIFETIME"),
        ({"SESSION_TYPE": "redis"}, "SESSION_TYPE"),
        ({"SESSION_COOKIE_SECURE": True, "SOJOURN_COOKIE": {}}, "SESSION_COOKIE_SECURE"),
        ({"SOJOURN_DATA": "/var/lib/x"}, "SOJOURN_DATA"),
    ],
)
def test_what_is_not_read_is_named(
    config: dict[str, Any], setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    cookie_of(**config)
    assert f"setting_not_read setting={setting} " in caplog.text


def test_beside_a_desk_flasks_settings_are_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.app(SESSION_COOKIE_SAMESITE="Strict")
    assert "setting_not_read setting=SESSION_COOKIE_SAMESITE " in caplog.text


def test_an_application_below_a_path_has_its_cookie_there() -> None:
    """As Flask's own, unless the path is set."""
    for config, path in (
        ({"APPLICATION_ROOT": "/shop"}, "/shop"),
        ({"APPLICATION_ROOT": "/shop", "SESSION_COOKIE_PATH": "/"}, "/"),
        ({"APPLICATION_ROOT": "/shop", "SOJOURN_COOKIE": {"name": "sid"}}, "/"),
        ({}, "/"),
    ):
        app = Flask(__name__)
        app.config.update(config)
        rules = opener(app.config).keywords["rules"]  # type: ignore[attr-defined]  # a partial's
        assert rules.cookie.path == path


def test_a_page_that_does_not_look_has_not_been_looked_at(world: World) -> None:
    app = world.app()
    app.add_url_rule("/nothing", "nothing", lambda: "")
    with app.test_client() as client:
        client.get("/nothing")
        context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]  # a LocalProxy's
        assert context._session.accessed is False


def test_nothing_is_said_of_what_nobody_set(caplog: pytest.LogCaptureFixture) -> None:
    cookie_of()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["SOJOURN_TIMEOUT", "SOJOURN_COOKIES", "SOJOURN_XYZ"])
def test_a_misspelled_setting_stops_the_application(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        cookie_of(**{name: "aal2"})


# Login libraries


def library(app: Flask) -> FlaskClient:
    """Add what login libraries do: they name the user in the session, and take the name away."""

    @app.get("/in/<user>")
    def sign_in(user: str) -> str:
        session["_user_id"] = user
        session["_fresh"] = True
        return "ok"

    @app.get("/out")
    def sign_out() -> str:
        for key in ("_user_id", "_fresh"):
            session.pop(key, None)
        flash("See you soon.")
        return "ok"

    @app.get("/who")
    def who() -> dict[str, Any]:
        return {
            "user": visit.user_id,
            "flashed": get_flashed_messages(),
            "basket": session.get("b"),
        }

    @app.get("/basket")
    def basket() -> str:
        session["b"] = ["tea"]
        return "ok"

    return app.test_client()


@pytest.fixture
def client(world: World) -> FlaskClient:
    return library(world.app())


def test_a_sign_in_through_a_library_renews_the_token(world: World, client: FlaskClient) -> None:
    client.get("/basket")
    planted = client.get_cookie("sojourn")
    assert planted is not None
    client.get("/in/7")
    assert client.get("/who").json == {"user": "7", "flashed": [], "basket": ["tea"]}
    assert [each.user_id for each in world.service.list()] == ["7"]
    thief = client.application.test_client()
    thief.set_cookie("sojourn", planted.value)
    assert thief.get("/who").json == {"user": None, "flashed": [], "basket": None}


def test_a_sign_out_through_a_library_ends_the_session(world: World, client: FlaskClient) -> None:
    client.get("/in/ann")
    stolen = client.get_cookie("sojourn")
    assert stolen is not None
    client.get("/out")
    assert world.service.of("ann") == []
    assert client.get("/who").json == {"user": None, "flashed": ["See you soon."], "basket": None}
    client.set_cookie("sojourn", stolen.value)
    assert client.get("/who").json == {"user": None, "flashed": [], "basket": None}


def test_another_user_through_a_library(world: World, client: FlaskClient) -> None:
    client.get("/in/ann")
    client.get("/in/bob")
    assert (client.get("/who").json or {})["user"] == "bob"
    assert (len(world.service.of("ann")), len(world.service.of("bob"))) == (0, 1)


def test_a_library_is_told_of_the_limit(world: World) -> None:
    app = world.app(world.desk(limit=1, at_limit=AtLimit.DENY))
    library(app).get("/in/ann")
    other = app.test_client()
    library_answer = other.get("/in/ann", headers={"Accept": "text/html"})
    assert (library_answer.status_code, "Too many sign-ins" in library_answer.text) == (403, True)
    assert (other.get("/who").json or {})["user"] is None


def test_a_sign_in_of_ours_is_left_alone(world: World) -> None:
    app = world.app()
    client = library(app)
    app.add_url_rule("/ours", "ours", then_ok(lambda: visit.begin(7)))
    client.get("/ours")
    client.get("/out")  # a library that has signed nobody in
    assert (client.get("/who").json or {})["user"] == "7"


def test_the_key_is_the_applications_to_choose(world: World) -> None:
    client = library(world.app(SOJOURN_USER_KEY=None))
    client.get("/in/ann")
    assert (client.get("/who").json or {})["user"] is None


# Faults


def test_where_errors_are_raised_a_sign_in_is_undone(world: World) -> None:
    """As with a debugger, or in tests: no response leaves."""
    app = world.app(TESTING=True)
    client = library(app)

    @app.get("/boom")
    def boom() -> str:
        visit.begin("ann")
        raise RuntimeError("a bug")

    client.get("/basket")
    with pytest.raises(RuntimeError):
        client.get("/boom")
    assert world.service.of("ann") == []
    assert (client.get("/who").json or {})["basket"] == ["tea"]


def test_a_step_up_that_fails_signs_nobody_out(world: World) -> None:
    app = world.app()
    client = library(app)

    @app.get("/boom")
    def boom() -> str:
        visit.elevate(2)
        raise RuntimeError("a bug")

    client.get("/in/ann")
    assert client.get("/boom").status_code == 500
    assert (client.get("/who").json or {})["user"] == "ann"


def test_a_sign_in_whose_data_cannot_be_saved_keeps_its_cookie(world: World) -> None:
    """The session is there, so the browser must have its cookie, with the 503, too."""
    desk = world.desk()
    app = world.app(desk)

    def down(_: Any) -> Any:
        raise StoreUnavailable("down")

    verbs = desk.verbs

    @app.get("/begin")
    def begin() -> str:
        visit.begin("ann")
        session["x"] = 1
        desk.verbs = {**verbs, "save": down}
        return "ok"

    client = library(app)
    assert client.get("/begin").status_code == 503
    desk.verbs = verbs
    assert (client.get("/who").json or {})["user"] == "ann"


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_too_many_cookies_are_told(world: World, accept: str) -> None:
    app = world.app()
    library(app)
    client = app.test_client(use_cookies=False)
    headers = {"Cookie": "c=" + "x" * COOKIE_HEADER_MAX, "Accept": accept}
    answer = client.get("/who", headers=headers)
    assert (answer.status_code, "Too many cookies" in answer.text) == (431, True)


def test_of_several_cookies_the_live_one_wins(world: World) -> None:
    client = library(world.app(world.desk(cookie=CookieOptions(host_prefix=False))))
    client.get("/in/ann")
    dead = client.get_cookie("sojourn")
    client.get("/out")
    client.delete_cookie("sojourn")
    client.get("/in/bob")
    live = client.get_cookie("sojourn")
    assert dead is not None
    assert live is not None
    other = client.application.test_client(use_cookies=False)
    header = {"Cookie": f"sojourn={dead.value}; sojourn={live.value}"}
    answer = other.get("/who", headers=header)
    assert (answer.json or {})["user"] == "bob"
    assert answer.headers.getlist("Set-Cookie")[-1].startswith(f"sojourn={live.value};")
