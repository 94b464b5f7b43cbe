"""Counts what happened, from the event stream and from what the demo did to people. Pure.

Whether a seat was ever given twice is worked out afterwards, from instants alone: every stay on a seat
has a beginning and an end (an expired lease ends when it expired, however late that was noted), and no
more than `capacity` stays may overlap at any instant.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct

NEVER = 1 << 62
IN_FLIGHT = 250
"""Milliseconds for which what somebody sent before they died may still be on its way. Their last beat
is counted from when it arrives."""

BEGINS = frozenset({"lease.acquired", "lease.resumed", "lease.taken_over"})
ENDS = frozenset({"lease.released", "lease.evicted", "lease.revoked", "lease.expired"})
DENIED = "lease.denied"
WAITING = "lease.waiting"


class Stay(Struct):
    """A lease, from a grant until it ended."""

    lease_id: str
    user: str
    client: str
    start: int
    end: int = NEVER
    ended_by: str = ""


class Death(Struct):
    """Somebody fell silent without giving the seat back, who cannot or may not come again."""

    user: str
    client: str
    at: int
    patience: int  # ms after which the seat must be free for others
    until: int = NEVER  # they came back


class Summary(Struct, frozen=True, kw_only=True, rename="camel"):
    """What `sojourn demo` ends with. The last two must be 0."""

    acquires: int
    denials: int
    waits: int  # how often somebody found no seat and stood in the line
    ghosts: int
    ghosts_reclaimed: int
    longest_ghost_held: float  # seconds from the death to the end of the lease, or the return
    denials_past_time: int  # or waits that began, while a ghost held a seat past its time
    over_grants: int


class Tally:
    """Feed it events in their order, and deaths as they are caused."""

    def __init__(self, capacity: int, lost_after: int) -> None:
        self._capacity = capacity
        self._lost_after = lost_after
        self._stays: list[Stay] = []
        self._open: dict[str, Stay] = {}
        self._first: dict[str, int] = {}  # when each lease was acquired, which survives a resume
        self._deaths: list[Death] = []
        self._denials: list[tuple[int, list[dict[str, Any]]]] = []
        self._waits: list[int] = []
        self._acquires = 0

    def add(self, event: dict[str, Any]) -> None:
        """Take an event of the API."""
        kind, at = event["kind"], instant(event["at"])
        lease_id = event.get("subject") or ""
        data = event.get("data") or {}
        if kind in BEGINS:
            self._begin(event, lease_id, at)
        elif kind in ENDS:
            if kind == "lease.expired" and "heldFor" in data:
                held_for = round(data["heldFor"] * 1000)
                at = self._first.get(lease_id, at - held_for) + held_for
            self._end(lease_id, at, kind)
        elif kind == DENIED and data.get("reason") == "seat_limit":
            self._denials.append((at, data.get("holders") or []))
        elif kind == WAITING:
            self._waits.append(at)

    def _begin(self, event: dict[str, Any], lease_id: str, at: int) -> None:
        self._acquires += 1
        self.revived(event["userId"], event["clientId"], at)
        if event["kind"] == "lease.taken_over" and lease_id in self._open:
            return  # the same seat, kept under a new fence
        self._first.setdefault(lease_id, at)
        stay = Stay(lease_id, event["userId"], event["clientId"], at)
        self._open[lease_id] = stay
        self._stays.append(stay)

    def _end(self, lease_id: str, at: int, kind: str) -> None:
        stay = self._open.pop(lease_id, None)
        if stay is not None:
            stay.end, stay.ended_by = at, kind

    def died(self, user: str, client: str, at: int, patience: int) -> None:
        self._deaths.append(Death(user, client, at, patience))

    def revived(self, user: str, client: str, at: int) -> None:
        """Note that somebody who fell silent speaks again."""
        for death in self._deaths:
            if (death.user, death.client) == (user, client) and death.until == NEVER:
                death.until = at

    @property
    def acquires(self) -> int:
        return self._acquires

    @property
    def denials(self) -> int:
        return len(self._denials)

    def summary(self, settled: int = NEVER) -> Summary:
        """Count. Judge what happened up to `settled` only: later grants may rest on leases that ran
        out and have not been noted yet."""
        ghosts = list(self._ghosts())
        reclaimed = [(d, s) for d, s in ghosts if s.end <= d.until and s.end != NEVER]
        held = [min(s.end, d.until) - d.at for d, s in ghosts if min(s.end, d.until) != NEVER]
        return Summary(
            acquires=self._acquires,
            denials=len(self._denials),
            waits=len(self._waits),
            ghosts=len(ghosts),
            ghosts_reclaimed=len(reclaimed),
            longest_ghost_held=max(held, default=0) / 1000,
            denials_past_time=sum(
                self._past_time(at, said, ghosts)
                for at, said in [*self._denials, *((at, []) for at in self._waits)]
                if at <= settled
            ),
            over_grants=over_grants(
                [stay for stay in self._stays if stay.start <= settled], self._capacity
            ),
        )

    def _ghosts(self) -> Iterable[tuple[Death, Stay]]:
        """Pair each death with the stay it left behind; whoever held nothing left no ghost."""
        for death in self._deaths:
            for stay in self._stays:
                same = (stay.user, stay.client) == (death.user, death.client)
                if same and stay.start <= death.at < stay.end:
                    yield death, stay

    def _past_time(
        self, at: int, holders: list[dict[str, Any]], ghosts: list[tuple[Death, Stay]]
    ) -> bool:
        """Tell whether a denial came while a ghost sat on a seat past its time: by the denial's own
        evidence, or by when we know that somebody died."""
        if any(h["lastBeatAgo"] * 1000 > self._lost_after or h["expiresIn"] <= 0 for h in holders):
            return True
        return any(
            death.at + death.patience + IN_FLIGHT < at < min(stay.end, death.until)
            for death, stay in ghosts
        )


def over_grants(stays: Iterable[Stay], capacity: int) -> int:
    """Count the grants that made more leases live than there are seats."""
    moments = [(s.start, 1) for s in stays] + [(s.end, -1) for s in stays if s.end != NEVER]
    moments.sort()  # an end (-1) sorts before a grant at the same instant
    live = over = 0
    for _, change in moments:
        live += change
        over += change > 0 and live > capacity
    return over


def instant(text: str) -> int:
    """Read an RFC 3339 instant as milliseconds."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
