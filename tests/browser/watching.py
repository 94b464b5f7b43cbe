"""A server with seats held, silent and wanted, for the pages of the console that watch."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect
from tests.api_harness import World
from tests.browser.operators import Hospital, Operator

from sojourn.api.context import Given
from sojourn.cli.source import HELP
from sojourn.clock import HOUR, SECOND
from sojourn.device import Device
from sojourn.lease import Denied, Lease
from sojourn.ledger import Role
from sojourn.license import Policy, Reservation, pool_id
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


def kept(place: Hospital) -> str:
    """A pool with reservations, two holders above its capacity, and a line. Return the license's id."""
    world = place.world
    policy = Policy(
        capacity=5,
        overdraft=2,
        reservations=(
            Reservation(name="support", seats=2, users=("ann", "bob"), groups=("staff",)),
            Reservation(name="kiosk", seats=1, kinds=("tablet",)),
        ),
    )
    license_, _ = world.services.licenses.create("Northwind", {"desk": policy}, actor="t")
    name = pool_id(license_.id, "desk")
    for user in ("ann", "edsger", "hedy", "barbara", "linus"):
        _take(world, name, user, f"ws-{user}", "MacBook Pro")
    for user in ("tim", "grace"):
        wanted = builders.acquire(user, "desk", pool_id=name, wait=True)
        assert isinstance(world.store.acquire([wanted])[0], Denied)
        world.clock.advance(milliseconds=SECOND)
    return license_.id


def see_kept(path: str) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        license_id = kept(it.place)
        it.sign_in()
        it.page.goto("/console/" + path.replace("LICENSE", license_id))
        expect(it.title()).to_be_visible()

    return state


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


def asked_several(it: Operator) -> None:
    see(f"seats?license=LICENSE&feature={REVIEW}")(it)
    for who in ("ken on Firefox on Linux", "radia on MacBook Pro"):
        it.page.get_by_role("checkbox", name=f"Select {who}").check()
    it.button("Free selected…").click()
    expect(it.button("Free 2 seats")).to_be_visible()


def freed(it: Operator) -> None:
    asked(it)
    it.button("Free the seat").click()
    expect(it.page.locator("#notice")).to_contain_text("The review seat of ken is free.")


def person_asked(wish: str) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        see(f"people?user=ken&ask={wish}")(it)
        expect(it.page.locator("#question")).to_be_visible()

    return state


def settings(path: str) -> Callable[[Operator], None]:
    """As `serve` knows them: with words, and where each came from."""

    def state(it: Operator) -> None:
        origins = {"secret": "SOJOURN_SECRET_FILE", "site_name": "sojourn.toml"}
        it.place.world.app.context.given = Given(origins=origins, words=HELP)
        nothing(path)(it)

    return state


def webhooks(it: Operator) -> None:
    desk = it.place.world.app.context.outbound.desk
    if not desk.all():
        for url, kinds in (
            ("https://shop.example/hooks/sojourn", ("lease.denied", "lease.expired")),
            ("https://siem.example/in", ()),
        ):
            desk.create(url, kinds=kinds, description="The shop", actor="test")
    nothing("webhooks")(it)


def own_asked(it: Operator) -> None:
    """Signed in twice: here, and elsewhere."""
    it.sign_in()
    it.sign_in()
    it.page.goto("/console/security")
    it.page.get_by_role("link", name="Sign out other devices").click()
    expect(it.title()).to_contain_text("1 other session")
    expect(it.page.locator("#question")).to_be_visible()


def session_asked(it: Operator) -> None:
    see("sessions")(it)
    it.page.get_by_role("link", name="Sign ken out of Firefox on Linux").click()
    expect(it.page.locator("#question")).to_be_visible()


def device_asked(it: Operator) -> None:
    see("people?user=ken")(it)
    it.page.get_by_role("link", name="Sign out Firefox on Linux").click()
    expect(it.page.locator("#question")).to_contain_text("Sign ken out of Firefox on Linux?")


def palette(it: Operator) -> None:
    see("overview")(it)
    it.page.keyboard.press("Control+k")
    it.page.keyboard.type("re")
    expect(it.page.locator("#palette .hits")).to_contain_text("review")


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
    "pool asked several": asked_several,
    "pool freed": freed,
    "pool kept": see_kept("seats?license=LICENSE&feature=desk"),
    "seats kept": see_kept("seats"),
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
    "session asked": session_asked,
    "person asked device": device_asked,
    "person did you mean": see("people?user=maxi"),
    "find": see("find?q=e"),
    "find nothing": nothing("find?q=nothing-at-all"),
    "find anything": nothing("find"),
    "palette": palette,
    "own security": nothing("security"),
    "own security asked": own_asked,
    "settings": settings("settings"),
    "settings changed": settings("settings?show=changed"),
    "settings none found": nothing("settings?q=unheard-of"),
    "sessions of nobody": nothing("sessions?q=nobody"),
    "licenses": see("licenses"),
    "license": see_kept("licenses?license=LICENSE"),
    "license change": see_kept("licenses?license=LICENSE&feature=desk&capacity=4"),
    "license suspend": see_kept("licenses?license=LICENSE&ask=suspend"),
    "license unknown": nothing("licenses?license=lic_none"),
    "sweeps": swept,
    "sweeps none": nothing("sweeps"),
    "webhooks": webhooks,
    "webhooks none": nothing("webhooks"),
    "keys": nothing("keys"),
    "nodes": nothing("nodes"),
}
