"""What relays say of commands, and have of seats, as the command line shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sojourn.cli.output import Column, Output, figure, span, when


def show_commands(
    out: Output, commands: Sequence[dict[str, Any]], *, title: str = "At relays:"
) -> None:
    """Print how it stands with commands at relays, and the leases that they tell of."""
    if not commands:
        return
    out.say()
    out.say(title, style="bold")
    out.table(
        [
            Column("Relay"),
            Column("State"),
            Column("Command", drop=2),
            Column("For", drop=1),
            Column("Ended", figure=True),
            Column("Left", figure=True),
            Column("Asked", whole=True, drop=3),
        ],
        [
            (
                each["name"],
                f"{each['state']} ({each['fault']})" if each.get("fault") else each["state"],
                str(each.get("verb", "")).replace("_", " ") or None,
                " ".join(filter(None, (each.get("userId"), each.get("feature")))) or None,
                None if each.get("ended") is None else f"{each['ended']:,}",
                None if each.get("remaining") is None else f"{each['remaining']:,}",
                when(each["askedAt"]) if each.get("askedAt") else None,
            )
            for each in commands
        ],
    )
    leases = [(each["name"], lease) for each in commands for lease in each.get("leases", ())]
    if leases:
        out.table(
            [
                Column("Relay"),
                Column("Lease", whole=True, drop=1),
                Column("User"),
                Column("Client", drop=2),
                Column("Feature"),
                Column("State"),
                Column("Last beat (s)", figure=True),
            ],
            [
                (
                    name,
                    lease["leaseId"],
                    lease["userId"],
                    lease["clientId"],
                    lease["feature"],
                    lease["state"],
                    figure(lease["lastBeatAgo"]),
                )
                for name, lease in leases
            ],
        )


def show_regions(out: Output, features: Sequence[dict[str, Any]]) -> None:
    """Print what relays have of a license's features, where any do."""
    rows = [(f["feature"], each) for f in features for each in f.get("relays", ())]
    if not rows:
        return
    out.say()
    out.say("With relays:", style="bold")
    out.table(
        [
            Column("Feature"),
            Column("Relay"),
            Column("Seats", figure=True),
            Column("Held", figure=True),
            Column("Wants", figure=True, drop=1),
            Column("Heard", whole=True),
        ],
        [
            (
                feature,
                each["name"],
                f"{each['seats']:,}",
                f"{each['held']:,}",
                f"{each['want']:,}",
                f"{span(each['heardAgo'])} ago" if "heardAgo" in each else None,
            )
            for feature, each in rows
        ],
    )
