"""What a count that found a large pool full is worth for a moment: see docs/adr/0034 and `sql.fullness`.

Here every write goes through one object, so what ends it is seen at once: a lease that ends, or
is to end earlier than it was; or another policy, under which more may be let in before the old one is back.
"""

from __future__ import annotations

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.lease import Lease
from sojourn.license import Policy, Pool
from sojourn.pool_reader import SeatCount

FULL_FROM = 500
"""Leases: a smaller pool is counted as quickly."""
FULL_FOR = SECOND
"""How old the evidence of a denial may be."""
SILENT_KEPT = 150
"""Of the most silent holders: as many as a denial names, and a full batch may push out."""


class Fullness(Struct, frozen=True, kw_only=True):
    """A pool was full at `at`, and is until `until` unless a lease ends, or is to end earlier, or the
    policy is changed.

    Less may have been allotted to relays meanwhile, and seats granted: a pool that is full only with what
    they have is known for as long as its fence is the same.
    """

    policy: Policy
    fence: int
    at: int
    until: int
    count: SeatCount
    free_at: int  # the first lease that was counted is gone, or may be taken as a suspect's
    silent: tuple[Lease, ...]  # most silent first

    def holds(self, pool: Pool, now: int, fence: int) -> bool:
        granted = fence != self.fence and self.count.in_use < self.policy.most
        return self.policy == pool.policy and not granted and self.at <= now < self.until

    def counted(self, now: int) -> SeatCount:
        """Return what was counted, for an answer that is given now."""
        return SeatCount(
            in_use=self.count.in_use,
            suspect=self.count.suspect,
            next_free_in=self.free_at - now,
            at=self.at,
        )


def frees(before: Lease | None, after: Lease) -> bool:
    """Tell whether a seat may be free earlier by what is written over a lease."""
    if before is None:
        return False
    return (
        after.ended_at is not None
        or after.expires_at < before.expires_at
        or after.suspect_at < before.suspect_at
    )
