"""Rows to Structs and back. Columns are read by position, in the order given here."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.event import Event, kind_of
from sojourn.lease import EndReason, Lease, LeaseState, Origin, Renewal
from sojourn.license import CHOICES, POLICY, LicenseStatus, Policy, Pool, Reservation
from sojourn.session import Session, check_size

Row = Sequence[Any]

LEASE_COLUMNS = (
    *("id", "pool_id", "user_id", "client_id", "fence"),
    *("acquired_at", "last_beat_at", "suspect_at", "expires_at", "origin", "session_id"),
    *("idle_since", "device", "ended_at", "end_reason", "graced_at", "overdraft", "member_of"),
)
POOL_COLUMNS = (
    *("license_id", "feature", "status", "valid_from", "valid_until"),
    *POLICY,
)
SESSION_COLUMNS = (
    *("id", "user_id", "data", "revision", "created_at", "authenticated_at", "last_used_at"),
    *("idle_timeout", "idle_at", "expires_at", "device", "level", "impersonator"),
    *("label", "last_device"),
)
EVENT_COLUMNS = (
    *("id", "at", "kind", "pool_id", "subject", "user_id", "client_id", "actor", "data"),
)

LEASE = ", ".join(f"l.{name}" for name in LEASE_COLUMNS)
POOL = ", ".join(POOL_COLUMNS)
SESSION = ", ".join(f"s.{name}" for name in SESSION_COLUMNS)

OPEN = """p.status = 'active' AND (p.valid_from IS NULL OR p.valid_from <= {at})
    AND (p.valid_until IS NULL OR p.valid_until > {at})"""
"""Which of sojourn_pools AS p grant and keep seats at an instant."""
DROPPED = "dropped"
"""The status of a pool that is gone: its row stays, so that its fence only ever grows."""

_ORIGINS = {origin.value: origin for origin in Origin}
_END_REASONS = {reason.value: reason for reason in EndReason}
_device = msgspec.json.Decoder(Device)
_object = msgspec.json.Decoder(dict[str, Any])
_names = msgspec.json.Decoder(tuple[str, ...])
_reservations = msgspec.json.Decoder(tuple[Reservation, ...])
_encoder = msgspec.json.Encoder()

RESERVATIONS_KEPT = 100
"""Lists of reservations that a process keeps decoded."""


def renewal(expires_in: int, *, doubted: bool) -> Renewal:
    """Say what became of a beat. A goodbye where the linger is zero leaves nothing."""
    if not doubted:
        return Renewal(expires_in=expires_in, state=LeaseState.ACTIVE)
    state = LeaseState.SUSPECT if expires_in > 0 else LeaseState.EXPIRED
    return Renewal(expires_in=expires_in, state=state)


def to_json(value: Any) -> str:
    """Encode what an application gave us, or raise InvalidInput."""
    try:
        return _encoder.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInput(f"The data cannot be stored as JSON: {error}") from error


def data_to_json(data: Any) -> str:
    """Encode a session's data, or raise InvalidInput, also where there is too much of it."""
    text = to_json(data)
    check_size(text.encode())
    return text


def from_json(text: str) -> dict[str, Any]:
    return _object.decode(text)


def device_to_json(device: Device | None) -> str | None:
    return None if device is None else to_json(device)


def device_from_json(text: str | None) -> Device | None:
    return None if text is None else _device.decode(text)


def reservations_from_json(text: str | None) -> tuple[Reservation, ...]:
    return () if text is None else _reservations_of(text)


@functools.lru_cache(maxsize=RESERVATIONS_KEPT)
def _reservations_of(text: str) -> tuple[Reservation, ...]:
    """Decode them; once for all acquires of the pools that have the same."""
    return _reservations.decode(text)


def lease_of(row: Row) -> Lease:
    """Read LEASE_COLUMNS."""
    return Lease(
        id=row[0],
        pool_id=row[1],
        user_id=row[2],
        client_id=row[3],
        fence=row[4],
        acquired_at=row[5],
        last_beat_at=row[6],
        suspect_at=row[7],
        expires_at=row[8],
        origin=_ORIGINS[row[9]],
        session_id=row[10],
        idle_since=row[11],
        device=None if row[12] is None else _device.decode(row[12]),
        ended_at=row[13],
        end_reason=None if row[14] is None else _END_REASONS[row[14]],
        graced_at=row[15],
        overdraft=bool(row[16]),
        member_of=() if row[17] is None else _names.decode(row[17]),
    )


def lease_row(lease: Lease) -> dict[str, Any]:
    row = {name: getattr(lease, name) for name in LEASE_COLUMNS}
    row["device"] = device_to_json(lease.device)
    row["origin"] = lease.origin.value
    row["member_of"] = to_json(lease.member_of) if lease.member_of else None
    row["end_reason"] = None if lease.end_reason is None else lease.end_reason.value
    return row


def pool_of(row: Row) -> Pool | None:
    """Read POOL_COLUMNS; None if the pool has been dropped."""
    license_id, feature, status, valid_from, valid_until, *policy = row
    if status == DROPPED:
        return None
    values: dict[str, Any] = {
        name: CHOICES[name](value) if name in CHOICES else value
        for name, value in zip(POLICY, policy, strict=True)
    }
    values["reservations"] = reservations_from_json(values["reservations"])
    return Pool(
        license_id=license_id,
        feature=feature,
        policy=Policy(**values),
        status=LicenseStatus(status),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def pool_row(pool: Pool) -> dict[str, Any]:
    policy = msgspec.to_builtins(pool.policy)
    policy["reservations"] = to_json(pool.policy.reservations) if pool.policy.reservations else None
    return {
        "id": pool.id,
        "license_id": pool.license_id,
        "feature": pool.feature,
        **policy,
        "status": pool.status.value,
        "valid_from": pool.valid_from,
        "valid_until": pool.valid_until,
    }


def session_of(row: Row, at: int) -> Session:
    """Read SESSION_COLUMNS, as they are at this instant."""
    return Session(
        id=row[0],
        user_id=row[1],
        data=_object.decode(row[2]),
        revision=row[3],
        created_at=row[4],
        authenticated_at=row[5],
        last_used_at=row[6],
        idle_timeout=row[7],
        idle_at=row[8],
        expires_at=row[9],
        device=None if row[10] is None else _device.decode(row[10]),
        level=row[11],
        impersonator=row[12],
        label=row[13],
        last_device=None if row[14] is None else _device.decode(row[14]),
        at=at,
    )


def event_of(row: Row) -> Event:
    """Read EVENT_COLUMNS."""
    return Event(
        id=row[0],
        at=row[1],
        kind=kind_of(row[2]),
        pool_id=row[3],
        subject=row[4],
        user_id=row[5],
        client_id=row[6],
        actor=row[7],
        data=_object.decode(row[8]),
    )


def event_row(event: Event, event_id: int, at: int) -> Mapping[str, Any]:
    return {
        "id": event_id,
        "at": at,
        "kind": event.kind.value,
        "pool_id": event.pool_id,
        "subject": event.subject,
        "user_id": event.user_id,
        "client_id": event.client_id,
        "actor": event.actor,
        "data": to_json(event.data),
    }
