"""The promises about seats, held to what clients saw."""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter

from tests.promises.case import MARGIN, Case
from tests.promises.grants import Grant, Ledger, ledgers_of, measure
from tests.promises.history import Record
from tests.promises.judge_sessions import Sessions
from tests.promises.possible import Possible

BEAT_TIMEOUT = 1.0  # seconds after which a client gives a beat up, and tries the other server
CUTOFF_BOUND = 5.0  # seconds within which seats of sessions that a cutoff has ended are gone


def judge(case: Case, sessions: Sessions) -> None:
    for ledger in ledgers_of(case):
        _fences(case, ledger)
        _copies(case, ledger)
        for grant in ledger.grants:
            measure(case, ledger, grant, sessions)
            _stale(case, ledger, grant)
            _living(case, ledger, grant, sessions)
            _of_ended_sessions(case, grant, sessions)
        _capacity(case, ledger)
        _refused(case, ledger, sessions)
        _denials(case, ledger)


def _fences(case: Case, ledger: Ledger) -> None:
    """Fences of a pool grow from one grant to those that are asked for after its answer."""
    seen: dict[int, Grant] = {}
    for grant in ledger.grants:
        other = seen.setdefault(grant.fence, grant)
        if other is not grant:
            text = f"fence {grant.fence} of pool {ledger.name} was handed out twice"
            case.blame("fence-repeats", text, other.record, grant.record)
    answered = sorted(ledger.grants, key=attrgetter("done"))
    at, highest = 0, None
    for grant in ledger.grants:  # by `sent`
        while at < len(answered) and answered[at].done < grant.sent:
            if highest is None or answered[at].fence > highest.fence:
                highest = answered[at]
            at += 1
        if highest is not None and grant.fence < highest.fence:
            text = f"a fence of pool {ledger.name} went back from {highest.fence} to {grant.fence}"
            case.blame("fence-falls", text, highest.record, grant.record)


def _copies(case: Case, ledger: Ledger) -> None:
    """A request that comes twice under one key is answered as it was the first time."""
    first: dict[tuple[str, str], Record] = {}
    for holder, acquires in ledger.acquires.items():
        for record in acquires:
            key = record.ask.get("key")
            if not key or record.status not in (201, 409):
                continue
            case.checked["copies"] += 1
            known = first.setdefault((holder, key), record)
            if known.status != record.status or known.said.get("f") != record.said.get("f"):
                case.blame("copy", "a copy of a request was answered anew", known, record)


def _capacity(case: Case, ledger: Ledger) -> None:
    """No more clients surely hold seats at one moment than there are."""
    edges: list[tuple[float, int, int]] = []
    for number, grant in enumerate(ledger.grants):
        if grant.sure > grant.done:
            edges.append((grant.done, 1, number))
            edges.append((grant.sure, 0, number))
    edges.sort()
    case.checked["intervals"] += len(edges) // 2
    holding: dict[int, None] = {}
    told_until = 0.0
    for at, starts, number in edges:
        if not starts:
            holding.pop(number, None)
            continue
        holding[number] = None
        holders = {ledger.grants[n].holder for n in holding}
        outside = sum(map(ledger.pool.is_outside, holders))
        most, open_to_all = ledger.pool.most, ledger.pool.most - ledger.pool.reserved
        if (len(holders) > most or outside > open_to_all) and at > told_until:
            told_until = at + 1.0
            broken = "capacity" if len(holders) > most else "reserved"
            text = (
                f"{len(holders)} clients surely held the {most} seats of pool {ledger.name} at"
                f" {at - case.zero:.3f}, {outside} of them the {open_to_all} that are open to all"
            )
            evidence = []
            for n in holding:
                grant = ledger.grants[n]
                good = [b for b in (*grant.beats, *grant.releases) if b.fine]
                evidence += [grant.record, *good[-1:]]
            case.blame(broken, text, *evidence[-12:])


def _superseded_at(ledger: Ledger, grant: Grant) -> Grant | None:
    """Return the first grant of the same holder with a higher fence to be answered."""
    higher = [g for g in ledger.by_holder[grant.holder] if g.fence > grant.fence]
    return min(higher, key=attrgetter("done"), default=None) if higher else None


