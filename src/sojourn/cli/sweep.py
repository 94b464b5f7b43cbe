"""`sojourn sweep`: housekeeping and selective sweeps by hand, and what housekeeping did lately."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import Yes, command, confirm
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.help import Group
from sojourn.cli.output import Column, Output, count, figure, span, when
from sojourn.cli.scope import Scope, scope_body
from sojourn.cli.server import Server

COUNTS = ("leasesExpired", "leasesRemoved", "sessionsCut", "sessionsRemoved", "eventsRemoved")
PATIENCE = 150.0
"""Seconds; a server stops waiting for a sweep a little earlier."""


class RunUnlessNamed(Group):
    """Takes options without a command's name as those of `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ("-h", "--help")
        return super().parse_args(ctx, ["run", *args] if options else args)


app = typer.Typer(
    cls=RunUnlessNamed,
    help="""Sweep now: end the silent leases of a scope, or do housekeeping.

    `sojourn sweep --user ann --dry-run` is short for `sojourn sweep run --user ann --dry-run`.
    The server does housekeeping by itself, and no seat waits for it: a seat is free the moment its
    lease expires, swept or not. Plan sweeps with `sojourn sweeps`.
    """,
    add_completion=False,
    rich_markup_mode=None,
)


@command(app, "run")
def run(
    server: Server,
    out: Output,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan", metavar="PLAN", help="By the scope of this plan.", show_default=False
        ),
    ] = None,
    living: Annotated[
        bool,
        typer.Option("--living", help="End those that keep beating, too.", show_default=False),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List what would be ended, and why.", show_default=False),
    ] = False,
    yes: Yes = False,
    **scope: Scope,
) -> None:
    """End the silent leases of a scope, or do housekeeping.

    Housekeeping notes what expired and forgets what is old. With a scope nothing else is touched, and
    holders that keep beating stay, unless --living is given.
    """
    body = scope_body(scope, living=living) | ({"plan": plan} if plan is not None else {})
    if dry_run:
        _look(server, out, body | {"dryRun": True})
        return
    if living:
        _restrict(body)
        confirm("End the leases of people who are working, too?", yes=yes)
    with out.waiting("Sweeping"):
        done = server.ask("POST", "/api/sweeps", body=body or None, timeout=PATIENCE).data
    if out.as_json:
        out.json(done)
    elif body:
        ended = count(done.get("leasesEnded", 0), "lease")
        looked = count(done.get("looked", 0), "live lease")
        noted = f", and noted {count(done['leasesExpired'], 'expired one')}"
        out.say(
            f"Ended {ended} of {looked} in the scope"
            f"{noted if done['leasesExpired'] else ''}, in {span(done['took'])}."
        )
    else:
        _tell_housekeeping(out, done)


def _restrict(body: dict[str, Any]) -> None:
    if body.keys() == {"living"}:
        raise Failure(
            "This would end every lease there is.",
            why="--living was given, and no scope.",
            todo="Say whose: sojourn sweep --living --user ann",
            exit_code=ExitCode.USAGE,
        )


def _look(server: Server, out: Output, body: dict[str, Any]) -> None:
    with out.waiting("Looking"):
        reply = server.ask("POST", "/api/sweeps", body=body, timeout=PATIENCE)
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)
    if not reply.data.get("leases"):
        return
    out.table(
        [
            Column("User"),
            Column("License", drop=2),
            Column("Feature", drop=1),
            Column("State"),
            Column("Held", figure=True, drop=3),
            Column("Last beat (s)", figure=True),
            Column("Why"),
            Column("Lease", whole=True, drop=4),
        ],
        [_meant(x["lease"], x["why"]) for x in reply.data["leases"]],
    )


def _meant(lease: dict[str, Any], why: list[str]) -> tuple[Any, ...]:
    return (
        lease["userId"],
        lease.get("licenseName") or lease["licenseId"],
        lease["feature"],
        lease["state"],
        span(lease["heldFor"]),
        figure(lease["lastBeatAgo"]),
        ", ".join(why),
        lease["leaseId"],
    )


def _tell_housekeeping(out: Output, done: dict[str, Any]) -> None:
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
    """List the latest runs of housekeeping, newest first.

    Those with a scope: `sojourn sweeps history`.
    """
    found = server.latest("/api/sweeps", limit=limit)
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
