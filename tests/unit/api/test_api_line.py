"""Waiting for a seat over HTTP: a long poll that ends in a seat, or in a place in the line."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.api_harness import ADMIN, CURRENT, FEATURE, SEATS, Api, World, api, gather, send, served
from tests.waiting import becomes

from sojourn.event import EventKind
from sojourn.lease import Asked, Denied
from sojourn.ledger import LicenseChange
from sojourn.line import WAITING_FOR
from sojourn.service import waiting

DEADLINE = 30.0


@pytest.fixture(name="api")
def _api() -> Iterator[Api]:
    with api(capacity=1) as world:
        yield world


def until(met: Callable[[], bool]) -> None:
    deadline, between = time.monotonic() + DEADLINE, threading.Event()
    while not met():
        assert time.monotonic() < deadline, "it did not come to pass"
        between.wait(0.002)


def line(world: World) -> list[str]:
    return [x.user_id for x in world.store.waiting(f"{world.license_id}:{FEATURE}")[0]]


def test_wait_that_is_over_says_the_place(api: Api) -> None:
    """A 409 after a wait tells position, length of the line, and for how long the place is kept."""
    api.seat("ann")
    first = api.acquire("bob", wait=0.01)
    assert (first.status, first.code) == (409, "seat_limit")
    assert first.json["error"] == "Maximum user limit reached"
    assert (first.json["position"], first.json["waiting"]) == (1, 1)
    assert first.json["keepPlace"] == WAITING_FOR / 1_000
    assert first.header("retry-after") == "1"
    assert first.json["retryAfter"] == 1.0
    assert "number 1 of 1" in first.json["details"]
    again = api.acquire("cid", wait=0.01).json
    assert (again["position"], again["waiting"]) == (2, 2)
    plain = api.acquire("dan")
    assert plain.json["waiting"] == 2
    assert "position" not in plain.json
    assert "`wait`" in plain.json["details"]


def test_place_is_kept_from_poll_to_poll(api: Api) -> None:
    """Who comes back in time is where it was, and is served when it is its turn."""
    token = api.seat("ann")["token"]
    api.acquire("bob", wait=0.01)
    api.acquire("cid", wait=0.01)
    api.clock.advance(milliseconds=WAITING_FOR - 1)
    assert api.acquire("bob", wait=0.01).json["position"] == 1
    api.call("DELETE", CURRENT, bearer=token)
    assert api.acquire("dan").status == 409
    assert api.acquire("bob").status == 201


def test_free_seat_is_given_at_once(api: Api) -> None:
    """Where there is a seat, `wait` changes nothing."""
    answer = api.acquire("ann", wait=60)
    assert answer.status == 201
    assert api.acquire("ann", wait=0).status == 201


def test_lease_token_waits(api: Api) -> None:
    """Who comes back to a lease by its token may wait for a seat, too."""
    token = api.seat("ann")["token"]
    api.clock.advance(seconds=120)
    api.seat("bob")
    answer = api.call("POST", SEATS, bearer=token, json={"wait": 0.01})
    assert (answer.status, answer.json["position"]) == (409, 1)


@pytest.mark.parametrize(
    ("said", "code"),
    [({"wait": -1}, 400), ({"wait": "long"}, 400), ({"wait": None}, 400), ({"priority": 9}, 403)],
)
def test_impossible_waits_are_refused(api: Api, said: dict[str, Any], code: int) -> None:
    """A wait is a number of seconds. A client with a license key cannot raise itself in the line."""
    answer = api.acquire("ann", **said)
    assert answer.status == code
    assert next(iter(said)) in answer.json["error"]


def test_release_serves_who_waits(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long poll ends in 201 as soon as the holder gives the seat back, in the order of arrival."""
    monkeypatch.setattr(waiting, "POLL", 3_600.0)
    token = api.seat("ann")["token"]
    order: list[str] = []

    async def wait_for(user: str) -> Any:
        wish = api.wish(user, wait=60)
        answer = await send(api.app, "POST", SEATS, bearer=api.license_key, json=wish)
        order.append(user)
        await send(api.app, "DELETE", CURRENT, bearer=answer.data["token"])
        return answer

    async def release() -> Any:
        await becomes(lambda: api.services.waiting.length >= 3)
        return await send(api.app, "DELETE", CURRENT, bearer=token)

    users = ["bob", "cid", "dan"]
    answers = api.run(gather(*(wait_for(user) for user in users), release()))
    assert [answer.status for answer in answers] == [201, 201, 201, 200]
    assert order == users
    assert api.services.waiting.length == 0


