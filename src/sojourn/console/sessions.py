"""The page `/console/sessions`: who is signed in, on which device, and is one of them odd?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sojourn.console.seats import person_link
from sojourn.console.words import When, brief, when
from sojourn.service.operators import USER as OPERATOR
from sojourn.session import Session


class SessionRow(Struct, frozen=True, kw_only=True):
    """A session. `person`: where to read of its user, if it has one."""

    session_id: str
    user_id: str
    person: str
    impersonator: str
    kind: str
    device: str
    place: str
    last_used: When
    expires: str
    seats: int
    level: int
    sample: bool
    operator: bool  # at the console, by a key
    ask: str

    @property
    def named(self) -> str:
        """Name it so that it is told from others of its user."""
        return ", ".join(x for x in (self.device, self.place) if x)


def session_rows(
    found: Sequence[Session], held: Mapping[str, int], now: int, *, sample: str, here: str
) -> list[SessionRow]:
    """Show sessions. `held`: seats by session; `sample`: how the ids of samples begin; `here`: the page's
    address, to which a question is added."""
    return [_row(each, held.get(each.id, 0), now, sample, here) for each in found]


def _row(each: Session, seats: int, now: int, sample: str, here: str) -> SessionRow:
    device, user = each.device, each.user_id or ""
    where = [x for x in (device.place, device.ip) if x] if device else []
    return SessionRow(
        session_id=each.id,
        user_id=user,
        person=person_link(user) if user else "",
        impersonator=each.impersonator or "",
        kind=(device.kind if device else None) or "unknown",
        device=(device.name if device else None) or "Unknown device",
        place=" · ".join(where),
        last_used=when(each.last_used_at, now),
        expires=brief(each.expires_at - now),
        seats=seats,
        level=each.level,
        sample=each.id.startswith(sample),
        operator=user.startswith(OPERATOR),
        ask=f"{here}{'&' if '?' in here else '?'}ask={each.id}#question",
    )
