"""Carries the events of a store that is not in the ledger's database into the ledger, each once.

The ledger says how far it has them, and takes the next ones in one step, by their ids: so whichever
side is killed, and however many servers record at once, ledger and stream agree. Where a server was
replaced by one that may lack something, the ledger says what: sessions that had ended end again, and
the seats of leases that are missing are kept for a while for those who held them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sojourn.clock import MINUTE
from sojourn.errors import StoreError
from sojourn.event import Event, EventKind
from sojourn.lease import LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import Pool
from sojourn.log import get_logger
from sojourn.store import LIST_MAX, Action, Attached, Held, Lag, Recorded, Sizes, Store

PAGE = 1_000
PAGES_MAX = 100
"""A run ends after so many pages; what is left waits for the next one."""
REPLAYED = 10 * MINUTE
"""How far back ends are looked at that a replaced server may have lost."""
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


def held_in(ledger: Ledger, pool_id: str) -> dict[str, int]:
    """Replay a pool's history: which leases are held, under which fence."""
    held: dict[str, int] = {}
    for event in history(ledger, pool_id=pool_id):
        if event.kind in GRANTS:
            held[str(event.subject)] = int(event.data["fence"])
        elif event.kind in ENDS:
            held.pop(str(event.subject), None)
    return held


log = get_logger(__name__)


class LedgerRecorder:
    """Safe side by side, in any number of processes; one thread each."""

    def __init__(self, store: Store, live: Recorded, ledger: Ledger) -> None:
        self._store = store
        self._live = live
        self._ledger = ledger
        self._epoch: tuple[str, int] | None = None
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
            self._notice(attached)
            page = self._store.events(after=mark, limit=PAGE)
            self._measure(attached, mark, page)
            if not page:
                break
            if self._live.attach(name, mark).name != attached.name:
                continue  # it was emptied meanwhile: these ids are of another stream
            if self._ledger.append(page, after=mark):
                done += len(page)
                self._live.recorded(page[-1].id)
                self.lag = Lag()
            if len(page) < PAGE:
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

    def _notice(self, attached: Attached) -> None:
        """See whether the store's server was replaced, and make good what the ledger knows of."""
        epoch = (attached.name, attached.epoch)
        if self._epoch == epoch:
            return
        if attached.doubtful_until > self._store.now():
            held = self._live.hold(self._held())
            ended = self._end_again()
            log.warning("store_replaced", epoch=attached.epoch, held=held, ended=ended)
        self._epoch = epoch

    def _held(self) -> list[Held]:
        """List by pool what the ledger knows as held; the store says which of it it has."""
        return [
            Held(pool.id, pool.policy.lost_after, tuple(held))
            for pool in pools(self._ledger)
            if (held := held_in(self._ledger, pool.id))
        ]

    def _end_again(self) -> int:
        """End sessions and leases whose end the ledger has, and the store has forgotten."""
        since = self._store.now() - REPLAYED
        _, mark = self._ledger.mark()
        sessions: dict[tuple[str, str | None], list[str]] = {}
        leases: list[str] = []
        for event in self._recent(mark, since):
            subject = str(event.subject)
            if event.kind is EventKind.SESSION_ENDED:
                said = (str(event.data.get("reason", "ended")), event.actor)
                sessions.setdefault(said, []).append(subject)
            elif event.kind in ENDS:
                leases.append(subject)
        ended = 0
        for (reason, actor), ids in sessions.items():
            ended += len(self._store.end(ids=ids, reason=reason, actor=actor))
        return ended + self._end_leases(leases)

    def _recent(self, mark: int, since: int) -> Iterator[Event]:
        after = max(0, mark - PAGE)
        while after > 0:  # find a place before `since`
            first = self._ledger.history(after=after, limit=1)
            if not first or first[0].at < since:
                break
            after = max(0, after - 10 * PAGE)
        return (event for event in history(self._ledger, after=after) if event.at >= since)

    def _end_leases(self, ids: list[str]) -> int:
        ended = 0
        for start in range(0, len(ids), LIST_MAX):
            which = LeaseFilter(ids=tuple(ids[start : start + LIST_MAX]))
            live, _ = self._store.leases(which, limit=LIST_MAX)
            held = {pool: held_in(self._ledger, pool) for pool in {x.pool_id for x in live}}
            gone = tuple(x.id for x in live if x.id not in held[x.pool_id])
            if gone:
                action = Action(actor=ACTOR, name="end_again")
                ended += len(self._store.revoke(LeaseFilter(ids=gone), action))
        return ended
