"""Express's own statements, and a look at its table."""

from __future__ import annotations

import json
from typing import Any

import psycopg

SET = """INSERT INTO "session" (sess, expire, sid) SELECT %s, to_timestamp(%s), %s
ON CONFLICT (sid) DO UPDATE SET sess=%s, expire=to_timestamp(%s) RETURNING sid"""
"""connect-pg-simple's own."""


def express_set(
    database: psycopg.Connection[Any], sid: str, sess: dict[str, Any], end: float
) -> None:
    """Save as connect-pg-simple does; `end` in seconds."""
    text = json.dumps(sess)
    database.execute(SET, (text, end, sid, text, end))


def rows(database: psycopg.Connection[Any], sql: str, *params: Any) -> list[tuple[Any, ...]]:
    return database.execute(sql.encode(), params).fetchall()
