"""What the pages that watch say, without a browser: refusals, incidents, sentences."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.patient import Patient

from sojourn.clock import MINUTE, SECOND, ManualClock
from sojourn.console.lookup import LATELY, Lookup, PoolUse, refused_of
from sojourn.console.overview import needs
from sojourn.console.seats import pool_view, seats_answer
from sojourn.console.stories import incidents, stories
from sojourn.console.sweeps import OVERDUE
from sojourn.console.sweeps import answer as sweeps_answer
from sojourn.console.webhooks import rows_of
from sojourn.console.words import exact, initials
from sojourn.doctor.runs import Rounds
from sojourn.errors import NotFound
from sojourn.event import Event, EventKind
from sojourn.lease import Denied, Usage
from sojourn.ledger import Ledger
from sojourn.license import CountBy, Policy, Reservation, pool_id
from sojourn.plans.plan import SweepPlan, SweepScope
from sojourn.plans.schedule import Schedule
from sojourn.service.licenses import Licenses
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.testing import builders
from sojourn.webhook import Webhook
from sojourn.webhook_store import Backlog

NOW = 1_800_000_000_000


def denied(at: int, user: str = "grace", pool: str = "lic:review", **data: object) -> Event:
    said = {
        "reason": "seat_limit",
        "limit": 2,
        "inUse": 2,
        "suspect": 0,
        "retryAfter": 5_000,
    } | data
    return Event(kind=EventKind.LEASE_DENIED, at=at, pool_id=pool, user_id=user, data=said)


def served(at: int, user: str = "grace", pool: str = "lic:review") -> Event:
    return Event(kind=EventKind.LEASE_ACQUIRED, at=at, pool_id=pool, user_id=user)


def test_who_was_served_since_waits_no_more() -> None:
    events = [served(NOW - 1_000), denied(NOW - 2_000), denied(NOW - 3_000, "annie")]
    assert [each.user_id for each in refused_of(events, NOW)] == ["annie"]


def test_a_refusal_after_a_seat_counts_from_then_on() -> None:
    events = [denied(NOW - 1_000), denied(NOW - 2_000), served(NOW - 3_000), denied(NOW - 4_000)]
    (found,) = refused_of(events, NOW)
    assert (found.times, found.first_at, found.last_at) == (2, NOW - 2_000, NOW - 1_000)


def test_who_has_gone_silent_waits_no_more() -> None:
    (found,) = refused_of([denied(NOW - 5 * MINUTE)], NOW)
    assert not found.waits(NOW)
    (patient,) = refused_of([denied(NOW - 5 * MINUTE, retryAfter=4 * MINUTE)], NOW)
    assert patient.waits(NOW)
    assert refused_of([denied(NOW - LATELY - 1)], NOW) == []


def test_a_license_that_is_over_is_no_line() -> None:
    assert refused_of([denied(NOW - 1, reason="license_expired")], NOW) == []


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 20 * MINUTE)), max_size=40
    )
)
def test_refusals_are_as_counted_by_hand(happened: list[tuple[bool, str, int]]) -> None:
    events = sorted(
        (served(NOW - ago, who) if good else denied(NOW - ago, who) for good, who, ago in happened),
        key=lambda event: -event.at,
    )
    expected: dict[str, int] = {}
    for event in reversed(events):
        if event.at < NOW - LATELY:
            continue
        assert event.user_id is not None
        if event.kind is EventKind.LEASE_ACQUIRED:
            expected.pop(event.user_id, None)
        else:
            expected[event.user_id] = expected.get(event.user_id, 0) + 1
    assert {each.user_id: each.times for each in refused_of(events, NOW)} == expected


def test_refusals_become_incidents() -> None:
    times = [0, 1, 2, 30, 31, 90]
    events = [
        denied(NOW - minutes * MINUTE, random.Random(minutes).choice("ab")) for minutes in times
    ]
    events.insert(1, denied(NOW - 1, pool="lic:render"))
    found = incidents(events, NOW)
    assert [(each.feature, each.times) for each in found] == [
        ("review", 3),
        ("render", 1),
        ("review", 2),
        ("review", 1),
    ]
    assert sum(each.times for each in found) == len(events)


def test_a_sign_in_on_a_new_device_is_told_once() -> None:
    begun = Event(kind=EventKind.SESSION_CREATED, at=NOW, subject="ses_1", user_id="ken")
    new = Event(kind=EventKind.SESSION_NEW_DEVICE, at=NOW, subject="ses_1", user_id="ken")
    other = Event(kind=EventKind.SESSION_CREATED, at=NOW, subject="ses_2", user_id="ken")
    ours = Event(kind=EventKind.SESSION_CREATED, at=NOW, subject="ses_3", user_id="operator:key_1")
    assert len(stories([begun, new, other, ours], NOW)) == 2


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_has_words(kind: EventKind) -> None:
    (told,) = stories([Event(kind=kind, at=NOW, pool_id="lic:review", user_id="ken")], NOW)
    assert told.what
    assert "_" not in told.what


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 s"),
        (19_400, "19 s"),
        (65_000, "1 min 05 s"),
        (25 * MINUTE, "25 min"),
        (65 * MINUTE, "1 h 05 min"),
        (49 * 60 * MINUTE, "2 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations(ms: int, said: str) -> None:
    assert exact(ms) == said


@pytest.mark.parametrize(
    ("name", "letters"), [("ken", "K"), ("karen.s@acme", "KS"), ("", "?"), ("王 伟", "王伟")]
)
def test_initials(name: str, letters: str) -> None:
    assert initials(name) == letters


class House:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock, max_pause=10**12)
        self.ledger: Ledger = open_ledger("memory:", clock=self.clock)
        self.lookup = Lookup(self.store, self.ledger)

    def fresh(self) -> Lookup:
        """Read anew: refusals are told again for a moment."""
        return Lookup(self.store, self.ledger)

    def license(self, name: str, **capacities: int) -> str:
        made, _ = Licenses(self.store, self.ledger).create(
            name,
            {feature: builders.pool(seats).policy for feature, seats in capacities.items()},
            actor="test",
        )
        return made.id


def test_pools_with_refused_people_come_first_then_the_fullest() -> None:
    house = House()
    acme = house.license("Acme", empty=5, half=2, full=1)
    for feature in ("half", "full"):
        builders.take(house.store, "ann", pool_id=pool_id(acme, feature))
    assert [use.pool.feature for use in house.lookup.pools()] == ["full", "half", "empty"]
    builders.take(house.store, "bob", pool_id=pool_id(acme, "half"))
    builders.refused(house.store, "eve", pool_id=pool_id(acme, "half"))
    uses = house.fresh().pools()
    assert [use.pool.feature for use in uses] == ["half", "full", "empty"]
    assert seats_answer(uses, house.fresh().waiting()).bad == "1 person is waiting."
    (need,) = needs(uses, house.fresh().refused(), Rounds(Patient().doctor()), house.clock.now())
    assert need.title == "1 person waits for half"


def test_a_pool_names_its_holders_the_most_silent_first() -> None:
    house = House()
    acme = house.license("Acme", review=2)
    name = pool_id(acme, "review")
    builders.take(house.store, "ken", pool_id=name)
    house.clock.advance(seconds=62)
    builders.take(house.store, "radia", pool_id=name)
    builders.refused(house.store, "grace", pool_id=name)
    view = pool_view(house.lookup.holders(acme, "review"))
    assert view.answer.good == "All 2 review seats are in use."
    assert view.answer.bad == "1 person is waiting."
    assert view.answer.rest == "1 suspect: the next one is free in 28 s by itself."
    assert [(row.user_id, row.state) for row in view.rows] == [
        ("ken", "suspect"),
        ("radia", "active"),
    ]
    assert pool_view(house.lookup.holders(acme, "review"), shown="suspect").rows == view.rows[:1]
    assert pool_view(house.lookup.holders(acme, "review"), words="RAD").rows == view.rows[1:]
    with pytest.raises(NotFound):
        house.lookup.holders(acme, "nothing")


def test_where_all_are_silent_together_the_network_is_looked_at_first() -> None:
    house = House()
    acme = house.license("Acme", review=5)
    name = pool_id(acme, "review")
    for user in ("ken", "radia", "joan"):
        builders.take(house.store, user, pool_id=name)
    house.clock.advance(seconds=62)
    said = pool_view(house.lookup.holders(acme, "review")).answer.bad
    assert said == "All 3 holders have fallen silent: look at the network first."
    builders.take(house.store, "vint", pool_id=name)  # one is heard: it is not the network
    assert pool_view(house.lookup.holders(acme, "review")).answer.bad == ""


def test_a_webhook_that_does_not_answer_needs_somebody() -> None:
    rounds = Rounds(Patient().doctor())
    hook = Webhook(id="whk_1", url="https://shop.example/in")
    late = Backlog(
        webhook_id="whk_1", pending=38, fresh=0, oldest_at=NOW - 22 * MINUTE, enabled=True, due=True
    )
    (row,) = rows_of([hook], {"whk_1": late}, NOW)
    (need,) = needs([], [], rounds, NOW, hooks=[row])
    assert need.title == "shop.example does not answer"
    assert need.text.startswith("38 events wait, the oldest for 22 min.")
    (well,) = rows_of([hook], {}, NOW)
    assert needs([], [], rounds, NOW, hooks=[well]) == []
    gone = replace(hook, enabled=False, disabled_because="The receiver answered 410.")
    (stopped,) = rows_of([gone], {}, NOW)
    (need,) = needs([], [], rounds, NOW, hooks=[stopped])
    assert (need.title, need.text) == (
        "shop.example gets nothing",
        "It was stopped: The receiver answered 410.",
    )


def test_a_plan_that_nobody_carries_out_is_overdue() -> None:
    plan = SweepPlan(
        id="pln_1",
        name="nightly",
        scope=SweepScope(silent_for=MINUTE),
        schedule=Schedule(window="02:00-05:00", zone="UTC"),
        next_at=NOW - OVERDUE,
    )
    assert sweeps_answer([plan], [], NOW).bad == ""
    late = sweeps_answer([replace(plan, next_at=NOW - OVERDUE - MINUTE)], [], NOW)
    assert late.bad == "A run is overdue by 6 min 00 s."


def test_a_pool_that_its_store_has_lost_is_empty() -> None:
    house = House()
    acme = house.license("Acme", review=2)
    lost = Lookup(MemoryStore(house.clock), house.ledger)
    (use,) = lost.pools()
    assert isinstance(use, PoolUse)
    assert (use.pool.license_id, use.usage.in_use, use.usage.capacity) == (acme, 0, 2)
    assert isinstance(use.usage, Usage)


def test_a_person_sees_whose_silent_seat_could_be_freed() -> None:
    house = House()
    acme = house.license("Acme", review=1)
    name = pool_id(acme, "review")
    held = builders.take(house.store, "ken", pool_id=name)
    house.clock.advance(milliseconds=62 * SECOND)
    builders.refused(house.store, "grace", pool_id=name)
    person = house.lookup.person("grace")
    assert person.known
    assert person.silent[name].id == held.id
    assert not house.lookup.person("nobody").known


def test_who_stands_in_line_waits() -> None:
    house = House()
    acme = house.license("Acme", review=1)
    name = pool_id(acme, "review")
    builders.take(house.store, "ken", pool_id=name)
    answer = house.store.acquire([builders.acquire("grace", "desk", pool_id=name, wait=True)])[0]
    assert isinstance(answer, Denied)
    assert answer.entry is not None
    assert seats_answer(house.lookup.pools(), house.lookup.waiting()).bad == "1 person is waiting."
    view = pool_view(house.lookup.holders(acme, "review"))
    assert view.answer.bad == "1 person is waiting."
    assert [(row.user_id, row.said) for row in view.waiting] == [("grace", "in line for 0 s")]


def test_many_grants_elsewhere_hide_nobody_who_was_refused() -> None:
    house = House()
    acme = house.license("Acme", review=1, viewer=1_000)
    builders.take(house.store, "ken", pool_id=pool_id(acme, "review"))
    builders.refused(house.store, "grace", pool_id=pool_id(acme, "review"))
    for i in range(600):
        builders.take(house.store, f"user-{i}", pool_id=pool_id(acme, "viewer"))
    assert [each.user_id for each in house.lookup.waiting()] == ["grace"]
    builders.take(house.store, "grace", pool_id=pool_id(acme, "viewer"))
    assert [each.user_id for each in house.fresh().waiting()] == ["grace"]


def test_refusals_are_told_again_for_a_moment() -> None:
    house = House()
    acme = house.license("Acme", review=1)
    builders.take(house.store, "ken", pool_id=pool_id(acme, "review"))
    assert house.lookup.waiting() == []
    builders.refused(house.store, "grace", pool_id=pool_id(acme, "review"))
    assert house.lookup.waiting() == []
    house.lookup._refused.forget()
    assert [each.user_id for each in house.lookup.waiting()] == ["grace"]


def test_reserved_seats_are_not_free_for_everybody() -> None:
    house = House()
    license_, _ = Licenses(house.store, house.ledger).create(
        "Acme",
        {
            "desk": Policy(
                capacity=2, reservations=(Reservation(name="vip", seats=1, users=("vip",)),)
            )
        },
        actor="test",
    )
    name = pool_id(license_.id, "desk")
    builders.take(house.store, "ken", pool_id=name)
    builders.refused(house.store, "grace", pool_id=name)
    (use,) = house.lookup.pools()
    assert (use.free, use.kept) == (0, 1)
    view = pool_view(house.lookup.holders(license_.id, "desk"))
    assert view.answer.good == "1 of 2 desk seats in use."
    assert view.answer.rest == "1 free seat is reserved for others."
    (event,) = [x for x in house.lookup.feed() if x.kind is EventKind.LEASE_DENIED]
    (told,) = stories([event], house.clock.now())
    assert told.what == "was refused a desk seat: the 1 that are free are reserved for others"


def test_seats_that_are_shared_are_counted_once() -> None:
    house = House()
    license_, _ = Licenses(house.store, house.ledger).create(
        "Acme", {"desk": Policy(capacity=3, count_by=CountBy.USER)}, actor="test"
    )
    name = pool_id(license_.id, "desk")
    for client in ("one", "two", "three"):
        builders.take(house.store, "ken", client, pool_id=name)
    view = pool_view(house.lookup.holders(license_.id, "desk"))
    assert (view.map, view.counts["active"], view.counts["all"]) == ((), 1, 3)
    assert view.answer.good == "1 of 3 desk seats in use."
