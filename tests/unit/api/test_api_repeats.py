"""Requests that come twice over HTTP: an Idempotency-Key gives the first answer again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.api_harness import BEAT, CURRENT, FEATURE, SEATS, Answer, Api, World, api, served
from tests.session_harness import BASE, Backend
from tests.session_harness import CURRENT as SESSION

from sojourn.idempotency import ANSWERS_KEPT
from sojourn.lease import LeaseFilter
from sojourn.ledger import Role
from sojourn.token import Keyring, TokenKind, check_token, new_token

KEY = ("Idempotency-Key", '"8e03978e-40d5-43e8-bc93-6894a57f9324"')


@pytest.fixture
def world() -> Iterator[Api]:
    with api(capacity=2) as world:
        yield world


@pytest.fixture
def backend(world: Api) -> Backend:
    return Backend(world)


def take(world: Api, user: str = "ann", key: tuple[str, str] = KEY, **more: Any) -> Answer:
    wish = world.wish(user, "tab-1", **more)
    return world.call("POST", SEATS, bearer=world.license_key, json=wish, headers=[key])


def is_replay(answer: Answer) -> bool:
    said = answer.header("Idempotency-Replayed")
    assert said in (None, "true")
    return said is not None


def test_copy_of_an_acquire_takes_nothing(world: Api) -> None:
    """A proxy's copy gets the very same token, and what is left of the lease; the first goes on."""
    first = take(world)
    world.clock.advance(seconds=10)
    copy = take(world)
    assert (first.status, copy.status) == (201, 201)
    assert (is_replay(first), is_replay(copy)) == (False, True)
    assert 0 < copy.data["expiresIn"] <= 80
    assert {**copy.data, "expiresIn": 0} == {**first.data, "expiresIn": 0}
    assert world.beat(first.data["token"]).status == 200


def test_copy_of_an_acquire_long_after(world: Api) -> None:
    """Of a lease that is over nothing is left; after ten minutes the key is forgotten."""
    first = take(world)
    world.clock.advance(milliseconds=ANSWERS_KEPT - 1)
    assert take(world).data["expiresIn"] == 0
    world.clock.advance(milliseconds=1)
    again = take(world)
    assert (is_replay(again), again.data["fence"]) == (False, first.data["fence"] + 1)


def test_copy_of_a_denial(world: Api) -> None:
    """A refusal is told again with what is left of its wait."""
    for user in ("bob", "cat"):
        world.seat(user)
    first = take(world)
    world.clock.advance(seconds=2)
    copy = take(world)
    assert (first.status, copy.status, copy.code) == (409, 409, "seat_limit")
    assert is_replay(copy)
    assert copy.json["retryAfter"] <= first.json["retryAfter"]
    assert copy.json["inUse"] == 2


def test_same_key_of_another_caller(world: Api) -> None:
    """A key is its caller's own: another license's, another lease's, is another key."""
    mine = take(world).data
    other = world.admin(
        "POST", "/api/licenses", json={"name": "o", "features": {FEATURE: {"capacity": 2}}}
    ).data
    wish = world.wish("ann", "tab-1")
    theirs = world.call("POST", SEATS, bearer=other["key"], json=wish, headers=[KEY])
    assert (theirs.status, is_replay(theirs)) == (201, False)
    assert theirs.data["leaseId"] != mine["leaseId"]
    back = world.call("POST", SEATS, bearer=mine["token"], headers=[KEY])
    assert (back.status, is_replay(back), back.data["fence"]) == (201, False, 2)
    assert is_replay(world.call("POST", SEATS, bearer=mine["token"], headers=[KEY]))


def test_same_key_for_another_request(world: Api) -> None:
    """422, and nothing is done: not for another user, not with another wish."""
    take(world)
    for answer in (take(world, "bob"), take(world, takeover=True)):
        assert (answer.status, answer.code) == (422, "idempotency_key_reused")
        assert "new key" in answer.json["details"]
    assert world.store.usage([f"{world.license_id}:editor"])[0] is not None
    assert len(world.store.leases(LeaseFilter())[0]) == 1


def test_heartbeat_and_release_take_no_key(world: Api) -> None:
    """A copied beat is a beat; a copied release has nothing left to give back, which is as good."""
    token = world.seat()["token"]
    for _ in range(2):
        assert not is_replay(world.call("POST", BEAT, bearer=token, json={}, headers=[KEY]))
    released = [
        world.call("DELETE", CURRENT, bearer=token, headers=[KEY]).data["released"]
        for _ in range(2)
    ]
    assert released == [True, False]


