"""Sessions that are created, saved, rotated and ended by many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from sojourn.event import Event, EventKind
from sojourn.lease import DenialReason
from sojourn.session import AtLimit, Gone, GoneReason, Save, Session, TooMany
from sojourn.store import Store
from sojourn.testing.builders import (
    acquire,
    denied,
    gone,
    new_session,
    pool,
    present,
    sign_in,
    token_hash,
    usage,
)
from sojourn.testing.contract.crowds import (
    ROUNDS,
    START_TIMEOUT,
    Crowds,
    crowd,
    everything,
    together,
)

SAVING_ROUNDS = 200
LIMIT = 3


def most_alive(events: Sequence[Event]) -> int:
    """Replay the stream, which is in the order of commits: how many sessions lived at once?"""
    alive: set[str | None] = set()
    most = 0
    for event in events:
        if event.kind is EventKind.SESSION_CREATED:
            alive.add(event.subject)
        elif event.kind is EventKind.SESSION_ENDED:
            alive.remove(event.subject)
        most = max(most, len(alive))
    return most


def _end(store: Store, name: str) -> None:
    assert store.end(ids=[name]) == [name]


def _cut_off(store: Store, _: str) -> None:
    store.cut_off("ann")


def _cut_all_off(store: Store, _: str) -> None:
    store.cut_off(None)


class SessionRaces(Crowds):
    def test_parallel_saves_lose_nothing(self, stores: tuple[Store, Store]) -> None:
        """Saves of different keys at once: every key is there, every revision was given once."""
        sign_in(stores[0])

        def one(number: int) -> list[int | None]:
            save = Save(id="ses_1", set={f"key-{number}": number})
            again = Save(id="ses_1", set={f"more-{number}": [number]}, unset=(f"key-{number - 1}",))
            return stores[number % 2].save([save]) + stores[number % 2].save([again])

        revisions = [r for both in crowd(40, one) for r in both]
        assert sorted(map(int, filter(None, revisions))) == list(range(2, 82))
        session = present(stores[1])
        assert session.revision == 81
        assert {f"more-{n}" for n in range(40)} <= session.data.keys()
        assert session.data["key-39"] == 39

    @pytest.mark.parametrize("finish", [_end, _cut_off, _cut_all_off], ids=lambda x: x.__name__)
    def test_save_racing_end_never_revives(
        self, stores: tuple[Store, Store], finish: Callable[[Store, str], object]
    ) -> None:
        """Once an end or a cutoff has answered, no load finds the session, whatever was under way."""
        for i in range(ROUNDS):
            name = f"ses_{i}"
            sign_in(stores[0], name)
            ended = threading.Event()

            def use(number: int, name: str = name, ended: threading.Event = ended) -> list[bool]:
                store, seen = stores[number % 2], []
                for step in range(8):
                    over = ended.is_set()
                    saved = store.save([Save(id=name, set={f"{number}-{step}": 1})])[0]
                    touched = store.touch([name])[0]
                    if over:
                        seen.append(saved is not None or touched)
                return seen

            def end(name: str = name, ended: threading.Event = ended) -> list[bool]:
                finish(stores[1], name)
                ended.set()
                return [isinstance(store.load([token_hash(name)])[0], Session) for store in stores]

            users: list[Callable[[], list[bool]]] = [partial(use, n) for n in range(12)]
            revived = together([*users[:6], end, *users[6:]])
            assert not any(flag for flags in revived for flag in flags)
            assert gone(stores[0], name).reason is GoneReason.ENDED

    @pytest.mark.parametrize("finish", [_end, _cut_off], ids=lambda x: x.__name__)
    def test_acquire_racing_end_keeps_no_seat(
        self, stores: tuple[Store, Store], finish: Callable[[Store, str], object]
    ) -> None:
        """Of seats asked for while their session is ended, none is left once that has been swept."""
        stores[0].define([pool(1_000)])
        for i in range(ROUNDS):
            name = f"ses_{i}"
            sign_in(stores[0], name)

            def ask(number: int, name: str = name) -> object:
                batch = [acquire(name, f"{number}-{n}", session_id=name) for n in range(4)]
                return stores[number % 2].acquire(batch)

            asking = [partial(ask, n) for n in range(12)]
            together([*asking[:6], partial(finish, stores[1], name), *asking[6:]])
            denied(stores[0].acquire([acquire(session_id=name)])[0], DenialReason.SESSION_GONE)
        stores[0].sweep()
        assert usage(stores[0]).in_use == 0

    def test_parallel_rotations(self, stores: tuple[Store, Store]) -> None:
        """50 rotations at once: each is done whole, and one token is left that works."""
        sign_in(stores[0], data={"a": 1})
        rotated = crowd(50, lambda n: stores[n % 2].rotate("ses_1", token_hash(f"new-{n}")))
        assert all(session is not None and session.id == "ses_1" for session in rotated)
        hashes = [token_hash("ses_1"), *(token_hash(f"new-{n}") for n in range(50))]
        answers = [x for x in stores[0].load(hashes) if not isinstance(x, Gone)]
        assert [session.data for session in answers] == [{"a": 1}]

    def test_parallel_creation(self, stores: tuple[Store, Store]) -> None:
        """One of many that create the same session at once succeeds, and its data is kept."""

        def create(n: int) -> list[Session | TooMany | None]:
            same, own = new_session(data={"by": n}), new_session(f"own-{n}")
            return stores[n % 2].create([same, own])

        answers = crowd(30, create)
        won = [n for n, (same, _) in enumerate(answers) if same is not None]
        assert len(won) == 1
        assert all(own is not None for _, own in answers)
        assert present(stores[0]).data == {"by": won[0]}

    def test_parallel_ends(self, stores: tuple[Store, Store]) -> None:
        """Each session is ended by exactly one of many that try."""
        stores[0].create([new_session(f"ses_{i}") for i in range(20)])
        ended = crowd(10, lambda n: stores[n % 2].end(user_id="ann"))
        assert sorted(i for ids in ended for i in ids) == sorted(f"ses_{i}" for i in range(20))
        told = [e.subject for e in everything(stores[0]) if e.kind is EventKind.SESSION_ENDED]
        assert len(told) == len(set(told)) == 20

    def test_saves_of_200_rounds(self, stores: tuple[Store, Store]) -> None:
        """Four who save other keys of one session at the same instant, 200 times: none is lost."""
        sign_in(stores[0])
        start = threading.Barrier(4)

        def save(number: int) -> list[int | None]:
            revisions = []
            for step in range(SAVING_ROUNDS):
                start.wait(START_TIMEOUT)
                one = Save(id="ses_1", set={f"{number}-{step}": step})
                revisions += stores[(number + step) % 2].save([one])
            return revisions

        revisions = [x for mine in crowd(4, save) for x in mine]
        assert sorted(map(int, filter(None, revisions))) == list(range(2, 4 * SAVING_ROUNDS + 2))
        expected = {f"{n}-{step}": step for n in range(4) for step in range(SAVING_ROUNDS)}
        assert present(stores[1]).data == expected

    @pytest.mark.parametrize("count", [2, 8, 64])
    def test_nobody_has_more_than_the_limit(self, stores: tuple[Store, Store], count: int) -> None:
        """However many sign one user in at once, no committed state has more sessions than allowed."""
        answers = crowd(
            count, lambda n: stores[n % 2].create([new_session(f"ses_{n}", limit=LIMIT)])[0]
        )
        assert all(isinstance(answer, Session) for answer in answers)
        alive = {session.id for session in stores[0].of("ann")}
        assert len(alive) == min(count, LIMIT)
        events = everything(stores[1])
        assert most_alive(events) == min(count, LIMIT)
        ended = [event for event in events if event.kind is EventKind.SESSION_ENDED]
        assert len(ended) == max(0, count - LIMIT)
        assert {event.data["reason"] for event in ended} <= {"session_limit"}

    @pytest.mark.parametrize("at_limit", [AtLimit.DENY, AtLimit.ASK])
    def test_exactly_the_limit_gets_in(
        self, stores: tuple[Store, Store], at_limit: AtLimit
    ) -> None:
        """Of 64 at once exactly as many as allowed get in, and all others are shown those."""
        answers = crowd(
            64,
            lambda n: stores[n % 2].create(
                [new_session(f"ses_{n}", limit=LIMIT, at_limit=at_limit)]
            )[0],
        )
        won = {answer.id for answer in answers if isinstance(answer, Session)}
        assert len(won) == LIMIT
        refusals = [answer for answer in answers if isinstance(answer, TooMany)]
        assert len(refusals) == 64 - LIMIT
        assert {frozenset(x.id for x in refusal.sessions) for refusal in refusals} == {
            frozenset(won)
        }
        assert {session.id for session in stores[1].of("ann")} == won

    def test_visit_is_replaced_once(self, stores: tuple[Store, Store]) -> None:
        """Of many sign-ins that replace one visit at once, one gets its data; it ends once."""
        for i in range(ROUNDS):
            visit = f"visit_{i}"
            sign_in(stores[0], visit, None, data={"cart": [i]})

            def one(number: int, visit: str = visit) -> Session:
                user_id = f"user-{number % 3}"
                name = f"{visit}_{number}"
                return sign_in(stores[number % 2], name, user_id, replaces=visit, limit=5)

            signed_in = crowd(12, one)
            assert sorted(x.data != {} for x in signed_in) == [False] * 11 + [True]
            told = [e for e in everything(stores[0]) if e.subject == visit]
            kinds = [event.kind for event in told]
            assert kinds == [EventKind.SESSION_CREATED, EventKind.SESSION_ENDED]

    def test_cutoffs_side_by_side(self, stores: tuple[Store, Store]) -> None:
        """Cutoffs at once, of a user and of everybody: none is lost, and sign-ins after them live."""
        sign_in(stores[0])

        def one(number: int) -> int:
            return stores[number % 2].cut_off("ann" if number % 3 else None)

        crowd(24, one)
        assert gone(stores[1]).reason is GoneReason.ENDED
        new = sign_in(stores[0], "new")
        assert present(stores[1], "new") == new
        own = [at for n, at in enumerate(crowd(12, lambda n: stores[n % 2].cut_off("ann")))]
        assert len(set(own)) == 12
        assert gone(stores[0], "new").reason is GoneReason.ENDED

    def test_everything_about_one_user(self, stores: tuple[Store, Store]) -> None:
        """Sign-ins, saves, touches, ends, cutoffs and sweeps side by side: no fault, no deadlock."""
        stores[0].define([pool(100)])

        def live(number: int) -> None:
            store = stores[number % 2]
            user_id = f"user-{number % 3}"
            last: str | None = None
            for step in range(6):
                name = f"ses_{number}_{step}"
                mine = [session.id for session in store.of(user_id)]
                store.create(
                    [
                        new_session(name, user_id, limit=4, replaces=last, ending=tuple(mine[3:])),
                        new_session(f"{name}_b", f"user-{(number + 1) % 3}", limit=4),
                    ]
                )
                # Granted or not: a rival may have ended it already.
                store.acquire([acquire(user_id, name, session_id=name)])
                store.save([Save(id=i, set={name: step}) for i in [*mine[::-1], name]])
                store.touch([name, *mine])
                store.rotate(name, token_hash(f"{name}-new"), grace=step % 2, level=2)
                if number % 4 == step:
                    store.cut_off(None if step == 3 else user_id)
                if step % 3 == 2:
                    store.end(user_id=user_id, keep=[name])
                store.sweep(limit=20)
                store.sessions(user_id=user_id)
                assert len(store.of(user_id)) <= 4
                last = name

        crowd(8, live)
        for user in range(3):
            assert len(stores[0].of(f"user-{user}")) <= 4
        stores[0].cut_off(None)
        while stores[0].sweep(limit=100).more:
            pass
        assert stores[1].sessions() == []
        assert usage(stores[1]).in_use == 0
        events = everything(stores[0])
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        ended = [e.subject for e in events if e.kind is EventKind.SESSION_ENDED]
        created = [e.subject for e in events if e.kind is EventKind.SESSION_CREATED]
        assert sorted(map(str, ended)) == sorted(map(str, created))
