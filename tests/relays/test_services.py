"""An authority and its relays as they are served: what may be granted, and when no more is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.relays.world import FEATURE, TTL, Center, Site

from sojourn.clock import HOUR, MINUTE, SECOND, ManualClock
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.lease import Denied, Lease, Renewal
from sojourn.ledger import LicenseChange
from sojourn.license import LicenseStatus, Policy
from sojourn.relays.share import MARGIN
from sojourn.service.licenses import Licenses
from sojourn.token import hash_token


class Sites:
    """Two relays and their authority, whose clocks go together."""

    def __init__(self, folder: Path, template: Path, *, capacity: int = 5) -> None:
        self.center = Center(ManualClock(), capacity=capacity)
        self.template = template
        self.east = Site(self.center, folder / "east", "east", template=template)
        self.west = Site(self.center, folder / "west", "west", template=template)
        self.all = (self.east, self.west)

    def close(self) -> None:
        for site in self.all:
            site.stop()
        self.center.ledger.close()

    def advance(self, milliseconds: int) -> None:
        for clock in (self.center.clock, *(site.clock for site in self.all)):
            clock.advance(milliseconds=milliseconds)


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


def seated(site: Site, *users: str) -> list[Lease]:
    """Seat users, each after the relay has asked for a seat."""
    leases = []
    site.learn()
    for user in users:
        site.beat(asks=1)
        lease = site.acquire(user)
        assert isinstance(lease, Lease), lease
        leases.append(lease)
    return leases


def test_a_relay_grants_what_was_allotted(sites: Sites) -> None:
    """Together they grant the capacity, and not one seat more."""
    seated(sites.east, "ann", "bob", "cem")
    sites.east.wire.cut = True
    seated(sites.west, "dan")
    sites.west.beat(asks=9)
    assert sites.center.out() == 5
    granted = [sites.west.acquire(user) for user in ("eve", "fay", "gus")]
    refused = sites.east.acquire("hal"), sites.east.acquire("ida")
    assert sum(isinstance(x, Lease) for x in (*granted, *refused)) == 1
    assert sites.east.held() + sites.west.held() == 5


def test_a_license_is_known_by_its_key_alone(sites: Sites) -> None:
    """Before somebody has shown its key, a relay has nothing of a license."""
    sites.east.beat(asks=1)
    assert sites.east.ledger.licenses() == []
    sites.east.learn()
    (known,) = sites.east.ledger.licenses()
    assert (known.id, sites.east.pool.policy.capacity) == (sites.center.license_id, 0)


def test_nobody_can_be_asked(sites: Sites) -> None:
    """A license that is not known yet, while the authority is away, is no wrong key."""
    sites.east.wire.cut = True
    with pytest.raises(StoreUnavailable) as refused:
        sites.east.learn()
    assert refused.value.code == "authority_unreachable"


def test_cut_off_it_goes_on_until_its_deadline(sites: Sites) -> None:
    """Its holders keep their seats to the end of the allotment, and no reply reaches past it."""
    (lease,) = seated(sites.east, "ann")
    sites.east.wire.cut = True
    left = TTL - TTL // 1_000 - MARGIN
    while left > 90 * SECOND:
        sites.advance(50 * SECOND)
        left -= 50 * SECOND
        assert sites.east.renew(lease) == Renewal(expires_in=min(left, 90 * SECOND))
    sites.advance(left - 40 * SECOND)
    late = sites.east.acquire("ann")
    assert isinstance(late, Lease)
    assert late.expires_at - late.last_beat_at == 40 * SECOND
    assert isinstance(sites.east.acquire("bob"), Denied)
    sites.advance(39 * SECOND)
    assert sites.east.renew(late) == Renewal(expires_in=SECOND)
    sites.advance(SECOND)
    assert sites.east.renew(late) is None
    assert sites.east.held() == 0
    assert lease.pool_id == sites.center.pool_id


def test_what_is_over_is_sold_again_and_never_twice(sites: Sites) -> None:
    """Whoever held a seat of a relay that was cut off for too long has none when another gets it."""
    leases = seated(sites.east, "ann", "bob", "cem")
    sites.east.wire.cut = True
    sites.advance(TTL + MINUTE)
    seated(sites.west, *(f"user-{i}" for i in range(5)))
    assert [sites.east.renew(lease) for lease in leases] == [None] * 3
    sites.east.wire.cut = False
    sites.east.beat(asks=3)
    assert [sites.east.renew(lease) for lease in leases] == [None] * 3
    assert all(isinstance(sites.east.acquire(user), Denied) for user in ("ann", "bob"))


def test_a_restart_loses_nothing(sites: Sites) -> None:
    """The holders keep their seats, the relay what it may grant, and nobody is let wait."""
    leases = seated(sites.east, "ann", "bob")
    before = sites.east.seats
    sites.east.wire.cut = True
    sites.east.restart(away=20 * SECOND)
    assert sites.east.seats == before == 3
    assert all(isinstance(sites.east.renew(lease), Renewal) for lease in leases)
    assert isinstance(sites.east.acquire("cem"), Lease)
    assert sites.east.region.status().careful_for == 0


def test_a_restart_past_the_deadline(sites: Sites) -> None:
    """What was over when it came back is over."""
    (lease,) = seated(sites.east, "ann")
    sites.east.wire.cut = True
    sites.east.restart(away=TTL)
    assert (sites.east.seats, sites.east.renew(lease)) == (0, None)
    assert isinstance(sites.east.acquire("ann"), Denied)


@pytest.mark.parametrize(("wall_off", "seats"), [(0, 2), (-10 * MINUTE, 0), (2 * TTL, 0)])
def test_a_reboot_goes_by_the_wall_clock(sites: Sites, wall_off: int, seats: int) -> None:
    """A clock that went back over a reboot ends what was allotted, and so does one that went too far."""
    seated(sites.east, "ann")
    sites.east.wire.cut = True
    sites.east.reboot(away=MINUTE, wall_off=wall_off)
    assert sites.east.seats == seats
    assert isinstance(sites.east.acquire("bob"), Lease) is bool(seats)


def test_idle_seats_go_back(sites: Sites) -> None:
    """Once its people have left, a relay keeps one seat for an hour, and then none."""
    seated(sites.east, "ann", "bob", "cem", "dan")
    assert sites.center.out() == 5
    sites.advance(2 * MINUTE)  # they have gone without a word
    for _ in range(50):
        sites.advance(MINUTE)
        sites.east.beat()
    assert (sites.east.seats, sites.center.out()) == (1, 1)
    sites.advance(HOUR)
    for _ in range(3):
        sites.east.beat()
    assert (sites.east.seats, sites.center.out()) == (0, 0)


def test_cut_off_nothing_is_given_back(sites: Sites) -> None:
    """What a relay gave up while it was alone it could not have again."""
    seated(sites.east, "ann", "bob", "cem", "dan")
    sites.east.wire.cut = True
    for _ in range(30):
        sites.advance(MINUTE)
        sites.east.beat()
    assert sites.east.seats == 5


def test_idle_seats_are_asked_back_for_who_needs_them(sites: Sites) -> None:
    """A seat that one region keeps to spare goes to another where somebody waits for it."""
    seated(sites.east, "ann", "bob", "cem", "dan")
    assert sites.east.seats == 5
    sites.west.learn()
    sites.west.beat(asks=1)
    assert sites.west.seats == 0
    sites.east.beat()
    sites.east.beat()
    sites.west.beat(asks=1)
    assert (sites.east.seats, sites.west.seats, sites.center.out()) == (4, 1, 5)


def test_a_lowered_capacity_evicts_nobody(sites: Sites) -> None:
    """It reaches a relay with the next beat; whoever sits there stays, and their seats go when they do."""
    leases = seated(sites.east, "ann", "bob", "cem")
    sites.center.resize(2)
    sites.east.beat()
    sites.east.beat()
    assert (sites.east.seats, sites.center.out()) == (3, 3)
    assert all(isinstance(sites.east.renew(lease), Renewal) for lease in leases)
    assert isinstance(sites.east.acquire("dan"), Denied)


def test_a_suspended_license(sites: Sites) -> None:
    """Suspension reaches a relay with the next beat, and so does its end."""
    (lease,) = seated(sites.east, "ann")
    change = LicenseChange(status=LicenseStatus.SUSPENDED)
    sites.center.licenses.change(sites.center.license_id, change, actor="test")
    sites.east.beat()
    assert sites.east.renew(lease) is None
    change = LicenseChange(status=LicenseStatus.ACTIVE)
    sites.center.licenses.change(sites.center.license_id, change, actor="test")
    sites.east.beat(asks=1)
    assert isinstance(sites.east.acquire("ann"), Lease)


def test_a_deleted_license_is_gone(sites: Sites) -> None:
    """A relay forgets it with the next beat."""
    (lease,) = seated(sites.east, "ann")
    sites.center.licenses.delete(sites.center.license_id, actor="test")
    sites.east.beat()
    assert sites.east.renew(lease) is None
    assert sites.east.ledger.licenses() == []
    sites.east.beat()
    assert sites.east.region.status().refused == ""


def test_a_changed_policy_and_key(sites: Sites) -> None:
    """Terms that have changed come with the next beat, and once."""
    seated(sites.east, "ann")
    policy = Policy(capacity=5, heartbeat_interval=10 * SECOND, overdraft=3)
    sites.center.licenses.set_feature(sites.center.license_id, FEATURE, policy, actor="test")
    _, key = sites.center.licenses.rotate_key(sites.center.license_id, actor="test")
    sites.east.beat()
    assert sites.east.pool.policy == replace(policy, capacity=2, overdraft=0)
    sites.center.key = key
    sites.east.wire.cut = True
    assert Licenses(sites.east.raw, sites.east.ledger).get(sites.center.license_id)
    sites.east.wire.cut = False
    sites.east.beat()
    assert [len(each.licenses) for each in sites.east.wire.answered[-2:]] == [1, 0]


def test_who_waits_in_the_line_is_asked_for(sites: Sites) -> None:
    """A beat asks for seats for all who wait, though nobody comes to ask."""
    seated(sites.east, "ann")
    seated(sites.west, "bob", "cem")
    assert (sites.east.seats, sites.west.seats) == (2, 3)
    sites.east.acquire("dan")
    waits = replace(sites.east.wish("eve"), wait=True)
    (refused,) = sites.east.store.acquire([waits])
    assert isinstance(refused, Denied)
    assert refused.position == 1
    sites.east.beat()
    sites.west.beat()
    sites.west.beat()
    sites.east.beat()
    (granted,) = sites.east.store.acquire([waits])
    assert isinstance(granted, Lease)
    assert sites.east.held() + sites.west.held() == 5


def test_terms_come_anew_after_a_start(sites: Sites) -> None:
    """A database that was put back has old terms: a key that was replaced since counts no more."""
    seated(sites.east, "ann")
    copy = sites.east.snapshot()
    old = hash_token(sites.center.key)
    sites.center.licenses.rotate_key(sites.center.license_id, actor="test")
    sites.east.beat()
    assert sites.east.ledger.licenses_by_key([old]) == [None]
    sites.east.put_back(copy, only="relay.db")
    assert sites.east.ledger.licenses_by_key([old]) == [None]


def test_a_folder_with_licenses_of_its_own(sites: Sites, tmp_path: Path) -> None:
    """A server that owned licenses does not become a relay by a flag."""
    site = sites.east
    Licenses(site.raw, site.ledger).create("Mine", {FEATURE: Policy(capacity=1)}, actor="test")
    (site.folder / "relay.json").unlink()
    with pytest.raises(SettingsError, match="licenses of its own"):
        site.restart()
