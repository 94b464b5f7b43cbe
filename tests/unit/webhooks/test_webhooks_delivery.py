"""Events on their way to real receivers, by a clock that tests move."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.receiver import Answer, Received, Receiver, receiving, signed_by

from sojourn.api.webhooks import letter_of
from sojourn.clock import DAY, ManualClock
from sojourn.errors import StoreUnavailable
from sojourn.event import EventKind
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.testing.builders import acquire, pool
from sojourn.webhook import (
    ATTEMPTS_MAX,
    BACKOFF,
    DELIVERED_KEPT_MAX,
    Delivery,
    DeliveryState,
    Webhook,
    WebhookChange,
)
from sojourn.webhook_store import HookedLedger
from sojourn.webhooks import deliverer as deliverers
from sojourn.webhooks.deliverer import Deliverer
from sojourn.webhooks.reach import Reach
from sojourn.webhooks.service import Webhooks

DEADLINE = 20.0


class Post:
    """A store, a ledger, and a server's deliverer over them; nothing ticks by itself."""

    def __init__(self, ledger: HookedLedger, clock: ManualClock) -> None:
        self.clock = clock
        self.ledger = ledger
        self.store = MemoryStore(clock, max_pause=10**12)
        self.store.define([pool(1_000_000)])
        self.webhooks = Webhooks(self.store, ledger.webhooks, reach=Reach.LOOPBACK)
        self.deliverer = self.another()
        self._people = 0

    def another(self, timeout: float = 5.0) -> Deliverer:
        """Make the deliverer of another server beside."""
        return Deliverer(
            self.store,
            self.ledger.webhooks,
            letter_of,
            reach=Reach.LOOPBACK,
            timeout=timeout,
            luck=lambda: 0.0,
        )

    def hook(self, url: str, *kinds: EventKind) -> tuple[Webhook, str]:
        return self.webhooks.create(url, kinds=kinds, actor="test")

    def happen(self, count: int = 1) -> list[int]:
        """Let people take seats; return the ids of the events."""
        last = self.store.events(limit=1, newest_first=True)
        self.store.acquire([acquire(f"p{self._people + n}") for n in range(count)])
        self._people += count
        return [x.id for x in self.store.events(after=last[0].id if last else 0, limit=1_000)]

    def tick(self, *, seconds: float = 0) -> None:
        self.clock.advance(seconds=seconds)
        self.deliverer.tick()
        assert self.deliverer.idle(DEADLINE)

    def states(self, webhook: Webhook) -> list[tuple[int, str, int]]:
        return [
            (x.seq, x.state.value, x.attempts) for x in reversed(self.deliveries(webhook, limit=50))
        ]

    def deliveries(self, webhook: Webhook, limit: int = 100) -> list[Delivery]:
        return self.webhooks.deliveries(webhook.id, state=None, after=None, limit=limit)


@pytest.fixture
def post() -> Iterator[Post]:
    clock = ManualClock()
    with closing(open_ledger("memory:", clock=clock)) as ledger:
        yield Post(ledger, clock)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def ids(received: list[Received]) -> list[int]:
    return [each.event for each in received]


def answers(receiver: Receiver, *statuses: int, **headers: str) -> None:
    """Answer these, the last one for ever."""
    receiver.answer = lambda before: Answer(statuses[min(before, len(statuses) - 1)], dict(headers))


def test_an_event_arrives_signed(post: Post, receiver: Receiver) -> None:
    """As Standard Webhooks has it, and with what `GET /api/events` shows."""
    post.happen()  # before the webhook was made: not its business
    webhook, secret = post.hook(receiver.url)
    [event] = post.happen()
    post.tick()
    [received] = receiver.received
    assert signed_by(secret, received)
    assert not signed_by("whsec_" + "AAAA" * 8, received)
    assert received.headers["content-type"] == "application/json"
    assert int(received.headers["webhook-timestamp"]) == post.clock.now() // 1000
    assert set(received.json) == {"type", "timestamp", "data"}
    assert received.json["type"] == "lease.acquired"
    assert received.json["timestamp"] == "2027-01-15T08:00:00.000Z"
    assert received.event == event
    assert received.json["data"]["userId"] == "p1"
    assert post.states(webhook) == [(1, "delivered", 1)]
    assert (post.deliverer.delivered, post.deliverer.failed) == (1, 0)


