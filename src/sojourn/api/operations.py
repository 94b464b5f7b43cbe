"""What an operator does when somebody is refused: look, understand, free the seat."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.api.events import EventBody, event_body
from sojourn.lease import Denied, Lease, LeaseState, Usage
from sojourn.license import LicenseStatus, Policy
from sojourn.relay_command import CommandScope, CommandVerb
from sojourn.service.keys import Permission
from sojourn.service.operations import Cleanup, Debug, PoolStatus, Stats
from sojourn.staleness.scores import Score
from sojourn.text import isolated
from sojourn.wire.bodies import (
    Answer,
    CleanupBody,
    Done,
    Feature,
    LeaseBody,
    Name,
    PoolBody,
    Problem,
    Wire,
    cleanup_answer,
    lease_body,
    optional,
    pool_body,
    rfc3339,
    seconds,
)
from sojourn.wire.denials import denial_problem
from sojourn.wire.line import (
    LineBody,
    RefusedBody,
    WaitingBody,
    line_bodies,
    line_body,
    refused_bodies,
    with_line,
)
from sojourn.wire.relay_commands import (
    RegionsCleanupAnswer,
    RegionSeatsBody,
    RelayCommandBody,
    at_relays,
    command_body,
    region_seats_body,
)

PATIENCE = 60.0
"""Seconds to wait for a clean-up: it may end a million leases."""


class ReservedBody(Answer, frozen=True, kw_only=True):
    """A reservation now. `inUse` are the seats of all who count into it: more than it keeps, if some of them
    have common ones."""

    name: str
    seats: int
    in_use: int


class UsageBody(Answer, frozen=True, kw_only=True):
    """Seats now. `suspect` ones are among those in use. Above the capacity `overdraft` seats may be granted,
    and `overdrawn` are held, or kept for reservations. `allotted` are with relays."""

    capacity: int
    in_use: int
    free: int
    suspect: int
    leases: int
    overdraft: int
    overdrawn: int
    reservations: list[ReservedBody]
    allotted: int = 0


class DoubtBody(Answer, frozen=True, kw_only=True):
    """A holder that may be gone, or one of the user's. Of `phi` 1 one living client in ten is doubted by its
    silence, of 2 one in a hundred; `excused`: its network or server is, and it is not."""

    lease_id: str
    user_id: str
    client_id: str
    phi: float
    excused: bool
    silent_for: float
    expected_in: float  # seconds from its last beat to when the next one was to be expected
    reasons: list[str]


class PoolDebug(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A pool, and what an acquire by this user would be told now."""

    license_id: str
    license_name: str | None
    status: LicenseStatus
    policy: PoolBody
    usage: UsageBody
    would_grant: bool
    refusal: Problem | None = None
    waiting: tuple[WaitingBody, ...] = ()  # the line, in its order
    refused: tuple[RefusedBody, ...] = ()  # lately, without a place in it
    full_in: float | None = None  # seconds until it is full, if it goes on as it did
    doubted: list[DoubtBody] = msgspec.field(default_factory=list)


class DebugBody(Answer, frozen=True, kw_only=True):
    at: str
    user_id: str
    feature: str
    leases: list[LeaseBody]  # the user's, ended ones included
    pools: list[PoolDebug]
    denials: list[EventBody]  # the user's, newest first
    relays: list[RelayCommandBody] = msgspec.field(
        default_factory=list
    )  # what they say of the user


