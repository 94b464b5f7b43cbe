"""Clients as they are seen from a server: traces of the shape that recordings have, made from a seed.

What shapes them is in docs/guide/staleness.md, with where each number comes from. All times are
milliseconds from the moment a client got its seat.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from sojourn.device import Device

SECOND = 1_000
MINUTE = 60 * SECOND
SIGN_OF_LIFE = 20 * SECOND
"""How often a client on a socket is heard: it answers the server's message."""
HTTP_BEAT = 30 * SECOND
THROTTLED_BEAT = 60 * SECOND


class Away(Struct, frozen=True, kw_only=True):
    """A time in which nothing of a client gets through. Its person is there, unless `asleep`."""

    begin: int
    end: int
    asleep: bool = False


class Sign(Struct, frozen=True, kw_only=True):
    """A beat that reaches the server."""

    at: int
    next_in: int | None = None
    closing: bool = False


class Life(Struct, frozen=True, kw_only=True):
    """One client, from its grant to its end, as nobody but the trace knows it."""

    shape: str
    device: Device
    on_socket: bool
    signs: tuple[Sign, ...]
    aways: tuple[Away, ...]
    drops: tuple[tuple[int, int], ...]  # when its socket drops, and when it is open again
    ends_at: int
    released: bool  # it gives its seat back at its end; else it becomes a ghost
    seen_to_end: bool  # the server sees its socket drop at its end

    def ghost(self, at: int) -> bool:
        """Tell whether its seat is held by nobody."""
        return at >= self.ends_at or any(x.asleep and x.begin <= at < x.end for x in self.aways)

    def reachable(self, at: int) -> bool:
        away = any(x.begin <= at < x.end for x in self.aways)
        closed = any(begin <= at < end for begin, end in self.drops)
        return at < self.ends_at and not away and not closed


Shape = Callable[[random.Random, str], Life]


def steady_desktop(r: random.Random, ip: str) -> Life:
    """A program on a socket. One in four crashes; its machine then closes the socket, or loses power."""
    ends_at = _life(r, 15 * MINUTE)
    how = r.random()
    blips = _poisson(r, ends_at, mean=40 * MINUTE)
    return Life(
        shape="steady desktop",
        device=Device(kind="desktop", ip=ip),
        on_socket=True,
        signs=_signs(r, ends_at, (), every=SIGN_OF_LIFE, jitter=200),
        aways=(),
        drops=tuple((at, at + r.randint(200, 1_000)) for at in blips),  # its proxy restarts
        ends_at=ends_at,
        released=how >= 0.25,
        seen_to_end=how < 0.22,
    )


def throttled_tab(r: random.Random, ip: str) -> Life:
    """A page that beats by HTTP; hidden, once a minute, announced by half of them. One in four is killed."""
    ends_at = _life(r, 12 * MINUTE)
    announces, now, hidden_from = r.random() < 0.5, 0, r.randint(1, 8) * MINUTE
    signs = []
    while (now := now + _jittered(r, _tab_beat(now, hidden_from), 1_500)) < ends_at:
        later = _tab_beat(now, hidden_from)
        told = later if announces and later > HTTP_BEAT else None
        signs.append(Sign(at=now, next_in=told))
    for at in _poisson(r, ends_at, mean=30 * MINUTE):  # a reload says goodbye, and beats again
        signs += [Sign(at=at, closing=True), Sign(at=at + r.randint(500, 6_000))]
    return Life(
        shape="throttled tab",
        device=Device(kind="desktop", browser="Chrome", ip=ip),
        on_socket=False,
        signs=tuple(sorted((x for x in signs if x.at < ends_at), key=lambda x: x.at)),
        aways=(),
        drops=(),
        ends_at=ends_at,
        released=r.random() >= 0.25,
        seen_to_end=False,
    )


def sleeping_laptop(r: random.Random, ip: str) -> Life:
    """A program on a laptop whose lid is shut for minutes or hours; nothing says so before."""
    ends_at = _life(r, 40 * MINUTE)
    aways, now = [], 0
    while (now := now + round(r.expovariate(1 / (12 * MINUTE)))) < ends_at:
        woken = now + round(r.lognormvariate(0, 1) * 10 * MINUTE)
        aways.append(Away(begin=now, end=woken, asleep=True))
        now = woken
    return Life(
        shape="sleeping laptop",
        device=Device(kind="desktop", ip=ip),
        on_socket=True,
        signs=_signs(r, ends_at, tuple(aways), every=SIGN_OF_LIFE, jitter=400),
        aways=tuple(aways),
        drops=(),
        ends_at=ends_at,
        released=True,
        seen_to_end=True,
    )


