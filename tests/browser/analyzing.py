"""A server whose seats were used for four weeks, for the page of analytics."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect
from tests.browser.operators import Hospital, Operator

from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.lease import Lease
from sojourn.ledger import Role
from sojourn.license import Policy, pool_id
from sojourn.testing import builders

FEATURE = "render"
CAPACITY = 12
WEEKS = 4


def work(place: Hospital) -> str:
    """Let people work for four weeks: more by day than by night, fewer at weekends; some fall silent, and on
    Thursdays somebody is refused. Return the license's id."""
    world = place.world
    policy = Policy(
        capacity=CAPACITY, heartbeat_interval=HOUR, lost_after=3 * HOUR, linger=10 * MINUTE
    )
    license_, _ = world.services.licenses.create("Müller & Söhne", {FEATURE: policy}, actor="t")
    name = pool_id(license_.id, FEATURE)
    held: dict[str, Lease] = {}
    for hour in range(WEEKS * 7 * 24):
        wanted = _wanted(world.clock.now())
        for person in list(held)[: max(0, len(held) - wanted)]:
            lease = held.pop(person)
            if (hour + len(person)) % 5:
                builders.give_back(world.store, lease)
        while len(held) < wanted:
            number = next(i for i in range(40) if f"person-{(hour + i) % 17:02}" not in held)
            person = f"person-{(hour + number) % 17:02}"
            asked = builders.acquire(person, f"desk-{number % 5}", pool_id=name)
            answer = world.store.acquire([asked])[0]
            if not isinstance(answer, Lease):
                break
            held[person] = answer
        for lease in held.values():
            builders.beat(world.store, lease)
        world.store.pulse()
        world.clock.advance(milliseconds=HOUR)
        if hour % 4 == 3:
            world.services.sweeper.run()
    world.services.sweeper.run()
    world.services.usage.tick()
    return license_.id


def _wanted(now: int) -> int:
    hour, weekday = now // HOUR % 24, (now // DAY + 3) % 7
    if weekday > 4:
        return 1 if 9 <= hour < 17 else 0
    most = CAPACITY + (2 if weekday == 3 else -2 - weekday)
    return max(1, most - abs(13 - hour)) if 7 <= hour < 20 else 1


def see(query: str = "") -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        license_id = work(it.place)
        it.sign_in()
        it.page.goto(f"/console/analytics?license={license_id}&feature={FEATURE}&{query}")
        expect(it.title()).to_be_visible()

    return state


def nothing(it: Operator) -> None:
    """A server without a license."""
    it.sign_in()
    it.page.goto("/console/analytics")
    expect(it.title()).to_be_visible()


def too_little(it: Operator) -> None:
    """A license that nobody has used yet."""
    world = it.place.world
    license_, _ = world.services.licenses.create(
        "New", {FEATURE: Policy(capacity=CAPACITY)}, actor="t"
    )
    it.sign_in()
    it.page.goto(f"/console/analytics?license={license_.id}&feature={FEATURE}")
    expect(it.title()).to_contain_text("Nothing is known")


def viewer(it: Operator) -> None:
    license_id = work(it.place)
    it.sign_in(Role.VIEWER)
    it.page.goto(f"/console/analytics?license={license_id}&feature={FEATURE}")
    expect(it.page.get_by_role("button", name="Replay")).to_be_visible()


STATES: dict[str, Callable[[Operator], None]] = {
    "analytics": see("range=7d"),
    "analytics month": see("range=30d&seats=2"),
    "analytics year": see("range=365d"),
    "analytics wrong": see("seats=many"),
    "analytics nothing": nothing,
    "analytics too little": too_little,
    "analytics viewer": viewer,
}
