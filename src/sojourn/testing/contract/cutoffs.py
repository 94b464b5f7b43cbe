"""What a cutoff means: to all verbs at once, and to the sweep that follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sojourn.clock import MINUTE, ManualClock
from sojourn.errors import InvalidInput
from sojourn.event import EventKind
from sojourn.lease import EndReason, LeaseFilter
from sojourn.session import TOMBSTONE, AtLimit, Gone, GoneReason, Save
from sojourn.store import Store, Swept
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
    sign_in,
    take,
    token_hash,
    usage,
)
from sojourn.testing.contract.base import OnManualClock, exact_pairs, own_id

SCOPES = pytest.mark.parametrize("scope", ["ann", None], ids=["user", "everybody"])


def cut(at: int, reason: str = "cut_off", actor: str | None = None) -> Gone:
    return Gone(reason=GoneReason.ENDED, ended_by=actor, end_reason=reason, at=at)


class CutoffMeaning(OnManualClock):
    @SCOPES
    def test_to_the_millisecond(self, store: Store, clock: ManualClock, scope: str | None) -> None:
        """What was created at the instant of the cutoff or before is gone; what came after lives."""
        sign_in(store, "before")
        at = clock.advance(milliseconds=1)
        sign_in(store, "then")
        assert store.cut_off(scope, reason="stolen", actor="key:ops") == at
        clock.advance(milliseconds=1)
        after = sign_in(store, "after")
        assert load(store, "before") == load(store, "then") == cut(at, "stolen", "key:ops")
        assert load(store, "after") == after
        assert store.of("ann") == store.sessions() == [after]

    @SCOPES
    def test_sign_in_at_the_same_instant(
        self, store: Store, clock: ManualClock, scope: str | None
    ) -> None:
        """Who signs in after a cutoff, within its millisecond, is in; a second cutoff ends that too."""
        sign_in(store, "old")
        first = store.cut_off(scope)
        new = sign_in(store, "new")
        assert load(store, "new") == new
        assert gone(store, "old").at == first == clock.now()
        for again in ("ann", None):
            latest_cut = store.cut_off(again)
            assert gone(store, "new").reason is GoneReason.ENDED
            newer = sign_in(store, f"new_{again}")
            assert newer.created_at > latest_cut
            assert store.of("ann") == [newer]

    def test_clock_set_back(self, store: Store, clock: ManualClock) -> None:
        """A cutoff is not lost under a clock that was set back, nor does a later one bring it back."""
        sign_in(store, "one")
        sign_in(store, "bobs", "bob")
        at = store.cut_off("ann")
        clock.advance(seconds=-60)
        assert gone(store, "one") == cut(at)
        again = store.cut_off("ann", reason="second")
        assert again >= at
        assert gone(store, "one") == cut(again, "second")
        present(store, "bobs")
        two = sign_in(store, "two")
        assert load(store, "two") == two
        assert store.cut_off(None) >= two.created_at
        assert gone(store, "two").reason is GoneReason.ENDED

    def test_scope(self, store: Store) -> None:
        """A user's cutoff concerns that user's sessions, an impersonator's too; nobody else's."""
        sign_in(store, "own")
        sign_in(store, "act", impersonator="root")
        sign_in(store, "roots", "root")
        sign_in(store, "visit", None)
        store.cut_off("ann")
        assert [session.id for session in store.sessions()] == ["roots", "visit"]
        store.cut_off(None)
        assert store.sessions() == []
        assert gone(store, "visit").reason is GoneReason.ENDED

    @exact_pairs
    def test_users_are_byte_exact(self, store: Store, one: str, other: str) -> None:
        """A cutoff of a user whose id differs in one byte is not mine."""
        sign_in(store, own_id(one), one)
        sign_in(store, own_id(other), other)
        store.cut_off(one)
        assert [session.user_id for session in store.sessions()] == [other]
        assert store.of(one) == []
        assert store.sweep().sessions_cut == 1

    def test_empty_user(self, store: Store) -> None:
        """An empty user is refused: it is a mistake, and not everybody."""
        sign_in(store)
        with pytest.raises(InvalidInput):
            store.cut_off("")
        present(store)

    @SCOPES
    def test_no_verb_finds_it(self, store: Store, clock: ManualClock, scope: str | None) -> None:
        """Behind a cutoff nothing is saved, touched, rotated, listed, ended or counted any more."""
        sign_in(store, data={"a": 1})
        store.rotate("ses_1", token_hash("new"), grace=MINUTE)
        clock.advance(milliseconds=1)
        at = store.cut_off(scope)
        clock.advance(milliseconds=1)
        mark = latest(store)
        assert store.save([Save(id="ses_1", set={"a": 2})]) == [None]
        assert store.touch(["ses_1"]) == [False]
        assert store.rotate("ses_1", token_hash("newer")) is None
        assert store.end(ids=["ses_1"]) == store.end(user_id="ann") == []
        assert store.of("ann") == store.sessions() == store.sessions(user_id="ann") == []
        assert load(store, "new") == load(store, "ses_1") == cut(at)
        assert gone(store, "newer").reason is GoneReason.ABSENT
        assert latest(store) == mark
        in_again = sign_in(
            store, "ses_2", limit=1, at_limit=AtLimit.DENY, replaces="ses_1", ending=("ses_1",)
        )
        assert in_again.data == {}
        assert store.of("ann") == [in_again]
        assert load(store, "new") == cut(at)

    def test_id_and_token_stay_taken(self, store: Store) -> None:
        """The id and the token of a session behind a cutoff are not given again."""
        sign_in(store)
        store.cut_off("ann")
        assert store.create([new_session("ses_1", token_hash=token_hash("new"))]) == [None]
        assert store.create([new_session("ses_2", token_hash=token_hash("ses_1"))]) == [None]

    @pytest.mark.parametrize("off", [-1, 0, 1])
    def test_what_came_first(self, store: Store, clock: ManualClock, off: int) -> None:
        """A session that had gone idle before is idle; one that would have done so after, ended."""
        session = sign_in(store, idle_timeout=MINUTE)
        at = clock.advance(milliseconds=MINUTE + off)
        store.cut_off("ann")
        idle = Gone(reason=GoneReason.IDLE, at=session.idle_at)
        expected = cut(at) if off < 0 else idle
        assert load(store) == expected
        clock.advance(milliseconds=MINUTE)
        assert load(store) == expected
        assert store.sweep().sessions_cut == (off < 0)
        assert load(store) == expected

    def test_ended_before(self, store: Store, clock: ManualClock) -> None:
        """A session that was ended keeps the reason for which it was."""
        sign_in(store)
        at = clock.now()
        store.end(ids=["ses_1"], reason="signed_out")
        clock.advance(seconds=1)
        store.cut_off(None)
        assert gone(store) == cut(at, "signed_out")
        assert store.sweep() == Swept()

    def test_earlier_scope_counts(self, store: Store, clock: ManualClock) -> None:
        """Behind two cutoffs, a session was ended by the first; a later one of a scope replaces it."""
        sign_in(store, "anns", "ann")
        sign_in(store, "bobs", "bob")
        first = clock.advance(seconds=1)
        store.cut_off("ann", reason="own")
        second = clock.advance(seconds=1)
        store.cut_off(None, reason="all")
        assert gone(store, "anns") == cut(first, "own")
        assert gone(store, "bobs") == cut(second, "all")
        third = clock.advance(seconds=1)
        store.cut_off("ann", reason="again")
        assert gone(store, "anns") == cut(second, "all")
        clock.advance(seconds=1)
        store.cut_off(None, reason="all again")
        assert gone(store, "anns") == cut(third, "again")

    @SCOPES
    def test_sweep_follows(self, store: Store, clock: ManualClock, scope: str | None) -> None:
        """A sweep writes the tombstones and the events, and releases the leases; once."""
        store.define([pool(3)])
        sign_in(store, "one")
        sign_in(store, "two")
        lease = take(store, session_id="one")
        clock.advance(seconds=1)
        at = store.cut_off(scope, reason="stolen", actor="key:ops")
        clock.advance(seconds=1)
        later = sign_in(store, "three")
        sign_in(store, "bobs", "bob")
        others = take(store, "bob", session_id="bobs")
        mark = latest(store)
        assert store.sweep() == Swept(sessions_cut=2)
        assert load(store, "one") == load(store, "two") == cut(at, "stolen", "key:ops")
        told = {(e.kind, e.subject, e.user_id, e.actor, e.at) for e in news(store, mark)}
        now = clock.now()
        assert told == {
            (EventKind.SESSION_ENDED, "one", "ann", "key:ops", now),
            (EventKind.SESSION_ENDED, "two", "ann", "key:ops", now),
            (EventKind.LEASE_REVOKED, lease.id, "ann", "key:ops", now),
        }
        ended = news(store, mark, EventKind.SESSION_ENDED)
        assert [event.data for event in ended] == [{"reason": "stolen"}] * 2
        released = look_up(store, lease.id)
        assert released is not None
        assert (released.end_reason, released.ended_at) == (EndReason.SESSION_ENDED, now)
        assert beat(store, others) is not None
        assert usage(store).in_use == 1
        assert store.sweep() == Swept()
        assert store.of("ann") == [later]
        store.cut_off(scope, reason="later")
        assert gone(store, "one") == cut(at, "stolen", "key:ops")

    @SCOPES
    def test_cutoffs_alone_are_followed(
        self, store: Store, clock: ManualClock, scope: str | None
    ) -> None:
        """Every server may do so often: nothing else is looked at."""
        store.define([pool(3)])
        sign_in(store, "one")
        lease = take(store, session_id="one")
        silent = take(store, "bob")
        store.cut_off(scope)
        clock.advance(milliseconds=1)
        assert store.sweep(cutoffs_only=True) == Swept(sessions_cut=1)
        assert beat(store, lease) is None
        clock.advance(seconds=600)
        mark = latest(store)
        assert store.sweep(cutoffs_only=True) == Swept()
        assert news(store, mark) == []
        assert store.sweep() == Swept(leases_expired=1)
        left = look_up(store, silent.id)
        assert left is not None
        assert left.end_reason is EndReason.EXPIRED

    def test_sweep_finds_visitors_and_lapsed(self, store: Store, clock: ManualClock) -> None:
        """Visitors' sessions are swept too, and those that would have gone idle since."""
        sign_in(store, "visit", None)
        sign_in(store, "short", idle_timeout=MINUTE)
        sign_in(store, "idle", idle_timeout=1)
        clock.advance(milliseconds=1)
        at = store.cut_off(None)
        clock.advance(seconds=60)
        assert store.sweep() == Swept(sessions_cut=2)
        assert gone(store, "visit") == gone(store, "short") == cut(at)
        assert gone(store, "idle").reason is GoneReason.IDLE

    def test_sweep_of_cut_off_is_bounded(self, store: Store, clock: ManualClock) -> None:
        """No more than the limit at once; nothing is forgotten that was not told of; then it ends."""
        store.create([new_session(f"ses_{i:02}", f"user-{i % 5}") for i in range(25)])
        clock.advance(seconds=1)
        store.cut_off(None)
        for i in range(5):
            store.cut_off(f"user-{i}")
        clock.advance(milliseconds=8 * TOMBSTONE)
        counts = []
        while True:
            swept = store.sweep(limit=10)
            counts.append((swept.sessions_cut, swept.sessions_removed, swept.more))
            if not swept.more:
                break
        assert counts[:3] == [(10, 0, True), (10, 0, True), (5, 10, True)]
        assert sum(removed for _, removed, _ in counts) == 25
        told = [event.subject for event in news(store, 0, EventKind.SESSION_ENDED)]
        assert sorted(map(str, told)) == [f"ses_{i:02}" for i in range(25)]

    def test_sweep_by_filter_spares_cut_off(self, store: Store, clock: ManualClock) -> None:
        """A sweep of some leases leaves sessions behind a cutoff alone."""
        store.define([pool(3)])
        sign_in(store)
        lease = take(store, session_id="ses_1")
        store.cut_off("ann")
        assert store.sweep(which=LeaseFilter(user_id="ann")) == Swept()
        assert beat(store, lease) is not None
        assert store.sweep() == Swept(sessions_cut=1)
        assert beat(store, lease) is None

    @pytest.mark.parametrize("swept", [False, True])
    def test_tombstone_lasts_a_day(self, store: Store, clock: ManualClock, swept: bool) -> None:
        """What a cutoff ended is forgotten a day after the cutoff, once it has been swept."""
        sign_in(store)
        at = store.cut_off("ann")
        if swept:
            store.sweep()
        clock.advance(milliseconds=TOMBSTONE - 1)
        assert store.sweep() == Swept(sessions_cut=not swept)
        assert gone(store) == cut(at)
        clock.advance(milliseconds=1)
        assert store.sweep().sessions_removed == 1
        assert gone(store).reason is GoneReason.ABSENT

    def test_cutoff_tells_nothing_by_itself(self, store: Store) -> None:
        """The sessions it ends are told of by the sweep, each once; a cutoff of none by nobody."""
        mark = latest(store)
        store.cut_off("nobody")
        store.cut_off(None)
        store.sweep()
        assert latest(store) == mark

    def test_each_verb_looks_again(self, store: Store, clock: ManualClock) -> None:
        """Whatever was done with a session before, a cutoff ends it: saved, touched or rotated."""
        doing: dict[str, Callable[[], object]] = {
            "save": lambda: store.save([Save(id="save", set={"a": 1})]),
            "touch": lambda: store.touch(["touch"]),
            "rotate": lambda: store.rotate("rotate", token_hash("rotated"), level=2),
        }
        for name in doing:
            sign_in(store, name)
        clock.advance(seconds=1)
        for work in doing.values():
            work()
        at = store.cut_off("ann")
        for name in ("save", "touch", "rotated"):
            assert load(store, name) == cut(at)
