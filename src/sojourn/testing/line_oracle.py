"""A second opinion on who was to be served: follows one batch of acquires, event by event.

It knows who stood in the line before the batch, what came out, and who holds a seat (see `oracle`). From
that it says, of each grant and each denial, whether it was its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, Lease, Waiting, seat_key
from sojourn.testing.oracle import ENDS, Oracle

STEP = 30_000
"""Milliseconds of waiting that one step of priority weighs as much as."""

LAST = (True, 2**63, 2**63)


class LineOracle:
    def __init__(
        self,
        oracle: Oracle,
        now: int,
        lines: Mapping[str, Sequence[Waiting]],
        batch: Sequence[Acquire],
        answers: Sequence[Lease | Denied],
    ) -> None:
        self.oracle = oracle
        self.now = now
        self.lines = {
            pool: {entry.holder: entry for entry in line if entry.expires_at > now}
            for pool, line in lines.items()
        }
        self.asked = {(x.pool_id, x.user_id, x.client_id) for x in batch}
        self.would_wait = {(x.pool_id, x.user_id, x.client_id): x.priority for x in batch if x.wait}
        self.back = {(x.pool_id, x.user_id, x.client_id) for x in batch if x.resume is not None}
        self.moved: set[tuple[str | None, str | None]] = set()  # whose own seat was just given up
        self.entries = {
            answer.entry.id: answer.entry
            for answer in answers
            if isinstance(answer, Denied) and answer.entry is not None
        }

    def read(self, events: Sequence[Event]) -> None:
        """Follow the batch, and judge each step by what was so before it."""
        for event in events:
            pool_id = str(event.pool_id)
            if pool_id in self.oracle.pools:
                self._judge(event, pool_id)
            self.oracle.read([event])

    def offers(self, pool_id: str, line: Sequence[Waiting]) -> None:
        """Each free seat is held for somebody who needs one, and none that is not free."""
        offered = sum(entry.offered(self.now) for entry in line)
        able = [x for x in line if x.offer_until is None or x.offer_until > self.now]
        needed = {self._key(pool_id, x.holder) for x in able} - self._held(pool_id)
        free = max(0, self._free(pool_id))
        if self.oracle.doubtful(pool_id, self.now):
            free = 0
        if self.oracle.pools[pool_id].policy.reservations:
            assert offered <= free, f"{pool_id}: {line}"
        else:
            assert offered == min(free, len(needed)), f"{pool_id}: {line}"

    def _judge(self, event: Event, pool_id: str) -> None:
        holder = (str(event.user_id), str(event.client_id))
        line = self.lines.setdefault(pool_id, {})
        if event.kind in (EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED):
            self._granted(event.kind, pool_id, holder)
            line.pop(holder, None)
        elif event.kind is EventKind.LEASE_TAKEN_OVER:
            line.pop(holder, None)
        elif event.kind in ENDS and event.data["reason"] == "moved":
            self.moved.add((pool_id, event.user_id))
        elif event.kind in (EventKind.LEASE_DENIED, EventKind.LEASE_WAITING):
            if event.data["reason"] != "seat_limit":
                line.pop(holder, None)
                return
            waits = event.kind is EventKind.LEASE_WAITING
            claims = self._ahead(pool_id, holder, late=True, waits=waits)
            reserved = self.oracle.standing(pool_id, self.now).unused
            kept = claims + sum(reserved)
            unclaimed = self._free(pool_id) > kept and not self.oracle.doubtful(pool_id, self.now)
            assert not unclaimed, f"{holder} was refused a seat that nobody claims"
            if waits:
                assert holder not in line, f"{holder} began to wait twice"
                line[holder] = self.entries[str(event.subject)]

    def _granted(self, kind: EventKind, pool_id: str, holder: tuple[str, str]) -> None:
        if self._key(pool_id, holder) in self._held(pool_id):
            return  # shared
        if (pool_id, holder[0]) in self.moved:
            self.moved.discard((pool_id, holder[0]))
            return
        own = kind is EventKind.LEASE_RESUMED or (pool_id, *holder) in self.back
        ahead = 0 if own else self._ahead(pool_id, holder, late=False)
        free = self._free(pool_id)
        if self.oracle.pools[pool_id].policy.reservations:
            assert free > 0, f"{holder} was served a seat that there is not"
        else:
            assert free > ahead, f"{holder} was served before its turn"

    def _ahead(
        self, pool_id: str, holder: tuple[str, str], *, late: bool, waits: bool = True
    ) -> int:
        """Count the seats that those before a holder claim: with `late`, also those who missed an offer,
        and have asked again in this batch. `waits`: it may have asked to wait, if it did so in this batch;
        who asks twice may do so once with that and once without."""
        line = self.lines.setdefault(pool_id, {})
        mine = self._rank(line[holder]) if holder in line else LAST
        priority = self.would_wait.get((pool_id, *holder))
        if (
            holder not in line and waits and priority is not None
        ):  # after all who came before, and as they do
            since = max([self.now, *(entry.since + 1 for entry in line.values())])
            mine = (True, since - STEP * priority, since)
        before = [entry for entry in line.values() if self._rank(entry) < mine]
        claiming = {
            self._key(pool_id, entry.holder)
            for entry in before
            if entry.offer_until is None
            or entry.offer_until > self.now
            or (late and (pool_id, *entry.holder) in self.asked)
        }
        return len(claiming - self._held(pool_id) - {self._key(pool_id, holder)})

    def _rank(self, entry: Waiting) -> tuple[bool, int, int]:
        offered = entry.offer_until is not None and entry.offer_until > self.now
        return (not offered, entry.since - STEP * entry.priority, entry.since)

    def _free(self, pool_id: str) -> int:
        most = self.oracle.pools[pool_id].policy.most
        return most - self.oracle.standing(pool_id, self.now).out

    def _key(self, pool_id: str, holder: tuple[str, str]) -> str:
        return seat_key(self.oracle.pools[pool_id].policy.count_by, *holder)

    def _held(self, pool_id: str) -> set[str]:
        return {
            self._key(pool_id, (held.user_id, held.client_id))
            for held in self.oracle.held.values()
            if held.pool_id == pool_id and held.expires_at > self.now
        }
