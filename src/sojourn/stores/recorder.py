"""Carries the events of a store that is not in the ledger's database into the ledger, each once.

The ledger says how far it has them, and takes the next ones in one step, by their ids: so whichever
side is killed, and however many servers record at once, ledger and stream agree. Where a server was
replaced by one that may lack something, the ledger, once it has all that there is, says what: leases get
the fences back that they had, the seats of those that are missing are kept for a while for those who held
them, and sessions and leases that had ended end again. All of it goes by fences: what was granted or
resumed meanwhile is not touched.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

from sojourn.clock import MINUTE
from sojourn.errors import StoreError
from sojourn.event import Event, EventKind
from sojourn.lease import EndReason
from sojourn.ledger import Ledger
from sojourn.license import Pool
from sojourn.log import get_logger
from sojourn.store import (
    Action,
    Attached,
    Ended,
    Held,
    HeldLease,
    Known,
    Lag,
    Recorded,
    Sizes,
    Store,
)

PAGE = 1_000
PAGES_MAX = 100
"""A run ends after so many pages; what is left waits for the next one."""
REPLAYED = 10 * MINUTE
"""How far back ends are looked at where a store cannot say which events it has lost."""
WEIGHED = 60.0  # seconds
ACTOR = "system:recorder"

GRANTS = frozenset({EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED, EventKind.LEASE_TAKEN_OVER})
ENDS = frozenset(
    {
        *(EventKind.LEASE_RELEASED, EventKind.LEASE_EVICTED, EventKind.LEASE_REVOKED),
        EventKind.LEASE_EXPIRED,
    }
)


def pools(ledger: Ledger) -> Iterator[Pool]:
    """List every pool that a license opens."""
    after: str | None = None
    while page := ledger.pools(after=after):
        yield from page
        after = page[-1].id


def history(ledger: Ledger, *, pool_id: str | None = None, after: int = 0) -> Iterator[Event]:
    """Read everything that was recorded, page by page."""
    while page := ledger.history(after=after, pool_id=pool_id):
        yield from page
        after = page[-1].id


class Holders:
    """Follows a stream: which leases are held, under which fence. A holder has one lease of a pool: the
    one before it is over, even where a store that has lost it could not say so."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.highest = 0  # fence of all grants
        self._by_holder: dict[tuple[str | None, str | None], str] = {}

    def follow(self, event: Event) -> None:
        """Take in the next event of the pool."""
        lease_id, holder = str(event.subject), (event.user_id, event.client_id)
        if event.kind in GRANTS:
            before = self._by_holder.get(holder, lease_id)
            if before != lease_id:
                self.held.pop(before, None)
            self._by_holder[holder] = lease_id
            self.held[lease_id] = fence = int(event.data["fence"])
            self.highest = max(self.highest, fence)
        elif event.kind in ENDS:
            self.held.pop(lease_id, None)
            if self._by_holder.get(holder) == lease_id:
                del self._by_holder[holder]

    def leases(self) -> Iterator[HeldLease]:
        """List what is held, and by whom."""
        for (user_id, client_id), lease_id in self._by_holder.items():
            if lease_id in self.held:
                yield HeldLease(lease_id, self.held[lease_id], str(user_id), str(client_id))


def held_in(ledger: Ledger, pool_id: str) -> Holders:
    """Replay a pool's history."""
    holders = Holders()
    for event in history(ledger, pool_id=pool_id):
        holders.follow(event)
    return holders


def end_of(event: Event) -> Ended | None:
    """Read the end of a lease; None where the event says no fence, as older ones of lost leases do."""
    fence = event.data.get("fence")
    if event.pool_id is None or fence is None:
        return None
    reason = EndReason(str(event.data.get("reason", EndReason.REVOKED.value)))
    return Ended(Known(event.pool_id, str(event.subject), int(fence)), reason)


def _known_of(pool: Pool, holders: Holders) -> Iterator[Held]:
    if holders.highest:
        yield Held(pool.id, pool.policy.lost_after, holders.highest, tuple(holders.leases()))


log = get_logger(__name__)


