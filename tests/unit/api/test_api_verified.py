"""Lease tokens whose signature is looked at once: nothing else about them is taken for granted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api_harness import BEAT, CURRENT, SEATS, Answer, Api

from sojourn.ledger import LicenseChange
from sojourn.license import LicenseStatus
from sojourn.token import Keyring, LeaseClaims


@pytest.fixture
def world() -> Iterator[Api]:
    world = Api(capacity=2)
    world.start()
    yield world
    world.stop()
    world.loop.close()


def beat(world: Api, token: str) -> Answer:
    return world.call("POST", BEAT, bearer=token)


def verified(world: Api) -> int:
    return len(world.keyring._verified)


def test_a_token_in_use_is_looked_at_once(world: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    verify = Keyring._verify

    def look(keyring: Keyring, token: str) -> LeaseClaims:
        looked.append(token)
        return verify(keyring, token)

    monkeypatch.setattr(Keyring, "_verify", look)
    token = world.seat()["token"]
    for _ in range(3):
        assert beat(world, token).status == 200
    assert looked == [token]


def test_it_is_forgotten_with_its_lease(world: Api) -> None:
    """Given back, taken over, revoked or lost: no token stays that does not keep a seat."""
    token = world.seat()["token"]
    assert (beat(world, token).status, verified(world)) == (200, 1)
    assert world.call("DELETE", CURRENT, bearer=token).data["released"]
    assert verified(world) == 0
    token = world.seat()["token"]
    assert (beat(world, token).status, verified(world)) == (200, 1)
    newer = world.seat()["token"]
    assert (beat(world, token).status, verified(world)) == (410, 0)
    assert (beat(world, newer).status, verified(world)) == (200, 1)
    world.clock.advance(seconds=3_600)
    assert (beat(world, newer).status, verified(world)) == (410, 0)


def test_a_goodbye_and_a_release_are_not_kept(world: Api) -> None:
    token = world.seat()["token"]
    assert world.call("POST", BEAT, bearer=token, json={"closing": True}).status == 200
    assert verified(world) == 0
    other = world.seat(client="tab-2")["token"]
    assert world.call("DELETE", CURRENT, bearer=other).status == 200
    assert verified(world) == 0


def test_what_is_like_it_is_refused(world: Api) -> None:
    """A token is known as a whole or not at all."""
    token = world.seat()["token"]
    assert beat(world, token).status == 200
    for forged in (token[:-1], token + "A", token[:-1] + ("A" if token[-1] != "A" else "B")):
        assert beat(world, forged).status == 401
    assert beat(world, token[:4] + token[4:].swapcase()).status == 401
    assert verified(world) == 1


def test_a_suspended_license_ends_what_was_seen_before(world: Api) -> None:
    token = world.seat()["token"]
    assert beat(world, token).status == 200
    change = LicenseChange(status=LicenseStatus.SUSPENDED)
    world.services.licenses.change(world.license_id, change, actor="test")
    assert beat(world, token).code == "license_suspended"


def test_it_is_known_where_it_was_seen_alone(world: Api) -> None:
    """Another server looks for itself, with its own secrets: a rotation needs a start, and forgets all."""
    token = world.seat()["token"]
    assert beat(world, token).status == 200
    world.app.context.services.keyring = Keyring([b"another secret of 32 bytes or so"])
    assert beat(world, token).code == "token_forged"
    assert world.call("POST", SEATS, bearer=token, json={}).code == "token_forged"
