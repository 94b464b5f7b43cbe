"""What applications import stays where they look for it."""

from __future__ import annotations

import importlib

import pytest

MOVED = {
    "sojourn.api.people": ("sojourn.people.calls", ("People", "PersonRequest", "asked")),
    "sojourn.service.visit": (
        "sojourn.service.request_session",
        ("AdoptedCookie", "RawTokens", "Request", "Rules", "Visit"),
    ),
}
"""What guides named, by its old module: its new one, and the names."""


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_one(old: str) -> None:
    new, names = MOVED[old]
    before, after = importlib.import_module(old), importlib.import_module(new)
    assert [getattr(before, name) for name in names] == [getattr(after, name) for name in names]
