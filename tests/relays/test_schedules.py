"""The services in a bad world: schedules like those of the model, played on what is served.

People come, beat and go at two relays and at the authority, while messages are lost, come twice and late, and
relays are cut off, restarted and rebooted. At each step the seats that somebody believes to have are counted,
from what they were told alone.
"""

from __future__ import annotations

import contextlib
import random
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import Struct
from tests.relays.test_services import Sites
from tests.relays.world import Site

from sojourn.clock import SECOND
from sojourn.lease import Acquire, Lease, Renew
from sojourn.region.gate import GatedStore
from sojourn.region.uplink import Refused
from sojourn.token import new_id

CAPACITY = 4
STEPS = 120
PEOPLE = tuple(f"p{i}" for i in range(6))


class Oversold(AssertionError):
    pass


class Ticket(Struct):
    """What somebody was told: they have a seat until then, by a clock that nobody sets."""

    lease: Lease
    until: int


class Play:
    """One schedule. `tickets`: by place, where None is the authority, and by person."""

    def __init__(self, sites: Sites, seed: int) -> None:
        self.sites = sites
        self.center = sites.center
        self.chosen = random.Random(seed)
        self.tickets: dict[tuple[str | None, str], Ticket] = {}
        self.way: list[str] = []
        for site in sites.all:
            site.learn()

    def now(self) -> int:
        return self.center.clock.now()

    def run(self) -> None:
        for _ in range(STEPS):
            act = self.chosen.choices(
                (
                    self.come,
                    self.beat,
                    self.go,
                    self.talk,
                    self.tick,
                    self.cut,
                    self.restart,
                    self.late,
                ),
                (8, 6, 2, 6, 4, 1, 1, 1),
            )[0]
            act()
            self.check()

    def check(self) -> None:
        believed = sum(self.now() < ticket.until for ticket in self.tickets.values())
        if believed > CAPACITY:
            raise Oversold(f"{believed} of {CAPACITY} seats after: " + ", ".join(self.way))

    def place(self) -> Site | None:
        return self.chosen.choice((*self.sites.all, None))

    def come(self) -> None:
        site, user = self.place(), self.chosen.choice(PEOPLE)
        name = None if site is None else site.name
        self.way.append(f"{user} comes to {name}")
        wish = Acquire(
            pool_id=self.center.pool_id, user_id=user, client_id="one", lease_id=new_id("lse_")
        )
        if site is None:
            outcome = self.center.store.acquire([wish])[0]
        else:
            (held_up,) = site.region.gate.look(site.raw, [wish], asked=[False])
            if held_up is not None:
                self.beat_of(site, asks=1)
            (held_up,) = site.region.gate.look(site.raw, [wish], asked=[True])
            if held_up is not None:
                return
            outcome = site.store.acquire([wish])[0]
        if isinstance(outcome, Lease):
            left = outcome.expires_at - outcome.last_beat_at
            self.tickets[name, user] = Ticket(outcome, self.now() + left)

    def beat(self) -> None:
        if not self.tickets:
            return
        name, user = self.chosen.choice(sorted(self.tickets, key=str))
        lease = self.tickets[name, user].lease
        store = self.center.store if name is None else self.site(name).store
        self.way.append(f"{user} beats at {name}")
        wish = Renew(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)
        (renewal,) = store.renew([wish])
        if renewal is None:
            del self.tickets[name, user]
        else:
            self.tickets[name, user].until = self.now() + renewal.expires_in

    def go(self) -> None:
        """Somebody goes without a word, and believes in nothing any more."""
        if self.tickets:
            del self.tickets[self.chosen.choice(sorted(self.tickets, key=str))]

    def site(self, name: str) -> Site:
        return next(site for site in self.sites.all if site.name == name)

    def talk(self) -> None:
        site = self.chosen.choice(self.sites.all)
        self.way.append(f"{site.name} talks")
        self.beat_of(site)

    def beat_of(self, site: Site, *, asks: int = 0) -> None:
        site.wire.loses_answers = self.chosen.random() < 0.15
        site.beat(asks=asks)
        site.wire.loses_answers = False

    def late(self) -> None:
        """A beat that was heard, or was lost, comes again."""
        site = self.chosen.choice(self.sites.all)
        if site.wire.sent:
            self.way.append(f"an old beat of {site.name} comes")
            with contextlib.suppress(Refused):
                site.wire.carry(self.chosen.choice(site.wire.sent[-4:]))

    def tick(self) -> None:
        span = self.chosen.choice((5, 30, 120, 1_900)) * SECOND
        self.way.append(f"{span // SECOND} s go by")
        self.sites.advance(span)

    def cut(self) -> None:
        site = self.chosen.choice(self.sites.all)
        site.wire.cut = not site.wire.cut
        self.way.append(f"{site.name} is {'cut off' if site.wire.cut else 'back'}")

    def restart(self) -> None:
        site = self.chosen.choice(self.sites.all)
        how = self.chosen.choice((site.restart, site.reboot))
        self.way.append(f"{site.name}: {how.__name__}")
        how()


@pytest.mark.parametrize("seed", range(6))
def test_no_schedule_sells_a_seat_twice(seed: int, tmp_path: Path, migrated_sqlite: Path) -> None:
    with closing(Sites(tmp_path, migrated_sqlite, capacity=CAPACITY)) as sites:
        Play(sites, seed).run()


def play_some(folder: Path, template: Path) -> None:
    for seed in range(60):
        below = folder / str(seed)
        below.mkdir()
        with closing(Sites(below, template, capacity=CAPACITY)) as sites:
            Play(sites, seed).run()


def without_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay whose store knows no deadline."""
    monkeypatch.setattr(GatedStore, "_cut", lambda _self, outcome, _over: outcome)
    monkeypatch.setattr(GatedStore, "_cut_renewal", lambda _self, _renew, renewal: renewal)
    monkeypatch.setattr("sojourn.region.gate.Gate.watch", lambda _self, _pools: None)
    monkeypatch.setattr("sojourn.region.holding.Holding.expire", lambda _: None)


def test_a_store_without_a_gate_would(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count finds what it is there for."""
    without_the_gate(monkeypatch)
    with pytest.raises(Oversold):
        play_some(tmp_path, migrated_sqlite)
