"""The whole tour on the command line: licenses, holders, a ghost, and the operators who look after them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cli_harness import (
    Program,
    assert_three_lines,
    holder,
    make_license,
    run,
    run_json,
    serving,
)

LOST_AFTER = 3.0  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose server runs; commands in it need to be told nothing."""
    folder = tmp_path_factory.mktemp("tour")
    with serving(folder) as (server, _):
        yield folder
        assert server.end() == 0


def test_a_ghosts_seat_goes_to_the_next_in_line(folder: Path) -> None:
    """Two hold, the third is denied and told who holds; one is killed, and the third gets the seat."""
    _, key = make_license(folder, f"editor=2,lost_after={LOST_AFTER}")
    with holder(folder, key, "ada") as ada, holder(folder, key, "ben") as ben:
        assert ada.wait_state("safe")["reason"] == "granted"
        ben.wait_state("safe")
        env = {"SOJOURN_LICENSE_KEY": key}
        denied = run(folder, "hold", "editor", "--user", "cho", code=3, env=env)
        assert "Maximum user limit reached: 2 of 2 seats on editor in use." in denied.stderr
        assert {"ada", "ben"} <= set(denied.stderr.split())
        with holder(folder, key, "cho", "--wait", "30") as cho:
            assert cho.wait_state("waiting")["inUse"] == 2
            ben.end(signal.SIGKILL)
            assert cho.wait_state("safe")["fence"] > 0  # it was told when to ask again
            assert cho.end(signal.SIGTERM) == 0
            assert json.loads(cho.lines[-1])["state"] == "released"
        assert ada.end(signal.SIGINT) == 0
    users = {x["userId"]: x["endReason"] for x in run_json(folder, "seats", "list", "--ended")}
    assert users["ada"] == users["cho"] == "released"


def test_a_seat_that_is_taken_back_ends_its_holder(folder: Path) -> None:
    """It does not come back by itself: somebody meant it."""
    _, key = make_license(folder, "editor=1,heartbeat_interval=200ms,lost_after=2")
    with holder(folder, key, "dora") as dora:
        lease = dora.wait_state("safe")["leaseId"]
        freed = run(folder, "seats", "release", lease)
        assert "dora" in freed.stdout
        assert dora.wait_state("lost")["reason"] == "revoked"
        assert dora.wait() == 3
        assert_three_lines(dora.stderr)
    assert run_json(folder, "seats", "list", "--user", "dora") == []


def test_operators_see_and_free_seats(folder: Path) -> None:
    """Every command about seats, in words and as JSON."""
    license_id, key = make_license(folder, "editor=1,lost_after=30")
    with holder(folder, key, "eve") as eve:
        eve.wait_state("safe")
        run(folder, "hold", "editor", "-u", "fay", code=3, env={"SOJOURN_LICENSE_KEY": key})
        waiting = run(folder, "seats", "waiting", license_id, "editor")
        assert "0 clients in the line. 1 other refused lately." in waiting.stdout
        assert "fay" in waiting.stdout
        assert [
            x["userId"]
            for x in run_json(folder, "seats", "waiting", license_id, "editor")["refused"]
        ] == ["fay"]
        listed = run(folder, "seats", "list", "--license", license_id)
        assert "1 seat held." in listed.stdout
        assert "eve" in listed.stdout
        stats = run_json(folder, "seats", "stats", license_id)
        assert stats["features"][0]["usage"]["inUse"] == 1
        assert "1 of 1 seats in use on Acme." in run(folder, "seats", "stats", license_id).stdout
        debug = run_json(folder, "seats", "debug", "--user", "fay", "--feature", "editor")
        assert debug["pools"][0]["wouldGrant"] is False
        assert "Refused lately" in run(folder, "seats", "debug", "-u", "fay", "-f", "editor").stdout
        assert run_json(folder, "seats", "cleanup", license_id)["ended"] == 0  # she beats
        by_user = run_json(folder, "seats", "release", "--user", "eve", "--feature", "editor")
        assert by_user["ended"] == 1
        assert eve.end() in (0, 3)
    denied = run_json(folder, "events", "--kind", "lease.denied", "--user", "fay")
    assert denied[-1]["data"]["holders"][0]["userId"] == "eve"
    told = run(folder, "events", "--limit", "200").stdout
    assert "fay on editor: 1 of 1 in use; most silent: eve" in told
    assert "revoked" in told
    assert run_json(folder, "sweep", "run")["leasesExpired"] >= 0
    assert run_json(folder, "sweep", "list", "-n", "1")[0]["actor"].startswith("key:")
    assert "Started" in run(folder, "sweep", "list").stdout


