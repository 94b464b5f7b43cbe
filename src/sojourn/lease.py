"""A seat granted to a holder, for a while.

    acquire ──► active ──(silent for suspect_after)──► suspect ──(lost_after)──► expired
                  ▲  ▲                                   │ │                       │
                  │  └───────────── any beat ────────────┘ └─ needed ─► evicted    │
                  └──────────────── resume, within resume_window ◄────────┴────────┘
    active ──► released (the holder) | revoked (a person) | moved (its user took the seat elsewhere)

Nothing here reads a clock or a store. A seat is in use iff its lease has not ended and its `expires_at`
lies after the store's now.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.idempotency import IdempotencyKey
from sojourn.license import CountBy, Policy
from sojourn.text import ID_MAX, check_id, simple

PRIORITY_MAX = 9
"""The highest priority in a pool's line; the lowest, and the usual one, is 0."""
AGEING = 30 * SECOND
"""How much longer somebody whose priority is one lower must have waited to come first, in milliseconds."""


class LeaseState(StrEnum):
    ACTIVE = "active"
    SUSPECT = "suspect"
    EXPIRED = "expired"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a lease ended."""

    RELEASED = "released"  # by its holder
    EXPIRED = "expired"  # by silence
    EVICTED = "evicted"  # by policy, for somebody who needed the seat
    MOVED = "moved"  # its own user took the seat on another client
    REVOKED = "revoked"  # by a person
    SESSION_ENDED = "session_ended"


RESUMABLE = frozenset({EndReason.EXPIRED, EndReason.EVICTED})
"""Ends a holder did not ask for: it may resume within the resume window."""


class Origin(StrEnum):
    """How the holder came by the present fence."""

    GRANTED = "granted"
    RESUMED = "resumed"
    TAKEN_OVER = "taken_over"


class Lease(Struct, frozen=True, kw_only=True):
    """One row of `leases`: one per (pool, holder), reused when the holder comes back."""

    id: str
    pool_id: str
    user_id: str
    client_id: str
    fence: int  # grows with every grant of the pool; a beat or release with an older one is refused
    acquired_at: int
    last_beat_at: int
    suspect_at: int
    expires_at: int
    origin: Origin = Origin.GRANTED
    session_id: str | None = None
    idle_since: int | None = None
    device: Device | None = None
    ended_at: int | None = None
    end_reason: EndReason | None = None
    graced_at: int | None = None  # the last grace extension after an outage of ours
    overdraft: bool = False  # the grant of this fence went above the capacity
    member_of: tuple[str, ...] = ()  # groups of the user, as proved when it was granted

    @property
    def holder(self) -> tuple[str, str]:
        return (self.user_id, self.client_id)

    def live(self, now: int) -> bool:
        """Tell whether this lease holds a seat."""
        return self.ended_at is None and self.expires_at > now

    def state(self, now: int) -> LeaseState:
        if self.ended_at is not None:
            return LeaseState.ENDED
        if self.expires_at <= now:
            return LeaseState.EXPIRED
        return LeaseState.SUSPECT if self.suspect_at <= now else LeaseState.ACTIVE

    def seat_key(self, count_by: CountBy) -> str:
        """Name the seat this lease uses; leases with the same key share it."""
        return seat_key(count_by, self.user_id, self.client_id)

    def resumable(self, now: int, policy: Policy) -> bool:
        """Tell whether its holder may come back to it, given a free seat."""
        if self.live(now) or (self.ended_at is not None and self.end_reason not in RESUMABLE):
            return False
        if policy.max_lease is not None and self.acquired_at + policy.max_lease <= now:
            return False
        gone_at = self.expires_at if self.ended_at is None else self.ended_at
        return now - gone_at <= policy.resume_window


def seat_key(count_by: CountBy, user_id: str, client_id: str) -> str:
    """Name the seat that a holder uses under a way of counting."""
    if count_by is CountBy.USER:
        return user_id
    if count_by is CountBy.CLIENT:
        return client_id
    return (
        f"{len(user_id)}:{user_id}{client_id}"  # unambiguous: the length says where the user ends
    )


class Beat(Struct, frozen=True, kw_only=True):
    """What a holder says with a heartbeat. Durations in milliseconds."""

    idle_for: int | None = None  # how long its person has done nothing; None: unknown
    next_in: int | None = None  # when it means to beat again, if later than the policy asks
    closing: bool = False  # its tab said goodbye


class Renew(Struct, frozen=True, kw_only=True):
    lease_id: str
    fence: int
    beat: Beat = Beat()
    pool_id: str | None = None  # as its token says: saves some stores a search


class Renewal(Struct, frozen=True, kw_only=True):
    """A beat that counted: how long the lease now lives, from the store's now."""

    expires_in: int
    state: LeaseState = LeaseState.ACTIVE


