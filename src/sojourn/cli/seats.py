"""`sojourn seats`: who holds what, why somebody was refused, and how to free a seat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from sojourn.cli.at_relays import show_commands, show_regions
from sojourn.cli.command import Limit, Wide, command, group
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.license import LicenseId
from sojourn.cli.output import Column, Output, count, figure, span, when
from sojourn.cli.server import Reply, Server, segment

app = group("See who holds seats, and why somebody was refused; free seats.")

SEATS = "/api/licenses/sessions"
PATIENCE = 90.0
"""Seconds; a server stops waiting for a clean-up a little earlier."""

User = Annotated[
    str | None,
    typer.Option("--user", "-u", metavar="USER", help="Of this user.", show_default=False),
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
    Column("License", drop=5),
    Column("Feature", drop=2),
    Column("State"),
    Column("Held (min)", figure=True, drop=3),
    Column("Last beat (s)", figure=True),
    Column("Left (s)", figure=True, drop=1),
    Column("Client", drop=4),
    Column("Lease", whole=True, drop=9),
]


def show_leases(out: Output, leases: list[dict[str, Any]], *, wide: bool | None = None) -> None:
    """Print leases as a table, by license and feature, the most silent first. Where they are of several
    licenses, it always says of which."""
    several = len({lease["licenseId"] for lease in leases}) > 1
    columns = [
        Column(each.head, drop=0) if several and each.head == "License" else each
        for each in COLUMNS
    ]
    ordered = sorted(leases, key=_order)
    out.table(columns, [row(lease) for lease in ordered], wide=wide)


def _order(lease: dict[str, Any]) -> tuple[Any, ...]:
    name = lease.get("licenseName") or lease["licenseId"]
    return name, lease["licenseId"], lease["feature"], -lease["lastBeatAgo"], lease["leaseId"]


def row(lease: dict[str, Any]) -> tuple[Any, ...]:
    ended = lease.get("endedAt")
    return (
        lease["userId"],
        lease.get("licenseName") or lease["licenseId"],
        lease["feature"],
        lease.get("endReason", "ended") if ended else _state(lease),
        figure(lease["heldFor"] / 60),
        figure(lease["lastBeatAgo"]),
        None if ended else figure(lease.get("expiresIn", 0.0)),
        client_name(lease),
        lease["leaseId"],
    )


def _state(lease: dict[str, Any]) -> str:
    return f"{lease['state']}, overdraft" if lease.get("overdraft") else str(lease["state"])


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
    wide: Wide = False,
) -> None:
    """List the seats that are held, with their holders.

    They stand by license and feature, the most silent first.
    """
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
    show_leases(out, found, wide=wide)


@command(app, "release")
def release(
    server: Server,
    out: Output,
    lease_id: Annotated[
        str | None, typer.Argument(metavar="[LEASE]", help="Id of one lease, such as lse_9fB….")
    ] = None,
    user: User = None,
    feature: Feature = None,
    license_id: License = None,
) -> None:
    """Free a seat: one lease by its id, or all that a user holds on a feature.

    User ids are each customer's own: where several licenses have the feature, name one with --license.

    Its holder is told with its next heartbeat, and cannot come back to the lease by itself.
    """
    scoped = any(each is not None for each in (user, feature, license_id))
    if lease_id is not None and not scoped:
        reply = server.ask("DELETE", f"{SEATS}/{segment(lease_id)}")
    elif lease_id is None and user is not None and feature is not None:
        path = f"{SEATS}/force-cleanup/{segment(user)}/{segment(feature)}"
        query = {"licenseId": license_id}
        reply = server.ask("DELETE", path, query=query, timeout=PATIENCE)
    else:
        raise Failure(
            "Which seat to free was not said.",
            why="It takes a LEASE, or both --user and --feature.",
            todo="Find it with `sojourn seats list`, or run "
            "`sojourn seats release --user U --feature F`.",
            exit_code=ExitCode.USAGE,
        )
    _ended(out, reply)


@command(app, "cleanup")
def cleanup(
    server: Server, out: Output, license_id: LicenseId, user: User = None, feature: Feature = None
) -> None:
    """Free the seats of holders that have fallen silent.

    Those that beat keep theirs.
    """
    body = {"licenseId": license_id, "userId": user, "feature": feature}
    given = {k: v for k, v in body.items() if v is not None}
    path = "/api/licenses/cleanup-sessions"
    _ended(out, server.ask("POST", path, body=given, timeout=PATIENCE))


def _ended(out: Output, reply: Reply) -> None:
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)
    if reply.data["leases"]:
        show_leases(out, reply.data["leases"])
    show_commands(out, reply.data.get("relays", []))


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
    """Find out why a user gets no seat.

    Shows what is held, what was refused, and what would happen now.
    """
    reply = server.ask(
        "GET",
        f"{SEATS}/debug",
        query={"userId": user, "feature": feature, "licenseId": license_id},
    )
    if out.as_json:
        out.json(reply.data)
        return
    show_debug(out, reply)


def show_debug(out: Output, reply: Reply) -> None:
    data = reply.data
    out.say(reply.message)
    if data["pools"]:
        out.say()
        out.table(
            [
                Column("License"),
                Column("Seats", figure=True),
                Column("In use", figure=True),
                Column("Suspect", figure=True),
                Column("Asking now"),
            ],
            [
                (
                    p.get("licenseName") or p["licenseId"],
                    *_usage(p["usage"], ("capacity", "inUse", "suspect")),
                    "granted" if p["wouldGrant"] else p["refusal"]["code"].replace("_", " "),
                )
                for p in data["pools"]
            ],
        )
        say_rooms(
            out, [(p.get("licenseName") or p["licenseId"], p["usage"]) for p in data["pools"]]
        )
    for pool in data["pools"]:
        if pool.get("waiting") or pool.get("refused"):
            out.say()
            out.say(f"Waiting on {pool.get('licenseName') or pool['licenseId']}:", style="bold")
            show_line(out, pool)
    if data["leases"]:
        out.say()
        out.say("Leases of this user, ended ones included:", style="bold")
        show_leases(out, data["leases"])
    if data["denials"]:
        out.say()
        out.say("Refused lately:", style="bold")
        show_denials(out, data["denials"])
    show_commands(out, data.get("relays", []))


@command(app, "waiting")
def waiting(
    server: Server,
    out: Output,
    license_id: LicenseId,
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="What they wait for.")],
) -> None:
    """Show who waits for a seat, in the order in which they will be served.

    Also names who was refused lately without standing in the line, and has no seat since.
    """
    query = {"licenseId": license_id, "feature": feature}
    reply = server.ask("GET", f"{SEATS}/waiting", query=query)
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)
    show_line(out, reply.data)


def show_line(out: Output, data: dict[str, Any]) -> None:
    """Print a line, and who else was refused lately."""
    rows: list[tuple[Any, ...]] = [
        (
            str(x["position"]),
            x["userId"],
            x["clientId"],
            span(x["waited"]),
            figure(x["expiresIn"]),
            f"a seat, for {x['offered']:.0f} s" if x.get("offered") else None,
        )
        for x in data.get("waiting") or []
    ]
    rows += [
        (None, x["userId"], x["clientId"], None, None, "was refused")
        for x in data.get("refused") or []
    ]
    if rows:
        out.table(
            [
                Column("Place", figure=True),
                Column("User"),
                Column("Client", drop=2),
                Column("Waited", figure=True),
                Column("Left (s)", figure=True, drop=1),
                Column("Has"),
            ],
            rows,
        )


def say_rooms(out: Output, usages: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Say what is above the capacity, and how reservations are used, where there are any."""
    for name, usage in usages:
        if usage.get("overdraft") or usage.get("overdrawn"):
            above = count(usage["overdrawn"], "seat")
            out.say(
                f"{name}: {above} above the capacity, held or reserved, "
                f"of {usage['overdraft']:,} that may be."
            )
        for each in usage.get("reservations", ()):
            kept = count(each["seats"], "seat")
            out.say(
                f"{name}: {kept} reserved for {each['name']}, {each['inUse']:,} in use by them."
            )


