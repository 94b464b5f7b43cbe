"""What a store says of its own health; the doctor asks."""

from __future__ import annotations

from sojourn.store import Finding
from sojourn.stores.sql.database import Database


def check(db: Database) -> list[Finding]:
    """Say what is wrong, or might be."""
    del db
    return []
