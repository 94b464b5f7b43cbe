"""What the runs showed: figures, a table, and a plot as a small SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct
from tests.staleness.traces import SHAPES
from tests.staleness.world import Seen, Snapshot

from sojourn.staleness.forecast import GHOSTS
from sojourn.staleness.phi import ghost_chance

THRESHOLDS = (0.5, 1.0, 2.0, 3.0, 4.0)
BUCKETS = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 5.0), (5.0, 301.0))
TAILS = (0.5, 1.0, 1.5, 2.0, 3.0)


class Row(Struct, frozen=True, kw_only=True):
    """One scheme. `lost_*`: living holders that lost their seat, by what ended it."""

    scheme: str
    served: int
    gave_up: int
    ghosts: int  # that kept somebody waiting
    median: float | None  # seconds for which one did
    p95: float | None
    longest: float | None
    lost_to_scheme: int
    lost_to_policy: int  # as a suspect past its linger
    lost_to_contract: int  # silent for lost_after
    medians: dict[str, float]  # by shape
    holds: list[float]  # sorted


class Threshold(Struct, frozen=True, kw_only=True):
    phi: float
    precision: float | None
    recall: float | None  # of the ghosts
    recall_of_late: (
        float | None
    )  # of the ghosts whose next beat was overdue: no score knows of the others


class Bucket(Struct, frozen=True, kw_only=True):
    """Leases seen with a phi in [low, high): the chance of a ghost that was foretold, and what was found."""

    low: float
    high: float
    leases: int
    foretold: float
    found: float | None


class Tail(Struct, frozen=True, kw_only=True):
    """Of living clients that were heard again: the share that was doubted so much just before."""

    phi: float
    foretold: float
    found: dict[str, float]  # by shape, and of all


class Report(Struct, frozen=True, kw_only=True):
    seeds: list[int]
    minutes: int  # per seed and scheme
    capacity: int
    rows: list[Row]
    thresholds: list[Threshold]
    buckets: list[Bucket]
    tails: list[Tail]


def row(name: str, runs: Sequence[Seen]) -> Row:
    holds = sorted(hold.ms / 1000 for seen in runs for hold in seen.holds)
    losses = [loss.how for seen in runs for loss in seen.losses]
    by_shape = {
        shape: [x.ms / 1000 for seen in runs for x in seen.holds if x.shape == shape]
        for shape in SHAPES
    }
    return Row(
        scheme=name,
        served=sum(seen.served for seen in runs),
        gave_up=sum(seen.gave_up for seen in runs),
        ghosts=len(holds),
        median=median(holds) if holds else None,
        p95=holds[min(len(holds) - 1, round(0.95 * len(holds)))] if holds else None,
        longest=holds[-1] if holds else None,
        lost_to_scheme=losses.count("scheme"),
        lost_to_policy=losses.count("policy"),
        lost_to_contract=losses.count("contract"),
        medians={shape: median(found) for shape, found in by_shape.items() if found},
        holds=holds,
    )


def thresholds(snapshots: Sequence[Snapshot]) -> list[Threshold]:
    ghosts = [x for x in snapshots if x.ghost]
    late = [x for x in ghosts if x.silent]
    return [
        Threshold(
            phi=phi,
            precision=_share(x.ghost for x in snapshots if x.phi >= phi),
            recall=_share(x.phi >= phi for x in ghosts),
            recall_of_late=_share(x.phi >= phi for x in late),
        )
        for phi in THRESHOLDS
    ]


def buckets(snapshots: Sequence[Snapshot]) -> list[Bucket]:
    found = []
    for low, high in BUCKETS:
        inside = [x for x in snapshots if low <= x.phi < high and not x.excused]
        chances = [ghost_chance(x.phi, ghosts=GHOSTS) for x in inside]
        found.append(
            Bucket(
                low=low,
                high=high,
                leases=len(inside),
                foretold=round(sum(chances) / max(1, len(chances)), 4),
                found=_share(x.ghost for x in inside),
            )
        )
    return found


def tails(surprises: Sequence[tuple[str, float]]) -> list[Tail]:
    return [
        Tail(
            phi=phi,
            foretold=round(10**-phi, 5),
            found={
                name: share
                for name in ("all", *SHAPES)
                if (share := _share(x >= phi for shape, x in surprises if name in ("all", shape)))
                is not None
            },
        )
        for phi in TAILS
    ]


def _share(flags: Iterable[bool]) -> float | None:
    seen = list(flags)
    return round(sum(seen) / len(seen), 5) if seen else None


def table(report: Report) -> str:
    """Write the comparison as a table of Markdown."""
    heads = (
        "way",
        "ghosts waited for",
        "median (s)",
        "p95 (s)",
        "living holders ended by it",
        "by the policy",
        "by the contract's 90 s",
        "served",
        "gave up",
    )
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    lines += [
        f"| {r.scheme} | {r.ghosts} | {_seconds(r.median)} | {_seconds(r.p95)} | {r.lost_to_scheme}"
        f" | {r.lost_to_policy} | {r.lost_to_contract} | {r.served:,} | {r.gave_up:,} |"
        for r in report.rows
    ]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
