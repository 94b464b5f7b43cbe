"""How surprising a silence is: phi accrual suspicion.

phi = -log10(chance that a living client stays silent for so long), after Hayashibara, Défago, Yared and
Katayama, "The phi accrual failure detector", SRDS 2004: phi 1 is wrong one time in ten, phi 2 one time in
a hundred. The chance has two parts. A beat that is on its way comes by a normal distribution, as in Akka's
`PhiAccrualFailureDetector`. A client that has stalled (a tunnel, a busy machine, a browser that saves energy)
comes back by an exponential one, as in Cassandra's `FailureDetector`. The normal tail alone is far too sure
of itself where clients stall: see docs/adr/0039.
"""

from __future__ import annotations

import math

from msgspec import Struct

PHI_MAX = 300.0
"""As far as doubt goes: beyond it a chance is no longer a number other than zero."""
_LEAST = 10.0**-PHI_MAX
_LONGEST = 1e15
"""ms; what is longer, or no number, counts as this."""
_ROOT2 = math.sqrt(2)


class Expectation(Struct, frozen=True, kw_only=True):
    """When the next beat of a living client comes, counted from its last one. Milliseconds."""

    due: float
    deviation: float
    stall: float  # the share of beats that come late because their client has stalled: 0 to 1
    stall_length: float  # how much later those come, on average


def chance_alive(silent_for: float, expected: Expectation) -> float:
    """Return the share of living clients that are silent for at least so long (ms): 0 to 1.

    Never rises with the silence, and is a number for any input: a silence that is none (the clock went
    back) counts as no silence, a deviation of zero as a millisecond.
    """
    late = _bounded(silent_for) - _bounded(expected.due)
    deviation = max(1.0, _bounded(expected.deviation))
    stalled = min(1.0, _bounded(expected.stall))
    on_its_way = 0.5 * math.erfc(late / deviation / _ROOT2)
    back = math.exp(-max(0.0, late) / max(1.0, _bounded(expected.stall_length)))
    return min(1.0, (1.0 - stalled) * on_its_way + stalled * back)


def phi(silent_for: float, expected: Expectation) -> float:
    """Return the suspicion that so long a silence (ms) raises: 0 to PHI_MAX. Never falls with the silence."""
    return max(0.0, -math.log10(max(_LEAST, chance_alive(silent_for, expected))))


def ghost_chance(suspicion: float, *, ghosts: float) -> float:
    """Return how likely a holder is gone, by Bayes: `ghosts` is the share of holders that are, before
    anything is known of their silence."""
    alive = (1.0 - ghosts) * 10.0 ** -min(PHI_MAX, max(0.0, suspicion))
    return ghosts / (ghosts + alive) if ghosts > 0 else 0.0


def _bounded(value: float) -> float:
    """Return a length or a share that can be counted with: NaN is the largest, below zero is zero."""
    return max(0.0, value) if value < _LONGEST else _LONGEST
