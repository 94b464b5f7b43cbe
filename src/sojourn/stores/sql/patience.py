"""A PostgreSQL connection that does not wait for ever for a server that froze."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.errors import OperationalError
from psycopg.rows import TupleRow


class ImpatientConnection(psycopg.Connection[TupleRow]):
    """Closes itself when a reply takes longer than `reply_timeout` seconds."""

    reply_timeout: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = self.reply_timeout if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except OperationalError as error:
            if timeout is None and error.sqlstate is None:
                self.pgconn.finish()  # a late reply would answer somebody else's question
            raise
