"""The line of a pool: who waits for a seat, in which order, and what that leaves for others. Pure.

`seating` asks it while it decides a batch, under the pool's lock. The rules:
1. The order is that of `Waiting.order`: who has an offer first, then who came first, less `AGEING` for each
   step of priority. So nobody is passed for longer than `PRIORITY_MAX * AGEING`.
2. A free seat belongs to the first entry that needs one, and may have it (see `room`). An entry whose seat
   is held already, by a holder that shares it, needs none; entries that share a seat need one together.
3. Who has no entry gets what is left beyond those claims. Who comes back to a lease of its own goes first.
4. A seat left free for an entry is an offer. It is held for `OFFER_FOR`, then the entry is passed over
   until its holder asks again: it keeps its place, and claims nothing.
5. An entry lives for `WAITING_FOR` after its holder asked last. A dead one claims nothing.

See docs/adr/0036.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.lease import Acquire, Waiting

WAITING_FOR = 15 * SECOND
"""How long an entry lives after its holder has asked, in milliseconds."""
OFFER_FOR = 10 * SECOND
"""How long a free seat is held for the entry that it belongs to, in milliseconds."""
LINE_MAX = 2_000
"""Entries of one pool. Who comes then is denied, and told that the line is full."""

Holder = tuple[str, str]


class Line:
    """One pool's entries, as they are while a batch is decided."""

    def __init__(self, entries: Iterable[Waiting], now: int) -> None:
        self._now = now
        self.entries = {entry.holder: entry for entry in entries if entry.live(now)}
        self.written: dict[Holder, Waiting] = {}
        self.left: dict[Holder, Waiting] = {}  # to be removed before `written` is written
        self._ordered: list[Waiting] | None = None  # once somebody asks

    def __len__(self) -> int:
        return len(self.entries)

    def before(self, request: Acquire) -> Iterator[Waiting]:
        """List those who come before a request and claim a seat, the first first."""
        if not self.entries:
            return
        entry = self.entries.get((request.user_id, request.client_id))
        if entry is None and request.wait:
            entry = self._new(request)
        ordered = self._in_order()
        place = len(ordered) if entry is None else self._place(entry)
        for other in ordered[:place]:
            if not other.passed_over(self._now):
                yield other

    def claiming(self) -> Iterator[Waiting]:
        """List all who claim a seat, the first first."""
        return (entry for entry in self._in_order() if not entry.passed_over(self._now))

    def position(self, entry: Waiting) -> int:
        """Say at which place an entry stands; the first is 1."""
        return self._place(entry) + 1

    def enter(self, request: Acquire, reservation: str | None) -> tuple[Waiting | None, bool]:
        """Put a request into the line, or let it keep its place. Return its entry, None if the line is
        full, and whether that is news."""
        known = self.entries.get((request.user_id, request.client_id))
        if known is None:
            if len(self.entries) >= LINE_MAX:
                return None, True
            entry = replace(self._new(request), reservation=reservation)
            ordered = self._ordered
            if ordered and entry.order(self._now) < ordered[-1].order(self._now):
                self._ordered = None
            elif ordered is not None:
                ordered.append(entry)
            self._write(entry)
            return entry, True
        entry = replace(
            known,
            priority=request.priority,
            reservation=reservation,
            expires_at=self._now + WAITING_FOR,
            offer_until=None if known.passed_over(self._now) else known.offer_until,
        )
        self._change(entry)
        return entry, False

    def leave(self, request: Acquire) -> Waiting | None:
        """Take a holder out of the line; return its entry, if it had one."""
        entry = self.entries.pop((request.user_id, request.client_id), None)
        if entry is not None:
            self.left[entry.holder] = entry
            self.written.pop(entry.holder, None)
            self._ordered = None
        return entry

    def offer(self, holders: Collection[Holder]) -> list[Waiting]:
        """Hold a free seat for each of these; return for whom that is new.

        Other offers are taken back: their seats went to holders that came back to them.
        """
        new: list[Waiting] = []
        for entry in list(self.entries.values()):
            if entry.passed_over(self._now) or (entry.holder in holders) is (
                entry.offer_until is not None
            ):
                continue
            until = self._now + OFFER_FOR if entry.holder in holders else None
            changed = replace(entry, offer_until=until)
            self._change(changed)
            if until is not None:
                new.append(changed)
        return sorted(new, key=lambda entry: entry.since)

    def _new(self, request: Acquire) -> Waiting:
        """Make an entry. It comes after all others, also after those of the same millisecond."""
        latest = max((entry.since for entry in self.entries.values()), default=0)
        return Waiting(
            id="wait_" + request.lease_id.removeprefix("lse_"),
            pool_id=request.pool_id,
            user_id=request.user_id,
            client_id=request.client_id,
            priority=request.priority,
            since=max(self._now, latest + 1),
            expires_at=self._now + WAITING_FOR,
        )

    def _write(self, entry: Waiting) -> None:
        self.entries[entry.holder] = self.written[entry.holder] = entry

    def _change(self, entry: Waiting) -> None:
        """Write another row of an entry, which keeps its place if its order is the same."""
        before = self.entries[entry.holder]
        if self._ordered is not None:
            if before.order(self._now) == entry.order(self._now):
                self._ordered[self._place(before)] = entry
            else:
                self._ordered = None
        self._write(entry)

    def _in_order(self) -> list[Waiting]:
        if self._ordered is None:
            self._ordered = sorted(self.entries.values(), key=lambda entry: entry.order(self._now))
        return self._ordered

    def _place(self, entry: Waiting) -> int:
        """Count those that come before an entry."""
        order = entry.order(self._now)
        return bisect_left(self._in_order(), order, key=lambda each: each.order(self._now))


class Pace:
    """How fast the line of a pool moves, from what its waiters were told. A weighted mean of late."""

    WEIGHT = 0.2  # of each new observation
    SHORTEST = SECOND  # observations over less time say little
    LONGEST = 60 * 60 * SECOND  # what is further away is not told

    def __init__(self) -> None:
        self._rate: float | None = None  # places per millisecond

    def note(self, places: int, elapsed: int) -> None:
        """A waiter has moved on by so many places within so many milliseconds."""
        if elapsed < self.SHORTEST:
            return
        seen = max(0, places) / elapsed
        self._rate = seen if self._rate is None else self._rate + self.WEIGHT * (seen - self._rate)

    def estimate(self, position: int) -> int | None:
        """Say in how many milliseconds it is the turn of a position; None if that cannot be told."""
        if not self._rate:
            return None
        left = round(position / self._rate)
        return left if left <= self.LONGEST else None
