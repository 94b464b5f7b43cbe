"""The page `/console/keys`: which keys there are, what each may do, and whether anybody uses it."""

from __future__ import annotations

from msgspec import Struct

from sojourn.clock import DAY
from sojourn.console.words import When, exact, when
from sojourn.ledger import ApiKey, Role

IDLE = 90 * DAY
"""A valid key that nobody has used for so long is pointed out: it may be in somebody's drawer."""
SOON = 14 * DAY
"""A key that ends so soon is pointed out."""
ROLES = {
    Role.VIEWER.value: "reads, and changes nothing",
    Role.OPERATOR.value: "licenses, seats, webhooks; ends sessions",
    Role.ADMIN.value: "everything, API keys too",
    Role.APP.value: "a backend: begins and checks sessions",
    Role.RELAY.value: "a node in a region",
}
LASTS: dict[str, int | None] = {"30 days": 30, "90 days": 90, "a year": 365, "always": None}
"""How long a key is valid, in days."""


class KeyRow(Struct, frozen=True, kw_only=True):
    key_id: str
    name: str
    role: str
    state: str
    under: str
    tone: str
    valid: bool
    made: When
    used: When | None
    unused: str  # what is said where it was not used
    idle: bool
    soon: bool
    own: bool


def key_row(key: ApiKey, used_at: int | None, now: int, *, own: str) -> KeyRow:
    """Show a key. `used_at`: when it was used last, if that is known; `own`: the id of the looker's."""
    valid = key.valid(now)
    state, under, tone = "Valid", "", "active" if valid else "bad"
    left = None if key.expires_at is None else key.expires_at - now
    soon = valid and left is not None and left <= SOON
    if key.revoked_at is not None:
        state, under = "Revoked", when(key.revoked_at, now).ago
    elif left is not None:
        state = "Valid" if left > 0 else "Expired"
        under = (
            f"ends in {exact(left)}" if left > 0 else f"ended {when(key.expires_at or 0, now).ago}"
        )
        tone = "suspect" if soon else tone
    idle = valid and key.id != own and now - max(key.created_at, used_at or 0) > IDLE
    return KeyRow(
        key_id=key.id,
        name=key.name,
        role=key.role.value,
        state=state,
        under=under,
        tone=tone,
        valid=valid,
        made=when(key.created_at, now),
        used=None if used_at is None else when(used_at, now),
        unused="Not seen in use",
        idle=idle,
        soon=soon,
        own=key.id == own,
    )
