"""What a sign-in chose, such as to be remembered, and what comes of it later: a rotation, a sign-out."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, jsonify, request, session
from tests.adapters.asgi_site import World
from tests.adapters.test_sign_in_options import bearer, persistent

from sojourn.adapters.flask import Sojourn, visit
from sojourn.cookie import CookieOptions
from sojourn.service.request_session import Rules
from sojourn.session import Begin, Begun


@pytest.fixture
def world() -> World:
    return World()


# What a sign-in chose stays its own


def remembering(world: World) -> Any:
    app = Flask(__name__)
    Sojourn(app, desk=world.make_desk(rules=Rules(header_tokens=True)))

    @app.post("/login/<user>")
    def login(user: str) -> Any:
        if "clear" in request.args:
            session.clear()
        visit.begin(user, remember=False)
        session["_user_id"] = user
        return jsonify()

    @app.post("/clear")
    def clear() -> Any:
        session.clear()
        session["_user_id"] = "ann"
        if "rotate" in request.args:
            visit.rotate()
        return jsonify()

    @app.post("/become/<user>")
    def become(user: str) -> Any:
        session["_user_id"] = user
        return jsonify()

    @app.post("/leave")
    def leave() -> Any:
        session.pop("_user_id")
        return jsonify()

    @app.post("/rotate")
    def rotate() -> Any:
        visit.rotate()
        return jsonify()

    return app.test_client()


def given_by(answer: Any) -> bool:
    (given,) = answer.headers.getlist("Set-Cookie")
    return persistent(given)


def test_to_be_forgotten_with_the_browser_outlives_cleared_data(world: World) -> None:
    """On a shared computer no later cookie may stay, whatever the application does with its data."""
    client = remembering(world)
    assert given_by(client.post("/login/ann")) is False
    assert given_by(client.post("/login/ann?clear=1")) is False
    assert given_by(client.post("/rotate")) is False
    assert given_by(client.post("/clear?rotate=1")) is False
    client.post("/clear")
    assert given_by(client.post("/rotate")) is False


def test_a_sign_out_by_the_data_leaves_nothing_of_the_choice(world: World) -> None:
    client = remembering(world)
    client.post("/login/ann")
    assert "Max-Age=0" in client.post("/leave").headers["Set-Cookie"]
    assert world.service.list() == []


def test_a_change_of_the_user_inherits_no_choice(world: World) -> None:
    client = remembering(world)
    client.post("/login/ann")
    assert given_by(client.post("/become/bob")) is True


# A token instead of a cookie, renewed at once


@pytest.mark.parametrize("verb", ["rotate", "elevate"])
@pytest.mark.parametrize("cookie", [True, False])
def test_a_sign_in_that_is_renewed_at_once_tells_the_token_that_counts(
    world: World, verb: str, cookie: bool
) -> None:
    app = Flask(__name__)
    Sojourn(app, desk=world.make_desk(rules=Rules(header_tokens=True)))

    @app.post("/login")
    def login() -> Any:
        visit.begin("ann", cookie=cookie)
        if verb == "elevate":
            visit.elevate(2)
        else:
            visit.rotate()
        return jsonify(visit.token)

    @app.get("/who")
    def who() -> Any:
        found = visit.session
        return jsonify(visit.user_id, found and found.level)

    browser = app.test_client()
    answer = browser.post("/login")
    assert ("Set-Cookie" in answer.headers) is cookie
    told = app.test_client(use_cookies=False).get("/who", headers=bearer(str(answer.json)))
    assert told.json == ["ann", 2 if verb == "elevate" else 1]
    assert browser.get("/who").json == (told.json if cookie else [None, None])


def test_a_client_without_cookies_gets_none_renewed(world: World) -> None:
    (old,) = world.service.begin([Begin(user_id="ann")])
    assert isinstance(old, Begun)
    desk = world.make_desk(rules=Rules(header_tokens=True))
    name = desk.rules.cookie.sent_as(https=False)
    cookies = f"{name}=worthless; {name}={desk.codec.encode(old.token)}"
    here = desk.visit(cookies=cookies, path="/a/b", peer="192.0.2.1", scheme="http")
    desk.run(here.open())
    desk.run(here.begin("ann", cookie=False))
    here.renew_cookie()
    headers = desk.run(here.commit())
    assert [value for _, value in headers if here.token and here.token in value] == []
    desk.run(here.end())


# Flask's own way to say it


@pytest.mark.parametrize("first", ["permanent", "begin"])
@pytest.mark.parametrize("permanent", [True, False])
def test_flasks_permanent_counts_before_and_after_the_sign_in(
    world: World, first: str, permanent: bool
) -> None:
    app = Flask(__name__)
    cookie = CookieOptions(persistent=not permanent)
    Sojourn(app, desk=world.make_desk(rules=Rules(cookie=cookie)))

    @app.post("/login")
    def login() -> Any:
        if first == "begin":
            visit.begin("ann")
        session.permanent = permanent
        if first == "permanent":
            visit.begin("ann")
        return jsonify()

    assert given_by(app.test_client().post("/login")) is permanent
