"""Who is looked at, where there are more than are looked at at once."""

from __future__ import annotations

import pytest

from sojourn.service.watch import Turns


@pytest.mark.parametrize("count", [10, 11, 15, 20, 29])
def test_everybody_has_a_turn(count: int) -> None:
    """Also where two kinds, as many of each, are looked at one after the other."""
    turns, seen = Turns(10), {"pools": set[int](), "sessions": set[int]()}
    for _ in range(count):
        for kind, found in seen.items():
            taken = turns.take(kind, list(range(count)))
            assert len(taken) == len(set(taken)) == 10
            found.update(taken)
    assert seen == {"pools": set(range(count)), "sessions": set(range(count))}
