"""The guide tells every reason for which a row is skipped, and the bounds that are in force."""

from __future__ import annotations

import re
from pathlib import Path

from sojourn.adopt.formats import Reason
from sojourn.token import FOREIGN_MAX

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "moving-in.md"


def test_every_reason_is_in_the_table() -> None:
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told >= set(Reason)


def test_the_longest_token_is_as_it_is() -> None:
    (row,) = [line for line in GUIDE.read_text().splitlines() if "`bad_token`" in line]
    assert f"over {FOREIGN_MAX:,}" in row
