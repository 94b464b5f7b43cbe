"""The services over the memory store: proofs, tokens, lost leases, and the operator's calls."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sojourn.clock import DAY, ManualClock
from sojourn.errors import (
    Forbidden,
    InvalidInput,
    InvalidPolicy,
    InvalidToken,
    NotFound,
    SojournError,
    Unauthenticated,
)
from sojourn.event import EventKind
from sojourn.lease import Beat, DenialReason, Denied, Doubt, LeaseFilter, Origin, Renewal
from sojourn.ledger import Ledger, LicenseChange, Role
from sojourn.license import LicenseStatus, Policy
from sojourn.service.keys import GRANTS, Keys, Permission
from sojourn.service.licenses import Licenses
from sojourn.service.operations import Operations
from sojourn.service.seats import BeatCall, DoubtCall, Lost, Seat, SeatCall, Seats
from sojourn.service.sweeper import Sweeper
from sojourn.store import Action
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring, TokenKind, hash_token, new_token

ACTOR = "key:test"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def ledger(clock: ManualClock) -> Iterator[Ledger]:
    ledger = open_ledger("memory:", clock=clock)
    yield ledger
    ledger.close()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([b"k" * 32])


@pytest.fixture
def seats(store: MemoryStore, ledger: Ledger, keyring: Keyring) -> Seats:
    return Seats(store, ledger, keyring)


@pytest.fixture
def licenses(store: MemoryStore, ledger: Ledger) -> Licenses:
    return Licenses(store, ledger)


@pytest.fixture
def operations(store: MemoryStore, ledger: Ledger) -> Operations:
    return Operations(store, ledger)


def call(key: str, user: str = "ada", client: str = "laptop", feature: str = "editor") -> SeatCall:
    return SeatCall(key_hash=hash_token(key), feature=feature, user_id=user, client_id=client)


def take(seats: Seats, key: str, user: str = "ada", client: str = "laptop") -> Seat:
    (answer,) = seats.acquire([call(key, user, client)])
    assert isinstance(answer, Seat), answer
    return answer


def test_a_doubt_that_stood_in_the_queue_counts_from_its_beginning(
    seats: Seats, licenses: Licenses, keyring: Keyring, clock: ManualClock
) -> None:
    """Whoever was renewed by us, dropped, and came back at another server two seconds later is not doubted by
    us three seconds after that: nor if the doubt has waited for its turn meanwhile."""
    _, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    seat = take(seats, key)
    lease = seat.lease
    clock.advance(seconds=2)
    assert isinstance(
        seats.renew([BeatCall(claims=keyring.verify(seat.token), beat=Beat())])[0], Renewal
    )
    clock.advance(seconds=3)
    # We have not renewed it for 2.5 s when the doubt was made, half a second after it came back.
    doubt = Doubt(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id, silent_for=2_500)
    assert seats.doubt([DoubtCall(doubt, at_once=True, made_at=time.monotonic() - 2.5)]) == [False]
    clock.advance(seconds=10)
    assert seats.doubt([DoubtCall(doubt, at_once=True, made_at=time.monotonic())]) == [True]


def test_a_key_opens_its_license_and_the_token_says_what_is_held(
    seats: Seats, licenses: Licenses, keyring: Keyring
) -> None:
    """An acquire answers a token from which the lease can be renewed and released."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    seat = take(seats, key)
    claims = keyring.verify(seat.token)
    assert claims.pool_id == f"{license_.id}:editor"
    assert (claims.lease_id, claims.fence) == (seat.lease.id, seat.lease.fence)
    assert (seat.heartbeat_interval, seat.lost_after, seat.expires_in) == (30_000, 90_000, 90_000)
    assert seats.renew([BeatCall(claims=claims)]) == [Renewal(expires_in=90_000)]
    assert seats.release([claims]) == [True]
    assert seats.release([claims]) == [False]


