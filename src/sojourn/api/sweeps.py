"""Sweeps: housekeeping, by the clock or by hand; and selective ones, by hand."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from msgspec.structs import asdict

from sojourn.api.call import OperatorCall, operator
from sojourn.errors import InvalidInput
from sojourn.ledger import SweepRun
from sojourn.plans.plan import SelectiveRun, SweepScope
from sojourn.service.keys import Permission
from sojourn.sweeps.selective import SHOWN_MAX, Look
from sojourn.wire.bodies import (
    Answer,
    Done,
    Feature,
    LeaseBody,
    Limit,
    Name,
    Page,
    Seconds,
    Wire,
    lease_body,
    rfc3339,
    seconds,
)

PATIENCE = 120.0
"""Seconds to wait for a sweep run by hand; past that it goes on without its caller."""

Network = Annotated[str, Meta(min_length=1, max_length=64)]
Share = Annotated[float, Meta(ge=0, le=1)]


class ScopeBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Which leases. Without `living`, only those whose holders are silent for longer than usual."""

    license_id: Name | None = None
    feature: Feature | None = None
    user_id: Name | None = None
    kind: Name | None = None  # of device
    network: Network | None = None  # that the device's address lies in: 10.1.0.0/16
    client_version: Name | None = None  # a piece of the device's browser or User-Agent
    older_than: Seconds | None = None  # since it was acquired
    silent_for: Seconds | None = None  # since its last beat
    suspicion: Share | None = None  # the share of the silence it is allowed that has passed
    living: bool = False  # those that keep beating, too


class SweepRequest(ScopeBody, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing said: housekeeping. Else a scope, or a plan by whose scope is swept."""

    plan: Name | None = None  # its id or its name
    dry_run: bool = False


class MeantBody(Answer, frozen=True, kw_only=True):
    """A lease that a sweep would end, and why."""

    lease: LeaseBody
    why: list[str]


class SweepBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """What a sweep did. Those with a scope have what stands below `error`."""

    started_at: str
    took: float
    actor: str
    leases_expired: int
    leases_removed: int
    sessions_cut: int
    sessions_removed: int
    events_removed: int
    error: str | None = None
    run_id: str | None = None
    scope: ScopeBody | None = None
    looked: int | None = None  # leases that were looked at
    leases_ended: int | None = None  # or, in a dry run, that would be
    dry_run: bool = False
    leases: list[MeantBody] | None = None  # of a dry run, the first 1,000


class SweepsQuery(Wire, frozen=True, kw_only=True):
    limit: Limit = 20


@operator("GET", "/api/sweeps", may=Permission.READ)
def list_sweeps(ask: OperatorCall, query: SweepsQuery) -> Done[Page[SweepBody]]:
    """List the latest sweeps that were housekeeping, newest first."""
    runs = ask.context.services.ledger.sweeps(limit=query.limit)
    return Done(data=Page(items=[sweep_body(run) for run in runs]))


@operator(
    "POST",
    "/api/sweeps",
    may=Permission.SEATS_END,
    problems=("license_unknown", "feature_unknown", "plan_unknown"),
    patience=PATIENCE,
    body_required=False,
)
def run_sweep(ask: OperatorCall, body: SweepRequest) -> Done[SweepBody]:
    """Sweep now: note expired leases and forget what is old; or, with a scope, end what it means.

    Without a body it is housekeeping, which right answers never need: an expired lease holds no seat, swept
    or not. With a scope, leases within it are ended whose holders are silent, and nothing else is touched;
    `living` takes in those that keep beating. `dryRun` lists what would be ended, and changes nothing.
    """
    if body == SweepRequest():
        run = ask.context.services.sweeper.run(actor=ask.actor)
        removed = run.leases_removed + run.sessions_removed + run.events_removed
        return Done(
            data=sweep_body(run),
            message=f"Noted {run.leases_expired} expired leases and removed {removed} old entries.",
        )
    scope = _scope(ask, body)
    if body.dry_run:
        look = ask.context.sweeps.look(scope)
        return Done(data=_look_body(ask, scope, look), message=_said(look))
    done = ask.context.sweeps.sweep(scope, actor=ask.actor)
    return Done(data=_run_body(done), message=f"Ended {done.ended} of {done.looked} leases.")


def _scope(ask: OperatorCall, body: SweepRequest) -> SweepScope:
    scope = scope_of(body)
    if body.plan is not None:
        if scope != SweepScope():
            raise InvalidInput("A plan has its own scope: give one of the two.")
        return ask.context.sweeps.get(body.plan).scope
    require(ask, scope)
    return scope


def require(ask: OperatorCall, scope: SweepScope) -> None:
    """Refuse what is not there: to have ended nothing would be taken for good news."""
    ask.context.services.operations.require(scope.feature, scope.license_id)


def scope_of(body: ScopeBody) -> SweepScope:
    """Return what a body says. Raises InvalidInput where that cannot be."""
    given = {name: getattr(body, name) for name in SweepScope.__struct_fields__}
    for name in ("older_than", "silent_for"):
        given[name] = None if given[name] is None else round(given[name] * 1_000)
    return SweepScope(**given).check()


def scope_body(scope: SweepScope) -> ScopeBody:
    given = asdict(scope)
    for name in ("older_than", "silent_for"):
        given[name] = None if given[name] is None else seconds(given[name])
    return ScopeBody(**given)


def _look_body(ask: OperatorCall, scope: SweepScope, look: Look) -> SweepBody:
    leases = [each.lease for each in look.meant]
    names = ask.context.services.operations.names(leases)
    return SweepBody(
        started_at=rfc3339(look.at),
        took=0.0,
        actor=ask.actor,
        leases_expired=0,
        leases_removed=0,
        sessions_cut=0,
        sessions_removed=0,
        events_removed=0,
        scope=scope_body(scope),
        looked=look.looked,
        leases_ended=look.total,
        dry_run=True,
        leases=[
            MeantBody(lease=lease_body(each.lease, look.at, names), why=list(each.why))
            for each in look.meant
        ],
    )


def _said(look: Look) -> str:
    shown = f"; the first {SHOWN_MAX:,} are listed" if look.total > len(look.meant) else ""
    return f"Would end {look.total} of {look.looked} leases{shown}. Nothing was changed."


def _run_body(run: SelectiveRun) -> SweepBody:
    return SweepBody(
        started_at=rfc3339(run.started_at),
        took=seconds((run.finished_at or run.started_at) - run.started_at),
        actor=run.actor,
        leases_expired=run.noted,
        leases_removed=0,
        sessions_cut=0,
        sessions_removed=0,
        events_removed=0,
        error=run.error,
        run_id=run.id,
        scope=scope_body(run.scope),
        looked=run.looked,
        leases_ended=run.ended,
    )


def sweep_body(run: SweepRun) -> SweepBody:
    return SweepBody(
        started_at=rfc3339(run.started_at),
        took=seconds(run.took),
        actor=run.actor,
        leases_expired=run.leases_expired,
        leases_removed=run.leases_removed,
        sessions_cut=run.sessions_cut,
        sessions_removed=run.sessions_removed,
        events_removed=run.events_removed,
        error=run.error,
    )


CALLS = (list_sweeps, run_sweep)
