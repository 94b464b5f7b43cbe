"""What commands print on stdout: an answer, then a table; or, with --json, JSON and nothing else.

Tables shrink to the terminal: first the columns that may be left out go, then long text is cut. Into a
pipe everything is written whole, so that `grep` and `awk` see what is there. Rich sees to NO_COLOR.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sojourn.text import escaped, escaped_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPE_WIDTH = 10_000  # columns: nothing is cut where no terminal is
GAP = 2  # columns between columns
READABLE = 14  # columns of a text that are worth showing before other columns go

STYLES = {
    "active": "green",
    "live": "green",
    "ok": "green",
    "safe": "green",
    "acquired": "green",
    "resumed": "green",
    "taken over": "green",
    "delivered": "green",
    "suspect": "yellow",
    "jeopardy": "yellow",
    "suspended": "yellow",
    "evicted": "yellow",
    "expired": "yellow",
    "pending": "yellow",
    "warning": "yellow",
    "denied": "red",
    "dead": "red",
    "lost": "red",
    "revoked": "red",
    "error": "red",
    "failure": "red",
    "done": "green",
    "running": "green",
    "paused": "yellow",
    "stopped": "yellow",
    "missed": "yellow",
    "failed": "red",
}
"""The same meaning has the same color everywhere; a word always stands beside it."""


class Column(Struct, frozen=True):
    """A column of a table. Figures are right-aligned and never cut.

    Attributes:
        head: with its unit, such as "Last beat (s)".
        figure: whether it holds figures.
        whole: never cut, because people copy it.
        least: width that it has at least, so that a live table does not jump.
        drop: left out where the terminal is narrow, the highest first; 0: never.
        style: of its cells; cells that name a state are colored by it anyway.
    """

    head: str
    figure: bool = False
    whole: bool = False
    least: int = 0
    drop: int = 0
    style: str = ""


class Output:
    """Where a command prints."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    @cached_property
    def console(self) -> Console:
        console = terminal()
        return console if console.is_terminal else terminal(width=PIPE_WIDTH)

    @cached_property
    def aside(self) -> Console:
        """Return stderr, for what is not the answer: progress, questions, notes."""
        return terminal(stderr=True)

    def json(self, value: Any, *, lines: bool = False) -> None:
        """Print one JSON document; with `lines`, on one line, at once."""
        raw = msgspec.json.encode(value)
        text = raw if lines else msgspec.json.format(raw, indent=2)
        sys.stdout.write(escaped_json(text.decode()) + "\n")
        sys.stdout.flush()

    def say(self, text: str | Text = "", *, style: str = "") -> None:
        """Print a sentence, wrapped to the terminal. Square brackets are text, not markup."""
        self.console.print(text, markup=False, style=style or None)

    def hang(self, prefix: str | Text, text: str | Text, *, style: str = "") -> None:
        """Print a text after a prefix; where it is wrapped, its lines begin below one another."""
        from rich.text import Text

        first = Text(prefix, style=style) if isinstance(prefix, str) else prefix
        rest = Text(escaped(text), style=style) if isinstance(text, str) else text
        room = max(READABLE, self.console.width - first.cell_len)
        for number, line in enumerate(rest.wrap(self.console, room) or [Text("")]):
            line.rstrip()
            lead = first if number == 0 else Text(" " * first.cell_len)
            self.console.print(Text.assemble(lead, line), soft_wrap=True)

    def facts(self, rows: Sequence[tuple[str, Any]]) -> None:
        """Print names and values, one pair a line; values are never cut."""
        from rich.text import Text

        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            line = Text.assemble((f"{name:<{width}}", "dim"), "  ", cell(value))
            self.console.print(line, soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal that something takes a while."""
        if not self.aside.is_terminal or self.as_json:
            yield
            return
        with self.aside.status(f"{what} …"):
            yield

    def table(
        self, columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, wide: bool | None = None
    ) -> None:
        """Print a table that fits the terminal; with `wide`, as wide as it is. Where that can be asked for
        (`wide` is not None), say which columns had no room."""
        if wide:
            console = self.console
            as_wide = terminal(
                width=PIPE_WIDTH, file=console.file, force_terminal=console.is_terminal
            )
            as_wide.print(build_table(columns, rows, PIPE_WIDTH))
            return
        table = build_table(columns, rows, self.console.width)
        self.console.print(table)
        heads = {column.header for column in table.columns}
        gone = [each.head for each in columns if each.head not in heads]
        if gone and wide is not None:
            self.say(f"No room for {', '.join(gone)}: --wide shows all.", style="dim")


def terminal(**options: Any) -> Console:
    """Return a console that shows what others wrote, and obeys none of it."""
    from rich.console import Console
    from rich.segment import Segment

    class Terminal(Console):
        def render(self, *given: Any, **more: Any) -> Iterator[Segment]:
            for each in super().render(*given, **more):
                yield each if each.control else Segment(escaped(each.text), each.style)

    return Terminal(highlight=False, **options)


def cell(value: Any, style: str = "") -> Text:
    from rich.text import Text

    text = "–" if value is None else escaped(str(value))
    return Text(text, style=STYLES.get(text, style) if text != "–" else "dim")


def build_table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int) -> Any:
    """Lay a table out for a width."""
    from rich import box
    from rich.table import Table

    texts = [[cell(v, c.style) for c, v in zip(columns, row, strict=True)] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False)
    widths = _widths(columns, [[t.cell_len for t in row] for row in texts], width)
    for i, wide in widths.items():
        table.add_column(
            columns[i].head,
            justify="right" if columns[i].figure else "left",
            no_wrap=True,
            overflow="ellipsis",
            header_style="bold",
            width=wide,
        )
    for row in texts:
        table.add_row(*(row[i] for i in widths))
    return table


def _widths(
    columns: Sequence[Column], lengths: Sequence[Sequence[int]], room: int
) -> dict[int, int]:
    """Choose the columns to show and their widths.

    Columns that may be left out go until the rest can be read; then the widest texts are cut. Rich
    would cut figures and ids too.
    """
    full = [
        max([len(c.head), c.least, *(row[i] for row in lengths)]) for i, c in enumerate(columns)
    ]
    least = [
        full[i] if c.figure or c.whole else max(len(c.head), c.least) for i, c in enumerate(columns)
    ]
    shown = list(range(len(columns)))

    def fits(widths: Sequence[int]) -> bool:
        return sum(widths) + GAP * (len(shown) - 1) <= room

    for i in sorted(shown, key=lambda i: -columns[i].drop):
        readable = [max(least[j], min(full[j], READABLE)) for j in shown]
        if fits(readable) or not columns[i].drop:
            break
        shown.remove(i)
    widths = {i: min(full[i], max(room, least[i])) for i in shown}
    while not fits(list(widths.values())):
        cuttable = [i for i in shown if widths[i] > least[i]]
        if not cuttable:
            break  # narrower than its figures and ids: the terminal wraps
        widths[max(cuttable, key=lambda i: widths[i])] -= 1
    return widths


def count(number: int, noun: str, plural: str = "") -> str:
    """Say "1 seat", "2 seats", "1,200 seats"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def figure(seconds: float | None) -> str | None:
    """Write seconds as a figure of a column whose head says the unit."""
    if seconds is None:
        return None
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:,.0f}"


def span(seconds: float) -> str:
    """Write a duration in words' place: 0.5 s, 45 s, 15 min, 2 h 30 min, 7 days."""
    if seconds < 60:
        return (f"{seconds:.2g}" if seconds < 1 else f"{seconds:.1f}".removesuffix(".0")) + " s"
    if seconds < 3_600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    if seconds < 172_800:
        hours, rest = divmod(round(seconds / 60), 60)
        return f"{hours} h" + (f" {rest} min" if rest else "")
    return f"{seconds / 86_400:.3g} days"


def when(text: str | None) -> str | None:
    """Shorten an RFC 3339 instant for people, in their own zone."""
    if not text:
        return None
    from datetime import datetime

    local = datetime.fromisoformat(text).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")
