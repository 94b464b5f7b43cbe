"""An address of its own for /metrics: it is to be had nowhere else, and nothing else is there.

One process listens at both. Which of them a request came by is told by the port of the connection's own end,
which nothing that is sent can change.
"""

from __future__ import annotations

from typing import Any

from sojourn.api.router import raw_path
from sojourn.people.live import reject
from sojourn.settings import listen_address
from sojourn.wire.problems import answer_problem, problem

METRICS = b"/metrics"
NOTHING_HERE = answer_problem(
    problem("not_found", "There is nothing at this path.", "See /openapi.json.")
)


class Apart:
    """`listen`: where /metrics is, as the setting `metrics_listen` says it; empty: with all the rest."""

    def __init__(self, listen: str) -> None:
        self._port = listen_address(listen)[1] if listen else None

    def is_there(self, server: Any) -> bool:
        """Tell whether a connection came by the address of /metrics. `server`: its own end."""
        return self._port is not None and server is not None and server[1] == self._port

    def bars(self, scope: Any) -> bool:
        """Tell whether there is nothing for this request where it has come to."""
        if self._port is None:
            return False
        scraped = scope["type"] == "http" and raw_path(scope) == METRICS
        return scraped is not self.is_there(scope.get("server"))

    async def refuse(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await reject(send, NOTHING_HERE)
        else:
            await NOTHING_HERE(scope, receive, send)