def test_copy_of_a_sign_in(world: Api, backend: Backend) -> None:
    """One session, and the same token, which is stored nowhere."""
    first = backend.call("POST", BASE, json={"userId": "ann", "data": {"a": 1}}, headers=[KEY])
    copy = backend.call("POST", BASE, json={"userId": "ann", "data": {"a": 1}}, headers=[KEY])
    assert (is_replay(first), is_replay(copy)) == (False, True)
    assert first.data == copy.data
    check_token(first.data["token"], TokenKind.SESSION)
    assert backend.check(first.data["token"]).data["session"]["data"] == {"a": 1}
    assert len(world.store.of("ann")) == 1
    other = backend.call("POST", BASE, json={"userId": "bob"}, headers=[KEY])
    assert other.code == "idempotency_key_reused"


def test_forgotten_key_begins_another_session(world: Api, backend: Backend) -> None:
    """The same key an hour later is a new session under a new token: none comes back to life."""
    wish: dict[str, Any] = {"json": {"userId": "ann"}, "headers": [KEY]}
    first = backend.call("POST", BASE, **wish).data
    world.store.end(ids=[first["session"]["id"]])
    world.clock.advance(milliseconds=ANSWERS_KEPT)
    second = backend.call("POST", BASE, **wish).data
    assert second["session"]["id"] != first["session"]["id"]
    assert second["token"] != first["token"]
    assert backend.check(first["token"]).code == "session_ended"
    assert backend.check(second["token"]).status == 200


def test_copy_after_the_secret_was_replaced(world: Api, backend: Backend) -> None:
    """The token is made again under the secret it was made with, as long as that is in the list; after
    that the copy is refused, and begins nothing."""
    wish: dict[str, Any] = {"json": {"userId": "ann"}, "headers": [KEY]}
    first = backend.call("POST", BASE, **wish).data
    service = world.services.sessions
    old = service._keyring
    assert old is not None
    newer = Keyring([b"n" * 32])
    service._keyring = newer
    gone = backend.call("POST", BASE, **wish)
    assert (gone.status, gone.code) == (409, "conflict")
    newer._again = [*newer._again, *old._again]
    assert backend.call("POST", BASE, **wish).data["token"] == first["token"]
    assert len(world.store.of("ann")) == 1


def test_copy_of_a_refused_sign_in(backend: Backend) -> None:
    """One session too many: told again, with the sessions that there were to choose from."""
    backend.begin()
    wish = {"userId": "ann", "limit": 1, "atLimit": "ask"}
    first = backend.call("POST", BASE, json=wish, headers=[KEY])
    copy = backend.call("POST", BASE, json=wish, headers=[KEY])
    assert (first.code, copy.code, is_replay(copy)) == ("session_limit", "session_limit", True)
    ids = [[x["id"] for x in each.json["sessions"]] for each in (first, copy)]
    assert ids[0] == ids[1]


def test_late_copy_of_a_save(backend: Backend) -> None:
    """It overwrites nothing that was saved since, and tells its own revision."""
    token = backend.begin()["token"]
    first = backend.call("PATCH", SESSION, token, json={"set": {"n": 1}}, headers=[KEY])
    backend.call("PATCH", SESSION, token, json={"set": {"n": 2}})
    copy = backend.call("PATCH", SESSION, token, json={"set": {"n": 1}}, headers=[KEY])
    assert (copy.data, is_replay(copy)) == (first.data, True)
    assert backend.check(token).data["session"]["data"] == {"n": 2}


@pytest.mark.parametrize("grace", [0, 20])
def test_copy_of_a_rotation(backend: Backend, grace: int) -> None:
    """It tells the token that the first has given, though its own proof is worth nothing any more."""
    token = backend.begin()["token"]
    rotate: dict[str, Any] = {"json": {"grace": grace}, "headers": [KEY]}
    first = backend.call("POST", SESSION + "/rotate", token, **rotate)
    copy = backend.call("POST", SESSION + "/rotate", token, **rotate)
    assert (copy.status, is_replay(copy)) == (200, True)
    assert copy.data["token"] == first.data["token"] != token
    assert backend.check(first.data["token"]).status == 200


def test_copy_of_a_rotation_to_a_given_token(backend: Backend) -> None:
    """Likewise where the backend has chosen the token."""
    token, chosen = backend.begin()["token"], backend.begin("bob")["token"]
    backend.call("DELETE", SESSION, chosen)
    new = new_token(TokenKind.SESSION)
    rotate: dict[str, Any] = {"json": {"grace": 0, "token": new}, "headers": [KEY]}
    first = backend.call("POST", SESSION + "/rotate", token, **rotate)
    copy = backend.call("POST", SESSION + "/rotate", token, **rotate)
    assert (first.data["token"], copy.data["token"], is_replay(copy)) == (new, new, True)


