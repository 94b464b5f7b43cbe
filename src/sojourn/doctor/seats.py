"""Do the store and the ledger agree on pools, is nobody on a seat that nobody knows of, is swept?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from sojourn.clock import HOUR, SECOND
from sojourn.event import CANARY_LICENSE, EventKind
from sojourn.finding import (
    Area,
    Check,
    Finding,
    Fix,
    Part,
    Repair,
    Step,
    failure,
    ok,
    skipped,
    warning,
)
from sojourn.lease import Lease, LeaseFilter, Usage
from sojourn.ledger import Ledger
from sojourn.license import Policy, Pool
from sojourn.service.licenses import Licenses
from sojourn.service.sweeper import Sweeper
from sojourn.store import LIST_MAX, Action, Store

SHOWN_MAX = 10
LEASES_MAX = 50_000
"""Leases that are looked at for orphans; of more, the first ones."""
POOLS_MAX = 20_000
AUDITS_MAX = 200_000
"""Entries of the audit trail that are read for what was deleted; of more, the first ones."""
DENIALS_MAX = 500
ACTOR = "system:doctor"
ORPHANED = "orphaned"
UNSURE = frozenset({Area.SCHEMA, Area.STORE})
"""After repairs of these, what the ledger lacks may have been lost: nobody's seat is ended for it."""


class Seen(Struct, frozen=True):
    """What was read: leases that nobody accounts for, and why."""

    strays: tuple[tuple[Lease, str], ...]
    strangers: tuple[Lease, ...]  # the ledger lacks their licenses, and tells of no end of those
    met: bool  # the ledger knows the licenses of others
    cut: bool  # there were more leases than were looked at


class _Define:
    """Gives the store the ledger's pools, as a server does at its start."""

    def __init__(self, examiner: SeatExaminer) -> None:
        self._examiner = examiner

    def plan(self) -> Sequence[Step]:
        wrong = self._examiner.differing()
        if not wrong:
            return []
        return [
            Step(
                what="Define the ledger's pools in the store again.",
                why="The store lacks some, or has them otherwise.",
                rows=len(wrong),
                undo="Nothing to undo: the ledger decides. Nobody loses a seat.",
            )
        ]

    def apply(self) -> Iterator[Step]:
        steps = self.plan()
        Licenses(self._examiner.store(), self._examiner.ledger()).reconcile()
        yield from steps


class _End:
    """Ends leases that belong to nothing any more."""

    def __init__(self, examiner: SeatExaminer) -> None:
        self._examiner = examiner

    def plan(self) -> Sequence[Step]:
        strays = self._examiner.seen().strays
        if not strays:
            return []
        return [
            Step(
                what="End leases that belong to nothing any more.",
                why="Their license or their session is gone; they hold seats all the same.",
                rows=len(strays),
                undo="Nothing brings them back: a client is told `revoked`, and takes no seat by itself. "
                "Whoever opens it anew gets one, if there is one.",
            )
        ]

    def apply(self) -> Iterator[Step]:
        steps = self.plan()
        ids = [lease.id for lease, _ in self._examiner.seen().strays]
        for start in range(0, len(ids), LIST_MAX):
            which = LeaseFilter(ids=tuple(ids[start : start + LIST_MAX]))
            self._examiner.store().revoke(which, Action(actor=ACTOR, name=ORPHANED))
        yield from steps


class _Sweep:
    """Sweeps, as a server does by itself."""

    def __init__(self, examiner: SeatExaminer) -> None:
        self._examiner = examiner

    def plan(self) -> Sequence[Step]:
        return [
            Step(
                what="Sweep once.",
                why="Nothing has, for long, or the last sweep failed.",
                undo="Nothing to undo: only what is over is noted and forgotten.",
            )
        ]

    def apply(self) -> Iterator[Step]:
        Sweeper(self._examiner.store(), self._examiner.ledger()).run(actor=ACTOR)
        yield from self.plan()


