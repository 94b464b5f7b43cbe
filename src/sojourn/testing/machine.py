"""Drives a store and the reference model side by side, over all verbs, in any order.

    TestMineAgainstMemory = machine_for(lambda clock: MyStore(clock=clock))

or, where making a store needs a fixture, `drive(...)` within a test.

Both stand on one `ManualClock`, so every answer, every event and every row must be equal. Beside them
an oracle, which knows nothing of how stores decide, counts who holds a seat: see `oracle`.
"""

from __future__ import annotations

import unittest
from typing import Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec import json
from msgspec.structs import replace

from sojourn.clock import DAY, MINUTE, SECOND, ManualClock
from sojourn.event import Event, EventKind
from sojourn.lease import (
    Acquire,
    Beat,
    DenialReason,
    Denied,
    Doubt,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Resume,
)
from sojourn.license import CountBy, Policy, Pool
from sojourn.line import WAITING_FOR
from sojourn.seating import refusal
from sojourn.store import Action, Store
from sojourn.stores.memory import MAX_PAUSE
from sojourn.testing.allotment_rules import AllotmentRules
from sojourn.testing.builders import OPERATOR
from sojourn.testing.line_oracle import LineOracle
from sojourn.testing.line_rules import (
    CLIENTS,
    FEATURES,
    HOLDERS,
    PLAIN,
    POOLS,
    PRIORITY,
)
from sojourn.testing.oracle import Oracle
from sojourn.testing.pools import as_proved, check_standing, pools
from sojourn.testing.session_rules import (
    KNOWN_MAX,
    USERS,
    MakeStore,
    indexes,
)

LEAPS = (
    1,
    SECOND,
    5 * SECOND,
    MAX_PAUSE - 1,
    MAX_PAUSE,
    MAX_PAUSE + 1,
    WAITING_FOR,
    30 * SECOND,
    60 * SECOND,
    70 * SECOND,
    90 * SECOND,
    10 * MINUTE,
    15 * MINUTE,
    DAY,
    2 * DAY,
    31 * DAY,
)

requests = st.lists(
    st.fixed_dictionaries(
        {
            "pool_id": st.sampled_from((*POOLS, *POOLS, *POOLS, "lic_1:unknown")),
            "user_id": st.sampled_from(USERS),
            "client_id": st.sampled_from(CLIENTS),
            "session": st.sampled_from([None, None, 0, 0, 1, 3, KNOWN_MAX - 1]),  # most live
            "takeover": st.sampled_from([False, False, True]),
            "wait": st.sampled_from([False, True]),
            "resume": st.sampled_from(["no", "no", "no", "known", "lost", "newer"]),
            "known": indexes,
            "tentative": st.sampled_from(["", "", "", "suspects", "all"]),
        }
    ),
    min_size=1,
    max_size=5,
)
beats = st.builds(
    Beat,
    idle_for=st.sampled_from([None, 0, MINUTE, 2 * MINUTE, 3 * MINUTE]),
    next_in=st.sampled_from([None, None, SECOND, 45 * SECOND, DAY]),
    closing=st.sampled_from([False, False, False, True]),
)
marks = st.lists(st.tuples(indexes, st.sampled_from([0, 0, 0, -1, 1])), min_size=1, max_size=4)


def _instant(seconds: int) -> int:
    """Return the instant so long after a machine's clock started."""
    return ManualClock().now() + seconds * SECOND


filters = st.builds(
    LeaseFilter,
    license_id=st.sampled_from([None, "lic_1", "lic_2"]),
    feature=st.sampled_from([None, *FEATURES]),
    user_id=st.sampled_from([None, *USERS]),
    client_id=st.sampled_from([None, *CLIENTS]),
    silent_since=st.none() | st.sampled_from([0, 30, 75, 600]).map(_instant),
)


