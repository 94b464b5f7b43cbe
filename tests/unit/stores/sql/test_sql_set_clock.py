"""A statement that runs just after somebody has set the server's clock: its answer is as if nobody had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sojourn.clock import DAY, HOUR
from sojourn.lease import Lease, LeaseFilter
from sojourn.session import AtLimit, Save, TooMany
from sojourn.store import Action
from sojourn.stores import open as stores
from sojourn.stores.sql.database import Again
from sojourn.stores.sql.steady import SteadyClock
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import (
    beat,
    give_back,
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


class SetAhead:
    """What a server's clock tells from when it was set ahead, until a process has looked at it."""

    def __init__(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.honest = store.now()
        self.told: int | None = None
        self.noticed = 0
        judge = SteadyClock.judge

        def judged(clock: SteadyClock, now: int, pulse: int | None, waited: int) -> None:
            if now > self.honest + AHEAD // 2:
                self.told = None
                self.noticed += 1
                raise Again
            judge(clock, now, pulse, waited)

        monkeypatch.setattr(SteadyClock, "judge", judged)
        monkeypatch.setattr(SteadyClock, "instant", property(lambda _: self.told))

    def jump(self) -> None:
        self.told, self.noticed = self.honest + AHEAD, 0


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


@pytest.mark.parametrize("verb", ASKED)
def test_answer_is_as_if_nobody_had(
    store: SqlStore, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.define([pool(4, lost_after=HOUR)])
    sign_in(store, "ses_1", "ann", idle_timeout=HOUR, lifetime=DAY)
    lease = take(store, session_id="ses_1")
    store.pulse()
    clock = SetAhead(store, monkeypatch)
    clock.jump()
    assert ASKED[verb](store, lease)
    assert clock.noticed >= 1
