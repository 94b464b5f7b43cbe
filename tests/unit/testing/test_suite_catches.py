"""The contract suite can fail: stores with one planted bug each, and the tests that find it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace
from tests.unit.testing.planted import outcomes

from sojourn import seating
from sojourn.clock import DAY
from sojourn.device import Device
from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Lease, Release, Renew, Renewal
from sojourn.license import Pool
from sojourn.session import NewSession, Save, Session, TooMany
from sojourn.store import Action, Outage, Swept
from sojourn.stores.memory import MemoryStore
from sojourn.stores.memory.pool import PoolView
from sojourn.stores.memory.rows import LeaseRows
from sojourn.testing.contract import StoreContract
from sojourn.testing.machine import drive

pytest_plugins = ("pytester",)


def interrupted() -> None:
    """Let the others run now: what a preemptive scheduler may do at any time."""
    time.sleep(0)


class CountsThenInserts(MemoryStore):
    """Decides under the lock, and writes under it later."""

    def _acquire_in(
        self, pool_id: str, requests: list[Acquire], now: int
    ) -> Sequence[Lease | Denied]:
        self._lock.release()
        try:
            answers = self._decide(pool_id, requests, now)
        finally:
            self._lock.acquire()
        return answers

    def _decide(self, pool_id: str, requests: list[Acquire], now: int) -> list[Lease | Denied]:
        view = PoolView(self._pools[pool_id], self._fences[pool_id], self._leases[pool_id], now)
        seats = seating.seat(view, requests)
        interrupted()
        with self._lock:
            self._fences[pool_id] = seats.fence
            for lease in seats.writes:
                self._write(lease)
            self._append(seats.events, now)
        return seats.answers


class BeatRevives(MemoryStore):
    """Looks at `ended_at`, which a lease that has merely expired does not have."""

    def _renew(self, renew: Renew, now: int) -> Renewal | None:
        lease = self._lease(renew.lease_id)
        if lease is not None and lease.ended_at is None and lease.expires_at <= now:
            self._write(replace(lease, expires_at=now + 1))
        return super()._renew(renew, now)


class BeatIsLate(MemoryStore):
    """Judges a beat by the instant at which it set out, though seats were given away meanwhile."""

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        now = self.now()
        interrupted()
        with self._lock:
            return [self._renew(renew, now) for renew in renews]

    def _pool_now(self, pool_id: str, now: int) -> int:
        return now


class BeatShortens(MemoryStore):
    """Sets the expiry instead of moving it forward."""

    def _renew(self, renew: Renew, now: int) -> Renewal | None:
        answer = super()._renew(renew, now)
        lease = self._lease(renew.lease_id)
        if answer is not None and lease is not None and not renew.beat.closing:
            lost_after = self._pools[lease.pool_id].policy.lost_after
            self._write(replace(lease, expires_at=now + lost_after))
        return answer


class BeatIgnoresFence(MemoryStore):
    def _renew(self, renew: Renew, now: int) -> Renewal | None:
        lease = self._lease(renew.lease_id)
        return super()._renew(replace(renew, fence=lease.fence) if lease else renew, now)


class ReleaseIgnoresFence(MemoryStore):
    def _release(self, release: Release, now: int) -> bool:
        lease = self._lease(release.lease_id)
        return super()._release(replace(release, fence=lease.fence) if lease else release, now)


class FencesStartOver(MemoryStore):
    def define(self, pools: Sequence[Pool]) -> None:
        super().define(pools)
        for pool in pools:
            self._fences[pool.id] = 0


class TakeoverDoubles(MemoryStore):
    """Grants a second lease to the same holder, and forgets to end the first."""

    def _acquire_in(
        self, pool_id: str, requests: list[Acquire], now: int
    ) -> Sequence[Lease | Denied]:
        rows = self._leases.get(pool_id, LeaseRows())
        for request in requests:
            old = rows.get((request.user_id, request.client_id))
            if old is not None:
                rows.remove(old.holder)
                other = replace(old, client_id=old.client_id + "'")
                rows.put(other)
                self._places[other.id] = (pool_id, other.holder)
        return super()._acquire_in(pool_id, requests, now)


class EvictsTooEarly(MemoryStore):
    """Takes a suspect's seat without waiting for its linger."""

    class View(PoolView):
        def _past_linger(self, lease: Lease) -> bool:
            return lease.suspect_at <= self.now

    def _view(self, pool: Pool, now: int) -> PoolView:
        return self.View(pool, self._fences[pool.id], self._leases[pool.id], now)


