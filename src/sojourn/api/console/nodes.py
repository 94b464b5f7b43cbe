"""The page of nodes: servers over this ledger, and relays that grant seats of it."""

from __future__ import annotations

from typing import Any

from sojourn.allotment import Authority
from sojourn.api.console.pages import ROWS_MAX, Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.clock import DAY
from sojourn.console.nodes import (
    NodesView,
    nodes_answer,
    region_view,
    relay_rows,
    server_rows,
)
from sojourn.console.words import exact
from sojourn.license import split_pool_id
from sojourn.service.operators import Operator


class NodesPages(Pages):
    """Facts alone: nodes are started and stopped where they run."""

    async def nodes(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "nodes.html", "nodes", self._nodes)

    def _nodes(self, _visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        services = self.context.services
        found, now = services.ledger.instances(), services.ledger.now()
        status = None if services.region is None else services.region.status()
        authority, at, refused = (
            (Authority(), now, {}) if services.relays is None else services.relays.known()
        )
        pools = {*authority.pools, *(() if status is None else (x.pool_id for x in status.pools))}
        names = services.ledger.license_names(sorted({split_pool_id(x)[0] for x in pools}))
        keys = services.keys.known_by_id([*authority.relays, *refused])
        called = {key_id: key[0].name for key_id, key in keys.items()}
        servers = server_rows(found, now)
        kept = services.ledger.relay_commands
        relays = relay_rows(
            authority,
            refused,
            called,
            names,
            at,
            draining={x.relay for x in kept.orders() if not x.pool_id and x.most == 0},
            uses=kept.uses(since=at // DAY * DAY) if authority.relays else (),
        )
        region = None if status is None else region_view(status, names)
        doubt = authority.doubt_until - at if authority.doubts(at) else 0
        view = NodesView(
            answer=nodes_answer(servers, relays, region),
            servers=tuple(servers[:ROWS_MAX]),
            hidden=max(0, len(servers) - ROWS_MAX),
            relays=tuple(relays[:ROWS_MAX]),
            doubt=exact(doubt) if doubt > 0 else "",
            region=region,
        )
        return {"view": view, "answer": view.answer}
