"""What other systems write for a session that is over."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

LIVE = frozenset(
    {
        "",
        "active",
        "live",
        "alive",
        "valid",
        "open",
        "online",
        "current",
        "ok",
        "enabled",
        "1",
        "true",
        "t",
    }
)
"""Words in a column `status` of sessions that go on; none at all says nothing."""
OVER = frozenset(
    {
        *(
            "ended",
            "expired",
            "revoked",
            "inactive",
            "closed",
            "terminated",
            "invalid",
            "invalidated",
        ),
        *("logged_out", "loggedout", "signed_out", "signedout", "logout", "offline", "deleted"),
        *("disabled", "destroyed", "killed", "evicted", "timeout", "timed_out", "0", "false", "f"),
    }
)


class Ending(Enum):
    """What a row says of its session; UNCLEAR: a word that may mean either."""

    LIVE = 1
    OVER = 2
    UNCLEAR = 3


def ending_of(row: Mapping[str, Any]) -> Ending:
    """Read a row: of `active`, a list, one that is false says that it is over; of `over`, one that is true;
    `status` is a word."""
    if any(value is not None and not truth(value) for value in row.get("active", ())):
        return Ending.OVER
    if any(_is_set(value) for value in row.get("over", ())):
        return Ending.OVER
    status = row.get("status")
    word = "" if status is None else str(status).strip().lower().replace("-", "_")
    if word in LIVE:
        return Ending.LIVE
    return Ending.OVER if word in OVER else Ending.UNCLEAR


def _is_set(value: Any) -> bool:
    """Tell whether a column such as ended_at or is_revoked says anything."""
    if value is None or str(value).strip() == "" or str(value).startswith("0000-00-00"):
        return False
    return truth(value)


def truth(value: Any) -> bool:
    """Read what some database calls a boolean; what is not known is not false."""
    if isinstance(value, bytes):
        return value != b"\0"
    return str(value).strip().lower() not in ("false", "f", "0", "no", "n", "off")
