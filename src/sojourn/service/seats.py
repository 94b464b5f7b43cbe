"""Seats: what a license client asks for, from proof to token.

Batch verbs (`acquire renew release`) answer each request with its outcome or its own error, in order;
they are what the batcher runs. Nothing here decides about capacity: the store does, in one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import DAY, SECOND
from sojourn.device import Device
from sojourn.errors import (
    Forbidden,
    InvalidToken,
    NotFound,
    SojournError,
    Unauthenticated,
)
from sojourn.idempotency import (
    KeyReused,
    Presented,
    Repeated,
    Replayed,
    fingerprint_of,
    key_of,
    reused,
)
from sojourn.lease import (
    Acquire,
    Asked,
    Beat,
    DenialReason,
    Denied,
    Doubt,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Resume,
)
from sojourn.ledger import Ledger
from sojourn.license import License, Pool, check_feature, pool_id, split_pool_id
from sojourn.seating import refusal
from sojourn.service.policies import Policies
from sojourn.service.working_copy import define
from sojourn.staleness.suspicion import Suspicion
from sojourn.store import Recorder, Store
from sojourn.token import Keyring, LeaseClaims, new_id

READMIT_MAX = DAY
"""How old a lease token may be to re-admit its holder to a store that has no memory of the lease.
Tombstones live as long, so a lease that ended is never mistaken for one that was lost."""


class SeatCall(Struct, frozen=True, kw_only=True):
    """A license client's wish, with its proof: one of a license key, a verified license id (a user's
    JWT) and the claims of a lease token."""

    key_hash: bytes | None = None
    license_id: str | None = None  # beside a key: which license the client believes it is
    trusted: bool = False  # the license id was proved by a JWT
    claims: LeaseClaims | None = None
    feature: str = ""
    user_id: str = ""
    client_id: str = ""
    session_id: str | None = None
    device: Device | None = None
    member_of: tuple[str, ...] = ()  # groups that a JWT proved; a client's own word is never one
    takeover: bool = False
    wait: float = 0.0  # seconds for which to wait in the pool's line, if there is no seat
    parked: bool = False  # it waits already: what is decided now is final, too
    priority: int = 0  # there; as its proof says
    once: Presented | None = None  # the key that it came with
    asked: Asked | None = None  # holders were asked already: what is decided now is final
    waited: bool = False  # for an asking that had begun before
    above: bool = False  # at a relay: its authority was asked already


class Seat(Struct, frozen=True, kw_only=True):
    """A granted seat, and the token that proves it."""

    lease: Lease
    token: str
    heartbeat_interval: int
    lost_after: int
    expires_in: int


class BeatCall(Struct, frozen=True, kw_only=True):
    claims: LeaseClaims
    beat: Beat = Beat()


class DoubtCall(NamedTuple):
    """A holder to doubt: with its linger, or at once. `made_at`: by `time.monotonic`."""

    doubt: Doubt
    at_once: bool
    made_at: float

    def now(self) -> Doubt:
        """Return the doubt as it is by now. Its process has not renewed the lease while it stood in the
        queue either: else whoever came back at another server just before would not count as heard."""
        stood = round((time.monotonic() - self.made_at) * SECOND)
        return replace(self.doubt, silent_for=self.doubt.silent_for + max(0, stood))


class Lost(Struct, frozen=True, kw_only=True):
    """A beat for a lease its sender no longer has."""

    reason: str  # an EndReason, a DenialReason, "taken_over" or "absent"
    resumable: bool  # acquiring again may bring the same lease back


class Short(Struct, frozen=True):
    """A relay that seems to have no seat for this: it asks its authority before anybody is denied."""

    pool_id: str


class SeatGate(Protocol):
    """What a relay looks at before its store is asked."""

    def look(
        self, store: Store, requests: Sequence[Acquire], *, asked: Sequence[bool]
    ) -> list[Short | SojournError | None]:
        """Say of each request what comes before the store, if anything does. `asked`: of each, whether the
        authority was asked for it already."""
        ...


def unknown_key() -> Unauthenticated:
    return Unauthenticated(
        "This license key is not known.",
        hint="Check the key. It may have been replaced; ask whoever gave it to you.",
    )


class Seats:
    """The service. Synchronous; safe from several threads."""

    def __init__(
        self, store: Store, ledger: Ledger, keyring: Keyring, recorder: Recorder | None = None
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._keyring = keyring
        self._recorder = recorder
        self._policies = Policies(store)
        self.suspicion = Suspicion()
        self.may_ask: Callable[[str], bool] = lambda _: False
        """Whether there is anybody who could ask the holders of a pool before somebody is denied."""
        self.may_ask_all: Callable[[str], bool] = lambda _: False
        """Whether all of them are to be asked, also those who do not seem to be gone."""
        self.gate: SeatGate | None = None  # of a relay
        # Is told of pools that may have a free seat now.
        self.freed: Callable[[Collection[str]], None] = lambda _: None

    def acquire(
        self, calls: Sequence[SeatCall]
    ) -> list[Seat | Denied | Short | Repeated | SojournError]:
        """Take seats. Unknown keys and features, and foreign licenses, are errors; denials are values."""
        answers: list[Seat | Denied | Short | Repeated | SojournError | None] = [None] * len(calls)
        licenses = self._licenses(calls)
        requests: list[tuple[int, Acquire]] = []
        granted: list[Lease] = []
        for i, call in enumerate(calls):
            try:
                request = self._request(call, licenses)
                final = call.parked or call.asked is not None
                if not final and self.may_ask(request.pool_id):
                    ask_all = self.may_ask_all(request.pool_id)
                    request = replace(request, tentative=True, ask_all=ask_all)
                requests.append((i, request if call.once is None else _once(call, request)))
            except SojournError as fault:
                answers[i] = fault
        if self.gate is not None and requests:
            asked = [calls[i].above or calls[i].parked for i, _ in requests]
            held_up = self.gate.look(self._store, [r for _, r in requests], asked=asked)
            for (i, _), first in zip(requests, held_up, strict=True):
                answers[i] = first
            requests = [(i, request) for i, request in requests if answers[i] is None]
        for (i, request), outcome in zip(
            requests, self._decide([r for _, r in requests]), strict=True
        ):
            if isinstance(outcome, Denied):
                told = self._free_in(request.pool_id, outcome)
                outcome = replace(outcome, asked=calls[i].asked, free_in=told)  # noqa: PLW2901 - as it is told
            elif isinstance(outcome, Lease):
                granted.append(outcome)
            answers[i] = self._answer(request, outcome)
        self.suspicion.granted(granted)
        return [a for a in answers if a is not None]

    def renew(self, calls: Sequence[BeatCall]) -> list[Renewal | Lost]:
        """Apply heartbeats."""
        self.suspicion.heard([(c.claims.lease_id, c.beat.next_in) for c in calls])
        beats = [
            Renew(
                lease_id=c.claims.lease_id,
                fence=c.claims.fence,
                beat=c.beat,
                pool_id=c.claims.pool_id,
            )
            for c in calls
        ]
        renewals = self._policies.bounded(beats, self._store.renew(beats))
        missed = [
            call.claims for call, renewal in zip(calls, renewals, strict=True) if renewal is None
        ]
        if not missed:
            return renewals  # type: ignore[return-value]  # no None is left
        self.suspicion.forget(claims.lease_id for claims in missed)
        why = self._why_lost(missed)
        return [
            why[call.claims.lease_id, call.claims.fence] if renewal is None else renewal
            for call, renewal in zip(calls, renewals, strict=True)
        ]

    def release(self, calls: Sequence[LeaseClaims]) -> list[bool]:
        """Give seats back. False: there was nothing to give back; that is fine too."""
        self.suspicion.forget(call.lease_id for call in calls)
        released = self._store.release(
            [Release(lease_id=c.lease_id, fence=c.fence, pool_id=c.pool_id) for c in calls]
        )
        self.freed({c.pool_id for c, freed in zip(calls, released, strict=True) if freed})
        return released

    def doubt(self, calls: Sequence[DoubtCall]) -> list[bool]:
        """Doubt holders, each with its linger or at once."""
        answers: dict[int, bool] = {}
        doubts = [call.now() for call in calls]
        for at_once in (False, True):
            some = [i for i, call in enumerate(calls) if call.at_once is at_once]
            found = self._store.doubt([doubts[i] for i in some], at_once=at_once) if some else []
            answers.update(zip(some, found, strict=True))
        return [answers[i] for i in range(len(calls))]

    def _free_in(self, pool_id: str, denied: Denied) -> int | None:
        """Forecast a free seat (ms); None where that cannot be told."""
        if denied.reason is not DenialReason.SEAT_LIMIT:
            return None
        try:
            return self.suspicion.denied(pool_id, denied, self.pool(pool_id).policy)
        except SojournError:  # the pool is gone since, or the store is
            return None

    def _licenses(self, calls: Sequence[SeatCall]) -> dict[bytes, License | None]:
        hashes = list({c.key_hash for c in calls if c.key_hash is not None})
        return (
            dict(zip(hashes, self._ledger.licenses_by_key(hashes), strict=True)) if hashes else {}
        )

    def _request(self, call: SeatCall, licenses: dict[bytes, License | None]) -> Acquire:
        if call.claims is not None:
            row = self._known(call.claims)
            return Acquire(
                pool_id=call.claims.pool_id,
                user_id=call.claims.user_id,
                client_id=call.claims.client_id,
                lease_id=call.claims.lease_id,
                session_id=call.claims.session_id,
                device=_device_again(call.device, row),
                member_of=() if row is None else row.member_of,
                resume=Resume(lease_id=call.claims.lease_id, fence=call.claims.fence),
                wait=call.wait > 0,
                priority=call.priority,
            )
        if call.key_hash is not None:
            license_ = licenses.get(call.key_hash)
            if license_ is None:
                raise unknown_key()
            if call.license_id is not None and call.license_id != license_.id:
                raise Forbidden(
                    "This key belongs to another license.",
                    hint="Leave licenseId out, or correct it.",
                )
            license_id = license_.id
        elif call.trusted and call.license_id is not None:
            license_id = call.license_id
        else:
            raise Unauthenticated("No license key was given.")
        return Acquire(
            pool_id=pool_id(license_id, check_feature(call.feature)),
            user_id=call.user_id,
            client_id=call.client_id,
            lease_id=new_id("lse_"),
            session_id=call.session_id,
            device=call.device,
            member_of=call.member_of,
            takeover=call.takeover,
            wait=call.wait > 0,
            priority=call.priority,
        )

    def _known(self, claims: LeaseClaims) -> Lease | None:
        """Return the lease that a token speaks of, if the store remembers it. A token too old to re-admit
        its holder is refused otherwise."""
        rows, now = self._store.leases(_of_pool(claims.pool_id, claims.lease_id))
        if not rows and now - claims.issued_at > READMIT_MAX:
            raise InvalidToken(
                "The lease this token speaks of is too old to come back to.",
                code="token_expired",
                hint="Acquire a new lease with the license key.",
            )
        return rows[0] if rows else None

    def _decide(self, requests: list[Acquire]) -> list[Lease | Denied | Repeated]:
        if not requests:
            return []
        outcomes = self._store.acquire(requests)
        unknown = {
            request.pool_id
            for request, outcome in zip(requests, outcomes, strict=True)
            if isinstance(outcome, Denied) and outcome.reason is DenialReason.FEATURE_UNKNOWN
        }
        if not unknown or not self._define_missing(unknown):
            return outcomes
        again = [i for i, r in enumerate(requests) if r.pool_id in unknown]
        for i, outcome in zip(
            again, self._store.acquire([requests[i] for i in again]), strict=True
        ):
            outcomes[i] = outcome
        return outcomes

    def _define_missing(self, pool_ids: set[str]) -> bool:
        """Bring pools the store has lost back from the ledger. True if there were any."""

        def read() -> list[Pool]:
            return [
                pool
                for license_id in sorted({split_pool_id(p)[0] for p in pool_ids})
                for pool in self._ledger.pools(license_id)
                if pool.id in pool_ids
            ]

        if not read():
            return False
        if self._recorder is not None:
            self._recorder.run()  # keeps the seats of those that the store may have forgotten too
        return bool(define(self._store, read))

    def _answer(
        self, request: Acquire, outcome: Lease | Denied | Repeated
    ) -> Seat | Denied | Repeated | SojournError:
        if isinstance(outcome, KeyReused):
            return reused()
        if isinstance(outcome, Replayed):
            try:
                first = self._answer(request, outcome.answer)
            except NotFound as fault:  # the pool is gone since
                return fault
            if isinstance(first, SojournError):
                return first
            return replace(outcome, answer=_aged(first, outcome.at))
        if isinstance(outcome, Denied):
            if outcome.reason is DenialReason.FEATURE_UNKNOWN:
                feature = split_pool_id(request.pool_id)[1]
                return NotFound(
                    f"The license has no feature {feature!r}.",
                    code="feature_unknown",
                    hint="Check the spelling, or add the feature to the license.",
                )
            return outcome
        policy = self.pool(outcome.pool_id).policy
        return Seat(
            lease=outcome,
            token=self._keyring.sign(
                LeaseClaims(
                    pool_id=outcome.pool_id,
                    user_id=outcome.user_id,
                    client_id=outcome.client_id,
                    lease_id=outcome.id,
                    fence=outcome.fence,
                    issued_at=outcome.last_beat_at,
                    session_id=outcome.session_id,
                )
            ),
            heartbeat_interval=policy.heartbeat_interval,
            lost_after=policy.lost_after,
            expires_in=min(outcome.expires_at - outcome.last_beat_at, policy.lost_after),
        )

    def pool(self, pool: str) -> Pool:
        """Return a pool, at most `policies.POLICY_TTL` old. For responses only: grants read the store."""
        return self._policies.pool(pool)

    def forget(self, license_id: str) -> None:
        """Forget what is remembered of a license that has changed."""
        self._policies.forget(license_id)

    def _why_lost(self, missed: Sequence[LeaseClaims]) -> dict[tuple[str, int], Lost]:
        by_pool: dict[str, set[str]] = {}
        for claims in missed:
            by_pool.setdefault(claims.pool_id, set()).add(claims.lease_id)
        pools = dict(zip(by_pool, self._store.pools(list(by_pool)), strict=True))
        unknown = {name for name, pool in pools.items() if pool is None}
        if unknown and self._define_missing(unknown):  # the store has lost them
            pools = dict(zip(by_pool, self._store.pools(list(by_pool)), strict=True))
        by_id: dict[str, Lease] = {}
        now = 0
        for name, ids in by_pool.items():
            rows, now = self._store.leases(_of_pool(name, *ids), limit=len(ids))
            by_id |= {row.id: row for row in rows}
        return {
            (c.lease_id, c.fence): _why(c, by_id.get(c.lease_id), pools[c.pool_id], now)
            for c in missed
        }


def _device_again(device: Device | None, row: Lease | None) -> Device | None:
    """Return the device of who comes back: of the kind it was, unless it says another. A reservation may be
    for that kind."""
    if device is None or device.kind is not None or row is None or row.device is None:
        return device
    return replace(device, kind=row.device.kind)


def _once(call: SeatCall, request: Acquire) -> Acquire:
    """Give a request its key: of all who hold the license key; of one user, where a JWT proves who that
    is; of one lease, where its token is the proof."""
    assert call.once is not None  # the caller looks
    said = [call.once.fingerprint]
    said += [x.encode() for x in (request.pool_id, request.user_id, request.client_id)]
    scope = f"license:{split_pool_id(request.pool_id)[0]}"
    if call.claims is not None:
        scope = f"lease:{call.claims.lease_id}"
        said.append(str(call.claims.fence).encode())
    elif call.trusted:
        scope = f"user:{split_pool_id(request.pool_id)[0]}:{request.user_id}"
    presented = replace(call.once, fingerprint=fingerprint_of(*said))
    return replace(request, idempotency=key_of(scope, "acquire", presented))


def _aged(answer: Any, now: int) -> Any:
    """Return a first answer with the times that it tells as they are by now."""
    if isinstance(answer, Seat):
        left = min(answer.lease.expires_at - now, answer.lost_after)
        return replace(answer, expires_in=max(0, left))
    if isinstance(answer, Denied):
        left = answer.at + answer.retry_after - now
        return replace(answer, at=now, retry_after=max(0, left))
    return answer


def _of_pool(pool_id: str, *ids: str) -> LeaseFilter:
    license_id, feature = split_pool_id(pool_id)
    return LeaseFilter(license_id=license_id, feature=feature, ids=ids, include_ended=True)


def _why(claims: LeaseClaims, row: Lease | None, pool: Pool | None, now: int) -> Lost:
    if (reason := refusal(pool, now)) is not None:
        return Lost(reason=reason.value, resumable=False)
    if row is None:
        return Lost(reason="absent", resumable=now - claims.issued_at <= READMIT_MAX)
    if row.fence != claims.fence:
        return Lost(reason="taken_over", resumable=False)
    assert pool is not None  # else `refusal` had a reason
    ended = "expired" if row.end_reason is None else row.end_reason.value
    return Lost(reason=ended, resumable=row.resumable(now, pool.policy))