def test_operators_and_sessions_free_seats(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seat that an operator frees, or that goes with a session, wakes who waits."""
    monkeypatch.setattr(waiting, "POLL", 3_600.0)
    session_id = api.session("ann")
    api.seat("ann", sessionId=session_id)

    async def wait_for(user: str) -> int:
        wish = api.wish(user, wait=60)
        return (await send(api.app, "POST", SEATS, bearer=api.license_key, json=wish)).status

    async def free(method: str, path: str) -> int:

        await becomes(lambda: api.services.waiting.length >= 1)

        return (await send(api.app, method, path, bearer=ADMIN)).status

    force = f"{SEATS}/force-cleanup/ann/{FEATURE}"
    assert api.run(gather(wait_for("bob"), free("DELETE", force))) == [201, 200]


def test_operators_see_the_line(api: Api) -> None:
    """Debug and a call of its own show who waits, for whom a seat is held, and who was refused lately."""
    token = api.seat("ann")["token"]
    api.acquire("bob", wait=0.01)
    api.clock.advance(seconds=1)
    api.acquire("cid", "tab-9", wait=0.01)
    for _ in range(3):
        assert api.acquire("dan").status == 409
    assert api.acquire("eve").status == 409
    path = f"{SEATS}/waiting?licenseId={api.license_id}&feature={FEATURE}"
    answer = api.admin("GET", path)
    line = answer.data
    assert [(x["position"], x["userId"], x["waited"]) for x in line["waiting"]] == [
        (1, "bob", 1.0),
        (2, "cid", 0.0),
    ]
    assert line["waiting"][1]["clientId"] == "tab-9"
    assert [(x["userId"], x["times"]) for x in line["refused"]] == [("eve", 1), ("dan", 3)]
    assert answer.json["message"] == "2 clients in the line. 2 others refused lately."
    api.call("DELETE", CURRENT, bearer=token)
    api.acquire("dan")
    (pool,) = api.admin("GET", f"{SEATS}/debug?userId=dan&feature={FEATURE}").data["pools"]
    assert [x.get("offered") for x in pool["waiting"]] == [10.0, None]
    assert pool["refusal"]["waiting"] == 2
    assert "2 wait" in pool["refusal"]["details"]
    assert not pool["wouldGrant"]
    api.clock.advance(seconds=61)  # who was refused has gone silent; who waited, too
    api.seat("dan")
    empty = api.admin("GET", path).data
    assert empty["waiting"] == empty["refused"] == []


def test_served_and_silent_are_not_waited_for(api: Api) -> None:
    """Who has got a seat since it was refused is not among the refused."""
    token = api.seat("ann")["token"]
    api.acquire("bob")
    api.call("DELETE", CURRENT, bearer=token)
    api.seat("bob")
    path = f"{SEATS}/waiting?licenseId={api.license_id}&feature={FEATURE}"
    assert api.admin("GET", path).data["refused"] == []
    assert api.admin("GET", path.replace(FEATURE, "none")).code == "feature_unknown"
    assert api.call("GET", path, bearer=api.license_key).status == 401


def test_metrics_count_who_waits(api: Api) -> None:
    """Requests that waited are counted, and how long those had waited who were served."""
    api.seat("ann")
    api.acquire("bob", wait=0.01)
    text = api.call("GET", "/metrics").body.decode()
    assert "sojourn_line_waiting 0.0" in text
    assert 'sojourn_line_ended_total{outcome="unserved"} 1.0' in text
    assert 'sojourn_line_ended_total{outcome="served"} 0.0' in text
    assert 'sojourn_line_seconds_bucket{le="+Inf"} 0.0' in text


PAGE = "https://app.example"


def test_page_of_another_origin_waits(api: Api) -> None:
    """A page whose license allows it waits as others do, and may read the answer."""
    change = LicenseChange(allowed_origins=(PAGE,))
    api.services.licenses.change(api.license_id, change, actor="test")
    api.seat("ann")
    wish = api.wish("bob", wait=0.01)
    request = {"bearer": api.license_key, "json": wish, "headers": [("Origin", PAGE)]}
    answer = api.call("POST", SEATS, **request)
    assert (answer.status, answer.json["position"]) == (409, 1)
    assert answer.header("access-control-allow-origin") == PAGE
    api.services.operations.force_cleanup("ann", FEATURE, actor="test")
    assert api.call("POST", SEATS, **request).status == 201


@pytest.mark.parametrize("origins", [(), (PAGE,)])
def test_page_is_not_refused_provisionally(api: Api, origins: tuple[str, ...]) -> None:
    """Holders that seem to be gone are asked for a page, too: its refusal is final, and recorded."""
    change = LicenseChange(allowed_origins=origins)
    api.services.licenses.change(api.license_id, change, actor="test")
    api.services.seats.may_ask = lambda _: True
    api.seat("ann")
    api.clock.advance(seconds=61)  # suspect, within its linger
    request = {"bearer": api.license_key, "json": api.wish("bob"), "headers": [("Origin", PAGE)]}
    answer = api.call("POST", SEATS, **request)
    assert (answer.status, answer.json["suspect"]) == (409, 1)
    assert [x.user_id for x in api.store.events(kinds=[EventKind.LEASE_DENIED])] == ["bob"]


def test_refusal_after_a_wait_is_not_judged_by_what_was_asked_before_it(api: Api) -> None:
    """Who was silent then may have come back since, and be doubtful again: no ghost is made of that."""
    lease_id = api.seat("ann")["leaseId"]
    api.services.seats.may_ask = lambda _: True
    askings, times = api.app.context.seat_sockets.askings, list[str]()

    async def silent(denied: Denied, **_: Any) -> Asked:
        times.append(denied.evidence[0].id)
        return Asked(asked=1, silent=(lease_id,))

    askings.ask = silent  # type: ignore[method-assign]  # nobody is doubted
    api.clock.advance(seconds=61)  # suspect, within its linger
    waited = api.acquire("bob", wait=0.01)
    assert (waited.status, waited.json["position"]) == (409, 1)
    assert (times, askings.denials_with_ghost) == ([lease_id], 0)
    assert "asked" not in waited.json
    assert api.acquire("cid").json["asked"] == {"asked": 1, "answered": 0, "silent": 1}
    assert askings.denials_with_ghost == 1


def post(port: int, world: World, user: str, wait: float, found: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    headers = {
        "Authorization": f"Bearer {world.license_key}",
        "Content-Type": "application/json",
    }
    connection.request("POST", SEATS, json.dumps(world.wish(user, wait=wait)), headers)
    answer = connection.getresponse()
    found[user] = answer.status, json.loads(answer.read())
    connection.close()


def test_real_server_serves_who_waits() -> None:
    """Over real connections: many wait, and hold no thread; each is served when a seat comes free."""
    world = World(capacity=1)
    with served(world) as server:
        found: dict[str, Any] = {}
        post(server.port, world, "ann", 0, found)
        users = [f"user{i:02}" for i in range(12)]
        threads = [
            threading.Thread(target=post, args=(server.port, world, user, 60, found))
            for user in users
        ]
        for i, thread in enumerate(threads):
            thread.start()
            until(lambda i=i: len(line(world)) == i + 1)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        names = {each.name for each in threading.enumerate()}
        assert sum("sojourn-runner" in name for name in names) <= 1
        holder = "ann"
        for user in users:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
            token = found[holder][1]["data"]["token"]
            connection.request("DELETE", CURRENT, headers={"Authorization": f"Bearer {token}"})
            assert connection.getresponse().status == 200
            connection.close()
            until(lambda user=user: user in found)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert found[user][0] == 201
            holder = user
        for thread in threads:
            thread.join(DEADLINE)


def test_client_that_hangs_up_leaves() -> None:
    """A client that drops its connection asks no more; its entry is over within `WAITING_FOR`."""
    world = World(capacity=1)
    with served(world) as server:
        post(server.port, world, "ann", 0, {})
        with server.connect() as connection:
            body = json.dumps(world.wish("bob", wait=60)).encode()
            head = (
                f"POST {SEATS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Authorization: Bearer {world.license_key}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            until(lambda: line(world) == ["bob"])
        until(lambda: world.services.waiting.length == 0)
        world.clock.advance(milliseconds=WAITING_FOR)
        assert line(world) == []


def test_stopping_server_answers_who_waits() -> None:
    """A server that stops tells who waits their places, and does not wait for them."""
    world = World(capacity=1)
    found: dict[str, Any] = {}
    with served(world) as server:
        post(server.port, world, "ann", 0, found)
        thread = threading.Thread(target=post, args=(server.port, world, "bob", 60, found))
        thread.start()
        until(lambda: world.services.waiting.length == 1)
    thread.join(DEADLINE)
    status, body = found["bob"]
    assert (status, body["position"]) == (409, 1)
