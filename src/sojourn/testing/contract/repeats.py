"""Requests that come twice with one key: the first answer is given again, and nothing is done."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.clock import ManualClock
from sojourn.event import EventKind
from sojourn.idempotency import (
    ANSWERS_KEPT,
    KeyReused,
    Replayed,
)
from sojourn.lease import Acquire, DenialReason, Denied, Lease, Resume
from sojourn.session import AtLimit, NewSession, Save, Session, TooMany
from sojourn.store import Store
from sojourn.testing.builders import (
    POOL,
    acquire,
    beat,
    give_back,
    granted,
    key,
    latest,
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
from sojourn.testing.contract.base import OnManualClock
from sojourn.testing.contract.crowds import ROUNDS, Crowds, crowd


def replayed(answer: Any) -> Any:
    """Return the first answer, which must be given again."""
    assert isinstance(answer, Replayed), f"not replayed: {answer}"
    return answer.answer


def note_of(answer: Any) -> str:
    """Return the note that was kept with a first answer."""
    assert isinstance(answer, Replayed), f"not replayed: {answer}"
    return answer.note


def begun(store: Store, new: NewSession) -> Session:
    (session,) = store.create([new])
    assert isinstance(session, Session), session
    return session


class RepeatedSeats(OnManualClock):
    def test_repeated_acquire_is_granted_once(self, store: Store, clock: ManualClock) -> None:
        """A copy gets the lease of the first: same id, same fence. It takes nothing over, is no beat,
        and leaves no event."""
        store.define([pool(2)])
        wish = acquire("ann", session_id=None, idempotency=key(note="n1"))
        lease = granted(store.acquire([wish])[0])
        seen = latest(store)
        clock.advance(milliseconds=20_000)
        copy = acquire("ann", idempotency=key(note="another"))
        (again,) = store.acquire([copy])
        assert replayed(again) == lease
        assert isinstance(again, Replayed)
        assert (again.at, again.note) == (clock.now(), "n1")
        assert news(store, seen) == []
        assert look_up(store, lease.id) == lease
        assert beat(store, lease) is not None

    def test_repeated_resume_is_granted_once(self, store: Store, clock: ManualClock) -> None:
        """Likewise where the proof is the token of a lease that has expired."""
        store.define([pool(2)])
        old = take(store, "ann")
        clock.advance(milliseconds=100_000)
        resume = Resume(lease_id=old.id, fence=old.fence)
        wish = acquire("ann", lease_id=old.id, resume=resume, idempotency=key())
        lease = granted(store.acquire([wish])[0])
        assert replayed(store.acquire([wish])[0]) == lease
        assert beat(store, lease) is not None

    def test_repeated_denial_is_told_again(self, store: Store, clock: ManualClock) -> None:
        """A refusal is an answer, too: its copy gets no seat that has come free meanwhile, and is
        recorded once. Its evidence is not kept."""
        store.define([pool(1)])
        holder = take(store, "bob")
        wish = acquire("ann", idempotency=key())
        (first,) = store.acquire([wish])
        assert isinstance(first, Denied)
        assert give_back(store, holder)
        seen = latest(store)
        clock.advance(milliseconds=1_000)
        again = replayed(store.acquire([wish])[0])
        told = (first.reason, first.at, first.limit, first.in_use, first.suspect, first.retry_after)
        assert told == (
            *(again.reason, again.at, again.limit, again.in_use, again.suspect),
            again.retry_after,
        )
        assert news(store, seen) == []
        assert usage(store).in_use == 0

    def test_unknown_pool_is_looked_for_when_repeated(self, store: Store) -> None:
        """That a pool is not known is kept for nobody: a moment later it may be."""
        wish = acquire("ann", idempotency=key())
        (first,) = store.acquire([wish])
        assert isinstance(first, Denied)
        assert first.reason is DenialReason.FEATURE_UNKNOWN
        store.define([pool(1)])
        assert isinstance(store.acquire([wish])[0], Lease)

    def test_repeated_in_one_batch(self, store: Store) -> None:
        """Two copies in one batch, between others: one is decided."""
        store.define([pool(3)])
        wishes = [
            acquire("ann", idempotency=key("a", note="first")),
            acquire("bob"),
            acquire("ann", idempotency=key("a", note="second")),
            acquire("cat", idempotency=key("c")),
            acquire("cat", "other", idempotency=key("c", "something else")),
        ]
        ann, bob, again, cat, other = store.acquire(wishes)
        assert replayed(again) == ann
        assert note_of(again) == "first"
        assert isinstance(bob, Lease)
        assert isinstance(cat, Lease)
        assert other == KeyReused()
        assert (usage(store).in_use, granted(ann).fence) == (3, 1)

    def test_copy_repeated_after_a_release(self, store: Store, clock: ManualClock) -> None:
        """A late copy brings no seat back: its answer names the lease that is over."""
        store.define([pool(1)])
        wish = acquire("ann", idempotency=key())
        lease = granted(store.acquire([wish])[0])
        assert give_back(store, lease)
        other = take(store, "bob")
        clock.advance(milliseconds=1_000)
        assert replayed(store.acquire([wish])[0]).fence == lease.fence
        assert beat(store, lease) is None
        assert beat(store, other) is not None

    def test_copy_repeated_after_a_later_acquire(self, store: Store) -> None:
        """A late copy takes nothing from the same holder's next lease."""
        store.define([pool(1)])
        wish = acquire("ann", idempotency=key("first"))
        lease = granted(store.acquire([wish])[0])
        later = granted(store.acquire([acquire("ann", idempotency=key("second"))])[0])
        assert replayed(store.acquire([wish])[0]).fence == lease.fence < later.fence
        assert beat(store, later) is not None

    def test_key_repeated_for_something_else(self, store: Store) -> None:
        """The same key with another request is refused, and does nothing."""
        store.define([pool(2)])
        lease = granted(store.acquire([acquire("ann", idempotency=key())])[0])
        seen = latest(store)
        (answer,) = store.acquire([acquire("bob", idempotency=key(said="that"))])
        assert answer == KeyReused()
        assert news(store, seen) == []
        assert beat(store, lease) is not None

    def test_repeated_when_forgotten(self, store: Store, clock: ManualClock) -> None:
        """After ANSWERS_KEPT a key is as good as new, swept or not."""
        store.define([pool(1)])
        wish = acquire("ann", idempotency=key())
        lease = granted(store.acquire([wish])[0])
        clock.advance(milliseconds=ANSWERS_KEPT - 1)
        assert replayed(store.acquire([wish])[0]).fence == lease.fence
        clock.advance(milliseconds=1)
        second = granted(store.acquire([wish])[0])
        assert second.fence > lease.fence
        clock.advance(milliseconds=1)
        assert replayed(store.acquire([wish])[0]).fence == second.fence
        clock.advance(milliseconds=ANSWERS_KEPT)
        store.sweep()
        assert store.answered([wish.idempotency or key()]) == [None]
        assert granted(store.acquire([wish])[0]).fence > second.fence

    def test_preview_is_not_repeated(self, store: Store) -> None:
        """A preview keeps nothing, and looks at nothing that is kept."""
        store.define([pool(1)])
        wish = acquire("ann", idempotency=key())
        assert isinstance(store.preview([wish])[0], Lease)
        lease = granted(store.acquire([wish])[0])
        (shown,) = store.preview([wish])
        assert isinstance(shown, Lease)
        assert shown.fence == lease.fence + 1


