"""`sojourn sweep`: housekeeping by hand, and what it did lately."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import command, group
from sojourn.cli.output import Column, Output, count, span, when
from sojourn.cli.server import Server, tell_cut

COUNTS = ("leasesExpired", "leasesRemoved", "sessionsCut", "sessionsRemoved", "eventsRemoved")
PATIENCE = 150.0
"""Seconds; a server stops waiting for a sweep a little earlier."""

app = group(
    """Run housekeeping now, or see what it did.

    The server does it by itself, and no seat waits for it: a seat is free the moment its lease
    expires, swept or not.
    """
)


@command(app, "run")
def run(server: Server, out: Output) -> None:
    """Note what expired and forget what is old, now."""
    with out.waiting("Sweeping"):
        done = server.ask("POST", "/api/sweeps", timeout=PATIENCE).data
    if out.as_json:
        out.json(done)
        return
    if not any(done[kind] for kind in COUNTS):
        out.say("Nothing had expired, and nothing was old enough to be forgotten.")
        return
    out.say(
        f"Noted {count(done['leasesExpired'], 'expired lease')} and "
        f"{count(done['sessionsCut'], 'session')} that a cutoff ended; forgot "
        f"{count(done['leasesRemoved'], 'old lease')}, "
        f"{count(done['sessionsRemoved'], 'session')} and "
        f"{count(done['eventsRemoved'], 'event')}, in {span(done['took'])}."
    )


@command(app, "list")
def list_(
    server: Server,
    out: Output,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1_000, metavar="N", help="Runs at most.")
    ] = 20,
) -> None:
    """List the latest runs, newest first."""
    found = server.items("/api/sweeps", limit=min(limit + 1, 1_000))
    if len(found) > limit:
        found = found[:limit]
        tell_cut(limit)
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("Nothing has been swept yet. Run it now: sojourn sweep run")
        return
    out.table(
        [
            Column("Started", whole=True),
            Column("Took (s)", figure=True),
            Column("Expired", figure=True),
            Column("Cut off", figure=True, drop=2),
            Column("Leases forgotten", figure=True, drop=2),
            Column("Sessions forgotten", figure=True, drop=3),
            Column("Events forgotten", figure=True, drop=3),
            Column("By", drop=1),
            Column("Error", style="red"),
        ],
        [_row(x) for x in found],
    )


def _row(run: dict[str, Any]) -> tuple[Any, ...]:
    return (
        when(run["startedAt"]),
        f"{run['took']:.3f}",
        f"{run['leasesExpired']:,}",
        f"{run['sessionsCut']:,}",
        f"{run['leasesRemoved']:,}",
        f"{run['sessionsRemoved']:,}",
        f"{run['eventsRemoved']:,}",
        run["actor"],
        run.get("error"),
    )
