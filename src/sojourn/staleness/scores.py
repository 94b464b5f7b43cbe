"""Who is probably gone, and why: a score per lease, with its reasons in words.

A score never ends a lease. It says whom to ask first, what to forecast, and what to tell an operator.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sojourn.lease import Lease
from sojourn.license import Policy
from sojourn.staleness.history import TRUSTED, Beats
from sojourn.staleness.outages import Member, outages
from sojourn.staleness.phi import PHI_MAX, Expectation, phi
from sojourn.staleness.priors import PRIORS, ClientClass, class_of, prior_expectation

STALLS_TRUSTED = 100
"""Beats for which the class's share of stalls counts: they are too rare for a lease to know its own."""
ASK_FROM = 1.0
"""The suspicion from which a holder is worth asking: one living client in ten is silent for so long."""
HERE, ELSEWHERE = "this server", "other servers"
"""Where a lease beats."""


class Seen(Struct, frozen=True, kw_only=True):
    """A lease, and what is known of its silence beyond what the store shows."""

    lease: Lease
    silent_for: int  # ms, without the time for which we stood still ourselves
    history: Beats | None = None  # None: it does not beat in this process
    stood_still: int = 0  # ms that were taken off


class Score(Struct, frozen=True, kw_only=True):
    """How doubtful a holder is. `phi` 1: so would one living client in ten look; 2: one in a hundred."""

    lease_id: str
    phi: float
    silent_for: int  # ms
    due_in: int  # ms from the last beat to when the next one was to be expected
    excused: bool = False  # its network or its server is doubted, and it is not
    reasons: tuple[str, ...] = ()


def expectation(lease: Lease, history: Beats | None, policy: Policy) -> Expectation:
    """Return when a living holder would beat again: by its own habit, by its class until that is known."""
    kind = class_of(lease.device)
    prior, own = prior_expectation(kind, policy), PRIORS[kind]
    throttled = float(min(own.throttled, policy.lost_after))
    if history is None:
        announced = _announced(lease, policy)
        return replace(prior, due=max(prior.due, throttled, announced))
    known = min(1.0, history.learned / TRUSTED)
    spread = (1 - known) * prior.deviation**2 + known * history.deviation**2
    stalls = STALLS_TRUSTED * prior.stall + history.learned * history.stalls
    mean = (1 - known) * prior.due + known * history.mean
    return Expectation(
        due=max(mean, throttled, history.announced),
        deviation=math.sqrt(spread),
        stall=stalls / (STALLS_TRUSTED + history.learned),
        stall_length=prior.stall_length,
    )


def _announced(lease: Lease, policy: Policy) -> float:
    """Read the announcement of a lease that beats elsewhere off its row; see `lease.beat_aims`."""
    patience = lease.suspect_at - lease.last_beat_at
    if patience >= policy.lost_after:  # more than a row can tell
        return float(policy.lost_after)
    if patience <= policy.suspect_after_ms:
        return 0.0
    return float(patience - policy.suspect_after_ms + policy.heartbeat_interval)


def assess(seen: Sequence[Seen], policy: Policy, now: int) -> list[Score]:
    """Score leases of one pool, in their order, at the store's `now`. Pure.

    The more of the pool's holders are given, the surer outages of a whole network are told from people
    who went: those of whom more than half fell silent together are excused.
    """
    members, scores = [], []
    for each in seen:
        expected = expectation(each.lease, each.history, policy)
        doubt, said = _doubt(each, expected, policy, now)
        scores.append(
            Score(
                lease_id=each.lease.id,
                phi=doubt,
                silent_for=each.silent_for,
                due_in=round(expected.due),
                reasons=_reasons(each, expected, doubt, said),
            )
        )
        members.append(_member(each, expected, spoke=said is not None))
    for index, reason in outages(members).items():
        score = scores[index]
        scores[index] = replace(score, phi=0.0, excused=True, reasons=(reason, *score.reasons))
    return scores


