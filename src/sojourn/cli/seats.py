"""`sojourn seats`: who holds what, why somebody was refused, and how to free a seat."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.command import Limit, command, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.license import LicenseId
from sojourn.cli.output import Column, Output, cell, count, figure, span, when
from sojourn.cli.server import Server, segment

app = group("See who holds seats, find out why somebody was refused, and free seats.")

SEATS = "/api/licenses/sessions"

User = Annotated[
    str | None, typer.Option("--user", "-u", metavar="USER", help="Of this user.", show_default=False)
]
Feature = Annotated[
    str | None,
    typer.Option("--feature", "-f", metavar="FEATURE", help="Of this feature.", show_default=False),
]
License = Annotated[
    str | None,
    typer.Option("--license", "-l", metavar="LICENSE", help="Of this license.", show_default=False),
]

COLUMNS = [
    Column("User"),
    Column("Feature", drop=2),
    Column("State"),
    Column("Held", figure=True, drop=3),
    Column("Last beat (s)", figure=True),
    Column("Left (s)", figure=True, drop=1),
    Column("Client", drop=4),
    Column("Lease", whole=True),
]


def row(lease: dict[str, Any]) -> tuple[Any, ...]:
    ended = lease.get("endedAt")
    return (
        lease["userId"],
        lease["feature"],
        lease.get("endReason", "ended") if ended else lease["state"],
        span(lease["heldFor"]),
        figure(lease["lastBeatAgo"]),
        None if ended else figure(lease.get("expiresIn", 0.0)),
        client_name(lease),
        lease["leaseId"],
    )


def client_name(lease: dict[str, Any]) -> str:
    device = lease.get("device") or {}
    return str(device.get("name") or device.get("browser") or lease.get("clientId") or "")


@command(app, "list")
def list_(
    server: Server,
    out: Output,
    license_id: License = None,
    feature: Feature = None,
    user: User = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="Also those that ended in the last day.")
    ] = False,
    limit: Limit = 1_000,
) -> None:
    """List the seats that are held, with their holders."""
    found = list(
        server.pages(
            SEATS,
            limit=limit,
            licenseId=license_id,
            feature=feature,
            userId=user,
            includeEnded=ended or None,
        )
    )
    if out.as_json:
        out.json(found)
        return
    live = [x for x in found if not x.get("endedAt")]
    suspect = sum(x["state"] == "suspect" for x in live)
    if not found:
        out.say("Nobody holds a seat.")
        return
    doubt = f", {suspect} of them suspect" if suspect else ""
    gone = f"; {len(found) - len(live):,} ended" if ended else ""
    out.say(f"{count(len(live), 'seat')} held{doubt}{gone}.")
    out.table(COLUMNS, [row(x) for x in found])


@command(app, "release")
def release(
    server: Server,
    out: Output,
    lease_id: Annotated[
        str | None, typer.Argument(metavar="[LEASE]", help="Id of one lease, such as lse_9fB….")
    ] = None,
    user: User = None,
    feature: Feature = None,
) -> None:
    """Free a seat: one lease by its id, or all that a user holds on a feature.

    Its holder is told with its next heartbeat, and cannot come back to the lease by itself.
    """
    if lease_id is not None and user is None and feature is None:
        data = server.ask("DELETE", f"{SEATS}/{segment(lease_id)}")
    elif lease_id is None and user is not None and feature is not None:
        data = server.ask("DELETE", f"{SEATS}/force-cleanup/{segment(user)}/{segment(feature)}")
    else:
        raise Failure(
            "Which seat to free was not said.",
            why="It takes a LEASE, or both --user and --feature.",
            todo="Find it with `sojourn seats list`, or run "
            "`sojourn seats release --user U --feature F`.",
            exit_code=ExitCode.USAGE,
        )
    _ended(out, data, "Nothing was held, so nothing was freed.")


@command(app, "cleanup")
def cleanup(
    server: Server, out: Output, license_id: LicenseId, user: User = None, feature: Feature = None
) -> None:
    """Free the seats of holders that have fallen silent on a license. Those that beat keep theirs."""
    body = {"licenseId": license_id, "userId": user, "feature": feature}
    data = server.post(
        "/api/licenses/cleanup-sessions", {k: v for k, v in body.items() if v is not None}
    )
    _ended(out, data, "Every holder beats, so nothing was freed.")


def _ended(out: Output, data: dict[str, Any], nothing: str) -> None:
    if out.as_json:
        out.json(data)
        return
    number = data["endedCount"]
    left = data.get("remaining", 0)
    rest = f" {count(left, 'seat')} still held there." if left else ""
    out.say((f"Freed {count(number, 'seat')}." if number else nothing) + rest)
    if data.get("ended"):
        out.table(COLUMNS, [row(x) for x in data["ended"]])


@command(app, "debug")
def debug(
    server: Server,
    out: Output,
    user: Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Who was refused.")],
    feature: Annotated[
        str, typer.Option("--feature", "-f", metavar="FEATURE", help="What was refused.")
    ],
    license_id: License = None,
) -> None:
    """Find out why a user gets no seat: what is held, what was refused, what would happen now."""
    data = server.get(f"{SEATS}/debug", userId=user, feature=feature, licenseId=license_id)
    if out.as_json:
        out.json(data)
        return
    show_debug(out, data)


def show_debug(out: Output, data: dict[str, Any]) -> None:
    user, feature = data["userId"], data["feature"]
    if not data["pools"]:
        out.say(f"{user} has never asked for {feature} here, and no pool is known for it.")
    for pool in data["pools"]:
        name = (pool.get("license") or {}).get("name") or pool.get("licenseId", "?")
        out.say(_verdict(user, feature, name, pool))
    out.say()
    if data["leases"]:
        out.say("Leases of this user, ended ones included:", style="bold")
        out.table(COLUMNS, [row(x) for x in data["leases"]])
    else:
        out.say("This user holds no lease, and has ended none in the last day.")
    if data["denials"]:
        out.say()
        out.say("Refused lately:", style="bold")
        show_denials(out, data["denials"])


def _verdict(user: str, feature: str, name: str, pool: dict[str, Any]) -> str:
    usage = f"{pool['inUse']:,} of {pool['capacity']:,} seats in use"
    doubt = f", {pool['suspect']:,} suspect" if pool.get("suspect") else ""
    answer = pool["answer"]
    outcome = (
        "would get a seat now"
        if answer.get("granted")
        else f"would be refused now ({answer.get('reason', 'seat_limit')})"
    )
    return f"{name} / {feature}: {usage}{doubt}; {user} {outcome}."


@command(app, "stats")
def stats(server: Server, out: Output, license_id: LicenseId) -> None:
    """Count a license's seats, feature by feature, with its latest refusals."""
    data = server.get(f"/api/licenses/{segment(license_id)}/session-stats")
    if out.as_json:
        out.json(data)
        return
    show_stats(out, data)


