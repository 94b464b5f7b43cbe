"""Rows as the scripts write them, and back: see the heads of lua/leases.lua and lua/sessions.lua."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from sojourn.device import Device, new_device_data
from sojourn.errors import InvalidInput
from sojourn.event import Event, kind_of
from sojourn.idempotency import IdempotencyKey
from sojourn.lease import Acquire, EndReason, Lease, Origin, Waiting
from sojourn.license import (
    POLICY,
    CountBy,
    LicenseStatus,
    Policy,
    Pool,
    Reservation,
    WhenFull,
    split_pool_id,
)
from sojourn.session import NewSession, Save, Session, check_size
from sojourn.text import bare

NUMBER = 6  # bytes of each of the seven numbers that a lease's row of the full form begins with
FULL = 2
FULL_SIZE = 1 + 7 * NUMBER
SHORT = struct.Struct(">BIHIIii")  # its third and fourth are one number
IDLE = struct.Struct(">BIHIIiiI")
ORIGINS = (Origin.GRANTED, Origin.RESUMED, Origin.TAKEN_OVER)
REASONS = tuple(EndReason)
FIRST, LATER = tuple(POLICY)[:10], tuple(POLICY)[10:]
"""Fields of a policy before and behind what else a definition holds. New ones stand behind, so that what an
older server wrote is read."""
CODES: dict[str, tuple[StrEnum, ...]] = {
    "count_by": (CountBy.LEASE, CountBy.USER, CountBy.CLIENT),
    "when_full": (WhenFull.DENY, WhenFull.RECLAIM_SUSPECT, WhenFull.EVICT_IDLE),
}
"""What scripts call them: by place."""
STATUSES = (LicenseStatus.ACTIVE, LicenseStatus.SUSPENDED)
BUCKET = 48
"""Leases per small hash of a pool: few enough that it stays one compact block, and quickly searched."""
BUCKETS_MAX = 65_536

_pack = msgspec.msgpack.Encoder(enc_hook=bare).encode
_unpack = msgspec.msgpack.Decoder().decode
_json = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_device = msgspec.json.Decoder(Device).decode
LAST_DEVICE = 16  # of what is known of a session


def pack(value: Any) -> bytes:
    """Encode what a script is asked; what cannot be is the caller's mistake."""
    try:
        return _pack(value)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"One of these values cannot be stored: {error}") from error


def unpack(raw: bytes) -> Any:
    return _unpack(raw)


