"""What a lease is at an instant, and what a beat does to its times."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.clock import MINUTE, SECOND
from sojourn.lease import Beat, EndReason, Lease, LeaseState, beat_times, seat_key
from sojourn.license import CountBy, Policy

NOW = 1_800_000_000_000
POLICY = Policy(capacity=1)
LEASE = Lease(
    id="lea",
    pool_id="lic_1:editor",
    user_id="ann",
    client_id="tab",
    fence=1,
    acquired_at=NOW,
    last_beat_at=NOW,
    suspect_at=NOW + 60 * SECOND,
    expires_at=NOW + 90 * SECOND,
)

durations = st.integers(50, 1_000_000)
instants = st.integers(NOW - 2_000_000, NOW + 2_000_000)


@pytest.mark.parametrize(
    ("after", "state"),
    [
        (0, LeaseState.ACTIVE),
        (59_999, LeaseState.ACTIVE),
        (60_000, LeaseState.SUSPECT),
        (89_999, LeaseState.SUSPECT),
        (90_000, LeaseState.EXPIRED),
    ],
)
def test_state_follows_the_clock(after: int, state: LeaseState) -> None:
    """Active, suspect and expired begin at their instants; a lease lives until it expires."""
    assert LEASE.state(NOW + after) is state
    assert LEASE.live(NOW + after) is (state is not LeaseState.EXPIRED)


def test_ended_is_ended() -> None:
    """Once ended, a lease holds no seat, whatever its times say."""
    ended = replace(LEASE, ended_at=NOW, end_reason=EndReason.RELEASED)
    assert ended.state(NOW) is LeaseState.ENDED
    assert not ended.live(NOW)


def test_holder_and_key() -> None:
    """The holder is user and client; the seat's key depends on what counts."""
    assert LEASE.holder == ("ann", "tab")
    assert LEASE.seat_key(CountBy.USER) == "ann"
    assert LEASE.seat_key(CountBy.CLIENT) == "tab"
    assert LEASE.seat_key(CountBy.LEASE) == seat_key(CountBy.LEASE, "ann", "tab")


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_keys_differ_as_holders_do(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two holders have the same key where each lease counts only if they are the same."""
    same = seat_key(CountBy.LEASE, *one) == seat_key(CountBy.LEASE, *other)
    assert same == (one == other)


@pytest.mark.parametrize(
    ("changes", "after", "policy", "resumable"),
    [
        ({}, 0, {}, False),  # still live
        ({}, 90 * SECOND, {}, True),
        ({}, 90 * SECOND + 15 * MINUTE, {}, True),
        ({}, 90 * SECOND + 15 * MINUTE + 1, {}, False),
        ({}, 90 * SECOND, {"resume_window": 0}, True),
        ({}, 90 * SECOND + 1, {"resume_window": 0}, False),
        ({}, 90 * SECOND, {"max_lease": 90 * SECOND}, False),
        ({}, 90 * SECOND, {"max_lease": 90 * SECOND + 1}, True),
        ({"ended_at": NOW, "end_reason": EndReason.EXPIRED}, 15 * MINUTE, {}, True),
        ({"ended_at": NOW, "end_reason": EndReason.EXPIRED}, 15 * MINUTE + 1, {}, False),
        ({"ended_at": NOW, "end_reason": EndReason.EVICTED}, 1, {}, True),
        ({"ended_at": NOW, "end_reason": EndReason.RELEASED}, 1, {}, False),
        ({"ended_at": NOW, "end_reason": EndReason.MOVED}, 1, {}, False),
        ({"ended_at": NOW, "end_reason": EndReason.REVOKED}, 1, {}, False),
        ({"ended_at": NOW, "end_reason": EndReason.SESSION_ENDED}, 1, {}, False),
    ],
)
def test_resumable(
    changes: dict[str, Any], after: int, policy: dict[str, int], *, resumable: bool
) -> None:
    """Lost or evicted, within the window and the longest a lease may live: it may be resumed."""
    lease = replace(LEASE, **changes)
    assert lease.resumable(NOW + after, replace(POLICY, **policy)) is resumable


def test_plain_beat() -> None:
    """A beat gives all the time that the policy gives."""
    now = NOW + 30 * SECOND
    assert beat_times(POLICY, LEASE, Beat(), now) == (now + 60 * SECOND, now + 90 * SECOND)


def test_next_in_is_patience_only() -> None:
    """An announced delay puts off suspicion by as much as it is late, to lost_after at most."""
    for next_in, patience in ((None, 60), (0, 60), (30, 60), (31, 61), (60, 90), (9_999, 90)):
        said = Beat(next_in=None if next_in is None else next_in * SECOND)
        suspect_at, expires_at = beat_times(POLICY, LEASE, said, NOW)
        assert (suspect_at, expires_at) == (NOW + patience * SECOND, NOW + 90 * SECOND)


def test_max_lease_caps_the_expiry() -> None:
    """No beat carries a lease past the longest it may live."""
    policy = replace(POLICY, max_lease=100 * SECOND)
    _, expires_at = beat_times(policy, LEASE, Beat(), NOW + 60 * SECOND)
    assert expires_at == NOW + 100 * SECOND


@given(
    st.builds(Beat, next_in=st.none() | durations, idle_for=st.none() | durations),
    instants,
    st.none() | durations,
)
def test_beat_never_shortens(beat: Beat, now: int, max_lease: int | None) -> None:
    """Whatever it says and whenever it comes, a beat that is no goodbye only gives."""
    suspect_at, expires_at = beat_times(replace(POLICY, max_lease=max_lease), LEASE, beat, now)
    assert suspect_at >= LEASE.suspect_at
    assert expires_at >= LEASE.expires_at
    assert expires_at <= max(LEASE.expires_at, now + POLICY.lost_after)


@given(instants, st.integers(0, 90_000))
def test_goodbye_never_lengthens(now: int, linger: int) -> None:
    """A goodbye leaves at most the linger, and makes its lease suspect at once."""
    policy = replace(POLICY, linger=linger)
    suspect_at, expires_at = beat_times(policy, LEASE, Beat(closing=True), now)
    assert expires_at == min(LEASE.expires_at, now + linger)
    assert suspect_at == min(LEASE.suspect_at, now)


@given(instants)
def test_goodbye_is_taken_back(now: int) -> None:
    """A beat after a goodbye leads where it would have led without."""
    closing = Beat(closing=True)
    suspect_at, expires_at = beat_times(POLICY, LEASE, closing, now)
    away = replace(LEASE, suspect_at=suspect_at, expires_at=expires_at)
    later = max(now, NOW) + 1
    assert beat_times(POLICY, away, Beat(), later) == beat_times(POLICY, LEASE, Beat(), later)