class DeniesWithSuspects(MemoryStore):
    """Denies although a suspect past its linger holds a seat."""

    class View(PoolView):
        def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
            return []

    def _view(self, pool: Pool, now: int) -> PoolView:
        return self.View(pool, self._fences[pool.id], self._leases[pool.id], now)


class EvictsTheWrongOne(MemoryStore):
    """Takes the suspect that was heard last."""

    class View(PoolView):
        def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
            return super().reclaimable(1_000)[::-1][:limit]

    def _view(self, pool: Pool, now: int) -> PoolView:
        return self.View(pool, self._fences[pool.id], self._leases[pool.id], now)


class JoinedSeatIsTaken(MemoryStore):
    """Forgets, within a batch, that a shared seat was just joined."""

    def _acquire_in(
        self, pool_id: str, requests: list[Acquire], now: int
    ) -> Sequence[Lease | Denied]:
        find = seating._Decision._find_seat

        def forgetful(decision: seating._Decision, request: Acquire) -> bool:
            if decision._shares(decision._key(request)):
                return True
            return find(decision, request)

        with mock.patch.object(seating._Decision, "_find_seat", forgetful):
            return super()._acquire_in(pool_id, requests, now)


class DenialUnrecorded(MemoryStore):
    def _append(self, events: Iterable[Event], now: int) -> None:
        super()._append([e for e in events if e.kind is not EventKind.LEASE_DENIED], now)


class DenialUnproven(MemoryStore):
    """Answers without saying who holds the seats."""

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return [
            replace(answer, evidence=()) if isinstance(answer, Denied) else answer
            for answer in super().acquire(requests)
        ]


class PreviewActs(MemoryStore):
    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return self.acquire(requests)


class GraceTwice(MemoryStore):
    """Gives a ghost grace after every outage."""

    def _give_grace(self, now: int) -> Outage:
        for lease in self._all_leases():
            self._write(replace(lease, graced_at=None))
        return super()._give_grace(now)


class GraceGivesTwice(MemoryStore):
    """Gives grace to whoever was live at the last pulse, even if the seat is somebody else's now."""

    def _give_grace(self, now: int) -> Outage:
        with mock.patch.object(self, "_max_pause", 0):
            return super()._give_grace(now)


class AcquireForgetsGrace(MemoryStore):
    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        with mock.patch.object(self, "_max_pause", DAY):
            return super().acquire(requests)


class SweepForgetsGrace(MemoryStore):
    def _note_silent(self, *args: Any) -> int:
        return super()._note_silent(*args)

    def sweep(self, **options: Any) -> Swept:
        with mock.patch.object(self, "_max_pause", DAY):
            return super().sweep(**options)


class TouchRevives(MemoryStore):
    """Touches as an upsert would."""

    def _touch(self, session_id: str, device: Device | None, now: int) -> bool:
        row = self._sessions.get(session_id)
        if row is not None:
            row.ended_at = None
            row.session = replace(row.session, idle_at=now + 1, expires_at=now + 1)
        return super()._touch(session_id, device, now)


class SaveRevives(MemoryStore):
    def _save(self, save: Save, now: int) -> int | None:
        row = self._sessions.get(save.id)
        if row is not None:
            row.ended_at = None
        return super()._save(save, now)


class SaveOverwrites(MemoryStore):
    """Stores the data it was given, as session stores commonly do."""

    def _save(self, save: Save, now: int) -> int | None:
        row = self._sessions.get(save.id)
        others = row.session.data.keys() - save.set.keys() if row else set()
        return super()._save(replace(save, unset=tuple(others)), now)


class SaveRaces(MemoryStore):
    """Reads, changes and writes back, each step atomic."""

    def save(self, saves: Sequence[Save]) -> list[int | None]:
        seen = {save.id: self._sessions[save.id].session for save in saves}
        interrupted()
        with self._lock:
            for save in saves:
                row, old = self._sessions[save.id], seen[save.id]
                row.session = replace(old, data=old.data | save.set, revision=old.revision + 1)
        return [self._sessions[save.id].session.revision for save in saves]


