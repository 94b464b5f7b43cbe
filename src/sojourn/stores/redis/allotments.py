"""Allotments: what lua/authority.lua is asked, and what its answers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn.allotment import (
    ALLOTMENT_TTL,
    Allotment,
    AllotmentGrant,
    Authority,
    Known,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
    Shares,
    check_ttl,
)
from sojourn.store import LIST_MAX, NO_TTLS, Action
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import to_json, unpack
from sojourn.stores.redis.connection import Verbs


class AllotmentVerbs(Verbs):
    """Verbs of an authority."""

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
        return [self._allot(beat, ttl, ttls) for beat in beats]

    def _allot(self, beat: RelayBeat, ttl: int, ttls: Mapping[str, int]) -> RelayAnswer:
        wishes = [
            (x.pool_id, x.seats, x.fence, x.held, x.want, ttls.get(x.pool_id, ttl))
            for x in beat.wishes
        ]
        asked = [beat.relay, beat.life, beat.number, beat.epoch, wishes]
        epoch, number, refused, grants = unpack(self._db.run(scripts.AUTHORITY, ["allot", asked]))
        return RelayAnswer(
            epoch,
            number,
            tuple(
                AllotmentGrant(pool_id, seats, fence, lasting, None if keep < 0 else keep)
                for pool_id, seats, fence, lasting, keep in grants
            ),
            RelayRefusal(refused) if refused else None,
        )

    def authority(self, pool_ids: Sequence[str] | None = None) -> tuple[Authority, int]:
        names: list[str] | bool = False
        most = LIST_MAX
        if pool_ids is not None:
            named = sorted(set(pool_ids))
            names, most = named, len(named)
        now, epoch, doubt_until, longest, relays, pools = unpack(
            self._db.run(scripts.AUTHORITY, ["authority", [names, most]])
        )
        found = {}
        for pool_id, capacity, overdraft, own, closed, rows in pools:
            found[pool_id] = Shares(
                capacity,
                own,
                allotments={
                    relay: Allotment(seats, fence, until, held, want)
                    for relay, fence, seats, until, held, want in rows
                    if until
                },
                fences={relay: fence for relay, fence, *_ in rows},
                overdraft=overdraft,
                closed=closed,
            )
        known = {name: Known(*each) for name, *each in relays}
        return Authority(found, known, epoch, doubt_until, longest), now

    def begin_epoch(self, action: Action) -> int:
        asked = [action.actor, _data(action)]
        return int(self._db.run(scripts.AUTHORITY, ["begin_epoch", asked]))

    def forget_relay(self, relay: str, action: Action) -> bool:
        asked = [action.actor, _data(action, relay=relay), relay]
        return bool(self._db.run(scripts.AUTHORITY, ["forget_relay", asked]))


def _data(action: Action, **data: str) -> str:
    return to_json({**action.data, "name": action.name, **data}).decode()