class Resume(Struct, frozen=True, kw_only=True):
    """The lease a holder claims to come back to, as its signed token says."""

    lease_id: str
    fence: int


class Acquire(Struct, frozen=True, kw_only=True):
    pool_id: str
    user_id: str
    client_id: str
    lease_id: str  # the id to use if a new lease is granted: made by the caller, random
    session_id: str | None = None
    device: Device | None = None
    member_of: tuple[
        str, ...
    ] = ()  # groups of the user that were proved; never a client's own word
    takeover: bool = False  # if full, take the seat from the same user's most silent other client
    resume: Resume | None = (
        None  # set when the proof is an old lease token: only that lease will do
    )
    idempotency: IdempotencyKey | None = None
    tentative: bool = False  # a refusal while a seat is a suspect's is not final: see `Denied`
    # With `tentative`: nor is one while anybody holds a seat, since all holders can be asked.
    ask_all: bool = False
    wait: bool = False  # if there is no seat: enter the pool's line, or keep the place in it
    priority: int = 0  # in the line

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= PRIORITY_MAX:
            raise InvalidInput(f"priority must be between 0 and {PRIORITY_MAX}.")
        ids = (self.lease_id, self.user_id, self.client_id)
        if "" in ids or not simple(ids, ID_MAX):
            check_id("leaseId", self.lease_id)
            if (
                self.resume is None
            ):  # who holds a token of before may come back under the name in it
                check_id("userId", self.user_id)
                check_id("clientId", self.client_id)
        if self.device is not None:
            self.device.check()


class Release(Struct, frozen=True, kw_only=True):
    lease_id: str
    fence: int
    pool_id: str | None = None


class Doubt(Struct, frozen=True, kw_only=True):
    """A holder that seems to be gone: its socket dropped, or it did not answer when it was asked."""

    lease_id: str
    fence: int
    pool_id: str | None = None
    silent_for: int = 0  # ms; not doubted if a beat came within them, by whatever way


class DenialReason(StrEnum):
    SEAT_LIMIT = "seat_limit"
    FEATURE_UNKNOWN = "feature_unknown"
    LICENSE_SUSPENDED = "license_suspended"
    LICENSE_EXPIRED = "license_expired"
    LICENSE_NOT_YET_VALID = "license_not_yet_valid"
    LEASE_ENDED = "lease_ended"  # the lease in the token was released, revoked or superseded
    SESSION_GONE = "session_gone"  # the session it was to belong to has ended, or never was


class Asked(Struct, frozen=True, kw_only=True):
    """What came back when holders were asked whether they are there, before somebody was denied."""

    asked: int = 0
    answered: int = 0
    spared: int = 0  # did not answer, as living clients of their kind or in their network may not
    silent: tuple[str, ...] = ()  # the leases of those taken for gone here; bounded
    complete: bool = True  # everybody was asked, and those taken for gone are doubted

    def counts(self) -> dict[str, int]:
        silent = self.asked - self.answered
        told = {"asked": self.asked, "answered": self.answered, "silent": silent}
        return told | ({"spared": self.spared} if self.spared else {})