def show_stats(out: Output, data: dict[str, Any]) -> None:
    pools = data["pools"]
    used = sum(p["inUse"] for p in pools)
    seats = sum(p["capacity"] for p in pools)
    out.say(f"{used:,} of {seats:,} seats in use on {data['license']['name']}.")
    out.table(
        [
            Column("Feature"),
            Column("Seats", figure=True),
            Column("In use", figure=True),
            Column("Suspect", figure=True),
            Column("Free", figure=True),
            Column("Use (%)", figure=True, drop=1),
        ],
        [
            (
                p["feature"],
                f"{p['capacity']:,}",
                f"{p['inUse']:,}",
                f"{p['suspect']:,}",
                f"{max(0, p['capacity'] - p['inUse']):,}",
                f"{100 * p['inUse'] / p['capacity']:.0f}" if p["capacity"] else None,
            )
            for p in pools
        ],
    )
    if data.get("denials"):
        out.say()
        out.say("Refused lately:", style="bold")
        show_denials(out, data["denials"])
    else:
        out.say("Nobody was refused lately.")


def show_denials(out: Output, denials: list[dict[str, Any]]) -> None:
    out.table(
        [
            Column("When"),
            Column("User"),
            Column("Why"),
            Column("In use", figure=True),
            Column("Most silent holder", drop=1),
            Column("Last beat (s)", figure=True, drop=2),
        ],
        [_denial(d) for d in denials],
    )


def _denial(event: dict[str, Any]) -> tuple[Any, ...]:
    data = event.get("data") or {}
    holders = data.get("holders") or [{}]
    silent = holders[0].get("lastBeatAgo")
    return (
        when(event["at"]),
        event.get("userId"),
        cell(data.get("reason"), "red").plain,
        f"{data.get('inUse', 0)} of {data.get('limit', 0)}",
        holders[0].get("userId"),
        None if silent is None else figure(silent),
    )
