"""A store, a ledger and a clock, for tests of planned and selective sweeps."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sojourn.clock import MINUTE, ManualClock
from sojourn.lease import Lease
from sojourn.plans.keeper import PlannedLedger
from sojourn.plans.plan import RunState, SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.stores.memory import MemoryStore
from sojourn.sweeps.planner import Planner
from sojourn.sweeps.service import Sweeps
from sojourn.testing.builders import pool, take

EVERY_MINUTE = Schedule(every=MINUTE)
EDITOR = SweepScope(feature="editor")


class World(Struct):
    clock: ManualClock
    store: MemoryStore
    ledger: PlannedLedger

    def planner(self, **more: Any) -> Planner:
        return Planner(self.store, self.ledger, **more)

    @property
    def sweeps(self) -> Sweeps:
        return Sweeps(self.store, self.ledger)

    def plan(self, schedule: Schedule = EVERY_MINUTE, **more: Any) -> SweepPlan:
        given: dict[str, Any] = {
            "name": "nightly",
            "scope": EDITOR,
            "paused": False,
            "actor": "key:ops",
        } | more
        return self.sweeps.create(schedule=schedule, **given)

    def suspects(self, number: int) -> list[Lease]:
        """Seat some, who fall silent for as long as it takes, and are not gone yet."""
        self.store.define([pool(number + 10)])
        seated = [take(self.store, f"user-{i:03}") for i in range(number)]
        self.clock.advance(seconds=75)
        return seated

    def states(self) -> list[RunState]:
        return [run.state for run in reversed(self.ledger.plans.runs())]
