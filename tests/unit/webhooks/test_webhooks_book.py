"""Webhooks in the ledger, on every database it may live on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from msgspec.structs import replace

from sojourn.clock import DAY, MINUTE, ManualClock
from sojourn.errors import Conflict
from sojourn.stores.open import open_ledger
from sojourn.webhook import (
    WEBHOOKS_MAX,
    DeliveryState,
    Letter,
    Outcome,
    Secret,
    Webhook,
    WebhookChange,
)
from sojourn.webhook_store import Batch, Book, HookedLedger

START = ManualClock().now()
SECRET = "whsec_c2VjcmV0"
HOOK = Webhook(
    id="whk_1",
    url="https://shop.example/hook?a=b",
    description="Shop \N{SNOWMAN}",
    kinds=("lease.denied",),
    secrets=(Secret(text=SECRET),),
    position=7,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory:", "empty_sqlite", "empty_postgres", "empty_mariadb"])
def ledger(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[HookedLedger]:
    named = request.param != "memory:"
    url = request.getfixturevalue(request.param) if named else request.param
    with closing(open_ledger(url, clock=clock)) as ledger:
        yield ledger


@pytest.fixture
def book(ledger: HookedLedger) -> Book:
    return ledger.webhooks


def letters(*event_ids: int) -> tuple[Letter, ...]:
    return tuple(
        Letter(kind="lease.denied", at=START - 5, body='{"a":"\N{SNOWMAN}"}', event_id=x)
        for x in event_ids
    )


def batch(position: int, read_to: int, *event_ids: int) -> Batch:
    return Batch(
        webhook_id="whk_1", position=position, read_to=read_to, letters=letters(*event_ids)
    )


def delivered(seq: int, attempts: int = 1) -> Outcome:
    return Outcome(seq=seq, attempts=attempts, state=DeliveryState.DELIVERED, status=204)


def failed(seq: int, attempts: int = 1, *, wait: int = 5_000, hold: int = 0) -> Outcome:
    return Outcome(
        seq=seq,
        attempts=attempts,
        state=DeliveryState.PENDING,
        status=500,
        error="x" * 1_000,
        wait=wait,
        hold=hold,
    )


def states(book: Book) -> list[tuple[int, str]]:
    return [(x.seq, x.state.value) for x in book.deliveries("whk_1")]


def test_operators_calls_are_kept_and_audited(ledger: HookedLedger, book: Book) -> None:
    """No secret stands in the audit trail."""
    created = book.create(HOOK, actor="key:ops")
    assert created == replace(HOOK, created_at=START)
    assert book.get("whk_1") == created
    assert book.all() == [created]
    change = WebhookChange(url="https://b.example/", kinds=(), enabled=False)
    changed = book.change("whk_1", change, actor="key:ops")
    assert changed == replace(created, url="https://b.example/", kinds=(), enabled=False)
    assert book.change("whk_1", WebhookChange(), actor="a") == changed
    rotated = book.rotate("whk_1", Secret(text="whsec_bmV3"), grace=DAY, actor="key:ops")
    assert rotated is not None
    assert rotated.secrets == (Secret(text="whsec_bmV3"), Secret(text=SECRET, until=START + DAY))
    assert rotated.signing(START + DAY - 1) == ["whsec_bmV3", SECRET]
    assert rotated.signing(START + DAY) == ["whsec_bmV3"]
    at_once = book.rotate("whk_1", Secret(text="whsec_Mw=="), grace=0, actor="key:ops")
    assert at_once is not None
    assert at_once.secrets == (Secret(text="whsec_Mw=="),)
    assert book.delete("whk_1", actor="key:ops")
    assert not book.delete("whk_1", actor="key:ops")
    assert book.get("whk_1") is None
    actions = [x.action.removeprefix("webhook.") for x in ledger.audits()]
    assert actions == ["create", "change", "rotate_secret", "rotate_secret", "delete"]
    assert "whsec" not in str(ledger.audits())


def test_of_an_unknown_webhook(book: Book) -> None:
    assert book.change("whk_?", WebhookChange(enabled=False), actor="a") is None
    assert book.rotate("whk_?", Secret(text=SECRET), grace=0, actor="a") is None
    assert book.replay("whk_?", actor="a") is None
    assert not book.replay_from("whk_?", 1, actor="a")
    assert book.try_out("whk_?", letters(1)[0], actor="a") is None
    assert book.claim("whk_?", "me", lease=1, limit=1) is None
    assert book.deliveries("whk_?") == []


def test_there_are_not_too_many(book: Book) -> None:
    """Not even when several are made at once."""
    for number in range(WEBHOOKS_MAX - 2):
        book.create(replace(HOOK, id=f"whk_{number}"), actor="a")

    def create(number: int) -> bool:
        try:
            book.create(replace(HOOK, id=f"late_{number}"), actor="a")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(create, range(6))) == 2
    assert len(book.all()) == WEBHOOKS_MAX


def test_a_stretch_of_the_stream_is_taken_once(book: Book) -> None:
    book.create(HOOK, actor="a")
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: book.enqueue([batch(7, 20, 8, 11, 20)]), range(6)))
    assert sorted(made) == [0, 0, 0, 0, 0, 3]
    assert book.enqueue([batch(20, 25)]) == 0
    found = book.get("whk_1")
    assert found is not None
    assert found.position == 25
    [newest, *_] = book.deliveries("whk_1")
    assert (newest.seq, newest.event_id, newest.event_at) == (3, 20, START - 5)
    assert newest.body == '{"a":"\N{SNOWMAN}"}'
    assert newest.state is DeliveryState.PENDING
    book.change("whk_1", WebhookChange(enabled=False), actor="a")
    assert book.enqueue([batch(25, 30, 26)]) == 0
    book.rewind("whk_1", 24)
    assert book.get("whk_1") == replace(found, enabled=False)
    book.rewind("whk_1", 25)
    assert book.get("whk_1") == replace(found, enabled=False, position=0)


def test_pages_and_states(book: Book) -> None:
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, *range(8, 18))])
    claim = book.claim("whk_1", "me", lease=MINUTE, limit=4)
    assert claim is not None
    assert [x.event_id for x in claim.deliveries] == [8, 9, 10, 11]
    dead = Outcome(seq=2, attempts=1, state=DeliveryState.DEAD, status=400, error="No.")
    assert book.settle(claim, "me", [delivered(1), dead, failed(3)], lease=0)
    assert [x.seq for x in book.deliveries("whk_1", limit=3)] == [10, 9, 8]
    assert [x.seq for x in book.deliveries("whk_1", after=8, limit=3)] == [7, 6, 5]
    for state, seqs in (("delivered", [1]), ("dead", [2]), ("pending", [10, 9, 8, 7, 6, 5, 4, 3])):
        found = book.deliveries("whk_1", state=DeliveryState(state))
        assert [x.seq for x in found] == seqs
    assert book.dead() == 1
    [third] = book.deliveries("whk_1", after=4, limit=1)
    assert (third.attempts, third.next_at, third.last_at) == (1, START + 5_000, START)
    assert (third.last_status, third.last_error) == (500, "x" * 500)


def test_one_claims(book: Book, clock: ManualClock) -> None:
    """However many want to; and a claim that ran out is another's."""
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, 8, 9)])
    [backlog] = book.backlogs()
    assert (backlog.pending, backlog.oldest_at, backlog.due) == (2, START - 5, True)
    with ThreadPoolExecutor(6) as threads:
        owners = [str(number) for number in range(6)]
        claims = list(threads.map(lambda x: book.claim("whk_1", x, lease=MINUTE, limit=9), owners))
    [(owner, claim)] = [(o, c) for o, c in zip(owners, claims, strict=True) if c is not None]
    assert not book.backlogs()[0].due
    clock.advance(milliseconds=MINUTE)
    other = book.claim("whk_1", "other", lease=MINUTE, limit=9)
    assert other is not None
    assert other.deliveries == claim.deliveries
    assert not book.settle(claim, owner, [], lease=MINUTE)
    assert book.settle(other, "other", [delivered(1)], lease=MINUTE)
    assert not book.settle(claim, owner, [failed(1)], lease=0)  # too late: it was written down
    assert states(book) == [(2, "pending"), (1, "delivered")]
    assert book.claim("whk_1", "third", lease=MINUTE, limit=9) is None
    assert book.settle(other, "other", [], lease=0)
    assert book.claim("whk_1", "third", lease=MINUTE, limit=9) is not None


