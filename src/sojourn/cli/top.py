"""`sojourn top`: who holds what just now, as the console's overview tells it, in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from sojourn.cli import events
from sojourn.cli.command import command
from sojourn.cli.failure import Failure
from sojourn.cli.output import PIPE_WIDTH, Column, Output, build_table, count, figure
from sojourn.cli.seats import SEATS, client_name
from sojourn.cli.server import Server, segment

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

INTERVAL, INTERVAL_MIN = 2.0, 0.5
LICENSES, LICENSES_MAX = 20, 1_000
POOLS_LOOKED_INTO = 3
"""The tightest pools, whose holders are read, 1,000 of each."""
HOLDERS_READ = 1_000
EVENTS_SHOWN = 8
POOLS_SHOWN, HOLDERS_SHOWN = 10, 8
BAR = 20
"""Cells of a bar: a full one is active, a half one suspect, a dot free."""
ACTIVE, SUSPECT, FREE = "█", "▒", "·"

Interval = Annotated[
    float,
    typer.Option(
        "--interval", "-i", min=INTERVAL_MIN, metavar="SECONDS", help="How often to look again."
    ),
]
Once = Annotated[
    bool, typer.Option("--once", help="Look once, print it, and end.", show_default=False)
]
Licenses = Annotated[
    int,
    typer.Option(
        "--limit", "-n", min=1, max=LICENSES_MAX, metavar="N", help="Licenses looked at, at most."
    ),
]


class Pool(Struct, frozen=True):
    """A pool and its use, as session-stats tells it."""

    license_id: str
    license_name: str
    feature: str
    usage: dict[str, Any]

    @property
    def pressure(self) -> float:
        capacity = self.usage["capacity"]
        return self.usage["inUse"] / capacity if capacity else 0.0


class Seen(Struct, frozen=True):
    """What one look has found. `more`: there are licenses beyond those that were looked at."""

    pools: list[Pool]
    holders: list[dict[str, Any]]
    events: list[dict[str, Any]]
    more: bool


def register(app: typer.Typer, panel: str) -> None:
    command(app, "top", panel=panel)(top)


def top(
    server: Server,
    out: Output,
    interval: Interval = INTERVAL,
    once: Once = False,
    limit: Licenses = LICENSES,
) -> None:
    """Watch seats live.

    Shows the tightest pools, who is most silent there, and what happens.
    Ends with Ctrl+C. Into a pipe it looks once, as with --once; with --json it prints one object a line.
    """
    if out.as_json:
        _print_json(server, out, interval, limit, once=once)
        return
    if once or not out.console.is_terminal:
        out.console.print(drawn(look(server, limit), out.console.width, out.console.height or 50))
        return
    _watch(server, out, interval, limit)


def _print_json(server: Server, out: Output, interval: float, limit: int, *, once: bool) -> None:
    while True:
        seen = look(server, limit)
        pools = [
            {"licenseId": x.license_id, "licenseName": x.license_name, "feature": x.feature}
            | {"usage": x.usage}
            for x in seen.pools
        ]
        out.json({"pools": pools, "holders": seen.holders, "events": seen.events}, lines=True)
        if once:
            return
        time.sleep(interval)


def _watch(server: Server, out: Output, interval: float, limit: int) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console, seen = out.console, look(server, limit)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        note = Text("")
        while True:
            page = drawn(seen, console.width, console.height)
            live.update(Group(note, page), refresh=True)
            time.sleep(interval)
            try:
                seen, note = look(server, limit), Text("")
            except Failure as fault:
                note = Text(f"This is as it was: {fault}", style="yellow", no_wrap=True)


def look(server: Server, limit: int) -> Seen:
    """Read pools, the tightest first, the most silent holders of the tightest ones, and the latest events."""
    licenses = server.get("/api/licenses", limit=limit)
    pools = []
    for license_ in licenses["items"]:
        stats = server.get(f"/api/licenses/{segment(license_['licenseId'])}/session-stats")
        pools += [
            Pool(stats["licenseId"], stats["name"], each["feature"], each["usage"])
            for each in stats["features"]
        ]
    pools.sort(key=lambda x: (-x.pressure, -x.usage["suspect"], x.license_name, x.feature))
    holders: list[dict[str, Any]] = []
    for pool in pools[:POOLS_LOOKED_INTO]:
        if pool.usage["inUse"]:
            which = {"licenseId": pool.license_id, "feature": pool.feature}
            holders += server.get(SEATS, limit=HOLDERS_READ, **which)["items"]
    holders.sort(key=lambda x: (-x["lastBeatAgo"], x["leaseId"]))
    latest = server.get("/api/events", limit=EVENTS_SHOWN, newestFirst=True)["items"]
    return Seen(pools, holders[:HOLDERS_SHOWN], latest, licenses.get("next") is not None)


def drawn(seen: Seen, width: int, height: int) -> RenderableType:
    """Lay out what was seen for a terminal of this size."""
    from rich.console import Group
    from rich.text import Text

    room = max(3, min(POOLS_SHOWN, height - 24))
    parts: list[RenderableType] = [_answer(seen), Text("")]
    if seen.pools:
        parts.append(build_table(POOLS, [_pool_row(x) for x in seen.pools[:room]], width))
        if len(seen.pools) > room:
            parts.append(Text(f"and {len(seen.pools) - room:,} more pools", style="dim"))
    if seen.holders:
        parts += [Text("\nMost silent", style="bold")]
        parts.append(build_table(HOLDERS, [_holder_row(x) for x in seen.holders], width))
    if seen.events:
        parts.append(Text("\nJust now", style="bold"))
        parts += [_event(x, width) for x in seen.events]
    return Group(*parts)


POOLS = [
    Column("License", drop=1),
    Column("Feature"),
    Column("Seats", whole=True, drop=2),
    Column("In use", figure=True),
    Column("Of", figure=True),
    Column("Suspect", figure=True),
]
HOLDERS = [
    Column("User"),
    Column("License", drop=3),
    Column("Feature", drop=1),
    Column("State"),
    Column("Last beat (s)", figure=True),
    Column("Left (s)", figure=True),
    Column("Client", drop=2),
]


def _answer(seen: Seen) -> Text:
    from rich.text import Text

    used, seats, suspect = (
        sum(x.usage[name] for x in seen.pools) for name in ("inUse", "capacity", "suspect")
    )
    said = Text(f"{used:,} of {count(seats, 'seat')} in use.", style="bold")
    full = sum(not x.usage["free"] and x.usage["capacity"] > 0 for x in seen.pools)
    if full:
        said.append(f" {count(full, 'pool')} full.", style="red")
    if suspect:
        said.append(f" {suspect:,} suspect.", style="yellow")
    if seen.more:
        said.append(" There are more licenses: --limit.", style="dim")
    return said


def bar(usage: dict[str, Any]) -> str:
    """Draw how much is in use, and how much of that by suspects."""
    whole = max(1, int(usage["capacity"]), int(usage["inUse"]))
    used = min(BAR, -(-int(usage["inUse"]) * BAR // whole))  # a seat in use is seen
    suspect = min(used, -(-int(usage["suspect"]) * BAR // whole))
    return ACTIVE * (used - suspect) + SUSPECT * suspect + FREE * (BAR - used)


def _pool_row(pool: Pool) -> Sequence[Any]:
    usage = pool.usage
    numbers = (f"{usage[name]:,}" for name in ("inUse", "capacity", "suspect"))
    return (pool.license_name, pool.feature, bar(usage), *numbers)


def _holder_row(lease: dict[str, Any]) -> Sequence[Any]:
    return (
        lease["userId"],
        lease.get("licenseName") or lease["licenseId"],
        lease["feature"],
        lease["state"],
        figure(lease["lastBeatAgo"]),
        figure(lease.get("expiresIn", 0.0)),
        client_name(lease),
    )


def _event(event: dict[str, Any], width: int) -> Text:
    line = events.line(event)
    if width < PIPE_WIDTH:
        line.truncate(width, overflow="ellipsis")
    return line
