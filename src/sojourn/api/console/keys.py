"""The page of API keys: which there are, who made what with them last, and making and revoking them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from sojourn.api.console.pages import ROWS_MAX, Pages, asking
from sojourn.api.console.visits import ConsoleAnswer, Visitor
from sojourn.clock import DAY
from sojourn.console.frame import Notice
from sojourn.console.keys import LASTS, ROLES, KeyRow, key_row
from sojourn.console.seats import Heading
from sojourn.console.words import count
from sojourn.errors import InvalidInput
from sojourn.finding import Verdict
from sojourn.ledger import ApiKey, Role
from sojourn.service.keys import Permission
from sojourn.service.operators import Operator, Operators


class KeysPages(Pages):
    """For administrators alone, as in the API: names of keys say who has access."""

    async def keys(self, visitor: Visitor) -> ConsoleAnswer:
        return await self.show(visitor, "keys.html", "keys", self._keys)

    async def act(self, visitor: Visitor) -> ConsoleAnswer:
        """Make or revoke a key, and show the page again; with the new key, this once."""
        made: list[tuple[ApiKey, str]] = []
        works: dict[str, Callable[[Visitor, Operator], Notice]] = {
            "make": partial(self._make, made),
            "revoke": self._revoke,
        }
        wish = visitor.field("do")
        if wish not in works:
            raise InvalidInput("do: make or revoke.")
        done = await self.do(visitor, Permission.KEYS, works[wish])
        if not isinstance(done, Notice):
            return done
        secret = made[0][1] if made else ""
        again = asking(visitor, {})
        read = partial(self._keys, secret=secret)
        return await self.show(again, "keys.html", "keys", read, notice=done)

    def _make(self, made: list[tuple[ApiKey, str]], visitor: Visitor, operator: Operator) -> Notice:
        name, role = visitor.field("name").strip(), visitor.field("role")
        if role not in ROLES:
            raise InvalidInput(f"role: one of {', '.join(ROLES)}.")
        lasts = visitor.field("lasts")
        if lasts not in LASTS:
            raise InvalidInput(f"lasts: one of {', '.join(LASTS)}.")
        keys, days = self.context.services.keys, LASTS[lasts]
        expires = None if days is None else keys.now() + days * DAY
        made.append(keys.create(name, Role(role), expires_at=expires, actor=operator.actor))
        return Notice(
            verdict=Verdict.OK,
            title=f"The key of {name} is made. Copy it now.",
            text="It is shown this once: only its hash is kept.",
        )

    def _revoke(self, visitor: Visitor, operator: Operator) -> Notice:
        services = self.context.services
        key = services.keys.revoke(visitor.field("key"), actor=operator.actor)
        Operators(services.keys, services.sessions, ()).dismiss(key.id, actor=operator.actor)
        return Notice(
            verdict=Verdict.OK,
            title=f"The key of {key.name} is revoked.",
            text="It is refused from now on, and whoever signed in here with it is signed out.",
        )

    def _keys(self, visitor: Visitor, operator: Operator, *, secret: str = "") -> dict[str, Any]:
        keys = self.context.services.keys
        after = visitor.query("after") or None
        found = keys.list(after=after, limit=ROWS_MAX + 1, newest=True)
        shown, now = found[:ROWS_MAX], keys.now()
        used = keys.last_used([key.id for key in shown])
        rows = [key_row(key, used.get(key.id), now, own=operator.key.id) for key in shown]
        more = len(found) > ROWS_MAX
        wish = visitor.query("ask")
        return {
            "answer": _answer(rows, more=more or after is not None),
            "rows_of_keys": rows,
            "asked": next((row for row in rows if row.key_id == wish and row.valid), None),
            "secret": secret,
            "roles": ROLES.items(),
            "lasts": LASTS,
            "nothing": "There is no key yet." if after is None else "There is no older key.",
            "older": "keys?" + urlencode({"after": shown[-1].id}) if more else "",
        }


def _answer(rows: Sequence[KeyRow], *, more: bool) -> Heading:
    valid = sum(row.valid for row in rows)
    said = f"{count(valid, 'API key')} {'opens' if valid == 1 else 'open'} this server."
    if more:
        said = f"{count(len(rows), 'API key')} and more."
    idle = sum(row.idle for row in rows)
    soon = sum(row.soon for row in rows)
    bad = (
        [f"{count(soon, 'key')} {'ends' if soon == 1 else 'end'} within two weeks."] if soon else []
    )
    if idle:
        bad.append(f"{count(idle, 'key')} {'was' if idle == 1 else 'were'} not used for 90 days.")
    return Heading(said, " ".join(bad), "The newest first. Of a key only its hash is kept.")