def test_a_hold_keeps_everything_back(book: Book, clock: ManualClock) -> None:
    """Until its time has come, or an operator wants it otherwise."""
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, 8, 9)])
    claim = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert claim is not None
    assert not book.settle(claim, "me", [failed(1, hold=5_000)], lease=0)
    assert not book.backlogs()[0].due
    assert book.claim("whk_1", "me", lease=MINUTE, limit=9) is None
    made = book.try_out("whk_1", letters(0)[0], actor="a")
    assert made is not None
    assert (made.seq, made.event_id, made.event_at) == (3, 0, START)
    again = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert again is not None
    assert [x.seq for x in again.deliveries] == [2, 3]
    book.settle(again, "me", [], lease=0)
    clock.advance(seconds=5)
    third = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert third is not None
    assert [x.seq for x in third.deliveries] == [1, 2, 3]


def test_replays(book: Book, ledger: HookedLedger) -> None:
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, 8, 9, 10)])
    claim = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert claim is not None
    dead = [
        Outcome(seq=seq, attempts=1, state=DeliveryState.DEAD, status=400, error="No.")
        for seq in (1, 2)
    ]
    book.settle(claim, "me", [*dead, delivered(3)], lease=0)
    assert book.replay("whk_1", seq=99, actor="a") == 0
    assert book.replay("whk_1", seq=3, actor="a") == 1
    assert states(book) == [(3, "pending"), (2, "dead"), (1, "dead")]
    assert book.replay("whk_1", actor="a") == 2
    assert states(book) == [(3, "pending"), (2, "pending"), (1, "pending")]
    assert book.replay_from("whk_1", 9, actor="a")
    assert states(book) == [(1, "pending")]
    found = book.get("whk_1")
    assert found is not None
    assert found.position == 8
    assert book.replay_from("whk_1", 5_000, actor="a")  # of the future: nothing is left out
    assert book.get("whk_1") == found
    assert [x.action for x in ledger.audits()] == ["webhook.create"] + ["webhook.replay"] * 4