def to_json(value: Any) -> bytes:
    """Encode what an application gave us, or raise InvalidInput."""
    try:
        return _json(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error


def device_text(device: Device | None) -> str | None:
    return None if device is None else to_json(device).decode()


# Pools


def pool_row(pool: Pool) -> list[Any]:
    policy = pool.policy
    first = {**msgspec.structs.asdict(policy), "suspect_after": policy.suspect_after_ms}
    definition = [
        *(_stored(name, first[name]) for name in FIRST),
        *(STATUSES.index(pool.status), pool.valid_from, pool.valid_until, policy.suspect_after),
        *(_stored(name, first[name]) for name in LATER),
    ]
    buckets = min(BUCKETS_MAX, -(-policy.capacity // BUCKET) or 1)
    # False for None: Lua's arrays end at a hole.
    return [pool.id, [False if each is None else each for each in definition], buckets]


def _stored(name: str, value: Any) -> Any:
    if name == "reservations":
        return [[x.name, x.seats, x.users, x.groups, x.kinds] for x in value]
    return CODES[name].index(value) if name in CODES else value


def _read(name: str, value: Any) -> Any:
    if name == "reservations":
        return tuple(_reservation(*each) for each in value)
    return CODES[name][value] if name in CODES else value


def _reservation(name: str, seats: int, *members: list[str]) -> Reservation:
    users, groups, kinds = map(tuple, members)
    return Reservation(name=name, seats=seats, users=users, groups=groups, kinds=kinds)


def pool_of(pool_id: str, raw: bytes) -> Pool:
    d: list[Any] = [None if each is False else each for each in _unpack(raw)]
    license_id, feature = split_pool_id(pool_id)
    policy = {name: _read(name, each) for name, each in zip(FIRST, d, strict=False)}
    status, valid_from, valid_until, policy["suspect_after"], *later = d[len(FIRST) :]
    policy |= {name: _read(name, each) for name, each in zip(LATER, later, strict=False)}
    return Pool(
        license_id=license_id,
        feature=feature,
        policy=Policy(**policy),
        status=STATUSES[status],
        valid_from=valid_from,
        valid_until=valid_until,
    )


# Requests that come twice


def key_row(key: IdempotencyKey | None) -> list[str] | None:
    return None if key is None else [hash_text(key.digest), hash_text(key.fingerprint), key.note]


# Leases


def request_row(request: Acquire) -> list[Any]:
    resume = request.resume
    return [
        *(request.pool_id, request.user_id, request.client_id, request.lease_id),
        *(request.session_id, device_text(request.device), request.takeover),
        *((None, None) if resume is None else (resume.lease_id, resume.fence)),
        key_row(request.idempotency),
        request.tentative,
        request.member_of or None,
        *(request.wait, request.priority, request.ask_all),
    ]


def waiting_of(row: Sequence[Any]) -> Waiting:
    """Read an entry of a line as scripts answer it."""
    return Waiting(
        id=row[0],
        pool_id=row[1],
        user_id=row[2],
        client_id=row[3],
        priority=row[4],
        since=row[5],
        expires_at=row[6],
        offer_until=row[7] or None,
        reservation=row[8] or None,
    )


def _head_of(raw: bytes) -> tuple[int, ...]:
    """Read the numbers that a row begins with: its kind, seven more, where the rest of it begins."""
    form = raw[0] % 4
    if form == FULL:
        numbers = (
            int.from_bytes(raw[at : at + NUMBER], "big", signed=True)
            for at in range(1, FULL_SIZE, NUMBER)
        )
        return raw[0], *numbers, FULL_SIZE
    read = IDLE if form else SHORT
    kind, fence, high, low, since, suspect, expires, *idle = read.unpack_from(raw)
    acquired_at = (high << 32) + low
    beat_at = acquired_at + since
    idle_since = beat_at - idle[0] if idle else 0
    times = (acquired_at, beat_at, beat_at + suspect, beat_at + expires)
    return kind, fence, *times, idle_since, 0, read.size


def lease_of(lease_id: bytes, pool_id: bytes, raw: bytes) -> Lease:
    """Read a row as lua/leases.lua describes it."""
    kind, fence, acquired_at, last_beat_at, suspect_at, expires_at, *odd = _head_of(raw)
    idle_since, graced_at, rest = odd
    tail: list[Any] = _unpack(raw[rest:])
    user_id, client_id = tail[:2]
    session_id, device, ended_at, reason, member_of, overdraft = (tail[2:] + [None] * 6)[:6]
    return Lease(
        id=lease_id.decode(),
        pool_id=pool_id.decode(),
        user_id=user_id,
        client_id=client_id,
        fence=fence,
        acquired_at=acquired_at,
        last_beat_at=last_beat_at,
        suspect_at=suspect_at,
        expires_at=expires_at,
        origin=ORIGINS[kind // 4],
        session_id=session_id or None,
        idle_since=idle_since or None,
        device=_device(device) if device else None,
        ended_at=ended_at or None,
        end_reason=REASONS[reason - 1] if reason else None,
        graced_at=graced_at or None,
        overdraft=bool(overdraft),
        member_of=tuple(member_of or ()),
    )


def leases_of(flat: Sequence[bytes]) -> list[Lease]:
    """Read rows as scripts answer them: id, pool and row, one after another."""
    return [lease_of(*flat[at : at + 3]) for at in range(0, len(flat), 3)]


# Sessions


def hash_text(token_hash: bytes) -> str:
    return binascii.b2a_base64(token_hash, newline=False).decode()


def _pairs(data: Any) -> list[str]:
    """Split JSON into keys and values, each as text; values that are not changed stay undecoded."""
    encoded = check_size(to_json(data))
    return [
        part
        for key, value in _parts(encoded).items()
        for part in (to_json(key).decode(), bytes(value).decode())
    ]


def new_session_row(new: NewSession, *, deny: bool, ips: bool) -> list[Any]:
    """`ips`: events may hold addresses."""
    device = new.device
    said = None
    if device is not None and new.user_id is not None and new.impersonator is None:
        said = to_json(new_device_data(device, first=False, ip=ips)).decode()
    return [
        *(new.id, hash_text(new.token_hash), new.user_id, _pairs(new.data), new.lifetime),
        *(new.idle_timeout, device_text(new.device), new.level, new.impersonator, new.replaces),
        *(list(new.ending), new.limit, deny, said),
        device is not None and device.ip is not None,
        key_row(new.idempotency),
    ]


def save_row(save: Save) -> list[Any]:
    encoded = to_json(save.set)
    pairs = [
        part
        for key, value in _parts(encoded).items()
        for part in (to_json(key).decode(), bytes(value).decode())
    ]
    unset = [to_json(key).decode() for key in save.unset]
    return [save.id, pairs, unset, key_row(save.idempotency)]


def session_of(shown: Sequence[bytes], at: int) -> Session:
    """Read id, what we know of it, then the keys and values of its data."""
    session_id, packed, *pairs = shown
    m = _unpack(packed)
    data = b",".join(k + b":" + v for k, v in zip(pairs[::2], pairs[1::2], strict=True))
    return Session(
        id=session_id.decode(),
        user_id=None if m[0] is False else m[0],
        data=_object(b"{" + data + b"}"),
        revision=m[1],
        created_at=m[2],
        authenticated_at=m[3],
        last_used_at=m[4],
        idle_timeout=m[5],
        idle_at=m[6],
        expires_at=m[7],
        device=_device(m[8]) if m[8] else None,
        level=m[9],
        impersonator=None if m[10] is False else m[10],
        label=(m[15] or None) if len(m) > LAST_DEVICE else None,  # older ones lack both
        last_device=_device(m[16]) if len(m) > LAST_DEVICE and m[16] else None,
        at=at,
    )


# Events


def event_of(entry: bytes, raw: bytes) -> Event:
    parts: list[Any] = [None if part is False else part for part in _unpack(raw)]
    at, kind, pool_id, subject, user_id, client_id, actor, data = parts
    if isinstance(data, list):  # words that were ready, and what the script adds
        text, name, added = data
        data = _object(text) | {name: added}
    return Event(
        id=int(entry.partition(b"-")[0]),
        at=at,
        kind=kind_of(kind),
        pool_id=pool_id,
        subject=subject,
        user_id=user_id,
        client_id=client_id,
        actor=actor,
        data=data or {},
    )
