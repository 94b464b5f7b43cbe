"""A moment of each flood. `make campaign-attack` is the long form: it also looks at how long beats take."""

from __future__ import annotations

from tests.attack.campaign import BRIEF, attack


def test_no_flood_fills_the_memory_or_costs_a_beat() -> None:
    rows = attack(BRIEF)
    assert len(rows) >= 19
    assert [(row.flood, row.lasting) for row in rows if row.lasting] == []
    asked = {row.flood: row.rate for row in rows if not row.statuses.get("held")}
    assert all(rate > 0 for rate in asked.values()), asked
