"""Bugs planted in how a lowered policy reaches the living: the suite, and the machine, find each."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from tests.unit.testing.planted import outcomes

from sojourn.lease import Lease
from sojourn.license import Pool
from sojourn.stores.memory import MemoryStore
from sojourn.testing.machine import drive

pytest_plugins = ("pytester",)


class KeepsGhosts(MemoryStore):
    """Lets a lease live as the policy said that it was granted under."""

    def _shorten(self, before: Pool, pool: Pool) -> None:
        return


class ForgetsThePace(MemoryStore):
    """Counts the new time from the last beat, though the holder was told to beat later than that."""

    def _shorten(self, before: Pool, pool: Pool) -> None:
        interval = pool.policy.heartbeat_interval
        told = replace(before, policy=replace(before.policy, heartbeat_interval=interval))
        super()._shorten(told, pool)


class EndsBeforeTheChange(MemoryStore):
    """Has a lease expire when it would have under the new policy, though its seat was denied since."""

    def _write(self, lease: Lease) -> None:
        before = self._lease(lease.id)
        if before is not None and lease.expires_at < before.expires_at and lease.ended_at is None:
            lease = replace(lease, expires_at=min(lease.expires_at, lease.last_beat_at))
        super()._write(lease)


class SparesGoodbyes(MemoryStore):
    def _shorten(self, before: Pool, pool: Pool) -> None:
        linger = before.policy.linger
        super()._shorten(before, replace(pool, policy=replace(pool.policy, linger=linger)))


BUGS = {
    KeepsGhosts: "test_lost_after_counts_from_the_last_beat",
    ForgetsThePace: "test_who_beats_as_told_is_not_lost",
    EndsBeforeTheChange: "test_whom_the_new_policy_calls_lost_is_lost_now",
    SparesGoodbyes: "test_linger_counts_for_who_said_goodbye",
}
"""Each bug, and one test that must find it."""

RARE = (ForgetsThePace,) if os.environ.get("SOJOURN_EXAMPLES") else ()
"""What takes the machine a second; `make campaign-machine` gives it that."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_suite_finds(bug: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The test that is there for this bug fails on a store that has it."""
    assert outcomes(pytester, bug, [BUGS[bug]])[1] > 0


@pytest.mark.parametrize("bug", [KeepsGhosts, *RARE], ids=lambda b: b.__name__)
def test_machine_finds(bug: Callable[..., MemoryStore]) -> None:
    """The state machine finds it too, without having been told what to look for."""
    with pytest.raises(AssertionError):
        drive(bug, examples=1_000, shrink=False)