def test_one_batch_answers_each_by_its_own_merit(seats: Seats, licenses: Licenses) -> None:
    """An unknown key, a foreign license and an unknown feature fail alone."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    other, _ = licenses.create("Other", {"editor": Policy(capacity=1)}, actor=ACTOR)
    foreign = SeatCall(
        key_hash=hash_token(key), license_id=other.id, feature="editor", user_id="x", client_id="y"
    )
    answers = seats.acquire(
        [
            call(new_token(TokenKind.LICENSE)),
            foreign,
            call(key, feature="nothing"),
            call(key, feature="no spaces"),
            SeatCall(license_id=license_.id, feature="editor", user_id="x", client_id="y"),
            call(key),
            call(key, "grace"),
        ]
    )
    kinds = [type(a) for a in answers]
    assert kinds == [
        Unauthenticated,
        Forbidden,
        NotFound,
        InvalidInput,
        Unauthenticated,
        Seat,
        Denied,
    ]
    assert isinstance(answers[2], SojournError)
    assert answers[2].code == "feature_unknown"


def test_a_verified_jwt_needs_no_key(seats: Seats, licenses: Licenses) -> None:
    """A license id that the transport has verified is proof enough."""
    license_, _ = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    trusted = SeatCall(
        license_id=license_.id, trusted=True, feature="editor", user_id="ada", client_id="tab"
    )
    assert isinstance(seats.acquire([trusted])[0], Seat)


def test_a_store_that_lost_its_pools_is_healed_from_the_ledger(
    seats: Seats, licenses: Licenses, store: MemoryStore
) -> None:
    """An acquire on a pool that only the ledger knows defines it, and is then decided."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    store.drop([f"{license_.id}:editor"], Action(actor="test"))
    assert isinstance(seats.acquire([call(key)])[0], Seat)


def test_lost_leases_say_why_and_whether_to_come_back(
    seats: Seats, licenses: Licenses, keyring: Keyring, clock: ManualClock, operations: Operations
) -> None:
    """Expired, taken over, revoked, suspended: each has its word."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=3)}, actor=ACTOR)
    expired = keyring.verify(take(seats, key, "expired").token)
    clock.advance(seconds=91)
    assert seats.renew([BeatCall(claims=expired)]) == [Lost(reason="expired", resumable=True)]
    old = keyring.verify(take(seats, key, "twice").token)
    take(seats, key, "twice")
    revoked = keyring.verify(take(seats, key, "revoked").token)
    operations.force_cleanup("revoked", "editor", actor=ACTOR)
    assert seats.renew([BeatCall(claims=old), BeatCall(claims=revoked)]) == [
        Lost(reason="taken_over", resumable=False),
        Lost(reason="revoked", resumable=False),
    ]
    living = keyring.verify(take(seats, key, "living").token)
    licenses.change(license_.id, LicenseChange(status=LicenseStatus.SUSPENDED), actor=ACTOR)
    assert seats.renew([BeatCall(claims=living)]) == [
        Lost(reason="license_suspended", resumable=False)
    ]
    (denied,) = seats.acquire([call(key, "late")])
    assert isinstance(denied, Denied)
    assert denied.reason is DenialReason.LICENSE_SUSPENDED


def test_a_lease_token_alone_resumes_its_lease(
    seats: Seats, licenses: Licenses, keyring: Keyring, clock: ManualClock
) -> None:
    """Within the resume window the holder comes back to the same lease, under a new fence."""
    _, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    seat = take(seats, key)
    clock.advance(seconds=200)
    (back,) = seats.acquire([SeatCall(claims=keyring.verify(seat.token))])
    assert isinstance(back, Seat)
    assert back.lease.id == seat.lease.id
    assert back.lease.fence > seat.lease.fence
    assert back.lease.origin is Origin.RESUMED
    (superseded,) = seats.acquire([SeatCall(claims=keyring.verify(seat.token))])
    assert isinstance(superseded, Denied)
    assert superseded.reason is DenialReason.LEASE_ENDED


def test_a_token_readmits_its_holder_to_a_store_that_lost_the_lease(
    seats: Seats, licenses: Licenses, keyring: Keyring, clock: ManualClock, ledger: Ledger
) -> None:
    """After lost writes the signed token is enough, within capacity and for a day."""
    _, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    token = take(seats, key).token
    emptied = MemoryStore(clock=clock)
    Licenses(emptied, ledger).reconcile()
    after = Seats(emptied, ledger, keyring)
    assert after.renew([BeatCall(claims=keyring.verify(token))]) == [
        Lost(reason="absent", resumable=True)
    ]
    (back,) = after.acquire([SeatCall(claims=keyring.verify(token))])
    assert isinstance(back, Seat)
    assert back.lease.id == keyring.verify(token).lease_id
    assert back.lease.fence > keyring.verify(token).fence
    (full,) = after.acquire([call(key, "grace")])
    assert isinstance(full, Denied)

    clock.advance(seconds=DAY / 1000 + 1)
    forgotten = Seats(MemoryStore(clock=clock), ledger, keyring)
    (refused,) = forgotten.acquire([SeatCall(claims=keyring.verify(token))])
    assert isinstance(refused, InvalidToken)
    assert refused.code == "token_expired"


def test_force_cleanup_ends_everywhere_is_audited_and_may_be_repeated(
    seats: Seats, licenses: Licenses, store: MemoryStore, operations: Operations
) -> None:
    """A user's leases on a feature end on every license, in the same step as the audit."""
    keys = [licenses.create(name, {"editor": Policy(capacity=2)}, actor=ACTOR)[1] for name in "AB"]
    for key in keys:
        take(seats, key, "ada")
        take(seats, key, "grace")
    first = operations.force_cleanup("ada", "editor", actor=ACTOR)
    again = operations.force_cleanup("ada", "editor", actor=ACTOR)
    assert (first.ended_count, first.remaining) == (2, 0)
    assert {x.user_id for x in first.ended} == {"ada"}
    assert again.ended_count == 0
    acted = store.events(kinds=[EventKind.OPERATOR_ACTED])
    assert [(e.actor, e.data["name"], e.data["ended"]) for e in acted] == [
        (ACTOR, "force_cleanup", 2),
        (ACTOR, "force_cleanup", 0),
    ]


