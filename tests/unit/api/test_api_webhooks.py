"""Webhooks over HTTP: who may, what is answered, what is kept to oneself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Api, api
from tests.receiver import Receiver, receiving, signed_by

from sojourn.client import verify_webhook
from sojourn.ledger import Role

HOOKS = "/api/webhooks"
PUBLIC = "https://hooks.example/sojourn"
DEADLINE = 20.0


@pytest.fixture
def world() -> Iterator[Api]:
    with api(webhook_reach="loopback") as world:
        yield world


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def make(world: Api, url: str = PUBLIC, **more: Any) -> Any:
    answer = world.admin("POST", HOOKS, json={"url": url, **more})
    assert answer.status == 201, answer.body
    return answer.data


def path(made: Any, *rest: str) -> str:
    return "/".join((HOOKS, made["webhookId"], *rest))


def send(world: Api) -> None:
    deliverer = world.app.context.outbound.deliverer
    deliverer.tick()
    assert deliverer.idle(DEADLINE)


def test_the_secret_is_shown_once(world: Api) -> None:
    made = make(world, kinds=["lease.denied", "lease.denied"], description="Shop")
    assert made["secret"].startswith("whsec_")
    assert made["kinds"] == ["lease.denied"]
    del made["secret"]
    assert world.admin("GET", HOOKS).data["items"] == [made]
    assert world.admin("GET", path(made)).data == made
    rotated = world.admin("POST", path(made, "rotate-secret"), json={"keepOld": 60}).data
    secret = rotated.pop("secret")
    assert rotated == made
    seen = [world.admin("GET", HOOKS), world.admin("GET", path(made))]
    assert all(b"whsec_" not in x.body for x in seen)
    assert secret not in str(world.ledger.audits())


def test_what_happens_arrives_as_the_events_show_it(world: Api, receiver: Receiver) -> None:
    made = make(world, receiver.url)
    world.seat()
    world.acquire("bob")
    world.acquire("eve")
    send(world)
    events = world.admin("GET", "/api/events").data["items"]
    assert [x.json["data"] for x in receiver.received] == events[-3:]
    assert [x.json["type"] for x in receiver.received][-1] == "lease.denied"
    for received in receiver.received:
        assert signed_by(made["secret"], received)
        now = world.clock.now() / 1000
        message = verify_webhook(received.headers, received.body, made["secret"], now=now)
        assert message.data == received.json["data"]
    page = world.admin("GET", path(made, "deliveries?limit=2")).data
    assert [x["deliveryId"] for x in page["items"]] == [3, 2]
    rest = world.admin("GET", path(made, f"deliveries?after={page['next']}")).data
    assert rest["next"] is None
    [first] = rest["items"]
    assert (first["state"], first["attempts"], first["lastStatus"]) == ("delivered", 1, 204)
    assert first["messageId"] == receiver.received[0].id
    assert world.admin("GET", path(made, "deliveries?state=dead")).data["items"] == []


def test_a_test_event(world: Api, receiver: Receiver) -> None:
    made = make(world, receiver.url, kinds=["session.ended"])
    answer = world.admin("POST", path(made, "test"))
    assert answer.status == 202
    assert answer.data["state"] == "pending"
    send(world)
    [received] = receiver.received
    assert received.json["type"] == "webhook.test"
    assert received.json["data"]["webhookId"] == made["webhookId"]


def test_replays(world: Api, receiver: Receiver) -> None:
    made = make(world, receiver.url)
    world.seat()
    send(world)
    replay = path(made, "replay")
    assert world.admin("POST", replay, json={"deliveryId": 1}).data == {"replayed": 1}
    send(world)
    assert world.admin("POST", replay, json={"dead": True}).data == {"replayed": 0}
    event = receiver.received[0].event
    assert world.admin("POST", replay, json={"fromEvent": event}).data == {}
    send(world)
    assert [x.event for x in receiver.received] == [event] * 3
    assert len({x.id for x in receiver.received}) == 1
    assert world.admin("POST", replay, json={"deliveryId": 99}).code == "delivery_unknown"
    for wrong in ({}, {"dead": True, "fromEvent": 1}, {"deliveryId": 1, "fromEvent": 1}):
        assert world.admin("POST", replay, json=wrong).code == "invalid_request"


def test_stop_resume_change_delete(world: Api, receiver: Receiver) -> None:
    made = make(world)
    stopped = world.admin("PATCH", path(made), json={"enabled": False})
    assert stopped.data["enabled"] is False
    world.seat()
    send(world)
    body = {"enabled": True, "url": receiver.url, "kinds": ["lease.acquired"], "description": ""}
    assert world.admin("PATCH", path(made), json=body).data["url"] == receiver.url
    send(world)
    assert len(receiver.received) == 1  # what happened meanwhile
    assert world.admin("DELETE", path(made)).status == 200
    world.acquire("bob")
    send(world)
    assert len(receiver.received) == 1
    assert world.admin("GET", HOOKS).data["items"] == []


def test_every_change_is_audited(world: Api) -> None:
    """With who did it. Whoever may only read leaves nothing behind."""
    made = make(world)
    asks: list[tuple[str, str, Any]] = [
        ("PATCH", path(made), {"description": "x"}),
        ("POST", path(made, "rotate-secret"), {}),
        ("POST", path(made, "test"), None),
        ("DELETE", path(made), None),
    ]
    before = len(world.ledger.audits())
    for method, where, body in asks:
        assert world.call(method, where, bearer=world.keys[Role.VIEWER], json=body).status == 403
    assert len(world.ledger.audits()) == before
    for method, where, body in asks:
        assert world.call(method, where, bearer=world.keys[Role.OPERATOR], json=body).status < 300
    said = [(x.action, x.subject) for x in world.ledger.audits()[before:]]
    hook = made["webhookId"]
    assert said == [
        ("webhook.change", hook),
        ("webhook.rotate_secret", hook),
        ("webhook.test", hook),
        ("webhook.delete", hook),
    ]
    assert len({x.actor for x in world.ledger.audits()[before:]}) == 1


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"enabled": True}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/replay", {"dead": True}),
        ("POST", "/rotate-secret", {}),
        ("POST", "/test", None),
    ],
)
def test_an_unknown_webhook(world: Api, method: str, rest: str, body: Any) -> None:
    answer = world.admin(method, f"{HOOKS}/whk_nobody{rest}", json=body)
    assert (answer.status, answer.code) == (404, "webhook_unknown")


def test_urls_that_are_refused() -> None:
    """And what to do about it."""
    with api() as world:
        for url in ("http://127.0.0.1:9/", "https://10.0.0.1/", "http://a.example/", "https://"):
            answer = world.admin("POST", HOOKS, json={"url": url})
            assert (answer.status, answer.code) == (400, "invalid_request")
            assert "webhook_reach" in answer.json["details"]
        made = make(world)
        assert world.admin("PATCH", path(made), json={"url": "http://[::1]/"}).status == 400
    with api(dev=True) as world:
        make(world, "http://127.0.0.1:9/")
        assert world.admin("POST", HOOKS, json={"url": "https://10.0.0.1/"}).status == 400


def test_metrics(world: Api, receiver: Receiver) -> None:
    make(world, receiver.url)
    with receiving() as gone:
        make(world, gone.url)
    world.seat()
    send(world)
    world.clock.advance(seconds=3)
    world.app.context.outbound.deliverer.tick()
    text = world.call("GET", "/metrics").body.decode()
    for line in (
        'sojourn_webhook_attempts_total{outcome="delivered"} 1.0',
        'sojourn_webhook_attempts_total{outcome="failed"} 1.0',
        'sojourn_webhook_deliveries{state="pending"} 1.0',
        'sojourn_webhook_deliveries{state="dead"} 0.0',
        "sojourn_webhook_lag_seconds 3.0",
    ):
        assert line in text
