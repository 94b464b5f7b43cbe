"""One authority and two relays, as processes on loopback: what goes on while the authority is away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.cli_harness import run, run_json
from tests.serving import ADMIN_KEY, Served, acquire, beat, new_client, served

DEADLINE = 60.0
TICK = threading.Event()
CAPACITY = 6
LONG = {"SOJOURN_MAX_PAUSE": "3600"}  # a machine that stalls is no outage here


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "authority", environ=LONG) as server:
        yield server


def relay_key(authority: Served, name: str, role: str = "relay") -> str:
    with authority.admin() as http:
        answer = http.post("/api/keys", json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["data"]["key"])


@contextlib.contextmanager
def relaying(authority: Served, folder: Path, key: str) -> Iterator[Served]:
    environ = {
        **LONG,
        "SOJOURN_ROLE": "relay",
        "SOJOURN_AUTHORITY": authority.url,
        "SOJOURN_RELAY_KEY": key,
        "SOJOURN_RELAY_INTERVAL": "0.2",
    }
    with served(folder, environ=environ) as server:
        yield server


def region_of(relay: Served) -> dict[str, Any]:
    with relay.admin() as http:
        return dict(http.get("/api/relays").json()["data"]["region"])


def until(met: Any) -> Any:
    """Wait for a condition; return what it was met by."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if found := met():
            return found
        TICK.wait(0.1)
    raise AssertionError("it has not come about in time")


def out(authority: Served) -> int:
    """Count seats that are held at the authority or may be granted by relays."""
    with authority.admin() as http:
        listed = http.get("/api/relays").json()["data"]["items"]
    return sum(pool["seats"] for relay in listed for pool in relay.get("pools", []))


def take(http: httpx.Client, server: Served, key: str, *users: str) -> list[str]:
    """Ask for a seat for each; return the tokens of those who got one."""
    tokens = []
    for user in users:
        answer = acquire(http, server.url, key, "editor", user)
        assert answer.status_code in (201, 409), answer.text
        if answer.status_code == 201:
            tokens.append(answer.json()["data"]["token"])
        else:
            assert answer.json()["code"] == "seat_limit"
    return tokens


def test_regions_go_on_alone(authority: Served, tmp_path: Path) -> None:
    """Two regions grant the seats of one license. While the authority is down they go on within what they
    have, over a kill of their own, and both together never grant more than there are."""
    _, key = authority.license(editor={"capacity": CAPACITY, "lostAfter": 3600})
    with (
        relaying(authority, tmp_path / "east", relay_key(authority, "east")) as east,
        relaying(authority, tmp_path / "west", relay_key(authority, "west")) as west,
        new_client() as http,
    ):
        seated = take(http, east, key, "ann", "bob") + take(http, west, key, "cem")
        assert len(seated) == 3
        until(lambda: out(authority) >= 3)
        authority.kill()
        until(lambda: region_of(east).get("fault") and region_of(west).get("fault"))
        before = [sum(p["seats"] for p in region_of(x)["pools"]) for x in (east, west)]
        assert sum(before) <= CAPACITY
        for server, token in zip((east, east, west), seated, strict=True):
            assert beat(http, server.url, token).status_code == 200
        seated += take(http, east, key, *(f"e{i}" for i in range(CAPACITY)))
        seated += take(http, west, key, *(f"w{i}" for i in range(CAPACITY)))
        assert len(seated) == sum(before)
        east.kill()
        east.start()
        assert take(http, east, key, "late", "later") == []
        assert beat(http, east.url, seated[0]).status_code == 200
        authority.start()
        until(lambda: not region_of(east).get("fault") and not region_of(west).get("fault"))
        tokens = take(http, east, key, *(f"x{i}" for i in range(CAPACITY)))
        tokens += take(http, west, key, *(f"y{i}" for i in range(CAPACITY)))
        assert len(seated) + len(tokens) <= CAPACITY
        assert out(authority) <= CAPACITY
        listed = run_json(tmp_path, "relays", "list", "--url", authority.url, "--key", ADMIN_KEY)
        assert sorted(relay["name"] for relay in listed["items"]) == ["east", "west"]
        told = run(tmp_path, "relays", "list", "--url", east.url, "--key", ADMIN_KEY).stdout
        assert authority.url in told


def test_licenses_belong_to_the_authority(authority: Served, tmp_path: Path) -> None:
    """A relay changes no license, hears of none that is not asked for, and is no authority."""
    _, key = authority.license(editor={"capacity": 1})
    with (
        relaying(authority, tmp_path / "east", relay_key(authority, "east")) as east,
        new_client() as http,
        east.admin() as operator,
    ):
        wrong = acquire(http, east.url, key[:-1] + "0", "editor", "ann")
        assert wrong.status_code == 401
        assert operator.get("/api/licenses").json()["data"]["items"] == []
        assert len(take(http, east, key, "ann")) == 1
        (license_,) = operator.get("/api/licenses").json()["data"]["items"]
        refused = operator.delete(f"/api/licenses/{license_['licenseId']}")
        assert (refused.status_code, refused.json()["code"]) == (403, "license_of_authority")
        asked = operator.post("/api/relays/licenses", json={"protocol": 1})
        assert (asked.status_code, asked.json()["code"]) == (409, "not_authority")


