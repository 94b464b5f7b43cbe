"""The line of a pool with reservations: whoever stands behind is looked at only where that can help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.test_seating import NOW, RESERVATIONS, Table, batches, lease, tables

from sojourn import seating
from sojourn.clock import SECOND
from sojourn.lease import Waiting, seat_key
from sojourn.license import CountBy, WhenFull
from sojourn.room import Room
from sojourn.stores.memory.pool import PoolView
from sojourn.stores.memory.rows import LeaseRows
from sojourn.testing.builders import acquire, pool


class Plain(seating._Decision):
    """Tries each entry of the line, whatever came of those before."""

    def _claims(
        self, entries: Iterable[Waiting], but: str | None = None
    ) -> tuple[Room, set[tuple[str, str]], bool]:
        claims: set[tuple[str, str]] = set()
        room, keys, short = self._room().copy(), {but}, False
        for entry in entries:
            key = seat_key(self.policy.count_by, entry.user_id, entry.client_id)
            if key in keys or self._shares(key):
                continue
            place = self.policy.place_of(entry.reservation)
            if room.free(place, overdraft=True) <= 0 and not self._reclaim(place, room):
                short = True
                continue
            keys.add(key)
            claims.add(entry.holder)
            room.take(place)
        return room, claims, short


def entry(number: int, reservation: str | None = None, **fields: Any) -> Waiting:
    plain = Waiting(
        id=f"wait_{number}",
        pool_id="lic_1:editor",
        user_id=f"waiter {number}",
        client_id="tab",
        since=NOW - 1_000_000 + number,
        expires_at=NOW + 10 * SECOND,
        reservation=reservation,
    )
    return replace(plain, **fields)


def view(table: Table, line: Iterable[Waiting]) -> PoolView:
    return PoolView(table.pool, table.fence, LeaseRows(table.rows.values()), NOW, line=line)


@st.composite
def lines(draw: st.DrawFn) -> list[Waiting]:
    names = st.sampled_from([None, "gone", *(each.name for each in RESERVATIONS)])
    users = st.sampled_from(["ann", "bob", "cid", "dan", "eve"])
    return [
        entry(
            number,
            draw(names),
            user_id=draw(users),
            client_id=f"client {number}",
            priority=draw(st.integers(0, 2)),
            offer_until=draw(st.sampled_from([None, None, NOW + SECOND, NOW - SECOND])),
        )
        for number in range(draw(st.integers(1, 12)))
    ]


@given(st.data())
def test_who_is_passed_over_could_not_have_been_served(data: st.DataObject) -> None:
    """Seats, ends, offers and denials are the same as when each entry is tried."""
    found = data.draw(tables())
    line = data.draw(lines())
    requests = data.draw(batches(found.rows))
    requests = [replace(each, wait=data.draw(st.booleans())) for each in requests]
    plain = Plain(view(found, line), requests, (), None).run()
    assert seating.seat(view(found, line), requests) == plain


@pytest.mark.parametrize("count_by", CountBy)
def test_a_long_line_costs_a_full_pool_no_more(
    count_by: CountBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often a seat is looked for depends on the reservations, not on how many wait."""
    names = [None, *(each.name for each in RESERVATIONS)]
    looks = 0
    free = Room.free

    def counted(self: Room, place: int | None, *, overdraft: bool = False) -> int:
        nonlocal looks
        looks += 1
        return free(self, place, overdraft=overdraft)

    monkeypatch.setattr(Room, "free", counted)
    leases = [lease(f"user {n}", f"client {n}") for n in range(6)]
    policy = pool(
        6, reservations=RESERVATIONS, count_by=count_by, when_full=WhenFull.RECLAIM_SUSPECT
    )
    found = Table(pool=policy, rows={each.holder: each for each in leases})
    seen = []
    for waiting in (40, 1_000):
        line = [entry(n, names[n % len(names)]) for n in range(waiting)]
        looks = 0
        result = seating.seat(view(found, line), [acquire("newcomer", wait=True)])
        assert [x.user_id for x in result.entered] == ["newcomer"]
        seen.append(looks)
    assert seen[0] == seen[1]
    assert seen[1] <= 6 * len(names)