def test_only_what_was_asked_for(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url, EventKind.LEASE_RELEASED)
    last = post.happen(3)[-1]
    post.tick()
    assert receiver.received == []
    assert post.webhooks.get(webhook.id).position == last


def test_a_hundred_events_in_order(post: Post, receiver: Receiver) -> None:
    """One that fails holds the others back until it has been taken."""
    post.hook(receiver.url)
    answers(receiver, *[204] * 40, 503, 204)
    events = post.happen(100)
    post.tick()
    assert ids(receiver.received) == events[:41]
    post.tick(seconds=4.9)
    assert len(receiver.received) == 41
    post.tick(seconds=0.2)
    assert ids(receiver.received) == [*events[:41], *events[40:]]
    assert receiver.received[40].id == receiver.received[41].id
    assert post.deliverer.failed == 1


def test_one_bad_event_does_not_stop_the_rest(post: Post, receiver: Receiver) -> None:
    """A 4xx tells of the event, not of the receiver: the others go on, and it is tried again."""
    webhook, _ = post.hook(receiver.url)
    answers(receiver, 400, 204)
    first, *others = post.happen(3)
    post.tick()
    assert ids(receiver.received) == [first, *others]
    assert post.states(webhook) == [(1, "pending", 1), (2, "delivered", 1), (3, "delivered", 1)]
    post.tick(seconds=BACKOFF[0] / 1000)
    assert ids(receiver.received) == [first, *others, first]
    assert post.states(webhook)[0] == (1, "delivered", 2)


def test_back_off_dead_letter_and_replay(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url)
    answers(receiver, 500)
    [event] = post.happen()
    post.tick()
    for attempts, delay in enumerate(BACKOFF, 1):
        assert post.states(webhook) == [(1, "pending", attempts)]
        post.tick(seconds=(delay - 1) / 1000)
        assert len(receiver.received) == attempts
        post.tick(seconds=0.001)
    assert len(receiver.received) == ATTEMPTS_MAX
    assert post.states(webhook) == [(1, "dead", ATTEMPTS_MAX)]
    assert post.deliverer.dead == 1
    [dead] = post.webhooks.deliveries(webhook.id, state=DeliveryState.DEAD, after=None, limit=10)
    assert (dead.event_id, dead.last_status) == (event, 500)
    assert dead.last_error == "The receiver answered 500."
    post.tick(seconds=10 * DAY / 1000)
    assert len(receiver.received) == ATTEMPTS_MAX
    answers(receiver, 204)
    assert post.webhooks.replay(webhook.id, actor="test") == 1
    post.tick()
    assert post.states(webhook) == [(1, "delivered", 1)]
    assert receiver.received[-1].id == receiver.received[0].id


def test_after_some_attempts_it_is_overtaken(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url)
    first, second = post.happen(2)
    receiver.answer = lambda before: Answer(500 if before < 4 else 204)
    post.tick()
    for delay in BACKOFF[:2]:
        post.tick(seconds=delay / 1000)
    assert ids(receiver.received) == [first] * 3
    post.tick(seconds=BACKOFF[2] / 1000)  # the fourth attempt fails, and holds nobody any longer
    assert ids(receiver.received) == [first] * 4 + [second]
    assert post.states(webhook) == [(1, "pending", 4), (2, "delivered", 1)]


@pytest.mark.parametrize(
    ("value", "wait"),
    [("120", 120.0), ("9999999", DAY / 1000), ("1", 5.0), ("soon", 5.0)],
)
def test_retry_after(post: Post, receiver: Receiver, value: str, wait: float) -> None:
    """A receiver may ask for more time, up to a day, but for no haste."""
    post.hook(receiver.url)
    answers(receiver, 429, **{"retry-after": value})
    post.happen()
    post.tick()
    post.tick(seconds=wait - 0.001)
    assert len(receiver.received) == 1
    post.tick(seconds=0.001)
    assert len(receiver.received) == 2