def _doubt(seen: Seen, expected: Expectation, policy: Policy, now: int) -> tuple[float, str | None]:
    """Return the suspicion, and the sign beside its silence that a lease gave, if it did."""
    raised = phi(seen.silent_for, expected)
    lease, kind = seen.lease, class_of(seen.lease.device)
    sign = PRIORS[kind].dropped
    if lease.suspect_at > now:
        return raised, None
    if lease.suspect_at <= lease.last_beat_at:
        said = "It said goodbye, and has not come back."
        sign += (now - lease.last_beat_at) / max(1, policy.linger)
    elif lease.suspect_at < lease.last_beat_at + policy.suspect_after_ms:
        said = "Its socket dropped, and has not come back."
        sign += (now - lease.suspect_at) / max(1.0, expected.stall_length) / math.log(10)
    else:
        return raised, None
    return min(PHI_MAX, max(raised, sign)), said


def _member(seen: Seen, expected: Expectation, *, spoke: bool) -> Member:
    kind = class_of(seen.lease.device)
    groups = [HERE if seen.history is not None else ELSEWHERE]
    if (network := network_of(seen.lease)) is not None and kind is not ClientClass.SERVICE:
        groups.append(network)
    return Member(
        silent_for=seen.silent_for,
        due=expected.due,
        late=seen.silent_for > expected.due + expected.deviation and not spoke,
        groups=tuple(groups),
    )


def network_of(lease: Lease) -> str | None:
    """Name the network that a lease was taken from; see `network_around`."""
    return network_around(None if lease.device is None else lease.device.ip)


def network_around(ip: str | None) -> str | None:
    """Name the network of an address: its /24, or its /48 of IPv6; None if not known. Loopback is the address
    of a proxy that does not say for whom it speaks."""
    if not ip:
        return None
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    known = mapped or address
    if known.is_loopback:
        return None
    kept = 24 if known.version == 4 else 48
    return f"network {ipaddress.ip_network((known, kept), strict=False)}"


def _reasons(seen: Seen, expected: Expectation, doubt: float, said: str | None) -> tuple[str, ...]:
    words = [] if said is None else [said]
    words.append(
        f"Silent for {_time(seen.silent_for)}; its next beat was to be expected after"
        f" {_time(expected.due)}, give or take {_time(expected.deviation)}."
    )
    words.append(
        "So silent is a living client"
        + (f" once in {_often(doubt)}." if doubt >= 1 else " quite often.")
    )
    count = 0 if seen.history is None else seen.history.learned
    kind = class_of(seen.lease.device).value
    if seen.history is None:
        words.append(f"It does not beat at this server: judged as a client of class {kind}.")
    elif count < TRUSTED:
        words.append(f"{count} of its beats are known: judged in part as a client of class {kind}.")
    if seen.history is not None and seen.history.announced > seen.history.mean:
        words.append(f"It announced its next beat for {_time(seen.history.announced)} later.")
    if seen.stood_still:
        words.append(f"This server itself stood still for {_time(seen.stood_still)}: taken off.")
    return tuple(words)


def order(
    candidates: Sequence[Lease], scores: Mapping[str, Score], *, at_least: float = 0.0
) -> list[Lease]:
    """Return whom to ask, the most doubtful first; ties, and leases without a score, by the longest
    silence. Who is excused is not asked, since it could not hear; nor is who is doubted less than
    `at_least`."""
    asked = [
        lease
        for lease in candidates
        if (score := scores.get(lease.id)) is None or (not score.excused and score.phi >= at_least)
    ]
    return sorted(asked, key=lambda x: (-_phi(scores.get(x.id)), x.last_beat_at, x.id))


def _phi(score: Score | None) -> float:
    return 0.0 if score is None else score.phi


def _time(ms: float) -> str:
    seconds = ms / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _often(doubt: float) -> str:
    return f"{round(10**doubt):,}" if doubt < 9 else "a billion or more"
