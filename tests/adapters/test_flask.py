"""Sessions for Flask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request, session
from tests.adapters import cases
from tests.adapters.cases import Driver, Hooks, World, wsgi_driver
from tests.adapters.token_cases import TokenCases

from sojourn.adapters.desk import Desk
from sojourn.adapters.flask import (
    Sojourn,
    current,
    require_recent_sign_in,
    require_session,
    visit,
)
from sojourn.cookie import CookieOptions
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.service.request_session import Rules
from sojourn.session import PRESETS, Session


def make_app(desk: Desk, hooks: Hooks, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config)
    Sojourn(app, desk=desk)

    @app.post("/login")
    def login() -> Any:
        begun = visit.begin(request.args["user"])
        assert isinstance(begun, Session)
        return jsonify(id=begun.id)

    @app.post("/set")
    def set_value() -> Any:
        session.get("x")
        hooks.during()
        session[request.args["key"]] = request.args.get("value")
        return jsonify({})

    @app.post("/append")
    def append() -> Any:
        session.setdefault("list", []).append(request.args["value"])
        return jsonify({})

    @app.get("/get")
    def get() -> Any:
        found = visit.session
        return jsonify(
            value=session.get(request.args["key"]),
            user=visit.user_id,
            id=None if found is None else found.id,
        )

    @app.get("/plain")
    def plain() -> Any:
        return jsonify({})

    @app.post("/logout")
    def logout() -> Any:
        visit.end()
        return jsonify({})

    @app.post("/others")
    def others() -> Any:
        return jsonify(ended=len(visit.end_others()))

    @app.post("/rotate")
    def rotate() -> Any:
        visit.rotate()
        return jsonify({})

    @app.post("/elevate")
    def elevate() -> Any:
        visit.elevate(2)
        return jsonify({})

    @app.post("/boom")
    def boom() -> Any:
        session["boom"] = 1
        raise RuntimeError("boom")

    guard(app)
    return app


def guard(app: Flask) -> None:
    """Add pages that not everybody may see."""

    @app.get("/mine")
    @require_session
    def mine() -> Any:
        return jsonify(user=visit.user_id)

    @app.get("/danger")
    @require_recent_sign_in(minutes=10, level=2)
    def danger() -> Any:
        return jsonify({})


@pytest.fixture
def driver_for() -> Any:
    def make(desk: Desk, hooks: Hooks) -> Driver:
        return wsgi_driver(make_app(desk, hooks))

    return make


class TestFlask(cases.AdapterCases, cases.CookieCases, cases.RotationCases):
    pass


class TestFlaskWithTokens(TokenCases):
    pass


class TestFlaskInParallel(cases.ParallelCases):
    pass


@pytest.fixture
def world(empty_sqlite: str, driver_for: Any) -> Iterator[World]:
    with cases.world(empty_sqlite, driver_for) as made:
        yield made


def test_a_page_that_does_not_look_at_its_session_asks_nothing(world: World) -> None:
    browser = world.signed_in()
    with world.counting() as statements:
        answer = browser.get("/plain")
    assert statements == []
    assert answer.all("vary") == []


def test_step_up_kills_the_old_token_at_once(world: World) -> None:
    browser = world.signed_in()
    old = dict(browser.cookies)
    browser.post("/elevate")
    assert browser.get("/danger").status == 200
    browser.cookies = old
    assert browser.get("/get", key="x").json["user"] is None


def test_a_recent_sign_in_is_demanded(world: World) -> None:
    browser = world.signed_in()
    answer = browser.get("/danger")
    assert (answer.status, answer.json["code"]) == (401, "sign_in_not_recent")
    browser.post("/elevate")
    assert browser.get("/danger").status == 200
    world.clock.advance(seconds=601)
    assert browser.get("/danger").status == 401


def test_a_session_is_demanded(world: World) -> None:
    answer = world.browser().get("/mine")
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert world.signed_in().get("/mine").json == {"user": "ann"}


def test_people_are_sent_to_the_sign_in_page_and_nowhere_else(world: World) -> None:
    app = make_app(world.desk, world.hooks, SOJOURN_SIGN_IN_URL="/login")
    browser = cases.Browser(wsgi_driver(app))
    browser.headers = {"Accept": "text/html"}
    answer = browser.get("/mine", tab="2")
    assert answer.status == 303
    assert answer.all("location") == ["/login?next=%2Fmine%3Ftab%3D2"]


def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("connection refused by db.internal:5432")


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("verb", ["load", "save"])
def test_while_the_store_is_down_people_read_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, accept: str
) -> None:
    """Also where saving fails after the view has answered. Nobody is signed out by it."""
    browser = world.signed_in()
    cookies = dict(browser.cookies)
    browser.headers = {"Accept": accept}
    with monkeypatch.context() as patch:
        patch.setattr(world.store, verb, down)
        answer = browser.post("/set", key="x", value="1")
        assert browser.get("/plain").status == 200
    assert answer.status == 503
    assert answer.all("retry-after")
    assert b"db.internal" not in answer.body
    if accept == "text/html":
        assert b"try again" in answer.body
    else:
        assert json.loads(answer.body)["code"] == "store_unavailable"
    assert browser.cookies == cookies
    assert browser.get("/get", key="x").json == {
        "value": None,
        "user": "ann",
        "id": world.only(),
    }


def test_what_json_cannot_hold_fails_the_request_and_saves_nothing(world: World) -> None:
    app = make_app(world.desk, world.hooks)

    @app.post("/object")
    def store_object() -> Any:
        session["fine"] = 1
        session["odd"] = object()
        return jsonify({})

    browser = cases.Browser(wsgi_driver(app))
    assert browser.post("/object").status == 500
    assert world.rows() == 0


def test_flasks_own_ways_work(world: World) -> None:
    """`permanent`, `new`, `modified`, and the test client's session_transaction."""
    app = make_app(world.desk, world.hooks)

    @app.get("/flags")
    def flags() -> Any:
        before = [session.new, session.permanent, session.modified]
        session.permanent = True
        session["x"] = session.get("x", 0) + 1
        return jsonify([*before, session.modified])

    client = app.test_client()
    assert client.get("/flags").json == [True, False, False, True]
    assert client.get("/flags").json == [False, True, False, True]
    with client.session_transaction() as inside:
        assert inside["x"] == 2
        inside["x"] = 41
    client.get("/flags")
    with client.session_transaction() as inside:
        assert dict(inside) == {"x": 42, "_permanent": True}


