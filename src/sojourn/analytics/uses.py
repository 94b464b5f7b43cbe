"""A pool's events as uses of its seats: what a replay is made of.

A use is a seat that a holder asked for and had, from its grant to its end. When its holder beat last is known
of those that ended by silence; whoever gave the seat back is taken to have beaten until then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from sojourn.analytics.holds import ENDS, GRANTS, Hold, PolicyAt, policy_at
from sojourn.event import Event, EventKind
from sojourn.lease import DenialReason, EndReason
from sojourn.license import WhenFull

TYPICAL = 30 * 60_000
"""For how long a seat is taken to be held where nothing tells, in milliseconds."""

Holder = tuple[str, str]


class Use(Struct, kw_only=True):
    """A seat that was held. Instants; None where nothing has ended it yet."""

    holder: Holder
    lease_id: str
    since: int
    until: int | None = None
    reason: str = ""  # of its end
    ended_by: int = 0  # the event that tells of it
    beat_at: int | None = None  # the last beat; None: its holder was there to the end
    evictable_at: int | None = None  # from when on its seat could be taken for somebody else


def uses_of(events: Sequence[Event], held: Iterable[Hold]) -> tuple[list[Use], dict[int, Use]]:
    """Return the uses that were there before the events, and those that begin with an event, by its id.
    `held`: seats that are held at the end of the events."""
    open_: dict[Holder, Use] = {}
    begun: dict[int, Use] = {}
    before: list[Use] = []
    for event in events:
        holder = (event.user_id or "", event.client_id or "")
        if event.kind in GRANTS:
            use = open_.get(holder)
            if use is None or use.lease_id != event.subject:
                use = Use(holder=holder, lease_id=str(event.subject), since=event.at)
                if holder in open_:
                    open_[holder].until = event.at
                open_[holder] = begun[event.id] = use
        elif event.kind in ENDS:
            use = open_.pop(holder, None)
            if use is None or use.lease_id != event.subject:
                use = Use(
                    holder=holder,
                    lease_id=str(event.subject),
                    since=event.at - int(event.data.get("heldFor", 0)),
                )
                before.append(use)
            _end(use, event)
    known = {use.lease_id for use in (*before, *begun.values())}
    for hold in held:
        if hold.ended_at is None and hold.lease_id not in known:
            holder = (hold.user_id, hold.client_id)
            before.append(Use(holder=holder, lease_id=hold.lease_id, since=hold.started_at))
    return before, begun


def _end(use: Use, event: Event) -> None:
    use.until = event.at
    if event.kind is EventKind.LEASE_EXPIRED:
        late = event.data.get("expiredFor")
        ended = use.since + int(event.data.get("heldFor", 0)) if late is None else event.at - late
        use.until = min(event.at, ended)
    use.reason, use.ended_by = str(event.data.get("reason", "")), event.id
    if use.reason in (EndReason.EXPIRED.value, EndReason.EVICTED.value):
        use.beat_at = event.at - int(event.data.get("silentFor", 0))


def refusals(events: Iterable[Event]) -> list[Event]:
    """Return who was refused for want of a seat."""
    return [
        event
        for event in events
        if event.kind is EventKind.LEASE_DENIED
        and event.data.get("reason") == DenialReason.SEAT_LIMIT.value
    ]


def judge(uses: Iterable[Use], denied: Sequence[Event], policies: Sequence[PolicyAt]) -> None:
    """Say of each silent holder from when on its seat could be taken: by the policy, later where somebody
    was refused all the same (a beat was announced, time was given back), and sooner where it was taken."""
    instants = sorted(event.at for event in denied)
    for use in uses:
        if use.beat_at is None or use.until is None:
            continue
        policy = policy_at(policies, use.until)
        if policy is None:
            continue
        could = use.beat_at + policy.suspect_after_ms + policy.linger
        taken = use.reason == EndReason.EVICTED.value
        find = bisect_right if taken else bisect_left
        before = find(instants, use.until) - 1  # the last refusal while its holder had the seat
        if before >= 0 and instants[before] >= use.since and policy.when_full is not WhenFull.DENY:
            could = max(could, instants[before] + 1)
        # Whom others were refused for in the very millisecond in which it was taken, it was taken by its own
        # event only.
        use.evictable_at = min(could, use.until + 1) if taken else could


def typical(uses: Iterable[Use]) -> int:
    """Return for how long a seat is held, mostly."""
    lengths = [use.until - use.since for use in uses if use.until is not None]
    return int(median(lengths)) if lengths else TYPICAL
