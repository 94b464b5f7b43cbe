"""What applications import stays where they look for it."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from sojourn.api.app import CALLS
from sojourn.api.openapi import document

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


def test_a_schema_keeps_its_name_where_its_module_moves() -> None:
    """Generated clients are called after it."""
    schemas = msgspec.json.decode(document(CALLS))["components"]["schemas"]
    assert "Done_sojourn.api.wire.Page_sojourn.api.wire.LeaseBody__" in schemas
    assert not [name for name in schemas if "sojourn.wire" in name]
