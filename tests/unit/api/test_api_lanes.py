"""The fast lane and the router answer the same bytes, whatever is asked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api_harness import (
    BEAT,
    CURRENT,
    FEATURE,
    SEATS,
    Answer,
    Api,
    World,
    encode,
    send,
    served,
)
from tests.raw_http import Client, head

from sojourn.errors import StoreUnavailable
from sojourn.lease import LeaseFilter
from sojourn.ledger import LicenseChange, Role
from sojourn.license import LicenseStatus
from sojourn.token import Keyring, LeaseClaims, TokenKind, _checksum
from sojourn.wire.bodies import STATUS

GARBLED = "sjk_" + "0" * 49
CLAIMS = LeaseClaims(
    pool_id="lic_x:editor", user_id="u", client_id="c", lease_id="lse_x", fence=1, issued_at=0
)


class Twins:
    """Two worlds alike to the last random bit: one answers in the fast lane, one by the router."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._drawn = 0
        monkeypatch.setattr("sojourn.token.secrets.token_bytes", self._draw)
        monkeypatch.setattr("sojourn.token.IDS_AT_ONCE", 1)
        monkeypatch.setattr("sojourn.token._drawn", [])
        self.worlds: list[Api] = []
        for _ in range(2):
            self._drawn = 0
            self.worlds.append(Api(capacity=1, body_max=4_096))
        for world in self.worlds:
            world.start()

    def _draw(self, size: int) -> bytes:
        self._drawn += 1
        return hashlib.sha256(str(self._drawn).encode()).digest()[:size]

    def ask(self, make: Callable[[Api], tuple[str, str, dict[str, Any]]]) -> list[Answer]:
        answers = []
        start = self._drawn
        for world, app in zip(
            self.worlds, (self.worlds[0].app, self.worlds[1].app.behind), strict=True
        ):
            self._drawn = start
            method, path, request = make(world)
            answers.append(world.run(send(app, method, path, **request)))
        return answers

    def stop(self) -> None:
        for world in self.worlds:
            world.stop()
            world.loop.close()


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        twins = Twins(monkeypatch)
        yield twins
        twins.stop()


def live(world: Api) -> str:
    """Return a token for the lease that lives now, granting one if none does."""
    leases, now = world.store.leases(LeaseFilter())
    if not leases:
        return str(world.seat()["token"])
    lease = leases[0]
    return world.keyring.sign(
        LeaseClaims(
            pool_id=lease.pool_id,
            user_id=lease.user_id,
            client_id=lease.client_id,
            lease_id=lease.id,
            fence=lease.fence,
            issued_at=now,
        )
    )


def suspend(world: Api, status: LicenseStatus) -> str:
    token = live(world)
    change = LicenseChange(status=status)
    world.services.licenses.change(world.license_id, change, actor="test")
    return token


def acquire(**request: Any) -> Callable[[Api], tuple[str, str, dict[str, Any]]]:
    return lambda w: ("POST", SEATS, {"bearer": w.license_key, **request})


def keyed(*keys: str) -> list[tuple[str, str]]:
    return [("idempotency-key", key) for key in keys]


def again(make: Callable[[Api], tuple[str, str, dict[str, Any]]]) -> Any:
    """A call that was made before."""

    def made(world: Api) -> tuple[str, str, dict[str, Any]]:
        method, path, request = make(world)
        world.call(method, path, **request)
        return method, path, request

    return made


def beat(**request: Any) -> Callable[[Api], tuple[str, str, dict[str, Any]]]:
    return lambda w: ("POST", BEAT, {"bearer": live(w), **request})


def _same(token: str, **request: Any) -> Callable[[Api], tuple[str, str, dict[str, Any]]]:
    return lambda _: ("POST", SEATS, {"bearer": token, **request})


WISH = {"feature": FEATURE, "userId": "ann", "clientId": "tab-1"}
JSON = ("content-type", "application/json")

GOOD = {
    "acquire": acquire(json=WISH),
    "acquire again": acquire(json=WISH),
    "acquire with all there is": lambda w: acquire(
        json={
            **WISH,
            "sessionId": w.session(),
            "takeover": True,
            "device": {"name": "n", "os": "o"},
        },
        headers=[("user-agent", "Mozilla/5.0"), ("accept", "*/*")],
    )(w),
    "acquire in pieces": acquire(pieces=[encode(WISH)[:10], encode(WISH)[10:], b""]),
    "acquire with charset": acquire(
        json=WISH, headers=[("content-type", "Application/JSON; charset=utf-8")]
    ),
    "acquire with a key": acquire(json=WISH, headers=keyed("k1")),
    "acquire twice with a key": again(acquire(json=WISH, headers=keyed('"k2"'))),
    "resume twice with a key": lambda w: again(_same(live(w), headers=keyed("k3")))(w),
    "resume": lambda w: ("POST", SEATS, {"bearer": live(w)}),
    "beat": beat(),
    "beat with {}": beat(json={}),
    "beat with all there is": beat(json={"idleFor": 3, "nextIn": 60.5, "closing": False}),
    "goodbye": beat(json={"closing": True}),
    "goodbye of a page": lambda w: (
        "POST",
        BEAT,
        {
            "json": {"closing": True, "token": live(w)},
            "headers": [("content-type", "text/plain;charset=UTF-8")],
        },
    ),
    "scheme in lower case": lambda w: (
        "POST",
        BEAT,
        {"headers": [("authorization", f"bearer {live(w)}")]},
    ),
    "query is ignored": lambda w: ("POST", f"{BEAT}?token=x", {"bearer": live(w)}),
    "release": lambda w: ("DELETE", CURRENT, {"bearer": live(w)}),
    "release what is gone": lambda w: ("DELETE", CURRENT, {"bearer": w.keyring.sign(CLAIMS)}),
}