class LimitRaces(MemoryStore):
    """Counts the sessions, and lets others in before it has added one."""

    def _live_of(self, user_id: str, now: int) -> list[Session]:
        live = super()._live_of(user_id, now)
        self._lock.release()
        interrupted()
        self._lock.acquire()
        return live


class LimitCountsImpersonators(MemoryStore):
    def _live_of(self, user_id: str, now: int) -> list[Session]:
        return [replace(x, impersonator=None) for x in super()._live_of(user_id, now)]


class TooManyEndsAnyway(MemoryStore):
    """Ends what was to be replaced before it knows that there is room."""

    def _create(self, new: NewSession, now: int) -> Session | TooMany | None:
        answer = super()._create(new, now)
        if isinstance(answer, TooMany) and new.replaces is not None:
            self._end_sessions([new.replaces], None, (), reason="replaced", actor=None, now=now)
        return answer


class TakesForeignData(MemoryStore):
    """Keeps the data of whatever is replaced."""

    def _create(self, new: NewSession, now: int) -> Session | TooMany | None:
        row = self._live_session(new.replaces, now) if new.replaces else None
        data = {} if row is None else row.session.data
        return super()._create(replace(new, data=data | new.data), now)


class CutoffSparesItsInstant(MemoryStore):
    def _gone(self, row: Any, now: int) -> Any:
        later = replace(row.session, created_at=row.session.created_at + 1)
        return super()._gone(replace(row, session=later), now)


class CutoffIsLost(MemoryStore):
    """Lets a later cutoff move the earlier one back, under a clock that was set back."""

    def cut_off(self, user_id: str | None, **how: Any) -> int:
        self._cuts.pop(user_id, None)
        return super().cut_off(user_id, **how)


class SaveIgnoresCutoff(MemoryStore):
    def _save(self, save: Save, now: int) -> int | None:
        with mock.patch.object(self, "_cuts_of", return_value=()):
            return super()._save(save, now)


class SweepIgnoresCutoff(MemoryStore):
    def _end_behind(self, now: int, limit: int) -> int:
        return 0


class RotationKeepsOldToken(MemoryStore):
    def _rotate(
        self, session_id: str, new_token_hash: bytes, grace: int, level: int | None, now: int
    ) -> Session | None:
        return super()._rotate(session_id, new_token_hash, max(grace, DAY), level, now)


class EndKeepsSeats(MemoryStore):
    def _matching(self, which: Any, now: int) -> list[Lease]:
        return [] if which.session_id is not None else super()._matching(which, now)


class SeatsForTheGone(MemoryStore):
    """Believes whoever names a session."""

    def _in_session(self, session_id: str, now: int) -> bool:
        return True


class DropKeepsLeases(MemoryStore):
    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        kept = {pool: self._leases[pool].copy() for pool in pool_ids if pool in self._leases}
        dropped = super().drop(pool_ids, action)
        self._leases |= kept
        return dropped


class IgnoresCase(MemoryStore):
    """Compares ids as a careless collation does."""

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return super().acquire([replace(r, user_id=r.user_id.rstrip().lower()) for r in requests])


class EventsSkip(MemoryStore):
    """Numbers events as a sequence does that a rolled-back transaction has drawn from."""

    def _append(self, events: Iterable[Event], now: int) -> None:
        super()._append(events, now)
        self._last_event_id += self._last_event_id % 7 == 0


class EventsShowLate(MemoryStore):
    """Shows some events only after later ones: ids in the order of inserts, not of commits."""

    def events(self, **filters: Any) -> list[Event]:
        with self._lock:
            whole = self._events
            self._events = [event for event in whole if event.id % 5 or event.id + 5 < len(whole)]
            try:
                return super().events(**filters)
            finally:
                self._events = whole


class SweepForgetsTombstones(MemoryStore):
    """Removes ended leases at once."""

    def _forget_leases(self, which: Any, until: int, limit: int) -> int:
        return super()._forget_leases(which, until + DAY, limit)


