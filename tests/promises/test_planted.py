"""The checker finds bugs that are planted in a server. The campaign plants each by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.promises.checker import said
from tests.promises.planted import BUGS
from tests.promises.planting import FOUND_AS, find

TOGETHER: dict[str, dict[str, str]] = {
    "lock-dropped,save-overwrites-another-key,rotated-token-lives,ended-session-keeps-seats": {
        "lock-dropped": "capacity",
        "save-overwrites-another-key": "write-lost",
        "rotated-token-lives": "rotated-token",
        "ended-session-keeps-seats": "ended-session-seat",
    },
    "fence-not-raised,refused-one-seat-early,stale-cache,answer-before-commit": {
        "fence-not-raised": "fence-repeats",
        "refused-one-seat-early": "denied-early",
        "stale-cache": "ended-session",
        "answer-before-commit": "write-lost",
    },
    "living-evicted,neighbors-answer": {
        "living-evicted": "living-lost",
        "neighbors-answer": "wrong-session",
    },
    "reserved-seat-sold": {"reserved-seat-sold": "reserved"},
}
"""Bugs that do not hide each other, in one server, and as what each must be found."""


@pytest.mark.parametrize("bugs", TOGETHER)
def test_planted_bugs_are_found(bugs: str, tmp_path: Path) -> None:
    told = find(bugs, tmp_path)
    missed = set(TOGETHER[bugs].values()) - set(told.verdict["counts"])
    assert missed == set(), "\n".join(said(told.verdict)[:40])


def test_each_bug_is_in_the_campaign() -> None:
    """Twelve of them, or more."""
    assert set(FOUND_AS) == set(BUGS)
    assert len(BUGS) >= 12
