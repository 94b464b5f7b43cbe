"""Proofs that nobody has shown before have a queue of their own: guessing keeps guessers waiting (ADR 28).

A proof that was good once goes straight to the calls that it opens, which ask for it again. Any other one is
looked up first, by one thread for each kind of proof, many in one question. Those that were refused are
remembered for a moment. Addresses, and proofs that begin alike, have a share of the places and no more.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from msgspec import Struct

from sojourn.api.limits import too_slow
from sojourn.errors import Overloaded, SojournError

P = TypeVar("P", bound=Hashable)

WAITING_MAX = 256
"""Proofs of a kind that may be waiting to be looked up."""
ADDRESS_SHARE = 128
"""Of these from one address."""
PREFIX_SHARE = 16
"""Of these that begin alike."""
BATCH_MAX = 64
"""Proofs in one question."""
SEEN_MAX = 16_384
"""Proofs remembered as good once. One that is forgotten is looked up again."""
REFUSED_MAX = 16_384
REFUSED_FOR = 5.0
"""Seconds for which a refused proof is refused without asking: so long a key that was shown too early, before
another server had made it, goes on being refused."""
PREFIX = 8
"""Characters that tell proofs which begin alike: a token's kind and four more."""
IPV6_SHARED = 64
"""Bits of an IPv6 address that one subscriber has in common (RFC 6177)."""
ADDRESSES_MAX = 10_000
"""Addresses and beginnings whose attempts are remembered."""


class TooManyAttempts(Overloaded):
    """Too many wrong proofs came from there. Nothing was looked up."""

    code = "too_many_requests"


class Outcomes(Struct):
    """How proofs fared that were not known to be good; counts since the start."""

    known: int = 0
    unknown: int = 0
    remembered: int = 0  # refused without asking
    turned_away: int = 0  # there was no place to wait


class Proofs(Generic[P]):
    """Proofs of one kind. Belongs to one event loop.

    `look_up` tells, of many proofs at once and in their order, which are good; it runs on a thread. Of one
    that cannot be judged it tells why: whoever waits for it is told that, and nothing is remembered.
    """

    def __init__(
        self,
        look_up: Callable[[Sequence[P]], Sequence[bool | SojournError]],
        *,
        patience: float,
        waiting_max: int = WAITING_MAX,
        address_share: int = ADDRESS_SHARE,
        prefix_share: int = PREFIX_SHARE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up
        self._patience = patience
        self._waiting_max = waiting_max
        self._address_share = address_share
        self._prefix_share = prefix_share
        self._now = now
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sojourn-proofs")
        self._seen: OrderedDict[P, None] = OrderedDict()
        self._refused: OrderedDict[P, float] = OrderedDict()  # until when
        self._waiting: dict[P, asyncio.Future[bool]] = {}
        self._queue: list[P] = []
        self._of: Counter[tuple[str, str]] = Counter()  # who has how many of those that wait
        self._asking: asyncio.Task[None] | None = None
        self.outcomes = Outcomes()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def seen(self, proof: P) -> bool:
        """Tell whether a proof was good once. It may be no longer: this opens nothing."""
        return proof in self._seen

    def forget(self, proof: P) -> None:
        """Note that a proof is good no longer."""
        self._seen.pop(proof, None)

    async def admit(self, proof: P, *, address: str | None, prefix: str = "") -> bool:
        """Tell whether a proof is good, as far as it is known here or can be found out.

        Raises Overloaded where there is no place to wait, TooManyAttempts where those of this address or
        beginning are taken, and what `look_up` raises.
        """
        if proof in self._seen:
            self._seen.move_to_end(proof)
            return True
        if self._refused.get(proof, 0.0) > self._now():
            self.outcomes.remembered += 1
            return False
        answered = self._waiting.get(proof) or self._put(proof, address, prefix)
        done, _ = await asyncio.wait({answered}, timeout=self._patience)
        if not done:
            raise too_slow()
        return answered.result()

    def _put(self, proof: P, address: str | None, prefix: str) -> asyncio.Future[bool]:
        owners = [("address", subscriber(address))]
        if prefix:
            owners.append(("prefix", prefix[:PREFIX]))
        shares = (self._address_share, self._prefix_share)
        if len(self._waiting) >= self._waiting_max:
            self.outcomes.turned_away += 1
            raise Overloaded("The server has more unknown proofs to look up than it can in time.")
        if any(self._of[owner] >= share for owner, share in zip(owners, shares, strict=False)):
            self.outcomes.turned_away += 1
            raise TooManyAttempts("Too many unknown proofs come from where this one comes from.")
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answered.add_done_callback(lambda _: self._leave(proof, owners))
        self._of.update(owners)
        self._waiting[proof] = answered
        self._queue.append(proof)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return answered

    def _leave(self, proof: P, owners: Sequence[tuple[str, str]]) -> None:
        self._waiting.pop(proof, None)
        self._of.subtract(owners)
        for owner in owners:
            if self._of[owner] <= 0:
                del self._of[owner]

    async def _ask(self) -> None:
        """Look up what waits, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._queue:
            batch, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
            try:
                found = await loop.run_in_executor(self._pool, self._look_up, batch)
            except Exception as fault:  # noqa: BLE001 - whatever it is, those who wait are told
                for proof in batch:
                    self._waiting[proof].set_exception(fault)
                    self._waiting[proof].exception()  # looked at, for its caller may have gone
                continue
            for proof, good in zip(batch, found, strict=True):
                if isinstance(good, SojournError):
                    self._waiting[proof].set_exception(good)
                    self._waiting[proof].exception()
                    continue
                self._note(proof, good=good)
                self._waiting[proof].set_result(good)

    def _note(self, proof: P, *, good: bool) -> None:
        if good:
            self.outcomes.known += 1
            self._refused.pop(proof, None)
            self._seen[proof] = None
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        else:
            self.outcomes.unknown += 1
            self._refused[proof] = self._now() + REFUSED_FOR
            self._refused.move_to_end(proof)
            if len(self._refused) > REFUSED_MAX:
                self._refused.popitem(last=False)

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)


class Throttle:
    """Lets each try a few times at once, and then at a rate. Remembers `ADDRESSES_MAX` who tried last."""

    def __init__(
        self, burst: int, every: float, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._every = every
        self._now = now
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many, and when

    def wait(self, who: str) -> float:
        """Return how many seconds somebody has to wait until they may try; 0: now."""
        spent = self._spent_by(who)
        return max(0.0, (spent - self._burst + 1) * self._every)

    def count(self, who: str) -> None:
        """Count an attempt, before its outcome is known."""
        self._set(who, self._spent_by(who) + 1)

    def forgive(self, who: str) -> None:
        """Take an attempt back that succeeded."""
        self._set(who, max(0.0, self._spent_by(who) - 1))

    def _set(self, who: str, spent: float) -> None:
        self._spent[who] = spent, self._now()
        self._spent.move_to_end(who)
        if len(self._spent) > ADDRESSES_MAX:
            self._spent.popitem(last=False)

    def _spent_by(self, who: str) -> float:
        spent, at = self._spent.get(who, (0.0, 0.0))
        return max(0.0, spent - (self._now() - at) / self._every)


def subscriber(address: str | None) -> str:
    """Return what tells one subscriber from another: an IPv4 address, or the first half of an IPv6 one."""
    if address is None or ":" not in address:
        return address or ""
    try:
        whole = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped)
    return str(ipaddress.IPv6Network((whole, IPV6_SHARED), strict=False).network_address)
