"""The services over requests that come twice: whose key it is, and what a copy is told later on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.clock import ManualClock
from sojourn.errors import InvalidInput, NotFound
from sojourn.idempotency import Presented, Replayed, key_of
from sojourn.ledger import Ledger
from sojourn.license import Policy
from sojourn.service.licenses import Licenses
from sojourn.service.seats import Seat, SeatCall, Seats
from sojourn.session import Begin
from sojourn.store import Action
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring, hash_token

ONCE = Presented(b"key", b"f" * 16)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=ManualClock())


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = open_ledger("memory:", clock=ManualClock())
    yield ledger
    ledger.close()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([b"k" * 32])


@pytest.fixture
def seats(store: MemoryStore, ledger: Ledger, keyring: Keyring) -> Seats:
    return Seats(store, ledger, keyring)


@pytest.fixture
def licensed(store: MemoryStore, ledger: Ledger) -> tuple[str, str]:
    created, key = Licenses(store, ledger).create(
        "Acme", {"editor": Policy(capacity=5)}, actor="key:test"
    )
    return created.id, key


def wish(user: str = "ada", **proof: Any) -> SeatCall:
    return SeatCall(feature="editor", user_id=user, client_id="laptop", once=ONCE, **proof)


def seat_of(answer: Any) -> Seat:
    assert isinstance(answer, Seat), answer
    return answer


def test_a_users_key_is_their_own(seats: Seats, licensed: tuple[str, str]) -> None:
    """Where a JWT proves who asks, nobody is told what another user of the license was answered, and
    nobody can use up another's key."""
    proof = {"license_id": licensed[0], "trusted": True}
    ada, eve = seats.acquire([wish("ada", **proof), wish("eve", **proof)])
    assert seat_of(ada).lease.id != seat_of(eve).lease.id
    (again,) = seats.acquire([wish("ada", **proof)])
    assert isinstance(again, Replayed)
    assert again.answer.token == seat_of(ada).token


def test_proofs_do_not_share_keys(
    seats: Seats, licensed: tuple[str, str], keyring: Keyring
) -> None:
    """The license key, a user's JWT and a lease token are three callers."""
    license_id, key = licensed
    (first,) = seats.acquire([wish(key_hash=hash_token(key))])
    (second,) = seats.acquire([wish(license_id=license_id, trusted=True)])
    claims = keyring.verify(seat_of(second).token)
    (third,) = seats.acquire([SeatCall(claims=claims, once=ONCE)])
    assert [seat_of(x).lease.fence for x in (first, second, third)] == [1, 2, 3]


def test_a_holders_seat_is_told_to_no_other(seats: Seats, licensed: tuple[str, str]) -> None:
    """The same license key, key and body, but another holder: refused."""
    call = wish(key_hash=hash_token(licensed[1]))
    seat_of(seats.acquire([call])[0])
    for other in (replace(call, user_id="eve"), replace(call, client_id="phone")):
        (answer,) = seats.acquire([other])
        assert isinstance(answer, InvalidInput)
        assert answer.code == "idempotency_key_reused"


def test_after_the_secret_was_replaced(
    seats: Seats, store: MemoryStore, ledger: Ledger, licensed: tuple[str, str]
) -> None:
    """The copy is told a token of the new secret, which is as good, for the same lease and fence."""
    call = wish(key_hash=hash_token(licensed[1]))
    first = seat_of(seats.acquire([call])[0])
    newer = Keyring([b"n" * 32, b"k" * 32])
    (again,) = Seats(store, ledger, newer).acquire([call])
    assert isinstance(again, Replayed)
    assert newer.verify(again.answer.token) == newer.verify(first.token)


def test_what_is_derived_from_a_key_is_not_shown() -> None:
    """Neither the value that a caller sent nor the seed of tokens gets into a log."""
    made = key_of("api:key_1", "begin", ONCE)
    assert made is not None
    shown = repr([ONCE, made, SeatCall(once=ONCE), Begin(idempotency=made)])
    assert "key" not in shown.replace("IdempotencyKey", "").replace("key_hash", "")
    assert repr(made.seed) not in shown
    assert made.seed.hex() not in shown


def test_of_a_pool_that_is_gone(
    seats: Seats, store: MemoryStore, ledger: Ledger, keyring: Keyring, licensed: tuple[str, str]
) -> None:
    """Its neighbors in the batch are answered all the same, once."""
    license_id, key = licensed
    call = wish(key_hash=hash_token(key))
    seat_of(seats.acquire([call])[0])
    store.drop([f"{license_id}:editor"], Action(actor="key:test"))
    fresh = Seats(store, ledger, keyring)
    gone, unknown = fresh.acquire([call, replace(call, feature="other", once=None)])
    assert isinstance(gone, NotFound)
    assert isinstance(unknown, NotFound)