def test_410_disables_in_the_same_step(book: Book, ledger: HookedLedger) -> None:
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, 8, 9)])
    claim = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert claim is not None
    gone = Outcome(seq=1, attempts=1, state=DeliveryState.DEAD, status=410, error="No.", gone=True)
    assert not book.settle(claim, "me", [gone], lease=MINUTE)
    found = book.get("whk_1")
    assert found is not None
    assert not found.enabled
    assert (ledger.audits()[-1].action, ledger.audits()[-1].actor) == (
        "webhook.disable",
        "system:webhooks",
    )
    assert book.claim("whk_1", "me", lease=MINUTE, limit=9) is None
    enabled = book.change("whk_1", WebhookChange(enabled=True), actor="a")
    assert enabled is not None
    assert enabled.disabled_because is None


def test_tidy(book: Book, clock: ManualClock) -> None:
    """What is pending stays, however old; dead letters stay longer than what was delivered."""
    book.create(HOOK, actor="a")
    book.enqueue([batch(7, 20, 8, 9, 10)])
    claim = book.claim("whk_1", "me", lease=MINUTE, limit=9)
    assert claim is not None
    dead = Outcome(seq=1, attempts=1, state=DeliveryState.DEAD, status=400, error="No.")
    book.settle(claim, "me", [dead, delivered(2)], lease=0)
    clock.advance(milliseconds=7 * DAY - 1)
    assert book.tidy(100) == 0
    clock.advance(milliseconds=1)
    assert book.tidy(100) == 1
    clock.advance(milliseconds=23 * DAY)
    assert book.tidy(100) == 1
    assert states(book) == [(3, "pending")]
