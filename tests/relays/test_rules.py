"""What each side of the relays' protocol does, one rule at a time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sojourn import allotment
from sojourn.allotment import Authority, Shares
from sojourn.clock import DAY, HOUR, MINUTE, SECOND
from sojourn.relays import share
from sojourn.relays.elapsed import Instant, Witness, go_on
from sojourn.relays.messages import (
    AllotmentGrant,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
)
from sojourn.relays.share import MARGIN, SENT_MAX, Relay, Share

TTL = DAY
POOL = "lic_1:seats"


def authority(capacity: int = 10, own: int = 0) -> Authority:
    return Authority(pools={POOL: Shares(capacity, own=own, ttl=TTL)})


def relay(name: str = "east", life: str = "life-1") -> Relay:
    return Relay(name, life)


def talk(a: Authority, r: Relay, want: int, now: int = 0) -> tuple[Authority, Relay]:
    r, beat = share.speak(r, {POOL: want}, now)
    a, answer = allotment.hear(a, beat, now)
    return a, share.listen(r, answer, now)


def seats(r: Relay) -> int:
    return r.shares[POOL].seats


# The authority


def test_a_relay_gets_what_it_wants() -> None:
    a, r = talk(authority(), relay(), 4)
    assert (seats(r), a.pools[POOL].free) == (4, 6)


def test_and_no_more_than_is_free() -> None:
    a, east = talk(authority(own=3), relay("east"), 5)
    a, west = talk(a, relay("west"), 5)
    assert (seats(east), seats(west), a.pools[POOL].free) == (5, 2, 0)


def test_what_is_given_back_is_free_once_it_was_heard() -> None:
    a, r = talk(authority(), relay(), 6)
    r = replace(r, shares={POOL: share.give_back(r.shares[POOL], 2)})
    assert a.pools[POOL].free == 4
    a, r = talk(a, r, 2)
    assert (a.pools[POOL].free, seats(r)) == (8, 2)


def test_a_lowered_capacity_is_asked_for_and_evicts_nobody() -> None:
    a, r = talk(authority(), relay(), 8)
    r = replace(r, shares={POOL: replace(r.shares[POOL], held=5)})
    a = replace(a, pools={POOL: replace(a.pools[POOL], capacity=3)})
    a, r = talk(a, r, 8)
    assert seats(r) == 5
    a, r = talk(a, r, 8)
    assert (a.pools[POOL].allotted, a.pools[POOL].free) == (5, -2)


def test_who_is_silent_for_the_ttl_has_nothing_left() -> None:
    a, r = talk(authority(), relay(), 8)
    assert allotment.expire(a.pools[POOL], TTL - 1).free == 2
    assert allotment.expire(a.pools[POOL], TTL).free == 10
    assert share.expire(r, TTL - MARGIN).shares[POOL].seats == 0


def test_an_answer_that_was_lost_is_given_again() -> None:
    r, beat = share.speak(relay(), {POOL: 4}, 0)
    a, lost = allotment.hear(authority(), beat, 0)
    a, r = talk(a, r, 4, now=MINUTE)
    assert (seats(r), r.shares[POOL].fence, a.pools[POOL].allotted) == (4, lost.grants[0].fence, 4)


def test_a_license_that_is_not_there_is_given_nothing_of() -> None:
    _, answer = allotment.hear(
        authority(), RelayBeat("east", "life-1", 1, 0, (AllotmentWish("no", want=3),)), 0
    )
    assert answer == RelayAnswer(1, 1)


def test_a_copy_of_a_relay_is_told() -> None:
    """Two processes with one name: the one that came later goes on, the other is refused."""
    a, first = talk(authority(), relay(), 4)
    copy = replace(first, life="life-2", sent={})
    a, copy = talk(a, copy, 4)
    assert not copy.replaced
    first, beat = share.speak(first, {POOL: 4}, 0)
    a, answer = allotment.hear(a, beat, 0)
    assert (answer.refused, answer.grants) == (RelayRefusal.CLONED, ())
    assert share.listen(first, answer, 0).replaced


def test_a_relay_that_has_lost_everything_goes_on_from_its_number() -> None:
    """It is told the number of its latest beat, and gets what it had, under the same fence."""
    a, r = talk(authority(), relay(), 4)
    for _ in range(5):
        a, r = talk(a, r, 4)
    wiped = relay(life="life-2")
    wiped, beat = share.speak(wiped, {POOL: 4}, 0)
    a, answer = allotment.hear(a, beat, 0)
    assert (answer.refused, answer.number) == (RelayRefusal.CLONED, r.number)
    a, wiped = talk(a, replace(wiped, number=answer.number, sent={}), 4)
    assert (wiped.shares[POOL], a.pools[POOL].allotted) == (r.shares[POOL], 4)


# After a restore


def test_nothing_is_given_until_everybody_has_spoken() -> None:
    a, east = talk(authority(), relay("east"), 1)
    a, west = talk(a, relay("west"), 1)
    backup = a
    a, east = talk(a, east, 7)
    a = allotment.restored(backup, 0)
    a, west = talk(a, west, 9)
    a, west = talk(a, west, 9)
    assert seats(west) == 1, "it was given what east has"
    a, east = talk(a, east, 7)
    a, east = talk(a, east, 7)
    a, west = talk(a, west, 9)
    assert (seats(east), seats(west), a.pools[POOL].free) == (7, 3, 0)


def test_or_until_nobody_can_hold_what_is_not_known() -> None:
    a, _ = talk(authority(), relay("east"), 1)
    a = allotment.restored(a, 0)
    for now, given in ((0, 0), (TTL - 1, 0), (TTL, 10)):
        _, west = talk(a, relay("west"), 10, now)
        assert west.shares.get(POOL, Share()).seats == given


def test_a_restore_that_nobody_told_of_is_noticed() -> None:
    """A relay says that it knows a fence which this authority never gave."""
    a, east = talk(authority(), relay("east"), 1)
    backup = a
    a, east = talk(a, east, 6)
    a, east = talk(backup, east, 6)
    assert a.epoch == backup.epoch + 1
    assert a.pools[POOL].allotted == 6
    assert a.unheard == {"east"}
    a, east = talk(a, east, 8)
    assert seats(east) == 8
    assert not a.unheard


# The relay


def test_deadline_is_from_before_the_beat_left() -> None:
    r, beat = share.speak(relay(), {POOL: 4}, 1_000)
    _, answer = allotment.hear(authority(), beat, 500_000)
    r = share.listen(r, answer, 9_000)
    assert r.shares[POOL].deadline == 1_000 + TTL - TTL // share.DRIFT - MARGIN


@pytest.mark.parametrize(
    ("now", "held", "may"),
    [(0, 3, True), (0, 4, False), (HOUR - MINUTE - 1, 0, True), (HOUR - MINUTE, 0, False)],
)
def test_stop_line(now: int, held: int, *, may: bool) -> None:
    assert share.may_grant(Share(4, 1, HOUR, held), now, stop=MINUTE) is may


def test_nobody_is_evicted_by_giving_back() -> None:
    assert share.give_back(Share(8, 1, HOUR, 5), 2) == Share(5, 1, HOUR, 5)
    assert share.give_back(Share(8, 1, HOUR, 1), 2) == Share(2, 1, HOUR, 1)
    assert share.give_back(Share(1, 1, HOUR, 1), 2) == Share(1, 1, HOUR, 1)


def test_answers_that_are_too_old_change_nothing() -> None:
    r = relay()
    beats = []
    for _ in range(SENT_MAX + 1):
        r, beat = share.speak(r, {POOL: 4}, 0)
        beats.append(beat)
    assert len(r.sent) == SENT_MAX
    grants = (AllotmentGrant(POOL, 4, 1, TTL),)
    assert share.listen(r, RelayAnswer(1, beats[0].number, grants), 0) == r
    assert seats(share.listen(r, RelayAnswer(1, beats[1].number, grants), 0)) == 4


def test_an_answer_to_the_life_before_changes_nothing() -> None:
    r, beat = share.speak(relay(), {POOL: 4}, 0)
    _, answer = allotment.hear(authority(), beat, 0)
    r = replace(r, life="life-2", sent={})
    assert share.listen(r, answer, 0) == r


# Time over restarts

NOW = Instant("boot-1", 5 * HOUR, 1_000 * DAY)
SEEN = Witness(NOW, 7 * HOUR, NOW.wall)


@pytest.mark.parametrize(
    ("now", "time", "trusted"),
    [
        (Instant("boot-1", 6 * HOUR, NOW.wall + HOUR), 8 * HOUR, True),
        (Instant("boot-1", 6 * HOUR, NOW.wall - DAY), 8 * HOUR, True),
        (Instant("boot-1", 6 * HOUR, NOW.wall + DAY), 8 * HOUR, True),
        (Instant("boot-2", SECOND, NOW.wall + 2 * HOUR), 9 * HOUR, True),
        (Instant("boot-2", SECOND, NOW.wall), 7 * HOUR, True),
        (Instant("boot-2", SECOND, NOW.wall - 1), 7 * HOUR, False),
        (Instant("boot-1", HOUR, NOW.wall - 1), 7 * HOUR, False),
    ],
    ids=[
        "an hour later",
        "wall clock set back",
        "wall clock set ahead",
        "another boot",
        "another boot at once",
        "another boot, set back",
        "uptime that went back",
    ],
)
def test_time_over_restarts(now: Instant, time: int, *, trusted: bool) -> None:
    witness, believed = go_on(SEEN, now)
    assert (witness.time, believed) == (time, trusted)
    assert witness.latest_wall == max(NOW.wall, now.wall)


def test_a_wall_clock_that_was_ahead_once_is_not_believed_later() -> None:
    """Set ahead and back over two boots: nothing lives longer for it."""
    ahead, _ = go_on(SEEN, Instant("boot-1", 6 * HOUR, NOW.wall + DAY))
    _, believed = go_on(ahead, Instant("boot-2", 0, NOW.wall + 2 * HOUR))
    assert not believed


def test_without_a_witness_nothing_is_believed() -> None:
    assert go_on(None, NOW) == (Witness(NOW, 0, NOW.wall), False)
