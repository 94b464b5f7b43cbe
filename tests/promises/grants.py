"""Seats as they were granted: for how long each was surely held."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from tests.promises.case import MARGIN, Case
from tests.promises.history import Pool, Record
from tests.promises.judge_sessions import Sessions

NEVER = float("inf")
LOOK_BACK = 8  # acquires of one holder before another one that may be under way at once


@dataclass(eq=False, slots=True)
class Grant:
    """A seat as it was granted: one lease under one fence."""

    record: Record
    pool: str
    holder: str
    lease: str
    fence: int
    sent: float
    done: float
    beats: list[Record] = field(default_factory=list)
    releases: list[Record] = field(default_factory=list)
    resumes: list[Record] = field(default_factory=list)
    cut: float = NEVER  # when its holder may have asked anew, which puts this fence out of use
    sure: float = 0.0  # the end of the time in which it surely held
    patient: float = 0.0  # the same, had its holder not asked for anything else


@dataclass(eq=False, slots=True)
class Ledger:
    """All that clients of one pool saw."""

    name: str
    pool: Pool
    grants: list[Grant] = field(default_factory=list)
    acquires: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    by_holder: dict[str, list[Grant]] = field(default_factory=lambda: defaultdict(list))
    doubtful: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    denials: list[Record] = field(default_factory=list)


def ledgers_of(case: Case) -> Iterable[Ledger]:
    """Sort what clients saw by pool, and by grant."""
    ledgers: dict[str, Ledger] = {}
    grants: dict[tuple[str, int], Grant] = {}
    later: list[Record] = []
    first: dict[tuple[str, str], float] = {}  # when a holder sent the first of a request's copies
    for record in case.records:
        if record.op not in ("acquire", "beat", "release"):
            continue
        name = record.ask["p"]
        ledger = ledgers.setdefault(name, Ledger(name, case.facts.pools[name]))
        if record.op == "acquire":
            ledger.acquires[record.ask["h"]].append(record)
            if case.doubtful(record):
                ledger.doubtful[record.ask["h"]].append(record)
            key = record.ask["h"], record.ask.get("key") or ""
            sent = first.setdefault(key, record.sent) if key[1] else record.sent
            if record.status == 201 and "l" in record.said:
                _note(case, ledger, grants, record, sent)
            elif record.status == 409:
                ledger.denials.append(record)
        if "f" in record.ask:
            later.append(record)
    for record in later:
        grant = grants.get((record.ask["l"], record.ask["f"]))
        if grant is not None:
            where = {"beat": grant.beats, "release": grant.releases}
            where.get(record.op, grant.resumes).append(record)
    for ledger in ledgers.values():
        ledger.grants.sort(key=attrgetter("sent"))
    return ledgers.values()


def _note(
    case: Case,
    ledger: Ledger,
    grants: dict[tuple[str, int], Grant],
    record: Record,
    sent: float,
) -> None:
    """`sent`: when the first of its copies was, which may be what was granted."""
    lease, fence = record.said["l"], record.said["f"]
    assert record.done is not None
    case.checked["grants"] += 1
    known = grants.get((lease, fence))
    if known is not None:
        key = record.ask.get("key")
        if key and key == known.record.ask.get("key"):
            known.done = min(known.done, record.done)  # a repeated request's first answer
            return
        text = f"fence {fence} of pool {ledger.name} was handed out twice"
        case.blame("fence-repeats", text, known.record, record)
        return
    grant = Grant(record, ledger.name, record.ask["h"], lease, fence, sent, record.done)
    grants[lease, fence] = grant
    ledger.grants.append(grant)
    ledger.by_holder[grant.holder].append(grant)


def _supersedes(case: Case, grant: Grant, other: Record) -> bool:
    """Tell whether another acquire of the same holder may have put this grant's fence out of use."""
    if other is grant.record:
        return False
    if other.status == 201:
        return bool(other.said.get("f", 0) > grant.fence)
    return case.doubtful(other) and case.until(other) >= grant.sent


def measure(case: Case, ledger: Ledger, grant: Grant, sessions: Sessions) -> None:
    """Work out for how long a grant surely held its seat."""
    last = proven = grant.sent
    for beat in grant.beats:
        if beat.status == 200 and not beat.ask.get("bye"):
            last = proven = max(last, beat.sent)
    acquires = ledger.acquires[grant.holder]
    here = bisect_right(acquires, grant.sent, key=attrgetter("sent"))
    before = [other for other in ledger.doubtful[grant.holder] if other.sent <= grant.sent]
    for other in (*before, *acquires[max(0, here - LOOK_BACK) :]):
        if case.doubtful(other) and case.until(other) < last:
            continue  # a beat under this fence was accepted when it could act no more
        if _supersedes(case, grant, other):
            # A beat that was accepted under this fence proves that no other was in use by then.
            grant.cut = max(other.sent, grant.sent if other.fine else last)
            break
    spoiled = NEVER
    for beat in grant.beats:
        if beat.ask.get("bye") and (beat.done is None or beat.done >= last or not beat.fine):
            spoiled = min(spoiled, beat.sent)
    for release in grant.releases:
        spoiled = min(spoiled, release.sent)
        if release.said.get("rel") is True:
            proven = max(proven, release.sent)
    spoiled = min(spoiled, sessions.may_end(grant.record.ask.get("s")))
    patient = last + ledger.pool.patience - MARGIN
    grant.patient = min(patient, spoiled)
    grant.sure = min(max(proven, grant.patient), grant.cut)
