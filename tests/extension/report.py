"""What the campaign has seen: a table, and the file that it is kept in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from tests.extension.ends import LOST_AFTER, POLICY, Seen

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "extension.json"
PAGE = ROOT / "docs" / "campaigns.md"
BEGIN = "  <!-- make campaign-extension: begin -->\n"
END = "  <!-- make campaign-extension: end -->\n"
LEASE_MIN = LOST_AFTER - POLICY["heartbeatInterval"]
"""Seconds for which a lease lasts at least while its server is away: on a busy machine it starts slowly."""
KEPT = {"kept": "yes", "again": "lost it, then had it again", "lost": "no"}
HEAD = (
    "what happens | who needs the seat has it after (s) | kept, though somebody needs it"
    " | kept, if nobody does | told her | sockets left"
)


class Report(Struct, frozen=True, kw_only=True):
    """A run. `load`: of the machine, in the quarter of an hour before its end; `policy`: in seconds."""

    day: str
    browser: str
    load: float
    policy: dict[str, int]
    seen: list[Seen]
    idle: dict[str, float] = {}
    failed: dict[str, str] = {}


def table(report: Report) -> str:
    """Return what was seen, a row for each end."""
    lines = [f"| {HEAD} |", "| --- " * (HEAD.count("|") + 1) + "|"]
    for name in dict.fromkeys(each.end for each in report.seen):
        mine = [each for each in report.seen if each.end == name]
        needed = [each for each in mine if each.needed]
        alone = [each for each in mine if not each.needed]
        told = dict.fromkeys(x for each in mine for x in each.told)
        cells = [
            name,
            _times([each.free_after for each in needed]),
            _kept(needed),
            _kept(alone),
            ", ".join(x for x in told if x != "safe") or "–",
            ", ".join(sorted({str(each.sockets) for each in mine})),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _times(found: Sequence[float | None]) -> str:
    times = [each for each in found if each is not None]
    if not times:
        return "never" if found else "–"
    middle = f"{median(times):.1f}"
    return middle if len(times) == 1 else f"{middle} (at most {max(times):.1f})"


def _kept(seen: Sequence[Seen]) -> str:
    words = dict.fromkeys(KEPT[each.kept] for each in seen if each.kept)
    return "; ".join(words) or "–"


def faults(report: Report) -> list[str]:
    """Say what must not be: a living holder who lost the seat, though somebody could speak for her."""
    found = [f"{name}: {said}" for name, said in report.failed.items()]
    for each in report.seen:
        who = f"{each.end}{', needed' if each.needed else ''}"
        if each.kept == "lost":
            found.append(f"{who}: she has not got it back")
        if each.kept == "again" and not each.yields and each.away < LEASE_MIN:
            found.append(f"{who}: she lost it, though she could speak")
        if not each.kept and each.free_after is None:
            found.append(f"{who}: nobody has got it")
        if not each.kept and (each.free_after or 0) > each.within:
            found.append(f"{who}: a ghost held it for {each.free_after:.1f} s")
        if each.sockets:
            found.append(f"{who}: {each.sockets} sockets are left")
    return found


def keep(report: Report, path: Path = RESULTS) -> None:
    """Write the results, and the table into the page on campaigns."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if path == RESULTS:
        PAGE.write_text(page(report))


def page(report: Report) -> str:
    """Return the page on campaigns with the table of this run in it."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    shown = "".join(f"  {line}\n" for line in table(report).splitlines())
    return f"{before}{BEGIN}{shown}{END}{after}" if rest else before


def read(path: Path = RESULTS) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)