class Waiting(Struct, frozen=True, kw_only=True):
    """An entry in a pool's line: one per (pool, holder). It holds no seat: see `line`."""

    id: str
    pool_id: str
    user_id: str
    client_id: str
    priority: int = 0
    since: int  # when it was made; never the same for two entries of a pool
    expires_at: int  # moved by each time that its holder asks
    offer_until: int | None = None  # until then a free seat is held for it
    reservation: str | None = None  # the one that its holder counts into, when it asked last

    @property
    def holder(self) -> tuple[str, str]:
        return (self.user_id, self.client_id)

    def live(self, now: int) -> bool:
        return self.expires_at > now

    def offered(self, now: int) -> bool:
        """Tell whether a free seat is held for it."""
        return self.live(now) and self.offer_until is not None and self.offer_until > now

    def passed_over(self, now: int) -> bool:
        """Tell whether it was offered a seat, and has not taken it in time."""
        return self.offer_until is not None and self.offer_until <= now

    def order(self, now: int) -> tuple[bool, int, int, str]:
        """Return what entries are served by, least first."""
        return not self.offered(now), self.since - self.priority * AGEING, self.since, self.id


class Denied(Struct, frozen=True, kw_only=True):
    """A refused acquire, with its proof: at `at`, so many seats were held, by these holders. Seats that
    are not held, though it was refused, belong to the first who wait.

    A tentative one is neither recorded nor kept under the request's key: holders are asked whether they are
    there, and it is decided once more.
    """

    reason: DenialReason
    at: int
    limit: int = 0
    in_use: int = 0
    suspect: int = 0
    retry_after: int = 0  # ms until the next seat can come free without anybody's help
    free_in: int | None = None  # ms until one is as likely free as not; no store says that
    mine: tuple[Lease, ...] = ()  # the asking user's own live leases in the pool
    evidence: tuple[Lease, ...] = ()  # the most silent holders, first the most silent; bounded
    tentative: bool = False
    asked: Asked | None = None  # given by the service; a store does not know
    waiting: int = 0  # entries in the pool's line, its own among them
    entry: Waiting | None = None  # its own
    position: int = 0  # of its own; the first is 1
    line_full: bool = False  # it was to wait, and there was no room in the line
    estimate: int | None = None  # ms until its turn; told by who watches the line, never by a store
    overdraft: int = 0  # seats that the policy grants above the limit: all in use
    reserved: int = 0  # seats of the limit that are kept for reservations, used or not
    reserved_free: int = 0  # those of them that nobody uses, and the asker does not count into
    allotted: int = 0  # seats of the limit that relays may grant, used or not


class Usage(Struct, frozen=True, kw_only=True):
    """Seats of a pool at one instant. `suspect` seats are among those in use."""

    pool_id: str
    capacity: int
    in_use: int
    suspect: int
    leases: int  # live leases; more than seats when holders share one
    at: int
    overdraft: int = 0  # seats that may be granted above the capacity
    overdrawn: int = 0  # seats held, allotted or kept for reservations above the capacity
    reserved: tuple[int, ...] = ()  # seats in use by those who count into each reservation
    allotted: int = 0  # seats that relays may grant, used or not; none of those in use


class LeaseFilter(Struct, frozen=True, kw_only=True):
    """Which leases; fields that are None do not restrict. Leases of Sojourn's own pools are meant only by
    their license or their ids: see `event.OWN_LICENSES`."""

    license_id: str | None = None
    feature: str | None = None
    user_id: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    ids: tuple[str, ...] | None = None
    silent_since: int | None = None  # an instant: those whose last beat lies no later than that
    include_ended: bool = False  # expired and ended ones too

    @property
    def shows_own(self) -> bool:
        """Tell whether leases of Sojourn's own pools may be among those that are meant."""
        return self.license_id is not None or self.ids is not None


