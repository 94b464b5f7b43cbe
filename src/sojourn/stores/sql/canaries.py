"""Removing the traces of doctor's canaries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete

from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.schema import leases, pools, session_users, sessions


def forget(db: Database, user_id: str, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
    """Delete rows of a user who never was; see `Store.forget`. In the order in which all lock."""
    mine = (sessions.c.user_id == user_id, sessions.c.id.in_(session_ids))

    def work(tx: Tx) -> None:
        tx.core(delete(session_users).where(session_users.c.user_id == user_id))
        tx.core(delete(sessions).where(*mine))
        tx.core(delete(pools).where(pools.c.id.in_(pool_ids)))
        tx.core(delete(leases).where(leases.c.pool_id.in_(pool_ids)))

    db.transaction(work)
