"""Who may have held a seat of a pool, and when: the most that what clients saw allows."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from tests.promises.case import Case
from tests.promises.grants import Grant, Ledger
from tests.promises.history import Record

Span = tuple[float, float]


class Possible:
    """The number of holders that may have held at each moment, as steps."""

    def __init__(self, case: Case, ledger: Ledger) -> None:
        self._case, self._ledger = case, ledger
        spans: dict[str, list[Span]] = defaultdict(list)
        self._of: list[tuple[float, float, Record]] = []
        for grant in ledger.grants:
            end = self._end(grant)
            spans[grant.holder].append((grant.sent, end))
            self._of.append((grant.sent, end, grant.record))
        for holder, acquires in ledger.acquires.items():
            for number, record in enumerate(acquires):
                if case.doubtful(record):
                    end = self._end_of_doubt(holder, record, acquires[number + 1 :])
                    spans[holder].append((record.sent, end))
                    self._of.append((record.sent, end, record))
        edges: list[tuple[float, int]] = []
        for own in spans.values():
            for start, end in _merged(own):
                edges += [(start, 1), (end, -1)]
        edges.sort(key=lambda edge: (edge[0], -edge[1]))
        self._times, self._counts = [0.0], [0]
        for at, step in edges:
            self._times.append(at)
            self._counts.append(self._counts[-1] + step)

    def most(self, start: float, end: float) -> int:
        """Return how many may have held at once at some moment of a time."""
        first = bisect_right(self._times, start) - 1
        last = bisect_right(self._times, end) - 1
        return max(self._counts[first : last + 1])

    def holders(self, at: float) -> list[Record]:
        """List what makes somebody a possible holder at a moment: evidence."""
        return [record for start, end, record in self._of if start <= at <= end][:10]

    def _end(self, grant: Grant) -> float:
        """Say when a grant was over at the latest."""
        case, pool = self._case, self._ledger.pool
        since, life = grant.done, pool.patience
        over = float("inf")
        for beat in grant.beats:
            if beat.status == 200 or case.doubtful(beat):
                since, life = max(since, case.until(beat)), pool.patience
                if beat.ask.get("bye") and beat.status == 200:
                    life = min(pool.linger, pool.patience)
            elif beat.status == 410:
                over = min(over, beat.closed)
        over = min([over, *(r.closed for r in grant.releases if r.fine)])
        for other in self._ledger.acquires[grant.holder]:
            if other.sent > grant.done and other.status in (201, 409):
                over = min(over, other.closed)
                break
        return min(over, case.extended(since, life, pool.lost_after))

    def _end_of_doubt(self, holder: str, record: Record, later: list[Record]) -> float:
        """Say when a seat that may have been granted without an answer was over at the latest."""
        case, pool = self._case, self._ledger.pool
        until = case.until(record)
        over = case.extended(until, pool.patience, pool.lost_after)
        for other in later:
            if other.sent > until and other.status in (201, 409):
                over = min(over, other.closed)
                break
        for grant in self._ledger.by_holder[holder]:
            for release in grant.releases:
                if release.said.get("rel") is True and release.sent > until:
                    over = min(over, release.closed)
        return over


def _merged(spans: list[Span]) -> list[Span]:
    """Join the spans of one holder, who has one seat however often it asked."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged
