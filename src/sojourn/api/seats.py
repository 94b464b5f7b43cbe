"""Seats: acquire, heartbeat, release, which are hot; and the operators' view of them.

A hot handler is a function of the context and of what the request says. It runs on the event loop and
returns what the batcher is to be asked (see `hot`), so it must not do anything that takes time.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from sojourn.api.beacons import proof_of
from sojourn.api.call import Call, OperatorCall, Who, decode, operator
from sojourn.api.client_device import device_of
from sojourn.api.context import Context
from sojourn.api.hot import Awaited, BatchRequest, HotStep
from sojourn.api.incoming import Incoming
from sojourn.api.jwt import UserProof
from sojourn.api.provisional import ask_first
from sojourn.api.seat_calls import seat_call
from sojourn.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from sojourn.idempotency import Presented, Repeated, Replayed
from sojourn.lease import (
    Beat,
    Denied,
    Lease,
    LeaseFilter,
    Origin,
    Renewal,
)
from sojourn.license import split_pool_id
from sojourn.service.keys import Permission
from sojourn.service.origins import Shared, bare
from sojourn.service.seats import BeatCall, Lost, Seat, SeatCall, unknown_key
from sojourn.text import isolated
from sojourn.token import LeaseClaims, TokenKind, check_token, hash_token
from sojourn.wire.bodies import (
    AcquireBody,
    BeatBody,
    CleanupAnswer,
    Done,
    Feature,
    HeartbeatBody,
    LeaseBody,
    Limit,
    Name,
    Page,
    ReleasedBody,
    SeatBody,
    Wire,
    cleanup_answer,
    lease_body,
    optional,
    seconds,
)
from sojourn.wire.paging import page_of
from sojourn.wire.problems import deny, lost
from sojourn.wire.proof import bearer, kind_of, wrong_kind
from sojourn.wire.reply import Reply, done, replayed

LEASE_TOKEN = "a lease token (sjl_…)"  # noqa: S105 - words for people
STILL = Beat()

_decode_acquire = msgspec.json.Decoder(AcquireBody).decode
_decode_beat = msgspec.json.Decoder(HeartbeatBody).decode
_NOTHING = AcquireBody()


def _forget(context: Context, authorization: bytes, _outcome: object) -> None:
    """Take a license key for unknown from now on; other proofs are not remembered."""
    token = bearer(authorization, "<license key>")
    if kind_of(token) is TokenKind.LICENSE:
        context.license_keys.forget(hash_token(token))


def _forget_lease(context: Context, authorization: bytes, outcome: object) -> None:
    """Look at a lease token anew from now on, unless it has just kept its lease."""
    if authorization and not isinstance(bare(outcome), Renewal):
        context.services.keyring.forget(bearer(authorization, LEASE_TOKEN))


def _seated(context: Context, outcome: Seat | Denied | Repeated) -> Reply:
    if isinstance(outcome, Replayed):
        return replayed(_seated(context, outcome.answer))
    if isinstance(outcome, Denied):
        context.seat_sockets.askings.judge(outcome)
        return deny(outcome, show_holders=context.settings.show_holders)
    return done(Done(data=_seat_body(outcome)), 201)


@seat_call(
    "POST",
    "/api/licenses/sessions",
    tell=_seated,
    who=Who.CLIENT,
    body=AcquireBody,
    answer=Done[SeatBody],
    status=201,
    problems=(
        "seat_limit",
        "forbidden",
        "cross_origin",
        "feature_unknown",
        "license_suspended",
        "license_expired",
        "license_not_yet_valid",
        "session_gone",
        "lease_ended",
        "issuer_unavailable",
        "authority_unreachable",
        "region_recovering",
    ),
    takes_key=True,
    looks_at_client=True,
    forget=_forget,
    again=ask_first,
)
def acquire(context: Context, authorization: bytes, incoming: Incoming, body: bytes) -> HotStep:
    """Take a seat.

    The proof is a license key or a user's JWT, and then `feature`, `userId` and `clientId` say whose
    seat it is (a JWT names the user itself); or it is a lease token, to come back to that lease, and
    then the body may be empty. The same client asking again keeps its seat, under a new token. When
    every seat is taken the answer is 409 with the words "Maximum user limit reached", who holds them,
    and when to ask again. With `wait`, in seconds, it comes when it is the client's turn, or that time is
    over: at most 60 s. A 409 then says the place in the line, which is kept for 15 s: ask again by then.
    `priority`, 0 to 9, moves the place ahead by 30 s for each step; a user's JWT must prove it.
    """
    token = bearer(authorization, "<license key>")
    asked = decode(_decode_acquire, body) if body else _NOTHING
    once = incoming.once("acquire", body)
    kind = kind_of(token)
    if kind is not None:
        _priority(asked, 0)
    if kind is TokenKind.LEASE:
        return _take(_resume(context.services.keyring.verify(token), asked, incoming), once)
    if kind is TokenKind.LICENSE:
        check_token(token, kind)
        key_hash = hash_token(token)
        wish = _wish(asked, incoming, key_hash=key_hash, license_id=asked.license_id)
        if context.license_keys.seen(key_hash):
            return _take(wish, once)
        admission = partial(_admit, context, token, key_hash, incoming.client)
        return Awaited(admission, lambda _: _take(wish, once))
    if kind is not None:
        raise wrong_kind("a license key (sjk_…), a user's JWT or " + LEASE_TOKEN)
    if context.issuers and token.count(".") == 2:
        return Awaited(
            partial(context.issuers.verify, token), partial(_acquire_as, asked, incoming, once)
        )
    raise Unauthenticated("This is not a license key.", hint="License keys begin with sjk_.")


async def _admit(context: Context, token: str, key_hash: bytes, client: Any) -> None:
    """Let a license key in that is known. Raises Unauthenticated."""
    if not await context.license_keys.admit(
        key_hash, address=client[0] if client else None, prefix=token
    ):
        raise unknown_key()


def _acquire_as(
    asked: AcquireBody, incoming: Incoming, once: Presented | None, user: UserProof
) -> BatchRequest:
    """Ask for the user whom a JWT proves."""
    wish = _wish(_as(asked, user), incoming, license_id=user.license_id, trusted=True)
    priority = _priority(asked, user.priority)
    return _take(msgspec.structs.replace(wish, member_of=user.groups, priority=priority), once)


def _priority(asked: AcquireBody, proved: int) -> int:
    """Return the priority that somebody has in the line: what is proved, or less if it asks for that."""
    if asked.priority is None:
        return proved
    if asked.priority > proved:
        raise Forbidden(
            f"priority: this proof allows {proved} at most.",
            hint="Leave it out. A user's JWT proves one, by the claim that `priority_claim` of its issuer in"
            " jwt_issuers names; a license key or a lease token proves none.",
        )
    return asked.priority


def _take(wish: SeatCall, once: Presented | None) -> BatchRequest:
    return BatchRequest(
        "acquire", wish if once is None else msgspec.structs.replace(wish, once=once)
    )


def _kept(_context: Context, outcome: Renewal | Lost) -> Reply:
    if isinstance(outcome, Lost):
        return lost(outcome)
    answer = BeatBody(expires_in=seconds(outcome.expires_in), state=outcome.state.value)
    return done(Done(data=answer))


@seat_call(
    "POST",
    "/api/licenses/sessions/heartbeat",
    tell=_kept,
    keeps=True,
    beacons=True,
    forget=_forget_lease,
    spent=(Lost, Shared),
    who=Who.HOLDER,
    body=HeartbeatBody,
    answer=Done[BeatBody],
    problems=(
        "lease_lost",
        "cross_origin",
        "license_suspended",
        "license_expired",
        "license_not_yet_valid",
    ),
)
def heartbeat(context: Context, authorization: bytes, _incoming: Incoming, body: bytes) -> HotStep:
    """Keep a seat.

    `idleFor`: for how long its person has done nothing. `nextIn`: when the next beat is to be expected,
    if later than usual. `closing`: the tab says goodbye; the seat is given up shortly unless another
    beat comes. 410 says that the lease is lost, and whether acquiring with the same token may bring it
    back. A page that is closed cannot set headers any more (`sendBeacon`): with `closing` the lease token may
    stand in the body, as `token`, and the body may be `text/plain`. It proves nothing but a goodbye.
    """
    said = decode(_decode_beat, body) if body and body != b"{}" else None
    token = proof_of(authorization, said)
    if token[:4] != "sjl_":
        raise wrong_kind(LEASE_TOKEN)
    claims = context.services.keyring.verify(token, keep=said is None or not said.closing)
    beat = STILL
    if said is not None:
        beat = Beat(
            idle_for=None if said.idle_for is None else round(said.idle_for * 1000),
            next_in=None if said.next_in is None else round(said.next_in * 1000),
            closing=said.closing,
        )
    return BatchRequest("renew", BeatCall(claims=claims, beat=beat))


def _given_back(_context: Context, released: bool) -> Reply:
    return done(Done(data=ReleasedBody(released=released)))


@seat_call(
    "DELETE",
    "/api/licenses/sessions/current",
    tell=_given_back,
    keeps=True,
    forget=_forget_lease,
    spent=(bool, Shared),
    who=Who.HOLDER,
    answer=Done[ReleasedBody],
    problems=("cross_origin",),
)
def release(context: Context, authorization: bytes, _incoming: Incoming, _body: bytes) -> HotStep:
    """Give a seat back.

    `released` is false when there was nothing left to give back, which is as good.
    """
    token = bearer(authorization, "<lease token>")
    if token[:4] != "sjl_":
        raise wrong_kind(LEASE_TOKEN)
    claims = context.services.keyring.verify(token)
    return BatchRequest("release", claims)


def _seat_body(seat: Seat) -> SeatBody:
    return SeatBody(
        lease_id=seat.lease.id,
        token=seat.token,
        fence=seat.lease.fence,
        heartbeat_interval=seconds(seat.heartbeat_interval),
        lost_after=seconds(seat.lost_after),
        expires_in=seconds(seat.expires_in),
        resumed=seat.lease.origin is Origin.RESUMED,
        overdraft=seat.lease.overdraft,
    )


def _wish(
    asked: AcquireBody,
    incoming: Incoming,
    *,
    license_id: str | None,
    key_hash: bytes | None = None,
    trusted: bool = False,
) -> SeatCall:
    return SeatCall(
        key_hash=key_hash,
        license_id=license_id,
        trusted=trusted,
        feature=_given(asked.feature, "feature"),
        user_id=_given(asked.user_id, "userId"),
        client_id=_given(asked.client_id, "clientId"),
        session_id=asked.session_id,
        device=device_of(asked, incoming),
        takeover=asked.takeover,
        wait=asked.wait,
    )


def _as(asked: AcquireBody, user: UserProof) -> AcquireBody:
    """Return the wish as one of the user that a JWT proves."""
    _agree("userId", asked.user_id, user.user_id)
    _agree("licenseId", asked.license_id, user.license_id)
    return msgspec.structs.replace(asked, user_id=user.user_id)


def _resume(claims: LeaseClaims, asked: AcquireBody, incoming: Incoming) -> SeatCall:
    """Return the wish to come back to a lease."""
    license_id, feature = split_pool_id(claims.pool_id)
    _agree("licenseId", asked.license_id, license_id)
    _agree("feature", asked.feature, feature)
    _agree("userId", asked.user_id, claims.user_id)
    _agree("clientId", asked.client_id, claims.client_id)
    return SeatCall(claims=claims, wait=asked.wait, device=device_of(asked, incoming))


def _agree(name: str, said: str | None, proved: str) -> None:
    """Refuse a body that speaks of something else than its proof."""
    if said is not None and said != proved:
        raise Forbidden(
            f"{name}: the token is for another one.", hint="Leave it out, or use another proof."
        )


def _given(value: str | None, name: str) -> str:
    if value is None:
        raise InvalidInput(
            f"{name}: missing.", hint="With a license key, say feature, userId and clientId."
        )
    return value


class LeasesQuery(Wire, frozen=True, kw_only=True):
    license_id: Name | UnsetType = UNSET
    feature: Feature | UnsetType = UNSET
    user_id: Name | UnsetType = UNSET
    client_id: Name | UnsetType = UNSET
    include_ended: bool = False
    after: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    limit: Limit = 100


@operator("GET", "/api/licenses/sessions", may=Permission.READ)
def list_leases(ask: OperatorCall, query: LeasesQuery) -> Done[Page[LeaseBody]]:
    """List leases, by id."""
    which = LeaseFilter(
        license_id=optional(query.license_id),
        feature=optional(query.feature),
        user_id=optional(query.user_id),
        client_id=optional(query.client_id),
        include_ended=query.include_ended,
    )
    operations = ask.context.services.operations

    def read(after: str | None, limit: int) -> list[tuple[Lease, int, dict[str, str]]]:
        leases, now = operations.leases(which, after=after, limit=limit)
        names = operations.names(leases)
        return [(lease, now, names) for lease in leases]

    return Done(
        data=page_of(
            read,
            lambda row: lease_body(*row),
            after=optional(query.after),
            limit=query.limit,
            cursor=lambda row: row[0].id,
            name=lambda row: row[0].id,
        )
    )


@operator(
    "DELETE",
    "/api/licenses/sessions/{leaseId}",
    may=Permission.SEATS_END,
    problems=("lease_unknown",),
)
def release_lease(ask: OperatorCall, lease_id: Name) -> Done[CleanupAnswer]:
    """End one lease. Its holder may acquire again."""
    operations = ask.context.services.operations
    ended = operations.release(lease_id, actor=ask.actor)
    if ended.ended_count:
        message = f"Ended the lease of user {isolated(ended.ended[0].user_id)}."
    elif operations.leases(LeaseFilter(ids=(lease_id,), include_ended=True))[0]:
        message = "The lease had ended already."
    else:
        raise NotFound("There is no such lease.", code="lease_unknown")
    return Done(data=cleanup_answer(ended), message=message)


CALLS: tuple[Call, ...] = (acquire, heartbeat, release, list_leases, release_lease)