class StoreMachine(AllotmentRules):
    tentative = True  # whether acquires may be tentative

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle(MAX_PAUSE)
        self.leases: list[Lease] = []  # as granted, the latest first
        self.most: dict[str, int] = {}  # the most seats a pool ever had

    def news(self) -> list[Event]:
        """Read what both sides have told since; within one step the order is theirs to choose."""
        after = self.oracle.last_event_id
        expected = self.model.events(after=after, limit=1_000)
        told = self.store.events(after=after, limit=1_000)
        same = self.comparable_events(told) == self.comparable_events(expected)
        assert same, f"\nthe store: {told}\nthe model: {expected}"
        return told

    def comparable_events(self, events: list[Event]) -> list[str]:
        return sorted(json.encode(replace(each, id=0), order="sorted").decode() for each in events)

    @initialize(first=st.lists(pools, max_size=3))
    def begin(self, first: list[Pool]) -> None:
        for feature, count_by in FEATURES.items():
            policy = Policy(capacity=2, count_by=count_by)
            self.define(Pool(license_id="lic_1", feature=feature, policy=policy))
        for each in first:
            self.define(each)

    # Time

    @rule(leap=st.sampled_from(LEAPS))
    def wait(self, leap: int) -> None:
        self.clock.advance(milliseconds=leap)

    @rule(
        known=indexes,
        what=st.sampled_from(["suspect", "reclaim", "expire"]),
        off=st.integers(-1, 1),
    )
    def wait_for(self, known: int, what: str, off: int) -> None:
        """Move to the very instant at which a lease changes, or a millisecond beside it."""
        live, now = self.model.leases(LeaseFilter(), limit=1_000)
        if not live:
            return
        lease = live[known % len(live)]
        instants = {
            "suspect": lease.suspect_at,
            "reclaim": lease.suspect_at + 10 * SECOND,
            "expire": lease.expires_at,
        }
        self.clock.advance(milliseconds=max(0, instants[what] + off - now))

    # Seats

    @rule(pool=pools)
    def define(self, pool: Pool) -> None:
        self.both(lambda store: store.define([pool]))
        which = LeaseFilter(license_id=pool.license_id, feature=pool.feature)
        live, now = self.both(lambda store: store.leases(which, limit=1_000))
        self.oracle.define(pool, live, now)
        self.most[pool.id] = max(pool.policy.most, self.most.get(pool.id, 0))
        assert self.both(lambda store: store.pools([pool.id])) == [pool]

    @rule(
        pool_id=st.sampled_from(POOLS),
        holders=st.lists(st.sampled_from(HOLDERS), min_size=2, max_size=6),
        silence=st.sampled_from([0, 65, 70, 90]),
        wait=st.booleans(),
    )
    def crowd(
        self, pool_id: str, holders: list[tuple[str, str]], silence: int, *, wait: bool
    ) -> None:
        """Many want in at once, after those inside have fallen silent for a while."""
        self.clock.advance(seconds=silence)
        plain = PLAIN | {"wait": wait}
        self.acquire(
            [{"pool_id": pool_id, "user_id": u, "client_id": c, **plain} for u, c in holders]
        )

    @rule(asked=requests)
    def acquire(self, asked: list[dict[str, Any]]) -> None:
        batch = [self._request(**one) for one in asked]
        lines = {pool: self.line(pool)[0] for pool in POOLS}
        previewed = self.both(lambda store: store.preview(batch))
        answers = self.both(lambda store: store.acquire(batch))
        assert previewed == answers
        told, now = self.news(), self.clock.now()
        returned = [event for event in told if event.kind is EventKind.STORE_RETURNED]
        self.oracle.read(returned)
        before = {pool: self.oracle.standing(pool, now) for pool in self.oracle.pools}
        judge = LineOracle(self.oracle, now, lines, batch, answers)
        judge.read(told[len(returned) :])
        for answer in answers:
            if isinstance(answer, Lease):
                self.oracle.told(answer, now)
                self.leases = [answer, *self.leases][:KNOWN_MAX]
        returned_to = {str(event.pool_id) for event in told if self._may_go_first(event)}
        for pool, was in before.items():
            after, most = self.oracle.standing(pool, now), self.oracle.pools[pool].policy.most
            assert after.out <= max(most, was.out), f"{pool}: {after} of {most} seats"
            if pool not in returned_to:
                assert after.promised <= max(most, was.promised), f"{pool}: {after}, and was {was}"
            touched = any(request.pool_id == pool for request in batch)
            if touched and refusal(self.oracle.pools[pool], now) is None:
                judge.offers(pool, self.line(pool)[0])
        last = {request.pool_id: i for i, request in enumerate(batch)}
        for i, (request, answer) in enumerate(zip(batch, answers, strict=True)):
            if isinstance(answer, Denied) and answer.reason is DenialReason.SEAT_LIMIT:
                if not self.oracle.doubtful(request.pool_id, now):
                    self._check_denial(request, answer)
                if last[request.pool_id] == i and answer.waiting == (answer.entry is not None):
                    feature = request.pool_id.removeprefix("lic_1:")
                    which = LeaseFilter(license_id="lic_1", feature=feature)
                    live, now = self.store.leases(which, limit=1_000)
                    check_standing(self.oracle, request, answer, live, now)

    def _may_go_first(self, event: Event) -> bool:
        """Tell whether a holder has come back to a shared seat, and may now be the first or the last of those
        who decide into which reservation it counts. Who joins one never is the first."""
        if self.oracle.pools.get(str(event.pool_id)) is None:
            return False
        count_by = self.oracle.pools[str(event.pool_id)].policy.count_by
        if count_by is CountBy.LEASE:
            return False
        if event.kind is EventKind.LEASE_RESUMED:
            return True
        if event.kind is not EventKind.LEASE_TAKEN_OVER:
            return False
        mine = self.oracle.held.get(str(event.subject))
        return mine is not None and any(
            other is not mine
            and (other.pool_id, other.acquired_at) == (mine.pool_id, mine.acquired_at)
            for other in self.oracle.held.values()
        )

    def _request(self, session: int | None, resume: str, known: int, **fields: Any) -> Acquire:
        session_id = None if session is None else self._session(session)
        fields["ask_all"] = fields["tentative"] == "all"
        fields["tentative"] = bool(fields["tentative"]) and self.tentative
        request = as_proved(
            Acquire(
                lease_id=self.new_id("lea"),
                session_id=session_id,
                priority=PRIORITY.get(fields["client_id"], 0),
                **fields,
            )
        )
        if resume == "lost":
            return replace(request, resume=Resume(lease_id=self.new_id("lost"), fence=self.count))
        if resume != "no" and (lease := self._known(known)) is not None:
            holder = {"pool_id": lease.pool_id, "user_id": lease.user_id}
            fence = lease.fence + (resume == "newer")
            return as_proved(
                replace(
                    request,
                    client_id=lease.client_id,
                    resume=Resume(lease_id=lease.id, fence=fence),
                    **holder,
                )
            )
        return request

    def _check_denial(self, request: Acquire, denied: Denied) -> None:
        """Nobody is denied while there is a seat that is not kept for others, or theirs who wait."""
        others = denied.waiting if denied.entry is None else denied.position - 1
        kept = denied.reserved_free + others
        assert denied.in_use + denied.allotted + kept >= denied.limit + denied.overdraft
        assert denied.waiting >= denied.position
        assert (denied.entry is not None) is (request.wait and not denied.tentative)
        assert len(denied.evidence) >= min(20, denied.in_use)
        silences = [(lease.last_beat_at, lease.id) for lease in denied.evidence]
        assert silences == sorted(silences)

    @rule(asked=marks, beat=beats, other=beats)
    def renew(self, asked: list[tuple[int, int]], beat: Beat, other: Beat) -> None:
        batch = [
            Renew(lease_id=lease.id, fence=lease.fence + off, beat=other if i % 2 else beat)
            for i, (known, off) in enumerate(asked)
            if (lease := self._known(known)) is not None
        ]
        now = self.clock.now()
        answers = self.both(lambda store: store.renew(batch))
        alive = [
            answer is not None and self.oracle.heard(renew.lease_id, now)
            for renew, answer in zip(batch, answers, strict=True)
        ]
        self.oracle.read(self.news())
        for renew, answer, was in zip(batch, answers, alive, strict=True):
            self.oracle.beat(renew.lease_id, answer, now, alive=was)

    @rule(
        asked=marks,
        silent_for=st.sampled_from([0, 0, 1, SECOND, 30 * SECOND]),
        at_once=st.booleans(),
    )
    def doubt(self, asked: list[tuple[int, int]], silent_for: int, *, at_once: bool) -> None:
        """Nobody's seat ends by it: the oracle, which is told nothing, still counts it."""
        batch = [
            Doubt(lease_id=lease.id, fence=lease.fence + off, silent_for=silent_for)
            for known, off in asked
            if (lease := self._known(known)) is not None
        ]
        before = self.model.leases(LeaseFilter(), limit=1_000)[0]
        answers = self.both(lambda store: store.doubt(batch, at_once=at_once))
        after = {x.id: x for x in self.model.leases(LeaseFilter(), limit=1_000)[0]}
        assert all(
            x.expires_at <= after[x.id].expires_at for x in before
        )  # an outage is given back
        for doubt, answer in zip(batch, answers, strict=True):
            assert not answer or after[doubt.lease_id].suspect_at <= self.clock.now()

    @rule(pool_id=st.sampled_from(POOLS), data=st.sampled_from([None, {"asked": 2, "answered": 1}]))
    def ask(self, pool_id: str, data: dict[str, Any] | None) -> None:
        self.both(lambda store: store.ask(pool_id, "server:srv_1", data))

    @rule(asked=marks)
    def release(self, asked: list[tuple[int, int]]) -> None:
        batch = [
            Release(lease_id=lease.id, fence=lease.fence + off)
            for known, off in asked
            if (lease := self._known(known)) is not None
        ]
        self.both(lambda store: store.release(batch))

    @rule(which=filters, suspects_only=st.booleans())
    def revoke(self, which: LeaseFilter, *, suspects_only: bool) -> None:
        action = Action(actor="key:ops", name="cleanup", data={"suspects": suspects_only})
        self.both(lambda store: store.revoke(which, action, suspects_only=suspects_only))

    @rule(pool=st.sampled_from(POOLS), sure=st.sampled_from([False, False, False, True]))
    def drop(self, pool: str, *, sure: bool) -> None:
        if sure:
            self.both(lambda store: store.drop([pool], OPERATOR))
            self.oracle.pools.pop(pool, None)

    @rule(which=filters)
    def list_leases(self, which: LeaseFilter) -> None:
        everything = self.both(lambda store: store.leases(which, limit=3))[0]
        after = everything[-1].id if everything else "lea"
        self.both(lambda store: store.leases(which, after=after, limit=3))

    # Housekeeping

    @rule()
    def pulse(self) -> None:
        self.both(lambda store: store.pulse())

    @rule(which=st.none() | filters)
    def sweep(self, which: LeaseFilter | None) -> None:
        self.both(lambda store: store.sweep(limit=1_000, which=which))

    @rule(
        kinds=st.lists(st.sampled_from(EventKind), max_size=3),
        user_id=st.sampled_from([None, *USERS]),
        pool_id=st.sampled_from([None, *POOLS]),
        back=st.booleans(),
    )
    def read_events(
        self, kinds: list[EventKind], user_id: str | None, pool_id: str | None, *, back: bool
    ) -> None:
        def read(store: Store) -> list[str]:
            events = store.events(
                kinds=kinds, user_id=user_id, pool_id=pool_id, newest_first=back, limit=1_000
            )
            ids = [event.id for event in events]
            assert ids == sorted(ids, reverse=back)
            return self.comparable_events(events)

        self.both(read)

    # After every step

    @invariant()
    def everything_agrees(self) -> None:
        self.oracle.read(self.news())
        self.rows_are_equal()
        self.allotments_are_counted()
        self.seats_are_counted()
        self.lines_are_equal()
        self.sessions_are_listed()

    def rows_are_equal(self) -> None:
        everything = LeaseFilter(include_ended=True)
        leases, now = self.both(lambda store: store.leases(everything, limit=1_000))
        held = [(lease.pool_id, lease.holder) for lease in leases if lease.live(now)]
        assert len(held) == len(set(held)), "a holder has two live leases"
        self.sessions_are_equal()

    def seats_are_counted(self) -> None:
        now = self.clock.now()
        for usage in self.both(lambda store: store.usage(POOLS)):
            if usage is not None:
                assert usage.in_use == self.oracle.in_use(usage.pool_id, now)
                assert usage.in_use <= self.most[usage.pool_id]
                standing = self.oracle.standing(usage.pool_id, now)
                assert usage.reserved == standing.used
                assert usage.allotted == standing.allotted
                assert usage.overdrawn == max(0, standing.promised - usage.capacity)
                assert usage.suspect <= usage.in_use <= usage.leases

    def _known(self, known: int) -> Lease | None:
        return self.leases[known % len(self.leases)] if self.leases else None


