"""Whom to ask before somebody is denied, and what it means that somebody did not answer.

Who answers is alive, and stays. A living client fails to answer only while it cannot hear, which some kinds
of clients hardly ever do and others (phones) often: so an answer that is missing is weighed like a silence.
Servers decide by these functions (`api.asking`), and so do the traces that say what they are worth
(`make campaign-staleness`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from sojourn.clock import SECOND
from sojourn.lease import Lease
from sojourn.license import Policy
from sojourn.staleness.phi import PHI_MAX
from sojourn.staleness.priors import PRIORS, class_of
from sojourn.staleness.scores import Score, network_of

FRESH = 2 * SECOND
"""For so long after all holders were asked only those are asked who seem to be gone."""
GONE_FROM = 2.0
"""The suspicion from which who does not answer is taken for gone: wrong about one of a hundred living
clients that cannot hear just then, and no other."""

PEERS = 3
"""Others of the same network that are asked with each, however lately they were heard: if they do not answer
either, it is the network that is silent."""
TOGETHER_MIN = 2
"""Holders of one network that must be silent for it to be doubted."""


def whom_to_ask(
    candidates: Sequence[Lease],
    holders: Sequence[Lease],
    scores: Mapping[str, Score],
    *,
    limit: int,
) -> list[Lease]:
    """Return at most `limit` leases to ask: the most doubtful candidates first, each followed by some of
    its network among `holders`, those that can be asked. Also who is excused is asked: an answer tells
    more than an excuse. Pure."""
    by_network: dict[str | None, list[Lease]] = {}
    for lease in holders:
        by_network.setdefault(network_of(lease), []).append(lease)
    chosen: dict[str, Lease] = {}
    peers: dict[str | None, int] = {}
    for lease in sorted(candidates, key=lambda x: (-_phi(x, scores), x.last_beat_at, x.id)):
        if len(chosen) >= limit:
            break
        chosen[lease.id] = lease
        network = network_of(lease)
        for peer in by_network.get(network, ()) if network is not None else ():
            if peers.get(network, 0) >= PEERS or len(chosen) >= limit:
                break
            if peer.id not in chosen:
                chosen[peer.id] = peer
                peers[network] = peers.get(network, 0) + 1
    return list(chosen.values())


def unanswered(lease: Lease, policy: Policy, waited: int, *, doubtful: bool) -> float:
    """Return the suspicion that a question raises which was not answered for so many ms. `doubtful`: its
    holder seemed to be gone when it was asked."""
    prior = PRIORS[class_of(lease.device)]
    chance = prior.deaf if doubtful else prior.stall
    length = max(1.0, prior.stall_length * policy.heartbeat_interval)
    return min(
        PHI_MAX,
        -math.log10(max(10.0**-PHI_MAX, chance)) + max(0, waited) / length / math.log(10),
    )


def gone(
    asked: Sequence[Lease],
    answered: Collection[str],
    scores: Mapping[str, Score],
    policy: Policy,
    *,
    waited: int,
    doubtful: Collection[str],
    heard_from: Collection[str] = (),
) -> list[Lease]:
    """Return which of those asked, `waited` ms ago, are to be taken for gone, the surest first. Pure.

    `asked`: as `whom_to_ask` chose them, with others of their networks; of the doubtful alone most are silent
    anyway, and their network would seem to be. `answered`: the ids of leases that have shown life since;
    `doubtful`: of those that seemed to be gone already, as their socket had dropped, or was silent for an
    interval. Where more than half of those asked in one network are silent, and at least TOGETHER_MIN, it is
    the network that is doubted: nobody in it is gone. Unless it is one of `heard_from`: networks that
    somebody has just been heard from, such as who wants a seat.
    """
    silent = [lease for lease in asked if lease.id not in answered]
    cut_off = _cut_off(asked, silent) - set(heard_from)
    doubts = []
    for lease in silent:
        if network_of(lease) in cut_off:
            continue
        doubt = max(
            unanswered(lease, policy, waited, doubtful=lease.id in doubtful), _phi(lease, scores)
        )
        if doubt >= GONE_FROM:
            doubts.append((-doubt, lease.last_beat_at, lease.id, lease))
    return [lease for *_, lease in sorted(doubts, key=lambda x: x[:3])]


def _phi(lease: Lease, scores: Mapping[str, Score]) -> float:
    score = scores.get(lease.id)
    return 0.0 if score is None else score.phi


def _cut_off(asked: Sequence[Lease], silent: Sequence[Lease]) -> set[str | None]:
    """Name the networks from which most of those asked did not answer."""
    all_of: dict[str | None, int] = {}
    silent_of: dict[str | None, int] = {}
    for counts, leases in ((all_of, asked), (silent_of, silent)):
        for lease in leases:
            network = network_of(lease)
            counts[network] = counts.get(network, 0) + 1
    return {
        network
        for network, count in silent_of.items()
        if network is not None and count >= TOGETHER_MIN and 2 * count > all_of[network]
    }