def _usage(usage: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{usage[name]:,}" for name in names]


@command(app, "stats")
def stats(
    server: Server,
    out: Output,
    license_id: Annotated[
        str | None,
        typer.Argument(metavar="[LICENSE]", help="Id of a license. Default: all of them."),
    ] = None,
    limit: Limit = 1_000,
) -> None:
    """Count seats, feature by feature.

    Of one license with its latest refusals; of all licenses where none is named.
    """
    if license_id is None:
        _stats_of_all(server, out, limit)
        return
    reply = server.ask("GET", f"/api/licenses/{segment(license_id)}/session-stats")
    if out.as_json:
        out.json(reply.data)
        return
    show_stats(out, reply.data)


def _stats_of_all(server: Server, out: Output, limit: int) -> None:
    with out.waiting("Counting"):
        found = [
            server.get(f"/api/licenses/{segment(x['licenseId'])}/session-stats")
            for x in server.pages("/api/licenses", limit=limit)
        ]
    if out.as_json:
        out.json(found)
        return
    rows = [(x, f["feature"], f["usage"]) for x in found for f in x["features"]]
    used, seats = (sum(u[k] for _, _, u in rows) for k in ("inUse", "capacity"))
    out.say(f"{used:,} of {seats:,} seats in use on {count(len(found), 'license')}.")
    if not rows:
        return
    rows.sort(key=lambda x: (-_share(x[2]), x[0]["name"], x[1]))
    out.table(
        [
            Column("License"),
            Column("Feature"),
            Column("Seats", figure=True),
            Column("In use", figure=True),
            Column("Suspect", figure=True),
            Column("Free", figure=True),
            Column("Use (%)", figure=True, drop=1),
        ],
        [
            (
                x["name"] if x["status"] == "active" else f"{x['name']} ({x['status']})",
                feature,
                *_usage(usage, ("capacity", "inUse", "suspect", "free")),
                f"{100 * _share(usage):.0f}" if usage["capacity"] else None,
            )
            for x, feature, usage in rows
        ],
    )
    say_rooms(out, [(f"{x['name']}, {feature}", usage) for x, feature, usage in rows])


def _share(usage: dict[str, Any]) -> float:
    return usage["inUse"] / usage["capacity"] if usage["capacity"] else 0.0


def show_stats(out: Output, data: dict[str, Any]) -> None:
    usages = [(f["feature"], f["usage"]) for f in data["features"]]
    used, seats = (sum(u[k] for _, u in usages) for k in ("inUse", "capacity"))
    suspended = " The license is suspended." if data["status"] == "suspended" else ""
    out.say(f"{used:,} of {seats:,} seats in use on {data['name']}.{suspended}")
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
                feature,
                *_usage(usage, ("capacity", "inUse", "suspect", "free")),
                f"{100 * usage['inUse'] / usage['capacity']:.0f}" if usage["capacity"] else None,
            )
            for feature, usage in usages
        ],
    )
    say_rooms(out, usages)
    show_regions(out, data["features"])
    if not data["denials"]:
        out.say("Nobody was refused lately.")
        return
    out.say()
    out.say("Refused lately:", style="bold")
    show_denials(out, data["denials"])


def show_denials(out: Output, denials: list[dict[str, Any]]) -> None:
    out.table(
        [
            Column("When", whole=True),
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
    silent = (data.get("holders") or [{}])[0]
    beat_ago = silent.get("lastBeatAgo")
    return (
        when(event["at"]),
        event.get("userId"),
        str(data.get("reason", "")).replace("_", " "),
        f"{data.get('inUse', 0):,} of {data.get('limit', 0):,}",
        silent.get("userId"),
        None if beat_ago is None else figure(beat_ago),
    )
