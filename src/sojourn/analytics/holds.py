"""From events to seats that were held: by whom, from when until when.

A seat is held from its grant to its end. The end of a holder that fell silent is recorded late, by the next
sweep or acquire; the event says for how long the lease had run out by then, so what is measured is when the
seat came free, not when that was noted. A holder has one lease of a pool: one that it is granted while
another is open ends that other, as after a store that was replaced.

Holders that share a seat (`count_by`) hold it as long as any of them does. Which seat a lease uses is
settled when it is granted.

Nothing is known of the time before `since`: what is open then counts from there. An end whose grant lies
before it tells by `heldFor` that the seat was held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from msgspec import Struct
from msgspec.structs import replace

from sojourn.analytics.counts import Counts, Share
from sojourn.analytics.levels import Step
from sojourn.clock import DAY, HOUR
from sojourn.event import Event, EventKind
from sojourn.lease import DenialReason, EndReason
from sojourn.license import CountBy, Policy

GRANTS = frozenset({EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED, EventKind.LEASE_TAKEN_OVER})
ENDS = frozenset(
    {
        *(EventKind.LEASE_RELEASED, EventKind.LEASE_EVICTED),
        *(EventKind.LEASE_REVOKED, EventKind.LEASE_EXPIRED),
    }
)
MEASURED = frozenset({*GRANTS, *ENDS, EventKind.LEASE_DENIED, EventKind.LEASE_WAITING})
"""The kinds of events that tell how seats were used."""
END_REASONS = frozenset(reason.value for reason in EndReason)
SILENT = frozenset({EndReason.EXPIRED.value, EndReason.EVICTED.value})
"""Ends of holders that had stopped beating, or whose person was idle."""
DENIAL_REASONS = frozenset(reason.value for reason in DenialReason)
OTHER = "other"
"""Reasons that only newer servers know count together."""
PAST_MAX = 1_000
"""Earlier stretches that are kept of a holder while others hold its seat; then the oldest are joined."""

Stretch = tuple[int, int | None]
"""From when until when; None: it goes on."""
ShareKey = tuple[str, int, str, str]
"""Pool, the day's beginning, "user" or "client", and who that is."""


class PolicyAt(Struct, frozen=True):
    """A pool's policy from an instant on; None: it has none any more."""

    at: int
    policy: Policy | None


class Hold(Struct, frozen=True, kw_only=True):
    """What is kept of a holder of a pool, as long as its seat is held by anybody."""

    id: str
    seat: str
    pool_id: str
    lease_id: str
    user_id: str
    client_id: str
    started_at: int
    resumed: bool = False  # then `heldFor` of its end counts from earlier
    ended_at: int | None = None
    past: tuple[tuple[int, int], ...] = ()

    def stretches(self) -> Iterator[Stretch]:
        yield from self.past
        yield (self.started_at, self.ended_at)


def holder_id(pool_id: str, user_id: str, client_id: str) -> str:
    """Name a holder of a pool in 32 characters."""
    return _digest("holder", pool_id, user_id, client_id)


def seat_id(count_by: CountBy, pool_id: str, user_id: str, client_id: str) -> str:
    """Name the seat that a holder uses, likewise."""
    if count_by is CountBy.USER:
        return _digest("user", pool_id, user_id)
    if count_by is CountBy.CLIENT:
        return _digest("client", pool_id, client_id)
    return holder_id(pool_id, user_id, client_id)


def _digest(*parts: str) -> str:
    told = "".join(f"{len(part)}:{part}" for part in parts)
    return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def policy_at(policies: Sequence[PolicyAt], at: int) -> Policy | None:
    """Return the policy that was in force, or the first there was."""
    found = policies[0].policy if policies else None
    for each in policies:
        if each.at > at:
            break
        found = each.policy
    return found


def event_holder(event: Event) -> str:
    return holder_id(event.pool_id or "", event.user_id or "", event.client_id or "")


def event_seat(event: Event, policies: Mapping[str, Sequence[PolicyAt]]) -> str:
    policy = policy_at(policies.get(event.pool_id or "", ()), event.at)
    count_by = CountBy.LEASE if policy is None else policy.count_by
    return seat_id(count_by, event.pool_id or "", event.user_id or "", event.client_id or "")


