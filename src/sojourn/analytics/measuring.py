"""Events become measures, page by page, each event once.

A page is read, and what it changes is computed from what is kept of its holders and hours; then all of it
is written in one step, together with the cursor, if that is still where it was. So a process that is killed
has written a page or not, and of several that measure at once one is first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.analytics.buckets import Before, Bucket, apply, late_hours, rolled
from sojourn.analytics.counts import Counts
from sojourn.analytics.holds import (
    Folding,
    Hold,
    PolicyAt,
    event_holder,
    event_seat,
    measurable,
)
from sojourn.analytics.incidents import Refusals, follow
from sojourn.analytics.keeper import Changes, Cursor, UsageKeeper
from sojourn.analytics.levels import Step
from sojourn.clock import DAY, HOUR
from sojourn.event import Event
from sojourn.ledger import Audit
from sojourn.license import Policy, pool_id

PAGE = 1_000
"""Events that are measured in one step."""
PAGES_MAX = 100
"""A run ends after so many steps; what is left waits for the next one."""
AUDITS = 1_000
"""Entries of the audit trail that are read in one step."""

Events = Callable[[int, int], Sequence[Event]]
"""Reads so many events of the stream, after an id."""


class Measuring:
    """Measures what a stream tells. Safe side by side, in any number of processes."""

    def __init__(
        self, events: Events, keeper: UsageKeeper, now: Callable[[], int], *, page: int = PAGE
    ) -> None:
        self._events = events
        self._keeper = keeper
        self._now = now
        self._page = page

    def run(self) -> int:
        """Measure what there is, or as much as one run may. Return how many events."""
        done = 0
        for _ in range(PAGES_MAX):
            found = self.step()
            if found is None:
                break
            done += found
        return done

    def rebuild(self) -> bool:
        """Forget what the steps that follow measure anew. False, and nothing changes, if no events are kept,
        if they do not tell all that would be forgotten, or if another process went on meanwhile."""
        return self._begin(self._keeper.cursor()) is not None

    def step(self) -> int | None:
        """Measure a page; return how many events it had. None: there is nothing to do, or another process
        was faster."""
        cursor = self._keeper.cursor()
        if cursor is None and (cursor := self._begin(None)) is None:
            return None
        events = self._events(cursor.event_id, self._page)
        # After the events: whatever policy was in force for one of them is there by now.
        audits = self._keeper.audits(after=cursor.audit_id, limit=AUDITS)
        if len(audits) == AUDITS:
            events = []  # all of the trail first
        if not events and not audits:
            return None
        policies = [each for audit in audits for each in policies_of(audit)]
        changes = _Page(self._keeper, cursor, events, policies).changes(
            audits[-1].id if audits else cursor.audit_id
        )
        return len(events) if self._keeper.commit(cursor, changes) else None

    def _begin(self, before: Cursor | None) -> Cursor | None:
        first = next(iter(self._events(0, 1)), None)
        if first is None:
            return None
        since = self._from(first.at, before)
        if since is None or not self._keeper.begin(before, since=since):
            return None
        return self._keeper.cursor()

    def _from(self, first: int, before: Cursor | None) -> int | None:
        """Return from when on to measure anew. The first event that is kept happened at `first`.

        Events that are not kept any more were measured; their days stay. The day of the first event is told
        by events in part only, so it stays, too, if it was measured to its end. If it was not, a rebuild
        would lose a part of it: None. Where the cursor was lost there is no choice: it begins at `first`.
        """
        oldest = self._keeper.oldest()
        told = before is None or before.since >= first
        if oldest is None or (told and oldest >= first // HOUR * HOUR):
            return first
        midnight = -(-first // DAY) * DAY
        measured = (self._keeper.newest() or 0) if before is None else before.at
        if midnight <= measured:
            return midnight
        return first if before is None else None


def policies_of(audit: Audit) -> list[tuple[str, PolicyAt]]:
    """Read from the audit trail which pools got which policy."""
    data: dict[str, Any] = audit.data
    if audit.action == "license.create":
        given = dict(data.get("features") or {})
    elif audit.action in ("feature.set", "feature.remove"):
        given = {str(data.get("feature")): data.get("policy")}
    else:
        return []
    found: list[tuple[str, PolicyAt]] = []
    for feature, policy in given.items():
        try:
            told = None if policy is None else msgspec.convert(policy, Policy)
        except msgspec.ValidationError:  # a newer server wrote it down
            continue
        found.append((pool_id(audit.subject, feature), PolicyAt(audit.at, told)))
    return found


class _OfPool(Struct, frozen=True):
    """What a page comes to for a pool."""

    hours: list[Bucket]
    days: list[Bucket]
    steps: dict[tuple[str, int], list[Step]]


class _Page:
    """A page of events under way."""

    def __init__(
        self,
        keeper: UsageKeeper,
        cursor: Cursor,
        events: Sequence[Event],
        policies: list[tuple[str, PolicyAt]],
    ) -> None:
        self._keeper = keeper
        self._cursor = cursor
        self._events = events
        self._new_policies = policies
        self._begun = cursor.since // HOUR * HOUR

    def changes(self, audit_id: int) -> Changes:
        folding = self._folded()
        denied = sorted({event.pool_id or "" for event in folding.denials})
        latest = self._keeper.latest_incidents(denied) if denied else {}
        denials = [each for each in folding.denials if not self._counted(latest, each)]
        steps = {pool: found for pool, found in folding.steps().items() if found}
        counts: dict[str, dict[int, Counts]] = {}
        for (pool, hour), each in folding.counts.items():
            counts.setdefault(pool, {})[hour] = each
        measured = [
            self._measure(pool, steps.get(pool, []), counts.get(pool, {}))
            for pool in sorted(steps.keys() | counts.keys())
        ]
        kept, forgotten = folding.kept()
        last = self._events[-1].id if self._events else self._cursor.event_id
        return Changes(
            cursor=Cursor(
                event_id=last,
                audit_id=audit_id,
                since=self._cursor.since,
                at=max((event.at for event in self._events), default=self._cursor.at),
                revision=self._cursor.revision + 1,
            ),
            holds=kept,
            forgotten=forgotten,
            hours=[hour for of_pool in measured for hour in of_pool.hours],
            days=[day for of_pool in measured for day in of_pool.days],
            steps={key: found for of_pool in measured for key, found in of_pool.steps.items()},
            shares=folding.shares,
            incidents=follow(latest, denials),
            policies=self._new_policies,
        )

    def _counted(self, latest: dict[str, Refusals], denial: Event) -> bool:
        """Tell whether a refusal is of an incident that began before the measures did, and so stayed through
        a rebuild."""
        found = latest.get(denial.pool_id or "")
        if found is None or found.started_at >= self._cursor.since:
            return False
        return denial.at <= found.ended_at

    def _folded(self) -> Folding:
        events = [event for event in self._events if measurable(event)]
        pools = sorted({event.pool_id or "" for event in events})
        policies = self._keeper.policies(pools) if pools else {}
        for pool, policy in self._new_policies:
            policies.setdefault(pool, []).append(policy)
        for found in policies.values():
            found.sort(key=lambda each: each.at)
        ids = sorted({event_holder(event) for event in events})
        holds = {hold.id: hold for hold in self._holds(ids, [])}
        seats = {event_seat(event, policies) for event in events}
        shared = sorted((seats | {hold.seat for hold in holds.values()}) - set(ids))
        holds |= {hold.id: hold for hold in self._holds([], shared)}
        folding = Folding(holds.values(), policies, since=self._cursor.since)
        for event in events:
            folding.follow(event)
        return folding

    def _holds(self, ids: list[str], seats: list[str]) -> list[Hold]:
        return self._keeper.holds(ids, seats) if ids or seats else []

    def _measure(self, pool: str, steps: list[Step], counts: dict[int, Counts]) -> _OfPool:
        """Put what the page says of a pool into its hours, and roll up the days that are over."""
        first = min([*counts, *(at for at, _ in steps[:1])]) // HOUR * HOUR
        known = self._keeper.pool_hours(pool, first)
        late = late_hours(known.hours, steps)
        stored = self._keeper.steps(pool, late) if late else {}
        applied = apply(
            pool,
            known.hours,
            known.before,
            steps=steps,
            counts=counts,
            stored=stored,
            begun=self._begun,
        )
        today = max(applied.hours) // DAY * DAY
        begun = max((hour for hour in known.hours if hour < first), default=first)
        over = {bucket.at // DAY * DAY for bucket in applied.changed} | {begun // DAY * DAY}
        days = [
            rolled(
                pool,
                day,
                applied.hours,
                _before(applied.hours, day, known.before),
                begun=self._begun,
            )
            for day in sorted(over)
            if day < today
        ]
        kept = {(pool, hour): found for hour, found in applied.steps.items()}
        return _OfPool(applied.changed, days, kept)


def _before(hours: dict[int, Bucket], day: int, before: Before) -> Before:
    earlier = max((hour for hour in hours if hour < day), default=None)
    return before if earlier is None else Before(earlier, hours[earlier].last)