def test_cleanup_ends_what_fell_silent_and_leaves_the_living(
    seats: Seats,
    licenses: Licenses,
    operations: Operations,
    clock: ManualClock,
    keyring: Keyring,
) -> None:
    """Suspects go; whoever keeps beating stays."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=2)}, actor=ACTOR)
    take(seats, key, "ghost")
    living = keyring.verify(take(seats, key, "living").token)
    clock.advance(seconds=61)
    seats.renew([BeatCall(claims=living, beat=Beat())])
    done = operations.cleanup(license_.id, actor=ACTOR)
    assert [x.user_id for x in done.ended] == ["ghost"]
    assert done.remaining == 1
    with pytest.raises(NotFound):
        operations.cleanup("lic_none", actor=ACTOR)


def test_debug_tells_the_whole_story(
    seats: Seats, licenses: Licenses, operations: Operations, store: MemoryStore
) -> None:
    """Leases, pool numbers, license, recent denials with evidence, and what an acquire would answer."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=1)}, actor=ACTOR)
    take(seats, key, "ada")
    seats.acquire([call(key, "grace")])
    before = len(store.events(limit=1000))
    story = operations.debug("grace", "editor")
    (view,) = story.pools
    assert isinstance(view.answer, Denied)
    assert view.license is not None
    assert view.license.id == license_.id
    assert (view.usage.in_use, view.usage.capacity) == (1, 1)
    (denial,) = story.denials
    assert denial.data["holders"][0]["userId"] == "ada"
    assert len(store.events(limit=1000)) == before  # looking changes nothing
    operations.force_cleanup("ada", "editor", actor=ACTOR)
    (view,) = operations.debug("grace", "editor").pools
    assert not isinstance(view.answer, Denied)


def test_stats_count_each_pool(seats: Seats, licenses: Licenses, operations: Operations) -> None:
    """A license's statistics name each feature's seats."""
    license_, key = licenses.create(
        "Acme", {"editor": Policy(capacity=2), "viewer": Policy(capacity=9)}, actor=ACTOR
    )
    take(seats, key)
    stats = operations.stats(license_.id)
    assert {p.feature: (u.in_use, u.capacity) for p, u in stats.pools} == {
        "editor": (1, 2),
        "viewer": (0, 9),
    }


