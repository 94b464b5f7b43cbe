"""A server with seats held, silent and wanted, for the pages of the console that watch."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect
from tests.api_harness import World
from tests.browser.operators import Hospital, Operator

from sojourn.clock import HOUR, SECOND
from sojourn.device import Device
from sojourn.lease import Lease
from sojourn.ledger import Role
from sojourn.license import Policy, pool_id
from sojourn.plans.plan import SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.session import Begin
from sojourn.testing import builders

REVIEW = "review"
CAPACITY = 6
STORY = "grace"


def fill(place: Hospital) -> str:
    """Let people take all seats of a feature, some of whom fall silent, and others be refused. Return the
    license's id."""
    world = place.world
    license_, _ = world.services.licenses.create(
        "Müller & Söhne",
        {REVIEW: Policy(capacity=CAPACITY), "viewer": Policy(capacity=120)},
        actor="t",
    )
    name = pool_id(license_.id, REVIEW)
    ken = _take(world, name, "ken", "ws-022", "Firefox on Linux")
    _take(world, name, "maximiliane-theodora-von-und-zu", "tab-8", "Chrome on Windows")
    world.clock.advance(seconds=62)
    living = [
        _take(world, name, user, f"ws-{user}", "MacBook Pro")
        for user in ("radia", "leslie", "joan")
    ]
    leaving = _take(world, name, "vint", "laptop", "thinkpad")
    assert builders.beat(world.store, leaving, closing=True)
    for user in (STORY, "annie", STORY):
        builders.refused(world.store, user, "desk", pool_id=name)
        world.clock.advance(milliseconds=SECOND)
    assert [lease.pool_id for lease in (ken, *living)] == [name] * 4
    for user, device in (
        (STORY, "Safari on iPhone"),
        (STORY, "Chrome on Mac"),
        ("ken", "Firefox on Linux"),
    ):
        known = Device(name=device, kind="desktop", ip="192.0.2.44", place="Oslo")
        world.services.sessions.begin([Begin(user_id=user, device=known)])
    return license_.id


def _take(world: World, name: str, user: str, client: str, device: str) -> Lease:
    known = Device(name=device, kind="desktop")
    return builders.take(world.store, user, client, pool_id=name, device=known)


def see(path: str) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        license_id = fill(it.place)
        it.sign_in()
        it.page.goto("/console/" + path.replace("LICENSE", license_id))
        expect(it.title()).to_be_visible()

    return state


def nothing(path: str) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        it.sign_in()
        it.page.goto("/console/" + path)
        expect(it.title()).to_be_visible()

    return state


def asked(it: Operator) -> None:
    see(f"seats?license=LICENSE&feature={REVIEW}")(it)
    it.page.get_by_role("link", name="Free the seat of ken on Firefox on Linux").click()
    expect(it.button("Free the seat")).to_be_visible()


def freed(it: Operator) -> None:
    asked(it)
    it.button("Free the seat").click()
    expect(it.page.locator("#notice")).to_contain_text("The review seat of ken is free.")


def person_asked(wish: str) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        see(f"people?user=ken&ask={wish}")(it)
        expect(it.page.locator("#question")).to_be_visible()

    return state


def swept(it: Operator) -> None:
    """A plan, one that is paused, and what housekeeping did."""
    sweeps = it.place.world.app.context.sweeps
    for name, paused in (("nightly", False), ("on demand", True)):
        if name not in {plan.name for plan in sweeps.all()}:
            sweeps.create(
                name,
                SweepScope(silent_for=HOUR),
                Schedule(window="02:00-05:00", zone="Europe/Oslo"),
                paused=paused,
                actor="test",
            )
    it.place.world.services.sweeper.run(actor="system:sweep")
    nothing("sweeps")(it)


def viewer(it: Operator) -> None:
    license_id = fill(it.place)
    it.sign_in(Role.VIEWER)
    it.page.goto(f"/console/seats?license={license_id}&feature={REVIEW}")
    expect(it.page.get_by_role("link", name="Free")).to_have_count(0)


STATES: dict[str, Callable[[Operator], None]] = {
    "overview": see("overview"),
    "overview quiet": nothing("overview"),
    "seats": see("seats"),
    "seats none found": nothing("seats?q=nobody"),
    "pool": see(f"seats?license=LICENSE&feature={REVIEW}"),
    "pool large": see("seats?license=LICENSE&feature=viewer"),
    "pool suspects": see(f"seats?license=LICENSE&feature={REVIEW}&show=suspect"),
    "pool unknown": nothing("seats?license=lic_none&feature=none"),
    "pool asked": asked,
    "pool freed": freed,
    "pool viewer": viewer,
    "people": see("people"),
    "people quiet": nothing("people"),
    "person refused": see(f"people?user={STORY}"),
    "person silent": see("people?user=ken"),
    "person asked seats": person_asked("seats"),
    "person asked sessions": person_asked("sessions"),
    "person unknown": nothing("people?user=nobody"),
    "denials": see("denials"),
    "denials none": nothing("denials"),
    "audit": see("audit?show=all"),
    "audit none": nothing("audit"),
    "sessions": see("sessions"),
    "sessions of nobody": nothing("sessions?q=nobody"),
    "licenses": see("licenses"),
    "sweeps": swept,
    "sweeps none": nothing("sweeps"),
    "webhooks none": nothing("webhooks"),
    "keys": nothing("keys"),
    "nodes": nothing("nodes"),
}