def _stale(case: Case, ledger: Ledger, grant: Grant) -> None:
    """What is out of use stays so: superseded, released, refused, or silent for too long."""
    used = [*grant.beats, *grant.releases, *grant.resumes]
    if not used:
        return
    used.sort(key=attrgetter("sent"))
    next_ = _superseded_at(ledger, grant)
    over: list[tuple[float, str, Record]] = []
    if next_ is not None:
        over.append((next_.done, "its holder had a newer one", next_.record))
    for record in used:
        if record.done is None:
            continue
        if record.said.get("rel") is True and not case.lost(record):
            over.append((record.done, "it had been given back", record))
        elif record.status == 410 and case.lost(record):
            case.relaxed["refused for an end that the store lost with its last second"] += 1
        elif record.status == 410 and record.op == "beat":
            over.append((record.done, "it had been refused", record))
        elif record.status == 410 and record.op == "acquire":
            over.append((record.done, "it had been refused for good", record))
    since = grant.done
    for record in used:
        case.checked["uses of a token"] += 1
        took = (
            record.status == 201
            if record.op == "acquire"
            else record.status == 200 and record.said.get("rel") is not False
        )
        if took:
            for at, why, proof in over:
                if at >= record.sent:
                    continue
                if record.op == "acquire" and why == "it had been refused":
                    continue  # a lost lease may be resumed
                text = f"{record.op} with a token was accepted although {why}"
                case.blame("stale-token", text, grant.record, proof, record)
                break
            else:
                _revived(case, ledger, grant, record, since)
        if record.op == "beat" and (record.status == 200 or case.doubtful(record)):
            since = max(since, case.until(record))


def _revived(case: Case, ledger: Ledger, grant: Grant, record: Record, since: float) -> None:
    """A renewal brings nothing back that has run out."""
    if record.op != "beat":
        return
    end = case.extended(since, ledger.pool.lost_after, ledger.pool.lost_after)
    if record.sent > end:
        text = f"a beat was accepted {record.sent - since:.1f} s after the last one"
        case.blame("revived", text, grant.record, record)
    stays = record.said.get("in")
    if stays is not None and stays > ledger.pool.lost_after + 0.01:
        case.blame("expires-in", f"a beat was answered expiresIn {stays}", grant.record, record)


def _living(case: Case, ledger: Ledger, grant: Grant, sessions: Sessions) -> None:
    """Who beats in time never loses its seat, nor does who could not because we were away."""
    last = grant.record
    attempts: list[Record] = []
    for beat in grant.beats:  # by `sent`
        if beat.ask.get("bye"):
            return
        if beat.status == 200:
            last, attempts = beat, []
            continue
        attempts.append(beat)
        if beat.status == 410:
            break
    else:
        _gone_at_release(case, ledger, grant, last, sessions)
        return
    lost = attempts[-1]
    assert lost.done is not None
    mine = [
        grant.cut,
        sessions.may_end(grant.record.ask.get("s")),
        *(release.sent for release in grant.releases),
    ]
    if min(mine) <= lost.done:
        return  # its own doing, or it may be
    case.checked["ends of the living"] += 1
    waited = lost.done - last.sent
    pool = ledger.pool
    steps = [last.sent, *(attempt.sent for attempt in attempts)]
    longest = max(b - a for a, b in pairwise(steps))
    if case.loss_between(last.sent - 1, lost.done) and lost.said.get("resumable"):
        case.relaxed["lost with the store's last second, resumable"] += 1
    elif waited < pool.patience - MARGIN:
        text = f"a living client lost its seat {waited:.2f} s after its last good beat"
        case.blame("living-lost", text, grant.record, last, *attempts[-6:])
    elif longest > pool.heartbeat + BEAT_TIMEOUT + 0.5 or case.cut_off(last.sent, lost.done):
        return  # it did not try all the time, or could not
    elif case.troubled(last.sent - 2 * pool.heartbeat, last.closed):
        case.relaxed["lost in a second outage, without a beat between the two (ADR 6)"] += 1
    else:
        text = f"a client that tried to beat all the time lost its seat after {waited:.2f} s"
        case.blame("outage-cost", text, grant.record, last, *attempts[-8:])


