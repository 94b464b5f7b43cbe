"""`sojourn sweeps`: plans of selective sweeps, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, Yes, command, confirm, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Column, Output, span, when
from sojourn.cli.scope import Scope, duration, scope_body, told
from sojourn.cli.server import Server, segment

PLANS = "/api/sweeps/plans"
TIMES = "When (one of them; --window may bound --every)"

Plan = Annotated[str, typer.Argument(metavar="PLAN", help="Name or id of a plan.")]

app = group(
    """Plan sweeps: end the silent leases of a scope by the clock.

    A plan runs once each time it is due, however many servers there are, and changes take effect at
    once. Try its scope first: sojourn sweep --feature editor --silent-for 60 --dry-run
    """
)


def _time(flag: str, metavar: str, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=TIMES, show_default=False)


@command(app, "list")
def list_(server: Server, out: Output) -> None:
    """List plans, and when they run next."""
    found = server.items(PLANS)
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say(
            "There are no plans. Make one: sojourn sweeps add nightly --feature editor "
            "--window '02:00-05:00 Europe/Oslo'"
        )
        return
    out.table(
        [
            Column("Plan", whole=True),
            Column("Scope"),
            Column("When"),
            Column("Next", whole=True),
            Column("By", drop=1),
            Column("Id", drop=2),
        ],
        [
            (
                x["name"],
                told(x["scope"]),
                times(x["schedule"]),
                "paused" if x["paused"] else when(x.get("nextAt")),
                x["createdBy"],
                x["planId"],
            )
            for x in found
        ],
    )


@command(app, "add")
def add(
    server: Server,
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    every: Annotated[str | None, _time("--every", "TIME", "Again and again, such as 15m.")] = None,
    cron: Annotated[
        str | None, _time("--cron", "EXPRESSION", "By five fields, such as '30 3 * * 1-5'.")
    ] = None,
    window: Annotated[
        str | None,
        _time("--window", "SPAN", "Once a day within it: '02:00-05:00 Europe/Oslo'."),
    ] = None,
    quietest: Annotated[
        bool, _time("--quietest", "", "Once a day, in the hour in which least happens.")
    ] = False,
    zone: Annotated[
        str | None, _time("--zone", "ZONE", "Whose clock: Europe/Oslo. UTC without.")
    ] = None,
    living: Annotated[
        bool,
        typer.Option("--living", help="End those that keep beating, too.", show_default=False),
    ] = False,
    paused: Annotated[
        bool, typer.Option("--paused", help="Make it, and do not run it yet.", show_default=False)
    ] = False,
    yes: Yes = False,
    **scope: Scope,
) -> None:
    """Make a plan."""
    if living:
        confirm("End the leases of people who are working, too?", yes=yes)
    schedule: dict[str, Any] = {"cron": cron, "window": window, "zone": zone}
    schedule = {key: value for key, value in schedule.items() if value is not None}
    if every is not None:
        schedule["every"] = duration("every", every)
    if quietest:
        schedule["quietest"] = True
    body = {
        "name": name,
        "scope": scope_body(scope, living=living),
        "schedule": schedule,
        "paused": paused,
    }
    made = server.post(PLANS, body)
    if out.as_json:
        out.json(made)
        return
    next_at = when(made.get("nextAt"))
    first = f"It runs first at {next_at}." if next_at else "It is paused."
    out.say(f"Planned {made['name']}: {told(made['scope'])}, {times(made['schedule'])}. {first}")


@command(app, "pause")
def pause(server: Server, out: Output, plan: Plan) -> None:
    """Stop a plan until it is resumed.

    A run under way stops before its next step.
    """
    _say(out, _change(server, plan, paused=True))


@command(app, "resume")
def resume(server: Server, out: Output, plan: Plan) -> None:
    """Let a plan run again, at its next time from now on."""
    _say(out, _change(server, plan, paused=False))


@command(app, "remove")
def remove(server: Server, out: Output, plan: Plan, yes: Yes = False) -> None:
    """Remove a plan; the history of its runs stays."""
    confirm(f"Remove the plan {plan}?", yes=yes)
    removed = server.ask("DELETE", f"{PLANS}/{segment(plan)}").data
    if out.as_json:
        out.json(removed)
        return
    out.say(f"Removed the plan {removed['name']}.")


@command(app, "history")
def history(
    server: Server,
    out: Output,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="PLAN", help="Only of this plan.", show_default=False),
    ] = None,
    limit: Limit = 20,
) -> None:
    """Show the latest sweeps by plan or with a scope, newest first."""
    if limit > 1_000:
        raise Failure(
            "So many runs are not kept.",
            why="The latest 1,000 are.",
            todo="Give --limit 1000 or less.",
            exit_code=ExitCode.USAGE,
        )
    found = server.latest("/api/sweeps/runs", plan=plan, limit=limit)
    if out.as_json:
        out.json(found)
        return
    if not found:
        out.say("Nothing was swept by a plan or with a scope yet.")
        return
    out.table(
        [
            Column("Started", whole=True),
            Column("Plan"),
            Column("State"),
            Column("Looked at", figure=True, drop=1),
            Column("Ended", figure=True),
            Column("Took", figure=True, drop=2),
            Column("Scope", drop=3),
            Column("By", drop=4),
            Column("Next", whole=True, drop=3),
            Column("Error", style="red"),
        ],
        [_row(x) for x in found],
    )


def _row(run: dict[str, Any]) -> tuple[Any, ...]:
    return (
        when(run["startedAt"]),
        run.get("planName") or "(by hand)",
        run["state"],
        f"{run['looked']:,}",
        f"{run['ended']:,}",
        span(run["took"]) if "took" in run else None,
        told(run["scope"]),
        run["actor"],
        when(run.get("nextAt")),
        run.get("error"),
    )


def _change(server: Server, plan: str, *, paused: bool) -> dict[str, Any]:
    path = f"{PLANS}/{segment(plan)}"
    changed: dict[str, Any] = server.ask("PATCH", path, body={"paused": paused}).data
    return changed


def _say(out: Output, plan: dict[str, Any]) -> None:
    if out.as_json:
        out.json(plan)
    elif plan["paused"]:
        out.say(f"The plan {plan['name']} is paused. Resume it: sojourn sweeps resume PLAN")
    else:
        out.say(f"The plan {plan['name']} runs next at {when(plan.get('nextAt'))}.")


def times(schedule: dict[str, Any]) -> str:
    """Say a schedule in a cell of a table."""
    zone = schedule.get("zone", "UTC")
    said = []
    if "every" in schedule:
        said.append(f"every {span(schedule['every'])}")
    if "cron" in schedule:
        said.append(f"{schedule['cron']} {zone}")
    if "window" in schedule:
        said.append(f"{schedule['window']} {zone}")
    if schedule.get("quietest"):
        said.append(f"the quietest hour, {zone}")
    return ", ".join(said)
