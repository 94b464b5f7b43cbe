"""What a new session does to those whose place it takes."""

from __future__ import annotations

import pytest

from sojourn.clock import HOUR, MINUTE, ManualClock
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.lease import EndReason
from sojourn.session import DATA_MAX, AtLimit, Gone, GoneReason, Save, Session, TooMany
from sojourn.store import Store
from sojourn.testing.builders import (
    beat,
    gone,
    latest,
    load,
    look_up,
    new_session,
    news,
    pool,
    present,
    read_at,
    refused_sign_in,
    sign_in,
    take,
    token_hash,
)
from sojourn.testing.contract.base import OnManualClock, exact_pairs


def names(store: Store, user_id: str = "ann") -> list[str]:
    """Name a user's live sessions, the oldest first."""
    return [session.id for session in store.of(user_id)][::-1]


class SignInMeaning(OnManualClock):
    def test_visitor(self, store: Store, clock: ManualClock) -> None:
        """A session may be nobody's: it is kept, saved, rotated and ended like any other."""
        visit = sign_in(store, user_id=None, data={"cart": [1]})
        assert visit.user_id is None
        assert load(store) == visit
        assert store.save([Save(id="ses_1", set={"step": 2})]) == [2]
        now = clock.advance(seconds=1)
        assert store.touch(["ses_1"]) == [True]
        rotated = store.rotate("ses_1", token_hash("new"))
        assert rotated is not None
        assert (rotated.user_id, rotated.last_used_at) == (None, now)
        assert store.end(ids=["ses_1"]) == ["ses_1"]
        assert {event.user_id for event in news(store)} == {None}

    def test_impersonator_is_remembered(self, store: Store) -> None:
        """Who really acts is told by every verb that tells of the session."""
        session = sign_in(store, impersonator="root")
        assert session.impersonator == "root"
        assert load(store) == store.of("ann")[0] == store.sessions()[0] == session
        assert store.rotate("ses_1", token_hash("new")) == session

    def test_data_has_a_limit(self, store: Store) -> None:
        """However it comes together, and whatever else was asked in the same batch."""
        half = "x" * (DATA_MAX // 2)
        sign_in(store, user_id=None, data={"a": half})
        with pytest.raises(InvalidInput, match="at most"):
            store.save([Save(id="ses_1", set={"b": 1}), Save(id="ses_1", set={"c": half})])
        with pytest.raises(InvalidInput, match="at most"):
            store.create([new_session("ses_2", data={"a": half, "b": half})])
        with pytest.raises(InvalidInput, match="at most"):
            store.create([new_session("ses_2", data={"b": half}, replaces="ses_1")])
        session = present(store)
        assert (session.revision, list(session.data)) == (1, ["a"])
        assert store.save([Save(id="ses_1", set={"c": half}, unset=("a",))]) == [2]
        assert [event.kind for event in news(store)] == [EventKind.SESSION_CREATED]

    # Replacing

    def test_sign_in_replaces_the_visit(self, store: Store, clock: ManualClock) -> None:
        """A visitor's session ends with the sign-in; its data, as it is now, is kept beneath."""
        sign_in(store, "visit", None, data={"cart": [1], "lang": "de"})
        store.save([Save(id="visit", set={"cart": [1, 2]}, unset=("none",))])
        at = clock.advance(seconds=1)
        session = sign_in(store, replaces="visit", data={"lang": "en"})
        assert session.data == {"cart": [1, 2], "lang": "en"}
        assert (session.user_id, session.revision, session.created_at) == ("ann", 1, at)
        assert load(store) == session
        assert load(store, "visit") == Gone(
            reason=GoneReason.ENDED, ended_by=None, end_reason="replaced", at=at
        )

    def test_user_replaces_their_own(self, store: Store) -> None:
        """Signing in again keeps the user's own data, and replacing nobody's visit a visitor's."""
        sign_in(store, "old", data={"a": 1, "b": 1})
        assert sign_in(store, "new", replaces="old", data={"b": 2}).data == {"a": 1, "b": 2}
        sign_in(store, "visit", None, data={"c": 1})
        assert sign_in(store, "again", None, replaces="visit").data == {"c": 1}
        assert names(store) == ["new"]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ({"user_id": "bob"}, {"user_id": "ann"}),
            ({"user_id": "Ann"}, {"user_id": "ann"}),
            ({"user_id": "bob"}, {"user_id": None}),
            ({"user_id": "ann", "impersonator": "root"}, {"user_id": "ann"}),
        ],
    )
    def test_foreign_data_is_not_taken(
        self, store: Store, old: dict[str, str], new: dict[str, str]
    ) -> None:
        """Somebody else's session, or an impersonator's, ends too, and its data with it."""
        sign_in(store, "old", data={"secret": 1}, **old)
        assert sign_in(store, "new", replaces="old", **new).data == {}
        assert gone(store, "old").end_reason == "replaced"

    def test_replacing_what_is_gone(self, store: Store, clock: ManualClock) -> None:
        """What is not live is not replaced: its data is not brought back, its reason stays."""
        sign_in(store, "ended", data={"a": 1})
        sign_in(store, "idle", data={"a": 1}, idle_timeout=MINUTE)
        sign_in(store, "cut", "ann", data={"a": 1})
        store.end(ids=["ended"])
        store.cut_off("ann")
        clock.advance(seconds=60)
        for name in ("ended", "idle", "cut", "never", "new_4"):
            number = ("ended", "idle", "cut", "never", "new_4").index(name)
            assert sign_in(store, f"new_{number}", replaces=name).data == {}
        assert [gone(store, name).end_reason for name in ("ended", "cut")] == ["ended", "cut_off"]

    def test_replaced_session_gives_its_seats_back(self, store: Store) -> None:
        """What belongs to a replaced session goes as if it had been ended; both are told."""
        store.define([pool(2)])
        sign_in(store, "old")
        lease = take(store, session_id="old")
        mark = latest(store)
        sign_in(store, "new", replaces="old")
        ended = look_up(store, lease.id)
        assert ended is not None
        assert ended.end_reason is EndReason.SESSION_ENDED
        assert beat(store, lease) is None
        assert {(e.kind, e.subject, e.actor, e.data.get("reason")) for e in news(store, mark)} == {
            (EventKind.SESSION_ENDED, "old", None, "replaced"),
            (EventKind.LEASE_REVOKED, lease.id, None, "session_ended"),
            (EventKind.SESSION_CREATED, "new", None, None),
        }

    # Choosing

    def test_chosen_sessions_end(self, store: Store) -> None:
        """Of those that are named only live ones of this very user end, and make room."""
        for name in ("one", "two", "three"):
            sign_in(store, name)
        sign_in(store, "bobs", "bob")
        sign_in(store, "visit", None)
        ending = ("one", "bobs", "visit", "never", "two", "one")
        sign_in(store, "new", ending=ending, limit=2, at_limit=AtLimit.ASK)
        assert sorted(names(store)) == ["new", "three"]
        assert gone(store, "one").end_reason == gone(store, "two").end_reason == "made_room"
        assert [session.id for session in store.of("bob")] == ["bobs"]
        assert present(store, "visit").user_id is None

    def test_impersonator_ends_nothing_of_the_users(self, store: Store) -> None:
        """Somebody who acts as a user is not limited, and makes no room at their cost."""
        sign_in(store, "own")
        sign_in(store, "act", impersonator="root", ending=("own",), limit=1)
        sign_in(store, "act_too", impersonator="root", limit=1, at_limit=AtLimit.DENY)
        assert sorted(names(store)) == ["act", "act_too", "own"]

    # The limit

    def test_oldest_end(self, store: Store, clock: ManualClock) -> None:
        """With as many as allowed, the one created first ends, however lately it was used."""
        for name in ("one", "two", "three"):
            sign_in(store, name, limit=3)
            clock.advance(seconds=1)
        store.touch(["one"])
        mark = latest(store)
        sign_in(store, "four", limit=3)
        assert names(store) == ["two", "three", "four"]
        assert load(store, "one") == Gone(
            reason=GoneReason.ENDED,
            ended_by="system:limit",
            end_reason="session_limit",
            at=clock.now(),
        )
        told = {(e.kind, e.subject, e.actor) for e in news(store, mark)}
        assert told == {
            (EventKind.SESSION_ENDED, "one", "system:limit"),
            (EventKind.SESSION_CREATED, "four", None),
        }
        sign_in(store, "five", limit=1)
        assert names(store) == ["five"]

    @pytest.mark.parametrize("at_limit", [AtLimit.DENY, AtLimit.ASK])
    def test_too_many(self, store: Store, clock: ManualClock, at_limit: AtLimit) -> None:
        """One too many is answered with those there are, the newest first, and changes nothing."""
        visit = sign_in(store, "visit", None, data={"cart": [1]})
        sessions = []
        for name in ("one", "two"):
            sessions.append(sign_in(store, name, limit=2, at_limit=at_limit))
            clock.advance(seconds=1)
        now, mark = clock.now(), latest(store)
        answer = refused_sign_in(store, "three", replaces="visit", limit=2, at_limit=at_limit)
        one, two = (read_at(now, session) for session in sessions)
        assert answer == TooMany(limit=2, sessions=(two, one))
        again = refused_sign_in(store, "three", ending=("one", "bobs"), limit=1, at_limit=at_limit)
        assert again == TooMany(limit=1, sessions=(two,))
        assert load(store, "visit") == read_at(now, visit)
        assert store.of("ann") == [two, one]
        assert gone(store, "three").reason is GoneReason.ABSENT
        assert latest(store) == mark
        sign_in(store, "three", ending=("one",), limit=2, at_limit=at_limit)
        assert names(store) == ["two", "three"]

    def test_replaced_session_does_not_count(self, store: Store) -> None:
        """Who signs in again where they were is not one more."""
        sign_in(store, "one", limit=1, at_limit=AtLimit.DENY)
        sign_in(store, "two", replaces="one", limit=1, at_limit=AtLimit.DENY)
        assert names(store) == ["two"]
        assert gone(store, "one").end_reason == "replaced"

    def test_what_counts(self, store: Store, clock: ManualClock) -> None:
        """Only live sessions of this very user count; an impersonator's do not, nor do they end."""
        sign_in(store, "idle", idle_timeout=MINUTE)
        sign_in(store, "ended")
        sign_in(store, "cut")
        store.end(ids=["ended"])
        store.cut_off("ann")
        clock.advance(seconds=60)
        sign_in(store, "act", impersonator="root")
        sign_in(store, "bobs", "bob")
        sign_in(store, "Anns", "Ann")
        sign_in(store, "visit", None, limit=1)
        sign_in(store, "visit_2", None, limit=1)
        clock.advance(seconds=1)
        sign_in(store, "own", limit=1, at_limit=AtLimit.DENY)
        assert refused_sign_in(store, "no", limit=1, at_limit=AtLimit.DENY).sessions == (
            present(store, "own"),
        )
        sign_in(store, "own_2", limit=1)
        assert names(store) == ["act", "own_2"]
        for name in ("bobs", "Anns", "visit", "visit_2"):
            present(store, name)

    @exact_pairs
    def test_limit_is_byte_exact(self, store: Store, one: str, other: str) -> None:
        """Users whose ids differ in one byte do not share a limit."""
        sign_in(store, "ses_1", one, limit=1, at_limit=AtLimit.DENY)
        sign_in(store, "ses_2", other, limit=1, at_limit=AtLimit.DENY)
        refused_sign_in(store, "ses_3", one, limit=1, at_limit=AtLimit.DENY)

    def test_too_many_shows_a_hundred(self, store: Store, clock: ManualClock) -> None:
        """No more than 100 are shown to choose from, the newest; the limit is what it is."""
        store.create([new_session(f"old_{i}") for i in range(20)])
        clock.advance(seconds=1)
        store.create([new_session(f"new_{i:02}") for i in range(95)])
        answer = refused_sign_in(store, limit=3, at_limit=AtLimit.ASK)
        shown = [session.id for session in answer.sessions]
        assert len(shown) == 100
        assert shown[:95] == [f"new_{i:02}" for i in range(95)]

    def test_limit_in_a_batch(self, store: Store) -> None:
        """Requests of one batch are decided in order; each counts those before it."""
        batch = [
            new_session("visit", None, data={"cart": [1]}),
            new_session("one", limit=2, replaces="visit"),
            new_session("two", limit=2),
            new_session("two", "bob", limit=1),
            new_session("three", limit=2),
            new_session("four", limit=2, at_limit=AtLimit.DENY),
            new_session("four", "bob", limit=1, at_limit=AtLimit.DENY),
            new_session("five", limit=2, ending=("three",), at_limit=AtLimit.DENY),
        ]
        answers = store.create(batch)
        kinds = [type(answer).__name__ for answer in answers]
        assert kinds == [
            *("Session", "Session", "Session", "NoneType"),
            *("Session", "TooMany", "Session", "Session"),
        ]
        refused = answers[5]
        assert isinstance(refused, TooMany)
        assert {session.id for session in refused.sessions} == {"two", "three"}
        first = answers[1]
        assert isinstance(first, Session)
        assert first.data == {"cart": [1]}
        assert sorted(names(store)) == ["five", "two"]
        assert names(store, "bob") == ["four"]
        reasons = {name: gone(store, name).end_reason for name in ("visit", "one", "three")}
        assert reasons == {"visit": "replaced", "one": "session_limit", "three": "made_room"}

    def test_double_changes_nothing(self, store: Store) -> None:
        """A session that is there already replaces nothing and makes no room."""
        sign_in(store, "one")
        sign_in(store, "two")
        batch = [
            new_session("two", replaces="one", limit=1, token_hash=token_hash("other")),
            new_session("three", ending=("one",), limit=1, token_hash=token_hash("two")),
        ]
        assert store.create(batch) == [None, None]
        assert sorted(names(store)) == ["one", "two"]

    def test_limit_below_one(self, store: Store) -> None:
        """A limit that leaves room for none is refused, and nothing has changed."""
        sign_in(store, "one", lifetime=HOUR)
        with pytest.raises(InvalidInput):
            store.create([new_session("two", limit=0)])
        assert names(store) == ["one"]

    def test_limit_releases_leases(self, store: Store) -> None:
        """A session that had to make room gives its seats back, on whose word is told."""
        store.define([pool(1)])
        sign_in(store, "one", limit=1)
        lease = take(store, session_id="one")
        mark = latest(store)
        sign_in(store, "two", limit=1)
        assert beat(store, lease) is None
        assert {(e.subject, e.actor) for e in news(store, mark, EventKind.LEASE_REVOKED)} == {
            (lease.id, "system:limit")
        }