def _gone_at_release(
    case: Case, ledger: Ledger, grant: Grant, last: Record, sessions: Sessions
) -> None:
    """A seat that is surely held is there to be given back."""
    if not grant.releases:
        return
    release = grant.releases[0]
    if release.said.get("rel") is not False or release.done is None:
        return
    others = [grant.cut, sessions.may_end(grant.record.ask.get("s"))]
    if min(others) <= release.done or case.loss_between(last.sent - 1, release.done):
        return
    if release.done - last.sent < ledger.pool.patience - MARGIN:
        text = "a seat was gone when its living holder gave it back"
        case.blame("living-lost", text, grant.record, last, release)


def _of_ended_sessions(case: Case, grant: Grant, sessions: Sessions) -> None:
    """Seats of ended sessions are gone, and new ones are not given to them."""
    session = grant.record.ask.get("s")
    end = sessions.ended(session)
    if end is None:
        return
    assert end.done is not None
    if grant.sent > end.done:
        case.blame("ended-session", "an ended session was given a seat", end, grant.record)
    bound = end.done
    if end.op == "cutoff":
        bound += CUTOFF_BOUND
        trouble = case.troubled(end.sent, bound)
        if trouble is not None:
            bound = max(bound, trouble.end + CUTOFF_BOUND)
    for beat in grant.beats:
        case.checked["beats of sessions that end"] += 1
        if beat.status == 200 and beat.sent > bound:
            text = f"the seat of an ended session was kept {beat.sent - end.done:.2f} s later"
            case.blame("ended-session-seat", text, grant.record, end, beat)


def _refused(case: Case, ledger: Ledger, sessions: Sessions) -> None:
    """Who surely holds a seat is not refused when it asks again."""
    for denial in ledger.denials:
        assert denial.done is not None
        for grant in ledger.by_holder[denial.ask["h"]]:
            if (
                grant.done < denial.sent
                and grant.patient > denial.done
                and not any(
                    grant is not other and other.fence > grant.fence and other.sent < denial.done
                    for other in ledger.by_holder[grant.holder]
                )
            ):
                if case.loss_between(grant.sent - 1, denial.done) or any(
                    beat.status == 410 and beat.sent < denial.sent for beat in grant.beats
                ):
                    continue  # blamed where it was lost
                text = "a client that held a seat was refused"
                case.blame("living-refused", text, grant.record, denial)
                break


def _denials(case: Case, ledger: Ledger) -> None:
    """A denial is right only if the pool may have been full while it was asked for."""
    possible = Possible(case, ledger)
    doubts = [
        (w.start, w.end + ledger.pool.lost_after + 1.0)
        for w in case.windows
        if case.facts.doubts and w.kind == "store-kill"
    ]
    doubts += [(at, at + ledger.pool.lost_after + MARGIN) for at in case.facts.noticed]
    for denial in ledger.denials:
        assert denial.done is not None
        if denial.said.get("code") != "seat_limit":
            continue
        used, limit = denial.said.get("used"), denial.said.get("limit")
        kept, above = denial.said.get("kept") or 0, ledger.pool.overdraft
        if any(start <= denial.done and denial.sent <= end for start, end in doubts):
            case.relaxed["refused while the store was in doubt after a restart"] += 1
            continue
        case.checked["denials"] += 1
        if used is not None and limit is not None and used + kept < limit + above:
            text = f"a denial says itself that {used} of {limit} seats were in use, {kept} kept"
            case.blame("denied-early", text, denial)
            continue
        most = possible.most(denial.sent, denial.done)
        open_to = ledger.pool.most
        if ledger.pool.is_outside(denial.ask["h"]):
            open_to -= ledger.pool.reserved
        if most < open_to:
            text = (
                f"a denial although at most {most} of {open_to} seats of pool"
                f" {ledger.name} can have been held"
            )
            case.blame("denied-early", text, *possible.holders(denial.sent), denial)
