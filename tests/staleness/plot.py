"""The comparison as a small SVG: which share of the ghosts kept somebody waiting for longer than so long."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.staleness.report import Report, Row

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 48
LONGEST = 90.0
POINTS = 90
COLORS = ("#6b7280", "#2563eb", "#d97706", "#db2777", "#059669", "#0891b2", "#7c3aed")
STYLE = (
    "<style>text{fill:#111;font:12px sans-serif}.g{stroke:#ddd}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}.g{stroke:#444}}</style>"
)
DASHES = ("", "", "", "6 3", "", "6 3", "2 3")


def plot(report: Report) -> str:
    """Draw it, readable in light and dark."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Share of ghosts that keep somebody waiting, by seconds</title>",
        STYLE,
        *_axes(),
    ]
    for number, row in enumerate(report.rows):
        color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _curve(row))
        drawn = f'stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline fill="none" {drawn} points="{points}"/>')
        y = TOP + 16 + 18 * number
        x1, x2 = WIDTH - 330, WIDTH - 302
        parts.append(f'<line x1="{x1}" x2="{x2}" y1="{y - 4}" y2="{y - 4}" {drawn}/>')
        words = f"{escape(row.scheme)} ({row.lost_to_scheme} living ended)"
        parts.append(f'<text x="{x2 + 6}" y="{y}">{words}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes() -> Sequence[str]:
    lines = [
        f'<text x="{LEFT + 150}" y="{HEIGHT - 10}">seconds for which a ghost kept somebody waiting</text>',
        f'<text x="14" y="{TOP + 190}" transform="rotate(-90 14 {TOP + 190})">share of ghosts</text>',
    ]
    for seconds in range(0, int(LONGEST) + 1, 15):
        x = _x(seconds)
        lines.append(f'<line class="g" x1="{x:.0f}" x2="{x:.0f}" y1="{TOP}" y2="{_y(0):.0f}"/>')
        lines.append(
            f'<text x="{x:.0f}" y="{_y(0) + 16:.0f}" text-anchor="middle">{seconds}</text>'
        )
    for percent in range(0, 101, 25):
        y = _y(percent / 100)
        lines.append(
            f'<line class="g" x1="{LEFT}" x2="{_x(LONGEST):.0f}" y1="{y:.0f}" y2="{y:.0f}"/>'
        )
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{percent} %</text>')
    return lines


def _curve(row: Row) -> list[tuple[float, float]]:
    """The share that waits for longer than each of POINTS times, as steps."""
    count = max(1, len(row.holds))
    steps = []
    for number in range(2 * POINTS + 1):
        seconds = LONGEST * number / (2 * POINTS)
        steps.append((_x(seconds), _y(sum(x > seconds for x in row.holds) / count)))
    return steps


def _x(seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / LONGEST


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
