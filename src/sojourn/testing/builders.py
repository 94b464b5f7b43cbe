"""Short ways to say what a test is about; everything left out is ordinary."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from msgspec.structs import replace

from sojourn.event import Event
from sojourn.idempotency import IdempotencyKey, Presented, fingerprint_of, key_of
from sojourn.lease import (
    Acquire,
    Beat,
    DenialReason,
    Denied,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Usage,
)
from sojourn.license import LicenseStatus, Policy, Pool
from sojourn.session import Gone, NewSession, Session, TooMany
from sojourn.store import Action, Store

OPERATOR = Action(actor="key:operator")
POOL = "lic_1:editor"

_numbers = itertools.count(1)


def pool(
    capacity: int = 2,
    *,
    license_id: str = "lic_1",
    feature: str = "editor",
    status: LicenseStatus = LicenseStatus.ACTIVE,
    valid_from: int | None = None,
    valid_until: int | None = None,
    **policy: Any,
) -> Pool:
    """Build a pool; what is not named here is a field of its policy."""
    return Pool(
        license_id=license_id,
        feature=feature,
        policy=Policy(capacity=capacity, **policy).validate(),
        status=status,
        valid_from=valid_from,
        valid_until=valid_until,
    )


def acquire(user_id: str = "ann", client_id: str = "tab", **fields: Any) -> Acquire:
    """Build a request with a lease id of its own."""
    fields = {"pool_id": POOL, "lease_id": f"lea_{next(_numbers):06}"} | fields
    return Acquire(user_id=user_id, client_id=client_id, **fields)


def key(name: str = "key", said: str = "this", note: str = "") -> IdempotencyKey:
    """Make the key of a request that says this."""
    presented = Presented(name.encode(), fingerprint_of(said.encode()))
    made = key_of("test", "verb", presented)
    assert made is not None
    return IdempotencyKey(digest=made.digest, fingerprint=made.fingerprint, note=note)


def take(store: Store, user_id: str = "ann", client_id: str = "tab", **fields: Any) -> Lease:
    """Acquire a seat, which must be granted."""
    return granted(store.acquire([acquire(user_id, client_id, **fields)])[0])


def refused(store: Store, user_id: str = "ann", client_id: str = "tab", **fields: Any) -> Denied:
    """Acquire a seat, which must be denied."""
    return denied(store.acquire([acquire(user_id, client_id, **fields)])[0])


def granted(answer: Lease | Denied) -> Lease:
    assert isinstance(answer, Lease), f"denied: {answer}"
    return answer


def denied(answer: Lease | Denied, reason: DenialReason | None = None) -> Denied:
    assert isinstance(answer, Denied), f"granted: {answer}"
    assert reason is None or answer.reason is reason, f"denied because of {answer.reason}"
    return answer


def beat(store: Store, lease: Lease, **said: Any) -> Renewal | None:
    """Renew one lease."""
    return store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=Beat(**said))])[0]


def give_back(store: Store, lease: Lease) -> bool:
    """Release one lease."""
    return store.release([Release(lease_id=lease.id, fence=lease.fence)])[0]


def look_up(store: Store, lease_id: str) -> Lease | None:
    """Find a lease by its id, live or not."""
    found, _ = store.leases(LeaseFilter(ids=(lease_id,), include_ended=True))
    return found[0] if found else None


def usage(store: Store, pool_id: str = POOL) -> Usage:
    """Count the seats of a pool, which must exist."""
    answer = store.usage([pool_id])[0]
    assert answer is not None, f"there is no pool {pool_id}"
    return answer


def token_hash(name: str) -> bytes:
    """Make the hash of a token that goes by this name."""
    return hashlib.sha256(name.encode()).digest()


def new_session(
    session_id: str = "ses_1", user_id: str | None = "ann", **fields: Any
) -> NewSession:
    """Build a session whose token goes by the session's id."""
    fields = {"token_hash": token_hash(session_id)} | fields
    return NewSession(id=session_id, user_id=user_id, **fields)


def sign_in(
    store: Store, session_id: str = "ses_1", user_id: str | None = "ann", **fields: Any
) -> Session:
    """Create a session, which must succeed."""
    session = store.create([new_session(session_id, user_id, **fields)])[0]
    assert isinstance(session, Session), f"session {session_id} is there already, or one too many"
    return session


def refused_sign_in(
    store: Store, session_id: str = "ses_1", user_id: str = "ann", **fields: Any
) -> TooMany:
    """Create a session, which must be one too many."""
    answer = store.create([new_session(session_id, user_id, **fields)])[0]
    assert isinstance(answer, TooMany), f"not refused: {answer}"
    return answer


def read_at(at: int, session: Session) -> Session:
    """Say what a session looks like that has not changed, at another instant."""
    return replace(session, at=at)


def load(store: Store, token: str = "ses_1") -> Session | Gone:
    """Look a session up by the name of its token."""
    return store.load([token_hash(token)])[0]


def present(store: Store, token: str = "ses_1") -> Session:
    """Load a session, which must be live."""
    answer = load(store, token)
    assert isinstance(answer, Session), f"gone: {answer}"
    return answer


def gone(store: Store, token: str = "ses_1") -> Gone:
    """Load a session, which must not be live."""
    answer = load(store, token)
    assert isinstance(answer, Gone), f"live: {answer}"
    return answer


def news(store: Store, after: int = 0, *kinds: str) -> list[Event]:
    """Read the stream after an event id."""
    return store.events(after=after, limit=1_000, kinds=kinds)


def latest(store: Store) -> int:
    """Say the id of the latest event; 0 if there is none."""
    newest = store.events(limit=1, newest_first=True)
    return newest[0].id if newest else 0