class FeatureStats(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """`full_in`: seconds until no seat is left, if it goes on as in the last hour; else left out. `relays`:
    what they may grant, and hold."""

    feature: str
    usage: UsageBody
    full_in: float | None = None
    relays: list[RegionSeatsBody] = msgspec.field(default_factory=list)


class StatsBody(Answer, frozen=True, kw_only=True):
    at: str
    license_id: str
    name: str
    status: LicenseStatus
    features: list[FeatureStats]
    denials: list[EventBody]  # newest first


class DebugQuery(Wire, frozen=True, kw_only=True):
    user_id: Name
    feature: Feature
    license_id: Name | UnsetType = UNSET


class ForceQuery(Wire, frozen=True, kw_only=True):
    license_id: Name | UnsetType = UNSET


@operator(
    "DELETE",
    "/api/licenses/sessions/force-cleanup/{userId}/{feature}",
    may=Permission.SEATS_END,
    problems=("license_unknown", "feature_unknown"),
    patience=PATIENCE,
)
def force_cleanup(
    ask: OperatorCall, user_id: Name, feature: Feature, query: ForceQuery
) -> Done[RegionsCleanupAnswer]:
    """End all of a user's leases on a feature, living ones too, on one license or on every one.

    User ids are each customer's own: name the license where several have the feature. A user id that holds a
    slash is sent percent-encoded. At an authority it goes to relays, too, which answer with their next beats:
    see `/api/relays/commands`.
    """
    ended = ask.context.services.operations.force_cleanup(
        user_id, feature, license_id=optional(query.license_id), actor=ask.actor
    )
    on = f" ({', '.join(map(isolated, sorted(ended.names.values())))})" if ended.names else ""
    what = f"of user {isolated(user_id)} on {feature}{on}"
    scope = CommandScope(user_id=user_id, feature=feature, license_id=optional(query.license_id))
    return _everywhere(ask, ended, what, CommandVerb.FORCE, scope)


def _everywhere(
    ask: OperatorCall, ended: Cleanup, what: str, verb: CommandVerb, scope: CommandScope
) -> Done[RegionsCleanupAnswer]:
    """Send a clean-up to relays, and say what was done here and how it stands there."""
    commands = ask.context.services.relay_commands
    sent = [] if commands is None else commands.send(verb, scope, actor=ask.actor)
    here = cleanup_answer(ended)
    return Done(
        data=RegionsCleanupAnswer(
            ended=here.ended,
            remaining=here.remaining,
            leases=here.leases,
            relays=[command_body(each) for each in sent],
        ),
        message=_ended(ended, what) + at_relays(sent),
    )


@operator(
    "GET",
    "/api/licenses/sessions/debug",
    may=Permission.READ,
    problems=("license_unknown", "feature_unknown"),
)
def debug_seats(ask: OperatorCall, query: DebugQuery) -> Done[DebugBody]:
    """Show everything about a user and a feature: what is held, what was refused, and why.

    An authority asks its relays, too, which answer with their next beats: ask again within a minute.
    """
    debug = ask.context.services.operations.debug(
        query.user_id, query.feature, license_id=optional(query.license_id)
    )
    scope = CommandScope(
        user_id=query.user_id, feature=query.feature, license_id=optional(query.license_id)
    )
    commands = ask.context.services.relay_commands
    sent = [] if commands is None else commands.debug(scope, actor=ask.actor)
    return Done(
        data=DebugBody(
            at=rfc3339(debug.at),
            user_id=debug.user_id,
            feature=debug.feature,
            leases=[lease_body(lease, debug.at, debug.names) for lease in debug.leases],
            pools=[_pool_debug(view) for view in debug.pools],
            denials=[event_body(event) for event in debug.denials],
            relays=[command_body(each) for each in sent],
        ),
        message=_explain(debug) + at_relays(sent),
    )


class LineQuery(Wire, frozen=True, kw_only=True):
    license_id: Name
    feature: Feature


@operator(
    "GET",
    "/api/licenses/sessions/waiting",
    may=Permission.READ,
    problems=("license_unknown", "feature_unknown"),
)
def list_waiting(ask: OperatorCall, query: LineQuery) -> Done[LineBody]:
    """Show who wants a seat of a feature: the line, in its order, and who was refused lately."""
    line = ask.context.services.operations.line(query.license_id, query.feature)
    waiting = _plural(len(line.entries), "client")
    refused = f" {_plural(len(line.refused), 'other')} refused lately." if line.refused else ""
    return Done(data=line_body(line), message=f"{waiting} in the line.{refused}")


@operator(
    "POST",
    "/api/licenses/cleanup-sessions",
    may=Permission.SEATS_END,
    problems=("license_unknown", "feature_unknown"),
    patience=PATIENCE,
)
def cleanup_sessions(ask: OperatorCall, body: CleanupBody) -> Done[RegionsCleanupAnswer]:
    """End the leases of a license whose holders have fallen silent. The living stay. At an authority it goes
    to relays, too."""
    ended = ask.context.services.operations.cleanup(
        body.license_id, user_id=body.user_id, feature=body.feature, actor=ask.actor
    )
    scope = CommandScope(license_id=body.license_id, user_id=body.user_id, feature=body.feature)
    what = "whose holders had fallen silent"
    return _everywhere(ask, ended, what, CommandVerb.CLEANUP, scope)


@operator(
    "GET",
    "/api/licenses/{licenseId}/session-stats",
    may=Permission.READ,
    problems=("license_unknown",),
)
def session_stats(ask: OperatorCall, license_id: Name) -> Done[StatsBody]:
    """Count a license's seats, feature by feature."""
    stats = ask.context.services.operations.stats(license_id)
    commands = ask.context.services.relay_commands
    seats = {} if commands is None else commands.seats([pool.id for pool, _ in stats.pools])
    return Done(
        data=StatsBody(
            at=rfc3339(stats.at),
            license_id=stats.license.id,
            name=stats.license.name,
            status=stats.license.status,
            features=[
                FeatureStats(
                    feature=pool.feature,
                    usage=usage_body(usage, pool.policy),
                    full_in=_seconds(stats.full_in.get(pool.id)),
                    relays=[region_seats_body(each) for each in seats.get(pool.id, ())],
                )
                for pool, usage in stats.pools
            ],
            denials=[event_body(event) for event in stats.denials],
        ),
        message=_count(stats),
    )


def usage_body(usage: Usage, policy: Policy) -> UsageBody:
    return UsageBody(
        capacity=usage.capacity,
        in_use=usage.in_use,
        free=max(0, usage.capacity - usage.in_use - usage.allotted),
        suspect=usage.suspect,
        leases=usage.leases,
        overdraft=usage.overdraft,
        overdrawn=usage.overdrawn,
        allotted=usage.allotted,
        # Of a policy that has been changed since, those that are counted.
        reservations=[
            ReservedBody(name=each.name, seats=each.seats, in_use=in_use)
            for each, in_use in zip(policy.reservations, usage.reserved, strict=False)
        ],
    )


def _pool_debug(view: PoolStatus) -> PoolDebug:
    refused = isinstance(view.answer, Denied)
    return PoolDebug(
        license_id=view.pool.license_id,
        license_name=view.license.name if view.license else None,
        status=view.pool.status,
        policy=pool_body(view.pool),
        usage=usage_body(view.usage, view.pool.policy),
        would_grant=not refused,
        refusal=with_line(denial_problem(view.answer, show_holders=True), view.answer)
        if isinstance(view.answer, Denied)
        else None,
        waiting=tuple(line_bodies(view.line.entries, view.line.at)),
        refused=tuple(refused_bodies(view.line.refused)),
        full_in=_seconds(view.full_in),
        doubted=[_doubt(lease, score) for lease, score in view.doubted],
    )


def _doubt(lease: Lease, score: Score) -> DoubtBody:
    return DoubtBody(
        lease_id=lease.id,
        user_id=lease.user_id,
        client_id=lease.client_id,
        phi=round(score.phi, 2),
        excused=score.excused,
        silent_for=seconds(score.silent_for),
        expected_in=seconds(score.due_in),
        reasons=list(score.reasons),
    )


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else seconds(ms)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _ended(cleanup: Cleanup, what: str) -> str:
    ended = _plural(cleanup.ended_count, "lease") if cleanup.ended_count else "no leases"
    left = f"{cleanup.remaining} remain" if cleanup.remaining != 1 else "1 remains"
    return f"Ended {ended} {what}; {left if cleanup.remaining else 'none remain'} in this scope."


def _explain(debug: Debug) -> str:
    live = [lease for lease in debug.leases if lease.live(debug.at)]
    suspect = sum(lease.state(debug.at) is LeaseState.SUSPECT for lease in live)
    held = _plural(len(live), "live lease") if live else "no live lease"
    silent = f", {suspect} of them silent" if suspect else ""
    said = [f"User {isolated(debug.user_id)} holds {held} on {debug.feature}{silent}."]
    for view in debug.pools:
        name = view.license.name if view.license else view.pool.license_id
        if isinstance(view.answer, Denied):
            why = denial_problem(view.answer, show_holders=True)
            said.append(f"{name} would refuse an acquire now: {why.error.removesuffix('.')}.")
        else:
            said.append(f"{name} would grant an acquire now{_full(view.full_in)}.")
        if view.line.entries:
            said.append(f"{_plural(len(view.line.entries), 'client')} wait in its line.")
    if debug.denials:
        said.append(f"Refused {_plural(len(debug.denials), 'time')} of late.")
    return " ".join(said)


def _full(left: int | None) -> str:
    return f", full in about {math.ceil(left / 60_000)} min" if left else ""


def _count(stats: Stats) -> str:
    if not stats.pools:
        return f"{isolated(stats.license.name)} has no features."
    parts = [
        f"{pool.feature}: {usage.in_use} of {usage.capacity} seats in use"
        + (f", {usage.suspect} of them silent" if usage.suspect else "")
        + (f", {usage.overdrawn} above the capacity" if usage.overdrawn else "")
        + (f", {usage.allotted} with relays" if usage.allotted else "")
        + _full(stats.full_in.get(pool.id))
        for pool, usage in stats.pools
    ]
    return f"{isolated(stats.license.name)}: " + "; ".join(parts) + "."


CALLS = (force_cleanup, debug_seats, list_waiting, cleanup_sessions, session_stats)
