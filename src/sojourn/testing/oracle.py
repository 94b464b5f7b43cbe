"""A second opinion on who holds a seat, which knows nothing of how stores decide.

It believes only what holders were told (how long their lease lives) and what the stream of events says
(whose lease has ended, and that an outage was given back). From that alone it counts seats.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from sojourn.allotment import Authority
from sojourn.event import Event, EventKind
from sojourn.lease import Lease, Renewal
from sojourn.license import CountBy, Pool

GRANTS = (EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED, EventKind.LEASE_TAKEN_OVER)
ENDS = (
    EventKind.LEASE_RELEASED,
    EventKind.LEASE_EVICTED,
    EventKind.LEASE_REVOKED,
    EventKind.LEASE_EXPIRED,
)


class Held(Struct):
    """A lease as its holder knows it."""

    pool_id: str
    user_id: str
    client_id: str
    fence: int
    acquired_at: int
    expires_at: int
    heard_at: int
    graced_at: int = -1
    had_until: int = 0  # it was taken over, and would have lived until then
    groups: frozenset[str] = frozenset()  # as it was granted to
    kind: str | None = None


class Standing(Struct, frozen=True):
    """Who holds which seats of a pool at an instant."""

    in_use: int
    used: tuple[int, ...]  # seats of those who count into each reservation
    unused: tuple[int, ...]  # seats of each reservation that none of them holds
    allotted: int = 0  # to relays

    @property
    def out(self) -> int:
        """Seats that are held, here or by relays."""
        return self.in_use + self.allotted

    @property
    def promised(self) -> int:
        """Seats that are held or kept."""
        return self.out + sum(self.unused)


class Oracle:
    def __init__(self, max_pause: int) -> None:
        self.max_pause = max_pause
        self.pools: dict[str, Pool] = {}
        self.held: dict[str, Held] = {}
        self.fences: dict[str, int] = {}  # the highest of each pool
        self.authority = Authority()  # as the stores told of it last
        self.last_event_id = 0
        self.graced: dict[str, int] = {}  # of what was read last: lease id -> outage given back

    def define(self, pool: Pool, live: Iterable[Lease] = (), now: int = 0) -> None:
        """A pool has a new policy; `live` are its leases after that. None lives longer for it, and none
        whose holder may still be about to beat, as it was told to, is over."""
        before = self.pools.get(pool.id)
        self.pools[pool.id] = pool
        if before is None:
            return
        new, interval = pool.policy, before.policy.heartbeat_interval
        late = max(0, interval - new.heartbeat_interval)
        left = {lease.id: lease.expires_at for lease in live}
        for lease_id, held in self.held.items():
            if held.pool_id != pool.id or held.expires_at <= now:
                continue
            expires_at = left.get(lease_id, now)
            assert expires_at <= held.expires_at, "a policy gave a lease more time"
            heard = max(held.heard_at, held.graced_at)
            if held.expires_at > heard + before.policy.linger:  # else it may have said goodbye
                due = min(held.expires_at, heard + interval)
                assert expires_at >= due, "lost before its next beat was due"
            if held.expires_at <= heard + before.policy.lost_after:
                assert expires_at <= max(now, heard + new.lost_after + late), (
                    "a ghost keeps its seat"
                )
            held.expires_at = expires_at

    def read(self, events: Iterable[Event]) -> None:
        """Follow the stream. A grant counts from its event on, and lives as its answer says."""
        self.graced = {}
        for event in events:
            assert event.id == self.last_event_id + 1, f"a gap before event {event.id}"
            self.last_event_id = event.id
            subject = str(event.subject)
            if event.kind in GRANTS:
                self._grant(subject, event)
            elif event.kind in ENDS:
                self.held.pop(subject, None)
            elif event.kind is EventKind.STORE_RETURNED:
                self._give_grace(event)

    def _grant(self, lease_id: str, event: Event) -> None:
        fence = event.data["fence"]
        assert fence > self.fences.get(str(event.pool_id), 0), f"fence {fence} did not grow"
        self.fences[str(event.pool_id)] = fence
        held = Held(
            pool_id=str(event.pool_id),
            user_id=str(event.user_id),
            client_id=str(event.client_id),
            fence=fence,
            acquired_at=event.at,
            expires_at=event.at + 1,  # until the answer says more
            heard_at=event.at,
        )
        holder = (held.pool_id, held.user_id, held.client_id)
        for other_id, other in list(self.held.items()):
            if (other.pool_id, other.user_id, other.client_id) == holder:
                lapsed = other.expires_at <= event.at
                assert lapsed or other_id == lease_id, f"{holder} holds two leases"
                held.had_until = 0 if lapsed else other.expires_at
                del self.held[other_id]
        self.held[lease_id] = held

    def _give_grace(self, event: Event) -> None:
        last_pulse = event.at - event.data["lasted"]
        for lease_id, held in self.held.items():
            survived = held.expires_at > max(last_pulse + self.max_pause, held.heard_at)
            if survived and held.heard_at > held.graced_at and held.pool_id in self.pools:
                self._extend(held, event.data["lasted"], event.at)
                held.graced_at = event.at
                self.graced[lease_id] = event.data["lasted"]

    def told(self, lease: Lease, now: int) -> None:
        """A holder was granted this lease."""
        held = self.held.get(lease.id)
        if held is not None and held.fence == lease.fence:
            assert lease.expires_at > now, "granted a lease that is no more"
            lasting = min(held.had_until, now + self.pools[held.pool_id].policy.lost_after)
            assert lease.expires_at >= lasting, "a takeover cut its own lease short"
            held.expires_at = lease.expires_at
            held.acquired_at = lease.acquired_at
            held.groups = frozenset(lease.member_of)
            held.kind = None if lease.device is None else lease.device.kind

    def heard(self, lease_id: str, now: int) -> bool:
        """A beat counted. Tell whether it found its lease alive: then before any grace was given."""
        held = self.held.get(lease_id)
        alive = held is not None and held.expires_at > now
        if held is not None and alive:
            held.heard_at = now
        return alive

    def beat(self, lease_id: str, renewal: Renewal | None, now: int, *, alive: bool) -> None:
        """A holder's beat was answered; `alive` as it was `heard`. Where the same step gave grace after
        it, that goes beyond what was answered: to a goodbye, which takes time back."""
        held = self.held.get(lease_id)
        if renewal is None:
            return
        assert held is not None, f"a beat brought {lease_id} back"
        assert held.expires_at > now, f"a beat revived {lease_id}"
        held.expires_at, held.heard_at = now + renewal.expires_in, now
        if alive and lease_id in self.graced and renewal.expires_in > 0:
            self._extend(held, self.graced[lease_id], now)

    def _extend(self, held: Held, lasted: int, now: int) -> None:
        policy = self.pools[held.pool_id].policy
        given = min(held.expires_at + lasted, now + policy.lost_after)
        if policy.max_lease is not None:
            given = min(given, held.acquired_at + policy.max_lease)
        held.expires_at = max(held.expires_at, given)

    def in_use(self, pool_id: str, now: int) -> int:
        """Count the seats that are held."""
        return len(self._seats(pool_id, now))

    def standing(self, pool_id: str, now: int) -> Standing:
        """Say who holds which seats of a pool."""
        reservations = self.pools[pool_id].policy.reservations
        places = [self.seat_counts_into(pool_id, x) for x in self._seats(pool_id, now).values()]
        used = tuple(places.count(place) for place in range(len(reservations)))
        unused = tuple(max(0, r.seats - n) for r, n in zip(reservations, used, strict=True))
        return Standing(len(places), used, unused, self.allotted(pool_id, now))

    def allotted(self, pool_id: str, now: int) -> int:
        """Count the seats that relays may grant."""
        pool = self.authority.pools.get(pool_id)
        living = () if pool is None else pool.allotments.values()
        return sum(each.seats for each in living if each.expires_at > now)

    def doubtful(self, pool_id: str, now: int) -> bool:
        """Tell whether relays may grant more of a pool than is known."""
        pool = self.authority.pools.get(pool_id)
        return pool is not None and bool(pool.fences) and self.authority.doubts(now)

    def counts_into(self, pool_id: str, held: Held) -> int:
        """Return the place of the reservation that a holder counts into; their number, if none."""
        reservations = self.pools[pool_id].policy.reservations
        for place, each in enumerate(reservations):
            known = held.groups & set(each.groups)
            if known or held.user_id in each.users or held.kind in each.kinds:
                return place
        return len(reservations)

    def seat_counts_into(self, pool_id: str, seat: Iterable[Held]) -> int:
        """Return that of the first of its holders who counts into one."""
        for held in sorted(seat, key=lambda held: (held.acquired_at, held.fence)):
            place = self.counts_into(pool_id, held)
            if place < len(self.pools[pool_id].policy.reservations):
                return place
        return len(self.pools[pool_id].policy.reservations)

    def _seats(self, pool_id: str, now: int) -> dict[str, list[Held]]:
        count_by = self.pools[pool_id].policy.count_by
        names: dict[CountBy, str] = {CountBy.USER: "user_id", CountBy.CLIENT: "client_id"}
        seats: dict[str, list[Held]] = {}
        for lease_id, held in self.held.items():
            if held.pool_id == pool_id and held.expires_at > now:
                key = getattr(held, names[count_by]) if count_by in names else lease_id
                seats.setdefault(key, []).append(held)
        return seats
