"""`sojourn top`, drawn without a server."""

from __future__ import annotations

import io
from typing import Any

import pytest

from sojourn.cli.output import terminal
from sojourn.cli.top import BAR, Pool, Seen, bar, drawn


def usage(in_use: int, capacity: int, suspect: int = 0) -> dict[str, Any]:
    free = max(0, capacity - in_use)
    return {"inUse": in_use, "capacity": capacity, "suspect": suspect, "free": free}


HOLDER = {
    "leaseId": "lse_1",
    "licenseId": "lic_1",
    "licenseName": "Northwind",
    "feature": "editor",
    "userId": "ken",
    "clientId": "desk",
    "state": "suspect",
    "lastBeatAgo": 71.0,
    "expiresIn": 19.0,
}
EVENT = {
    "id": 7,
    "at": "2026-12-01T10:00:00+00:00",
    "kind": "lease.denied",
    "userId": "grace",
    "feature": "editor",
    "data": {"reason": "seat_limit", "inUse": 2, "limit": 2},
}


def text(seen: Seen, width: int = 100, height: int = 50) -> str:
    file = io.StringIO()
    terminal(file=file, width=width, color_system=None).print(drawn(seen, width, height))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 100, 200])
def test_says_what_is_full_who_is_silent_and_what_happens(width: int) -> None:
    pools = [Pool("lic_1", "Northwind", "editor", usage(2, 2, 1)), Pool("l", "N", "x", usage(0, 8))]
    said = text(Seen(pools, [HOLDER], [EVENT], more=True), width)
    assert "2 of 10 seats in use. 1 pool full. 1 suspect." in " ".join(said.split())
    assert "--limit" in said
    assert "ken" in said
    assert "71" in said
    assert ("grace on editor" in said) is (width > 40)
    assert "grace" in said
    assert all(len(line) <= width for line in said.splitlines())


def test_many_pools_are_counted() -> None:
    pools = [Pool("lic_1", "N", f"f{number}", usage(0, 1)) for number in range(40)]
    said = text(Seen(pools, [], [], more=False), height=30)
    assert "and 34 more pools" in said


def test_nothing_yet() -> None:
    assert text(Seen([], [], [], more=False)).split("\n")[0].strip() == "0 of 0 seats in use."


@pytest.mark.parametrize(
    ("in_use", "capacity", "suspect", "full", "half"),
    [
        (0, 0, 0, 0, 0),
        (1, 1_000, 0, 1, 0),
        (1, 1_000, 1, 0, 1),
        (10, 10, 5, 10, 10),
        (12, 10, 0, 20, 0),
        (5, 10, 0, 10, 0),
    ],
)
def test_a_bar(in_use: int, capacity: int, suspect: int, full: int, half: int) -> None:
    drawn_ = bar(usage(in_use, capacity, suspect))
    assert (drawn_.count("█"), drawn_.count("▒"), len(drawn_)) == (full, half, BAR)
