"""What a refused client reads: how many seats are in use, and for whom the others are kept."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.lease import DenialReason, Denied
from sojourn.wire.denials import denial_problem


def denied(**fields: Any) -> Denied:
    return Denied(reason=DenialReason.SEAT_LIMIT, at=0, **{"limit": 6, "in_use": 6} | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "All 6 seats are in use."),
        ({"limit": 1, "in_use": 1}, "The one seat is in use."),
        (
            {"limit": 1, "in_use": 2, "overdraft": 1},
            "All 1 seats, and 1 above the limit, are in use.",
        ),
        (
            {"in_use": 4, "reserved_free": 2},
            "2 of 6 seats are reserved for others, and the rest are",
        ),
        (
            {"in_use": 5, "waiting": 3},
            "5 of 6 seats are in use, and the rest are kept for those who wait",
        ),
        (
            {"in_use": 2},
            "2 of 6 seats are in use, and the rest are kept for those who may come back",
        ),
        (
            {"in_use": 4, "allotted": 2},
            "4 of 6 seats are in use here, and 2 are with regional servers.",
        ),
        (
            {"in_use": 1, "allotted": 5},
            "1 of 6 seats is in use here, and 5 are with regional servers.",
        ),
        (
            {"in_use": 5, "allotted": 1},
            "5 of 6 seats are in use here, and 1 is with a regional server.",
        ),
        (
            {"in_use": 0, "allotted": 6},
            "Of 6 seats 6 are with regional servers, and none is free here.",
        ),
        (
            {"limit": 1, "in_use": 0, "allotted": 1},
            "Of 1 seat 1 is with a regional server, and none is free here.",
        ),
        ({"limit": 0, "in_use": 0}, "There is no seat at present."),
    ],
)
def test_the_seats_are_told_as_they_are(fields: dict[str, int], words: str) -> None:
    """A denial never says that all seats are in use while it says itself that some are not."""
    details = denial_problem(denied(**fields), show_holders=False).details
    assert details is not None
    assert details.startswith(words)
    assert "Try again in " in details


@pytest.mark.parametrize("fields", [{"allotted": 6}, {"limit": 0}])
def test_where_nobody_is_silent_it_is_said_when_to_ask_again(fields: dict[str, int]) -> None:
    """All seats are with relays: no silence frees one here, and nobody is told to ask at once."""
    document = denial_problem(denied(in_use=0, **fields), show_holders=False)
    assert document.retry_after == 15
    assert "Try again in 15 s" in document.details
