"""Clients, a recorder, restarts and losses in any order, and somebody who knows only what clients saw.

The recorder carries every event before the next step, so that the ledger knows all that was answered: then
nothing may be lost, however much the store has.
"""

from __future__ import annotations

import random
from typing import Protocol

from sojourn.clock import HOUR
from sojourn.lease import Denied, Lease
from sojourn.license import Pool
from sojourn.store import Store
from sojourn.stores.recorder import ENDS, LedgerRecorder
from sojourn.testing.builders import POOL, acquire, beat, give_back, usage
from sojourn.testing.contract.faults import works_within_bound
from sojourn.testing.contract.restarts import by_token

USERS = tuple(f"user-{n}" for n in range(6))
RECENT = 8
"""Tokens that are tried again, the latest ones: of older ones nobody asks any more."""
TRIED = 20
STRANGERS = 2
WEIGHTS = {
    "acquire": 6,
    "resume": 6,
    "beat": 6,
    "idle": 4,
    "release": 2,
    "remember": 2,
    "lose": 2,
    "restart": 1,
}


class Forgetful(Protocol):
    """A server that can be started again with the data it had at `remember`."""

    def remember(self) -> None: ...

    def lose(self) -> None: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


class Walk:
    """`latest`: each user's last lease; `holding`: whose was not ended, as the stream says."""

    def __init__(
        self, store: Store, server: Forgetful, recorder: LedgerRecorder, pool: Pool, seed: int
    ) -> None:
        self.store = store
        self.server = server
        self.recorder = recorder
        self.pool = pool
        self.random = random.Random(seed)
        self.latest: dict[str, Lease] = {}
        self.holding: set[str] = set()
        self.tokens: list[Lease] = []
        self.refused: set[tuple[str, int]] = set()
        self.fence = 0
        self.event = 0

    def go(self, steps: int) -> None:
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        for _ in range(steps):
            getattr(self, self.random.choices(names, weights)[0])()
            self.follow()
            assert usage(self.store, POOL).in_use == len(self.holding)

    def follow(self) -> None:
        """Record what happened, and read whose lease has ended."""
        self.recorder.run()
        for event in self.store.events(after=self.event, limit=1_000):
            self.event = event.id
            assert "overage" not in event.data, f"a seat too many: {event}"
            last = self.latest.get(str(event.user_id))
            if event.kind in ENDS and last is not None and last.fence <= event.data["fence"]:
                self.holding.discard(last.user_id)

    # What clients do

    def acquire(self) -> None:
        user = self.random.choice(USERS)
        answer = self.store.acquire([acquire(user)])[0]
        if isinstance(answer, Lease):
            self._granted(answer)
        else:
            self._rightly_denied(user, answer)

    def resume(self) -> None:
        if (token := self._some_token()) is None:
            return
        current = self.latest[token.user_id] is token
        holds = token.user_id in self.holding
        answer = self.store.acquire([by_token(token)])[0]
        assert current or not holds or isinstance(answer, Denied), f"came back by {token}"
        if isinstance(answer, Lease):
            self._granted(answer)
        elif current and holds:
            raise AssertionError(f"{token} holds a seat, and was denied: {answer}")

    def beat(self) -> None:
        if (token := self._some_token()) is not None:
            self._beat(token)

    def idle(self) -> None:
        """Let a holder be one that others may displace."""
        if self.holding:
            user = self.random.choice(sorted(self.holding))
            assert beat(self.store, self.latest[user], idle_for=HOUR) is not None

    def release(self) -> None:
        if self.holding:
            user = self.random.choice(sorted(self.holding))
            assert give_back(self.store, self.latest[user])

    # What befalls the server

    def remember(self) -> None:
        self.server.remember()

    def restart(self) -> None:
        self.server.kill()
        self.server.start()
        self._back()

    def lose(self) -> None:
        self.server.lose()
        self._back()

    def _back(self) -> None:
        """Strangers come first; then those who hold seats beat, and come back where they must."""
        works_within_bound(self.store.pulse)
        self.follow()
        self.store.define([self.pool])  # as each server does when it starts
        for number in range(STRANGERS):
            answer = self.store.acquire([acquire(f"stranger-{number}")])[0]
            if isinstance(answer, Lease):
                self._note_fence(answer)
                self.follow()
                assert len(self.holding) < self.pool.policy.capacity, "a seat was not kept"
                assert give_back(self.store, answer)
        self.follow()
        for token in self.tokens[-TRIED:]:
            if (token.id, token.fence) in self.refused:
                self._beat(token)
        for user in sorted(self.holding):
            if not self._beat(self.latest[user]):
                answer = self.store.acquire([by_token(self.latest[user])])[0]
                assert isinstance(answer, Lease), f"{user} was alive, and was denied: {answer}"
                assert answer.id == self.latest[user].id
                self._granted(answer)
        if len(self.holding) >= self.pool.policy.capacity:
            for user in self.latest.keys() - self.holding:
                answer = self.store.acquire([by_token(self.latest[user])])[0]
                assert isinstance(answer, Denied), f"{user} was let in beside those who live"

    # What must hold

    def _some_token(self) -> Lease | None:
        return self.random.choice(self.tokens[-RECENT:]) if self.tokens else None

    def _note_fence(self, lease: Lease) -> None:
        assert lease.fence > self.fence, f"fence {lease.fence} after {self.fence}"
        self.fence = lease.fence

    def _granted(self, lease: Lease) -> None:
        self._note_fence(lease)
        self.tokens.append(lease)
        self.latest[lease.user_id] = lease
        self.holding.add(lease.user_id)

    def _rightly_denied(self, user: str, denied: Denied) -> None:
        assert user not in self.holding, f"{user} holds a seat, and was denied: {denied}"
        assert len(self.holding) >= self.pool.policy.capacity, f"{user} was denied: {denied}"

    def _beat(self, token: Lease) -> bool:
        renewed = beat(self.store, token)
        if renewed is None:
            self.refused.add((token.id, token.fence))
            return False
        assert (token.id, token.fence) not in self.refused, f"counts again: {token}"
        assert self.latest[token.user_id] is token, f"stale, and counts: {token}"
        assert token.user_id in self.holding, f"ended, and counts: {token}"
        return True
