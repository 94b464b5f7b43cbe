"""The page `/console/overview`: is anybody blocked, is anything broken, is it more than usual?"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from sojourn.console.lookup import PoolUse, RefusedUser
from sojourn.console.seats import pool_link
from sojourn.console.today import Today
from sojourn.console.webhooks import WebhookRow
from sojourn.console.words import count, exact
from sojourn.doctor.runs import Rounds
from sojourn.event import Event, EventKind
from sojourn.finding import Verdict

NEEDS_MAX = 5


class Need(Struct, frozen=True, kw_only=True):
    """Something that somebody should look at, with the one thing to do."""

    sign: str
    tone: str
    title: str
    text: str
    link: str
    label: str


class Figure(Struct, frozen=True, kw_only=True):
    name: str
    value: str
    of: str = ""
    text: str = ""
    shares: tuple[float, float] | None = None  # active and suspect, in percent


def needs(
    uses: Sequence[PoolUse],
    refused: Sequence[RefusedUser],
    rounds: Rounds,
    now: int,
    *,
    hooks: Sequence[WebhookRow] = (),
) -> list[Need]:
    """Say what needs somebody, the most urgent first, NEEDS_MAX at most."""
    found = [_full(use, refused, now) for use in uses if use.refused]
    found += [_unheard(hook) for hook in hooks if hook.late or hook.because]
    wrong = [
        each.seen
        for each in rounds.latest().values()
        if each.seen.finding.verdict in (Verdict.FAILURE, Verdict.WARNING)
    ]
    wrong.sort(key=lambda each: -each.finding.verdict.rank)
    for seen in wrong:
        failing = seen.finding.verdict is Verdict.FAILURE
        found.append(
            Need(
                sign="doctor",
                tone="bad" if failing else "warn",
                title=f"Doctor: {seen.finding.title}",
                text=seen.finding.means,
                link=f"doctor#check-{seen.check.id.replace('.', '-')}",
                label="Open doctor",
            )
        )
    return found[:NEEDS_MAX]


def _unheard(hook: WebhookRow) -> Need:
    stopped = f"It was stopped: {hook.because}"
    waits = f"{count(hook.waits, 'event')} {'waits' if hook.waits == 1 else 'wait'}"
    kept = f"{waits}, {hook.oldest}. What waits is kept, and sent when it is back."
    return Need(
        sign="webhook",
        tone="warn",
        title=f"{hook.host} gets nothing" if hook.because else f"{hook.host} does not answer",
        text=stopped if hook.because else kept,
        link=hook.link,
        label="See deliveries",
    )


def _full(use: PoolUse, refused: Sequence[RefusedUser], now: int) -> Need:
    feature = use.pool.feature
    first = min((x.first_at for x in refused if x.pool_id == use.pool.id), default=now)
    people = "1 person waits" if use.refused == 1 else f"{use.refused} people wait"
    if use.free:
        state = f"{count(use.free, 'seat')} {'is' if use.free == 1 else 'are'} free by now"
    elif use.usage.suspect:
        state = f"{use.usage.suspect} of its {use.usage.capacity:,} seats are held by suspects"
    else:
        state = f"all {use.usage.capacity:,} are held by holders that beat"
    return Need(
        sign="hourglass",
        tone="bad",
        title=f"{people} for {feature}",
        text=f"The longest for {exact(now - first)}; {state}.",
        link=pool_link(use.pool.license_id, feature),
        label="See who holds them",
    )


def quiet(denials: Sequence[Event], now: int) -> str:
    """Say for how long nobody was refused; `denials` are the latest, newest first."""
    if not denials:
        return "Nobody was refused, as far back as events are kept."
    return f"Nobody was refused for {exact(now - denials[0].at)}."


def figures(
    uses: Sequence[PoolUse], events: Sequence[Event], *, oldest: str, day: Today | None = None
) -> list[Figure]:
    """Count. `events` are the latest; `oldest` says how far back they go. `day`: how it compares."""
    used, all_ = sum(x.usage.in_use for x in uses), sum(x.usage.capacity for x in uses)
    suspect = sum(x.usage.suspect for x in uses)
    denied = [event for event in events if event.kind is EventKind.LEASE_DENIED]
    people = len({event.user_id for event in denied})
    ghosts = [e for e in events if e.kind in (EventKind.LEASE_EXPIRED, EventKind.LEASE_EVICTED)]
    longest = max((int(event.data.get("silentFor", 0)) for event in ghosts), default=0)
    full = sum(not x.free for x in uses if x.usage.capacity)
    whole = max(all_, used, 1)
    return [
        Figure(
            name="Seats in use",
            value=f"{used:,}",
            of=f"of {all_:,}",
            shares=(round(100 * (used - suspect) / whole, 2), round(100 * suspect / whole, 2)),
            text=f"{suspect:,} suspect · {max(0, all_ - used):,} free",
        ),
        Figure(
            name="Pools that are full",
            value=f"{full:,}",
            of=f"of {len(uses):,}",
            text=f"on {count(len({x.pool.license_id for x in uses}), 'license')}",
        ),
        Figure(
            name=f"Denied {oldest}",
            value=f"{len(denied):,}",
            text=" · ".join(filter(None, (count_people(people), _compared(day)))),
        ),
        Figure(
            name=f"Ghosts reclaimed {oldest}",
            value=f"{len(ghosts):,}",
            text=f"the longest silent for {exact(longest)}" if ghosts else "nobody fell silent",
        ),
    ]


def _compared(day: Today | None) -> str:
    if day is None or day.denied_more is None:
        return ""
    if not day.denied_more:
        return f"today as many as {day.weekday[:1].lower()}{day.weekday[1:]}"
    more = f"{abs(day.denied_more):,} {'more' if day.denied_more > 0 else 'fewer'}"
    return f"today {more} than {day.weekday[:1].lower()}{day.weekday[1:]}"


def count_people(people: int) -> str:
    return "nobody" if not people else "1 person" if people == 1 else f"{people:,} people"
