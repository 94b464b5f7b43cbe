"""What a relay and its authority tell each other about seats: a beat, and its answer.

They stand in `sojourn.allotment`, since every store decides on them.
"""

from __future__ import annotations

from sojourn.allotment import (
    AllotmentGrant,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
)

__all__ = ["AllotmentGrant", "AllotmentWish", "RelayAnswer", "RelayBeat", "RelayRefusal"]