class SeatExaminer:
    """Looks at seats, by the contracts of store and ledger."""

    def __init__(
        self,
        store: Callable[[], Store],
        ledger: Callable[[], Ledger],
        *,
        sweep_interval: float,
        place: str,
        needs: tuple[str, ...] = (),
    ) -> None:
        self.store = store
        self.ledger = ledger
        self._interval = round(sweep_interval * SECOND)
        self._place = place
        self._needs = needs

    def checks(self) -> Sequence[Check]:
        pools, seats = {Part.FEATURES, Part.LICENSES, Part.POOLS}, {Part.LEASES}
        people = {Part.SESSIONS, Part.SESSION_USERS}
        asked: tuple[tuple[str, str, Callable[[], Finding], Repair | None, set[Part]], ...] = (
            ("pools", "Has the store the ledger's pools?", self._pools, _Define(self), pools),
            (
                "orphans",
                "Does every lease belong to somebody?",
                self._orphans,
                _End(self),
                pools | seats | people | {Part.AUDITS},
            ),
            (
                "capacity",
                "Are there no more holders than seats?",
                self._capacity,
                None,
                pools | seats,
            ),
            ("sweep", "Is what is over swept away?", self._sweep, _Sweep(self), {Part.SWEEPS}),
            (
                "denials",
                "Was anybody refused for a ghost?",
                self._denials,
                None,
                pools | {Part.EVENTS},
            ),
            ("policy", "Do policies contradict themselves?", self._policy, None, pools),
        )
        return [
            Check(
                id=f"seats.{name}",
                area=Area.SEATS,
                title=title,
                looked_at=self._place,
                look=look,
                repair=repair,
                quick=name == "sweep",
                needs=self._needs,
                reads=frozenset(reads),
                not_after=UNSURE if name == "orphans" else frozenset(),
            )
            for name, title, look, repair, reads in asked
        ]

    def close(self) -> None:
        """Does nothing: the caller owns both."""

    def known(self) -> list[Pool]:
        """Return the ledger's pools."""
        found: list[Pool] = []
        while page := self.ledger().pools(after=found[-1].id if found else None, limit=LIST_MAX):
            found += page
            if len(found) >= POOLS_MAX:
                break
        return found

    def differing(self) -> list[str]:
        """Name the pools that the store lacks, or has otherwise than the ledger."""
        wrong, known = [], self.known()
        for start in range(0, len(known), LIST_MAX):
            page = known[start : start + LIST_MAX]
            there = self.store().pools([pool.id for pool in page])
            wrong += [pool.id for pool, other in zip(page, there, strict=True) if pool != other]
        return wrong

    def seen(self) -> Seen:
        """Read the live leases, in pages, and hold them against the ledger and the sessions.

        A license that the ledger does not know was deleted only if its audit trail says so. Else the ledger
        is another one, was emptied, or comes from a backup of before: that says nothing about the leases.
        """
        store, names = self.store(), {pool.id for pool in self.known()}
        strays: list[tuple[Lease, str]] = []
        unknown: list[Lease] = []
        met, cut = False, True
        after: str | None = None
        for _ in range(LEASES_MAX // LIST_MAX):
            page, _ = store.leases(LeaseFilter(), after=after, limit=LIST_MAX)
            if not page:
                cut = False
                break
            after = page[-1].id
            page = [x for x in page if not x.pool_id.startswith(CANARY_LICENSE + ":")]  # a doctor's
            held = sorted({x.session_id for x in page if x.session_id is not None})
            gone = {i for i, why in zip(held, store.gone(held), strict=True) if why is not None}
            # Asked after the page was read: a license may have been made while it was.
            names |= self._found({x.pool_id for x in page} - names)
            for lease in page:
                if lease.pool_id not in names:
                    unknown.append(lease)
                    continue
                met = True
                if lease.session_id in gone:
                    strays.append((lease, "its session is gone"))
        deleted = self._deleted() if unknown else set()
        strangers = []
        for lease in unknown:
            if deleted & {lease.pool_id, lease.pool_id.partition(":")[0]}:
                strays.append((lease, "its license or feature was deleted"))
            else:
                strangers.append(lease)
        return Seen(tuple(strays), tuple(strangers), met, cut)

    def _deleted(self) -> set[str]:
        """Return the licenses, and the pools, that the ledger knows to have been deleted."""
        found: set[str] = set()
        after = 0
        for _ in range(AUDITS_MAX // LIST_MAX):
            page = self.ledger().audits(after=after, limit=LIST_MAX)
            for audit in page:
                if audit.action == "license.delete" and audit.subject:
                    found.add(audit.subject)
                elif audit.action == "feature.remove" and audit.subject:
                    found.add(f"{audit.subject}:{audit.data.get('feature', '')}")
            if len(page) < LIST_MAX:
                break
            after = page[-1].id
        return found

    def _found(self, pool_ids: set[str]) -> set[str]:
        """Return the pools of these pools' licenses that the ledger knows."""
        ledger, found = self.ledger(), set[str]()
        for license_id in sorted({name.partition(":")[0] for name in pool_ids}):
            after: str | None = None
            while page := ledger.pools(license_id, after=after, limit=LIST_MAX):
                found |= {pool.id for pool in page}
                after = page[-1].id
        return found

    def _pools(self) -> Finding:
        wrong = self.differing()
        if not wrong:
            return ok(f"The store has all {len(self.known()):,} pools as the ledger has them.")
        return failure(
            f"The store lacks {len(wrong):,} pools of the ledger, or has them otherwise.",
            evidence=wrong[:SHOWN_MAX],
            means="Who asks for a seat there is refused, or let in by rules that are no more.",
            fix=Fix(
                text="Define them again; every start of a server does.",
                command="sojourn doctor --fix",
            ),
        )

    def _orphans(self) -> Finding:
        seen = self.seen()
        if seen.strangers and not seen.strays:
            return _of_no_license(seen)
        if not seen.strays:
            looked = (
                f"Each of the first {LEASES_MAX:,} leases belongs to somebody."
                if seen.cut
                else "Every lease belongs to somebody."
            )
            return ok(looked)
        return warning(
            f"{len(seen.strays):,} leases belong to nothing any more.",
            evidence=[
                f"{lease.id} in {lease.pool_id}: {why}" for lease, why in seen.strays[:SHOWN_MAX]
            ],
            means="They hold seats until they fall silent.",
            fix=Fix(text="End them.", command="sojourn doctor --fix"),
        )

    def _capacity(self) -> Finding:
        known, over = self.known(), []
        for start in range(0, len(known), LIST_MAX):
            usages = self.store().usage([pool.id for pool in known[start : start + LIST_MAX]])
            over += [x for x in usages if x is not None and _seats_over(x) > 0]
        if not over:
            return ok("There are no more holders than seats in any pool.", f"{len(known):,} pools")
        return warning(
            f"{len(over):,} pools have more holders than seats.",
            evidence=[_over(x) for x in over[:SHOWN_MAX]],
            means="Nobody who is in loses a seat, and nobody gets one until enough have left: a pool was "
            "made smaller, or a store was replaced, or put back, that had lost seats. Relays are asked for "
            "theirs with every beat.",
            fix=Fix(
                text="Wait, raise the capacity, or end what looks dead.",
                command=f"sojourn seats list --license {over[0].pool_id.partition(':')[0]}",
            ),
        )

    def _sweep(self) -> Finding:
        sweeps, now = self.ledger().sweeps(limit=1), self.ledger().now()
        if not sweeps:
            return skipped(
                "Nothing has been swept yet: the first sweep comes a while after the start."
            )
        last, limit = sweeps[0], max(3 * self._interval, HOUR)
        ago = (now - last.started_at) / HOUR
        if last.error is not None:
            return warning(
                "The last sweep failed.",
                evidence=[last.error],
                means="Seats come free all the same; but what is over piles up.",
                fix=Fix(text="See the store's findings; then sweep.", command="sojourn sweep run"),
            )
        if now - last.started_at > limit:
            return warning(
                f"Nothing was swept for {ago:.1f} hours.",
                means="Seats come free all the same; but what is over piles up, and is told late.",
                fix=Fix(text="See that a server runs. To sweep now:", command="sojourn sweep run"),
            )
        return ok("What is over is swept away.", f"{ago:.1f} hours ago, in {last.took} ms")

    def _denials(self) -> Finding:
        """A holder past the linger after its suspicion held a seat while somebody was refused."""
        events = self.store().events(
            kinds=(EventKind.LEASE_DENIED,), limit=DENIALS_MAX, newest_first=True
        )
        policies = {pool.id: pool.policy for pool in self.known()}
        ghosts, full = [], 0
        for event in events:
            policy = policies.get(event.pool_id or "")
            full += event.data.get("reason") == "seat_limit"
            if policy is None or policy.when_full == "deny":
                continue
            patience = policy.suspect_after_ms + policy.linger
            silent = [
                x for x in event.data.get("holders", ()) if int(x.get("lastBeatAgo", 0)) > patience
            ]
            # One in a reserved seat keeps it from nobody who may not have that seat.
            kept = int(event.data.get("reserved", 0))
            if len(silent) > kept and event.data.get("suspect"):
                ghosts.append(
                    f"{event.pool_id}: {event.user_id} was refused, {len(silent)} were silent"
                )
        if ghosts:
            return failure(
                f"{len(ghosts)} of the last {len(events)} denials were for ghosts.",
                evidence=ghosts[:SHOWN_MAX],
                means="Somebody read that the limit is reached while nobody sat there.",
                fix=Fix(
                    text="Report it, with `sojourn seats debug`: an acquire takes such seats itself."
                ),
            )
        said = f"{full} of the last {len(events)} denials found every seat held"
        return ok("Nobody was refused while a seat was free.", said)

    def _policy(self) -> Finding:
        wrong = [(pool, why) for pool in self.known() for why in contradictions(pool.policy)]
        odd = [f"{pool.id}: {why}" for pool, why in wrong]
        if not odd:
            return ok("Policies do not contradict themselves.")
        return warning(
            f"{len(odd):,} rules of pools work against each other.",
            evidence=odd[:SHOWN_MAX],
            means="Living people lose seats, or seats stay taken for longer than anybody means.",
            fix=Fix(
                text="Change them, each as it is meant.",
                command="\n".join(dict.fromkeys(_mending(pool) for pool, _ in wrong[:SHOWN_MAX])),
            ),
        )


def _over(usage: Usage) -> str:
    above = f", and {usage.overdraft} above" if usage.overdraft else ""
    relays = f", {usage.allotted} allotted to relays" if usage.allotted else ""
    return f"{usage.pool_id}: {usage.in_use} of {usage.capacity}{above}{relays}"


def _seats_over(usage: Usage) -> int:
    """Count the seats that are out, here or with relays, and that there are not."""
    return usage.in_use + usage.allotted - usage.capacity - usage.overdraft


def _mending(pool: Pool) -> str:
    """Return a command that takes the contradictions out of a policy, in seconds that fit its heartbeat."""
    policy, flags = pool.policy, []
    beat = max(policy.heartbeat_interval, SECOND)
    lost = policy.lost_after
    if lost < 2 * beat:
        lost = 3 * beat
        flags.append(f"--lost-after {lost // SECOND}")
    if policy.suspect_after_ms < 3 * beat // 2:
        flags.append(f"--suspect-after {2 * beat // SECOND}")
    if policy.max_lease is not None and policy.max_lease <= lost:
        flags.append(f"--max-lease {2 * lost // SECOND}")
    if policy.idle_after is not None and policy.idle_after < beat:
        flags.append(f"--idle-after {2 * beat // SECOND}")
    if policy.capacity == 0:
        flags.append("--capacity 1")
    return " ".join(["sojourn feature set", pool.license_id, pool.feature, *flags])


def contradictions(policy: Policy) -> list[str]:
    """Say what in a valid policy works against itself."""
    beat, found = policy.heartbeat_interval, []
    if policy.lost_after < 2 * beat:
        found.append(
            "lost_after is under twice the heartbeat: one beat that is late costs the seat"
        )
    elif policy.suspect_after_ms < 3 * beat // 2:
        found.append("suspect_after is under one and a half heartbeats: the living are doubted")
    if policy.max_lease is not None and policy.max_lease <= policy.lost_after:
        found.append("max_lease is not longer than lost_after: no beat ever prolongs a lease")
    if policy.idle_after is not None and policy.idle_after < beat:
        found.append("idle_after is under the heartbeat: nobody can tell in time of being active")
    if policy.capacity == 0:
        found.append("capacity is 0: nobody gets a seat")
    return found


def _of_no_license(seen: Seen) -> Finding:
    count = len(seen.strangers)
    if not seen.met:
        title = f"The ledger knows no license of the {count:,} leases that are held."
        means = "It is empty, new or another store's"
    else:
        title = f"The ledger lacks the licenses of leases that are held: {count:,}."
        means = "It comes from a backup of before they were made"
    return warning(
        title,
        evidence=[f"{lease.id} in {lease.pool_id}" for lease in seen.strangers[:SHOWN_MAX]]
        if seen.met
        else (),
        means=f"{means}: their holders keep their seats, and the next ones are refused.",
        fix=Fix(
            text="Set `ledger` to the one that the servers use; if that was lost, restore it from "
            "a backup, or make the licenses again."
        ),
    )
