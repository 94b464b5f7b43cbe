"""What all parts of the contract suite have in common."""

from __future__ import annotations

import pytest

from sojourn.clock import ManualClock

EXACT = {
    "upper case": ("ann", "Ann"),
    "trailing space": ("ann", "ann "),
    "leading space": ("ann", " ann"),
    "accent": ("ann", "änn"),
    "composed or not": ("\u00e9", "e\u0301"),
    "emoji": ("\N{GRINNING FACE}", "\N{GRINNING FACE WITH SMILING EYES}"),
    "sharp s": ("strasse", "straße"),
    "full width": ("A", "\uff21"),
    "long": ("x" * 255 + "a", "x" * 255 + "b"),
    "wildcards": ("a%", "ab"),
    "quotes": ("o'hara", "o''hara"),
    "backslash": ("a\\b", "a\\\\b"),
    "digits": ("1", "01"),
}
"""Pairs that a careless collation, or a careless query, takes for the same."""

exact_pairs = pytest.mark.parametrize(("one", "other"), list(EXACT.values()), ids=list(EXACT))

OWN_ID_MAX = 128
"""Users and clients are named by others, in up to 256 characters; leases and sessions by us."""


def own_id(name: str) -> str:
    """Make an id of our own of a name that is longer than those may be."""
    return name[-OWN_ID_MAX:]


class OnManualClock:
    """Tests whose clock stands still until they move it."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()