BAD: dict[str, tuple[Callable[[Api], tuple[str, str, dict[str, Any]]], str]] = {
    "seat limit": (
        lambda w: (live(w), acquire(json={**WISH, "userId": "bob"})(w))[1],
        "seat_limit",
    ),
    "seat limit twice with a key": (
        lambda w: (live(w), again(acquire(json={**WISH, "userId": "cy"}, headers=keyed("d")))(w))[
            1
        ],
        "seat_limit",
    ),
    "key of another request": (
        lambda w: (
            w.call("POST", SEATS, bearer=w.license_key, json=WISH, headers=keyed("o")),
            acquire(json={**WISH, "takeover": True}, headers=keyed("o"))(w),
        )[1],
        "idempotency_key_reused",
    ),
    "two idempotency keys": (acquire(json=WISH, headers=keyed("a", "b")), "invalid_request"),
    "empty idempotency key": (acquire(json=WISH, headers=keyed("")), "invalid_request"),
    "long idempotency key": (acquire(json=WISH, headers=keyed("x" * 256)), "invalid_request"),
    "idempotency key with a space": (acquire(json=WISH, headers=keyed("a b")), "invalid_request"),
    "beat by a token in the body": (
        lambda w: ("POST", BEAT, {"json": {"token": live(w)}}),
        "unauthenticated",
    ),
    "session gone": (acquire(json={**WISH, "sessionId": "never"}), "session_gone"),
    "lost": (lambda w: ("POST", BEAT, {"bearer": w.keyring.sign(CLAIMS)}), "lease_lost"),
    "ended": (lambda w: ("POST", SEATS, {"bearer": w.keyring.sign(CLAIMS)}), "token_expired"),
    "suspended": (
        lambda w: ("POST", BEAT, {"bearer": suspend(w, LicenseStatus.SUSPENDED)}),
        "license_suspended",
    ),
    "suspended acquire": (acquire(json=WISH), "license_suspended"),
    "active again": (
        lambda w: (
            "POST",
            BEAT,
            {"bearer": suspend(w, LicenseStatus.ACTIVE), "json": {"nextIn": -1}},
        ),
        "invalid_request",
    ),
    "no proof": (lambda _: ("POST", SEATS, {"json": WISH}), "unauthenticated"),
    "no proof for a beat": (lambda _: ("POST", BEAT, {}), "unauthenticated"),
    "no proof for a release": (lambda _: ("DELETE", CURRENT, {}), "unauthenticated"),
    "basic": (
        lambda _: ("POST", BEAT, {"headers": [("authorization", "Basic YTpi")]}),
        "unauthenticated",
    ),
    "bearer of nothing": (
        lambda _: ("POST", BEAT, {"headers": [("authorization", "Bearer ")]}),
        "unauthenticated",
    ),
    "two proofs": (
        beat(headers=[("authorization", "Bearer sjl_x")]),
        "invalid_request",
    ),
    "garbled key": (lambda _: ("POST", SEATS, {"bearer": GARBLED}), "token_malformed"),
    "garbled lease token": (
        lambda _: ("POST", BEAT, {"bearer": "sjl_%%%"}),
        "token_malformed",
    ),
    "endless lease token": (
        lambda _: ("POST", BEAT, {"bearer": "sjl_" + "A" * 4_000}),
        "token_malformed",
    ),
    "foreign lease token": (
        lambda _: ("POST", BEAT, {"bearer": Keyring([b"x" * 32]).sign(CLAIMS)}),
        "token_forged",
    ),
    "not a token": (lambda _: ("POST", SEATS, {"bearer": "hello"}), "unauthenticated"),
    "an API key to acquire": (
        lambda w: ("POST", SEATS, {"bearer": w.keys[Role.ADMIN]}),
        "token_wrong_kind",
    ),
    "a license key to beat": (
        lambda w: ("POST", BEAT, {"bearer": w.license_key}),
        "token_wrong_kind",
    ),
    "a license key to release": (
        lambda w: ("DELETE", CURRENT, {"bearer": w.license_key}),
        "token_wrong_kind",
    ),
    "unknown key": (
        lambda _: ("POST", SEATS, {"bearer": _unknown(), "json": WISH}),
        "unauthenticated",
    ),
    "foreign license": (acquire(json={**WISH, "licenseId": "lic_y"}), "forbidden"),
    "contradiction": (
        lambda w: ("POST", SEATS, {"bearer": live(w), "json": {"userId": "eve"}}),
        "forbidden",
    ),
    "unknown feature": (acquire(json={**WISH, "feature": "other"}), "feature_unknown"),
    "nothing said": (acquire(), "invalid_request"),
    "not JSON": (acquire(body=b"{"), "invalid_request"),
    "not an object": (acquire(body=b"[]"), "invalid_request"),
    "not UTF-8": (acquire(body=b'{"userId":"\xff"}'), "invalid_request"),
    "a lone surrogate": (acquire(body=b'{"userId":"\\ud800"}'), "invalid_request"),
    "NUL": (acquire(body=b'{"userId":"a\\u0000"}'), "invalid_request"),
    "unknown field": (acquire(json={**WISH, "fature": 1}), "invalid_request"),
    "wrong type": (acquire(json={**WISH, "userId": 5}), "invalid_request"),
    "too long": (acquire(json={**WISH, "userId": "x" * 257}), "invalid_request"),
    "feature of spaces": (acquire(json={**WISH, "feature": "a b"}), "invalid_request"),
    "deep": (beat(body=b'{"idleFor":' + b"[" * 2_000), "invalid_request"),
    "negative": (beat(json={"idleFor": -1}), "invalid_request"),
    "NaN": (beat(body=b'{"idleFor":NaN}'), "invalid_request"),
    "infinite": (beat(body=b'{"idleFor":1e400}'), "invalid_request"),
    "form": (
        beat(body=b"a=b", headers=[("content-type", "application/x-www-form-urlencoded")]),
        "unsupported_media_type",
    ),
    "announced too large": (
        beat(headers=[("content-length", "5000"), JSON]),
        "body_too_large",
    ),
    "too large": (beat(body=b" " * 5_000), "body_too_large"),
    "too large in pieces": (beat(pieces=[b" " * 1_000] * 5, headers=[JSON]), "body_too_large"),
}


