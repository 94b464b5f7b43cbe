"""The pages that are one table: keys, nodes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.api.console.pages import ROWS_MAX, Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console.seats import Heading
from sojourn.console.words import count, exact, when
from sojourn.ledger import INSTANCE_ALIVE, ApiKey, Instance
from sojourn.service.operators import Operator


class Cell(Struct, frozen=True, kw_only=True):
    """What stands in one place of a table. `tone`: of a word that names a state."""

    text: str
    under: str = ""
    link: str = ""
    tone: str = ""


class ListPages(Pages):
    """Tables that are read page by page."""

    async def keys(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "keys", self._keys)

    async def nodes(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "nodes", self._nodes)

    def _keys(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        keys = self.context.services.keys
        after = visitor.query("after") or None
        found = keys.list(after=after, limit=ROWS_MAX + 1, newest=True)
        shown, now = found[:ROWS_MAX], keys.now()
        valid, more = sum(key.valid(now) for key in shown), len(found) > ROWS_MAX
        said = f"{count(valid, 'API key')} {'opens' if valid == 1 else 'open'} this server."
        if more or after is not None:
            said = f"{count(len(shown), 'API key')}{' and more' if more else ''}."
        return {
            "name": "Keys",
            "answer": Heading(
                said,
                rest="The newest first. A key is shown once, when it is made: only its hash is kept.",
            ),
            "search": None,
            "search_for": "",
            "heads": ("Key", "Role", "State", "Made"),
            "table_rows": [_key(key, now) for key in shown],
            "nothing": "There is no key yet." if after is None else "There is no older key.",
            "older": "keys?" + urlencode({"after": shown[-1].id}) if more else "",
            "command": "sojourn key list",
        }

    def _nodes(self, _visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        ledger = self.context.services.ledger
        found, now = ledger.instances(), ledger.now()
        running = [each for each in found if _runs(each, now)]
        versions = {each.version for each in running}
        secrets = {each.fingerprints for each in running}
        bad = []
        if len(versions) > 1:
            bad.append(f"They run {len(versions)} versions.")
        if len(secrets) > 1:
            bad.append("They do not have the same secrets.")
        return {
            "name": "Nodes",
            "answer": Heading(
                f"{count(len(running), 'server process')} "
                f"{'runs' if len(running) == 1 else 'run'}.".replace("processs", "processes"),
                " ".join(bad),
            ),
            "search": None,
            "search_for": "",
            "heads": ("Process", "State", "Version", "Started", "Fingerprints of secrets"),
            "table_rows": [_node(each, now) for each in found[:ROWS_MAX]],
            "nothing": "No server has said that it runs.",
            "older": "",
            "command": "sojourn doctor --area secrets",
        }


def _key(key: ApiKey, now: int) -> tuple[Cell, ...]:
    state, under = "Valid", ""
    tone = "active" if key.valid(now) else "bad"
    if key.revoked_at is not None:
        state, under = "Revoked", when(key.revoked_at, now).ago
    elif key.expires_at is not None:
        state = "Valid" if key.expires_at > now else "Expired"
        left = key.expires_at - now
        under = f"expires in {exact(left)}" if left > 0 else when(key.expires_at, now).ago
    made = when(key.created_at, now)
    return (
        Cell(text=key.name, under=key.id),
        Cell(text=key.role.value),
        Cell(text=state, under=under, tone=tone),
        Cell(text=made.ago, under=made.exact),
    )


def _runs(instance: Instance, now: int) -> bool:
    return instance.stopped_at is None and now - instance.seen_at < INSTANCE_ALIVE


def _node(instance: Instance, now: int) -> tuple[Cell, ...]:
    seen = when(instance.seen_at, now).ago
    state = "Runs" if _runs(instance, now) else "Silent"
    tone = "active" if _runs(instance, now) else "bad"
    if instance.stopped_at is not None:
        state, tone = "Stopped", "leaving"
    started = when(instance.started_at, now)
    return (
        Cell(text=f"{instance.host}, process {instance.pid}", under=instance.id),
        Cell(text=state, under=f"seen {seen}", tone=tone),
        Cell(text=instance.version),
        Cell(text=started.ago, under=started.exact),
        Cell(
            text=", ".join(instance.fingerprints) or "none of its own",
            under="the first one signs" if len(instance.fingerprints) > 1 else "",
        ),
    )