def test_410_disables(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url)
    answers(receiver, 410, 204)
    post.happen(2)
    post.tick()
    assert len(receiver.received) == 1
    assert post.states(webhook) == [(1, "dead", 1), (2, "pending", 0)]
    found = post.webhooks.get(webhook.id)
    assert (found.enabled, found.disabled_because) == (False, "The receiver answered 410.")
    assert post.ledger.audits()[-1].action == "webhook.disable"
    last = post.happen()
    post.tick(seconds=100)
    assert len(receiver.received) == 1
    post.webhooks.change(webhook.id, WebhookChange(enabled=True), actor="test")
    post.tick()
    post.tick()
    assert ids(receiver.received)[-1:] == last
    assert len(receiver.received) == 3


def test_a_redirect_is_not_followed(post: Post, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        answers(receiver, 307, location=elsewhere.url)
        webhook, _ = post.hook(receiver.url)
        post.happen()
        post.tick()
        assert elsewhere.received == []
    assert post.states(webhook) == [(1, "pending", 1)]


def test_a_receiver_that_hangs_costs_nobody_else_anything(post: Post, receiver: Receiver) -> None:
    """Ticks go on, and others get theirs, while nothing has come of it."""
    post.deliverer = post.another(timeout=2 * DEADLINE)
    release = threading.Event()
    with receiving() as stuck:
        stuck.answer = lambda _before: Answer(hang=release)
        webhook, _ = post.hook(stuck.url)
        post.hook(receiver.url)
        post.happen(3)
        post.deliverer.tick()
        receiver.wait_for(3)
        assert {each.attempts for each in post.deliveries(webhook)} == {0}
        release.set()
        assert post.deliverer.idle(DEADLINE)


def test_a_receiver_that_hangs_is_given_up_on(post: Post) -> None:
    post.deliverer = post.another(timeout=0.3)
    release = threading.Event()
    with receiving() as stuck:
        stuck.answer = lambda _before: Answer(hang=release)
        webhook, _ = post.hook(stuck.url)
        post.happen()
        post.deliverer.tick()
        assert post.deliverer.idle(DEADLINE)
        release.set()
    [delivery] = post.deliveries(webhook)
    assert (delivery.attempts, delivery.last_error) == (1, "No answer within 0.3 s.")


def test_nobody_listens(post: Post) -> None:
    with receiving() as gone:
        webhook, _ = post.hook(gone.url)
    post.happen()
    post.tick()
    [delivery] = post.deliveries(webhook)
    assert delivery.last_error == "The receiver cannot be reached: Connection refused."


def test_secrets_rotate(post: Post, receiver: Receiver) -> None:
    """While both sign, receivers change over; then the old one is worth nothing."""
    webhook, old = post.hook(receiver.url)
    _, new = post.webhooks.rotate(webhook.id, grace=60_000, actor="test")
    post.happen()
    post.tick()
    assert signed_by(old, receiver.received[0])
    assert signed_by(new, receiver.received[0])
    post.happen()
    post.tick(seconds=60)
    assert not signed_by(old, receiver.received[1])
    assert signed_by(new, receiver.received[1])


def test_replay_from_an_event(post: Post, receiver: Receiver) -> None:
    """What the stream still holds comes again, under the same ids."""
    webhook, _ = post.hook(receiver.url)
    events = post.happen(5)
    post.tick()
    post.webhooks.replay_from(webhook.id, events[2], actor="test")
    post.tick()
    assert ids(receiver.received) == [*events, *events[2:]]
    assert [x.id for x in receiver.received[5:]] == [x.id for x in receiver.received[2:5]]


def test_more_than_fits_waits_in_the_stream(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead receiver does not fill the ledger."""
    monkeypatch.setattr(deliverers, "AHEAD_MAX", 20)
    monkeypatch.setattr(deliverers, "PAGE", 10)
    webhook, _ = post.hook(receiver.url)
    answers(receiver, 503, 204)
    events = post.happen(60)
    for _ in range(8):
        post.tick()
    assert 20 <= post.deliverer.pending <= 30
    post.clock.advance(seconds=6)
    for _ in range(8):
        post.tick()
    assert ids(receiver.received)[1:] == events
    assert post.webhooks.get(webhook.id).position == events[-1]
    assert post.deliverer.pending == 0


def test_what_was_refused_is_not_in_the_way(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that refuses a kind for good gets the others all the same, up to a bound."""
    monkeypatch.setattr(deliverers, "AHEAD_MAX", 10)
    monkeypatch.setattr(deliverers, "PENDING_MAX", 40)
    monkeypatch.setattr(deliverers, "PAGE", 10)
    post.hook(receiver.url)
    answers(receiver, 400)
    post.happen(30)
    for _ in range(5):
        post.tick()
    assert len(receiver.received) == 30
    post.happen(30)
    for _ in range(5):
        post.tick()
    assert len(receiver.received) == 40
    answers(receiver, 204)
    for _ in range(5):
        post.tick(seconds=10)
    assert len(set(ids(receiver.received))) == 60


def test_two_servers_deliver_each_once(post: Post, receiver: Receiver) -> None:
    """Side by side, ticking at the same time, over the same ledger."""
    webhook, _ = post.hook(receiver.url)
    others = [post.deliverer, post.another(), post.another()]
    events = []
    for _ in range(5):
        events += post.happen(20)
        threads = [threading.Thread(target=each.tick) for each in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for each in others:
        assert each.idle(DEADLINE)
        each.tick()
        assert each.idle(DEADLINE)
    assert ids(receiver.received) == events
    assert {x.state for x in post.deliveries(webhook)} == {DeliveryState.DELIVERED}
    assert sum(each.delivered for each in others) == 100


def test_a_server_that_died_is_taken_over(post: Post, receiver: Receiver) -> None:
    """What it had claimed is sent by another once its claim has run out."""
    webhook, _ = post.hook(receiver.url)
    post.happen(2)
    dead = post.another()
    dead._gather()
    claim = post.ledger.webhooks.claim(webhook.id, "dead", lease=15_000, limit=10)
    assert claim is not None
    post.tick(seconds=14.9)
    assert receiver.received == []
    post.tick(seconds=0.1)
    assert len(receiver.received) == 2
    assert not post.ledger.webhooks.settle(claim, "dead", [], lease=15_000)


def test_a_stream_that_starts_over(post: Post, receiver: Receiver) -> None:
    """A store that was emptied counts from 1 again; its events are not taken for old ones."""
    post.hook(receiver.url)
    post.happen(5)
    post.tick()
    post.clock.advance(seconds=1)
    post.store = MemoryStore(post.clock, max_pause=10**12)
    post.store.define([pool(100)])
    post.deliverer = post.another()
    events = post.happen(2)
    assert events == [1, 2]
    post.tick()
    post.tick()
    assert ids(receiver.received)[5:] == events
    assert len({x.id for x in receiver.received}) == 7


def test_a_store_that_is_down(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """What the ledger holds goes out; the log hears of it once, and once when it is over."""
    post.hook(receiver.url)
    post.happen()
    post.deliverer._gather()

    def down(**_: Any) -> Any:
        raise StoreUnavailable("The store is down.")

    with monkeypatch.context() as patch:
        patch.setattr(post.store, "events", down)
        for _ in range(3):
            post.tick()
    assert len(receiver.received) == 1
    with caplog.at_level("INFO"):
        post.tick()
        post.tick()
    said = caplog.text
    assert (said.count("webhooks_wait"), said.count("webhooks_go_on")) == (1, 1)


def test_deliveries_are_forgotten_in_time(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url)
    post.happen(5)
    post.tick()
    assert post.ledger.webhooks.tidy(500) == 0
    post.clock.advance(seconds=7 * DAY / 1000)
    assert post.ledger.webhooks.tidy(2) == 2
    assert post.ledger.webhooks.tidy(500) == 3
    for _ in range(DELIVERED_KEPT_MAX // 500):
        post.happen(500)
        post.tick()
    post.happen(7)
    post.tick()
    assert post.ledger.webhooks.tidy(500) == 7
    assert len(post.deliveries(webhook, limit=1_000)) == 1_000


def test_what_is_under_way_ends_before_a_stop(post: Post, receiver: Receiver) -> None:
    webhook, _ = post.hook(receiver.url)
    release = threading.Event()
    receiver.answer = lambda _before: Answer(hang=release)
    post.happen(3)
    post.deliverer.tick()
    receiver.wait_for(1)
    stopping = threading.Thread(target=post.deliverer.stop, args=(DEADLINE,))
    stopping.start()
    assert post.deliverer._stopping.wait(DEADLINE)
    release.set()
    stopping.join()
    assert post.states(webhook) == [(1, "delivered", 1), (2, "pending", 0), (3, "pending", 0)]
    other: Any = post.another()
    other.tick()
    assert other.idle(DEADLINE)
    assert len(receiver.received) == 3
