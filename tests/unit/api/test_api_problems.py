"""Every failure is one kind of document; every answer has the same headers; no log has a token."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.api_harness import ADMIN, BEAT, CURRENT, SEATS, Answer, Api, api, encode, send

from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.wire.bodies import STATUS, Problem

SESSIONS = "/api/sessions"
PROMISED = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=1) as world:
        yield world


def every_sort_of_answer(world: Api) -> Iterator[Answer]:
    seat = world.seat()
    yield world.acquire()
    yield world.acquire("bob")
    yield world.beat(seat["token"])
    yield world.call("POST", BEAT)
    yield world.call("POST", SEATS, bearer=world.license_key, body=b"{")
    yield world.call("DELETE", CURRENT, bearer=seat["token"])
    for method, path in [
        ("GET", "/livez"),
        ("HEAD", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("OPTIONS", "/livez"),
        ("PUT", "/livez"),
        ("GET", "/nowhere"),
        ("GET", "/api/licenses"),
        ("GET", "/api/licenses?limit=x"),
        ("GET", "/api/licenses/lic_unknown"),
        ("POST", "/api/licenses"),
    ]:
        yield world.admin(method, path)
    yield world.call("GET", "/api/keys", bearer=world.keys[Role.VIEWER])


def test_every_answer_has_the_promised_headers(world: Api) -> None:
    for answer in every_sort_of_answer(world):
        assert {name: answer.header(name) for name in PROMISED} == PROMISED
        assert answer.header("server") is None
        assert answer.header("set-cookie") is None
        assert not [n for n, _ in answer.headers if n.startswith(b"access-control-")]


def test_every_failure_is_a_problem_document(world: Api) -> None:
    failures = [a for a in every_sort_of_answer(world) if a.status >= 400]
    assert len({a.status for a in failures}) >= 6
    for answer in failures:
        assert answer.header("content-type") == "application/problem+json"
        assert answer.header("content-length") == str(len(answer.body))
        problem = msgspec.json.decode(answer.body, type=Problem)
        assert problem.status == answer.status == STATUS[problem.code]
        assert problem.type == f"/problems/{problem.code}"
        assert problem.title
        assert problem.error


@pytest.mark.parametrize(
    ("fault", "code", "wait"),
    [
        (StoreUnavailable("The database is down."), "store_unavailable", "2"),
        (StoreBroken("The table is missing."), "store_broken", "60"),
    ],
)
def test_a_store_outage_is_503_and_heals_by_itself(
    world: Api, monkeypatch: pytest.MonkeyPatch, fault: Exception, code: str, wait: str
) -> None:
    seat = world.seat()

    def fail(*_: Any, **__: Any) -> Any:
        raise fault

    with monkeypatch.context() as outage:
        for verb in ("acquire", "renew", "release", "leases", "now"):
            outage.setattr(world.store, verb, fail)
        for answer in (
            world.acquire(),
            world.beat(seat["token"]),
            world.call("DELETE", CURRENT, bearer=seat["token"]),
            world.admin("GET", SEATS),
        ):
            assert (answer.status, answer.code) == (503, code)
            assert answer.header("retry-after") == wait
            assert answer.json["details"]
        ready = world.call("GET", "/readyz")
        assert (ready.status, ready.code) == (503, "store_unavailable")
        assert ready.json["error"] == "The store does not answer."
        assert world.call("GET", "/livez").status == 200
    assert world.beat(seat["token"]).status == 200


def test_a_ledger_outage_degrades(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = world.seat()

    def fail(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("The ledger is down.")

    for verb in ("licenses_by_key", "key_by_hash", "now"):
        monkeypatch.setattr(world.ledger, verb, fail)
    assert world.acquire().code == "store_unavailable"
    assert world.admin("GET", "/api/licenses").code == "store_unavailable"
    assert world.beat(seat["token"]).status == 200
    ready = world.call("GET", "/readyz")
    assert (ready.status, ready.json["degraded"]) == (200, ["The ledger does not answer."])


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything anybody logs, down to the last detail."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_bug_is_answered_without_a_trace_and_logged_under_an_id(
    world: Api, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("the inner workings")

    monkeypatch.setattr(world.services.licenses, "list", fail)
    answer = world.admin("GET", "/api/licenses")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"inner workings" not in answer.body
    assert b"Traceback" not in answer.body
    instance = answer.json["instance"]
    assert instance.startswith("urn:uuid:")
    (line,) = [line for line in logged.getvalue().splitlines() if instance in line]
    assert "the inner workings" in line
    assert "Traceback" in line


def test_no_token_reaches_a_log(
    world: Api, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    seat = world.seat()
    (begun,) = world.services.sessions.begin([Begin(user_id="ann", data={"a": "top secret"})])
    assert isinstance(begun, Begun)
    tokens = {ADMIN, world.license_key, seat["token"], begun.token, *world.keys.values()}
    for token in tokens:
        for method, path in [
            ("POST", SESSIONS),
            ("GET", SESSIONS + "/current"),
            ("PATCH", SESSIONS + "/current"),
            ("POST", SESSIONS + "/current/rotate"),
            ("PATCH", f"{SESSIONS}/{token.replace(' ', '+')}"),
            ("DELETE", SESSIONS + "/current"),
        ]:
            proofs = [("x-session-token", token)]
            key = world.keys[Role.APP]
            world.call(method, path, bearer=key, headers=proofs, json={"data": {"t": token}})
            world.call(method, path, bearer=token, headers=proofs)
        for method, path in [
            ("POST", SEATS),
            ("POST", BEAT),
            ("DELETE", CURRENT),
            ("GET", "/api/licenses"),
            ("GET", f"/api/licenses?token={token.replace(' ', '+')}"),
            ("GET", f"/api/licenses/{token.replace(' ', '+')}"),
        ]:
            body = encode({"userId": token}) if method == "POST" else b""
            world.call(method, path, bearer=token, body=body)
            world.run(send(world.app.behind, method, path, bearer=token, body=b"{"))
    tokens.add(world.admin("POST", "/api/keys", json={"name": "n", "role": "app"}).data["key"])

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("a bug")

    for service in (world.services.seats, world.services.licenses, world.store, world.ledger):
        for verb in ("renew", "release", "acquire", "list", "leases", "load", "key_by_hash"):
            if hasattr(service, verb):
                monkeypatch.setattr(service, verb, fail)
    assert world.acquire().status == 500
    assert world.beat(seat["token"]).status == 500
    proofs = [("x-session-token", begun.token)]
    current = SESSIONS + "/current"
    assert world.call("GET", current, bearer=world.keys[Role.APP], headers=proofs).status == 500
    assert world.admin("GET", "/api/licenses").status == 500
    text = logged.getvalue()
    assert "a bug" in text
    assert "top secret" not in text
    assert not [token for token in tokens if token in text or token[8:] in text]
