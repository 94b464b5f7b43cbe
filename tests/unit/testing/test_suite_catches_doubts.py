"""The contract suite can fail: stores with one planted bug each about doubt, and the tests that find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace
from tests.unit.testing.planted import outcomes

from sojourn.lease import Acquire, Denied, Doubt, Lease
from sojourn.stores.memory import MemoryStore
from sojourn.testing.machine import drive

pytest_plugins = ("pytester",)


class DoubtEnds(MemoryStore):
    """Takes time from whoever is doubted, as a goodbye does."""

    def _doubt(self, doubt: Doubt, now: int, *, at_once: bool) -> bool:
        counted = super()._doubt(doubt, now, at_once=at_once)
        lease = self._lease(doubt.lease_id)
        if counted and lease is not None:
            self._write(replace(lease, expires_at=min(lease.expires_at, now + 10_000)))
        return counted


class DoubtIgnoresBeats(MemoryStore):
    """Doubts who has beaten by another way while its socket was silent."""

    def _doubt(self, doubt: Doubt, now: int, *, at_once: bool) -> bool:
        return super()._doubt(replace(doubt, silent_for=0), now, at_once=at_once)


class TentativeIsKept(MemoryStore):
    """Keeps a refusal that was not final, and tells it to the request when it is decided once more."""

    def _acquire(self, requests: Sequence[Acquire], now: int) -> list[Lease | Denied]:
        answers = super()._acquire([replace(each, tentative=False) for each in requests], now)
        return [
            replace(answer, tentative=asked.tentative) if isinstance(answer, Denied) else answer
            for asked, answer in zip(requests, answers, strict=True)
        ]


class AllIsSuspects(MemoryStore):
    """Refuses for good while nobody seems to be gone, though all holders can be asked."""

    def _acquire(self, requests: Sequence[Acquire], now: int) -> list[Lease | Denied]:
        return super()._acquire([replace(each, ask_all=False) for each in requests], now)


BUGS: dict[type[MemoryStore], str] = {
    DoubtEnds: "test_doubt_makes_suspect_and_keeps_the_expiry",
    DoubtIgnoresBeats: "test_doubt_spares_who_has_beaten_since",
    TentativeIsKept: "test_tentative_refusal_is_not_recorded",
    AllIsSuspects: "test_all_can_be_asked",
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_suite_finds(bug: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The test that is there for this bug fails on a store that has it."""
    assert outcomes(pytester, bug, [BUGS[bug]])[1] > 0


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_machine_finds(bug: Callable[..., MemoryStore]) -> None:
    """The state machine finds it too, without having been told what to look for."""
    with pytest.raises(AssertionError):
        drive(bug, examples=1_000, shrink=False)
