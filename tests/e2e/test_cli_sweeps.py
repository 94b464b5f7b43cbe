"""Sweeps on the command line: by hand, by plan, and by one of two servers."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.e2e.cli_harness import (
    DEADLINE,
    holder,
    make_license,
    run,
    run_json,
    serving,
)

from sojourn.stores import open as stores

T = TypeVar("T")

ADMIN = "an admin key set by hand, for two servers"
SECRET = "what both of these servers sign their tokens with"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose server runs; commands in it need to be told nothing."""
    folder = tmp_path_factory.mktemp("sweeps")
    with serving(folder, "--plan-interval", "0.1") as (server, _):
        yield folder
        assert server.end() == 0


def until(what: Callable[[], T | None]) -> T:
    """Ask again and again, for at most DEADLINE, until there is something."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if found := what():
            return found
    raise AssertionError("it did not come about in time")


def held(folder: Path, key: str, user: str) -> None:
    """Seat somebody whose process is killed, and who is silent from then on."""
    with holder(folder, key, user) as program:
        program.wait_state("safe")
        program.end(signal.SIGKILL)


def test_a_ghost_is_looked_at_and_swept_by_hand(folder: Path) -> None:
    """Short of its lease's end, as suspects are; nobody else is touched."""
    feature = "editor=3,heartbeat_interval=500ms,suspect_after=6,lost_after=120"
    license_id, key = make_license(folder, feature)
    held(folder, key, "ghost")
    with holder(folder, key, "ada") as ada:
        ada.wait_state("safe")
        scope = ("--license", license_id, "-f", "editor")
        dry = ("sweep", *scope, "--dry-run")
        until(lambda: run_json(folder, *dry)["leasesEnded"])
        table = run(folder, *dry).stdout
        assert "Would end 1 of 2 leases. Nothing was changed." in table
        assert "ghost" in table
        assert "suspect for" in table
        assert "ada" not in table
        assert "Ended 1 lease of 2 live leases" in run(folder, "sweep", *scope).stdout
        (left,) = run_json(folder, "seats", "list", "--license", license_id)
        assert left["userId"] == "ada"
        assert "Ended 0 leases" in run(folder, "sweep", "run", "-u", "ada").stdout
        run(folder, "sweep", "-u", "ada", "--living", code=2)  # nobody there to confirm it
        assert run_json(folder, "sweep", "-u", "ada", "--living", "--yes")["leasesEnded"] == 1
        assert ada.wait_state("lost")["reason"] == "revoked"
    runs = run_json(folder, "sweeps", "history")
    assert [x["ended"] for x in runs[:3]] == [1, 0, 1]
    assert "(by hand)" in run(folder, "sweeps", "history").stdout


def test_a_plan_s_life(folder: Path) -> None:
    """Made, run, paused, resumed and removed while the server goes on."""
    feature = "editor=3,heartbeat_interval=500ms,suspect_after=6,lost_after=120"
    license_id, key = make_license(folder, feature)
    held(folder, key, "ghost")
    assert "There are no plans." in run(folder, "sweeps", "list").stdout
    told = run(folder, "sweeps", "add", "often", "--license", license_id, "--every", "1s").stdout
    assert "It runs first at" in told

    def ran() -> list[dict[str, Any]]:
        runs = run_json(folder, "sweeps", "history", "--plan", "often")
        return [x for x in runs if x["ended"] and x["state"] != "running"]

    (one,) = until(ran)
    assert (one["state"], one["ended"], one["scope"]) == ("done", 1, {"licenseId": license_id})
    assert run_json(folder, "seats", "list", "--license", license_id) == []
    assert "paused" in run(folder, "sweeps", "pause", "often").stdout
    assert "paused" in run(folder, "sweeps", "list").stdout
    assert "runs next at" in run(folder, "sweeps", "resume", "often").stdout
    (plan,) = run_json(folder, "sweeps", "list")
    assert (plan["name"], plan["schedule"]) == ("often", {"every": 1.0})
    run(folder, "sweeps", "remove", "often", code=2)
    assert "Removed the plan often." in run(folder, "sweeps", "remove", "often", "-y").stdout
    assert run_json(folder, "sweeps", "list") == []
    assert "done" in run(folder, "sweeps", "history", "--plan", plan["planId"]).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "x", "-f", "editor", "--cron", "0 0 31 2 *"), "bad day-of-month"),
        (("add", "x", "-f", "editor", "--window", "02:00-02:00"), "is empty"),
        (("add", "x", "-f", "editor", "--quietest", "--zone", "Mars/X"), "no time zone 'Mars/X'"),
        (("add", "x", "-f", "editor", "--every", "soon"), "--every was not understood"),
        (("add", "x", "--every", "1h"), "restricts nothing"),
    ],
)
def test_what_cannot_be_is_said_with_an_example(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    make_license(folder, "editor=1")
    assert says in run(folder, "sweeps", *arguments, code=2).stderr


@pytest.mark.parametrize("arguments", [("pause", "none"), ("history", "--plan", "none")])
def test_an_unknown_plan_is_told(folder: Path, arguments: tuple[str, ...]) -> None:
    assert "There is no plan 'none'." in run(folder, "sweeps", *arguments, code=4).stderr


def test_living_without_a_scope_is_refused(folder: Path) -> None:
    assert "every lease there is" in run(folder, "sweep", "--living", "--yes", code=2).stderr


def test_two_servers_run_a_plan_once_each_time(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And when one is killed the other goes on: no time is run twice, and the plan does not stop."""
    stores.migrate(postgres_url)
    env = {"SOJOURN_SECRET": SECRET, "SOJOURN_ADMIN_KEY": ADMIN, "SOJOURN_STORE": postgres_url}
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    arguments = ("--plan-interval", "0.1")
    with (
        serving(folders[0], *arguments, env=env) as (first, address),
        serving(folders[1], *arguments, env=env) as (second, other),
    ):
        here = {"SOJOURN_URL": address, "SOJOURN_KEY": ADMIN}
        there = {"SOJOURN_URL": other, "SOJOURN_KEY": ADMIN}
        made = run(
            folders[0],
            *("license", "create", "Acme", "--feature", "editor=5", "--json"),
            env=here,
        )
        license_id = json.loads(made.stdout)["licenseId"]
        run(
            folders[0],
            *("sweeps", "add", "often", "--license", license_id, "--every", "1s"),
            env=here,
        )

        def runs(more_than: int) -> list[dict[str, Any]] | None:
            found = json.loads(
                run(folders[1], "sweeps", "history", "-n", "100", "--json", env=there).stdout
            )
            return found if len(found) > more_than else None

        before = until(lambda: runs(3))
        first.end(signal.SIGKILL)
        after = until(lambda: runs(len(before) + 3))
        assert set(Counter(x["dueAt"] for x in after).values()) == {1}
        assert {x["state"] for x in after} <= {"done", "running"}
        listed = run(folders[1], "seats", "list", "--ended", "--json", env=there)
        assert json.loads(listed.stdout) == [], "the seat of our own is in no list"
        assert second.end() == 0