BUGS: dict[type[MemoryStore], str] = {
    CountsThenInserts: "test_crowd_gets_exactly_the_capacity",
    BeatRevives: "test_beat_never_revives",
    BeatIsLate: "test_overtaken_beat",
    BeatShortens: "test_later_beat_never_shortens",
    BeatIgnoresFence: "test_takeover_cuts_the_old_fence_off",
    ReleaseIgnoresFence: "test_release_happens_once",
    FencesStartOver: "test_redefining_keeps_leases_and_fence",
    TakeoverDoubles: "test_same_holder_keeps_its_seat",
    EvictsTooEarly: "test_suspect_is_safe_within_its_linger",
    DeniesWithSuspects: "test_every_suspect_goes_before_a_denial",
    EvictsTheWrongOne: "test_most_silent_suspect_goes_first",
    JoinedSeatIsTaken: "test_joined_seat_is_not_reclaimed_in_the_same_batch",
    DenialUnrecorded: "test_unknown_pool",
    DenialUnproven: "test_denial_names_its_evidence",
    PreviewActs: "test_preview_changes_nothing",
    GraceTwice: "test_ghost_gets_at_most_one_grace",
    GraceGivesTwice: "test_grace_never_gives_a_seat_twice",
    AcquireForgetsGrace: "test_acquire_notices_the_outage",
    SweepForgetsGrace: "test_sweep_notices_the_outage",
    TouchRevives: "test_touch_never_revives",
    SaveRevives: "test_save_never_revives",
    SaveOverwrites: "test_save_merges_top_level_keys",
    SaveRaces: "test_parallel_saves_lose_nothing",
    LimitRaces: "test_nobody_has_more_than_the_limit",
    LimitCountsImpersonators: "test_what_counts",
    TooManyEndsAnyway: "test_too_many",
    TakesForeignData: "test_foreign_data_is_not_taken",
    CutoffSparesItsInstant: "test_to_the_millisecond",
    CutoffIsLost: "test_clock_set_back",
    SaveIgnoresCutoff: "test_no_verb_finds_it",
    SweepIgnoresCutoff: "test_sweep_follows",
    RotationKeepsOldToken: "test_rotate_replaces_the_token",
    EndKeepsSeats: "test_end_releases_the_leases",
    SeatsForTheGone: "test_no_seat_for_a_session_that_is_gone",
    DropKeepsLeases: "test_dropped_pool_may_come_back",
    IgnoresCase: "test_holders_are_byte_exact",
    EventsSkip: "test_ids_have_no_gap",
    EventsShowLate: "test_reader_misses_no_event",
    SweepForgetsTombstones: "test_lease_tombstones_last_a_day",
}
"""Each bug, and one test that must find it."""

UNSEEN_ALONE = {
    CountsThenInserts,
    SaveRaces,
    LimitRaces,
    CutoffIsLost,
    BeatIsLate,
    BeatShortens,
    JoinedSeatIsTaken,
}
"""What the machine cannot, or will hardly, find: races, a clock that is set back, one batch in many."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_suite_finds(bug: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The test that is there for this bug fails on a store that has it."""
    assert outcomes(pytester, bug, [BUGS[bug]])[1] > 0


def test_suite_passes_what_is_right(pytester: pytest.Pytester) -> None:
    """The same tests all pass on the store without a bug, so it is the bugs that they find."""
    passed, failed = outcomes(pytester, MemoryStore, list(BUGS.values()))
    assert (passed >= len(set(BUGS.values())), failed) == (True, 0)


def test_no_test_hides_another() -> None:
    """The parts of the suite are put together by inheritance: no two tests have one name."""
    names = [name for part in StoreContract.__mro__ for name in vars(part) if name[:5] == "test_"]
    assert sorted(names) == sorted(set(names))


RARE = (
    ()
    if os.environ.get("SOJOURN_EXAMPLES")
    else (
        EvictsTheWrongOne,
        EvictsTooEarly,
        SaveIgnoresCutoff,
        EndKeepsSeats,
        BeatRevives,
        SweepForgetsGrace,
        GraceGivesTwice,
        SaveRevives,
        TooManyEndsAnyway,
    )
)
"""What the machine needs up to half a minute for; `make campaign-machine` gives it that."""


@pytest.mark.parametrize(
    "bug", [x for x in BUGS if x not in (*UNSEEN_ALONE, *RARE)], ids=lambda b: b.__name__
)
def test_machine_finds(bug: Callable[..., MemoryStore]) -> None:
    """The state machine finds it too, without having been told what to look for."""
    with pytest.raises(AssertionError):
        drive(bug, examples=1_000, shrink=False)
