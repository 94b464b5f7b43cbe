"""Somebody for doctor to look at: checks that find what a test says, repairs that do what it says."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sojourn.doctor.doctor import Doctor
from sojourn.errors import RepairBusy, StoreError, StoreUnavailable
from sojourn.finding import Area, Check, Finding, Fix, Step, failure, ok, skipped, warning

DEADLINE = 20.0

MISSING = failure(
    "The table sojourn_sessions is missing.",
    evidence=("PostgreSQL knows no sessions in the schema public.", "10 other tables are there."),
    means="Nobody can sign in, and whoever was signed in is not recognized any more.",
    fix=Fix(
        text="Make the table. Nothing else is changed by it.",
        command="sojourn migrate --store postgresql://app@db/app",
        sql="CREATE TABLE sojourn_sessions (\n    id text PRIMARY KEY\n);",
    ),
)
SLOW = warning(
    "A read takes 48 ms, more than the 20 ms that leave requests quick.",
    evidence=("The median of 20 reads was 48 ms.",),
    means="Every request that is checked takes that much longer.",
    fix=Fix(text="Bring the database nearer.", setting='store = "postgresql://app@nearer/app"'),
)
COPY = Step(
    what="Copy what is readable to sessions_2025_11_22",
    why="So that no row is lost, whatever comes next.",
    rows=12_345,
    undo="DROP TABLE sessions_2025_11_22;",
)
REBUILD = Step(
    what="Make the table sojourn_sessions anew", why="It has lost its primary key.", rows=12_345
)

WELL = {
    "schema.tables": ok("All 14 tables are there."),
    "schema.keys": ok("Every table has its primary key."),
    "store.speed": ok("A read takes 0.4 ms.", "The median of 20 reads was 0.4 ms."),
    "store.clock": ok("The clocks agree to 3 ms."),
    "secrets.shared": ok("Both instances have the same secrets.", "web-1 and web-2: k7Qf2m"),
    "seats.capacity": skipped("There is no license yet."),
}
PLACES = {
    "schema.tables": "the catalog of postgresql://app@db/app, schema public",
    "schema.keys": "the constraints of its tables",
    "store.speed": "20 reads of the row that marks the pulse",
    "store.clock": "the database's clock and this host's",
    "secrets.shared": "the fingerprints that running servers leave in the ledger",
    "seats.capacity": "every pool and its live leases",
}


class Patient:
    """An examiner. Tests change what is wrong while others look.

    Attributes:
        wrong: what checks find, by their id; all else is well.
        gates: checks that wait to be let through, by their id; `asked` says that one does.
    """

    def __init__(self, **wrong: Finding) -> None:
        self.wrong = {name.replace("_", ".", 1): found for name, found in wrong.items()}
        self.gates: dict[str, threading.Event] = {}
        self.asked = threading.Event()
        self.busy = False
        self.gives_way: StoreError | None = None
        self.looked: list[str] = []
        self.closed = False

    def checks(self) -> Sequence[Check]:
        return [
            self._check("schema.tables", "Are all tables there?", quick=True, repair=True),
            self._check(
                "schema.keys", "Has every table its primary key?", needs=("schema.tables",)
            ),
            self._check("store.speed", "Does the store answer quickly?", quick=True),
            self._check("store.clock", "Do its clock and ours agree?"),
            self._check("secrets.shared", "Do all instances have the same secrets?"),
            self._check("seats.capacity", "Are there no more holders than seats?"),
        ]

    def close(self) -> None:
        self.closed = True

    def doctor(self) -> Doctor:
        return Doctor([self], self._lock)

    def hold(self, name: str) -> threading.Event:
        """Let a check wait for the event that is returned."""
        self.gates[name] = threading.Event()
        return self.gates[name]

    def plan(self) -> Sequence[Step]:
        return [COPY, REBUILD] if "schema.tables" in self.wrong else []

    def apply(self) -> Iterator[Step]:
        for step in self.plan():
            if self.gives_way is not None:
                raise self.gives_way
            yield step
        self.wrong.pop("schema.tables", None)

    def _check(
        self,
        name: str,
        title: str,
        *,
        quick: bool = False,
        repair: bool = False,
        needs: tuple[str, ...] = (),
    ) -> Check:
        def look() -> Finding:
            self.looked.append(name)
            gate = self.gates.get(name)
            if gate is not None:
                self.asked.set()
                assert gate.wait(DEADLINE)
            return self.wrong.get(name) or WELL[name]

        return Check(
            id=name,
            area=Area(name.partition(".")[0]),
            title=title,
            looked_at=PLACES[name],
            look=look,
            repair=self if repair else None,
            quick=quick,
            needs=needs,
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        if self.busy:
            raise RepairBusy("Another doctor is repairing, on host db-2 since 12:00:03.")
        yield


GONE = StoreUnavailable("The connection was lost.")
