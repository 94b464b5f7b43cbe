"""What the state machine tries of lines, and what must hold of them after every step."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from sojourn.event import Event
from sojourn.lease import LeaseFilter, Release, Waiting
from sojourn.line import WAITING_FOR
from sojourn.stores.memory import MAX_PAUSE
from sojourn.testing.oracle import Oracle
from sojourn.testing.pools import FEATURES, POOLS
from sojourn.testing.session_rules import USERS, SessionRules

CLIENTS = ("1", "2", "\N{GRINNING FACE}")
PLAIN = {"session": None, "takeover": False, "resume": "no", "known": 0, "tentative": False}
PRIORITY = {CLIENTS[2]: 1}  # what these ask with
HOLDERS = tuple((user_id, client_id) for user_id in USERS for client_id in CLIENTS)

__all__ = ["CLIENTS", "FEATURES", "HOLDERS", "PLAIN", "POOLS", "PRIORITY", "LineRules"]


class LineRules(SessionRules):
    """Rules of a machine that takes seats, as `machine.StoreMachine` does."""

    oracle: Oracle

    def acquire(self, asked: list[dict[str, Any]]) -> None:
        """Take seats, on both sides, and judge the answers."""
        raise NotImplementedError

    def news(self) -> list[Event]:
        """Read what both sides have told since."""
        raise NotImplementedError

    @rule(
        pool_id=st.sampled_from(POOLS),
        first=st.lists(st.sampled_from(HOLDERS), min_size=4, max_size=6, unique=True),
        back=st.integers(0, 2),
        then=st.lists(st.tuples(st.sampled_from(HOLDERS), st.booleans()), max_size=2),
        leap=st.sampled_from([0, 1, MAX_PAUSE, MAX_PAUSE, WAITING_FOR - 1, WAITING_FOR]),
        last=st.lists(st.tuples(st.sampled_from(HOLDERS), st.booleans()), min_size=1, max_size=6),
    )
    def queue(
        self,
        pool_id: str,
        *,
        first: list[tuple[str, str]],
        back: int,
        then: list[tuple[str, bool]],
        leap: int,
        last: list[tuple[str, bool]],
    ) -> None:
        """More want in than may, and wait. Seats come free, some ask, time passes, and some ask again."""

        def ask(holders: list[Any]) -> None:
            asked = [{"user_id": u, "client_id": c, "wait": wait} for (u, c), wait in holders]
            if asked:
                self.acquire([{"pool_id": pool_id, **each, **PLAIN} for each in asked])

        ask([(holder, True) for holder in first])
        which = LeaseFilter(license_id="lic_1", feature=pool_id.removeprefix("lic_1:"))
        live, _ = self.both(lambda store: store.leases(which, limit=back))
        freed = [Release(lease_id=lease.id, fence=lease.fence) for lease in live]
        self.both(lambda store: store.release(freed))
        self.oracle.read(self.news())
        ask(then)
        self.clock.advance(milliseconds=leap)
        ask(last)

    def line(self, pool_id: str) -> tuple[list[Waiting], int]:
        found: tuple[list[Waiting], int] = self.both(lambda store: store.waiting(pool_id))
        return found

    def lines_are_equal(self) -> None:
        """Nobody waits who is dead, and no more seats are offered than there are."""
        for pool in POOLS:
            line, now = self.line(pool)
            assert all(now < entry.expires_at <= now + WAITING_FOR for entry in line)
            assert len({entry.since for entry in line}) == len(line)
