"""The audit trail: written with what it tells of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.events import bump
from sojourn.stores.sql.rows import to_json
from sojourn.stores.sql.schema import audits


def audit(tx: Tx, actor: str, action: str, subject: str, data: dict[str, Any]) -> None:
    """Append to the audit trail; the last thing a transaction does, as its ids have no gaps."""
    row = {"actor": actor, "action": action, "subject": subject, "data": to_json(data)}
    tx.core(insert(audits), row | {"at": tx.now(), "id": bump(tx, "audits", 1)})
