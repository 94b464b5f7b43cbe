"""The pages that are one table: sessions, licenses, keys, nodes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.api.console.pages import ROWS_MAX, WORDS_MAX, Pages
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.console import seats
from sojourn.console.seats import Heading
from sojourn.console.words import count, exact, when
from sojourn.ledger import INSTANCE_ALIVE, ApiKey, Instance
from sojourn.license import License, LicenseStatus
from sojourn.service.operators import Operator


class Cell(Struct, frozen=True, kw_only=True):
    """What stands in one place of a table."""

    text: str
    under: str = ""
    link: str = ""


class ListPages(Pages):
    """Tables that are read page by page."""

    async def sessions(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "sessions", self._sessions)

    async def licenses(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "licenses", self._licenses)

    async def keys(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "keys", self._keys)

    async def nodes(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "table.html", "nodes", self._nodes)

    def _sessions(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        after, words = visitor.query("after") or None, visitor.query("q").strip()[:WORDS_MAX]
        service = self.context.services.sessions
        found = service.list(after=after, limit=ROWS_MAX + 1, user_id=words or None)
        shown, now = found[:ROWS_MAX], self.context.services.store.now()
        rows = []
        for each in shown:
            device = each.device
            where = [x for x in (device.place, device.ip) if x] if device else []
            used = when(each.last_used_at, now)
            user = each.user_id or ""
            rows.append(
                (
                    Cell(
                        text=user or "Nobody yet",
                        link=seats.person_link(user) if user else "",
                        under=f"{each.impersonator} in their name" if each.impersonator else "",
                    ),
                    Cell(
                        text=(device.name if device else None) or "Unknown device",
                        under=" · ".join(where),
                    ),
                    Cell(text=used.ago, under=used.exact),
                    Cell(text=exact(each.expires_at - now)),
                    Cell(text=str(each.level)),
                )
            )
        more = len(found) > ROWS_MAX
        said = count(len(shown), "session") + (" and more" if more else "")
        following = {"after": shown[-1].id, "q": words} if more else {}
        return {
            "name": "Sessions",
            "answer": Heading(
                f"{said} of {words}."
                if words
                else f"{said} {'are' if len(shown) != 1 else 'is'} live.",
                rest="Find those of one person by their user id.",
            ),
            "search": words,
            "search_for": "User id",
            "heads": ("Person", "Device", "Last use", "Expires in", "Level"),
            "table_rows": rows,
            "nothing": "Nobody is signed in."
            if not words
            else "This person is not signed in anywhere.",
            "older": "sessions?" + urlencode(following) if following else "",
            "command": "sojourn sessions list",
        }

    def _licenses(self, visitor: Visitor, _operator: Operator) -> dict[str, Any]:
        ledger = self.context.services.ledger
        after = visitor.query("after") or None
        found = ledger.licenses(after=after, limit=ROWS_MAX + 1)
        shown, now = found[:ROWS_MAX], ledger.now()
        uses: dict[str, list[str]] = {}
        for use in self.lookup.pools():
            said = f"{use.pool.feature} {use.usage.in_use:,} of {use.usage.capacity:,}"
            uses.setdefault(use.pool.license_id, []).append(said)
        more = len(found) > ROWS_MAX
        return {
            "name": "Licenses",
            "answer": Heading(f"{count(len(shown), 'license')}{' and more' if more else ''}."),
            "search": None,
            "search_for": "",
            "heads": ("License", "State", "Seats in use"),
            "table_rows": [_license(each, uses.get(each.id, []), now) for each in shown],
            "nothing": "There is no license yet.",
            "older": "licenses?" + urlencode({"after": shown[-1].id}) if more else "",
            "command": "sojourn license list",
        }

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
            "heads": ("Process", "State", "Version", "Started", "Secrets"),
            "table_rows": [_node(each, now) for each in found[:ROWS_MAX]],
            "nothing": "No server has said that it runs.",
            "older": "",
            "command": "sojourn doctor --area secrets",
        }


def _license(license_: License, pools: list[str], now: int) -> tuple[Cell, ...]:
    state, under = "Active", ""
    if license_.status is LicenseStatus.SUSPENDED:
        state = "Suspended"
    elif license_.valid_from is not None and now < license_.valid_from:
        state, under = "Not valid yet", f"begins in {exact(license_.valid_from - now)}"
    elif license_.valid_until is not None and now >= license_.valid_until:
        state, under = "Over", f"ended {when(license_.valid_until, now).ago}"
    elif license_.valid_until is not None:
        under = f"ends in {exact(license_.valid_until - now)}"
    return (
        Cell(
            text=license_.name,
            under=license_.id,
            link="seats?" + urlencode({"q": license_.id}),
        ),
        Cell(text=state, under=under),
        Cell(text=" · ".join(pools[:4]) or "No feature yet", under=_rest(pools)),
    )


def _rest(pools: list[str]) -> str:
    return f"and {len(pools) - 4} more" if len(pools) > 4 else ""


def _key(key: ApiKey, now: int) -> tuple[Cell, ...]:
    state, under = "Valid", ""
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
        Cell(text=state, under=under),
        Cell(text=made.ago, under=made.exact),
    )


def _runs(instance: Instance, now: int) -> bool:
    return instance.stopped_at is None and now - instance.seen_at < INSTANCE_ALIVE


def _node(instance: Instance, now: int) -> tuple[Cell, ...]:
    seen = when(instance.seen_at, now).ago
    state = "Runs" if _runs(instance, now) else "Silent"
    if instance.stopped_at is not None:
        state = "Stopped"
    started = when(instance.started_at, now)
    return (
        Cell(text=f"{instance.host}, process {instance.pid}", under=instance.id),
        Cell(text=state, under=f"seen {seen}"),
        Cell(text=instance.version),
        Cell(text=started.ago, under=started.exact),
        Cell(text=", ".join(each[:8] for each in instance.fingerprints) or "none of its own"),
    )
