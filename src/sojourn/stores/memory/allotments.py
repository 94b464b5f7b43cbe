"""Allotments in memory: `allotment.hear`, with the seats that are counted under the one lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from sojourn.allotment import (
    ALLOTMENT_TTL,
    Authority,
    RelayAnswer,
    RelayBeat,
    Shares,
    check_ttl,
    counted,
    expire,
    hear,
    plain,
    restored,
    told,
)
from sojourn.clock import Clock
from sojourn.license import Pool
from sojourn.store import LIST_MAX, NO_TTLS, Action, Outage
from sojourn.stores.memory.pool import PoolView
from sojourn.stores.memory.repeats import MemoryRepeats
from sojourn.stores.memory.stream import action_event


class MemoryAllotments(MemoryRepeats):
    _pools: dict[str, Pool]
    _decided_at: dict[str, int]

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        # Its pools are those that relays ever had seats of, as they were when one spoke of them last. They
        # outlive the pools, so that what is allotted of one that was dropped still counts.
        self._authority = Authority()

    def allot(
        self,
        beats: Sequence[RelayBeat],
        *,
        ttl: int = ALLOTMENT_TTL,
        ttls: Mapping[str, int] = NO_TTLS,
    ) -> list[RelayAnswer]:
        for beat in beats:
            beat.check()
        for each in (ttl, *ttls.values()):
            check_ttl(each)
        with self._lock:
            return [self._allot(beat, ttl, ttls) for beat in beats]

    def _allot(self, beat: RelayBeat, ttl: int, ttls: Mapping[str, int]) -> RelayAnswer:
        now = self.now()
        if self._pulse_is_stale(now):
            self._give_grace(now)  # or seats would be given away that are to be given back
        ids = [wish.pool_id for wish in beat.wishes]
        now = max([now, *(self._decided_at.get(pool_id, now) for pool_id in ids)])
        pools, stored = {}, {}
        for wish in beat.wishes:
            pool_id = wish.pool_id
            shares, pool = self._authority.pools.get(pool_id), self._pools.get(pool_id)
            stored[pool_id] = shares = shares or Shares(0)
            if pool is not None:
                shares = expire(shares, now)
                view, lasting = self._view(pool, now), ttls.get(pool_id, ttl)
                renewed = plain(shares, beat, wish)
                pools[pool_id] = counted(view, shares, lasting, renewed=renewed)
            elif shares.fences:
                pools[pool_id] = expire(shares, now).dropped()
        before = replace(self._authority, pools=pools)
        after, answer = hear(before, beat, now)
        self._decided_at |= dict.fromkeys(pools, now)
        used = {name: pool for name, pool in after.pools.items() if pool.fences}
        self._authority = replace(after, pools={**self._authority.pools, **used})
        self._append(told(replace(before, pools=stored), after, now), now)
        return answer

    def authority(self, pool_ids: Sequence[str] | None = None) -> tuple[Authority, int]:
        with self._lock:
            now = self.now()
            if pool_ids is None:
                pool_ids = sorted(self._authority.pools)[:LIST_MAX]
            found = {}
            for pool_id in pool_ids:
                shares = self._authority.pools.get(pool_id)
                pool = self._pools.get(pool_id)
                if pool is not None:
                    at = max(now, self._decided_at.get(pool_id, now))
                    seen = counted(self._view(pool, at), shares or Shares(0), 0)
                    found[pool_id] = replace(seen, kept=0)
                elif shares is not None:
                    found[pool_id] = replace(expire(shares, now).dropped(), kept=0)
            return replace(self._authority, pools=found), now

    def begin_epoch(self, action: Action) -> int:
        with self._lock:
            now = self.now()
            before = self._authority
            self._authority = restored(before, now)
            epoch = self._authority.epoch
            events = told(before, self._authority, now)
            self._append([*events, action_event(action, epoch=epoch)], now)
            return epoch

    def forget_relay(self, relay: str, action: Action) -> bool:
        with self._lock:
            relays = dict(self._authority.relays)
            known = relays.pop(relay, None)
            self._authority = replace(self._authority, relays=relays)
            event = action_event(action, relay=relay, known=known is not None)
            self._append([event], self.now())
            return known is not None

    def _forget_allotments(self, pool_id: str) -> None:
        pools = {name: pool for name, pool in self._authority.pools.items() if name != pool_id}
        self._authority = replace(self._authority, pools=pools)

    def _allotted(self, pool_id: str, now: int) -> int:
        """Count the seats of a pool that relays may grant."""
        shares = self._authority.pools.get(pool_id)
        return 0 if shares is None else expire(shares, now).allotted

    def _doubtful(self, pool_id: str, now: int) -> bool:
        """Tell whether they may hold more than that."""
        return pool_id in self._authority.pools and self._authority.doubts(now)

    # The store knows these, which holds sessions and seats alike.

    def _view(self, pool: Pool, now: int) -> PoolView:
        raise NotImplementedError

    def _pulse_is_stale(self, now: int) -> bool:
        raise NotImplementedError

    def _give_grace(self, now: int) -> Outage:
        raise NotImplementedError
