"""What a relay must not be believed, and what it must not believe itself: nothing is granted for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.relays.test_services import Sites, seated
from tests.relays.world import Site

from sojourn.clock import HOUR, SECOND
from sojourn.errors import Forbidden
from sojourn.lease import Denied, Lease, Renewal, Resume
from sojourn.ledger import Role
from sojourn.region.gate import Recovering
from sojourn.region.uplink import Refused
from sojourn.service.keys import Keys, Permission
from sojourn.wire.relays import GrantBody


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


def refused(site: Site) -> str:
    return site.region.status().refused


def test_a_key_of_another_role(sites: Sites) -> None:
    key, _ = sites.center.keys.create("viewer", Role.VIEWER, actor="test")
    with pytest.raises(Forbidden):
        Keys(sites.center.ledger).require(key, Permission.RELAY)


def test_another_version_of_the_protocol(sites: Sites) -> None:
    """An old relay is refused, and changes nothing."""
    seated(sites.east, "ann")
    before = sites.center.store.authority()
    body = replace(sites.east.wire.sent[-1], protocol=0, number=99)
    with pytest.raises(Refused) as fault:
        sites.east.wire.carry(body)
    assert (fault.value.code, sites.center.store.authority()) == ("relay_protocol", before)


@pytest.mark.parametrize("off", [-3 * HOUR, 3 * HOUR])
def test_a_clock_off_by_hours(sites: Sites, off: int) -> None:
    """Nothing is allotted to a relay whose clock is wrong; what it has it keeps until its deadline."""
    seated(sites.east, "ann")
    sites.east.wall_off = off
    sites.east.beat(asks=3)
    assert (refused(sites.east), sites.east.seats) == ("relay_clock", 2)
    (_, _, noted) = sites.center.relays.known()
    assert noted[sites.east.api_key.id].code == "relay_clock"
    sites.east.wall_off = 0
    sites.east.beat(asks=3)
    assert (refused(sites.east), sites.east.seats) == ("", 5)
    assert sites.center.relays.known()[2] == {}


def test_a_message_that_comes_twice_or_late(sites: Sites) -> None:
    """A beat that is heard again gives nothing twice; an older one is refused, and changes nothing."""
    seated(sites.east, "ann")
    first = sites.east.wire.sent[-1]
    assert sites.east.wire.carry(first).grants == sites.east.wire.answered[-2].grants
    sites.east.beat(asks=2)
    before = sites.center.store.authority()
    with pytest.raises(Refused) as fault:
        sites.east.wire.carry(first)
    assert (fault.value.code, sites.center.store.authority()) == ("relay_late", before)


def test_a_lost_answer_is_given_again(sites: Sites) -> None:
    """What was reserved by an answer that was lost comes with the next one, and is not reserved twice."""
    sites.east.learn()
    sites.east.wire.loses_answers = True
    sites.east.beat(asks=3)
    assert (sites.east.seats, sites.center.out()) == (0, 4)
    sites.east.wire.loses_answers = False
    sites.east.beat(asks=3)
    assert (sites.east.seats, sites.center.out()) == (4, 4)


def test_seats_that_were_not_given(sites: Sites) -> None:
    """A relay that speaks of more seats than it was given, of those of another, or of a license that it does
    not serve, is refused."""
    seated(sites.east, "ann")
    seated(sites.west, "bob")
    sites.east.beat()
    body = sites.east.wire.sent[-1]
    (wish,) = body.wishes
    (other,) = sites.west.wire.sent[-1].wishes
    before = sites.center.store.authority()
    for claimed in (
        replace(wish, seats=5),
        replace(wish, fence=wish.fence + 1),
        replace(wish, proof=""),
        replace(wish, proof=other.proof or "5.00", fence=9),
        replace(wish, pool_id="lic_other:seats"),
    ):
        with pytest.raises(Refused) as fault:
            sites.east.wire.carry(replace(body, number=99, wishes=(claimed,)))
        assert fault.value.code == "allotment_foreign"
    assert sites.center.store.authority() == before


def test_an_answer_about_another_license(sites: Sites) -> None:
    """A relay takes no allotment that it did not ask for, and nothing else of such an answer."""
    seated(sites.east, "ann")
    told = sites.east.wire.answered[-1]
    stray = GrantBody(pool_id="lic_other:seats", seats=9, fence=9, ttl=HOUR, proof="")
    number = sites.east.wire.sent[-1].number + 1
    sites.east.wire.answer = replace(told, number=number, grants=(*told.grants, stray))
    sites.east.beat()
    assert refused(sites.east) == "answer_foreign"
    assert "lic_other:seats" not in sites.east.holding.relay.shares


def test_an_old_answer(sites: Sites) -> None:
    """The answer to another beat is not taken."""
    seated(sites.east, "ann")
    sites.east.wire.answer = replace(sites.east.wire.answered[-1], number=1)
    sites.east.beat()
    assert (refused(sites.east), sites.east.seats) == ("answer_foreign", 2)


def test_a_copy_that_somebody_else_signed(sites: Sites) -> None:
    """Terms that were not signed for this relay are not taken."""
    sites.west.learn()
    sites.east.region._key_hash = b"another"
    sites.east.learn()
    assert (refused(sites.east), sites.east.ledger.licenses()) == ("copy_forged", [])


def test_a_machine_that_was_copied(sites: Sites) -> None:
    """Of two relays with one name the later one goes on; the other ends what it granted, and says why."""
    (lease,) = seated(sites.east, "ann")
    copy = sites.east.snapshot()
    sites.east.beat()
    twin = Site(sites.center, copy.with_name("twin"), "twin", template=sites.template)
    twin.api_key, twin.secret, twin.wire.key = (
        sites.east.api_key,
        sites.east.secret,
        sites.east.api_key,
    )
    twin.put_back(copy)
    sites.east.beat()
    assert refused(sites.east) == "relay_cloned"
    assert sites.east.renew(lease) is None
    assert isinstance(sites.east.acquire("bob"), Denied)
    twin.beat()
    assert (refused(twin), twin.seats) == ("", 2)
    sent = len(sites.east.wire.sent)
    sites.east.beat()
    assert len(sites.east.wire.sent) == sent  # or its numbers would overtake the other's
    twin.stop()


def test_a_disk_that_was_put_back(sites: Sites) -> None:
    """A relay that was put back to an earlier state believes nothing of it, and says so; whom it has
    forgotten comes back by a token before anybody new gets a seat."""
    seated(sites.east, "ann")
    copy = sites.east.snapshot()
    (late,) = seated(sites.east, "bob")
    sites.east.wire.cut = True
    sites.east.put_back(copy)
    assert sites.east.seats == 0
    assert isinstance(sites.east.acquire("cem"), Denied)
    assert "put back" in sites.east.region.status().notes[0]
    sites.east.wire.cut = False
    sites.east.beat()
    sites.east.beat(asks=1)
    assert sites.east.seats == 3
    sites.advance(SECOND)
    assert isinstance(sites.east.held_up("cem"), Recovering)
    back = replace(sites.east.wish("bob"), resume=Resume(lease_id=late.id, fence=late.fence))
    assert sites.east.region.gate.look(sites.east.raw, [back], asked=[True]) == [None]
    assert isinstance(sites.east.store.acquire([back])[0], Lease)
    sites.advance(90 * SECOND)
    assert sites.east.held_up("cem") is None


def test_a_store_that_was_put_back(sites: Sites) -> None:
    """The same, where the database alone was put back: what was allotted is still known."""
    seated(sites.east, "ann")
    copy = sites.east.snapshot()
    seated(sites.east, "bob")
    sites.east.beat()
    sites.east.wire.cut = True
    sites.east.put_back(copy, only="relay.db")
    status = sites.east.region.status()
    assert (sites.east.seats, status.careful_for) == (3, 90 * SECOND)
    assert "store was put back" in status.notes[0]


def test_an_authority_that_was_put_back(sites: Sites) -> None:
    """It hears of what it has forgotten before it gives anything, and nothing is sold twice."""
    leases = seated(sites.east, "ann", "bob", "cem")
    seated(sites.west, "dan")
    assert (sites.east.seats, sites.west.seats) == (4, 1)
    sites.center.forget_all()
    sites.west.beat(asks=5)
    assert sites.west.seats == 1
    for _ in range(4):
        sites.east.beat()
        assert sites.east.seats + sites.west.seats <= 5
        sites.west.beat(asks=5)
        assert sites.east.seats + sites.west.seats <= 5
    assert (sites.east.seats, sites.west.seats, sites.center.out()) == (3, 2, 5)
    assert all(isinstance(sites.east.renew(lease), Renewal) for lease in leases)
