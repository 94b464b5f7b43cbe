"""Pages that use a license: each license says which origins may, on whichever lane they are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from tests.api_harness import (
    ADMIN,
    BEAT,
    CURRENT,
    SEATS,
    Answer,
    World,
    api,
    encode,
    send,
    served,
)
from tests.raw_http import Client, head

from sojourn.errors import StoreUnavailable
from sojourn.ledger import LicenseChange
from sojourn.license import Policy
from sojourn.service.origins import FromPage, Shared
from sojourn.service.seats import Seat, SeatCall
from sojourn.token import hash_token

APP = "https://app.example"
OTHER = "https://other.example"
EXTENSION = "chrome-extension://abcdefghijklmnopabcdefghijklmnop"
ALLOW = "access-control-allow-origin"
Ask = Callable[..., Answer]


def allow(world: World, *origins: str, license_id: str | None = None) -> None:
    change = LicenseChange(allowed_origins=origins)
    world.services.licenses.change(license_id or world.license_id, change, actor="test")


@pytest.fixture(params=["direct", "asgi", "router"])
def lane(request: pytest.FixtureRequest) -> Iterator[tuple[World, Ask]]:
    """A world, and what asks it on one lane."""
    if request.param == "direct":
        world = World()
        with served(world) as server:
            yield world, lambda *a, **b: over_a_connection(server, *a, **b)
        return
    with api() as inside:
        app = inside.app if request.param == "asgi" else inside.app.behind
        yield inside, lambda method, path, **b: inside.run(send(app, method, path, **b))


def over_a_connection(
    server: Any,
    method: str,
    path: str,
    *,
    bearer: str | None = None,
    json: Any = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    body = b"" if json is None else encode(json)
    lines = [f"{name}: {value}" for name, value in headers if name.lower() != "host"]
    lines += [f"Content-Length: {len(body)}"] if body else []
    sent = head(method, path, *lines, bearer=bearer)
    with Client(server) as client:
        response = client.send(sent + body).read()
    assert response is not None
    found = [(name.encode(), value.encode()) for name, value in response.headers.items()]
    return Answer(response.status, found, response.body)


def page(origin: str, **more: str) -> list[tuple[str, str]]:
    return [("Origin", origin), ("Host", "x"), *more.items()]


def take(ask: Ask, world: World, origin: str, *, user: str = "ann", key: str = "") -> Answer:
    bearer = key or world.license_key
    return ask("POST", SEATS, bearer=bearer, json=world.wish(user), headers=page(origin))


def reads(answer: Answer, origin: str) -> bool:
    """Tell whether a browser lets a page read an answer; it is one origin's alone, and without cookies."""
    assert answer.header("access-control-allow-credentials") is None
    assert answer.header("vary") == "Origin"
    assert answer.header(ALLOW) in (None, origin)
    return answer.header(ALLOW) == origin


def test_a_page_that_is_allowed_holds_a_seat(lane: tuple[World, Ask]) -> None:
    """Acquire, beat and release: each is shared, and says whom with."""
    world, ask = lane
    allow(world, APP, "https://*.shop.example", EXTENSION)
    for user, origin in (("ann", APP), ("bob", "https://eu.shop.example"), ("cy", EXTENSION)):
        seat = take(ask, world, origin, user=user)
        assert (seat.status, reads(seat, origin)) == (201, True)
        assert "Retry-After" in str(seat.header("access-control-expose-headers"))
        token = seat.data["token"]
        beat = ask("POST", BEAT, bearer=token, json={}, headers=page(origin))
        assert (beat.status, reads(beat, origin)) == (200, True)
        gone = ask("DELETE", CURRENT, bearer=token, headers=page(origin))
        assert (gone.status, reads(gone, origin), gone.data["released"]) == (200, True, True)


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "https://evil.example/https://app.example",
        "null",
        "*",
        "https://shop.example",
    ],
)
def test_a_page_that_is_not_allowed_gets_no_seat(lane: tuple[World, Ask], origin: str) -> None:
    """It is refused before anything is done, and may not read why."""
    world, ask = lane
    allow(world, APP, "https://*.shop.example")
    held = take(ask, world, APP).data["token"]
    before = world.store.events(limit=100)
    for answer in (
        take(ask, world, origin, user="bob"),
        ask("POST", SEATS, bearer=held, headers=page(origin)),  # to resume
        ask("POST", BEAT, bearer=held, json={"closing": True}, headers=page(origin)),
        ask("DELETE", CURRENT, bearer=held, headers=page(origin)),
    ):
        assert (answer.status, answer.code) == (403, "cross_origin")
        assert not reads(answer, origin)
    assert world.store.events(limit=100) == before


