"""How much happens in each hour: told by the ids of events, which are given without a gap.

So an hour's count is the difference of two ids, and a week costs some thousand look-ups of one row rather
than a reading of everything that happened.
"""

from __future__ import annotations

from sojourn.clock import HOUR
from sojourn.store import Store

HOURS = 7 * 24


def hourly_counts(store: Store, *, hours: int = HOURS) -> dict[int, int]:
    """Return how many events each of the last whole hours had, by the instant (ms) at which it began.
    Hours that lie before the oldest event the store remembers are left out."""
    oldest, newest = store.events(limit=1), store.events(limit=1, newest_first=True)
    if not oldest or not newest:
        return {}
    last = store.now() // HOUR * HOUR
    first = max(last - hours * HOUR, -(-oldest[0].at // HOUR) * HOUR)
    counts: dict[int, int] = {}
    low = oldest[0].id
    for began in range(first, last + HOUR, HOUR):
        found = _first_since(store, began, low, newest[0].id + 1)
        if began > first:
            counts[began - HOUR] = found - low
        low = found
    return counts


def _first_since(store: Store, instant: int, low: int, high: int) -> int:
    """Return the id of the first event at or after an instant, which lies between two ids."""
    while low < high:
        middle = (low + high) // 2
        event = next(iter(store.events(after=middle - 1, limit=1)), None)
        if event is None or event.at >= instant:
            high = middle
        else:
            low = event.id + 1
    return low
