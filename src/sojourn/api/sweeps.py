"""Sweeps: housekeeping, by the clock or by hand."""

from __future__ import annotations

from sojourn.api.call import OperatorCall, operator
from sojourn.ledger import SweepRun
from sojourn.service.keys import Permission
from sojourn.wire.bodies import Answer, Done, Limit, Page, Wire, rfc3339, seconds

PATIENCE = 120.0
"""Seconds to wait for a sweep run by hand; past that it goes on without its caller."""


class SweepBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    started_at: str
    took: float
    actor: str
    leases_expired: int
    leases_removed: int
    sessions_cut: int
    sessions_removed: int
    events_removed: int
    error: str | None = None


class SweepsQuery(Wire, frozen=True, kw_only=True):
    limit: Limit = 20


@operator("GET", "/api/sweeps", may=Permission.READ)
def list_sweeps(ask: OperatorCall, query: SweepsQuery) -> Done[Page[SweepBody]]:
    """List the latest sweeps, newest first."""
    runs = ask.context.services.ledger.sweeps(limit=query.limit)
    return Done(data=Page(items=[sweep_body(run) for run in runs]))


@operator("POST", "/api/sweeps", may=Permission.SEATS_END, patience=PATIENCE)
def run_sweep(ask: OperatorCall) -> Done[SweepBody]:
    """Sweep now: note expired leases, forget what is old.

    Right answers never need it: an expired lease holds no seat, swept or not.
    """
    run = ask.context.services.sweeper.run(actor=ask.actor)
    removed = run.leases_removed + run.sessions_removed + run.events_removed
    return Done(
        data=sweep_body(run),
        message=f"Noted {run.leases_expired} expired leases and removed {removed} old entries.",
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
