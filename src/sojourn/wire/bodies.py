"""What goes over the wire: the bodies, in camelCase, and the codes of refusals as HTTP statuses.

Durations are seconds, instants RFC 3339. Success is `{"success": true, "data": …, "message": …?}`,
failure RFC 9457 `application/problem+json` with a stable `code`, plus `error` (for people) and
`details` (what to do).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sojourn.allotment import ALLOTMENT_TTL_MAX, ALLOTMENT_TTL_MIN
from sojourn.clock import SECOND
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.lease import PRIORITY_MAX, Lease
from sojourn.license import (
    DURATIONS,
    LINGER,
    MEMBERS_MAX,
    RESERVATIONS_MAX,
    CountBy,
    LicenseStatus,
    Policy,
    Pool,
    Reservation,
    WhenFull,
)
from sojourn.origin import ORIGIN, ORIGIN_MAX, ORIGINS_MAX
from sojourn.service.operations import Cleanup
from sojourn.token import LEASE_TOKEN_MAX
from sojourn.wire.statuses import STATUS as STATUS
from sojourn.wire.statuses import problem_type as problem_type

# Opaque to us, but shown to people and kept by databases: no control characters, at most 256 long.
Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
Feature = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z")
]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Wait = Annotated[float, Meta(ge=0.05, le=31_536_000)]
Members = Annotated[list[Name], Meta(max_length=MEMBERS_MAX)]
Instant = Annotated[datetime, Meta(extra_json_schema={"format": "date-time"})]
Priority = Annotated[int, Meta(ge=0, le=PRIORITY_MAX)]
Limit = Annotated[int, Meta(ge=1, le=1_000)]
LicenseName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
Origins = Annotated[
    tuple[Annotated[str, Meta(max_length=ORIGIN_MAX, extra_json_schema={"pattern": ORIGIN})], ...],
    Meta(max_length=ORIGINS_MAX),
]

INSTANT_MAX = 253_402_300_799_999  # the last of the year 9999

TITLES = {
    "seat_limit": "Maximum user limit reached",
    "session_limit": "Too many sessions",
    "lease_lost": "The lease is lost",
    "overloaded": "The server is busy",
}


class Wire(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A request body: unknown fields are refused, so that a misspelled one is not ignored."""


class Answer(Struct, frozen=True, kw_only=True, rename="camel"):
    """A response body."""


T = TypeVar("T")


class Done(Answer, Generic[T], frozen=True, kw_only=True):
    """Every success. `message` says in plain words what was done, where that is worth saying."""

    success: bool = True
    data: T
    message: str | UnsetType = UNSET


class Page(Answer, Generic[T], frozen=True, kw_only=True):
    """Part of a long list. `next` goes into `after` to read on; null: this was all."""

    items: list[T]
    next: str | None = None


class DeviceBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    name: Name | None = None
    browser: Name | None = None
    os: Name | None = None
    kind: Name | None = None


class AcquireBody(Wire, frozen=True, kw_only=True):
    feature: Feature | None = None  # may be left out only when the proof is a lease token
    user_id: Name | None = None  # likewise; or when the proof is a user's JWT
    client_id: Name | None = None
    license_id: Name | None = None
    session_id: Name | None = None
    device: DeviceBody | None = None
    takeover: bool = False
    wait: Seconds = 0  # for a seat, in the line; past the first 60, ask again
    priority: Priority | None = None  # in the line; as high as a user's JWT proves, at most


class HeartbeatBody(Wire, frozen=True, kw_only=True):
    idle_for: Seconds | None = None
    next_in: Seconds | None = None
    closing: bool = False
    token: Annotated[str, Meta(max_length=LEASE_TOKEN_MAX)] | None = None  # of a goodbye alone


class SeatBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    lease_id: str
    token: str
    fence: int
    heartbeat_interval: float
    lost_after: float
    expires_in: float
    resumed: bool
    overdraft: bool = False  # it was granted above the capacity


class BeatBody(Answer, frozen=True, kw_only=True):
    expires_in: float
    state: str


class ReleasedBody(Answer, frozen=True, kw_only=True):
    released: bool


class LeaseBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A lease as people and operators see it. Ages and times left are seconds from the store's now."""

    lease_id: str
    license_id: str
    license_name: str | None = None
    feature: str
    user_id: str
    client_id: str
    fence: int
    state: str
    acquired_at: str
    last_beat_at: str
    last_beat_ago: float
    held_for: float
    expires_in: float = 0.0
    idle_for: float | None = None
    session_id: str | None = None
    device: Device | None = None
    ended_at: str | None = None
    end_reason: str | None = None
    overdraft: bool = False
    member_of: list[str] = msgspec.field(default_factory=list)


class HolderBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody else's seat, as a refused client may see it."""

    user_id: str
    state: str
    held_for: float
    last_beat_ago: float
    expires_in: float
    device: Device | None = None


class ReservationBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Seats that are kept for whom one of the lists names: users, groups that a user's JWT proves, kinds of
    devices as clients describe themselves."""

    name: Feature
    seats: Annotated[int, Meta(ge=1, le=10_000_000)]
    users: Members = []
    groups: Members = []
    kinds: Members = []


class PolicyBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A feature's policy. What is left out takes its default."""

    capacity: Annotated[int, Meta(ge=0, le=10_000_000)]
    heartbeat_interval: Wait | UnsetType = UNSET
    lost_after: Wait | UnsetType = UNSET
    suspect_after: Wait | None | UnsetType = UNSET
    linger: Seconds | UnsetType = UNSET
    resume_window: Seconds | UnsetType = UNSET
    count_by: CountBy | UnsetType = UNSET
    when_full: WhenFull | UnsetType = UNSET
    idle_after: Wait | None | UnsetType = UNSET
    max_lease: Wait | None | UnsetType = UNSET
    overdraft: Annotated[int, Meta(ge=0, le=10_000_000)] | UnsetType = UNSET
    reservations: (
        Annotated[list[ReservationBody], Meta(max_length=RESERVATIONS_MAX)] | UnsetType
    ) = UNSET

    def policy(self) -> Policy:
        """Return the policy in the domain's unit. Raises InvalidPolicy.

        Of heartbeat_interval and lost_after, one left out follows the other at 1 : 3, and a linger
        left out never exceeds lost_after, so that naming one threshold is enough.
        """
        values: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not UNSET:
                values[name] = round(value * 1000) if isinstance(value, float) else value
        if not isinstance(self.reservations, UnsetType):
            values["reservations"] = tuple(
                Reservation(
                    name=x.name,
                    seats=x.seats,
                    users=tuple(x.users),
                    groups=tuple(x.groups),
                    kinds=tuple(x.kinds),
                )
                for x in self.reservations
            )
        if "heartbeat_interval" in values:
            values.setdefault("lost_after", 3 * values["heartbeat_interval"])
        elif "lost_after" in values:
            values["heartbeat_interval"] = values["lost_after"] // 3
        if "linger" not in values and "lost_after" in values:
            values["linger"] = min(LINGER, values["lost_after"])
        return Policy(**values).validate()


class PoolBody(Answer, frozen=True, kw_only=True):
    feature: str
    capacity: int
    heartbeat_interval: float
    lost_after: float
    suspect_after: float
    linger: float
    resume_window: float
    count_by: CountBy
    when_full: WhenFull
    idle_after: float | None
    max_lease: float | None
    overdraft: int
    reservations: list[ReservationBody]


AllotmentTtl = Annotated[float, Meta(ge=ALLOTMENT_TTL_MIN / SECOND, le=ALLOTMENT_TTL_MAX / SECOND)]
"""Seconds for which relays may grant a license's seats without a word of their authority."""


class LicenseBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    license_id: str
    name: str
    status: LicenseStatus
    created_at: str
    valid_from: str | None = None
    valid_until: str | None = None
    features: list[PoolBody] = msgspec.field(default_factory=list)
    allowed_origins: tuple[str, ...] = ()
    allotment_ttl: float | None = None
    key: str | None = None  # shown once, when it is made


class CreateLicenseBody(Wire, frozen=True, kw_only=True):
    name: LicenseName
    features: dict[Feature, PolicyBody] = msgspec.field(default_factory=dict)
    valid_from: Instant | None = None
    valid_until: Instant | None = None
    allowed_origins: Origins = ()
    allotment_ttl: AllotmentTtl | None = None


class ChangeLicenseBody(Wire, frozen=True, kw_only=True):
    name: LicenseName | UnsetType = UNSET
    status: LicenseStatus | UnsetType = UNSET
    valid_from: Instant | None | UnsetType = UNSET
    valid_until: Instant | None | UnsetType = UNSET
    allowed_origins: Origins | UnsetType = UNSET
    allotment_ttl: AllotmentTtl | None | UnsetType = UNSET


class CleanupBody(Wire, frozen=True, kw_only=True):
    license_id: Name
    user_id: Name | None = None
    feature: Feature | None = None


class CleanupAnswer(Answer, frozen=True, kw_only=True):
    """What a clean-up did. `leases` names at most 1,000 of those it ended."""

    ended: int
    remaining: int  # live leases in the same scope afterwards
    leases: list[LeaseBody]