def test_a_license_that_names_nobody_is_as_ever(lane: tuple[World, Ask]) -> None:
    """An extension with permissions of its own says an Origin too: it is served, but shared with no page."""
    world, ask = lane
    seat = take(ask, world, EXTENSION)
    assert (seat.status, reads(seat, EXTENSION)) == (201, False)
    beat = ask("POST", BEAT, bearer=seat.data["token"], headers=page(EXTENSION))
    assert (beat.status, reads(beat, EXTENSION)) == (200, False)


def test_another_licenses_pages_read_nothing(lane: tuple[World, Ask]) -> None:
    """That an origin is known does not open a license that does not name it."""
    world, ask = lane
    licenses = world.services.licenses
    other, key = licenses.create(
        "Other", {"editor": Policy(capacity=1)}, allowed_origins=[OTHER], actor="test"
    )
    answer = take(ask, world, OTHER)
    assert (answer.status, reads(answer, OTHER)) == (201, False)
    allow(world, APP)
    assert take(ask, world, OTHER).code == "cross_origin"
    assert take(ask, world, APP, key=key).code == "cross_origin"
    assert reads(take(ask, world, OTHER, key=key), OTHER)
    assert other.allowed_origins == (OTHER,)


def test_refusals_of_a_license_are_read_by_its_pages(lane: tuple[World, Ask]) -> None:
    """A page says why somebody is refused: the license is full, or has no such feature."""
    world, ask = lane
    allow(world, APP)
    for user in ("ann", "bob"):
        assert take(ask, world, APP, user=user).status == 201
    full = take(ask, world, APP, user="cy")
    assert (full.status, full.code, reads(full, APP)) == (409, "seat_limit", True)
    wish = {**world.wish(), "feature": "nothing"}
    lost = ask("POST", SEATS, bearer=world.license_key, json=wish, headers=page(APP))
    assert (lost.code, reads(lost, APP)) == ("feature_unknown", True)


def test_what_tells_nothing_of_a_license_is_read_by_known_pages(lane: tuple[World, Ask]) -> None:
    """A wrong key or body: whoever's page it is may say so, if some license allows it."""
    world, ask = lane
    allow(world, APP)
    assert reads(ask("OPTIONS", SEATS, headers=preflight(APP)), APP)  # as a browser does first
    unknown = world.license_key[:-2] + ("00" if world.license_key[-2:] != "00" else "11")
    for bearer, body in ((unknown, world.wish()), (world.license_key, {"feature": 1})):
        for origin, known in ((APP, True), (OTHER, False)):
            answer = ask("POST", SEATS, bearer=bearer, json=body, headers=page(origin))
            assert answer.status in (400, 401)
            assert reads(answer, origin) is known


def preflight(origin: str, method: str = "POST") -> list[tuple[str, str]]:
    return page(origin, **{"Access-Control-Request-Method": method})