def test_a_replaced_key_stops_at_once(seats: Seats, licenses: Licenses) -> None:
    """The old license key is refused from the moment the new one is made."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=2)}, actor=ACTOR)
    _, new = licenses.rotate_key(license_.id, actor=ACTOR)
    assert isinstance(seats.acquire([call(key)])[0], Unauthenticated)
    assert isinstance(seats.acquire([call(new)])[0], Seat)


def test_removing_a_feature_or_license_revokes_its_leases(
    seats: Seats, licenses: Licenses, keyring: Keyring, store: MemoryStore
) -> None:
    """Nothing keeps a seat of what no longer exists."""
    license_, key = licenses.create("Acme", {"editor": Policy(capacity=2)}, actor=ACTOR)
    claims = keyring.verify(take(seats, key).token)
    licenses.remove_feature(license_.id, "editor", actor=ACTOR)
    assert store.renew([]) == []
    assert store.leases(LeaseFilter(license_id=license_.id))[0] == []
    (lost,) = seats.renew([BeatCall(claims=claims)])
    assert isinstance(lost, Lost)
    licenses.set_feature(license_.id, "editor", Policy(capacity=1), actor=ACTOR)
    take(seats, key)
    licenses.delete(license_.id, actor=ACTOR)
    assert store.leases(LeaseFilter(license_id=license_.id))[0] == []
    with pytest.raises(NotFound):
        licenses.get(license_.id)


def test_bad_policies_and_dates_change_nothing(licenses: Licenses, ledger: Ledger) -> None:
    """A refused license leaves no trace."""
    with pytest.raises(InvalidPolicy):
        licenses.create("Acme", {"editor": Policy(capacity=-1)}, actor=ACTOR)
    with pytest.raises(InvalidInput):
        licenses.create("Acme", {}, valid_from=2, valid_until=1, actor=ACTOR)
    with pytest.raises(InvalidInput):
        licenses.create(" ", {}, actor=ACTOR)
    with pytest.raises(InvalidInput):
        licenses.create("Acme", {"a b": Policy(capacity=1)}, actor=ACTOR)
    assert ledger.licenses() == []


def test_the_first_admin_key_is_made_once(ledger: Ledger) -> None:
    """A second start prints nothing; a key given by hand works as it is."""
    keys = Keys(ledger)
    secret = keys.ensure_admin()
    assert secret is not None
    assert keys.ensure_admin() is None
    assert keys.authenticate(secret).role is Role.ADMIN
    given = "a-string-of-thirty-two-characters-x"
    keys.ensure_admin(given)
    keys.ensure_admin(given)
    assert keys.authenticate(given).role is Role.ADMIN
    assert len(keys.list()) == 2


def test_servers_that_start_at_once_share_a_key(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks, finds no such key, and makes it: one is faster, and neither fails for that."""
    given = "a-string-of-thirty-two-characters-x"
    keys, look = Keys(ledger), ledger.key_by_hash

    def meanwhile(key_hash: bytes) -> object:
        found = look(key_hash)
        monkeypatch.setattr(ledger, "key_by_hash", look)
        Keys(ledger).ensure_admin(given)
        return found

    monkeypatch.setattr(ledger, "key_by_hash", meanwhile)
    assert keys.ensure_admin(given) is None
    assert keys.authenticate(given).role is Role.ADMIN
    assert len(keys.list()) == 1


def test_keys_end_and_expire_at_once(ledger: Ledger, clock: ManualClock) -> None:
    """A revoked or outdated key is refused from that moment."""
    keys = Keys(ledger)
    now = clock.now()
    key, secret = keys.create("viewer", Role.VIEWER, expires_at=now + 1_000, actor=ACTOR)
    keys.require(keys.authenticate(secret), Permission.READ)
    with pytest.raises(Forbidden):
        keys.require(key, Permission.KEYS)
    clock.advance(seconds=1)
    with pytest.raises(Unauthenticated):
        keys.authenticate(secret)
    other, other_secret = keys.create("admin", Role.ADMIN, actor=ACTOR)
    keys.revoke(other.id, actor=ACTOR)
    keys.revoke(other.id, actor=ACTOR)
    with pytest.raises(Unauthenticated):
        keys.authenticate(other_secret)
    with pytest.raises(NotFound):
        keys.revoke("key_none", actor=ACTOR)
    with pytest.raises(InvalidToken):
        keys.authenticate(secret[:-1] + "!")
    with pytest.raises(InvalidToken):
        keys.authenticate(new_token(TokenKind.LICENSE))


def test_every_role_has_its_grants() -> None:
    """No role is forgotten, and only an admin makes keys."""
    assert set(GRANTS) == set(Role)
    assert [r for r in Role if Permission.KEYS in GRANTS[r]] == [Role.ADMIN]


def test_a_sweep_is_recorded(
    seats: Seats, licenses: Licenses, store: MemoryStore, ledger: Ledger, clock: ManualClock
) -> None:
    """What a sweep did is in the ledger, and a second one does nothing."""
    _, key = licenses.create("Acme", {"editor": Policy(capacity=9)}, actor=ACTOR)
    for n in range(5):
        take(seats, key, f"user-{n}")
    clock.advance(seconds=91)
    sweeper = Sweeper(store, ledger, batch=2)
    assert sweeper.run().leases_expired == 5
    assert sweeper.run().leases_expired == 0
    assert [r.leases_expired for r in ledger.sweeps()] == [0, 5]
