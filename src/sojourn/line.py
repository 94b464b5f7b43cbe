"""The line of a pool: who waits for a seat, in which order, and what that leaves for others. Pure.

`seating` asks it while it decides a batch, under the pool's lock. The rules:
1. The order is that of `Waiting.order`: who has an offer first, then who came first, less `AGEING` for each
   step of priority. So nobody is passed for longer than `PRIORITY_MAX * AGEING`.
2. A free seat belongs to the first entry that needs one. An entry whose seat is held already, by a holder
   that shares it, needs none; entries that share a seat need one together.
3. Who has no entry gets what is left beyond those claims. Who comes back to a lease of its own goes first.
4. A seat left free for an entry is an offer. It is held for `OFFER_FOR`, then the entry is passed over
   until its holder asks again: it keeps its place, and claims nothing.
5. An entry lives for `WAITING_FOR` after its holder asked last. A dead one claims nothing.

See docs/adr/0036.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Waiting, seat_key
from sojourn.license import CountBy

WAITING_FOR = 15 * SECOND
"""How long an entry lives after its holder has asked, in milliseconds."""
OFFER_FOR = 10 * SECOND
"""How long a free seat is held for the entry that it belongs to, in milliseconds."""
LINE_MAX = 2_000
"""Entries of one pool. Who comes then is denied, and told that the line is full."""

Holder = tuple[str, str]


class Line:
    """One pool's entries, as they are while a batch is decided.

    `held` tells whether a seat, by its key, is held already.
    """

    def __init__(
        self,
        entries: Iterable[Waiting],
        now: int,
        count_by: CountBy,
        held: Callable[[str], bool],
    ) -> None:
        self._now = now
        self._key = partial(seat_key, count_by)
        self._held = held
        self.entries = {entry.holder: entry for entry in entries if entry.live(now)}
        self.written: dict[Holder, Waiting] = {}
        self.left: dict[Holder, Waiting] = {}  # to be removed before `written` is written
        # In order, once somebody asks: each entry's order, and how many seats those before it claim.
        self._orders: list[tuple[bool, int, int, str]] | None = None
        self._claimed: list[int] = []
        self._first: dict[str, int] = {}  # seat key: the place of the first who claims it

    def __len__(self) -> int:
        return len(self.entries)

    def keys(self) -> set[str]:
        """Name the seats that the entries would use."""
        return {self._key(*holder) for holder in self.entries}

    def seat_changed(self) -> None:
        """Note that a seat which entries may share has been taken or given up."""
        self._orders = None

    def ahead(self, request: Acquire) -> int:
        """Count the free seats that belong to others before this request may have one."""
        if not self.entries:
            return 0
        holder = (request.user_id, request.client_id)
        entry = self.entries.get(holder)
        if entry is None and request.wait:
            entry = self._new(request)
        self._read()
        assert self._orders is not None  # just read
        place = len(self._orders)
        if entry is not None:
            place = bisect_left(self._orders, entry.order(self._now))
        own = self._first.get(self._key(*holder), place) < place
        return self._claimed[place] - own

    def position(self, entry: Waiting) -> int:
        """Say at which place an entry stands; the first is 1."""
        self._read()
        assert self._orders is not None  # just read
        return bisect_left(self._orders, entry.order(self._now)) + 1

    def enter(self, request: Acquire) -> tuple[Waiting | None, bool]:
        """Put a request into the line, or let it keep its place. Return its entry, None if the line is
        full, and whether that is news."""
        known = self.entries.get((request.user_id, request.client_id))
        if known is None:
            if len(self.entries) >= LINE_MAX:
                return None, True
            entry = self._new(request)
            self._append(entry)
            self._write(entry)
            return entry, True
        over = known.passed_over(self._now)
        entry = replace(
            known,
            priority=request.priority,
            expires_at=self._now + WAITING_FOR,
            offer_until=None if over else known.offer_until,
        )
        if over or entry.priority != known.priority:
            self._orders = None
        self._write(entry)
        return entry, False

    def leave(self, request: Acquire) -> Waiting | None:
        """Take a holder out of the line; return its entry, if it had one."""
        entry = self.entries.pop((request.user_id, request.client_id), None)
        if entry is not None:
            self.left[entry.holder] = entry
            self.written.pop(entry.holder, None)
            self._orders = None
        return entry

    def offer(self, free: int) -> list[Waiting]:
        """Give so many free seats to the first who need one; return to whom that is new.

        What was offered beyond that is taken back: its seat went to a holder that came back to it.
        """
        new: list[Waiting] = []
        keys: set[str] = set()
        for entry in sorted(self.entries.values(), key=lambda entry: entry.order(self._now)):
            if entry.passed_over(self._now):
                continue
            if entry.offer_until is None and len(keys) >= free:
                break  # those with an offer come first
            key = self._key(*entry.holder)
            if self._held(key) or key in keys or len(keys) >= free:
                if entry.offer_until is not None:
                    self._write(replace(entry, offer_until=None))
                continue
            keys.add(key)
            if entry.offer_until is None:
                new.append(replace(entry, offer_until=self._now + OFFER_FOR))
                self._write(new[-1])
        return new

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

    def _read(self) -> None:
        """Put the entries in order, unless they are."""
        if self._orders is None:
            self._orders, self._claimed, self._first = [], [0], {}
            for entry in sorted(self.entries.values(), key=lambda entry: entry.order(self._now)):
                self._append(entry)

    def _append(self, entry: Waiting) -> None:
        """Add an entry to those that are in order, if it comes last."""
        if self._orders is None:
            return
        order = entry.order(self._now)
        if self._orders and order < self._orders[-1]:
            self._orders = None
            return
        key = self._key(*entry.holder)
        claims = not (entry.passed_over(self._now) or key in self._first or self._held(key))
        if claims:
            self._first[key] = len(self._orders)
        self._orders.append(order)
        self._claimed.append(self._claimed[-1] + claims)


def offer_event(entry: Waiting, now: int) -> Event:
    """Record for whom a free seat is held."""
    return Event(
        kind=EventKind.LEASE_OFFERED,
        pool_id=entry.pool_id,
        subject=entry.id,
        user_id=entry.user_id,
        client_id=entry.client_id,
        data={"waited": max(0, now - entry.since), "offerFor": OFFER_FOR},
    )


def denial_event(request: Acquire, denied: Denied) -> Event:
    """Record a denial with its proof: each named holder's last beat, as milliseconds before the denial.
    Of a request that was put into the line, that is its beginning to wait."""
    line: dict[str, int | bool] = {"line": denied.waiting} if denied.waiting else {}
    if denied.entry is not None:
        line["position"] = denied.position
    elif denied.line_full:
        line["lineFull"] = True
    return Event(
        kind=EventKind.LEASE_DENIED if denied.entry is None else EventKind.LEASE_WAITING,
        pool_id=request.pool_id,
        subject=None if denied.entry is None else denied.entry.id,
        user_id=request.user_id,
        client_id=request.client_id,
        data={
            "reason": denied.reason.value,
            "limit": denied.limit,
            "inUse": denied.in_use,
            "suspect": denied.suspect,
            "retryAfter": denied.retry_after,
            "holders": [
                {
                    "leaseId": lease.id,
                    "userId": lease.user_id,
                    "clientId": lease.client_id,
                    "lastBeatAgo": max(0, denied.at - lease.last_beat_at),
                    "expiresIn": lease.expires_at - denied.at,
                }
                for lease in denied.evidence
            ],
            **line,
        },
    )


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