def test_late_copy_of_a_sign_out_elsewhere(world: Api, backend: Backend) -> None:
    """It ends nobody who has signed in since."""
    other, own = backend.begin()["token"], backend.begin()["token"]
    first = backend.call("POST", SESSION + "/end-others", own, headers=[KEY])
    later = backend.begin()["token"]
    copy = backend.call("POST", SESSION + "/end-others", own, headers=[KEY])
    assert (first.data, copy.data, is_replay(copy)) == ({"ended": 1}, {"ended": 1}, True)
    assert [backend.check(x).status for x in (other, own, later)] == [401, 200, 200]


def test_late_copy_of_an_end_of_all(backend: Backend) -> None:
    """Likewise by the user's name."""
    backend.begin()
    wish: dict[str, Any] = {"json": {"userId": "ann"}, "headers": [KEY]}
    first = backend.call("POST", BASE + "/end", **wish).data
    later = backend.begin()["token"]
    assert backend.call("POST", BASE + "/end", **wish).data == first
    assert backend.check(later).status == 200


def test_copy_of_a_sign_out(backend: Backend) -> None:
    """It is told that one session was ended; and another person's sign-out with the same key is refused,
    not taken for done."""
    mine, theirs = backend.begin()["token"], backend.begin("bob")["token"]
    first = backend.call("DELETE", SESSION, mine, headers=[KEY])
    copy = backend.call("DELETE", SESSION, mine, headers=[KEY])
    assert (first.data, copy.data, is_replay(copy)) == ({"ended": 1}, {"ended": 1}, True)
    other = backend.call("DELETE", SESSION, theirs, headers=[KEY])
    assert other.code == "idempotency_key_reused"
    assert backend.check(theirs).status == 200


def test_same_key_of_another_backend(world: Api, backend: Backend) -> None:
    """Two applications may draw the same key: neither is shown the other's session."""
    first = backend.call("POST", BASE, json={"userId": "ann"}, headers=[KEY]).data
    other = world.call(
        "POST", BASE, bearer=world.keys[Role.ADMIN], json={"userId": "ann"}, headers=[KEY]
    )
    assert not is_replay(other)
    assert other.data["token"] != first["token"]


def test_nothing_is_kept_for_requests_without_a_key(world: Api, backend: Backend) -> None:
    """No key, no memory."""
    world.seat()
    backend.begin()
    assert world.store._firsts == {}


def test_key_is_nowhere_in_the_store(world: Api) -> None:
    """What is kept holds a digest of the key, and no token."""
    answer = take(world)
    kept = repr(world.store._firsts)
    assert KEY[1].strip('"') not in kept
    assert answer.data["token"] not in kept


def test_over_the_wire() -> None:
    """The protocol's own lane says the same: the first answer, once more, and marked as such."""
    world = World(capacity=2)
    with served(world) as server, httpx.Client(base_url=server.url) as http:
        proof = ("Authorization", f"Bearer {world.license_key}")
        wish = world.wish("ann", "tab-1")
        first, copy, twice = (
            http.post(SEATS, json=wish, headers=[proof, *keys])
            for keys in ([KEY], [KEY], [KEY, KEY])
        )
        assert (first.status_code, copy.status_code) == (201, 201)
        seat, again = first.json()["data"], copy.json()["data"]
        assert {**seat, "expiresIn": 0} == {**again, "expiresIn": 0}
        told = {"idempotency-replayed": "true"}
        timed = {"date": "", "content-length": ""}  # what is left of a lease is one of its digits
        assert {**first.headers, **told, **timed} == {**copy.headers, **timed}
        assert (twice.status_code, twice.json()["code"]) == (400, "invalid_request")
        other = http.post(SEATS, json={**wish, "takeover": True}, headers=[proof, KEY])
        assert other.status_code == 422


def test_document_lists_the_header(world: Api) -> None:
    """On the calls that take it, and on no other."""
    document = world.call("GET", "/openapi.json").json
    takes = {
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if any(x["name"] == "Idempotency-Key" for x in operation.get("parameters", ()))
    }
    assert takes == {
        "post /api/licenses/sessions",
        "post /api/sessions",
        "patch /api/sessions/current",
        "patch /api/sessions/{sessionId}",
        "post /api/sessions/current/rotate",
        "post /api/sessions/{sessionId}/rotate",
        "delete /api/sessions/current",
        "post /api/sessions/current/end-others",
        "post /api/sessions/end",
        "post /api/user/active-sessions/logout-others",
    }