class RepeatedSessions(OnManualClock):
    def test_repeated_begin_is_one_session(self, store: Store, clock: ManualClock) -> None:
        """A copy of a sign-in gets the session of the first, under whatever id and token it came."""
        session = begun(store, new_session("ses_1", idempotency=key(note="n1")))
        seen = latest(store)
        clock.advance(milliseconds=5)
        (again,) = store.create([new_session("ses_2", idempotency=key(note="n2"))])
        assert replayed(again).id == session.id
        assert note_of(again) == "n1"
        assert [x.id for x in store.of("ann")] == ["ses_1"]
        assert news(store, seen) == []

    def test_repeated_begin_replaces_nothing(self, store: Store) -> None:
        """What the first has ended is ended once; what began since stays."""
        sign_in(store, "ses_0")
        wish = new_session("ses_1", limit=1, idempotency=key())
        begun(store, wish)
        later = begun(store, new_session("ses_2", limit=1))
        assert replayed(store.create([wish])[0]).id == "ses_1"
        assert [x.id for x in store.of("ann")] == [later.id]

    def test_repeated_refusal_to_begin(self, store: Store) -> None:
        """One session too many is told again, though there is room by now."""
        sign_in(store, "ses_0", data={"a": 1})
        wish = new_session("ses_1", limit=1, at_limit=AtLimit.ASK, idempotency=key())
        (first,) = store.create([wish])
        assert isinstance(first, TooMany)
        store.end(ids=["ses_0"])
        again = replayed(store.create([wish])[0])
        assert (again.limit, [x.id for x in again.sessions]) == (1, ["ses_0"])
        assert store.of("ann") == []

    def test_repeated_begin_after_its_end(self, store: Store) -> None:
        """A late copy begins nothing anew: the session that it names is over."""
        wish = new_session("ses_1", idempotency=key())
        begun(store, wish)
        store.end(ids=["ses_1"])
        assert replayed(store.create([wish])[0]).id == "ses_1"
        assert store.of("ann") == []

    def test_repeated_begins_in_one_batch(self, store: Store) -> None:
        """Two copies in one batch are one session; another body is refused."""
        first, again, other = store.create(
            [
                new_session("ses_1", idempotency=key()),
                new_session("ses_2", idempotency=key()),
                new_session("ses_3", idempotency=key(said="that")),
            ]
        )
        assert isinstance(first, Session)
        assert replayed(again).id == first.id
        assert other == KeyReused()

    def test_repeated_save_overwrites_nothing(self, store: Store, clock: ManualClock) -> None:
        """A late copy of a save leaves what was saved since, and is told its own revision."""
        sign_in(store)
        save = Save(id="ses_1", set={"step": 1}, idempotency=key("one", note="n"))
        assert store.save([save]) == [2]
        assert store.save([Save(id="ses_1", set={"step": 2}, idempotency=key("two"))]) == [3]
        clock.advance(milliseconds=5)
        (again,) = store.save([save])
        assert (replayed(again), note_of(again)) == (2, "n")
        assert present(store).data == {"step": 2}
        assert present(store).revision == 3

    def test_repeated_saves_in_one_batch(self, store: Store) -> None:
        """Copies between others: each change is applied once, in order."""
        sign_in(store)
        one = Save(id="ses_1", set={"a": 1, "n": 1}, idempotency=key("one"))
        two = Save(id="ses_1", set={"n": 2}, unset=("a",), idempotency=key("two"))
        other = Save(id="ses_1", set={"a": 3}, idempotency=key("one", "that"))
        first, second, again, reused, plain = store.save(
            [one, two, one, other, Save(id="ses_1", set={"b": 1})]
        )
        assert (first, second, replayed(again), reused, plain) == (2, 3, 2, KeyReused(), 4)
        assert present(store).data == {"n": 2, "b": 1}

    def test_repeated_save_of_no_session(self, store: Store) -> None:
        """Where there is no session, each copy is told so."""
        save = Save(id="ses_1", set={"a": 1}, idempotency=key())
        assert store.save([save, save]) == [None, None]
        assert store.save([save]) == [None]

    def test_repeated_rotation_is_one(self, store: Store) -> None:
        """A copy of a rotation leaves the token that the first has given, and tells of the first."""
        sign_in(store)
        once = key(note="n1")
        rotated = store.rotate("ses_1", token_hash("new"), idempotency=once)
        assert isinstance(rotated, Session)
        again = store.rotate("ses_1", token_hash("newer"), idempotency=key(note="n2"))
        assert replayed(again).id == "ses_1"
        assert note_of(again) == "n1"
        assert present(store, "new").id == "ses_1"
        assert store.rotate("ses_1", token_hash("x"), idempotency=key(said="that")) == KeyReused()
        assert len(news(store, 0, EventKind.SESSION_ROTATED)) == 1

    def test_repeated_end_ends_nobody_later(self, store: Store) -> None:
        """A late copy of "end all of a user's" ends no session that began later."""
        sign_in(store, "ses_1")
        assert store.end(user_id="ann", idempotency=key()) == ["ses_1"]
        sign_in(store, "ses_2")
        assert replayed(store.end(user_id="ann", idempotency=key())) == ["ses_1"]
        assert present(store, "ses_2").id == "ses_2"
        assert store.end(user_id="ann", idempotency=key(said="that")) == KeyReused()
        assert store.end(user_id="ann") == ["ses_2"]

    def test_repeated_end_of_nothing(self, store: Store) -> None:
        """That there was nothing to end is an answer, too."""
        assert store.end(user_id="ann", idempotency=key()) == []
        sign_in(store, "ses_1")
        assert replayed(store.end(user_id="ann", idempotency=key())) == []
        assert present(store).id == "ses_1"

    def test_what_repeated_requests_were_answered(self, store: Store, clock: ManualClock) -> None:
        """Who cannot name the session any more asks by the key alone."""
        sign_in(store, "ses_1")
        save, end, rotate, none = key("save"), key("end"), key("rotate", note="n"), key("none")
        store.save([Save(id="ses_1", set={"a": 1}, idempotency=save)])
        store.rotate("ses_1", token_hash("new"), idempotency=rotate)
        store.end(ids=["ses_1"], idempotency=end)
        saved, rotated, ended, unknown, other = store.answered(
            [save, rotate, end, none, key("end", "that")]
        )
        assert (replayed(saved), replayed(rotated).id, replayed(ended)) == (2, "ses_1", ["ses_1"])
        assert note_of(rotated) == "n"
        assert (unknown, other) == (None, KeyReused())
        clock.advance(milliseconds=ANSWERS_KEPT)
        assert store.answered([save, end]) == [None, None]
        assert store.answered([]) == []


