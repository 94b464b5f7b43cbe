"""The decision an acquire asks for, as a pure function.

A store locks a pool, shows what it holds through a `PoolReader`, and `seat` answers each request in
order: what to tell its caller, which leases to write, which events to append. Every store uses this
one function inside its atomic step, so a rule is written, and read, in one place.

The rules, in order:
1. An unknown pool, a suspended license or one out of its dates is refused; so is a seat that is to
   belong to a session which is not live: nothing would ever give it back.
2. The same holder again keeps its seat under a new fence, so a client that crashed and came back
   holds one seat, never two, and whatever it left running is cut off.
3. A holder that shares a live seat (`count_by`) needs no other.
4. A free seat is granted; a lease lost within the resume window is resumed. Which seats are free for
   whom, where some are reserved, or allotted to relays, `room` says. While relays may hold more than is
   known, only those who come back get one.
5. While others wait, that is the turn of the first of them (see `line`), but for who comes back to a lease.
6. When full: suspects past their linger lose their seat, most silent first; then a seat above the
   capacity is granted (overdraft); then holders idle for `idle_after` lose theirs (when_full =
   evict_idle); then the asking user's own most silent client (takeover).
7. Otherwise it is denied, with the evidence, and put into the line if it is to wait; a tentative one is
   provisionally, while a suspect holds a seat that it might take, or anybody who can be asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from sojourn.event import Event
from sojourn.lease import (
    Acquire,
    Beat,
    DenialReason,
    Denied,
    EndReason,
    Lease,
    Origin,
    Waiting,
    beat_times,
    seat_key,
)
from sojourn.license import CountBy, LicenseStatus, Policy, Pool, WhenFull
from sojourn.line import Line
from sojourn.pool_reader import PoolReader, SeatCount
from sojourn.room import Room, Victim, reservation_of
from sojourn.seat_events import denial_event, end_event, grant_event, offer_event

EVIDENCE_MAX = 20
"""Holders named in a denial. The counts beside them are always complete."""


class Seating(msgspec.Struct, kw_only=True):
    """What a store must write and answer, in one atomic step."""

    answers: list[Lease | Denied]
    writes: list[Lease]  # full rows, each holder at most once; upsert by pool, user and client
    events: list[Event]
    fence: int
    left: list[Waiting]  # entries of the line to remove
    entered: list[Waiting]  # then those to write: full rows, by the same key as leases


def refusal(pool: Pool | None, now: int) -> DenialReason | None:
    """Say why a pool grants nothing at all, if so."""
    if pool is None:
        return DenialReason.FEATURE_UNKNOWN
    if pool.status is LicenseStatus.SUSPENDED:
        return DenialReason.LICENSE_SUSPENDED
    if pool.valid_from is not None and now < pool.valid_from:
        return DenialReason.LICENSE_NOT_YET_VALID
    if pool.valid_until is not None and now >= pool.valid_until:
        return DenialReason.LICENSE_EXPIRED
    return None


def free_at(lease: Lease, policy: Policy) -> int:
    """Say when the seat of a silent lease can come free: expired, or reclaimed as a suspect."""
    if policy.when_full is WhenFull.DENY:
        return lease.expires_at
    return min(lease.expires_at, lease.suspect_at + policy.linger)


def seat(
    reader: PoolReader,
    requests: Sequence[Acquire],
    *,
    gone: Collection[str] = (),
    actor: str | None = None,
) -> Seating:
    """Decide a batch of requests for one pool, in their order. Pure: nothing is written here.

    `gone` are those of the sessions they name that are not live, and stay so.
    """
    return _Decision(reader, requests, gone, actor).run()


class _Decision:
    """One batch under way: the reader's state plus what this batch has changed so far."""

    def __init__(
        self,
        reader: PoolReader,
        requests: Sequence[Acquire],
        gone: Collection[str],
        actor: str | None,
    ) -> None:
        self.reader = reader
        self.requests = requests
        self.gone = gone
        self.actor = actor
        self.now = reader.now
        self.policy = reader.pool.policy
        self._takes = self.policy.when_full is not WhenFull.DENY
        self.fence = reader.fence
        self.rows = dict(reader.holders({(r.user_id, r.client_id) for r in requests}))
        self.written: dict[tuple[str, str], Lease] = {}
        self.events: list[Event] = []
        self.room: Room | None = None  # known once counted
        self.counted: SeatCount | None = None
        self.restored = 0  # suspect seats this batch has ended or brought back
        self.taken: set[str] = set()  # seat keys this batch has filled, or joined
        self.emptied: set[str] = set()  # seat keys this batch has freed
        self.shared: set[str] | None = None
        self.victims: list[Sequence[Lease]] | None = None
        self.own: dict[str, Sequence[Lease]] | None = None
        self.silent: Sequence[Lease] = ()
        self.silent_limit = 0  # how many of them were asked for
        self.overdrawn = False  # the seat that was found last is above the capacity
        self.refused = refusal(reader.pool, self.now)
        self.line = Line(reader.waiting(), self.now)
        wanted = len(requests) + self.policy.reserved + reader.allotted
        self.surely_room = not (self.line or reader.doubtful) and reader.room(wanted)

    def run(self) -> Seating:
        if self.line and self.refused is None:
            self._room()  # as it is before this batch changes anything
        answers = [self._answer(request) for request in self.requests]
        if self.line and self.refused is None:
            entries = () if self.reader.doubtful else self.line.claiming()
            _, claims, _ = self._claims(entries)
            self.events += [offer_event(x, self.now) for x in self.line.offer(claims)]
        return Seating(
            answers=answers,
            writes=list(self.written.values()),
            events=self.events,
            fence=self.fence,
            left=list(self.line.left.values()),
            entered=list(self.line.written.values()),
        )

    def _answer(self, request: Acquire) -> Lease | Denied:
        reason = self.refused
        row = self.rows.get((request.user_id, request.client_id))
        if reason is None and request.session_id in self.gone:
            reason = DenialReason.SESSION_GONE
        if reason is None and self._superseded(request, row):
            reason = DenialReason.LEASE_ENDED
        if reason is not None:
            return self._deny(request, reason)
        if row is not None and row.live(self.now):
            self.restored += row.suspect_at <= self.now and self.policy.count_by is CountBy.LEASE
            return self._grant(request, row, Origin.TAKEN_OVER)
        if not self._find_seat(request):
            return self._deny(request, DenialReason.SEAT_LIMIT)
        if row is not None and row.ended_at is None:
            self._event(end_event(row, EndReason.EXPIRED, None, self.now))
        if row is not None and row.resumable(self.now, self.policy):
            return self._grant(request, row, Origin.RESUMED)
        return self._grant(request, None, Origin.GRANTED)

    def _superseded(self, request: Acquire, row: Lease | None) -> bool:
        """Tell whether the lease a token names is no longer its bearer's to come back to.

        An absent row, or one older than the token, means the store lost a write: the token alone
        re-admits its holder.
        """
        if request.resume is None or row is None or row.fence < request.resume.fence:
            return False
        if row.id != request.resume.lease_id or row.fence != request.resume.fence:
            return True
        return not row.live(self.now) and not row.resumable(self.now, self.policy)

    def _find_seat(self, request: Acquire) -> bool:
        """Make sure there is a seat for this request and take it; False if there is none."""
        key = self._key(request)
        self.overdrawn = False
        if self._shares(key):
            self.taken.add(key)
            return True
        if not self.surely_room:
            place = reservation_of(self.policy, request)
            back = self._comes_back(request)
            if self.reader.doubtful and not back:
                return False  # what is free here may be a relay's
            before = () if back else self.line.before(request)
            room, _, short = self._claims(before, but=key)
            if room.free(place) <= 0 and not self._displace(request, place, room, short=short):
                return False
            self.overdrawn = self._room().overdraws(place)
        if self.room is not None:
            self.room.in_use += 1
        self.taken.add(key)
        self.emptied.discard(key)
        return True

    def _comes_back(self, request: Acquire) -> bool:
        row = self.rows.get((request.user_id, request.client_id))
        return request.resume is not None or (
            row is not None and row.resumable(self.now, self.policy)
        )

    def _claims(
        self, entries: Iterable[Waiting], but: str | None = None
    ) -> tuple[Room, set[tuple[str, str]], bool]:
        """Return the room that these entries of the line leave, for whom of them there is a seat, and whether
        there is none for one. Suspects past their linger lose theirs for them. `but`: a seat that counts for
        none of them."""
        claims: set[tuple[str, str]] = set()
        room, keys, short = self._room(), {but}, False
        failed: set[int | None] = set()  # for these there is no seat, until somebody is ended
        for entry in entries:
            place = self.policy.place_of(entry.reservation)
            key = seat_key(self.policy.count_by, entry.user_id, entry.client_id)
            if place in failed or key in keys or self._shares(key):
                continue
            room = room if claims or short else room.copy()
            held = room.in_use
            found = room.free(place, overdraft=True) > 0 or self._reclaim(place, room)
            failed = failed if room.in_use == held else set()
            if found:
                keys.add(key)
                claims.add(entry.holder)
                room.take(place)
                continue
            failed, short = {*failed, place}, True
            if len(failed) > len(self.policy.reservations):
                break  # nor is there any for those behind
        return room, claims, short

    def _reclaim(self, place: int | None, room: Room) -> bool:
        """Take a seat from suspects for somebody who waits. True if that helps."""
        if self._takes:
            self._end_some([x for x in self._victims() if self._suspect_seat(x)], place, room)
        return room.free(place, overdraft=True) > 0

    def _end_some(self, victims: Sequence[Sequence[Lease]], place: int | None, room: Room) -> None:
        seats = [self._victim(leases) for leases in victims]
        for i in room.to_end(place, seats) if seats else ():
            self._end_seat(victims[i], EndReason.EVICTED)
            if room is not self.room:
                room.give_up(seats[i].reservation)

    def _shares(self, key: str) -> bool:
        if self.policy.count_by is CountBy.LEASE:
            return False
        if key in self.taken:
            return True
        if self.shared is None:
            asked = {x.holder for x in self.line.entries.values()}
            asked |= {(x.user_id, x.client_id) for x in self.requests}
            keys = {seat_key(self.policy.count_by, *holder) for holder in asked}
            self.shared = self.reader.seats_held(keys)
        return key in self.shared and key not in self.emptied

    def _room(self) -> Room:
        """Count the pool, once, and follow what this batch has changed."""
        if self.room is None:
            self.counted = self.reader.count()
            members = self.reader.members() if self.policy.reservations else ()
            self.room = Room(self.policy, self.counted.in_use, members, self.reader.allotted)
            for lease in self.written.values():
                self.room.enter(lease)
        return self.room

    def _displace(self, request: Acquire, place: int | None, room: Room, *, short: bool) -> bool:
        """Find a seat by the policy, or by the user's own wish, where none is free within the capacity.
        True if there is one, be it above the capacity. `room` is what others before it leave; where one of
        them went `short`, no living person is ended for who comes after."""
        if self._takes and (victims := self._victims()):
            self._end_some([x for x in victims if not short or self._suspect_seat(x)], place, room)
        # Only where each lease is a seat of its own does ending one of them surely free one.
        moves = request.takeover and self.policy.count_by is CountBy.LEASE
        if moves and room.free(place, overdraft=True) <= 0:
            for lease in self._own(request):
                reservation = self._victim([lease]).reservation
                if room.moves(place, reservation):
                    self._end_seat([lease], EndReason.MOVED)
                    return True
        return room.free(place, overdraft=True) > 0

    def _victim(self, leases: Sequence[Lease]) -> Victim:
        key = leases[0].seat_key(self.policy.count_by)
        return Victim(self._room().reservation_of_seat(key), self._suspect_seat(leases))

    def _victims(self) -> Sequence[Sequence[Lease]]:
        """List the reclaimable seats that this batch has not touched, in the order of taking."""
        if self.victims is None:
            # With those that hold a reserved seat, and whose end may help nobody else.
            over = max(0, self._room().in_use + self.reader.allotted - self.policy.capacity)
            wanted = len(self.requests) + len(self.line) + over + self.policy.reserved
            self.victims = list(self.reader.reclaimable(wanted))
        self.victims = [
            leases
            for leases in self.victims
            if leases[0].seat_key(self.policy.count_by) not in self.taken
            and all(lease.holder not in self.written for lease in leases)
        ]
        return self.victims

    def _suspect_seat(self, leases: Sequence[Lease]) -> bool:
        return all(lease.suspect_at + self.policy.linger <= self.now for lease in leases)

    def _own(self, request: Acquire) -> list[Lease]:
        """List the asking user's live leases, most silent first."""
        if self.own is None:
            self.own = self.reader.live_of({r.user_id for r in self.requests})
        leases = self.own.get(request.user_id, ())
        if not leases and not self.written:
            return []
        own = self._current(leases)
        return [lease for lease in own if lease.user_id == request.user_id]

    def _current(self, leases: Sequence[Lease]) -> list[Lease]:
        """Overlay what this batch has written, and keep what is live, most silent first."""
        rows = {lease.holder: lease for lease in leases} | self.written
        live = [lease for lease in rows.values() if lease.live(self.now)]
        return sorted(live, key=lambda lease: (lease.last_beat_at, lease.id))

    def _end_seat(self, leases: Sequence[Lease], reason: EndReason) -> None:
        for lease in leases:
            ended = msgspec.structs.replace(lease, ended_at=self.now, end_reason=reason)
            self._write(ended)
            self._event(end_event(lease, reason, self.actor or "system:acquire", self.now))
        self.restored += all(lease.suspect_at <= self.now for lease in leases)
        key = leases[0].seat_key(self.policy.count_by)
        self.emptied.add(key)
        self.taken.discard(key)
        self._room().in_use -= 1

    def _grant(self, request: Acquire, row: Lease | None, origin: Origin) -> Lease:
        claimed = request.resume.fence if request.resume else 0
        self.fence = max(self.fence, claimed) + 1
        new_id = request.resume.lease_id if request.resume else request.lease_id
        # A lease from nothing: expiry and suspicion start at now, and its first beat sets them.
        fresh = Lease(
            id=row.id if row else new_id,
            pool_id=request.pool_id,
            user_id=request.user_id,
            client_id=request.client_id,
            fence=self.fence,
            acquired_at=row.acquired_at if row else self.now,
            last_beat_at=self.now,
            suspect_at=self.now,
            # A policy that has just become shorter ends no living lease, and cuts none shorter than it is.
            expires_at=row.expires_at if row and self._outlives(row) else self.now,
            origin=origin,
            session_id=request.session_id,
            device=request.device,
            overdraft=row.overdraft if row and row.live(self.now) else self.overdrawn,
            member_of=request.member_of,
        )
        suspect_at, expires_at = beat_times(self.policy, fresh, Beat(), self.now)
        lease = msgspec.structs.replace(fresh, suspect_at=suspect_at, expires_at=expires_at)
        self._write(lease)
        entry = self.line.leave(request)
        self._event(grant_event(lease, since=None if entry is None else entry.since, now=self.now))
        return lease

    def _outlives(self, row: Lease) -> bool:
        """Tell whether a live lease is one that lives for longer than the policy gives."""
        longest = self.policy.max_lease
        beyond = longest is not None and row.expires_at > row.acquired_at + longest
        return beyond and row.live(self.now)

    def _deny(self, request: Acquire, reason: DenialReason) -> Denied:
        news = True
        if reason is not DenialReason.SEAT_LIMIT:
            self.line.leave(request)
            denied = Denied(reason=reason, at=self.now, limit=self.policy.capacity)
        else:
            room, counted = self._room(), self.counted
            place = reservation_of(self.policy, request)
            suspect = max(0, counted.suspect - self.restored) if counted else 0
            doubtful = (room.in_use if request.ask_all else suspect) if self._takes else 0
            tentative = request.tentative and doubtful > 0
            waits = request.wait and not tentative
            name = None if place is None else self.policy.reservations[place].name
            entry, news = self.line.enter(request, name) if waits else (None, not tentative)
            denied = Denied(
                reason=reason,
                at=self.now if counted is None or counted.at is None else counted.at,
                limit=self.policy.capacity,
                in_use=room.in_use,
                suspect=suspect,
                retry_after=self._next_free_in(),
                mine=tuple(self._own(request)[:EVIDENCE_MAX]),
                evidence=tuple(self._most_silent()[:EVIDENCE_MAX]),
                tentative=tentative,
                overdraft=self.policy.overdraft,
                reserved=self.policy.reserved,
                reserved_free=room.kept_from(place),
                allotted=self.reader.allotted,
                waiting=len(self.line),
                entry=entry,
                position=0 if entry is None else self.line.position(entry),
                line_full=waits and entry is None,
            )
        if news:  # who keeps a place in the line was recorded at its beginning
            self._event(denial_event(request, denied))
        return denied

    def _next_free_in(self) -> int:
        """Say when to try again; too early, at worst, if this batch has renewed what was next."""
        known = [self.counted.next_free_in] if self.counted and self.counted.in_use else []
        written = [x for x in self.written.values() if x.live(self.now)]
        return min(known + [free_at(x, self.policy) - self.now for x in written], default=0)

    def _most_silent(self) -> Sequence[Lease]:
        """List at least as many of the most silent holders as a denial names, this batch's too."""
        if self.silent_limit < EVIDENCE_MAX + len(self.written):
            self.silent_limit = EVIDENCE_MAX + len(self.written) + 2 * len(self.requests)
            self.silent = self.reader.most_silent(self.silent_limit)
        return self._current(self.silent)

    def _key(self, request: Acquire) -> str:
        return seat_key(self.policy.count_by, request.user_id, request.client_id)

    def _write(self, lease: Lease) -> None:
        self.written[lease.holder] = lease
        self.rows[lease.holder] = lease
        if self.room is not None:
            enter = self.room.enter if lease.live(self.now) else self.room.leave
            enter(lease)

    def _event(self, event: Event) -> None:
        self.events.append(event)
