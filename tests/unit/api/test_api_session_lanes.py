"""Sessions: the fast lane and the router answer the same bytes, whatever is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api_harness import Api
from tests.unit.api.test_api_lanes import Twins, again, keyed

from sojourn.errors import StoreUnavailable
from sojourn.ledger import Role
from sojourn.session import Begin, Begun
from sojourn.token import TokenKind, _checksum
from sojourn.wire.bodies import STATUS

BASE = "/api/sessions"
CURRENT = BASE + "/current"

Make = Callable[[Api], tuple[str, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        twins = Twins(monkeypatch)
        yield twins
        twins.stop()


def whole(character: str = "0") -> str:
    """Make a whole token by hand: drawing one would untwin the worlds."""
    body = TokenKind.SESSION + character * 43
    return body + _checksum(body)


def begun(world: Api) -> Begun:
    (answer,) = world.services.sessions.begin([Begin(user_id="ann", data={"a": 1, "ü": [None]})])
    assert isinstance(answer, Begun)
    return answer


def token(text: str) -> list[tuple[str, str]]:
    return [("x-session-token", text)]


def app(method: str, path: str, **request: Any) -> Make:
    return lambda w: (method, path, {"bearer": w.keys[Role.APP], **request})


def person(method: str, path: str, **request: Any) -> Make:
    """A call about a live session, by its token."""

    def make(world: Api) -> tuple[str, str, dict[str, Any]]:
        headers = token(begun(world).token)
        return method, path, {"bearer": world.keys[Role.APP], "headers": headers, **request}

    return make


def by_id(method: str, suffix: str = "", **request: Any) -> Make:
    """A call about a live session, by its id."""

    def make(world: Api) -> tuple[str, str, dict[str, Any]]:
        path = f"{BASE}/{begun(world).session.id}{suffix}"
        return method, path, {"bearer": world.keys[Role.APP], **request}

    return make


def after_end(method: str, path: str, **request: Any) -> Make:
    """A call with the token of a session that somebody has ended."""

    def make(world: Api) -> tuple[str, str, dict[str, Any]]:
        own = begun(world)
        world.store.end(ids=[own.session.id], reason="stolen", actor="user:ann")
        headers = token(own.token)
        return method, path, {"bearer": world.keys[Role.APP], "headers": headers, **request}

    return make


def twice(world: Api) -> tuple[str, str, dict[str, Any]]:
    begun(world)
    return begun_again(world)


def begun_again(world: Api) -> tuple[str, str, dict[str, Any]]:
    wish = {"userId": "ann", "limit": 1, "atLimit": "ask"}
    return "POST", BASE, {"bearer": world.keys[Role.APP], "json": wish}


def _sign_out(own: str, *headers: tuple[str, str]) -> Make:
    return app("DELETE", CURRENT, headers=[*token(own), *headers])


GOOD: dict[str, Make] = {
    "begin": app("POST", BASE, json={"userId": "ann"}),
    "begin a visitor's": app("POST", BASE),
    "begin with all there is": app(
        "POST",
        BASE,
        json={
            "userId": "bob",
            "data": {"cart": [1, {"x": "ü"}]},
            "timeouts": {"lifetime": 60, "idleTimeout": 30.5},
            "device": {"userAgent": "Mozilla/5.0", "ip": "2001:db8::1", "os": "Linux"},
            "level": 2,
            "impersonator": "eve",
            "replaces": "ses_x",
            "ending": ["ses_y"],
            "limit": 3,
            "atLimit": "deny",
        },
    ),
    "begin by a preset": app("POST", BASE, json={"userId": "cy", "timeouts": "aal2"}),
    "begin in place of another": person("POST", BASE, json={"userId": "ann"}),
    "begin with a token that is gone": after_end("POST", BASE, json={"userId": "ann"}),
    "begin twice with a key": again(app("POST", BASE, json={"userId": "di"}, headers=keyed("b"))),
    "save twice with a key": again(by_id("PATCH", json={"set": {"n": 1}}, headers=keyed("s"))),
    "rotate twice with a key": again(by_id("POST", "/rotate", headers=keyed("r"))),
    "end twice with a key": again(
        app("POST", BASE + "/end", json={"userId": "di"}, headers=keyed("e"))
    ),
    "sign out twice with a key": lambda w: again(_sign_out(begun(w).token, *keyed("o")))(w),
    "check with a key": lambda w: (
        "GET",
        CURRENT,
        {
            "bearer": w.keys[Role.APP],
            "headers": [*token(begun(w).token), *keyed("not read", "at all")],
        },
    ),
    "check": person("GET", CURRENT),
    "check without a touch": person("GET", CURRENT + "?touch=false"),
    "save": person("PATCH", CURRENT, json={"set": {"b": 2}, "unset": ["a"]}),
    "save by id": by_id("PATCH", json={"set": {"b": 2}}),
    "rotate": person("POST", CURRENT + "/rotate"),
    "rotate with all there is": person("POST", CURRENT + "/rotate", json={"grace": 0, "level": 3}),
    "rotate by id": by_id("POST", "/rotate", json={"grace": 1.5}),
    "end": person("DELETE", CURRENT),
    "end with a reason": person("DELETE", CURRENT, json={"reason": "bye"}),
    "end what is over": after_end("DELETE", CURRENT),
    "end the others": person("POST", CURRENT + "/end-others"),
    "end by ids": app("POST", BASE + "/end", json={"ids": ["ses_x"]}),
    "end of a user": app("POST", BASE + "/end", json={"userId": "ann", "actor": "user:ann"}),
}

BAD: dict[str, tuple[Make, str]] = {
    "no key": (lambda _: ("GET", CURRENT, {"headers": token(whole())}), "unauthenticated"),
    "unknown key": (
        lambda _: ("GET", CURRENT, {"bearer": "x" * 40, "headers": token(whole())}),
        "unauthenticated",
    ),
    "a session token for a key": (
        lambda _: ("GET", CURRENT, {"bearer": whole()}),
        "token_wrong_kind",
    ),
    "a garbled key": (lambda _: ("GET", CURRENT, {"bearer": "sja_x"}), "token_malformed"),
    "a viewer's key": (
        lambda w: ("GET", CURRENT, {"bearer": w.keys[Role.VIEWER]}),
        "forbidden",
    ),
    "no token": (app("GET", CURRENT), "session_absent"),
    "no token to save": (app("PATCH", CURRENT, json={}), "session_absent"),
    "no token to end": (app("DELETE", CURRENT), "session_absent"),
    "unknown token": (app("GET", CURRENT, headers=token(whole())), "session_absent"),
    "garbled token": (app("GET", CURRENT, headers=token(whole()[:-1] + "!")), "session_forged"),
    "a license key for a token": (
        lambda w: app("GET", CURRENT, headers=token(w.license_key))(w),
        "session_forged",
    ),
    "a forged token to end": (app("DELETE", CURRENT, headers=token("sjs_x")), "session_forged"),
    "two tokens": (app("GET", CURRENT, headers=token(whole()) * 2), "invalid_request"),
    "two idempotency keys": (app("POST", BASE, headers=keyed("a", "b")), "invalid_request"),
    "no idempotency key": (app("POST", BASE, headers=keyed("ä")), "invalid_request"),
    "key of another request": (
        lambda w: (
            w.call("POST", BASE, bearer=w.keys[Role.APP], headers=keyed("x")),
            app("POST", BASE, json={"userId": "ann"}, headers=keyed("x"))(w),
        )[1],
        "idempotency_key_reused",
    ),
    "ended": (after_end("GET", CURRENT), "session_ended"),
    "save after the end": (after_end("PATCH", CURRENT, json={"set": {"a": 1}}), "session_ended"),
    "rotate after the end": (after_end("POST", CURRENT + "/rotate"), "session_ended"),
    "others after the end": (after_end("POST", CURRENT + "/end-others"), "session_ended"),
    "unknown id": (app("PATCH", BASE + "/ses_0", json={}), "session_unknown"),
    "unknown id to rotate": (app("POST", BASE + "/ses_0/rotate"), "session_unknown"),
    "too many": (twice, "session_limit"),
    "no body to save": (person("PATCH", CURRENT), "invalid_request"),
    "wrong types": (app("POST", BASE, json={"userId": 5}), "invalid_request"),
    "unknown field": (app("POST", BASE, json={"user": "ann"}), "invalid_request"),
    "unknown preset": (app("POST", BASE, json={"timeouts": "aal4"}), "invalid_request"),
    "no time at all": (app("POST", BASE, json={"timeouts": {"lifetime": 0}}), "invalid_request"),
    "endless": (app("POST", BASE, json={"timeouts": {"lifetime": 1e12}}), "invalid_request"),
    "a long grace": (person("POST", CURRENT + "/rotate", json={"grace": 31}), "invalid_request"),
    "data that is no object": (app("POST", BASE, json={"data": [1]}), "invalid_request"),
    "half a character": (app("POST", BASE, body=b'{"data":{"a":"\\ud800"}}'), "invalid_request"),
    "deep data": (
        app("POST", BASE, body=b'{"data":{"a":' + b"[" * 70 + b"]" * 70 + b"}}"),
        "invalid_request",
    ),
    "a number beyond all": (app("POST", BASE, body=b'{"data":{"a":1e400}}'), "invalid_request"),
    "a visitor impersonated": (app("POST", BASE, json={"impersonator": "eve"}), "invalid_request"),
    "ends of nothing": (app("POST", BASE + "/end", json={}), "invalid_request"),
    "ends in a long name": (
        app("POST", BASE + "/end", json={"userId": "ann", "actor": "x" * 201}),
        "invalid_request",
    ),
    "begun under a name that reads backwards": (
        app("POST", BASE, json={"userId": "\u202eann"}),
        "invalid_request",
    ),
    "begun on a device that reads backwards": (
        app("POST", BASE, json={"userId": "ann", "device": {"name": "\u202eenohPi no irafaS"}}),
        "invalid_request",
    ),
    "ends in another's name": (
        lambda w: (
            "POST",
            BASE + "/end",
            {"bearer": w.keys[Role.OPERATOR], "json": {"ids": [], "actor": "user:ann"}},
        ),
        "forbidden",
    ),
    "touch of no kind": (app("GET", CURRENT + "?touch=maybe"), "invalid_request"),
    "too large": (app("POST", BASE, json={"data": {"a": "x" * 1_200_000}}), "body_too_large"),
    "form": (
        app("POST", BASE, body=b"a=b", headers=[("content-type", "text/plain")]),
        "unsupported_media_type",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_success_is_the_same(twins: Twins, name: str) -> None:
    fast, slow = twins.ask(GOOD[name])
    assert fast.status in (200, 201), fast.body
    assert fast == slow


@pytest.mark.parametrize("name", BAD)
def test_refusal_is_the_same(twins: Twins, name: str) -> None:
    make, code = BAD[name]
    fast, slow = twins.ask(make)
    assert fast.code == code, fast.body
    assert fast.status == STATUS[code]
    assert fast == slow


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StoreUnavailable("The store is away."), "store_unavailable"),
        (ValueError("a bug"), "internal"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "make"),
    [
        ("create", app("POST", BASE)),
        ("load", person("GET", CURRENT)),
        ("save", by_id("PATCH", json={})),
        ("rotate", by_id("POST", "/rotate")),
        ("end", app("POST", BASE + "/end", json={"userId": "ann"})),
    ],
)
def test_fault_is_the_same(
    twins: Twins,
    fault: Exception,
    code: str,
    verb: str,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise fault

    made = [make(world) for world in twins.worlds]
    for world in twins.worlds:
        monkeypatch.setattr(world.store, verb, fail)
    monkeypatch.setattr("sojourn.wire.problems.uuid.uuid4", lambda: "the-same")
    fast, slow = twins.ask(lambda world: made[twins.worlds.index(world)])
    assert fast.code == code
    assert fast == slow