def test_operators_manage_licenses_and_features(folder: Path) -> None:
    """From making one to deleting it; what is left out of a change stays."""
    license_id, key = make_license(folder, "editor=2,lost_after=3", "viz=10,count_by=user")
    shown = run(folder, "license", "show", license_id).stdout
    assert license_id in shown
    assert key not in shown
    run(folder, "license", "suspend", license_id)
    env = {"SOJOURN_LICENSE_KEY": key}
    assert "suspended" in run(folder, "hold", "editor", "-u", "gil", code=5, env=env).stderr
    assert run_json(folder, "license", "resume", license_id)["status"] == "active"
    raised = run_json(folder, "feature", "set", license_id, "editor", "--capacity", "4")
    assert (raised["capacity"], raised["lostAfter"]) == (4, 3.0)
    assert run_json(folder, "feature", "set", license_id, "cad", "-c", "1")["lostAfter"] == 90.0
    run(folder, "feature", "set", license_id, "new", code=2)  # how many?
    told = run(folder, "feature", "set", license_id, "viz", "--when-full", "deny").stdout
    assert "Changed feature viz of license Acme." in told
    assert "deny" in told
    run(folder, "feature", "remove", license_id, "cad", code=2)  # nobody to ask
    run(folder, "feature", "remove", license_id, "cad", "--yes")
    told = run(folder, "license", "rotate-key", license_id, "--yes").stdout
    assert "sjk_" in told
    assert key not in told
    run(folder, "hold", "editor", "-u", "gil", code=5, env=env)
    assert license_id in run(folder, "license", "list").stdout
    origins = ("https://app.example", "https://*.shop.example")
    named = [part for each in origins for part in ("--origin", each)]
    assert run_json(folder, "license", "set", license_id, *named)["allowedOrigins"] == [*origins]
    told = run(folder, "license", "set", license_id, "--name", "Acme Ltd").stdout
    assert all(each in told for each in ("Acme Ltd", *origins))
    run(folder, "license", "set", license_id, code=2)  # what?
    assert "no origin" in run(folder, "license", "set", license_id, "--origin", "x", code=2).stderr
    assert "allowedOrigins" not in run_json(folder, "license", "set", license_id, "--no-origins")
    ttl = ("license", "set", license_id, "--allotment-ttl")
    assert run_json(folder, *ttl, "30d")["allotmentTtl"] == 2_592_000
    assert "allotments" in run(folder, "license", "show", license_id).stdout
    assert "no duration" in run(folder, *ttl, "long", code=2).stderr
    assert "allotmentTtl" not in run_json(folder, *ttl, "default")
    made = run_json(folder, "license", "create", "Pages", "--origin", origins[0])
    assert made["allowedOrigins"] == [origins[0]]
    assert run_json(folder, "license", "delete", license_id, "--yes")["deleted"] is True
    run(folder, "license", "show", license_id, code=4)


def test_operators_reserve_seats_and_allow_an_overdraft(folder: Path) -> None:
    """Both are set, seen and taken back; what a change does not name stays."""
    license_id, key = make_license(folder, "editor=2")
    change = ("feature", "set", license_id, "editor")
    told = run(
        folder, *change, "--overdraft", "1", "--reserve", "support=1:user=sue,kind=desktop"
    ).stdout
    assert "editor: 1 seat above the capacity may be granted." in told
    assert "editor: 1 reserved as support for user sue, kind desktop." in told
    kept = run_json(folder, *change, "--capacity", "1")
    assert (kept["capacity"], kept["overdraft"]) == (1, 1)
    assert kept["reservations"] == [
        {"name": "support", "seats": 1, "users": ["sue"], "kinds": ["desktop"]}
    ]
    with holder(folder, key, "ann") as ann:
        ann.wait_state("safe")
        assert "active, overdraft" in run(folder, "seats", "list", "--license", license_id).stdout
        stats = run(folder, "seats", "stats", license_id).stdout
        assert "editor: 1 seat above the capacity, held or reserved, of 1 that may be." in stats
        assert "editor: 1 seat reserved for support, 0 in use by them." in stats
    assert run_json(folder, *change, "--reserve", "none")["reservations"] == []
    wrong = run(folder, *change, "--reserve", "support", code=2).stderr
    assert "--reserve was not understood" in wrong
    assert "support=2:user=ann" in wrong


