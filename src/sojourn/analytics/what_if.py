"""What would have happened with more seats, or fewer, other thresholds, or a line: the past, replayed.

Everybody comes and goes as they did; who was refused asks again as they did. What is decided anew is who gets
a seat. It is decided by how many seats are free beyond those that were free in the past when somebody was
refused, so that seats which were kept for reservations, or held for the first in the line, are kept and held
in the replay, too. A replay of the policy that was in force gives the refusals that were recorded.

What nobody can know is assumed: who got in only in the replay stays as long as is typical of the pool; who
was refused only in the replay asks no second time; and an idle person who was not evicted stays as long as
typical.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.analytics.holds import ENDS, GRANTS, Hold, PolicyAt, policy_at
from sojourn.analytics.uses import Holder, Use, judge, refusals, typical, uses_of
from sojourn.event import Event
from sojourn.lease import EndReason, seat_key
from sojourn.license import CountBy, Policy, WhenFull

EVENTS_MAX = 200_000
"""Events of a pool that are replayed; of more, the latest."""


class Scenario(Struct, frozen=True, kw_only=True):
    """What is to be otherwise. Durations in milliseconds; None: as it was."""

    seats: int = 0  # more, or fewer
    lost_after: int | None = None
    suspect_after: int | None = None
    linger: int | None = None
    when_full: WhenFull | None = None
    wait: int | None = None  # for so long who is refused waits in a line; None: there is none

    def applied(self, policy: Policy) -> Policy:
        """Return a policy as the scenario has it. Raises InvalidPolicy."""
        told = {
            name: value
            for name in ("lost_after", "suspect_after", "linger", "when_full")
            if (value := getattr(self, name)) is not None
        }
        capacity = max(0, policy.capacity + self.seats)
        kept = policy.reservations if policy.reserved <= capacity else ()
        return replace(policy, capacity=capacity, reservations=kept, **told).validate()


class Replay(Struct, kw_only=True):
    """What a replay comes to."""

    recorded: int = 0  # refusals for want of a seat that there were
    denied: list[int] = []  # those there would have been: events that asked  # copied by msgspec
    refused_users: list[str] = []  # likewise
    spared: int = 0  # recorded refusals that would have been grants
    peak: int = 0
    evicted: int = 0
    waits: list[int] = []  # of who waited and got a seat  # likewise
    gave_up: int = 0  # waited in vain


class _Seated(Struct):
    """Somebody who holds a seat in the replay."""

    holder: Holder
    use: Use | None  # None: who was refused in the past


class _Waiter(Struct):
    event: int
    holder: Holder
    use: Use | None
    since: int
    until: int


def replay(
    events: Sequence[Event],
    held: Iterable[Hold],
    policies: Sequence[PolicyAt],
    scenario: Scenario | None = None,
    *,
    until: int | None = None,
) -> Replay:
    """Replay a pool's events, in their order, those before `until`; later ones tell of ends. `held` are the
    seats that are held after all of them. Raises InvalidPolicy where the scenario cannot be."""
    return _Replay(events, held, policies, scenario or Scenario(), until=until).run()


class _Seats:
    """Holders and how many seats they have together."""

    def __init__(self) -> None:
        self.count_by = CountBy.LEASE
        self._keys: dict[Holder, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, holder: Holder) -> None:
        if holder not in self._keys:
            key = self._keys[holder] = seat_key(self.count_by, *holder)
            self._counts[key] += 1

    def leave(self, holder: Holder) -> None:
        key = self._keys.pop(holder, None)
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def shares(self, holder: Holder) -> bool:
        """Tell whether others hold the seat that this one would use."""
        return self.count_by is not CountBy.LEASE and (
            seat_key(self.count_by, *holder) in self._counts
        )

    def count(self, count_by: CountBy) -> None:
        """Count by another rule from now on."""
        if count_by is self.count_by:
            return
        holders = list(self._keys)
        self.count_by, self._keys = count_by, {}
        self._counts.clear()
        for holder in holders:
            self.enter(holder)


class _Replay:
    def __init__(
        self,
        events: Sequence[Event],
        held: Iterable[Hold],
        policies: Sequence[PolicyAt],
        scenario: Scenario,
        *,
        until: int | None,
    ) -> None:
        self._events = [event for event in events if until is None or event.at < until]
        self._policies = policies
        self._scenario = scenario
        there = [hold for hold in held if until is None or hold.started_at < until]
        self._before, self._begun = uses_of(events, there)
        every = [*self._before, *self._begun.values()]
        self._typical = typical(every)
        self._denied = refusals(self._events)
        judge(every, refusals(events), policies)
        self._ended = {use.ended_by: use for use in every if use.ended_by}
        self._applied = [
            PolicyAt(each.at, None if each.policy is None else scenario.applied(each.policy))
            for each in policies
        ]
        self._seated: dict[Holder, _Seated] = {}
        self._real: dict[Holder, Use] = {}
        self._seats, self._real_seats = _Seats(), _Seats()  # of those two
        self._takeable: dict[Holder, _Seated] = {}  # those whose seat may once be taken
        self._line: list[_Waiter] = []
        self._planned: list[tuple[int, int, Callable[[], None]]] = []
        self._turn = 0
        self._users: set[str] = set()
        self.now = 0
        self.told = Replay(recorded=len(self._denied))

    def run(self) -> Replay:
        for use in self._before:
            self._real_in(use)
            self._sit(use.holder, use)
        denied = {event.id for event in self._denied}
        for event in self._events:
            self._advance(event.at)
            holder = (event.user_id or "", event.client_id or "")
            if event.kind in GRANTS:
                self._granted(event, holder)
            elif event.kind in ENDS and event.id in self._ended:
                self._over(self._ended[event.id])
            elif event.id in denied:
                self._refused(event, holder)
        self._advance(None)
        self.told.refused_users = sorted(self._users)
        return self.told

    # What the policy says

    def _policy(self, *, real: bool = False) -> Policy | None:
        return policy_at(self._policies if real else self._applied, self.now)

    def _free(self, *, real: bool = False) -> int:
        policy = self._policy(real=real)
        seats = self._real_seats if real else self._seats
        seats.count(CountBy.LEASE if policy is None else policy.count_by)
        return (0 if policy is None else policy.most) - len(seats)

    def _shares(self, holder: Holder, *, real: bool = False) -> bool:
        self._free(real=real)  # which counts as the policy of this instant has it
        return (self._real_seats if real else self._seats).shares(holder)

    # Time

    def _plan(self, at: int, work: Callable[[], None]) -> None:
        self._turn += 1
        heapq.heappush(self._planned, (at, self._turn, work))

    def _advance(self, until: int | None) -> None:
        """Let everything come that is planned up to an instant; None: what waits has waited in vain."""
        while self._planned and until is not None and self._planned[0][0] <= until:
            at, _, work = heapq.heappop(self._planned)
            self.now = max(self.now, at)
            work()
            self._serve()
        if until is not None:
            self.now = max(self.now, until)
            return
        for waiter in self._line:
            self._deny(waiter.event, waiter.holder)

    # What happened

    def _granted(self, event: Event, holder: Holder) -> None:
        use = self._begun.get(event.id) or self._real.get(holder)
        if use is None:
            return  # within one millisecond it was taken over, and ended
        free = self._free()
        as_free = free > 0 or free >= self._free(real=True)
        if event.id in self._begun:
            self._real_in(self._begun[event.id])
        if holder in self._seated or self._shares(holder) or as_free or self._make_room():
            self._sit(holder, use)
        else:
            self._turn_away(event, holder, use)

    def _refused(self, event: Event, holder: Holder) -> None:
        """Let somebody ask who was refused. There is a seat if more are free than were then: those
        were kept for others."""
        more = self._free() - self._free(real=True)
        seated = holder in self._seated and holder not in self._real
        shares = self._shares(holder) and not self._shares(holder, real=True)
        if seated:
            self.told.spared += 1
        elif shares or more > 0 or self._make_room():
            self.told.spared += 1
            self._sit(holder, None)
        else:
            self._turn_away(event, holder, None)

    def _over(self, use: Use) -> None:
        taken = use.reason in (EndReason.EVICTED.value, EndReason.MOVED.value)
        tight = not taken or self._free() <= self._free(real=True)
        self._real_out(use)
        self._line = [x for x in self._line if x.use is not use]
        seated = self._seated.get(use.holder)
        if seated is None or seated.use is not use or use.reason == EndReason.EXPIRED.value:
            return
        if not taken:
            self._leave(seated)
        elif tight and self._may_take(use):
            self.told.evicted += use.reason == EndReason.EVICTED.value
            self._leave(seated)
        else:
            self._stays(seated, use)

    def _stays(self, seated: _Seated, use: Use) -> None:
        """Let somebody stay who lost the seat in the past."""
        policy, until = self._policy(), use.until or self.now
        silent = use.beat_at is not None and self._silent(use, until)
        if silent and policy is not None and use.beat_at is not None:
            self._plan_end(seated, max(until, use.beat_at + policy.lost_after))
        else:
            self._plan_end(seated, until + self._typical)

    def _silent(self, use: Use, at: int) -> bool:
        policy = self._policy(real=True)
        patience = 0 if policy is None else policy.suspect_after_ms
        return use.beat_at is not None and at - use.beat_at >= patience

    def _real_in(self, use: Use) -> None:
        """Let a use begin in the past as it was."""
        self._real[use.holder] = use
        self._real_seats.enter(use.holder)
        if use.reason == EndReason.EXPIRED.value and use.until is not None:
            self._plan(use.until, lambda: self._real_out(use))

    def _real_out(self, use: Use) -> None:
        if self._real.get(use.holder) is use:
            del self._real[use.holder]
            self._real_seats.leave(use.holder)

    # The replay

    def _sit(self, holder: Holder, use: Use | None) -> None:
        known = self._seated.get(holder)
        if known is not None and known.use is use and use is not None:
            return
        self._line = [x for x in self._line if x.holder != holder]
        seated = _Seated(holder, use)
        self._seated[holder] = seated
        self._seats.enter(holder)
        self._takeable.pop(holder, None)
        if use is not None and use.evictable_at is not None:
            self._takeable[holder] = seated
        self.told.peak = max(self.told.peak, len(self._seats))
        if use is None:
            self._plan_end(seated, self.now + self._typical)
        elif use.reason == EndReason.EXPIRED.value and use.until is not None:
            self._plan_end(seated, self._expires(use, use.until))

    def _expires(self, use: Use, until: int) -> int:
        """Say when a silent holder's lease runs out in the replay."""
        was, now = policy_at(self._policies, until), policy_at(self._applied, until)
        if was is None or now is None or use.beat_at is None:
            return until
        goodbye = until - use.beat_at <= was.linger
        later = now.linger - was.linger if goodbye else now.lost_after - was.lost_after
        return max(use.beat_at, until + later)

    def _plan_end(self, seated: _Seated, at: int) -> None:
        def end() -> None:
            if self._seated.get(seated.holder) is seated:
                self._leave(seated, serve=False)

        self._plan(at, end)

    def _leave(self, seated: _Seated, *, serve: bool = True) -> None:
        del self._seated[seated.holder]
        self._takeable.pop(seated.holder, None)
        self._seats.leave(seated.holder)
        if serve:
            self._serve()

    def _may_take(self, use: Use) -> bool:
        """Tell whether the policy lets a seat be taken of whoever lost it in the past."""
        policy = self._policy()
        unchanged = policy == self._policy(real=True)
        if policy is None or unchanged or use.reason == EndReason.MOVED.value:
            return True
        if policy.when_full is WhenFull.DENY:
            return False
        return not self._silent(use, self.now) or self._evictable(use, self.now + 1)

    def _evictable(self, use: Use, at: int) -> bool:
        was, now = self._policy(real=True), self._policy()
        if use.evictable_at is None or was is None or now is None:
            return False
        later = now.suspect_after_ms + now.linger - was.suspect_after_ms - was.linger
        return use.evictable_at + later <= at

    def _make_room(self) -> bool:
        """Take the seat of a silent holder, the most silent first. False if there is none to take."""
        policy = self._policy()
        if policy is None or policy.when_full is WhenFull.DENY:
            return False
        if not any(x.use and self._evictable(x.use, self.now) for x in self._takeable.values()):
            return False
        seats: dict[str, list[_Seated]] = {}
        for seated in self._seated.values():
            seats.setdefault(seat_key(policy.count_by, *seated.holder), []).append(seated)
        silent = [
            (max(x.use.beat_at or 0 for x in each if x.use), key, each)
            for key, each in seats.items()
            if all(x.use is not None and self._evictable(x.use, self.now) for x in each)
        ]
        if not silent or self._free() < 0:
            return False
        for seated in min(silent, key=lambda each: each[:2])[2]:
            self._leave(seated, serve=False)
            self.told.evicted += 1
        return True

    def _turn_away(self, event: Event, holder: Holder, use: Use | None) -> None:
        if self._scenario.wait is None:
            self._deny(event.id, holder)
            return
        if any(waiter.holder == holder for waiter in self._line):
            return  # who asks again keeps the place
        waiter = _Waiter(event.id, holder, use, self.now, self.now + self._scenario.wait)
        self._line.append(waiter)
        self._plan(waiter.until, lambda: self._give_up(waiter))

    def _give_up(self, waiter: _Waiter) -> None:
        if waiter in self._line:
            self._line.remove(waiter)
            self.told.gave_up += 1
            self._deny(waiter.event, waiter.holder)

    def _serve(self) -> None:
        """Give free seats to the first in the line."""
        while self._line and self._free() > 0:
            waiter = self._line[0]
            self.told.waits.append(self.now - waiter.since)
            self._sit(waiter.holder, waiter.use)

    def _deny(self, event: int, holder: Holder) -> None:
        self.told.denied.append(event)
        self._users.add(holder[0])