def beat_times(policy: Policy, lease: Lease, beat: Beat, now: int) -> tuple[int, int]:
    """Return (suspect_at, expires_at) after a beat that arrived at `now`.

    A goodbye makes the lease suspect at once and pulls its expiry to now + linger. Any other beat
    only ever moves the expiry forward, never past `acquired_at + max_lease`. `next_in` puts off
    suspicion, never expiry: a dead holder's seat is free `lost_after` after its last beat.
    """
    suspect_at, expires_at = beat_aims(policy, lease.acquired_at, beat, now)
    bound = min if beat.closing else max
    return bound(lease.suspect_at, suspect_at), bound(lease.expires_at, expires_at)


def beat_aims(policy: Policy, acquired_at: int, beat: Beat, now: int) -> tuple[int, int]:
    """Return to where a beat moves (suspect_at, expires_at): forward, or back if it is a goodbye."""
    if beat.closing:
        return now, now + policy.linger
    fresh = now + policy.lost_after
    if policy.max_lease is not None:
        fresh = min(fresh, acquired_at + policy.max_lease)
    patience = policy.suspect_after_ms
    if beat.next_in is not None:
        late = max(0, beat.next_in - policy.heartbeat_interval)
        patience = min(patience + late, policy.lost_after)
    return now + patience, fresh


class Shortening(Struct, frozen=True, kw_only=True):
    """What a policy that was lowered means for leases that live. Durations in milliseconds.

    The new times count from the last beat, or from the grace that was given since. A holder beats as it
    was last told to, so that is added by which the interval it was told is longer: who keeps beating
    learns the new times with its next beat, and is not lost before, unless it was told its interval by a
    policy before the last one. See docs/adr/0032.
    """

    lost_after: int  # from the last beat, with what a holder may be late
    before: (
        int  # the old lost_after: a lease that lives longer was told its times by an earlier policy
    )
    suspect_after: int
    suspected_after: int  # the old one: what lies beyond, a holder has announced
    linger: int
    lingered: int  # the old one
    max_lease: int | None
    interval: int  # the old one, as holders were told it

    @classmethod
    def between(cls, old: Policy, new: Policy) -> Shortening | None:
        """Compare two policies of a pool; None if no time is shorter in the new one."""
        longest = old.max_lease
        if not (
            new.lost_after < old.lost_after
            or new.suspect_after_ms < old.suspect_after_ms
            or new.linger < old.linger
            or (new.max_lease is not None and (longest is None or new.max_lease < longest))
        ):
            return None
        return cls(
            lost_after=new.lost_after + max(0, old.heartbeat_interval - new.heartbeat_interval),
            before=old.lost_after,
            suspect_after=new.suspect_after_ms,
            suspected_after=old.suspect_after_ms,
            linger=new.linger,
            lingered=old.linger,
            max_lease=new.max_lease,
            interval=old.heartbeat_interval,
        )

    def times(self, lease: Lease, now: int) -> tuple[int, int]:
        """Return (suspect_at, expires_at) of a live lease: never later than they are, and no expiry
        before `now`, since others were denied its seat until then."""
        if self._said_goodbye(lease):
            return lease.suspect_at, min(
                lease.expires_at, max(lease.last_beat_at + self.linger, now)
            )
        heard = max(lease.last_beat_at, lease.graced_at or 0)
        announced = max(0, lease.suspect_at - heard - self.suspected_after)
        suspect = heard + min(self.suspect_after + announced, self.lost_after)
        told = lease.expires_at - heard <= self.before
        expires = heard + self.lost_after if told else lease.expires_at
        if self.max_lease is not None:
            expires = min(expires, max(lease.acquired_at + self.max_lease, heard + self.interval))
        return min(lease.suspect_at, suspect), min(lease.expires_at, max(expires, now))

    def _said_goodbye(self, lease: Lease) -> bool:
        """Tell a goodbye from a doubt (`Store.doubt`), which leaves the expiry."""
        left = lease.expires_at - lease.last_beat_at
        return lease.suspect_at <= lease.last_beat_at and left <= self.lingered