def test_a_key_of_another_role_is_refused(authority: Served, tmp_path: Path) -> None:
    """With a key that is no relay's a server starts, says so, and grants nothing."""
    _, key = authority.license(editor={"capacity": 1})
    wrong = relay_key(authority, "east", role="viewer")
    with relaying(authority, tmp_path / "east", wrong) as east, new_client() as http:
        assert region_of(east)["refused"] == "forbidden"
        answer = acquire(http, east.url, key, "editor", "ann")
        assert (answer.status_code, answer.json()["code"]) == (503, "authority_unreachable")


def test_cleanups_reach_relays(authority: Served, tmp_path: Path) -> None:
    """Whoever frees a seat at the authority frees it at the relay, too; at the relay it is its own."""
    license_id, key = authority.license(editor={"capacity": CAPACITY, "lostAfter": 3600})
    at = ("--url", authority.url, "--key", ADMIN_KEY)
    with (
        relaying(authority, tmp_path / "east", relay_key(authority, "east")) as east,
        new_client() as http,
    ):
        ann, bob = take(http, east, key, "ann", "bob")
        until(lambda: out(authority) >= 2)
        asked = ("seats", "release", "--user", "ann", "--feature", "editor")
        released = run_json(tmp_path, *asked, *at)
        assert released["ended"] == 0
        assert [(x["name"], x["state"]) for x in released["relays"]] in (
            [("east", "pending")],
            [("east", "done")],
        )

        def done() -> Any:
            found = run_json(tmp_path, "relays", "commands", *at)
            return found if all(x["state"] == "done" for x in found) else None

        (command,) = until(done)
        assert (command["ended"], command["remaining"]) == (1, 0)
        assert [x["userId"] for x in command["leases"]] == ["ann"]
        assert beat(http, east.url, ann).status_code == 410
        assert beat(http, east.url, bob).status_code == 200
        told = run(tmp_path, "relays", "commands", *at).stdout
        assert "force cleanup" in told
        assert "0 of them pending" in told

        def seen() -> Any:
            found = run_json(
                tmp_path, "seats", "debug", "--user", "bob", "--feature", "editor", *at
            )
            (relay,) = found["relays"]
            return relay if relay["state"] == "done" else None

        assert [x["userId"] for x in until(seen)["leases"]] == ["bob"]
        until(lambda: with_relay(tmp_path, license_id, at).get("held") == 1)
        until(lambda: sum(x["granted"] for x in run_json(tmp_path, "relays", "usage", *at)) == 2)
        assert "granted 2 seats" in run(tmp_path, "relays", "usage", *at).stdout
        here = ("--url", east.url, "--key", ADMIN_KEY)
        own = run_json(tmp_path, "seats", "release", "--user", "bob", "--feature", "editor", *here)
        assert own["ended"] == 1
        assert "relays" not in own
        assert beat(http, east.url, bob).status_code == 410


def with_relay(folder: Path, license_id: str, at: tuple[str, ...]) -> dict[str, Any]:
    """Return what statistics say of the one relay; nothing: it has no seats."""
    found = run_json(folder, "seats", "stats", license_id, *at)
    (feature,) = found["features"]
    (relay,) = feature.get("relays") or [{}]
    return dict(relay)


def test_seats_are_moved_and_a_relay_is_drained(authority: Served, tmp_path: Path) -> None:
    """By hand, from the command line: nobody who sits there loses a seat."""
    license_id, key = authority.license(editor={"capacity": CAPACITY, "lostAfter": 3600})
    at = ("--url", authority.url, "--key", ADMIN_KEY)
    with (
        relaying(authority, tmp_path / "east", relay_key(authority, "east")) as east,
        new_client() as http,
    ):
        (ann,) = take(http, east, key, "ann")
        relay = until(lambda: with_relay(tmp_path, license_id, at).get("relayId"))
        move = ("relays", "move", license_id, "editor", "3", "--to", relay, "--for", "3600")
        least = run_json(tmp_path, *move, *at)["toHas"]
        until(lambda: with_relay(tmp_path, license_id, at)["seats"] == min(least, CAPACITY))
        (listed,) = run_json(tmp_path, "relays", "list", *at)["items"]
        assert listed["pools"][0]["least"] == least
        back = ("relays", "move", license_id, "editor", "1", "--from", relay)
        assert "free" in run(tmp_path, *back, *at).stdout
        assert "gets no more seats" in run(tmp_path, "relays", "drain", relay, *at).stdout
        undone = run(tmp_path, "relays", "drain", relay, "--undo", *at).stdout
        assert "gets seats again" in undone
        run(tmp_path, "relays", "drain", relay, *at)
        assert "draining" in run(tmp_path, "relays", "list", *at).stdout
        assert beat(http, east.url, ann).status_code == 200
        wrong = run(tmp_path, "relays", "drain", "nobody", *at, code=4)
        assert "no such relay" in wrong.stderr