def test_keys_and_their_roles(folder: Path) -> None:
    """A viewer reads and changes nothing; a revoked key does neither."""
    assert "sja_" in run(folder, "key", "create", "robot", "--role", "app").stdout
    made = run_json(folder, "key", "create", "dashboard", "--role", "viewer")
    env = {"SOJOURN_KEY": made["key"]}
    run(folder, "license", "list", env=env)
    forbidden = run(folder, "license", "create", "Nope", code=5, env=env)
    assert "viewer" in forbidden.stderr
    assert "dashboard" in run(folder, "key", "list").stdout
    assert "dashboard" in run(folder, "key", "revoke", made["keyId"], "--yes").stdout
    refused = run(folder, "license", "list", code=5, env=env)
    assert "SOJOURN_KEY" in refused.stderr
    assert made["key"] not in refused.stderr
    run(folder, "key", "revoke", "key_unknown", "--yes", code=4)


def test_each_seat_names_its_license_and_only_what_is_meant_is_freed(folder: Path) -> None:
    """Two customers have the same feature, and a user of the same name."""
    feature = "editor=1,heartbeat_interval=200ms,lost_after=30"  # so that who is freed soon knows
    (one, key), (other, other_key) = (make_license(folder, feature) for _ in range(2))
    with holder(folder, key, "kim") as kim, holder(folder, other_key, "kim") as namesake:
        kim.wait_state("safe")
        namesake.wait_state("safe")
        columns = run(folder, "seats", "list", "--user", "kim").stdout
        assert columns.count("Acme") == 2
        freed = run_json(folder, "seats", "release", "-u", "kim", "-f", "editor", "-l", other)
        assert [x["licenseId"] for x in freed["leases"]] == [other]
        assert namesake.wait() == 3
        assert {x["licenseId"] for x in run_json(folder, "seats", "list", "-u", "kim")} == {one}
        assert kim.end() == 0
    assert "There are: " in run(folder, "seats", "debug", "-u", "kim", "-f", "editr", code=4).stderr


def test_a_seat_that_could_not_be_given_back_is_not_said_to_be(tmp_path: Path) -> None:
    """Its server has died. Whoever waits for the seat is told for how long."""
    with serving(tmp_path) as (server, _):
        _, key = make_license(tmp_path, "editor=1,lost_after=30")
        with holder(tmp_path, key, "lee") as lee:
            lee.wait_state("safe")
            server.end(signal.SIGKILL)
            assert lee.end() == 6
            last = json.loads(lee.lines[-1])
            assert (last["state"], last["givenBack"]) == ("released", False)
            assert_three_lines(lee.stderr)
            assert "not given back" in lee.stderr


def test_events_can_be_followed(folder: Path) -> None:
    """One line each, as they happen; Ctrl-C ends it."""
    _, key = make_license(folder, "editor=1,lost_after=30")
    with Program(folder, "events", "--follow", "--json", "--user", "hal") as events:
        with holder(folder, key, "hal") as hal:
            hal.wait_state("safe")
            events.wait_for('"kind":"lease.acquired"')
            assert hal.end() == 0
        events.wait_for('"kind":"lease.released"')
        assert events.end(signal.SIGINT) == 130


def test_a_server_that_is_away(folder: Path, tmp_path: Path) -> None:
    """Three lines, and an exit code that says: try again."""
    with serving(tmp_path) as (server, url):
        assert server.end() == 0
    away = run(tmp_path, "license", "list", code=6)
    assert f"No server answers at {url}." in away.stderr
    assert "sojourn serve" in away.stderr
    key = "sjk_" + "0" * 49
    run(tmp_path, "hold", "editor", "-u", "ida", "--license-key", key, code=2)  # garbled
    _, good = make_license(folder, "editor=1")
    env = {"SOJOURN_LICENSE_KEY": good, "SOJOURN_URL": url}
    run(tmp_path, "hold", "editor", "-u", "ida", code=6, env=env)
