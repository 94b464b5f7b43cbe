"""The contract of what keeps measures: buckets, holders, shares, incidents and policies, beside the ledger.

Everything that is kept is changed together with the cursor, which says up to which event it counts. So
whoever is killed, or however many servers measure at once, each event is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from sojourn.analytics.buckets import Before, Bucket
from sojourn.analytics.counts import Share
from sojourn.analytics.holds import Hold, PolicyAt, ShareKey
from sojourn.analytics.incidents import Refusals
from sojourn.analytics.levels import Step
from sojourn.clock import DAY
from sojourn.ledger import Audit
from sojourn.plans.keeper import PlannedLedger

STEPS_KEPT = 100 * DAY
"""Instants of changes within an hour are kept for so long, in milliseconds, so that what is learned late is
exact. Those of an hour in which the policy changed are kept as long as the hour."""
KEPT = 5 * 366 * DAY
"""For how long buckets, shares and incidents are kept."""
SHARES_MAX = 50
"""Users, or clients, that are told of in shares."""
NAMES_KEPT = 2_000
"""Users, and clients, that a day and a month of a pool keep by name, where they had more than
NAMES_MAX: those who held for the longest. The others are added together."""
NAMES_MAX = 2 * NAMES_KEPT
OTHERS = ""
"""The name of all others together."""
INCIDENTS_MAX = 200


class Cursor(Struct, frozen=True, kw_only=True):
    """How far the measures are. Ids are of events, and of the audit trail."""

    event_id: int = 0
    audit_id: int = 0
    since: int = 0  # an instant: what lies before is not known; 0: nothing was read yet
    at: int = 0  # when the latest event happened
    revision: int = 0  # changes with every change


class PoolHours(Struct, frozen=True):
    """A pool's hours, all from one on."""

    hours: dict[int, Bucket]
    before: Before


class Span(Struct, frozen=True, kw_only=True):
    """What is known of a pool over a stretch of time. Days that are not over yet are among the hours."""

    hours: dict[int, Bucket]
    days: dict[int, Bucket]
    before: Before


class Named(Struct, frozen=True, kw_only=True):
    """A user's, or a client's, share of a pool."""

    name: str
    held: int
    granted: int
    denied: int


class Shares(Struct, frozen=True, kw_only=True):
    """Who had what of a pool: the first ones by name, all the others together, and the whole."""

    items: list[Named]
    whole: Share
    others: Share

    @classmethod
    def of(cls, items: list[Named], whole: Share) -> Shares:
        """Take what has a name off the whole."""
        others = Share(
            held=whole.held - sum(each.held for each in items),
            granted=whole.granted - sum(each.granted for each in items),
            denied=whole.denied - sum(each.denied for each in items),
        )
        return cls(items=items, whole=whole, others=others)


class Changes(Struct, frozen=True, kw_only=True):
    """What a page of events comes to. All of it is written, or nothing."""

    cursor: Cursor
    holds: list[Hold]
    forgotten: list[str]  # ids of holds
    hours: list[Bucket]
    days: list[Bucket]
    steps: dict[tuple[str, int], list[Step]]  # by pool and hour
    shares: dict[ShareKey, Share]  # to be added to what there is
    incidents: list[Refusals]
    policies: list[tuple[str, PolicyAt]]


class UsageKeeper(Protocol):
    """Synchronous; may be called from several threads. Raises the same faults as a store."""

    def cursor(self) -> Cursor | None:
        """Return how far the measures are; None if nothing was measured, or they were lost."""

    def oldest(self, pool_id: str | None = None) -> int | None:
        """Return when the earliest hour begins that is kept, of a pool or of all; None if there is none. Of
        all, it takes a look at every hour."""

    def newest(self) -> int | None:
        """Return when the latest hour begins in which anything was measured; None if there is none. Takes a
        look at every hour."""

    def begin(self, before: Cursor | None, *, since: int) -> bool:
        """Forget measures from the hour of an instant on (shares: from its day, UTC), all holders and all
        policies. Put the cursor at the beginning of the stream. False if the cursor is not `before`."""

    def holds(self, ids: Sequence[str], seats: Sequence[str]) -> list[Hold]:
        """Return holders by their ids, and by their seats."""

    def policies(self, pool_ids: Sequence[str]) -> dict[str, list[PolicyAt]]:
        """Return what policies pools had, the earliest first."""

    def audits(self, *, after: int, limit: int) -> list[Audit]:
        """Read the ledger's audit trail, after an id."""

    def pool_hours(self, pool_id: str, since: int) -> PoolHours:
        """Return the hours of a pool from a day's beginning on: that of the last hour before `since`, or
        of `since` if there is none."""

    def steps(self, pool_id: str, hours: Sequence[int]) -> dict[int, list[Step]]:
        """Return when the level changed within these hours, as far as that is kept; in any order."""

    def latest_incidents(self, pool_ids: Sequence[str]) -> dict[str, Refusals]:
        """Return each pool's last incident."""

    def commit(self, before: Cursor, changes: Changes) -> bool:
        """Write changes down in one step. False, and nothing is written, if the cursor is not `before`."""

    # What is asked

    def span(self, pool_id: str, since: int, until: int, *, by_day: bool) -> Span:
        """Return what is known of a pool from an hour, or a day, on."""

    def open_holds(self, pool_id: str, *, limit: int) -> list[Hold]:
        """Return who holds a pool's seats, as far as was measured."""

    def marks(self, pool_id: str, since: int, until: int) -> list[tuple[int, int, int, int]]:
        """Return, of each hour that has a bucket, when it begins, its last level, its peak, and the
        milliseconds for which seats were held, together; before them, of the last hour before `since`."""

    def shares(
        self, pool_id: str, kind: str, since: int, until: int, *, limit: int = SHARES_MAX
    ) -> Shares:
        """Return who held a pool for the longest, the longest first, from a day's beginning on. Who holds a
        seat still counts until `until`."""

    def incidents(
        self, pool_id: str | None, since: int, until: int, *, limit: int = INCIDENTS_MAX
    ) -> list[Refusals]:
        """Return incidents that began in a stretch of time, the newest first."""


class MeasuredLedger(PlannedLedger, Protocol):
    """A ledger that keeps measures too."""

    @property
    def usage(self) -> UsageKeeper: ...