class Problem(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """RFC 9457, with our extensions. `details` says what to do."""

    type: str
    title: str
    status: int
    code: str
    error: str
    details: str = ""
    instance: str | None = None  # names the request in the server's log
    limit: int | None = None
    in_use: int | None = None
    suspect: int | None = None
    overdraft: int | None = None
    reserved: int | None = None
    reserved_free: int | None = None
    retry_after: float | None = None
    free_in: float | None = None  # until a seat is as likely free as not; left out if unknown
    mine: list[LeaseBody] | None = None
    holders: list[HolderBody] | None = None
    reason: str | None = None
    resumable: bool | None = None
    asked: dict[str, int] | None = (
        None  # before this: `asked answered silent`, and `spared` of the silent
    )
    position: int | None = None  # in the line; the first is 1
    waiting: int | None = None  # how many are in the line
    estimate: float | None = None  # seconds until one's turn, by the pace of late
    keep_place: float | None = None  # seconds within which to ask again
    number: int | None = None  # of the latest beat that is known of a relay


def optional(value: T | UnsetType) -> T | None:
    """Return what was given, or None."""
    return None if isinstance(value, UnsetType) else value


def camel(name: str) -> str:
    """Spell a field's name as it is on the wire."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def seconds(ms: int) -> float:
    return ms / 1000


@lru_cache(maxsize=4_096)
def rfc3339(ms: int) -> str:
    """Write an instant as RFC 3339, in UTC, to the millisecond. An answer has several, often the same."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(maxsize=4_096)
def _second(since_1970: int) -> str:
    """Write a second, which many instants share."""
    return datetime.fromtimestamp(since_1970, UTC).isoformat().removesuffix("+00:00")


def instant(value: datetime | None) -> int | None:
    """Read an instant; one without a zone is taken as UTC. Raises InvalidInput."""
    if value is None:
        return None
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    ms = math.floor(aware.timestamp() * 1000)
    if not 0 <= ms <= INSTANT_MAX:
        raise InvalidInput("An instant must lie between the years 1970 and 9999.")
    return ms


def lease_body(lease: Lease, now: int, names: dict[str, str] | None = None) -> LeaseBody:
    license_id, _, feature = lease.pool_id.partition(":")
    live = lease.live(now)
    gone_at = lease.ended_at if lease.ended_at is not None else lease.expires_at
    return LeaseBody(
        lease_id=lease.id,
        license_id=license_id,
        license_name=names.get(license_id) if names else None,
        feature=feature,
        user_id=lease.user_id,
        client_id=lease.client_id,
        fence=lease.fence,
        state=lease.state(now).value,
        acquired_at=rfc3339(lease.acquired_at),
        last_beat_at=rfc3339(lease.last_beat_at),
        last_beat_ago=seconds(max(0, now - lease.last_beat_at)),
        held_for=seconds(max(0, (now if live else min(now, gone_at)) - lease.acquired_at)),
        expires_in=seconds(max(0, lease.expires_at - now)) if live else 0.0,
        idle_for=None if lease.idle_since is None else seconds(max(0, now - lease.idle_since)),
        session_id=lease.session_id,
        device=lease.device,
        ended_at=None if live else rfc3339(gone_at),
        end_reason=None if live else (lease.end_reason.value if lease.end_reason else "expired"),
        overdraft=lease.overdraft,
        member_of=list(lease.member_of),
    )


def holder_body(lease: Lease, now: int) -> HolderBody:
    return HolderBody(
        user_id=lease.user_id,
        state=lease.state(now).value,
        held_for=seconds(max(0, now - lease.acquired_at)),
        last_beat_ago=seconds(max(0, now - lease.last_beat_at)),
        expires_in=seconds(max(0, lease.expires_at - now)),
        device=_described(lease.device),
    )


def _described(device: Device | None) -> Device | None:
    """Leave out where somebody is: a refused client may know what holds a seat, not its address."""
    if device is None:
        return None
    known = Device(name=device.name, browser=device.browser, os=device.os, kind=device.kind)
    return None if known == Device() else known


def cleanup_answer(cleanup: Cleanup) -> CleanupAnswer:
    return CleanupAnswer(
        ended=cleanup.ended_count,
        remaining=cleanup.remaining,
        leases=[lease_body(lease, cleanup.at, cleanup.names) for lease in cleanup.ended],
    )


def pool_body(pool: Pool) -> PoolBody:
    policy = msgspec.structs.asdict(pool.policy)
    policy["suspect_after"] = pool.policy.suspect_after_ms
    for name in DURATIONS:
        policy[name] = None if policy[name] is None else seconds(policy[name])
    policy["reservations"] = [
        ReservationBody(
            name=x.name,
            seats=x.seats,
            users=list(x.users),
            groups=list(x.groups),
            kinds=list(x.kinds),
        )
        for x in pool.policy.reservations
    ]
    return PoolBody(feature=pool.feature, **policy)


def retry_after_header(ms: int) -> str:
    """Write a Retry-After: whole seconds, at least one."""
    return str(max(1, math.ceil(ms / 1000)))


def title(code: str) -> str:
    return TITLES.get(code, code.replace("_", " ").capitalize())