def flaky_mobile(r: random.Random, ip: str) -> Life:
    """A phone on a socket: tunnels, and changes between Wi-Fi and radio. Four in ten just vanish."""
    ends_at = _life(r, 8 * MINUTE)
    aways = tuple(
        Away(begin=at, end=at + min(65 * SECOND, round(r.lognormvariate(0, 1) * 8 * SECOND)))
        for at in _poisson(r, ends_at, mean=2 * MINUTE)
    )
    changes = _poisson(r, ends_at, mean=4 * MINUTE)
    how = r.random()
    return Life(
        shape="flaky mobile",
        device=Device(kind="phone", ip=ip),
        on_socket=True,
        signs=_signs(r, ends_at, aways, every=SIGN_OF_LIFE, jitter=1_500),
        aways=aways,
        drops=tuple((at, at + r.randint(800, 6_000)) for at in changes),
        ends_at=ends_at,
        released=how >= 0.4,
        seen_to_end=how < 0.1,
    )


def office_desktop(r: random.Random, ip: str) -> Life:
    """A program in an office, whose line the simulation cuts for all of them at once."""
    life = steady_desktop(r, ip)
    return Life(**{x: getattr(life, x) for x in life.__struct_fields__} | {"shape": "office"})


SHAPES: dict[str, tuple[Shape, float]] = {
    "steady desktop": (steady_desktop, 0.25),
    "throttled tab": (throttled_tab, 0.15),
    "sleeping laptop": (sleeping_laptop, 0.20),
    "flaky mobile": (flaky_mobile, 0.15),
    "office": (office_desktop, 0.25),
}
"""Each shape, and its share of those who come."""


def next_life(r: random.Random, number: int) -> Life:
    """Make the life of the `number`th client."""
    name = r.choices(list(SHAPES), weights=[share for _, share in SHAPES.values()])[0]
    office = name == "office"
    ip = (
        f"198.51.100.{number % 250 + 1}" if office else f"10.{number // 250 % 250}.{number % 250}.1"
    )
    return SHAPES[name][0](r, ip)


def outages(r: random.Random, until: int) -> tuple[Away, ...]:
    """Say when the office has no line: about every 40 minutes, for 8 to 60 s."""
    return tuple(
        Away(begin=at, end=at + r.randint(8, 60) * SECOND)
        for at in _poisson(r, until, mean=40 * MINUTE)
    )


def cut(life: Life, outages: tuple[Away, ...], began: int) -> Life:
    """Return a life that began at an instant, in an office that has outages at other instants. What would
    have been said in one is said right after it."""
    own = tuple(
        Away(begin=max(0, x.begin - began), end=x.end - began)
        for x in outages
        if x.end > began and x.begin < began + life.ends_at
    )
    signs = [x for x in life.signs if not any(a.begin <= x.at < a.end for a in own)]
    signs += [Sign(at=a.end + 200) for a in own if a.end + 200 < life.ends_at]
    fields = {x: getattr(life, x) for x in life.__struct_fields__}
    fields |= {"signs": tuple(sorted(signs, key=lambda x: x.at)), "aways": (*life.aways, *own)}
    return Life(**fields)


def _life(r: random.Random, mean: int) -> int:
    return 30 * SECOND + round(r.expovariate(1 / mean))


def _poisson(r: random.Random, until: int, *, mean: int) -> list[int]:
    found, now = [], 0
    while (now := now + round(r.expovariate(1 / mean))) < until:
        found.append(now)
    return found


def _signs(
    r: random.Random, until: int, aways: tuple[Away, ...], *, every: int, jitter: int
) -> tuple[Sign, ...]:
    """Beat at a steady rate; whoever was away beats as soon as it is back."""
    signs, now = [], 0
    while (now := now + _jittered(r, every, jitter)) < until:
        away = next((x for x in aways if x.begin <= now < x.end), None)
        if away is not None:
            now = away.end + r.randint(50, 500)
        if now < until:
            signs.append(Sign(at=now))
    return tuple(signs)


def _jittered(r: random.Random, every: int, jitter: int) -> int:
    return max(1, every + round(abs(r.gauss(0, jitter))))


def _tab_beat(now: int, hidden_from: int) -> int:
    return THROTTLED_BEAT if now >= hidden_from else HTTP_BEAT
