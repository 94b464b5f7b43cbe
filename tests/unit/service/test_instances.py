"""Who serves, and with which secrets: the ledger's note of it, on every database."""

from __future__ import annotations

from contextlib import closing

import pytest

from sojourn.clock import DAY, HOUR, ManualClock
from sojourn.ledger import INSTANCE_ALIVE, INSTANCE_KEPT, Instance
from sojourn.service.instances import InstanceRegistry, running
from sojourn.stores.open import open_ledger
from sojourn.token import Keyring

SECRET = b"a-secret-for-tests-0123456789-abcdefghij"


@pytest.mark.parametrize("kind", ["empty_sqlite", "empty_postgres", "empty_mariadb"])
def test_who_serves(kind: str, request: pytest.FixtureRequest) -> None:
    clock = ManualClock(100 * DAY)
    with closing(open_ledger(request.getfixturevalue(kind), clock=clock)) as ledger:
        one = Instance(id="srv_1", host="alpha", pid=7, version="1", fingerprints=("a", "b"))
        ledger.register(one)
        clock.advance(milliseconds=HOUR)
        ledger.register(one)
        ledger.register(Instance(id="srv_2", host="Alpha", pid=8, version="1", fingerprints=()))
        first, second = sorted(ledger.instances(), key=lambda x: x.id)
        assert (first.started_at, first.seen_at) == (100 * DAY, 100 * DAY + HOUR)
        assert first.fingerprints == ("a", "b")
        assert second.host == "Alpha"
        assert running(ledger.instances(), clock.now()) == ledger.instances()

        ledger.register(one, stopped=True)
        assert [x.id for x in running(ledger.instances(), clock.now())] == ["srv_2"]
        clock.advance(milliseconds=INSTANCE_ALIVE)
        assert running(ledger.instances(), clock.now()) == []
        clock.advance(milliseconds=INSTANCE_KEPT)
        ledger.register(Instance(id="srv_3", host="beta", pid=9, version="1", fingerprints=()))
        assert [x.id for x in ledger.instances()] == ["srv_3"]


def test_a_process_says_nothing_of_its_secrets(empty_sqlite: str) -> None:
    with closing(open_ledger(empty_sqlite)) as ledger:
        presence = InstanceRegistry(ledger, Keyring([SECRET]))
        presence.leave()  # of what it never said it was
        presence.register()
        presence.register()
        (told,) = ledger.instances()
        assert told.fingerprints == Keyring([SECRET]).fingerprints(ledger.mark()[0])
        assert told.fingerprints != Keyring([SECRET]).fingerprints("another ledger")
        assert SECRET.decode() not in repr(told)
        presence.leave()
        assert [x.stopped_at is not None for x in ledger.instances()] == [True]