def _unknown() -> str:
    """Make a whole key by hand: drawing one would untwin the worlds."""
    body = TokenKind.LICENSE + "0" * 43
    return body + _checksum(body)


def _at_once(answer: Answer) -> Answer:
    """Return an answer without what depends on how long it took."""
    body = re.sub(rb'"expiresIn":[0-9.e-]+', b'"expiresIn":0', answer.body)
    headers = [(name, value) for name, value in answer.headers if name != b"content-length"]
    return Answer(status=answer.status, headers=headers, body=body)


@pytest.mark.parametrize("name", GOOD)
def test_success_is_the_same(twins: Twins, name: str) -> None:
    fast, slow = twins.ask(GOOD[name])
    assert fast.status in (200, 201), fast.body
    assert _at_once(fast) == _at_once(slow)


@pytest.mark.parametrize("name", BAD)
def test_refusal_is_the_same(twins: Twins, name: str) -> None:
    make, code = BAD[name]
    fast, slow = twins.ask(make)
    assert fast.code == code
    assert fast.status == STATUS[code]
    assert fast == slow


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StoreUnavailable("The store is away."), "store_unavailable"),
        (ValueError("a bug"), "internal"),
    ],
)
def test_fault_is_the_same(
    twins: Twins, fault: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise fault

    for world in twins.worlds:
        monkeypatch.setattr(world.store, "renew", fail)
    monkeypatch.setattr("sojourn.wire.problems.uuid.uuid4", lambda: "the-same")
    fast, slow = twins.ask(beat())
    assert fast.code == code
    assert fast == slow


def test_overload_is_the_same(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything of the request is looked at."""
    for world in twins.worlds:
        monkeypatch.setattr(world.services.batcher, "_queue_max", 0)
    bare = BAD["no proof"][0]
    for make in (acquire(json=WISH), acquire(body=b"{"), bare):
        fast, slow = twins.ask(make)
        assert (fast.status, fast.code) == (503, "overloaded")
        assert fast.header("retry-after") == "1"
        assert fast == slow
    for answer in twins.ask(beat()):
        assert answer.status == 200


def test_overload_is_the_same_without_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the protocol itself, and behind ASGI, where a body comes in pieces: the same to the last byte."""
    with served(World()) as server:
        monkeypatch.setattr(server.world.services.batcher, "_queue_max", 0)
        body, key = encode(WISH), server.world.license_key
        answers = []
        for line, sent in (
            (f"Content-Length: {len(body)}", body),
            ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        ):
            with Client(server) as client:
                for _ in range(2):  # the second one's bytes are there already
                    answer = client.send(head("POST", SEATS, line, bearer=key) + sent).read()
                    assert answer is not None
                    del answer.headers["date"]
                    answers.append(answer)
        assert answers[0].code == "overloaded"
        assert all(answer == answers[0] for answer in answers)