def test_a_session_that_is_not_permanent_ends_with_the_browser(world: World) -> None:
    app = make_app(world.desk, world.hooks)

    @app.post("/brief")
    def brief() -> Any:
        session.permanent = False
        if "key" in request.args:
            session["x"] = 1
        return jsonify({})

    browser = cases.Browser(wsgi_driver(app))
    assert browser.post("/brief").set_cookie is None
    assert world.rows() == 0
    header = browser.post("/brief", key="x").set_cookie or ""
    assert header
    assert "Max-Age" not in header


def test_impersonation_is_visible_and_reversible(world: World) -> None:
    app = make_app(world.desk, world.hooks)

    @app.post("/as")
    def act_as() -> Any:
        session["mine"] = "kept"
        visit.impersonate(request.args["user"])
        return jsonify(user=visit.user_id, really=visit.impersonator)

    @app.post("/back")
    def back() -> Any:
        visit.stop_impersonating()
        return jsonify(user=visit.user_id, really=visit.impersonator)

    browser = cases.Browser(wsgi_driver(app))
    browser.post("/login", user="root")
    assert browser.post("/as", user="ann").json == {"user": "ann", "really": "root"}
    seen = browser.get("/get", key="mine").json
    assert (seen["user"], seen["value"]) == ("ann", None)
    assert browser.post("/back").json == {"user": "root", "really": None}
    seen = browser.get("/get", key="mine").json
    assert (seen["user"], seen["value"]) == ("root", "kept")


def test_settings_come_from_the_configuration(tmp_path: Path) -> None:
    app = Flask(__name__)
    app.config.update(
        SOJOURN_STORE=f"sqlite:///{tmp_path}/sojourn.db",
        SOJOURN_SECRET="one secret that is long enough for this",
        SOJOURN_TIMEOUTS="aal2",
        SOJOURN_COOKIE={"name": "sid", "same_site": "strict"},
        SOJOURN_LIMIT=3,
    )
    Sojourn().init_app(app)
    with app.test_request_context("/"):
        here = current()
        here.begin("ann")
        rules = here.visit.rules
        assert rules.timeouts == PRESETS["aal2"]
        assert rules.cookie == CookieOptions(name="sid", same_site="strict")
        assert rules.limit == 3
        ((_, header),) = [pair for pair in here.commit(200) if pair[0] == "Set-Cookie"]
        assert header.startswith("sid=sjs_")
        assert "Max-Age=86400" in header
    app.session_interface._desk.close()  # type: ignore[attr-defined]  # ours


@pytest.mark.parametrize(
    "config",
    [
        {"SOJOURN_TIMEOUTS": "forever"},
        {"SOJOURN_COOKIE": {"colour": "blue"}},
        {"SOJOURN_COOKIE": {"same_site": "none", "secure": False}},
        {"SOJOURN_RULES": {"limits": 3}},
        {"SOJOURN_LIMIT": "many"},
    ],
)
def test_wrong_settings_stop_the_application(config: dict[str, Any]) -> None:
    app = Flask(__name__)
    app.config.update(config)
    with pytest.raises(SettingsError):
        Sojourn(app)


def test_rules_may_come_whole() -> None:
    app = Flask(__name__)
    app.config["SOJOURN_RULES"] = Rules(limit=2)
    Sojourn(app)
    assert app.extensions["sojourn"]
