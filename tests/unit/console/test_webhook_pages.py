"""Webhooks at the console, without a browser: facts for every role, actions for those that may."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.api_harness import Api, api
from tests.unit.console.test_console import SECRET, get, post, sign_in
from tests.unit.console.test_setup_pages import ROLES, make, read

from sojourn.api.console import webhooks as pages
from sojourn.api.webhooks import letter_of
from sojourn.clock import HOUR
from sojourn.ledger import Role
from sojourn.license import Policy
from sojourn.testing import builders
from sojourn.webhook import DeliveryState, Outcome
from sojourn.webhook_store import Batch

URL = "https://example.com/hooks"


@pytest.fixture
def world() -> Iterator[Api]:
    with api(secret=(SECRET,)) as world:
        yield world


@pytest.fixture
def hook(world: Api) -> str:
    """A webhook of whose seven deliveries one waits, one was given up, and five arrived."""
    made, _ = world.app.context.outbound.desk.create(URL, description="shop", actor="test")
    _, name = make(world, Policy(capacity=20))
    for number in range(7):
        builders.take(world.store, f"user-{number}", pool_id=name)
    letters = tuple(letter_of(event) for event in world.store.events(limit=7))
    book = world.services.ledger.webhooks
    newest = world.store.events(limit=1, newest_first=True)[0].id
    batch = Batch(webhook_id=made.id, position=made.position, read_to=newest, letters=letters)
    assert book.enqueue([batch]) == 7
    claim = book.claim(made.id, "test", lease=60_000, limit=6)
    assert claim is not None
    done = DeliveryState.DELIVERED
    outcomes = [
        Outcome(seq=each.seq, attempts=1, state=done, status=200) for each in claim.deliveries[1:]
    ]
    dead = Outcome(
        seq=claim.deliveries[0].seq,
        attempts=10,
        state=DeliveryState.DEAD,
        status=500,
        error="The receiver answered 500.",
    )
    assert book.settle(claim, "test", [dead, *outcomes], lease=0)
    return made.id


def states(world: Api, webhook_id: str) -> dict[str, int]:
    found = world.services.ledger.webhooks.deliveries(webhook_id)
    return {
        state.value: sum(each.state is state for each in found)
        for state in DeliveryState
        if any(each.state is state for each in found)
    }


@pytest.mark.parametrize("role", ROLES)
def test_roles_hide_actions_and_never_facts(world: Api, hook: str, role: Role) -> None:
    cookie = sign_in(world, world.keys[role])
    may = role is not Role.VIEWER
    all_ = get(world, "webhooks", cookie).body.decode()
    assert URL in all_
    assert ("Make the webhook" in all_) is may
    page = read(get(world, f"webhooks?webhook={hook}&ask=delete", cookie))
    assert "The receiver answered 500." in page
    assert "Given up" in page
    assert page.count("· 1 try ·") == 5
    assert ("Delete the webhook to" in page) is may
    assert ("Send a test" in page) is may
    for wish in ("pause", "delete", "rotate", "test", "replay-dead"):
        said = read(post(world, "webhooks", cookie, do=wish, webhook=hook)) if not may else ""
        assert ("may look, and not do this" in said) is not may
    assert states(world, hook) == {"pending": 1, "delivered": 5, "dead": 1}


def test_one_is_made_and_its_secret_shown_once(world: Api) -> None:
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    page = post(world, "webhooks", cookie, do="make", url=URL, description="", kind="lease.denied")
    secrets = re.findall(r"whsec_[A-Za-z0-9+/=]+", page.body.decode())
    (made,) = world.services.ledger.webhooks.all()
    assert secrets == [made.secrets[0].text]
    assert made.kinds == ("lease.denied",)
    assert b"whsec_" not in get(world, f"webhooks?webhook={made.id}", cookie).body
    assert b"whsec_" not in get(world, "webhooks", cookie).body


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"url": "http://10.0.0.1/"}, ""),
        ({"url": "nonsense"}, ""),
        ({"url": URL, "kind": "lease.nonsense"}, "there is no event"),
        ({"url": URL, "description": "x" * 3_000}, ""),
    ],
)
def test_what_cannot_be_is_said(world: Api, form: dict[str, str], said: str) -> None:
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    page = post(world, "webhooks", cookie, do="make", **form)
    assert page.status == 200
    assert b'class="notice failure"' in page.body
    assert said in read(page)
    assert world.services.ledger.webhooks.all() == []


def test_it_is_paused_and_goes_on(world: Api, hook: str) -> None:
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    assert "is paused." in read(post(world, "webhooks", cookie, do="pause", webhook=hook))
    assert not world.app.context.outbound.desk.get(hook).enabled
    world.clock.advance(milliseconds=HOUR)  # who is paused is not behind
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    assert "Behind" not in read(get(world, "webhooks", cookie))
    assert "goes on" in read(post(world, "webhooks", cookie, do="resume", webhook=hook))
    assert world.app.context.outbound.desk.get(hook).enabled
    page = read(get(world, f"webhooks?webhook={hook}", cookie))
    assert "example.com does not answer. 1 event waits, the oldest for 1 h 00 min." in page


def test_one_or_many_are_sent_again(world: Api, hook: str) -> None:
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    arrived = world.services.ledger.webhooks.deliveries(hook, state=DeliveryState.DELIVERED)
    seq = str(arrived[0].seq)
    said = read(post(world, "webhooks", cookie, do="replay", webhook=hook, delivery=seq))
    assert f"Delivery {seq} is sent again." in said
    assert states(world, hook) == {"pending": 2, "delivered": 4, "dead": 1}
    said = read(post(world, "webhooks", cookie, do="replay-dead", webhook=hook))
    assert "1 event is sent again." in said
    assert "None was given up." in read(
        post(world, "webhooks", cookie, do="replay-dead", webhook=hook)
    )
    said = read(post(world, "webhooks", cookie, do="replay-from", webhook=hook, event="1"))
    assert "Everything from event 1 on is sent again." in said
    for form in ({"do": "replay", "delivery": "999"}, {"do": "replay-from", "event": "x"}):
        refused = post(world, "webhooks", cookie, webhook=hook, **form)
        assert b'class="notice failure"' in refused.body


def test_it_is_tried_gets_a_new_secret_and_is_deleted(world: Api, hook: str) -> None:
    cookie = sign_in(world, world.keys[Role.OPERATOR])
    assert "A test is on its way" in read(post(world, "webhooks", cookie, do="test", webhook=hook))
    latest = world.services.ledger.webhooks.deliveries(hook, limit=1)[0]
    assert latest.kind == "webhook.test"
    page = post(world, "webhooks", cookie, do="rotate", webhook=hook)
    found = world.app.context.outbound.desk.get(hook)
    assert len(found.secrets) == 2
    assert re.findall(r"whsec_[A-Za-z0-9+/=]+", page.body.decode()) == [found.secrets[0].text]
    page = post(world, "webhooks", cookie, do="delete", webhook=hook)
    assert "The webhook is deleted" in read(page)
    assert "No events are sent anywhere." in read(page)
    gone = get(world, f"webhooks?webhook={hook}", cookie)
    assert gone.status == 404
    assert "There is no such webhook." in read(gone)


def test_deliveries_are_read_page_by_page_and_by_state(
    world: Api, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "DELIVERIES", 2)
    cookie, path, found = sign_in(world), f"webhooks?webhook={hook}", []
    while path:
        page = get(world, path, cookie).body.decode()
        found += [int(seq) for seq in re.findall(r"Delivery (\d+),", page)]
        more = re.search(r'href="(webhooks\?[^"]*before=[^"]+)"', page)
        path = more[1].replace("&amp;", "&") if more else ""
    assert found == [7, 6, 5, 4, 3, 2, 1]
    dead = get(world, f"webhooks?webhook={hook}&show=dead", cookie).body.decode()
    assert re.findall(r"Delivery (\d+),", dead) == ["1"]
