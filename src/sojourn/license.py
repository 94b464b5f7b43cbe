"""What a customer bought, and the pools of seats it opens."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import get_args

import msgspec
from msgspec import Struct

from sojourn.clock import DAY, MINUTE, SECOND
from sojourn.decoding import prepared
from sojourn.errors import InvalidInput, InvalidPolicy

FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CAPACITY_MAX = 10_000_000
DURATION_MAX = 365 * DAY
LINGER = 10 * SECOND
DURATION_MIN = 50  # ms; short thresholds make real-time tests possible
RESERVATIONS_MAX = 20
MEMBERS_MAX = 200
"""Users, groups and kinds that all reservations of a policy name together."""
MEMBER_LENGTH_MAX = 256


class LicenseStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


class CountBy(StrEnum):
    """What uses up a seat. Holders (user + client) with the same key share one."""

    USER = "user"
    CLIENT = "client"
    LEASE = "lease"


class WhenFull(StrEnum):
    """Whom an acquire may displace when every seat is taken."""

    DENY = "deny"
    RECLAIM_SUSPECT = "reclaim_suspect"
    EVICT_IDLE = "evict_idle"  # suspects first, then holders idle for `idle_after`


@prepared
class Reservation(Struct, frozen=True, kw_only=True):
    """Seats of a pool that are kept for some: see `room`. Whoever one of its lists names counts into it."""

    name: str
    seats: int
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()  # as a user's JWT proves them
    kinds: tuple[str, ...] = ()  # of devices, as clients describe themselves

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.users, *self.groups, *self.kinds)

    def validate(self) -> None:
        """Raise InvalidPolicy naming the first rule that is broken."""
        about = f"Reservation {self.name!r}:"
        if not FEATURE.fullmatch(self.name):
            raise InvalidPolicy(f"{about} its name is to be spelled as a feature's is.")
        if not 1 <= self.seats <= CAPACITY_MAX:
            raise InvalidPolicy(f"{about} seats must be between 1 and {CAPACITY_MAX}.")
        if not self.members or not all(1 <= len(x) <= MEMBER_LENGTH_MAX for x in self.members):
            raise InvalidPolicy(
                f"{about} name users, groups or kinds, each in 1 to {MEMBER_LENGTH_MAX} characters."
            )


@prepared
class Policy(Struct, frozen=True, kw_only=True):
    """The rules of a pool. Durations in milliseconds."""

    capacity: int
    heartbeat_interval: int = 30 * SECOND
    lost_after: int = 90 * SECOND  # a lease expires so long after its last beat; see `Store.pulse`
    suspect_after: int | None = None  # None: two heartbeat intervals, at most `lost_after`
    linger: int = LINGER
    resume_window: int = 15 * MINUTE  # at most a day: for so long a lease that ended is remembered
    count_by: CountBy = CountBy.LEASE
    when_full: WhenFull = WhenFull.RECLAIM_SUSPECT
    idle_after: int | None = None
    max_lease: int | None = None  # the longest a lease may live, however well it beats
    overdraft: int = 0  # seats above the capacity that are granted, marked and reported
    reservations: tuple[Reservation, ...] = ()  # a holder counts into the first that names it

    @property
    def reserved(self) -> int:
        """How many seats are kept for reservations."""
        return sum(each.seats for each in self.reservations)

    def place_of(self, reservation: str | None) -> int | None:
        """Return the place of a reservation by its name; None if there is none, or no more."""
        for place, each in enumerate(self.reservations):
            if each.name == reservation:
                return place
        return None

    @property
    def most(self) -> int:
        """The most seats that may be held at once."""
        return self.capacity + self.overdraft

    @property
    def suspect_after_ms(self) -> int:
        """How long after a beat a holder becomes suspect."""
        if self.suspect_after is not None:
            return self.suspect_after
        return min(2 * self.heartbeat_interval, self.lost_after)

    def validate(self) -> Policy:
        """Return self, or raise InvalidPolicy naming the first rule that is broken."""
        if not 0 <= self.capacity <= CAPACITY_MAX:
            raise InvalidPolicy(f"capacity must be between 0 and {CAPACITY_MAX}.")
        for name in DURATIONS:
            value = getattr(self, name)
            if value is None or name in ("linger", "resume_window"):  # which may be nothing
                continue
            if not DURATION_MIN <= value <= DURATION_MAX:
                raise InvalidPolicy(f"{name} must be between 0.05 s and 365 days.")
        if not 0 <= self.linger <= DURATION_MAX:
            raise InvalidPolicy("linger must be between 0 and 365 days.")
        if not 0 <= self.resume_window <= DAY:
            raise InvalidPolicy(
                "resume_window must be between 0 and 24 hours: a lease that ended is then forgotten."
            )
        if self.lost_after <= self.heartbeat_interval:
            raise InvalidPolicy("lost_after must be longer than heartbeat_interval.")
        if not self.heartbeat_interval <= self.suspect_after_ms <= self.lost_after:
            raise InvalidPolicy("suspect_after must lie between heartbeat_interval and lost_after.")
        if self.linger > self.lost_after:
            raise InvalidPolicy("linger must not be longer than lost_after.")
        if self.when_full is WhenFull.EVICT_IDLE and self.idle_after is None:
            raise InvalidPolicy("when_full = evict_idle needs idle_after.")
        if not 0 <= self.overdraft <= CAPACITY_MAX:
            raise InvalidPolicy(f"overdraft must be between 0 and {CAPACITY_MAX}.")
        self._validate_reservations()
        return self

    def _validate_reservations(self) -> None:
        for reservation in self.reservations:
            reservation.validate()
        named = sum(len(each.members) for each in self.reservations)
        if len(self.reservations) > RESERVATIONS_MAX or named > MEMBERS_MAX:
            raise InvalidPolicy(
                f"A policy has at most {RESERVATIONS_MAX} reservations, and they name at most "
                f"{MEMBERS_MAX} users, groups and kinds together."
            )
        if len({each.name for each in self.reservations}) < len(self.reservations):
            raise InvalidPolicy("Two reservations have the same name.")
        if self.reserved > self.capacity:
            raise InvalidPolicy(
                f"{self.reserved} seats are reserved: more than the capacity of {self.capacity}."
            )


POLICY = {field.name: field.type for field in msgspec.structs.fields(Policy)}
"""The fields of a policy, in order, and their types: what stores, the wire and commands are made from."""
OPTIONAL = tuple(name for name, kind in POLICY.items() if type(None) in get_args(kind))
"""Those that may be None."""
CHOICES: dict[str, type[StrEnum]] = {"count_by": CountBy, "when_full": WhenFull}
SEATS = ("capacity", "overdraft")
"""Those that are numbers of seats."""
DURATIONS = tuple(
    name for name in POLICY if name not in (*SEATS, *CHOICES) and name != "reservations"
)


class License(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    status: LicenseStatus = LicenseStatus.ACTIVE
    valid_from: int | None = None
    valid_until: int | None = None
    created_at: int = 0
    allowed_origins: tuple[
        str, ...
    ] = ()  # of pages that may use its key; see `origin.origin_allowed`
    allotment_ttl: int | None = None  # ms for which relays go on without a word; None: the server's


class Pool(Struct, frozen=True, kw_only=True):
    """(license, feature) with a policy; carries what an acquire must know of the license."""

    license_id: str
    feature: str
    policy: Policy
    status: LicenseStatus = LicenseStatus.ACTIVE
    valid_from: int | None = None
    valid_until: int | None = None

    @property
    def id(self) -> str:
        return pool_id(self.license_id, self.feature)


def pool_id(license_id: str, feature: str) -> str:
    """Name a pool. License ids never hold a colon, so the name reads back unambiguously."""
    return f"{license_id}:{feature}"


def split_pool_id(pool: str) -> tuple[str, str]:
    """Return (license_id, feature)."""
    license_id, _, feature = pool.partition(":")
    return license_id, feature


def check_feature(feature: str) -> str:
    """Return the feature's name, or raise InvalidInput."""
    if not FEATURE.fullmatch(feature):
        raise InvalidInput(
            "A feature's name is 1 to 64 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit."
        )
    return feature
