"""Measures in the ledger: on every database they are what they are in memory, whoever is killed."""

from __future__ import annotations

import random
import threading
from contextlib import closing, suppress

import pytest
from msgspec.structs import replace
from tests.histories import History, history_of

from sojourn.analytics.buckets import Bucket
from sojourn.analytics.holds import PolicyAt
from sojourn.analytics.in_memory import MemoryUsage
from sojourn.analytics.keeper import STEPS_KEPT, Changes, MeasuredLedger, UsageKeeper
from sojourn.analytics.measuring import Measuring
from sojourn.clock import DAY
from sojourn.errors import StoreUnavailable
from sojourn.event import Event
from sojourn.ledger import Audit
from sojourn.license import License, Policy
from sojourn.stores.open import open_ledger
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.events import audit
from sojourn.stores.sql.usage import SqlUsage

SEEDS = (3, 20, 77)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"empty_{request.param}")
    return url


def measuring(history: History, keeper: UsageKeeper, page: int) -> Measuring:
    def read(after: int, limit: int) -> list[Event]:
        return [event for event in history.events if event.id > after][:limit]

    return Measuring(read, keeper, lambda: history.now, page=page)


def told(keeper: UsageKeeper, history: History) -> list[object]:
    """Return all that a keeper says of a history's pools."""
    said: list[object] = []
    until = history.now + 1
    for pool in history.pools:
        span = keeper.span(pool.id, 0, until, by_day=False)
        said.append([(x.at, x.last, x.levels, x.counts) for x in in_order(span.hours)])
        span = keeper.span(pool.id, 0, until, by_day=True)
        said.append([(x.at, x.last, x.levels, x.counts) for x in in_order(span.days)])
        said += [keeper.shares(pool.id, kind, 0, until) for kind in ("user", "client")]
        said.append(keeper.marks(pool.id, history.now // DAY * DAY, until))
        said.append(keeper.incidents(pool.id, 0, until))
    return said


def in_order(buckets: dict[int, Bucket]) -> list[Bucket]:
    return [bucket for _, bucket in sorted(buckets.items())]


def modeled(history: History, ledger: MeasuredLedger) -> MemoryUsage:
    model = MemoryUsage(ledger.audits())
    measuring(history, model, 10_000).run()
    return model


def open_with(url: str, history: History) -> MeasuredLedger:
    """Open a ledger whose audit trail says what policies the pools had."""
    ledger = open_ledger(url)
    features = {pool.feature: pool.policy for pool in history.pools}
    ledger.create_license(License(id="lic_1", name="One"), features, b"k" * 32, actor="key:1")
    return ledger


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ledger_says_what_the_model_says(ledger_url: str, seed: int) -> None:
    """Whatever pages events come in, and through a restart after each, all answers are the model's."""
    history = history_of(seed)
    with closing(open_with(ledger_url, history)) as ledger:
        model = modeled(history, ledger)
    chance = random.Random(seed)
    steps = 0
    while True:
        with closing(open_ledger(ledger_url)) as ledger:
            if measuring(history, ledger.usage, chance.randint(5, 60)).step() is None:
                assert told(ledger.usage, history) == told(model, history)
                break
        steps += 1
    assert steps > 1


def test_what_is_written_by_halves_is_not_written(ledger_url: str) -> None:
    """A step that fails in the middle of writing leaves nothing of itself; the next one makes it good."""
    history = history_of(20)
    with closing(open_with(ledger_url, history)) as ledger:
        model = modeled(history, ledger)
        assert isinstance(ledger.usage, SqlUsage)
        adding = ledger.usage._add_share  # a statement that fails when most is written
        while True:
            ledger.usage._add_share = "INSERT INTO nowhere VALUES (:name)"  # likewise
            before = ledger.usage.cursor()
            try:
                done = measuring(history, ledger.usage, 25).step()
            except Exception:  # noqa: BLE001  # whatever the driver says of it
                assert before is None or ledger.usage.cursor() == before
                ledger.usage._add_share = adding  # likewise
                done = measuring(history, ledger.usage, 25).step()
            if done is None:
                break
        assert told(ledger.usage, history) == told(model, history)


def test_several_measure_at_once(ledger_url: str) -> None:
    """Of servers that measure side by side each event is counted once."""
    history = history_of(77)
    with closing(open_with(ledger_url, history)) as ledger:
        model = modeled(history, ledger)
    last = history.events[-1].id

    def serve() -> None:
        with closing(open_ledger(ledger_url)) as mine:
            while (cursor := mine.usage.cursor()) is None or cursor.event_id < last:
                measuring(history, mine.usage, 7).step()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    with closing(open_ledger(ledger_url)) as ledger:
        assert told(ledger.usage, history) == told(model, history)


def test_rebuilt(ledger_url: str) -> None:
    """Measures that were made anew from the same events are the same; days before them stay."""
    history = history_of(3)
    with closing(open_with(ledger_url, history)) as ledger:
        measuring(history, ledger.usage, 50).run()
        first = told(ledger.usage, history)
        assert measuring(history, ledger.usage, 50).rebuild()
        assert told(ledger.usage, history) != first
        measuring(history, ledger.usage, 30).run()
        assert told(ledger.usage, history) == first


def test_a_policy_that_changes(ledger_url: str) -> None:
    """The capacity that was in force is known for each instant; a feature that is removed has none."""
    history = history_of(3)
    with closing(open_with(ledger_url, history)) as ledger:
        pool = history.pools[0]
        ledger.set_feature("lic_1", pool.feature, Policy(capacity=9), actor="key:1")
        ledger.remove_feature("lic_1", pool.feature, actor="key:1")
        measuring(history, ledger.usage, 50).run()
        found = [
            None if each.policy is None else each.policy.capacity
            for each in ledger.usage.policies([pool.id])[pool.id]
        ]
        assert found[-1] is None


def test_entries_of_the_audit_trail_are_seen_in_order(ledger_url: str) -> None:
    """Whoever reads the trail after an id misses nothing: the next id is given only once the entry before it
    is committed, so that none of a lower id can appear later."""
    with closing(open_ledger(ledger_url, migrate=True)) as ledger:
        ledger.record(Audit(actor="key:0", action="first", subject="x"))
        db = ledger._db  # type: ignore[attr-defined]  # a transaction that stays open while others write
        written, go_on = threading.Event(), threading.Event()
        over: list[str] = []

        def slow(tx: Tx) -> None:
            tx.patiently(thinking=True)  # or the server ends it on a machine that stalls
            audit(tx, "key:1", "slow", "x", {})
            written.set()
            assert go_on.wait(100)

        def work() -> None:
            db.transaction(slow)
            over.append("slow")

        def other() -> None:
            with closing(open_ledger(ledger_url)) as mine:
                for _ in range(60):
                    with suppress(StoreUnavailable):  # it has waited for as long as anybody waits
                        mine.record(Audit(actor="key:2", action="quick", subject="x"))
                        break
                over.append("quick")

        threads = [threading.Thread(target=each, daemon=True) for each in (work, other)]
        threads[0].start()
        assert written.wait(60)
        threads[1].start()
        threads[1].join(2)  # in which it would be done if nothing held it up
        seen = [entry.id for entry in ledger.audits()]
        assert (seen, over) == ([1], [])
        go_on.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        later = ledger.audits(after=seen[-1])
        assert [(entry.id, entry.action) for entry in later] == [(2, "slow"), (3, "quick")]


def test_an_hour_whose_policy_changed_keeps_its_steps(ledger_url: str) -> None:
    """Others are forgotten after a hundred days: they only correct what is learned late."""
    now = 1_790_000_000_000 // DAY * DAY
    plain, changed = now - STEPS_KEPT - 2 * DAY, now - STEPS_KEPT - DAY
    pool = "lic_1:editor"
    with closing(open_ledger(ledger_url, migrate=True)) as ledger:
        usage = ledger.usage
        assert usage.begin(None, since=plain)
        before = usage.cursor()
        assert before is not None
        steps = {(pool, hour): [(hour + 5, 1)] for hour in (plain, changed, now)}
        day = Bucket(pool_id=pool, at=now - DAY, level=0, last=0)
        changes = Changes(
            cursor=replace(before, at=now, revision=before.revision + 1),
            holds=[],
            forgotten=[],
            hours=[],
            days=[day],
            steps=steps,
            shares={},
            incidents=[],
            policies=[(pool, PolicyAt(changed + 7, Policy(capacity=2)))],
        )
        assert usage.commit(before, changes)
        found = usage.steps(pool, [plain, changed, now])
        assert found == {plain: [], changed: [(changed + 5, 1)], now: [(now + 5, 1)]}
