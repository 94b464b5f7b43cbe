"""What the verbs mean that people see their sessions by."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.session import Gone, GoneReason, Session
from sojourn.store import Store
from sojourn.testing.builders import (
    beat,
    give_back,
    gone,
    latest,
    new_session,
    news,
    pool,
    present,
    sign_in,
    take,
)
from sojourn.testing.contract.base import OnManualClock, exact_pairs, own_id

CHROME = Device(name="Chrome on Windows", browser="Chrome", os="Windows", kind="desktop")
PHONE = Device(name="Safari on iPhone", browser="Safari", os="iOS", kind="phone", ip="192.0.2.7")


def shown(session: Session) -> Session:
    """Say what a page shows of a session."""
    return replace(session, data={})


def told(store: Store, after: int = 0) -> list[tuple[str | None, dict[str, Any]]]:
    """List on which new devices people have signed in."""
    events = news(store, after, EventKind.SESSION_NEW_DEVICE)
    return [(event.subject, event.data) for event in events]


class PeopleMeaning(OnManualClock):
    def test_pages_tell_every_live_session_once(self, store: Store, clock: ManualClock) -> None:
        """Newest first, by id within an instant, without their data; the total counts them all."""
        sessions = []
        for i in range(7):
            sessions.append(sign_in(store, f"ses_{i}", data={"much": "x" * 100}))
            if i % 3 == 2:
                clock.advance(seconds=1)
        sign_in(store, "others", "bob")
        store.end(ids=["ses_4"])
        expected = ["ses_6", "ses_3", "ses_5", "ses_0", "ses_1", "ses_2"]
        seen: list[Session] = []
        after = None
        while True:
            page = store.page("ann", after=after, limit=2)
            assert page.total == 6
            seen += page.sessions
            if len(page.sessions) < 2:
                break
            after = (page.sessions[-1].created_at, page.sessions[-1].id)
        assert [session.id for session in seen] == expected
        assert seen[0] == shown(replace(sessions[6], at=clock.now()))
        assert store.page("ann", limit=0).sessions == ()
        assert store.page("nobody") == store.page("nobody", after=(clock.now(), "x"))

    def test_pages_show_the_live_ones_only(self, store: Store, clock: ManualClock) -> None:
        """Neither what is idle or expired, nor what a cutoff has ended, is shown or counted."""
        sign_in(store, "idle", idle_timeout=HOUR)
        sign_in(store, "cut")
        clock.advance(milliseconds=HOUR)
        assert [x.id for x in store.page("ann").sessions] == ["cut"]
        store.cut_off("ann")
        assert store.page("ann").sessions == ()
        assert store.page("ann").total == 0

    def test_seats_are_counted_by_session(self, store: Store, clock: ManualClock) -> None:
        """Live leases count for the session they belong to, whoever holds them."""
        store.define([pool(capacity=9)])
        sign_in(store, "one")
        sign_in(store, "two")
        sign_in(store, "bobs", "bob")
        take(store, "ann", "a", session_id="one")
        kept = take(store, "carl", "b", session_id="one")
        freed = take(store, "ann", "c", session_id="two")
        take(store, "bob", "d", session_id="bobs")
        take(store, "ann", "e")
        assert store.held(user_id="ann") == {"one": 2, "two": 1}
        assert store.held(ids=["two", "bobs", "unknown"]) == {"two": 1, "bobs": 1}
        give_back(store, freed)
        assert store.held(user_id="ann") == {"one": 2}
        clock.advance(seconds=60)
        assert beat(store, kept)
        clock.advance(seconds=60)
        assert store.held(user_id="ann") == store.held(ids=["one", "two"]) == {"one": 1}
        assert store.held(ids=[]) == {}
        with pytest.raises(InvalidInput):
            store.held()

    def test_an_ended_session_holds_no_seat_from_that_moment(self, store: Store) -> None:
        """Its leases are released in the same step: the holder's next beat learns it."""
        store.define([pool(capacity=2)])
        sign_in(store, "one")
        lease = take(store, session_id="one")
        assert store.end(ids=["one"], user_id="ann") == ["one"]
        assert store.held(ids=["one"]) == {}
        assert beat(store, lease) is None

    def test_ids_of_another_user_are_not_ended(self, store: Store) -> None:
        """Named with a user, only that user's sessions end."""
        sign_in(store, "mine")
        sign_in(store, "yours", "bob")
        assert store.end(ids=["mine", "yours", "unknown"], user_id="bob") == ["yours"]
        assert present(store, "mine").id == "mine"
        gone(store, "yours")

    def test_why_sessions_are_gone_is_told_by_id(self, store: Store, clock: ManualClock) -> None:
        """As a load by their token would tell it; None is said of the live."""
        sign_in(store, "live", idle_timeout=2 * DAY)
        sign_in(store, "idle", idle_timeout=HOUR)
        sign_in(store, "ended")
        store.end(ids=["ended"], reason="revoked", actor="key:ops")
        ended_at = clock.now()
        clock.advance(milliseconds=2 * HOUR)
        sign_in(store, "cut", "bob")
        cut_at = store.cut_off("bob", reason="lost", actor="key:sec")
        assert store.gone(["cut", "live", "ended", "idle", "unknown", "live"]) == [
            Gone(reason=GoneReason.ENDED, ended_by="key:sec", end_reason="lost", at=cut_at),
            None,
            Gone(reason=GoneReason.ENDED, ended_by="key:ops", end_reason="revoked", at=ended_at),
            Gone(reason=GoneReason.IDLE, at=ended_at + HOUR),
            Gone(reason=GoneReason.ABSENT),
            None,
        ]
        assert store.gone([]) == []

    @exact_pairs
    def test_users_are_told_apart_byte_by_byte(self, store: Store, one: str, other: str) -> None:
        """Nobody's page shows, and nobody's end touches, what belongs to somebody of a similar name."""
        mine, yours = own_id(f"1{one}"), own_id(f"2{other}")
        sign_in(store, mine, one)
        sign_in(store, yours, other)
        assert [x.id for x in store.page(one).sessions] == [mine]
        assert store.end(ids=[mine], user_id=other) == []
        assert store.gone([mine, yours]) == [None, None]

    def test_a_new_device_is_told_once(self, store: Store, clock: ManualClock) -> None:
        """By name and kind, whatever address; the first of all says that it is."""
        sign_in(store, "1", device=PHONE)
        sign_in(store, "2", device=replace(PHONE, ip="198.51.100.1"))
        sign_in(store, "3", device=CHROME)
        sign_in(store, "4", device=replace(PHONE, kind="tablet"))
        sign_in(store, "5", device=replace(CHROME, name="chrome on windows"))
        phone = {"device": "Safari on iPhone", "kind": "phone", "browser": "Safari", "os": "iOS"}
        assert told(store) == [
            ("1", phone | {"ip": "192.0.2.7", "first": True}),
            ("3", {"device": "Chrome on Windows", "kind": "desktop", "browser": "Chrome"}
            | {"os": "Windows", "first": False}),
            ("4", phone | {"kind": "tablet", "ip": "192.0.2.7", "first": False}),
            ("5", {"device": "chrome on windows", "kind": "desktop", "browser": "Chrome"}
            | {"os": "Windows", "first": False}),
        ]  # fmt: skip
        kinds = [event.kind for event in news(store)][:2]
        assert kinds == [EventKind.SESSION_CREATED, EventKind.SESSION_NEW_DEVICE]
        assert news(store)[1].user_id == "ann"

    def test_a_device_is_known_by_its_tombstones(self, store: Store, clock: ManualClock) -> None:
        """An ended session still tells that the person has used the device; a forgotten one does not."""
        sign_in(store, "1", device=PHONE)
        store.end(ids=["1"])
        mark = latest(store)
        sign_in(store, "2", device=PHONE)
        assert told(store, mark) == []
        store.end(ids=["2"])
        clock.advance(milliseconds=DAY)
        store.sweep()
        sign_in(store, "3", device=PHONE)
        assert [(subject, data["first"]) for subject, data in told(store, mark)] == [("3", True)]

    def test_devices_of_one_batch_know_each_other(self, store: Store) -> None:
        """Two sign-ins of a batch from one device tell of it once, and others' do not count."""
        store.create(
            [
                new_session("1", "ann", device=PHONE),
                new_session("2", "ann", device=PHONE),
                new_session("3", "bob", device=PHONE),
                new_session("4", None, device=PHONE),
                new_session("5", "ann", device=CHROME, impersonator="ops"),
                new_session("6", "ann"),
            ]
        )
        assert [(subject, data["first"]) for subject, data in told(store)] == [
            ("1", True),
            ("3", True),
        ]
        mark = latest(store)
        sign_in(store, "7", device=CHROME)  # an impersonator's device is not the person's own
        assert [subject for subject, _ in told(store, mark)] == ["7"]
