"""The judge: replays the event stream, knowing nothing of how the decisions were made.

Events are in commit order, so the number of seats held after each of them is the number in that
committed state. A lease that fell silent counts until its end is noted, so where leases may expire
during the run, judge with thresholds that outlast it.
"""

from __future__ import annotations

from msgspec import Struct

from sojourn.event import EventKind
from sojourn.store import Store

PAGE = 1_000
GRANTS = frozenset({EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED, EventKind.LEASE_TAKEN_OVER})
ENDS = frozenset(
    {
        EventKind.LEASE_RELEASED,
        EventKind.LEASE_EVICTED,
        EventKind.LEASE_EXPIRED,
        EventKind.LEASE_REVOKED,
    }
)


class Verdict(Struct, frozen=True, kw_only=True):
    """What the stream of one pool shows."""

    grants: int
    denials: int
    most_held: int
    over_grants: int  # grants after which more seats were held than the capacity
    fences_out_of_order: int
    held: dict[str, int]  # lease id -> fence, at the end
    granted: frozenset[tuple[str, int]]  # every (lease id, fence) ever granted


def replay(store: Store, pool_id: str, capacity: int) -> Verdict:
    """Read a pool's stream from its beginning and judge it."""
    held: dict[str, int] = {}
    granted: set[tuple[str, int]] = set()
    grants = denials = over = disorder = most = last_fence = after = 0
    while events := store.events(after=after, limit=PAGE, pool_id=pool_id):
        for event in events:
            subject = str(event.subject)
            if event.kind in GRANTS:
                fence = event.data["fence"]
                held[subject] = fence
                granted.add((subject, fence))
                grants += 1
                over += len(held) > capacity
                most = max(most, len(held))
                disorder += fence <= last_fence
                last_fence = fence
            elif event.kind in ENDS:
                held.pop(subject, None)
            elif event.kind is EventKind.LEASE_DENIED:
                denials += 1
        after = events[-1].id
    return Verdict(
        grants=grants,
        denials=denials,
        most_held=most,
        over_grants=over,
        fences_out_of_order=disorder,
        held=held,
        granted=frozenset(granted),
    )
