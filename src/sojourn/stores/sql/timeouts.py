"""A PostgreSQL connection that does not wait for ever for a server that froze."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg.errors import OperationalError
from psycopg.rows import TupleRow


class ImpatientConnection(psycopg.Connection[TupleRow]):
    """Closes itself when a reply takes longer than `reply_timeout` seconds."""

    reply_timeout: float | None = None

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        if self.reply_timeout is None:
            return super().wait(gen, *args, **options)
        deadline = time.monotonic() + self.reply_timeout
        return super().wait(self._until(deadline, gen), *args, **options)

    def _until(self, deadline: float, gen: Any) -> Generator[Any, Any, Any]:
        """Pass the driver's waiting on; it comes by ten times a second even if nothing arrives."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()  # a late reply would answer somebody else's question
                    raise OperationalError("no reply in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
