"""How seats were used: measured as events come in, and told to whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from msgspec import Struct

from sojourn.analytics.answers import RANGE_MAX, Cell, usage_of, week_of
from sojourn.analytics.answers import Usage as PoolUsage
from sojourn.analytics.forecast import Forecast, forecast
from sojourn.analytics.holds import MEASURED, PolicyAt
from sojourn.analytics.incidents import Refusals
from sojourn.analytics.keeper import SHARES_MAX, MeasuredLedger, Shares
from sojourn.analytics.measuring import Measuring
from sojourn.analytics.what_if import EVENTS_MAX, Replay, Scenario, replay
from sojourn.clock import DAY
from sojourn.errors import InvalidInput, NotFound
from sojourn.event import Event
from sojourn.ledger import Audit
from sojourn.license import Pool, check_feature, pool_id
from sojourn.store import LIST_MAX, Recorder, Store

WEEKS_SEEN = 12
"""Weeks of the past that a forecast is made of, at most."""


class WhatIf(Struct, frozen=True, kw_only=True):
    """What a replay comes to, from when until when, beside what a replay of the policy as it was does."""

    since: int
    until: int
    events: int
    as_it_was: Replay
    told: Replay


class UsageService:
    """Synchronous; safe from several threads. The ticks are whoever's who starts them."""

    def __init__(self, store: Store, ledger: MeasuredLedger, recorder: Recorder | None) -> None:
        self._store = store
        self._ledger = ledger
        self._usage = ledger.usage
        self._recorded = recorder is not None  # then the ledger has the events
        self._measuring = Measuring(self._read, ledger.usage, ledger.now)

    def _read(self, after: int, limit: int, pool: str | None = None) -> Sequence[Event]:
        if self._recorded:
            return self._ledger.history(after=after, limit=limit, pool_id=pool)
        return self._store.events(after=after, limit=limit, pool_id=pool)

    def tick(self) -> int:
        """Measure what has happened since; return how many events."""
        return self._measuring.run()

    def rebuild(self, *, actor: str) -> bool:
        """Measure anew what the events still tell; what is known of days before them stays. False: there is
        nothing to measure, something would be lost, or somebody else has begun."""
        begun = self._measuring.rebuild()
        if begun:
            self._ledger.record(Audit(actor=actor, action="analytics.rebuild", subject="usage"))
        return begun

    def now(self) -> int:
        return self._ledger.now()

    def behind(self) -> int | None:
        """Return when the latest event that was measured happened; None: nothing was measured yet."""
        cursor = self._usage.cursor()
        return None if cursor is None else cursor.at

    def pool(self, license_id: str, feature: str) -> str:
        """Return the id of a pool that is there, or of which something is known. Raises NotFound."""
        pool = pool_id(license_id, check_feature(feature))
        if not self._usage.policies([pool])[pool] and self._defined(pool) is None:
            raise NotFound(
                f"License {license_id!r} has no feature {feature!r}.",
                code="feature_unknown",
                hint="List licenses with `sojourn license list`.",
            )
        return pool

    def _defined(self, pool: str) -> Pool | None:
        license_id = pool.partition(":")[0]
        return next((each for each in self._ledger.pools(license_id) if each.id == pool), None)

    def policies(self, pool: str) -> list[PolicyAt]:
        """Return what policies a pool had, the earliest first."""
        found = self._usage.policies([pool])[pool]
        if not found and (defined := self._defined(pool)) is not None:
            found = [PolicyAt(0, defined.policy)]  # of before the audit trail
        return found

    def usage(self, pool: str, *, since: int, until: int, span: int | None = None) -> PoolUsage:
        _check(since, until)
        return usage_of(self._usage, pool, self.policies(pool), since=since, until=until, span=span)

    def week(self, pool: str, zone: ZoneInfo, *, since: int, until: int) -> list[Cell]:
        _check(since, until)
        return week_of(self._usage, pool, zone, since=since, until=until)

    def shares(
        self, pool: str, kind: str, *, since: int, until: int, limit: int = SHARES_MAX
    ) -> Shares:
        """Return who held a pool for the longest: users, or clients. Whole days, UTC."""
        _check(since, until)
        return self._usage.shares(pool, kind, since // DAY * DAY, until, limit=limit)

    def incidents(self, pool: str | None, *, since: int, until: int, limit: int) -> list[Refusals]:
        _check(since, until)
        return self._usage.incidents(pool, since, until, limit=limit)

    def forecast(self, pool: str, *, weeks: int) -> Forecast:
        """Forecast the busiest moment of each day of the next weeks."""
        today = self.now() // DAY * DAY
        known = self.usage(pool, since=today - WEEKS_SEEN * 7 * DAY, until=today, span=DAY)
        days = known.points
        if known.known_since is not None and days and days[0].at < known.known_since:
            days = days[1:]  # the first was not seen as a whole
        return forecast([day.peak for day in days], days[0].at if days else today, weeks=weeks)

    def what_if(self, pool: str, scenario: Scenario, *, since: int) -> WhatIf:
        """Replay a pool's past since an instant, as far as its events are kept, until the last sweep: who has
        fallen silent since is not known yet. Raises InvalidPolicy where the scenario cannot be."""
        sweeps = self._ledger.sweeps(limit=1)
        until = sweeps[0].started_at if sweeps else self.now()
        events = self._events(pool, since)
        held = self._usage.open_holds(pool, limit=EVENTS_MAX)
        policies = self.policies(pool)
        return WhatIf(
            since=max(since, events[0].at) if events else since,
            until=until,
            events=len(events),
            as_it_was=replay(events, held, policies, until=until),
            told=replay(events, held, policies, scenario, until=until),
        )

    def _events(self, pool: str, since: int) -> list[Event]:
        """Read a pool's events since an instant, the latest EVENTS_MAX of them."""
        found: list[Event] = []
        before = 0
        while len(found) < EVENTS_MAX:
            page = self._latest(pool, before)
            found += [event for event in page if since <= event.at]
            if len(page) < LIST_MAX or page[-1].at < since:
                break
            before = page[-1].id
        return [event for event in reversed(found) if event.kind in MEASURED]

    def _latest(self, pool: str, before: int) -> Sequence[Event]:
        return self._store.events(after=before, limit=LIST_MAX, pool_id=pool, newest_first=True)


def _check(since: int, until: int) -> None:
    if not 0 <= since < until:
        raise InvalidInput("since must lie before until.")
    if until - since > RANGE_MAX:
        raise InvalidInput(
            "So long a time is not told of at once.", hint="Ask for five years or less."
        )
