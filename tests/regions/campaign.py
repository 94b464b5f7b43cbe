"""Relays that are cut off, healed and killed at random under load, and an authority that is put back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct
from tests.regions.checker import History, most_sold, violations
from tests.regions.clients import Region
from tests.regions.fleet import Fleet, Site, start, until

LOST_AFTER = 60.0  # seconds: a machine that stalls for less loses nobody a seat
EVERY = 2.0  # seconds between two beats of a holder
LIVING = LOST_AFTER / 2
"""Who has beaten within so many seconds is to keep the seat: half of it is the machine's."""
CUTS: tuple[tuple[str, Callable[[Site], None]], ...] = (
    ("cut", lambda site: site.proxy.refuse()),
    ("hole", lambda site: site.proxy.blackhole()),
    ("answers lost", lambda site: site.proxy.drop_response()),
    ("late", lambda site: site.proxy.latency(0.5)),
)


class Plan(Struct, frozen=True, kw_only=True):
    """`seconds` of faults, one every `pace` seconds; `restores`: times that the authority is put back."""

    names: Sequence[str] = ("east", "west", "north", "south", "center")
    capacity: int = 20
    users: int = 8
    seconds: float = 300.0
    pace: float = 2.0
    restores: int = 4
    seed: int = 1


class Outcome(Struct, frozen=True):
    plan: Plan
    history: History
    most_sold: int
    violations: list[str]
    took: float


class Nemesis:
    """What goes wrong, one thing after the other."""

    def __init__(self, fleet: Fleet, plan: Plan, history: History, lock: threading.Lock) -> None:
        self._fleet = fleet
        self._plan = plan
        self._history = history
        self._lock = lock
        self._chosen = random.Random(plan.seed)

    def _count(self, name: str) -> None:
        with self._lock:
            self._history.faults[name] = self._history.faults.get(name, 0) + 1

    def rage(self) -> None:
        began = time.monotonic()
        left = self._plan.restores
        restore_every = self._plan.seconds / (left + 1)
        self._fleet.back_up()
        while (gone := time.monotonic() - began) < self._plan.seconds:
            if left and gone > restore_every * (self._plan.restores - left + 1):
                left -= 1
                self._put_back()
            else:
                self._one()
            threading.Event().wait(self._chosen.uniform(0.2, 1.8) * self._plan.pace)
        while left:
            left -= 1
            self._put_back()
        for site in self._fleet.sites:
            self._heal(site)

    def _one(self) -> None:
        site = self._chosen.choice(self._fleet.sites)
        draw = self._chosen.random()
        if draw < 0.08:
            self._count("authority killed")
            self._fleet.authority.kill()
            start(self._fleet.authority)
        elif draw < 0.2:
            self._count("relay killed")
            site.kill()
            site.start()
        elif site.cut:
            self._heal(site)
        else:
            name, act = self._chosen.choice(CUTS)
            self._count(name)
            act(site)
            site.cut = True

    def _heal(self, site: Site) -> None:
        """Let a relay reach its authority, and wait until that is so."""
        site.proxy.pass_through()
        began = time.monotonic()
        until(site.well, f"{site.name} is heard")
        if site.cut:
            with self._lock:
                self._history.heals.append(time.monotonic() - began)
        site.cut = False

    def _put_back(self) -> None:
        self._count("authority put back")
        self._fleet.restore(self._chosen.choice(self._fleet.backups))
        self._fleet.back_up()


def play(folder: Path, plan: Plan) -> Outcome:
    """Play a campaign; return what came of it."""
    history, lock = History(), threading.Lock()
    began = time.monotonic()
    with Fleet(folder, plan.names, capacity=plan.capacity, lost_after=LOST_AFTER) as fleet:
        regions = [
            Region(
                site.name,
                site.server,
                fleet.key,
                users=plan.users,
                every=EVERY,
                seed=plan.seed * 1_000 + number,
                history=history,
                lock=lock,
                starts=partial(getattr, site, "starts"),
                cut=partial(getattr, site, "cut"),
            )
            for number, site in enumerate(fleet.sites)
        ]
        for site, region in zip(fleet.sites, regions, strict=True):
            until(site.well, f"{site.name} is heard")
            region.start()
        Nemesis(fleet, plan, history, lock).rage()
        until(lambda: not fleet.relays().get("doubtFor"), "all relays have spoken")
        for region in regions:
            region.finish()
        until(lambda: fleet.allotted() <= plan.capacity, "no more is allotted than there is")
    found = violations(history, plan.capacity, living=LIVING)
    sold = most_sold(history.beliefs)
    return Outcome(plan, history, sold, found, time.monotonic() - began)
