"""A small world around the relays' protocol: two relays, one authority, three seats, and a bad network.

Messages are lost, doubled, reordered and late; relays restart; their clocks lag by as much as is allowed for;
the authority is put back to an earlier state. What is played is the product's own code. Time is in ticks.

`walk` takes one random way through it, `explore` all ways up to a depth. Both hold every state to `sold`:
seats that somebody may believe to have are never more than there are. `settle` then lets the network be good,
and asks whether every seat can be had again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn import allotment
from sojourn.allotment import Authority, Shares
from sojourn.relays import share
from sojourn.relays.messages import RelayAnswer, RelayBeat
from sojourn.relays.share import Relay, Share

SEATS, POOL, TTL, MARGIN = 3, "pool", 6, 2
LAG_EVERY = (
    3  # ticks between two in which a relay's clock may stand still: MARGIN allows for two in TTL
)
FLYING_MAX = 6  # messages of each relay that are still on their way; older ones are lost
NAMES = ("east", "west")
WANTS = (0, 1, SEATS)


class World(Struct, frozen=True):
    """Attributes: clocks: of relays; lagged: when each last stood still; flying: messages, oldest first;
    backup: of the authority; lives: how many processes there were; restores: how many are left."""

    authority: Authority
    relays: tuple[Relay, ...]
    now: int = 0
    clocks: tuple[int, ...] = (0, 0)
    lagged: tuple[int, ...] = (-LAG_EVERY, -LAG_EVERY)
    flying: tuple[tuple[RelayBeat | RelayAnswer, int], ...] = ()
    backup: Authority | None = None
    lives: int = 2
    restores: int = 1


def begun(*, restores: int = 1) -> World:
    relays = tuple(Relay(name, f"life-{i}") for i, name in enumerate(NAMES))
    known = {name: allotment.Known() for name in NAMES}
    pools = {POOL: Shares(SEATS, ttl=TTL)}
    return World(Authority(pools=pools, relays=known), relays, restores=restores)


def of_pool(relay: Relay) -> Share:
    return relay.shares.get(POOL, Share())


def sold(world: World) -> int:
    """Count the seats that somebody may hold, or may be given, at this instant."""
    own = world.authority.pools[POOL].own
    for relay, clock in zip(world.relays, world.clocks, strict=True):
        mine = of_pool(relay)
        if clock < mine.deadline:
            own += max(mine.seats, mine.held)
    return own


# Actions: each returns the world after it, or None where it cannot be


def _with(world: World, i: int, relay: Relay) -> World:
    relays = tuple(relay if k == i else each for k, each in enumerate(world.relays))
    return replace(world, relays=relays)


def _fly(world: World, message: RelayBeat | RelayAnswer, i: int) -> World:
    mine = [each for each in world.flying if each[1] == i][-FLYING_MAX + 1 :]
    others = [each for each in world.flying if each[1] != i]
    return replace(world, flying=(*others, *mine, (message, i)))


def tick(world: World, lags: int | None) -> World | None:
    clocks, lagged = list(world.clocks), list(world.lagged)
    for i in range(len(NAMES)):
        if i != lags:
            clocks[i] += 1
        elif world.now - lagged[i] < LAG_EVERY:
            return None
        else:
            lagged[i] = world.now
    return replace(world, now=world.now + 1, clocks=tuple(clocks), lagged=tuple(lagged))


def speak(world: World, i: int, want: int) -> World:
    relay, beat = share.speak(world.relays[i], {POOL: want}, world.clocks[i])
    return _fly(_with(world, i, relay), beat, i)


def deliver(world: World, k: int) -> World:
    """Deliver a message, which may come again: it is lost when others have followed."""
    message, i = world.flying[k]
    if isinstance(message, RelayBeat):
        authority, answer = allotment.hear(world.authority, message, world.now)
        return _fly(replace(world, authority=authority), answer, i)
    return _with(world, i, share.listen(world.relays[i], message, world.clocks[i], margin=MARGIN))


def restart(world: World, i: int) -> World:
    """A new process goes on from what was committed."""
    relay = replace(world.relays[i], life=f"life-{world.lives}", sent={})
    return replace(_with(world, i, relay), lives=world.lives + 1)


def _hold(world: World, i: int, mine: Share) -> World:
    relay = world.relays[i]
    return _with(world, i, replace(relay, shares={**relay.shares, POOL: mine}))


def sit(world: World, i: int) -> World | None:
    relay = share.expire(world.relays[i], world.clocks[i])
    mine = of_pool(relay)
    if not share.may_grant(mine, world.clocks[i], stop=0):
        return None
    if world.clocks[i] >= of_pool(world.relays[i]).deadline:
        raise Oversold("a seat was granted past the deadline")
    return _hold(_with(world, i, relay), i, replace(mine, held=mine.held + 1))


def leave(world: World, i: int) -> World | None:
    mine = of_pool(world.relays[i])
    return _hold(world, i, replace(mine, held=mine.held - 1)) if mine.held else None


def give_back(world: World, i: int) -> World | None:
    mine = of_pool(world.relays[i])
    return _hold(world, i, share.give_back(mine, 0)) if mine.seats > mine.held else None


def own(world: World, more: int) -> World | None:
    """The authority's own clients: they take what is free, in the step in which that is looked at."""
    authority = world.authority
    pool = allotment.expire(authority.pools[POOL], world.now)
    if more > 0 and (pool.free < 1 or authority.doubts(world.now)):
        return None
    if more < 0 and not pool.own:
        return None
    pool = replace(pool, own=pool.own + more)
    return replace(world, authority=replace(authority, pools={POOL: pool}))


