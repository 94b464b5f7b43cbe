"""More is asked than can be served: nobody who lives loses a seat by it, and none is granted too many."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sojourn.clock import ManualClock
from sojourn.errors import Overloaded
from sojourn.lease import Denied, Lease, Release, Renew, Renewal
from sojourn.service.batcher import Batcher
from sojourn.store import Store
from sojourn.testing.builders import acquire, look_up, pool, take, usage
from sojourn.testing.contract.base import OnManualClock

LIVING = 20
CAPACITY = LIVING + 3
QUEUE_MAX = 50
FLOOD = 200  # acquires at once: four times what the queue takes
BEAT_EVERY = 25  # seconds
WAVES = 6  # longer than a lease lasts without a beat


class StoreFloods(OnManualClock):
    """The batcher over a store, with acquires beyond its queue while holders beat. Needs `store`."""

    def test_the_living_keep_their_seats_through_a_flood(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Renewals and releases have room of their own, and come first."""
        store.define([pool(CAPACITY)])
        living = [take(store, f"living-{n}", lease_id=f"lea_living_{n}") for n in range(LIVING)]
        renewals: list[Renewal | None] = []
        refused = 0

        async def wave(batcher: Batcher, number: int) -> list[Lease]:
            nonlocal refused
            asked = []
            for n in range(FLOOD):
                try:
                    wish = acquire(f"flood-{number}-{n}", lease_id=f"lea_{number}_{n}")
                    asked.append(batcher.submit("acquire", wish))
                except Overloaded:
                    refused += 1
            beats = [
                batcher.submit("renew", Renew(lease_id=x.id, fence=x.fence, pool_id=x.pool_id))
                for x in living
            ]
            outcomes = await asyncio.gather(*asked)
            renewals.extend(await asyncio.gather(*beats))
            assert len(outcomes) == QUEUE_MAX
            assert usage(store).in_use <= CAPACITY
            assert all(isinstance(each, Lease | Denied) for each in outcomes)
            return [each for each in outcomes if isinstance(each, Lease)]

        async def main() -> None:
            batcher = Batcher(
                {"release": store.release, "renew": store.renew, "acquire": store.acquire},
                queue_max=QUEUE_MAX,
                runners=store.parallel,
            )
            batcher.start()
            try:
                for number in range(WAVES):
                    clock.advance(seconds=BEAT_EVERY)
                    granted = await wave(batcher, number)
                    assert len(granted) == CAPACITY - LIVING
                    await self._give_back(batcher, granted)
            finally:
                await batcher.close()

        asyncio.run(main())
        assert refused == WAVES * (FLOOD - QUEUE_MAX)
        assert len(renewals) == WAVES * LIVING
        assert None not in renewals
        for lease in living:
            kept = look_up(store, lease.id)
            assert kept is not None
            assert (kept.fence, kept.end_reason) == (lease.fence, None)
            assert kept.expires_at > clock.now()

    async def _give_back(self, batcher: Batcher, leases: Sequence[Lease]) -> None:
        """Release, while the queue is full of acquires once more; they get what came free."""
        waiting: list[asyncio.Future[Any]] = []
        while not batcher.refuses(keeps=False):
            wish = acquire(f"again-{len(waiting)}", lease_id=f"lea_again_{len(waiting)}")
            waiting.append(batcher.submit("acquire", wish))
        released = [
            batcher.submit("release", Release(lease_id=x.id, fence=x.fence, pool_id=x.pool_id))
            for x in leases
        ]
        assert await asyncio.gather(*released) == [True] * len(leases)
        for each in await asyncio.gather(*waiting):
            if isinstance(each, Lease):
                give = Release(lease_id=each.id, fence=each.fence, pool_id=each.pool_id)
                assert await batcher.submit("release", give)
