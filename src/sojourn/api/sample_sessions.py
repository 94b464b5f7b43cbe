"""Sample sessions, for trying a page out: they look like those of a person with many devices, and say that
they are none.

Each is labelled twice: by how its id begins, which nothing but this gives, and in its data. What has both
is taken away again, and nothing else.
"""

from __future__ import annotations

from itertools import cycle, islice

from msgspec import Struct

from sojourn.device import Device
from sojourn.errors import Forbidden
from sojourn.service.sessions import SessionService
from sojourn.session import PRESETS, Begin, Begun, End

PREFIX = "ses_sample_"
LABEL = "sojourn.sample"
"""The key in their data that says so."""
USER = "sample-user"
SAMPLES_MAX = 500
"""Of one request, to make or to take away."""
REASON = "sample_removed"

_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
_IOS = "like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 "
_CHROME = "Chrome/139.0.0.0 "

# Addresses are those set aside for documentation (RFC 5737, RFC 3849): nobody has them.
_DEVICES = (
    (f"{_MAC}{_CHROME}Safari/537.36", "192.0.2.17", "Lisbon, Portugal", "default"),
    (
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 {_IOS}Safari/604.1",
        "198.51.100.23",
        "Lisbon, Portugal",
        "aal1",
    ),
    (
        f"{_WINDOWS}{_CHROME}Safari/537.36 Edg/139.0.0.0",
        "203.0.113.142",
        "Vienna, Austria",
        "office-day",
    ),
    (f"{_ANDROID}{_CHROME}Mobile Safari/537.36", "2001:db8:5e55:10::2a", "Osaka, Japan", "aal1"),
    ("python-httpx/0.28.1", "203.0.113.9", None, "aal2"),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        "198.51.100.201",
        "Nairobi, Kenya",
        "default",
    ),
    (
        f"Mozilla/5.0 (iPad; CPU OS 18_5 {_IOS}Safari/604.1",
        "192.0.2.88",
        "Montréal, Canada",
        "default",
    ),
)


class Removed(Struct, frozen=True):
    """How many were taken away, and where to go on; None: that was all."""

    ended: int
    next: str | None


class Samples:
    """Makes them, where that is allowed, and takes them away, wherever they are found."""

    def __init__(self, sessions: SessionService, *, dev: bool) -> None:
        self._sessions = sessions
        self._dev = dev

    def make(self, user_id: str, count: int) -> list[Begun]:
        """Begin so many sessions of a user, all of them now: a store's own clock decides. Raises
        Forbidden."""
        if not self._dev:
            raise Forbidden(
                "Sample sessions are made by a server for developing only, and this one is not.",
                code="not_dev",
                hint="Start one beside it with `sojourn serve --dev`. Never give people one with --dev.",
            )
        wishes = [
            Begin(
                user_id=user_id,
                data={LABEL: True},
                timeouts=PRESETS[preset],
                device=Device(
                    user_agent=agent, ip=ip, place=f"{place} (sample)" if place else "Sample"
                ),
            )
            for agent, ip, place, preset in islice(cycle(_DEVICES), count)
        ]
        begun = self._sessions.begin(wishes, prefix=PREFIX)
        return [each for each in begun if isinstance(each, Begun)]

    def remove(self, *, after: str | None, limit: int, actor: str) -> Removed:
        """End the next ones, by their ids, after one."""
        found = self._sessions.list(after=max(after or "", PREFIX), limit=limit)
        ours = [each for each in found if each.id.startswith(PREFIX)]
        ids = tuple(each.id for each in ours if each.data.get(LABEL) is True)
        ended = self._sessions.end([End(ids=ids, reason=REASON, actor=actor)])[0] if ids else []
        full = len(ours) == limit
        return Removed(len(ended), ours[-1].id if full else None)