def resize(world: World, capacity: int) -> World | None:
    """An operator sells fewer seats, and as many as before: nobody loses one for it."""
    pool = world.authority.pools[POOL]
    if pool.capacity == capacity:
        return None
    pools = {POOL: replace(pool, capacity=capacity)}
    return replace(world, authority=replace(world.authority, pools=pools))


def back_up(world: World) -> World | None:
    """Only of a state without own seats: whoever sits there comes back by tokens, which is another story."""
    if world.authority.pools[POOL].own or not world.restores:
        return None
    return replace(world, backup=world.authority)


def restore(world: World) -> World | None:
    if world.backup is None or not world.restores or world.authority.pools[POOL].own:
        return None  # a backup knows the capacity of then, which is the most there is, or less
    authority = allotment.restored(world.backup, world.now)
    return replace(world, authority=authority, backup=None, restores=world.restores - 1)


def actions(world: World) -> Iterator[tuple[str, Any]]:
    """Name whatever can happen next."""
    yield "tick", partial(tick, lags=None)
    yield "backup", back_up
    yield "restore", restore
    yield "fewer", partial(resize, capacity=SEATS - 1)
    yield "as before", partial(resize, capacity=SEATS)
    yield "own+1", partial(own, more=1)
    yield "own-1", partial(own, more=-1)
    for k in range(len(world.flying)):
        yield f"deliver {k}", partial(deliver, k=k)
    for i, name in enumerate(NAMES):
        yield f"{name} lags", partial(tick, lags=i)
        for want in WANTS:
            yield f"{name} wants {want}", partial(speak, i=i, want=want)
        yield f"{name} restarts", partial(restart, i=i)
        yield f"{name} grants", partial(sit, i=i)
        yield f"{name} is left", partial(leave, i=i)
        yield f"{name} gives back", partial(give_back, i=i)


class Oversold(AssertionError):
    pass


class Lost(AssertionError):
    pass


def check(world: World, way: list[str]) -> None:
    if sold(world) > SEATS:
        raise Oversold(f"{sold(world)} of {SEATS} seats after: " + ", ".join(way))


def settle(world: World, way: list[str]) -> None:
    """Let everybody leave and all messages come: then one relay can have every seat."""

    def talk(i: int, want: int) -> None:
        nonlocal world
        mine = of_pool(world.relays[i])
        world = _hold(world, i, share.give_back(replace(mine, held=0), 0))
        world = speak(world, i, want)
        world = deliver(world, len(world.flying) - 1)
        world = deliver(world, len(world.flying) - 1)
        check(world, [*way, "settling"])

    world = replace(world, flying=())
    pool = replace(world.authority.pools[POOL], own=0, capacity=SEATS)
    world = replace(world, authority=replace(world.authority, pools={POOL: pool}))
    for _ in range(3):
        for i in range(len(NAMES)):
            talk(i, 0)
    talk(0, SEATS)
    if of_pool(world.relays[0]).seats != SEATS:
        raise Lost(f"{of_pool(world.relays[0])} of {SEATS} seats after: " + ", ".join(way))


def walk(seed: int, steps: int, *, restores: int = 1) -> None:
    """Take one random way. Messages are delivered often, and time goes by often, or nothing would happen."""
    chosen, world, way = random.Random(seed), begun(restores=restores), []
    for _ in range(steps):
        possible = [
            (name, act, 5 if name.startswith("deliver") else 4 if name == "tick" else 1)
            for name, act in actions(world)
        ]
        [(name, act, _)] = chosen.choices(possible, [weight for _, _, weight in possible])
        after = act(world)
        if after is None:
            continue
        world = after
        way.append(name)
        check(world, way)
    settle(world, way)


def _key(value: Any) -> Any:
    if isinstance(value, Struct):
        return (type(value).__name__, *(_key(getattr(value, f)) for f in value.__struct_fields__))
    if isinstance(value, dict | MappingProxyType):
        return tuple(sorted((k, _key(v)) for k, v in value.items()))
    if isinstance(value, tuple):
        return tuple(_key(each) for each in value)
    return value


def explore(depth: int, *, restores: int, without: tuple[str, ...] = ()) -> int:
    """Take every way of so many steps, each state once; return how many states there are."""
    first = begun(restores=restores)
    known: set[Any] = {_key(first)}
    waiting: deque[tuple[World, list[str]]] = deque([(first, [])])
    while waiting:
        world, way = waiting.popleft()
        if len(way) >= depth:
            continue
        for name, act in actions(world):
            if any(word in name for word in without):
                continue
            after = act(world)
            if after is None or (key := _key(after)) in known:
                continue
            known.add(key)
            check(after, [*way, name])
            waiting.append((after, [*way, name]))
    return len(known)
