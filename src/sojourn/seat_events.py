"""What the stream is told of seats: ends, denials and offers."""

from __future__ import annotations

from sojourn.event import Event, EventKind
from sojourn.lease import Acquire, Denied, EndReason, Lease, Origin, Waiting
from sojourn.line import OFFER_FOR

END_EVENT = {
    EndReason.RELEASED: EventKind.LEASE_RELEASED,
    EndReason.EXPIRED: EventKind.LEASE_EXPIRED,
    EndReason.EVICTED: EventKind.LEASE_EVICTED,
    EndReason.MOVED: EventKind.LEASE_EVICTED,
    EndReason.REVOKED: EventKind.LEASE_REVOKED,
    EndReason.SESSION_ENDED: EventKind.LEASE_REVOKED,
}


def end_event(lease: Lease, reason: EndReason, actor: str | None, now: int) -> Event:
    """Describe the end of a lease, with the evidence of its silence. `expiredFor`: for so long it had run
    out when that was noted; absent where it had not."""
    late = now - lease.expires_at
    return Event(
        kind=END_EVENT[reason],
        pool_id=lease.pool_id,
        subject=lease.id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        actor=actor,
        data={
            "reason": reason.value,
            "fence": lease.fence,
            "silentFor": max(0, now - lease.last_beat_at),
            "heldFor": max(0, min(now, lease.expires_at) - lease.acquired_at),
            **({"expiredFor": late} if late > 0 else {}),
        },
    )


def offer_event(entry: Waiting, now: int) -> Event:
    """Record for whom a free seat is held."""
    return Event(
        kind=EventKind.LEASE_OFFERED,
        pool_id=entry.pool_id,
        subject=entry.id,
        user_id=entry.user_id,
        client_id=entry.client_id,
        data={"waited": max(0, now - entry.since), "offerFor": OFFER_FOR},
    )


_GRANTED = {
    Origin.GRANTED: EventKind.LEASE_ACQUIRED,
    Origin.RESUMED: EventKind.LEASE_RESUMED,
    Origin.TAKEN_OVER: EventKind.LEASE_TAKEN_OVER,
}


def grant_event(lease: Lease, *, since: int | None, now: int) -> Event:
    """Record that a seat was granted. `since`: when its holder entered the line, if it did."""
    data: dict[str, int] = {"fence": lease.fence}
    if lease.overdraft:
        data["overdraft"] = True
    if since is not None:
        data["waited"] = max(0, now - since)
    return Event(
        kind=_GRANTED[lease.origin],
        pool_id=lease.pool_id,
        subject=lease.id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        data=data,
    )


def denial_event(request: Acquire, denied: Denied) -> Event:
    """Record a denial with its proof: each named holder's last beat, as milliseconds before the denial.
    Of a request that was put into the line, that is its beginning to wait."""
    line: dict[str, int | bool] = {"line": denied.waiting} if denied.waiting else {}
    if denied.overdraft:
        line["overdraft"] = denied.overdraft
    if denied.reserved:
        line |= {"reserved": denied.reserved, "reservedFree": denied.reserved_free}
    if denied.allotted:
        line["allotted"] = denied.allotted
    if denied.entry is not None:
        line["position"] = denied.position
    elif denied.line_full:
        line["lineFull"] = True
    return Event(
        kind=EventKind.LEASE_DENIED if denied.entry is None else EventKind.LEASE_WAITING,
        pool_id=request.pool_id,
        subject=None if denied.entry is None else denied.entry.id,
        user_id=request.user_id,
        client_id=request.client_id,
        data={
            "reason": denied.reason.value,
            "limit": denied.limit,
            "inUse": denied.in_use,
            "suspect": denied.suspect,
            "retryAfter": denied.retry_after,
            "holders": [
                {
                    "leaseId": lease.id,
                    "userId": lease.user_id,
                    "clientId": lease.client_id,
                    "lastBeatAgo": max(0, denied.at - lease.last_beat_at),
                    "expiresIn": lease.expires_at - denied.at,
                }
                for lease in denied.evidence
            ],
            **line,
        },
    )
