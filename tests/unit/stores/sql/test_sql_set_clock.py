"""A statement that runs just after somebody has set the server's clock: its answer is as if nobody had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sojourn.clock import DAY, HOUR
from sojourn.idempotency import Replayed
from sojourn.lease import Lease, LeaseFilter
from sojourn.ledger import ApiKey, Role
from sojourn.session import AtLimit, Save, TooMany
from sojourn.store import Action
from sojourn.stores import open as stores
from sojourn.stores.sql.database import Again
from sojourn.stores.sql.ledger import SqlLedger
from sojourn.stores.sql.steady import SteadyClock
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import (
    acquire,
    beat,
    give_back,
    granted,
    key,
    new_session,
    pool,
    present,
    sign_in,
    take,
    token_hash,
    usage,
)

AHEAD = 400 * DAY


class SetClock:
    """What a server's clock tells from when it was set until a process has looked at it: as many
    statements as are made, or the first alone, where another thread of the process looks just then."""

    def __init__(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch, *, by: int = AHEAD
    ) -> None:
        self.honest, self.by = store.now(), by
        self.wrong: float = 0  # statements that are still told the wrong time
        judge = SteadyClock.judge

        def judged(clock: SteadyClock, now: int, pulse: int | None, waited: int) -> None:
            if abs(now - self.honest) > AHEAD // 2:
                self.wrong = 0
                raise Again
            judge(clock, now, pulse, waited)

        monkeypatch.setattr(SteadyClock, "judge", judged)
        monkeypatch.setattr(SteadyClock, "told", property(lambda _: self.tell()))

    def tell(self) -> tuple[int | None, int]:
        if self.wrong <= 0:
            return self.honest + 1, -self.by
        self.wrong -= 1
        return self.honest + self.by, 0

    def set(self, *, statements: float) -> None:
        self.wrong = statements


SEEN = pytest.mark.parametrize("statements", [math.inf, 1], ids=["by itself", "by another thread"])


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    with closing(stores.open_store(request.getfixturevalue(request.param))) as store:
        assert isinstance(store, SqlStore)
        yield store


def too_many(store: SqlStore, _: Lease) -> bool:
    one_more = new_session("ses_2", "ann", limit=1, at_limit=AtLimit.DENY)
    return isinstance(store.create([one_more])[0], TooMany)


ASKED: dict[str, Callable[[SqlStore, Lease], object]] = {
    "release": give_back,
    "renew": lambda store, lease: beat(store, lease) is not None,
    "revoke": lambda store, _: (
        len(store.revoke(LeaseFilter(user_id="ann"), Action(actor="test"))) == 1
    ),
    "leases": lambda store, _: len(store.leases(LeaseFilter(user_id="ann"))[0]) == 1,
    "usage": lambda store, _: usage(store).in_use == 1,
    "acquire for a session": lambda store, _: take(store, "bob", session_id="ses_1"),
    "create within a limit": too_many,
    "load": lambda store, _: present(store, "ses_1") is not None,
    "save": lambda store, _: store.save([Save(id="ses_1", set={"a": 1})]) != [None],
    "touch": lambda store, _: store.touch(["ses_1"]) == [True],
    "rotate": lambda store, _: store.rotate("ses_1", token_hash("new")) is not None,
    "end by id": lambda store, _: store.end(ids=["ses_1"]) == ["ses_1"],
    "end by user": lambda store, _: store.end(user_id="ann") == ["ses_1"],
    "end once": lambda store, _: store.end(ids=["ses_1"], idempotency=key()) == ["ses_1"],
    "of": lambda store, _: len(store.of("ann")) == 1,
    "page": lambda store, _: store.page("ann", limit=1).total == 1,
    "sessions": lambda store, _: len(store.sessions()) == 1,
    "gone": lambda store, _: store.gone(["ses_1"]) == [None],
}


@SEEN
@pytest.mark.parametrize("verb", ASKED)
def test_answer_is_as_if_nobody_had(
    store: SqlStore, verb: str, statements: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.define([pool(4, lost_after=HOUR)])
    sign_in(store, "ses_1", "ann", idle_timeout=HOUR, lifetime=DAY)
    lease = take(store, session_id="ses_1")
    store.pulse()
    clock = SetClock(store, monkeypatch)
    clock.set(statements=statements)
    assert ASKED[verb](store, lease)
    assert clock.wrong == 0


@SEEN
@pytest.mark.parametrize("by", [-AHEAD, AHEAD], ids=["back", "ahead"])
def test_first_answer_is_kept_as_of_now(
    store: SqlStore, by: int, statements: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that comes once the clock was looked at is told what was answered before."""
    store.define([pool(4, lost_after=HOUR)])
    clock = SetClock(store, monkeypatch, by=by)
    wish = acquire("ann", idempotency=key())
    clock.set(statements=statements)
    lease = granted(store.acquire([wish])[0])
    copy = store.acquire([wish])[0]
    assert isinstance(copy, Replayed)
    assert copy.answer.fence == lease.fence
    clock.set(statements=statements)
    assert isinstance(store.answered([wish.idempotency or key()])[0], Replayed)


@SEEN
@pytest.mark.parametrize("by", [-AHEAD, AHEAD], ids=["back", "ahead"])
def test_pulse_is_no_outage(
    store: SqlStore, by: int, statements: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pulse()
    clock = SetClock(store, monkeypatch, by=by)
    clock.set(statements=statements)
    assert store.pulse() is None
    assert store.pulse() is None


@SEEN
def test_keys_are_valid_as_if_nobody_had(
    store: SqlStore, statements: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqlLedger(store._db)
    made = ApiKey(id="key_1", name="ours", role=Role.APP, expires_at=store.now() + DAY)
    ledger.create_key(made, b"h" * 32, actor="test")
    clock = SetClock(store, monkeypatch)
    clock.set(statements=statements)
    assert ledger.valid_keys([b"h" * 32]) == {b"h" * 32}
