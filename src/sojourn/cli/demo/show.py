"""What the demo looks like on a terminal: the pool, the people, the story, the count."""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from sojourn.cli.demo.director import Director, Line
from sojourn.cli.demo.people import Fate, Person
from sojourn.cli.demo.stage import LINGER, LOST_AFTER
from sojourn.cli.demo.tally import Summary
from sojourn.cli.output import Column, Output, build_table, count, figure, span

COLORS = {"act": "yellow", "back": "", "denied": "red", "freed": "cyan", "seated": "green"}
SIGNS = {"act": "!", "back": "·", "denied": "×", "freed": "○", "seated": "●"}

DOING = {
    "away": "not here yet",
    "asking": "asking for a seat",
    "waiting": "waiting in line",
    "holding": "working",
    "lost": "lost the seat, asks again",
    Fate.CRASH: "crashed",
    Fate.GOODBYE: "closed the tab",
    Fate.CABLE: "network dead",
    Fate.LID: "lid closed",
    Fate.IDLE: "having coffee",
    Fate.LEAVE: "gone home",
}
NO_SEAT = {"waiting": "denied", "lost": "lost"}
COLUMNS = [
    Column("Who", whole=True),
    Column("Seat", least=7),
    Column("Last beat (s)", figure=True),
    Column("Left (s)", figure=True, drop=1),
    Column("Fence", figure=True, drop=2),
    Column("What is going on"),
]
BAR_MAX = 40
FRAME = 11  # lines besides people and story


class Show:
    """Drawn anew several times a second by `rich.live`."""

    def __init__(self, director: Director, seconds: float) -> None:
        self._director = director
        self._seconds = seconds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        director = self._director
        people = director.people
        room = max(3, console.height - FRAME - len(people))
        story = list(director.story)[-room:]
        yield Group(
            self._head(),
            Text(),
            bar(director, options.max_width),
            Text(),
            build_table(COLUMNS, [self._row(p) for p in people], options.max_width),
            Text(),
            *(story_line(line) for line in story),
            *(Text() for _ in range(room - len(story))),
            Text(),
            counters(director),
        )

    def _head(self) -> Text:
        left = max(0.0, self._seconds - self._director.elapsed)
        return Text.assemble(
            ("Sojourn demo", "bold"),
            f"   {left:.0f} s left",
            ("   a seat is free ", "dim"),
            (f"{span(LOST_AFTER)}", ""),
            (" after the last heartbeat, ", "dim"),
            (f"{span(LINGER)}", ""),
            (" after a goodbye", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _row(self, person: Person) -> tuple[Any, ...]:
        lease = self._director.view.leases.get((person.user, person.client))
        doing = DOING.get(person.state, person.state)
        if person.state not in ("holding", "away", "asking"):
            doing += f" for {self._director.elapsed - person.since:.0f} s"
        if lease is None:
            return (person.name, NO_SEAT.get(person.state, ""), *[None] * 3, doing)
        return (
            person.name,
            lease["state"],
            figure(lease["lastBeatAgo"]),
            figure(lease.get("expiresIn", 0.0)),
            str(lease["fence"]),
            doing,
        )


def bar(director: Director, width: int) -> Text:
    """Draw the pool: one block per seat where there is room, else to scale."""
    view = director.view
    room = min(BAR_MAX, max(10, width - 42))
    drawn = max(1, min(view.capacity, room))
    wide = room // drawn
    block = (lambda sign: sign * (wide - 1) + " ") if wide > 1 else str
    live, doubted = view.in_use - view.suspect, view.suspect
    text = Text.assemble(("Seats  ", "bold"))
    for number in range(drawn):
        # The seat at this place, when those in use stand first and the doubted ones after them.
        seat = number * view.capacity / drawn
        if seat < live:
            text.append(block("█"), "green")
        elif seat < live + doubted:
            text.append(block("▒"), "yellow")
        else:
            text.append(block("·"), "dim")
    doubt = f", {doubted} suspect" if doubted else ""
    text.append(f"  {view.in_use} of {view.capacity} in use{doubt}")
    return text


def story_line(line: Line) -> Text:
    return Text.assemble(
        (f"{line.at:5.1f} s  ", "dim"),
        (SIGNS[line.kind], COLORS[line.kind]),
        f" {line.text}",
        no_wrap=True,
        overflow="ellipsis",
    )


def counters(director: Director) -> Text:
    so_far = director.so_far
    longest = so_far.longest_ghost_held
    return Text(
        f"over-grants {so_far.over_grants} · {so_far.acquires} acquired · "
        f"{so_far.waits} waited · {so_far.denials} refused · "
        f"{count(so_far.ghosts_reclaimed, 'ghost')} reclaimed"
        + (f", the longest after {longest:.1f} s" if longest else ""),
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )


def conclude(out: Output, summary: Summary, *, clients: int, capacity: int, took: float) -> None:
    """Print the summary."""
    out.say()
    out.say(f"In {span(round(took))}, {clients} people shared {count(capacity, 'seat')}.")
    rows = [
        ("Seats granted", f"{summary.acquires}", ""),
        ("Times that somebody stood in the line", f"{summary.waits}", ""),
        ("Refusals, each with its evidence", f"{summary.denials}", ""),
        ("Ghosts left behind", f"{summary.ghosts}", "crash, dead network, lid, tab"),
        ("Ghosts whose seat was reclaimed", f"{summary.ghosts_reclaimed}", "the others came back"),
        (
            "Longest a ghost held a seat (s)",
            f"{summary.longest_ghost_held:.1f}",
            f"at most {span(LOST_AFTER)}",
        ),
        (
            "Refusals while a ghost overstayed",
            f"{summary.denials_past_time}",
            verdict(summary.denials_past_time),
        ),
        ("Over-grants", f"{summary.over_grants}", verdict(summary.over_grants)),
    ]
    out.say()
    out.table([Column("What", whole=True), Column("Count", figure=True), Column("")], rows)


def verdict(number: int) -> str:
    return "ok" if number == 0 else "must be 0: report this, with the seed"
