"""What is looked at, what is found, and what would mend it: the words of doctor.

A check answers one question and gives exactly one finding. Whoever knows the technology makes the checks
(stores, the HTTP side, settings); doctor runs them and knows none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from sojourn.decoding import prepared


class Area(StrEnum):
    """Where a check looks, in the order in which people read them."""

    SETTINGS = "settings"
    SCHEMA = "schema"
    STORE = "store"
    SECRETS = "secrets"
    COOKIES = "cookies"
    ROUND_TRIP = "round-trip"
    SEATS = "seats"


class Part(StrEnum):
    """What a store keeps apart, whatever it calls it: a table of a database, mostly."""

    SESSIONS = "sessions"
    SESSION_USERS = "session_users"
    LEASES = "leases"
    POOLS = "pools"
    WAITING = "waiting"
    RELAYS = "relays"
    RELAY_COMMANDS = "relay_commands"
    EVENTS = "events"
    MARKS = "marks"
    REQUESTS = "requests"
    LICENSES = "licenses"
    FEATURES = "features"
    API_KEYS = "api_keys"
    AUDITS = "audits"
    SWEEPS = "sweeps"
    SWEEP_PLANS = "sweep_plans"
    SWEEP_RUNS = "sweep_runs"
    USAGE = "usage"
    INSTANCES = "instances"
    WEBHOOKS = "webhooks"
    WEBHOOK_DELIVERIES = "webhook_deliveries"


class Verdict(StrEnum):
    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"

    @property
    def rank(self) -> int:
        """Order by how bad it is: 0 is fine."""
        return {Verdict.OK: 0, Verdict.SKIPPED: 0, Verdict.WARNING: 1, Verdict.FAILURE: 2}[self]


class Fix(Struct, frozen=True, kw_only=True):
    """What mends it: in words, and letter by letter what to run or to write."""

    text: str
    command: str = ""  # for a shell
    sql: str = ""
    setting: str = ""  # lines of sojourn.toml, or of the server's own configuration


class Finding(Struct, frozen=True, kw_only=True):
    """What one check found. `means` says what it does to users, the worst of it in its first sentence;
    evidence is what was seen. `parts`: what is at fault; none named: everything.

    None of it holds a token, a secret or a password.
    """

    verdict: Verdict
    title: str  # one sentence that stands alone: nobody reads it beside the question
    evidence: tuple[str, ...] = ()
    means: str = ""
    fix: Fix | None = None
    parts: tuple[Part, ...] = ()

    @property
    def effect(self) -> str:
        """Say in one sentence what it does to users; where that is not known, what is wrong."""
        first = re.split(r"(?<=[.])\s", self.means, maxsplit=1)[0]
        return first or self.title


class Step(Struct, frozen=True, kw_only=True):
    """A part of a repair: what, why, how many rows (None: not known before), how to undo it."""

    what: str
    why: str
    rows: int | None = None
    undo: str = ""


class Repair(Protocol):
    """Mends what a check found. Both may be killed anywhere and asked again: what is done stays done."""

    def plan(self) -> Sequence[Step]:
        """Say what would be done; changes nothing. Empty: there is nothing left to do."""

    def apply(self) -> Iterator[Step]:
        """Do it, and yield each step as it is done. Loses no row that can be read."""


class Check(Struct, frozen=True, kw_only=True):
    """One question. `look` reads; it may raise StoreError, which doctor tells as a failure of this check."""

    id: str  # area, dot, noun: "schema.tables"; the heading in the documentation
    area: Area
    title: str  # the question, in plain words
    looked_at: str  # where: a table, a setting, an address
    look: Callable[[], Finding]
    repair: Repair | None = None  # only where it is safe to let doctor do it
    quick: bool = False  # cheap enough for every few minutes, beside live traffic
    needs: tuple[str, ...] = ()  # ids of checks without whose OK (or warning) this one is skipped
    reads: frozenset[Part] = frozenset()  # what of the store it reads; empty: everything
    not_after: frozenset[Area] = frozenset()  # no repair in a run that mended these


def unmet(check: Check, found: Mapping[str, Finding]) -> str | None:
    """Return the first unmet prerequisite of a check, or None.

    One that was not asked for is taken to be well; so is one that fails for parts which are not read.
    """
    fine = (Verdict.OK, Verdict.WARNING)
    for name in check.needs:
        finding = found.get(name)
        if finding is None or finding.verdict in fine:
            continue
        if finding.parts and check.reads and check.reads.isdisjoint(finding.parts):
            continue
        return name
    return None


class Examiner(Protocol):
    """Knows one thing to look at: a store, its ledger, the settings, an address."""

    def checks(self) -> Sequence[Check]:
        """Say what there is to look at, in order. Looks at nothing yet, and never raises."""

    def close(self) -> None:
        """Give back what looking took; another look takes it again. Idempotent."""


@prepared
class Posted(Struct, frozen=True, kw_only=True):
    """What a check found, as other processes may read it; `at` in ms, by the host's clock."""

    check: str
    finding: Finding
    milliseconds: int
    at: int
    steps: tuple[Step, ...] = ()


class Board(Protocol):
    """Where the processes of one server show each other what doctor found. Raises nothing."""

    def post(self, found: Sequence[Posted]) -> None:
        """Show what this process found last, instead of what it showed before."""

    def read(self) -> tuple[Posted, ...]:
        """Return what all of them show; the same object as long as nothing has changed."""


def ok(title: str, *evidence: str) -> Finding:
    return Finding(verdict=Verdict.OK, title=title, evidence=evidence)


def skipped(why: str) -> Finding:
    return Finding(verdict=Verdict.SKIPPED, title=why)


def warning(
    title: str, *, evidence: Sequence[str] = (), means: str = "", fix: Fix | None = None
) -> Finding:
    return Finding(
        verdict=Verdict.WARNING, title=title, evidence=tuple(evidence), means=means, fix=fix
    )


def failure(
    title: str,
    *,
    evidence: Sequence[str] = (),
    means: str = "",
    fix: Fix | None = None,
    parts: Sequence[Part] = (),
) -> Finding:
    return Finding(
        verdict=Verdict.FAILURE,
        title=title,
        evidence=tuple(evidence),
        means=means,
        fix=fix,
        parts=tuple(parts),
    )


def clock_set_back(whose: str, milliseconds: int) -> Finding:
    """Say that a clock which a store goes by lies behind the store's time, by so much."""
    by = f"{milliseconds / 1_000:.1f} s"
    return warning(
        f"{whose} clock was set back by {by}; Sojourn goes on by its own time.",
        evidence=[f"it lies {by} behind the store's time"],
        means="Nobody loses a seat or a session by it; instants that are shown are ahead by as much.",
        fix=Fix(
            text="Set it right, and let it keep time by NTP.", command="timedatectl set-ntp true"
        ),
    )
