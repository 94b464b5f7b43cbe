"""Who is doubted, and what is forecast, over a real store: by what passes through the service of seats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sojourn.clock import MINUTE, ManualClock
from sojourn.device import Device
from sojourn.lease import Beat, Denied
from sojourn.license import Policy
from sojourn.service.licenses import Licenses
from sojourn.service.operations import DOUBTED_MAX, Operations
from sojourn.service.seats import BeatCall, Lost, Seat, SeatCall, Seats
from sojourn.staleness.scores import ASK_FROM
from sojourn.staleness.suspicion import Suspicion
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring, hash_token

DESKTOP = Device(kind="desktop")


class Office:
    """A license of three seats, and the clients that want them."""

    def __init__(self, capacity: int = 3) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock, max_pause=10**9)
        self.ledger = open_ledger("memory:", clock=self.clock)
        self.keyring = Keyring([b"k" * 32])
        self.seats = Seats(self.store, self.ledger, self.keyring)
        self.seats.suspicion = Suspicion(now=self.clock.now)
        self.operations = Operations(self.store, self.ledger, self.seats.suspicion)
        licenses = Licenses(self.store, self.ledger)
        license_, key = licenses.create(
            "A", {"editor": Policy(capacity=capacity)}, actor="key:test"
        )
        self.license_id, self.key = license_.id, hash_token(key)

    def acquire(self, user_id: str) -> Seat | Denied:
        wish = SeatCall(
            key_hash=self.key, feature="editor", user_id=user_id, client_id="app", device=DESKTOP
        )
        [answer] = self.seats.acquire([wish])
        assert isinstance(answer, Seat | Denied)
        return answer

    def take(self, user_id: str) -> Seat:
        answer = self.acquire(user_id)
        assert isinstance(answer, Seat)
        return answer

    def beat(self, *seats: Seat) -> list[object]:
        calls = [BeatCall(claims=self.keyring.verify(x.token), beat=Beat()) for x in seats]
        return list(self.seats.renew(calls))

    def pass_time(self, seconds: float, *beating: Seat) -> None:
        """Let time pass; the process ticks each second, and these beat every 30 s, as they always did."""
        for second in range(1, round(seconds) + 1):
            self.clock.advance(seconds=1)
            self.seats.suspicion.tick()
            if second % 30 == 0 and beating:
                self.beat(*beating)


@pytest.fixture
def office() -> Iterator[Office]:
    made = Office()
    yield made
    made.ledger.close()


def test_a_denial_says_when_a_silent_holder_is_out(office: Office) -> None:
    """Nobody beats for 45 s: in 25 s the first of them is a suspect past its linger."""
    seats = [office.take(name) for name in ("ann", "bob", "cem")]
    office.pass_time(120, *seats)
    office.pass_time(45, *seats[1:])
    denied = office.acquire("dan")
    assert isinstance(denied, Denied)
    assert denied.free_in == denied.retry_after == 25_000


def test_a_denial_among_the_living_forecasts_by_how_seats_change_hands(office: Office) -> None:
    """Without any change of hands nothing is foretold; after some, their rate tells."""
    held = [office.take(f"user{n}") for n in range(3)]
    denied = office.acquire("dan")
    assert isinstance(denied, Denied)
    assert denied.free_in is None
    for number in range(3, 9):
        office.pass_time(60, *held)
        office.seats.release([office.keyring.verify(held.pop(0).token)])
        held.append(office.take(f"user{number}"))
    denied = office.acquire("dan")
    assert isinstance(denied, Denied)
    assert denied.free_in == pytest.approx(MINUTE * 0.69, rel=0.05)


def test_debug_names_who_is_doubted_and_why(office: Office) -> None:
    ann, bob = office.take("ann"), office.take("bob")
    office.pass_time(300, ann, bob)
    office.pass_time(50, ann)
    office.beat(ann)
    debug = office.operations.debug("dan", "editor", license_id=office.license_id)
    [(lease, score)] = debug.pools[0].doubted
    assert lease.user_id == "bob"
    assert score.phi >= ASK_FROM
    assert any("Silent for 50 s" in reason for reason in score.reasons)
    assert not any("class" in reason for reason in score.reasons)  # its own habit is known
    own = office.operations.debug("ann", "editor", license_id=office.license_id)
    assert [x.user_id for x, _ in own.pools[0].doubted] == [
        "ann",
        "bob",
    ]  # the user's own come first


def test_debug_names_no_more_than_so_many() -> None:
    office = Office(capacity=DOUBTED_MAX + 20)
    beating = office.take("beating")
    for number in range(DOUBTED_MAX + 10):
        office.take(f"user{number}")
        office.pass_time(1)
    office.pass_time(50, beating)
    debug = office.operations.debug("dan", "editor", license_id=office.license_id)
    assert len(debug.pools[0].doubted) == DOUBTED_MAX
    office.ledger.close()


def test_what_has_ended_is_forgotten(office: Office) -> None:
    ann, bob = office.take("ann"), office.take("bob")
    assert len(office.seats.suspicion.tracker) == 2
    office.seats.release([office.keyring.verify(ann.token)])
    assert len(office.seats.suspicion.tracker) == 1
    office.pass_time(91)
    [answer] = office.beat(bob)
    assert isinstance(answer, Lost)
    assert len(office.seats.suspicion.tracker) == 0


def test_a_pool_that_fills_is_foretold() -> None:
    """One seat more each minute, and nobody leaves: the other forty are gone in forty minutes."""
    office = Office(capacity=60)
    held = []
    for number in range(20):
        held.append(office.take(f"user{number}"))
        office.operations.sample()
        office.pass_time(60, *held)
    stats = office.operations.stats(office.license_id)
    told = stats.full_in[f"{office.license_id}:editor"]
    assert told == pytest.approx(40 * MINUTE, rel=0.1)
    debug = office.operations.debug("user0", "editor", license_id=office.license_id)
    assert debug.pools[0].full_in == told
    office.ledger.close()
