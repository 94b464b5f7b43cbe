"""`sojourn relays`: servers of regions, and the seats that they may grant by themselves."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sojourn.cli.at_relays import show_commands
from sojourn.cli.command import Yes, command, confirm, group
from sojourn.cli.output import Column, Output, count, span
from sojourn.cli.server import Server, segment

LATE = 60.0
"""Seconds after which a relay that was not heard is called late: it beats every few seconds."""

Relay = Annotated[
    str, typer.Argument(metavar="RELAY", help="Id of a relay, which is that of its key.")
]

app = group(
    """See the relays of an authority, and the seats that they may grant.

    A relay is a server of its own: `sojourn serve --role relay --authority URL`.
    """
)


@command(app, "list")
def list_(server: Server, out: Output) -> None:
    """List relays: what they may grant, what they hold, when they were heard.

    At a relay it says how that stands with its authority.
    """
    found = server.get("/api/relays")
    if out.as_json:
        out.json(found)
        return
    if region := found.get("region"):
        _tell_region(out, region)
        return
    items = found.get("items", [])
    if not items:
        out.say("There are no relays. Make a key for one: sojourn key create NAME --role relay")
        return
    out.say(f"{count(len(items), 'relay')}, {sum(map(_is_late, items))} of them late.")
    if doubt := found.get("doubtFor"):
        out.say(
            "This authority was put back to an earlier state: it allots nothing until each relay has spoken, "
            f"{span(doubt)} at most."
        )
    out.table(
        [
            Column("Relay"),
            Column("State"),
            Column("License"),
            Column("Feature"),
            Column("Seats", figure=True),
            Column("Held", figure=True),
            Column("Wants", figure=True, drop=1),
            Column("Until", whole=True, drop=2),
            Column("Id", whole=True, drop=3),
        ],
        [row for relay in items for row in _rows(relay)],
    )
    for relay in items:
        if refused := relay.get("refused"):
            out.say(f"{relay['name']} is refused ({refused['code']}): {refused['error']}")


@command(app, "forget")
def forget(
    server: Server,
    out: Output,
    relay_id: Relay,
    yes: Yes = False,
) -> None:
    """Wait for a relay no more that does not come back.

    What it may grant is counted until it is over. Revoke its key as well, or its next beat brings it back.
    """
    confirm(f"Forget the relay {relay_id}? Its seats are free once its time is over.", yes=yes)
    reply = server.ask("DELETE", f"/api/relays/{segment(relay_id)}")
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)


@command(app, "commands")
def commands(
    server: Server,
    out: Output,
    relay: Annotated[
        str | None, typer.Option("--relay", metavar="RELAY", help="Of one relay, by its id.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1_000, metavar="N", help="Rows at most.")
    ] = 20,
) -> None:
    """List what relays were told to clean up or to look at, and what came of it."""
    found = server.get("/api/relays/commands", relayId=relay, limit=limit)["items"]
    if out.as_json:
        out.json(found)
        return
    pending = sum(each["state"] == "pending" for each in found)
    out.say(f"{count(len(found), 'command')}, {pending} of them pending.")
    show_commands(out, found, title="The latest first:")


@command(app, "usage")
def usage(
    server: Server,
    out: Output,
    relay: Annotated[
        str | None, typer.Option("--relay", metavar="RELAY", help="Of one relay, by its id.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", "-l", metavar="LICENSE", help="Of one license.")
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=400, metavar="N", help="Today and days before.")
    ] = 7,
) -> None:
    """Count seats that relays granted, and whom they refused, day by day (UTC)."""
    asked = {"relayId": relay, "licenseId": license_id, "days": days}
    found = server.get("/api/relays/usage", **asked)["items"]
    if out.as_json:
        out.json(found)
        return
    granted, denied = (sum(each[name] for each in found) for name in ("granted", "denied"))
    out.say(f"Relays granted {count(granted, 'seat')}, and refused {denied:,} times.")
    if found:
        out.table(
            [
                Column("Day", whole=True),
                Column("Relay"),
                Column("License", drop=1),
                Column("Feature"),
                Column("Granted", figure=True),
                Column("Refused", figure=True),
                Column("Ended", figure=True, drop=2),
            ],
            [
                (
                    each["day"],
                    each["name"],
                    each.get("licenseName") or each["licenseId"],
                    each["feature"],
                    *(f"{each[name]:,}" for name in ("granted", "denied", "ended")),
                )
                for each in found
            ],
        )


@command(app, "drain")
def drain(
    server: Server,
    out: Output,
    relay_id: Relay,
    undo: Annotated[bool, typer.Option("--undo", help="Let it have seats again.")] = False,
) -> None:
    """Give a relay no more seats, and have it give back those that nobody sits on.

    Nobody who sits there loses a seat. Before a relay is switched off for good: drain it, wait until it has
    no seats, then `sojourn relays forget`.
    """
    method = "DELETE" if undo else "PUT"
    reply = server.ask(method, f"/api/relays/{segment(relay_id)}/drain")
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)


@command(app, "move")
def move(
    server: Server,
    out: Output,
    license_id: Annotated[str, typer.Argument(metavar="LICENSE", help="Id of the license.")],
    feature: Annotated[str, typer.Argument(metavar="FEATURE", help="Whose seats are moved.")],
    seats: Annotated[int, typer.Argument(metavar="SEATS", min=1, help="How many.")],
    giver: Annotated[
        str | None,
        typer.Option("--from", metavar="RELAY", help="Id of a relay. Default: the authority."),
    ] = None,
    taker: Annotated[
        str | None,
        typer.Option("--to", metavar="RELAY", help="Id of a relay. Default: the authority."),
    ] = None,
    lasting: Annotated[
        float,
        typer.Option(
            "--for", metavar="SECONDS", min=1, help="So long demand does not move them on."
        ),
    ] = 3_600,
) -> None:
    """Move seats from one relay to another, as they come free.

    Nobody who sits there loses a seat.
    """
    asked = {
        "licenseId": license_id,
        "feature": feature,
        "seats": seats,
        "from": giver,
        "to": taker,
        "lasting": lasting,
    }
    body = {name: x for name, x in asked.items() if x is not None}
    reply = server.ask("POST", "/api/relays/moves", body=body)
    if out.as_json:
        out.json(reply.data)
        return
    out.say(reply.message)


def _is_late(relay: dict[str, Any]) -> bool:
    ago = relay.get("heardAgo")
    return ago is None or ago > LATE


def _state(relay: dict[str, Any]) -> str:
    if relay.get("refused"):
        return "refused"
    if relay.get("awaited"):
        return "awaited"
    if relay.get("draining"):
        return "draining"
    if relay.get("heardAgo") is None:
        return "never heard"
    heard = f"heard {span(relay['heardAgo'])} ago"
    return f"late, {heard}" if _is_late(relay) else heard


def _rows(relay: dict[str, Any]) -> list[tuple[Any, ...]]:
    named = (relay["name"], _state(relay))
    rows: list[tuple[Any, ...]] = [
        (
            *named,
            pool.get("licenseName") or pool["licenseId"],
            pool["feature"],
            pool["seats"],
            pool["held"],
            pool["want"],
            f"in {span(pool['expiresIn'])}",
            relay["relayId"],
        )
        for pool in relay.get("pools", [])
    ]
    return rows or [(*named, None, None, None, None, None, None, relay["relayId"])]


def _tell_region(out: Output, region: dict[str, Any]) -> None:
    heard = region.get("heardAgo")
    facts = [
        ("authority", region["authority"]),
        ("heard", "not yet" if heard is None else f"{span(heard)} ago"),
    ]
    if fault := region.get("fault"):
        facts.append(("cut off", f"{fault} {region.get('refused', '')}".strip()))
    if careful := region.get("carefulFor"):
        facts.append(("recovering", f"{span(careful)} more: only those get a seat who had one"))
    out.facts(facts)
    for note in region.get("notes", []):
        out.say(note)
    out.table(
        [
            Column("License"),
            Column("Feature"),
            Column("Seats", figure=True),
            Column("Held", figure=True),
            Column("Wants", figure=True, drop=1),
            Column("Granting"),
            Column("Until", whole=True, drop=2),
        ],
        [
            (
                pool.get("licenseName") or pool["licenseId"],
                pool["feature"],
                pool["seats"],
                pool["held"],
                pool["want"],
                "yes" if pool["granting"] else "no",
                f"in {span(pool['endsIn'])}" if pool.get("endsIn") else None,
            )
            for pool in region.get("pools", [])
        ],
    )