@pytest.mark.parametrize(("path", "method"), [(SEATS, "POST"), (BEAT, "POST"), (CURRENT, "DELETE")])
def test_a_browser_asks_before(lane: tuple[World, Ask], path: str, method: str) -> None:
    """It says no license: origins that some license allows may go on. The others learn nothing."""
    world, ask = lane
    refused = ask("OPTIONS", path, headers=preflight(APP, method))
    assert (refused.status, reads(refused, APP)) == (204, False)
    allow(world, APP, "https://*.shop.example")
    for origin in (APP, "https://a.b.shop.example"):
        answer = ask("OPTIONS", path, headers=preflight(origin, method))
        assert (answer.status, answer.body, reads(answer, origin)) == (204, b"", True)
        assert answer.header("access-control-allow-methods") == method
        headers = str(answer.header("access-control-allow-headers"))
        assert {"authorization", "content-type", "idempotency-key"} <= set(headers.split(", "))
        assert int(str(answer.header("access-control-max-age"))) > 0
    other = ask("OPTIONS", path, headers=preflight(OTHER, method))
    date = (b"date", b"server")
    assert [h for h in other.headers if h[0] not in date] == [
        h for h in refused.headers if h[0] not in date
    ]
    assert not reads(ask("OPTIONS", path, headers=page(APP)), APP)  # no browser asks like that
    allow(world)
    assert not reads(ask("OPTIONS", path, headers=preflight(APP, method)), APP)


def test_pages_of_our_own_are_no_strangers(lane: tuple[World, Ask]) -> None:
    """Browsers say Origin with every POST, of the same origin, too."""
    world, ask = lane
    allow(world, APP)
    assert take(ask, world, "https://x").status == 201  # the Host that is asked
    beside = page("https://proxied.example", **{"Sec-Fetch-Site": "same-origin"})
    answer = ask("POST", SEATS, bearer=world.license_key, json=world.wish(), headers=beside)
    assert answer.status == 201


def test_two_origins_are_none(lane: tuple[World, Ask]) -> None:
    world, ask = lane
    allow(world, APP)
    headers = [*page(APP), ("Origin", OTHER)]
    answer = ask("POST", SEATS, bearer=world.license_key, json=world.wish(), headers=headers)
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_operators_calls_are_not_for_pages(lane: tuple[World, Ask]) -> None:
    """The list of leases is at the same path."""
    world, ask = lane
    allow(world, APP)
    answer = ask("GET", SEATS, bearer=ADMIN, headers=page(APP))
    assert answer.status == 200
    assert answer.header(ALLOW) is None
    assert ask("POST", SEATS, bearer=world.license_key, json=world.wish()).header("vary") is None