class RepeatMeaning(RepeatedSeats, RepeatedSessions):
    """What a key promises, copy after copy."""


def _wish(name: str) -> Acquire:
    return acquire("ann", pool_id=POOL, idempotency=key(name))


class RepeatRaces(Crowds):
    @pytest.mark.parametrize("copies", [2, 12])
    def test_repeated_acquires_at_once(self, stores: tuple[Store, Store], copies: int) -> None:
        """Copies at once, on two servers: one grant, and all are told of it."""
        stores[0].define([pool(3)])
        fences = set()
        for i in range(3 * ROUNDS):
            wish = _wish(f"round-{i}")

            def one(number: int, wish: Acquire = wish) -> Any:
                return stores[number % 2].acquire([wish])[0]

            answers = crowd(copies, one)
            firsts = [answer for answer in answers if isinstance(answer, Lease)]
            assert len(firsts) == 1
            others = [replayed(answer) for answer in answers if answer is not firsts[0]]
            assert {(x.id, x.fence) for x in others} == {(firsts[0].id, firsts[0].fence)}
            assert beat(stores[0], firsts[0]) is not None
            fences.add(firsts[0].fence)
        assert fences == set(range(1, 3 * ROUNDS + 1))

    def test_repeated_begins_at_once(self, stores: tuple[Store, Store]) -> None:
        """Copies of a sign-in at once: one session."""
        for i in range(ROUNDS):

            def one(number: int, i: int = i) -> Any:
                new = new_session(f"ses_{i}_{number}", f"user-{i}", idempotency=key(f"k{i}"))
                return stores[number % 2].create([new])[0]

            answers = crowd(10, one)
            ids = {x.id if isinstance(x, Session) else replayed(x).id for x in answers}
            assert ids == {x.id for x in stores[0].of(f"user-{i}")}
            assert len(ids) == 1

    def test_repeated_saves_at_once(self, stores: tuple[Store, Store]) -> None:
        """Copies of a save at once: one revision more, and all are told it."""
        sign_in(stores[0])
        for i in range(ROUNDS):

            def one(number: int, i: int = i) -> Any:
                save = Save(id="ses_1", set={"n": i}, idempotency=key(f"k{i}"))
                return stores[number % 2].save([save])[0]

            answers = crowd(10, one)
            assert {x if isinstance(x, int) else replayed(x) for x in answers} == {i + 2}
        assert present(stores[1]).revision == ROUNDS + 1

    def test_repeated_in_batches_at_once(self, stores: tuple[Store, Store]) -> None:
        """Batches with the same keys in other orders, at once: nobody waits for ever, each key is
        decided once."""
        stores[0].define([pool(50)])
        names = [f"k{i}" for i in range(20)]

        def one(number: int) -> list[Any]:
            order = names if number % 2 else names[::-1]
            wishes = [acquire(name, idempotency=key(name)) for name in order]
            return sorted(
                (x if isinstance(x, Lease) else replayed(x)).id
                for x in stores[number % 2].acquire(wishes)
            )

        answers = crowd(8, one)
        assert all(answer == answers[0] for answer in answers)
        assert usage(stores[0]).in_use == 20
        assert len(news(stores[0], 0, EventKind.LEASE_ACQUIRED)) == 20
