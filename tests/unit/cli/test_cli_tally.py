"""The demo's own judge: what counts as a ghost, an over-grant, a refusal that should not have been."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sojourn.cli.demo.people import OPENING, WEIGHTS, Chance, Fate
from sojourn.cli.demo.stage import check_plan
from sojourn.cli.demo.tally import IN_FLIGHT, NEVER, Stay, Tally, over_grants
from sojourn.cli.failure import Failure

LOST_AFTER = 3_000


def at(ms: int) -> str:
    return datetime.fromtimestamp(1_800_000_000 + ms / 1000, UTC).isoformat()


NOW = 1_800_000_000_000


def event(ms: int, kind: str, user: str, lease: str = "", **data: Any) -> dict[str, Any]:
    return {
        "kind": f"lease.{kind}",
        "at": at(ms),
        "subject": lease or f"lse_{user}",
        "userId": user,
        "clientId": "c",
        "data": {k: v / 1000 if k.endswith("For") else v for k, v in data.items()},
    }


def denied(ms: int, user: str, *holders: tuple[str, int, int]) -> dict[str, Any]:
    evidence = [
        {"userId": u, "lastBeatAgo": ago / 1000, "expiresIn": left / 1000}
        for u, ago, left in holders
    ]
    return event(ms, "denied", user, reason="seat_limit", holders=evidence)


def tally(*events: dict[str, Any], capacity: int = 1) -> Tally:
    counted = Tally(capacity, LOST_AFTER)
    for one in events:
        counted.add(one)
    return counted


def test_an_expired_lease_ends_when_it_expired_however_late_that_is_noted() -> None:
    """Otherwise the next holder's grant would look like one seat too many."""
    counted = tally(
        event(0, "acquired", "ada"),
        event(5_000, "acquired", "ben"),
        event(9_000, "expired", "ada", heldFor=4_000, silentFor=8_000),
    )
    assert counted.summary().over_grants == 0


def test_a_grant_over_the_capacity_is_seen() -> None:
    counted = tally(
        event(0, "acquired", "ada"),
        event(3_999, "acquired", "ben"),
        event(9_000, "expired", "ada", heldFor=4_000, silentFor=8_000),
    )
    assert counted.summary().over_grants == 1
    assert counted.summary(settled=NOW + 3_000).over_grants == 0  # nothing of that had happened


def test_a_seat_may_change_hands_within_one_instant() -> None:
    stays = [Stay("a", "ada", "c", 0, 5), Stay("b", "ben", "c", 5, 9), Stay("c", "cho", "c", 9)]
    assert over_grants(stays, 1) == 0
    assert over_grants([*stays, Stay("d", "dan", "c", 5, 6)], 1) == 1
    assert over_grants(stays, 0) == 3


def test_taking_over_ones_own_seat_is_no_second_seat() -> None:
    counted = tally(event(0, "acquired", "ada"), event(900, "taken_over", "ada"))
    assert counted.summary().over_grants == 0
    assert counted.summary().acquires == 2


def test_a_resumed_lease_is_a_new_stay() -> None:
    """Its expiry is still counted from when the lease was acquired first."""
    counted = tally(
        event(0, "acquired", "ada"),
        event(3_000, "expired", "ada", heldFor=3_000, silentFor=3_000),
        event(4_000, "acquired", "ben"),
        event(6_000, "released", "ben", heldFor=2_000, silentFor=0),
        event(6_000, "resumed", "ada"),
        event(9_500, "expired", "ada", heldFor=9_000, silentFor=3_500),
        event(9_500, "acquired", "cho"),
    )
    assert counted.summary().over_grants == 0


def test_a_ghost_is_counted_until_its_seat_is_free() -> None:
    counted = tally(event(0, "acquired", "ada"))
    counted.died("ada", "c", NOW + 1_000, LOST_AFTER)
    assert counted.summary().ghosts_reclaimed == 0
    counted.add(event(9_000, "expired", "ada", heldFor=3_600, silentFor=9_000))
    summary = counted.summary()
    assert (summary.ghosts, summary.ghosts_reclaimed) == (1, 1)
    assert summary.longest_ghost_held == 2.6


def test_who_comes_back_in_time_is_no_reclaimed_ghost() -> None:
    counted = tally(event(0, "acquired", "ada"))
    counted.died("ada", "c", NOW + 1_000, LOST_AFTER)
    counted.add(event(1_800, "taken_over", "ada"))
    counted.add(event(60_000, "released", "ada", heldFor=60_000, silentFor=0))
    summary = counted.summary()
    assert (summary.ghosts, summary.ghosts_reclaimed, summary.longest_ghost_held) == (1, 0, 0.8)


def test_who_held_nothing_leaves_no_ghost() -> None:
    counted = tally()
    counted.died("ada", "c", NOW, LOST_AFTER)
    assert counted.summary().ghosts == 0


@pytest.mark.parametrize(
    ("refused_at", "past_time"),
    [(3_000, 0), (4_000 + IN_FLIGHT, 0), (4_001 + IN_FLIGHT, 1), (6_000, 0)],
)
def test_a_refusal_while_a_ghost_overstays(refused_at: int, past_time: int) -> None:
    """By our own knowledge of the death, whatever the store believes of the last beat."""
    counted = tally(
        event(0, "acquired", "ada"),
        denied(refused_at, "ben", ("ada", 100, 2_900)),
        event(9_000, "expired", "ada", heldFor=5_000, silentFor=9_000),
    )
    counted.died("ada", "c", NOW + 1_000, LOST_AFTER)
    assert counted.summary().denials_past_time == past_time


@pytest.mark.parametrize("evidence", [("ada", LOST_AFTER + 1, 5), ("ada", 10, 0)])
def test_a_refusal_by_evidence_that_contradicts_it(evidence: tuple[str, int, int]) -> None:
    assert tally(denied(0, "ben", evidence)).summary().denials_past_time == 1


def test_other_refusals_are_not_about_seats() -> None:
    counted = tally(event(0, "denied", "ada", reason="license_suspended"))
    assert counted.summary().denials == 0


def test_open_stays_have_no_end() -> None:
    assert Stay("a", "ada", "c", 0).end == NEVER


def test_the_same_seed_plays_the_same() -> None:
    """And even a short play begins with every kind of mishap."""
    one, two = Chance(7), Chance(7)
    fates = [one.fate() for _ in range(40)]
    assert fates == [two.fate() for _ in range(40)]
    assert fates[: len(OPENING)] == list(OPENING)
    assert set(fates) == set(WEIGHTS) == set(Fate)
    assert [one.held() for _ in range(5)] == [two.held() for _ in range(5)]
    assert one.away(Fate.LEAVE) >= 4.0
    assert all(Chance(seed).away(Fate.CRASH) >= 4.0 for seed in range(20))  # a ghost, surely


@pytest.mark.parametrize("plan", [(1, 5, 10.0), (8, 0, 10.0), (8, 5, 0.0), (101, 5, 1.0)])
def test_an_impossible_plan_is_refused(plan: tuple[int, int, float]) -> None:
    with pytest.raises(Failure, match="cannot be played"):
        check_plan(*plan)