def test_no_outage_of_the_ledger_costs_a_page_its_seat(
    lane: tuple[World, Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ledger said last counts; where it never did, the seat is kept, and nothing is shared."""
    world, ask = lane
    allow(world, APP)
    token = take(ask, world, APP).data["token"]

    def beat(origin: str) -> Answer:
        return ask("POST", BEAT, bearer=token, headers=page(origin))

    assert reads(beat(APP), APP)

    def down(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("The ledger is down.")

    monkeypatch.setattr(world.ledger, "license_origins", down)
    monkeypatch.setattr(world.services.origins, "_now", lambda: 1e12)  # nothing is fresh
    assert (beat(APP).status, reads(beat(APP), APP)) == (200, True)
    assert beat(OTHER).status == 403
    world.services.origins.forget(world.license_id)
    assert (beat(APP).status, reads(beat(APP), APP)) == (200, False)
    answer = ask("POST", SEATS, bearer=token, headers=page(APP))  # a seat is not given on no word
    assert answer.code == "store_unavailable"


def test_operators_say_which_origins(lane: tuple[World, Ask]) -> None:
    world, ask = lane
    body = {"name": "Pages", "allowedOrigins": ["https://App.example:443", EXTENSION, EXTENSION]}
    made = ask("POST", "/api/licenses", bearer=ADMIN, json=body)
    assert made.data["allowedOrigins"] == [APP, EXTENSION]
    path = f"/api/licenses/{made.data['licenseId']}"
    assert ask("GET", path, bearer=ADMIN).data["allowedOrigins"] == [APP, EXTENSION]
    patched = ask("PATCH", path, bearer=ADMIN, json={"allowedOrigins": ["https://*.a.example"]})
    assert patched.data["allowedOrigins"] == ["https://*.a.example"]
    assert ask("PATCH", path, bearer=ADMIN, json={"name": "P"}).data["allowedOrigins"]
    audits = world.ledger.audits(limit=100)
    assert {"allowed_origins": ["https://*.a.example"]} in [a.data for a in audits]
    emptied = ask("PATCH", path, bearer=ADMIN, json={"allowedOrigins": []})
    assert "allowedOrigins" not in emptied.data


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        ("https://app.example/", "is no origin"),
        ("https://app.example/path", "is no origin"),
        ("app.example", "is no origin"),
        ("*", "is no origin"),
        ("null", "is no origin"),
        ("file:///etc", "is no origin"),
        ("https://user@app.example", "is no origin"),
        ("https://*.example", "everybody may have"),
        ("http://*.app.example", "too many"),
        ("https://*.github.io", "everybody may have"),
        ("https://*.co.uk", "everybody may have"),
        ("HTTPS://*.GitHub.IO:8443", "everybody may have"),
        ("https://bücher.example", "is no origin"),
    ],
)
def test_what_is_no_origin_is_refused(origin: str, why: str) -> None:
    with api() as world:
        for method, path in (
            ("POST", "/api/licenses"),
            ("PATCH", f"/api/licenses/{world.license_id}"),
        ):
            answer = world.admin(method, path, json={"name": "x", "allowedOrigins": [origin]})
            assert answer.status == 400, answer.body
            assert why in json.dumps(answer.json, ensure_ascii=False)
        many = {"name": "x", "allowedOrigins": [f"https://a{i}.example" for i in range(51)]}
        assert world.admin("POST", "/api/licenses", json=many).status == 400


def test_more_origins_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers that ask first are then let through, and their requests judged all the same."""
    monkeypatch.setattr("sojourn.service.origins.KNOWN_MAX", 2)
    with api() as world:
        allow(world, *(f"https://a{i}.example" for i in range(4)))
        ask: Ask = world.call
        assert reads(ask("OPTIONS", SEATS, headers=preflight(OTHER)), OTHER)
        assert take(ask, world, OTHER).code == "cross_origin"


def test_a_browser_that_asks_first_asks_the_ledger_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of them costs one look in ten seconds."""
    with api() as world:
        allow(world, APP)
        looks = 0
        real = world.ledger.allowed_origins

        def counted(**given: Any) -> set[str]:
            nonlocal looks
            looks += 1
            return real(**given)

        monkeypatch.setattr(world.ledger, "allowed_origins", counted)
        ask: Ask = world.call
        for n in range(50):
            assert not reads(ask("OPTIONS", SEATS, headers=preflight(f"https://a{n}.example")), "")
        assert looks == 1


def test_a_mixed_batch_answers_each_its_own() -> None:
    """Calls of pages, allowed or not, and of clients that are none come in one batch."""
    with api(capacity=10) as world:
        allow(world, APP)
        run = world.services.batcher._verbs["acquire"]

        def call(user: str) -> SeatCall:
            key_hash = hash_token(world.license_key)
            return SeatCall(key_hash=key_hash, feature="editor", user_id=user, client_id="c")

        a, b, c, d = run(
            [
                FromPage(OTHER, call("a")),
                call("b"),
                FromPage(APP, call("c")),
                FromPage("null", call("d")),
            ]
        )
        assert getattr(a, "code", "") == getattr(d, "code", "") == "cross_origin"
        assert isinstance(b, Seat)
        assert b.lease.user_id == "b"
        assert isinstance(c, Shared)
        assert c.outcome.lease.user_id == "c"
