"""What a relay reports of its stream: how often seats were granted and refused, by pool and day."""

from __future__ import annotations

from sojourn.clock import DAY
from sojourn.event import OWN_LICENSES, Event, EventKind
from sojourn.license import split_pool_id
from sojourn.relay_command import COUNTS_MAX, RegionCount, RegionReport
from sojourn.store import LIST_MAX, Store

PAGES_MAX = 10
"""Pages of events that one report counts; the others go with the next beats."""
SILENT_MAX = 500
"""Events that say nothing of seats, after which a report says that they were read."""
GRANTED = frozenset({EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED})
ENDED = frozenset(
    {
        EventKind.LEASE_RELEASED,
        EventKind.LEASE_EVICTED,
        EventKind.LEASE_REVOKED,
        EventKind.LEASE_EXPIRED,
    }
)
KINDS = sorted({*GRANTED, *ENDED, EventKind.LEASE_DENIED})


def report_since(store: Store, after: int) -> RegionReport | None:
    """Count what has happened after an event. None: nothing that is worth a report."""
    latest = store.events(limit=1, newest_first=True)
    last = latest[0].id if latest else 0  # whatever has an id up to this one is there to be read
    if last < after:
        return RegionReport(after=after, up_to=last)  # this store was put back
    counts: dict[tuple[str, int], list[int]] = {}
    read = after
    for _ in range(PAGES_MAX):
        page = store.events(after=read, limit=LIST_MAX, kinds=KINDS)
        for event in page:
            _count(counts, event)
        read = page[-1].id if page else read
        if len(page) < LIST_MAX:
            read = max(read, last)
            break
        if len(counts) >= COUNTS_MAX // 2:
            break
    if not counts and read - after < SILENT_MAX:
        return None
    found = tuple(
        RegionCount(pool_id=pool, day=day, granted=n[0], denied=n[1], ended=n[2])
        for (pool, day), n in sorted(counts.items())
    )
    return RegionReport(after=after, up_to=read, counts=found)


def _count(counts: dict[tuple[str, int], list[int]], event: Event) -> None:
    pool = event.pool_id
    if pool is None or split_pool_id(pool)[0] in OWN_LICENSES:
        return
    place = 0 if event.kind in GRANTED else 2 if event.kind in ENDED else 1
    if place == 1 and event.data.get("reason") != "seat_limit":
        return
    counts.setdefault((pool, event.at // DAY * DAY), [0, 0, 0])[place] += 1