class LedgerRecorder:
    """Safe side by side, in any number of processes; one thread each."""

    def __init__(self, store: Store, live: Recorded, ledger: Ledger) -> None:
        self._store = store
        self._live = live
        self._ledger = ledger
        self._sized_at: float | None = None
        self.lag = Lag()
        self.sizes = Sizes()

    def run(self) -> int:
        """Carry what there is, or as much as one run may. Return how many events."""
        done = 0
        self._weigh()
        for _ in range(PAGES_MAX):
            name, mark = self._ledger.mark()
            attached = self._live.attach(name, mark)
            page = self._store.events(after=mark, limit=PAGE)
            self._measure(attached, mark, page)
            if page and self._live.attach(name, mark).name != attached.name:
                continue  # it was emptied meanwhile: these ids are of another stream
            if page and self._ledger.append(page, after=mark):
                done += len(page)
                self._live.recorded(page[-1].id)
                self.lag = Lag()
            if len(page) < PAGE:
                self._make_good(attached)  # now that the ledger has all that the store has
                break
        return done

    def _weigh(self) -> None:
        """Once a minute: nobody needs to know it sooner. Who may not ask is not kept from recording."""
        if self._sized_at is None or time.monotonic() - self._sized_at > WEIGHED:
            self._sized_at = time.monotonic()
            with contextlib.suppress(StoreError):
                self.sizes = self._live.sizes()

    def _measure(self, attached: Attached, mark: int, page: list[Event]) -> None:
        behind = len(page) if len(page) < PAGE else max(PAGE, attached.last_event_id - mark)
        age = max(0, self._store.now() - page[0].at) if page else 0
        self.lag = Lag(behind, age)

    def _make_good(self, attached: Attached) -> None:
        """If the store may have lost something, tell it what the ledger knows of that."""
        if attached.settled:
            return
        intact = attached.intact_until
        held = sum(self._live.hold([each]) for each in self._held(intact))
        ended = self._end_again(intact) + self._end_rotated(intact)
        self._live.settle(attached.epoch)
        log.warning("store_replaced", epoch=attached.epoch, held=held, ended=ended)

    def _held(self, intact: int) -> Iterator[Held]:
        """List by pool what was granted after an event and is held, and the pool's highest fence."""
        if not intact:
            for pool in pools(self._ledger):
                yield from _known_of(pool, held_in(self._ledger, pool.id))
            return
        holders: dict[str | None, Holders] = {}
        for event in history(self._ledger, after=intact):
            holders.setdefault(event.pool_id, Holders()).follow(event)
        for pool in pools(self._ledger):
            yield from _known_of(pool, holders.get(pool.id, Holders()))

    def _end_again(self, intact: int) -> int:
        """End sessions and leases whose end the ledger has, and the store has forgotten."""
        done = 0
        lost = history(self._ledger, after=intact) if intact else self._recent()
        while page := list(itertools.islice(lost, PAGE)):
            sessions: dict[tuple[str, str | None], list[str]] = {}
            leases: list[Ended] = []
            for event in page:
                if event.kind is EventKind.SESSION_ENDED:
                    said = (str(event.data.get("reason", "ended")), event.actor)
                    sessions.setdefault(said, []).append(str(event.subject))
                elif event.kind in ENDS and (end := end_of(event)) is not None:
                    leases.append(end)
            for (reason, actor), ids in sessions.items():
                done += len(self._store.end(ids=ids, reason=reason, actor=actor))
            if leases:
                done += self._live.end_again(leases, Action(actor=ACTOR, name="end_again"))
        return done

    def _end_rotated(self, intact: int) -> int:
        """End sessions whose last rotation was lost: the token that their holders have is not known there,
        and the one that was refused is."""
        rotated: set[str] = set()
        lost: set[str] = set()
        for event in history(self._ledger, after=intact) if intact else ():
            if event.kind is EventKind.SESSION_ROTATED:
                rotated.add(str(event.subject))
            elif event.kind is EventKind.STORE_REPLACED:
                lost = rotated.copy()  # what comes after it is there
        ids, done = sorted(lost), 0
        for start in range(0, len(ids), PAGE):
            piece = ids[start : start + PAGE]
            done += len(self._store.end(ids=piece, reason="rotation_lost", actor=ACTOR))
        return done

    def _recent(self) -> Iterator[Event]:
        since = self._store.now() - REPLAYED
        _, mark = self._ledger.mark()
        after = max(0, mark - PAGE)
        while after > 0:  # find a place before `since`
            first = self._ledger.history(after=after, limit=1)
            if not first or first[0].at < since:
                break
            after = max(0, after - 10 * PAGE)
        return (event for event in history(self._ledger, after=after) if event.at >= since)