class OlderEvidence(StoreMachine):
    """For stores that may deny by what they saw within the last second: whom they deny, and why, and how many
    seats there are and are held, is the model's all the same."""

    tentative = False  # whether there is a suspect, too, is as old as what was seen

    def comparable(self, answer: Any) -> Any:
        if isinstance(answer, list):
            return [self.comparable(each) for each in answer]
        if isinstance(answer, Denied) and answer.reason is DenialReason.SEAT_LIMIT:
            return replace(answer, at=0, suspect=0, retry_after=0, evidence=())
        return answer

    def comparable_events(self, events: list[Event]) -> list[str]:
        kept = {"reason", "limit", "inUse", "line", "position", "lineFull", "allotted"}
        proven = (EventKind.LEASE_DENIED, EventKind.LEASE_WAITING)
        return super().comparable_events(
            [
                replace(each, data={k: v for k, v in each.data.items() if k in kept})
                if each.kind in proven
                else each
                for each in events
            ]
        )


def drive(
    make_store: MakeStore,
    *,
    examples: int = 25,
    steps: int = 80,
    shrink: bool = True,
    machine: type[StoreMachine] = StoreMachine,
) -> None:
    """Hold the stores that this makes to the reference model.

    `make_store` is called for every example and answers with an empty store; each is closed. Where only
    the verdict counts, `shrink=False` stops at the first failure and starts from the same seed.
    """
    settings = _settings(examples, steps)
    if not shrink:
        settings = hypothesis.settings(
            settings,
            phases=[hypothesis.Phase.generate],
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
        )
    run_state_machine_as_test(_machine(make_store, machine), settings=settings)


def machine_for(
    make_store: MakeStore, *, examples: int = 25, steps: int = 80
) -> type[unittest.TestCase]:
    """Return a test case that does what `drive` does."""
    case: type[unittest.TestCase] = _machine(make_store, StoreMachine).TestCase
    case.settings = _settings(examples, steps)  # type: ignore[attr-defined]  # Hypothesis adds it
    return case


def _machine(make_store: MakeStore, machine: type[StoreMachine]) -> type[StoreMachine]:
    return type("StoreMachine", (machine,), {"make_store": staticmethod(make_store)})


def _settings(examples: int, steps: int) -> hypothesis.settings:
    return hypothesis.settings(max_examples=examples, stateful_step_count=steps, deadline=None)