def measurable(event: Event) -> bool:
    """Tell whether it says how a pool was used. Names of pools that are none are strangers' words."""
    if event.kind not in MEASURED or not event.pool_id or event.user_id is None:
        return False
    return event.data.get("reason") != DenialReason.FEATURE_UNKNOWN.value


def edges(stretches: Iterable[Stretch], since: int) -> dict[int, int]:
    """Return where a seat that was held in any of these stretches was taken, and where it came free."""
    found: dict[int, int] = {}
    until: int | None = since
    for begin, end in sorted(stretches, key=lambda each: each[0]):
        if until is None:
            break
        begins = max(begin, since)
        if end is not None and end <= max(begins, until):
            continue
        if begins > until or not found:
            if found:
                found[until] = -1
            found[begins] = 1
        until = end
    if found and until is not None:
        found[until] = found.get(until, 0) - 1
    return found


class Folding:
    """A page of events on its way into measures. Holders that the page names, and all others of their
    seats, must be given as they were before it."""

    def __init__(
        self,
        holds: Iterable[Hold],
        policies: Mapping[str, Sequence[PolicyAt]],
        *,
        since: int,
    ) -> None:
        self.since = since
        self.counts: dict[tuple[str, int], Counts] = {}  # by pool and hour
        self.shares: dict[ShareKey, Share] = {}
        self.denials: list[Event] = []
        self._policies = policies
        self._holds = {each.id: each for each in holds}
        self._known = dict(self._holds)
        self._over: dict[str, list[Stretch]] = {}  # by seat: of holders that use another by now

    def follow(self, event: Event) -> None:
        """Take in the next event."""
        if not measurable(event):
            return
        if event.kind in GRANTS:
            self._grant(event)
        elif event.kind in ENDS:
            self._end(event)
        elif event.kind is EventKind.LEASE_DENIED:
            self._deny(event)
        else:
            self._counts(event, event.at).entered += 1

    def _deny(self, event: Event) -> None:
        reason = str(event.data.get("reason"))
        counts = self._counts(event, event.at).denied
        reason = reason if reason in DENIAL_REASONS else OTHER
        counts[reason] = counts.get(reason, 0) + 1
        self._share(event, event.at, Share(denied=1))
        if event.at >= self.since:
            self.denials.append(event)

    def _grant(self, event: Event) -> None:
        counts = self._counts(event, event.at)
        hold = self._holds.get(event_holder(event))
        if event.kind is EventKind.LEASE_TAKEN_OVER:
            counts.taken_over += 1
        elif event.kind is EventKind.LEASE_RESUMED:
            counts.resumed += 1
        else:
            counts.granted += 1
        if (waited := event.data.get("waited")) is not None:
            counts.waited += 1
            counts.waits.note(max(0, int(waited)))
        self._share(event, event.at, Share(granted=1))
        if hold is not None and hold.ended_at is None:
            if hold.lease_id == event.subject:
                return
            hold = self._close(hold, event.at)
        self._open(event, hold)

    def _open(self, event: Event, before: Hold | None) -> None:
        seat = event_seat(event, self._policies)
        past: tuple[tuple[int, int], ...] = ()
        if before is not None and before.ended_at is not None:
            over = (*before.past, (before.started_at, before.ended_at))
            if before.seat == seat:
                past = over
            else:
                self._over.setdefault(before.seat, []).extend(over)
        self._put(
            Hold(
                id=event_holder(event),
                seat=seat,
                pool_id=event.pool_id or "",
                lease_id=str(event.subject),
                user_id=event.user_id or "",
                client_id=event.client_id or "",
                started_at=event.at,
                resumed=event.kind is not EventKind.LEASE_ACQUIRED,
                past=past,
            )
        )

    def _end(self, event: Event) -> None:
        hold = self._holds.get(event_holder(event))
        if hold is None or hold.ended_at is not None or hold.lease_id != event.subject:
            ended_at = _end_of(event, None)
            began = ended_at - int(event.data.get("heldFor", 0))
            elsewhere = hold is not None and hold.ended_at is None
            if began >= self.since or elsewhere:
                return  # its grant would have been told: it is one that was counted, or never was
            self._open(event, hold)
            hold = replace(self._holds[event_holder(event)], started_at=began)
        else:
            ended_at = _end_of(event, hold)
        hold = self._close(hold, ended_at)
        reason = str(event.data.get("reason", ""))
        counts = self._counts(event, hold.ended_at or 0)
        told = reason if reason in END_REASONS else OTHER
        counts.ended[told] = counts.ended.get(told, 0) + 1
        counts.held.note((hold.ended_at or 0) - hold.started_at)
        if reason in SILENT:
            beat = event.at - int(event.data.get("silentFor", 0))
            counts.ghosts.note(max(0, (hold.ended_at or 0) - beat))

    def _close(self, hold: Hold, at: int) -> Hold:
        closed = replace(hold, ended_at=max(at, hold.started_at))
        self._put(closed)
        for began, ended in days(max(hold.started_at, self.since), max(at, self.since)):
            for kind, name in (("user", hold.user_id), ("client", hold.client_id)):
                key = (hold.pool_id, began // DAY * DAY, kind, name)
                self.shares.setdefault(key, Share()).held += ended - began
        return closed

    def _put(self, hold: Hold) -> None:
        self._holds[hold.id] = hold

    def _counts(self, event: Event, at: int) -> Counts:
        hour = at // HOUR * HOUR
        if at < self.since:
            return Counts()  # of which nothing is kept
        return self.counts.setdefault((event.pool_id or "", hour), Counts())

    def _share(self, event: Event, at: int, share: Share) -> None:
        day = at // DAY * DAY
        if at < self.since:
            return
        for kind, name in (("user", event.user_id), ("client", event.client_id)):
            key = (event.pool_id or "", day, kind, name or "")
            self.shares.setdefault(key, Share()).add(share)

    def steps(self) -> dict[str, list[Step]]:
        """Return, by pool, where the page makes the seats in use more or fewer: what it adds to what was
        known before, in order."""
        changes: dict[str, dict[int, int]] = {}
        before, after = _by_seat(self._known.values()), _by_seat(self._holds.values())
        for seat in before.keys() | after.keys():
            known, now = before.get(seat, []), after.get(seat, [])
            pool = changes.setdefault((known or now)[0].pool_id, {})
            was = edges((x for hold in known for x in hold.stretches()), self.since)
            stretches = [x for hold in now for x in hold.stretches()]
            stays = edges([*stretches, *self._over.get(seat, ())], self.since)
            for sign, found in ((-1, was), (1, stays)):
                for at, change in found.items():
                    pool[at] = pool.get(at, 0) + sign * change
        return {
            pool: sorted((at, change) for at, change in found.items() if change)
            for pool, found in changes.items()
        }

    def kept(self) -> tuple[list[Hold], list[str]]:
        """Return the holders to keep as they are now, and the ids of those to forget: of a seat that
        nobody holds nothing can change any more."""
        keep: list[Hold] = []
        for holds in _by_seat(self._holds.values()).values():
            begun = [hold.started_at for hold in holds if hold.ended_at is None]
            if not begun:
                continue
            for hold in holds:
                past = _joined([each for each in hold.past if each[1] > min(begun)])
                if hold.ended_at is None or hold.ended_at > min(begun) or past:
                    keep.append(replace(hold, past=past))
        there = {hold.id for hold in keep}
        changed = [hold for hold in keep if self._known.get(hold.id) != hold]
        return changed, sorted(self._known.keys() - there)


def _end_of(event: Event, hold: Hold | None) -> int:
    """Say when the seat came free. Older events of leases that ran out do not say it: then it follows from
    the grant, or else is taken to be when it was noted."""
    if event.kind is not EventKind.LEASE_EXPIRED:
        return event.at
    if (gone := event.data.get("expiredFor")) is not None:
        return event.at - int(gone)
    if hold is None or hold.resumed:
        return event.at
    return min(event.at, hold.started_at + int(event.data.get("heldFor", 0)))


def days(since: int, until: int) -> Iterator[tuple[int, int]]:
    """Part a stretch of time at midnights, UTC."""
    while since < until:
        end = min(until, since // DAY * DAY + DAY)
        yield since, end
        since = end


def _by_seat(holds: Iterable[Hold]) -> dict[str, list[Hold]]:
    found: dict[str, list[Hold]] = {}
    for hold in holds:
        found.setdefault(hold.seat, []).append(hold)
    return found


def _joined(past: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    if len(past) <= PAST_MAX:
        return tuple(past)
    over = len(past) - PAST_MAX
    return ((past[0][0], past[over][1]), *past[over + 1 :])
