"""A server with keys, webhooks, nodes and a day of use, for the pages of the console that keep and set up."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect
from tests.api_harness import World
from tests.browser.operators import Hospital, Operator
from tests.browser.watching import fill

from sojourn.allotment import AllotmentWish, RelayBeat
from sojourn.api.webhooks import letter_of
from sojourn.clock import DAY, HOUR, MINUTE
from sojourn.lease import Lease
from sojourn.ledger import Instance, Role
from sojourn.license import Policy, pool_id
from sojourn.plans.plan import SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.testing import builders
from sojourn.webhook import DeliveryState, Outcome
from sojourn.webhook_store import Batch

CAPACITY = 24
SHOP = "https://shop.example/hooks/sojourn"


def work_a_week(place: Hospital) -> None:
    """Let people come and go for eight days, more by day than by night, until the afternoon of the last."""
    world = place.world
    policy = Policy(capacity=CAPACITY, heartbeat_interval=HOUR, lost_after=3 * HOUR)
    license_, _ = world.services.licenses.create("Acme Works", {"editor": policy}, actor="t")
    name = pool_id(license_.id, "editor")
    world.clock.advance(milliseconds=DAY - world.clock.now() % DAY)
    held: list[Lease] = []
    for hour in range(8 * 24 + 15):
        of_day, day = hour % 24, hour // 24
        wanted = 2 if not 7 <= of_day < 20 else min(CAPACITY, 6 + 4 * (6 - abs(13 - of_day)) + day)
        while len(held) > wanted:
            builders.give_back(world.store, held.pop())
        while len(held) < wanted:
            person = f"person-{len(held):02}"
            held.append(builders.take(world.store, person, f"desk-{hour}", pool_id=name))
        if wanted == CAPACITY and of_day in (12, 13):
            for who in ("grace", "annie")[: 1 + day % 2]:
                builders.refused(world.store, who, "desk", pool_id=name)
        world.clock.advance(milliseconds=HOUR)
        held = [lease for lease in held if builders.beat(world.store, lease) is not None]
    world.services.sweeper.run()
    world.clock.advance(milliseconds=20 * MINUTE)
    world.services.usage.tick()


def today(it: Operator) -> None:
    work_a_week(it.place)
    it.sign_in()
    it.page.goto("/console/overview")
    expect(it.page.locator("#today figure")).to_be_visible()


def refusals(it: Operator) -> None:
    fill(it.place)
    it.sign_in()
    it.page.goto("/console/overview?feed=refused")
    expect(it.page.locator("#feed-refused li")).to_have_count(3)


def without_license(it: Operator) -> None:
    world = it.place.world
    for license_, _ in world.services.licenses.list():
        world.services.licenses.delete(license_.id, actor="t")
    it.sign_in()
    it.page.goto("/console/overview")
    expect(it.page.get_by_role("heading", name="Three steps to the first seat")).to_be_visible()


def keys(world: World) -> dict[str, str]:
    """Make keys that nobody uses, that end soon, and that are revoked; return their ids."""
    service = world.services.keys
    made = {"old": service.create("the old dashboard", Role.VIEWER, actor="t")[0].id}
    world.clock.advance(milliseconds=100 * DAY)
    now = service.now()
    made["shop"] = service.create("shop backend", Role.APP, actor="t")[0].id
    made["soon"] = service.create("contractor", Role.OPERATOR, expires_at=now + 5 * DAY, actor="t")[
        0
    ].id
    made["gone"] = service.create("left in 2025", Role.ADMIN, actor="t")[0].id
    service.revoke(made["gone"], actor="t")
    service.uses.note(made["shop"], now - 12 * MINUTE)
    return made


def see_keys(it: Operator) -> None:
    keys(it.place.world)
    it.sign_in()
    it.page.goto("/console/keys")
    expect(it.title()).to_contain_text("1 key ends within two weeks.")


def key_made(it: Operator) -> None:
    see_keys(it)
    it.page.get_by_label("Who or what will use it").fill("dashboard of the lobby")
    it.button("Make the key").click()
    expect(it.page.locator(".secret code")).to_contain_text("sja_")


def key_asked(it: Operator) -> None:
    made = keys(it.place.world)
    it.sign_in()
    it.page.goto(f"/console/keys?ask={made['shop']}")
    expect(it.button("Revoke it")).to_be_visible()


def deliver(place: Hospital) -> str:
    """Make a webhook most of whose deliveries arrived; one was given up, and some wait. Return its id."""
    world = place.world
    fill(place)
    book = world.services.ledger.webhooks
    desk = world.app.context.outbound.desk
    made, _ = desk.create(SHOP, description="The shop", actor="t")
    desk.create("https://siem.example/in", kinds=("lease.denied",), actor="t")
    events = world.store.events(limit=30)
    letters = tuple(letter_of(event) for event in events)
    newest = world.store.events(limit=1, newest_first=True)[0].id
    batch = Batch(webhook_id=made.id, position=made.position, read_to=newest, letters=letters)
    book.enqueue([batch])
    claim = book.claim(made.id, "t", lease=60_000, limit=len(letters) - 3)
    assert claim is not None
    outcomes = []
    for number, each in enumerate(claim.deliveries):
        dead = number == 4
        state = DeliveryState.DEAD if dead else DeliveryState.DELIVERED
        error = "The receiver answered 500." if dead else None
        status = 500 if dead else 204
        tries = 10 if dead else 1
        outcomes.append(
            Outcome(seq=each.seq, attempts=tries, state=state, status=status, error=error)
        )
    book.settle(claim, "t", outcomes, lease=0)
    return made.id


def behind_on_overview(it: Operator) -> None:
    deliver(it.place)
    it.place.world.clock.advance(milliseconds=22 * MINUTE)
    it.sign_in()
    it.page.goto("/console/overview")
    expect(it.page.get_by_text("shop.example does not answer")).to_be_visible()


def network(it: Operator) -> None:
    """All who hold a seat have fallen silent at once."""
    world = it.place.world
    license_, _ = world.services.licenses.create("Acme", {"cad": Policy(capacity=5)}, actor="t")
    for number in range(4):
        name = pool_id(license_.id, "cad")
        builders.take(world.store, f"user-{number}", f"ws-{number}", pool_id=name)
    world.clock.advance(seconds=62)
    it.sign_in()
    it.page.goto(f"/console/seats?license={license_.id}&feature=cad")
    expect(it.title()).to_contain_text("look at the network first")


def overdue(it: Operator) -> None:
    """A plan that nobody carries out, since the clock of this server stands still."""
    it.place.world.app.context.sweeps.create(
        "nightly",
        SweepScope(silent_for=HOUR),
        Schedule(window="02:00-05:00", zone="Europe/Oslo"),
        paused=False,
        actor="test",
    )
    it.place.world.clock.advance(milliseconds=DAY + 2 * HOUR)
    it.sign_in()
    it.page.goto("/console/sweeps")
    expect(it.title()).to_contain_text("A run is overdue")


def see_webhook(more: str = "", role: Role | None = None) -> Callable[[Operator], None]:
    def state(it: Operator) -> None:
        webhook_id = deliver(it.place)
        it.sign_in(role)
        it.page.goto(f"/console/webhooks?webhook={webhook_id}{more}")
        expect(it.page.locator(".strip")).to_be_visible()

    return state


def webhook_behind(it: Operator) -> None:
    webhook_id = deliver(it.place)
    it.place.world.clock.advance(milliseconds=22 * MINUTE)
    it.sign_in()
    it.page.goto(f"/console/webhooks?webhook={webhook_id}")
    expect(it.title()).to_contain_text("shop.example does not answer.")


def webhook_made(it: Operator) -> None:
    it.sign_in()
    it.page.goto("/console/webhooks")
    it.page.get_by_label("Address of the receiver").fill("https://example.com/hooks")
    it.button("Make the webhook").click()
    expect(it.page.locator(".secret code")).to_contain_text("whsec_")


def beat(world: World, relay: str, license_id: str) -> None:
    """Let a relay ask for seats, and say then that its clients hold most of them."""
    wanted = {"editor": 6, "viewer": 30}
    wishes = [AllotmentWish(pool_id(license_id, name), want=want) for name, want in wanted.items()]
    asked = RelayBeat(relay, "life", 1, 0, tuple(wishes))
    (answer,) = world.store.allot([asked], ttl=HOUR)
    held = tuple(
        AllotmentWish(each.pool_id, each.seats, each.fence, each.seats * 2 // 3, each.seats)
        for each in answer.grants
    )
    world.store.allot([RelayBeat(relay, "life", 2, answer.epoch, held)], ttl=HOUR)


def nodes(it: Operator) -> None:
    """Servers that do not agree, a relay with seats, and one that has not been heard for a while."""
    world = it.place.world
    license_, _ = world.services.licenses.create(
        "Acme Works", {"editor": Policy(capacity=40), "viewer": Policy(capacity=200)}, actor="t"
    )
    for number, name in enumerate(("oslo", "singapore")):
        key, _ = world.services.keys.create(name, Role.RELAY, actor="t")
        beat(world, key.id, license_.id)
        world.clock.advance(milliseconds=0 if number else 2 * MINUTE)
    for host, version in (("alpha", "1.4.0"), ("beta", "1.4.0"), ("gamma", "1.3.9")):
        world.services.ledger.register(
            Instance(
                id=f"srv_{host}", host=host, pid=7, version=version, fingerprints=("3f9a1c02",)
            )
        )
    it.sign_in()
    it.page.goto("/console/nodes")
    expect(it.page.locator("#relay-2")).to_be_visible()


STATES: dict[str, Callable[[Operator], None]] = {
    "overview today": today,
    "overview refusals": refusals,
    "overview first": without_license,
    "keys": see_keys,
    "key made": key_made,
    "key asked": key_asked,
    "webhook": see_webhook(),
    "webhook viewer": see_webhook(role=Role.VIEWER),
    "webhook given up": see_webhook("&show=dead"),
    "webhook delete asked": see_webhook("&ask=delete"),
    "webhook replay asked": see_webhook("&ask=replay"),
    "webhook behind": webhook_behind,
    "webhook made": webhook_made,
    "overview webhook": behind_on_overview,
    "pool network": network,
    "sweeps overdue": overdue,
    "nodes": nodes,
}
