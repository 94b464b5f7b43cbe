"""A table that is gone: what doctor says of it is true, and everything that does not need it is looked at."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tests.doctor.planted import POOL, Ward, token_hash, ward

from sojourn.clock import SECOND
from sojourn.errors import SojournError
from sojourn.finding import Verdict
from sojourn.lease import Acquire, Denied, Release, Renew
from sojourn.session import NewSession
from sojourn.stores import open as stores
from sojourn.stores.sql import schema
from sojourn.stores.sql.doctor.parts import CORE, EFFECTS, OTHERS_WORK, PARTS

TABLES = [str(table.name) for table in schema.metadata.sorted_tables]
LOOKED_AT_MIN = 25
"""Checks that look at a database in spite of whichever one table that is gone."""


def works(what: Callable[[], object]) -> bool:
    try:
        what()
    except SojournError:
        return False
    return True


def who_is_concerned(patient: Ward) -> dict[str, bool]:
    """Try what people do; say what of it works."""
    store, lease, last = patient.store, patient.leases[0], patient.leases[-1]
    new = NewSession(id="new", token_hash=token_hash(10_000), user_id="New")
    wish = Acquire(pool_id=POOL.id, user_id="New", client_id="new", lease_id="new")
    gone = Release(lease_id=last.id, fence=last.fence, pool_id=POOL.id)
    return {
        "sign in": works(lambda: store.create([new])),
        "be recognized": works(lambda: store.load([token_hash(1)])),
        "sign out": works(lambda: store.end(ids=["s1"])),
        "take a seat": works(lambda: store.acquire([wish])),
        "keep a seat": works(
            lambda: store.renew([Renew(lease_id=lease.id, fence=lease.fence, pool_id=POOL.id)])
        ),
        "give a seat back": works(lambda: store.release([gone])),
    }


def claimed(effect: str) -> dict[str, bool]:
    """Read what a finding says that people can and cannot do."""
    if OTHERS_WORK in effect:
        return dict.fromkeys(
            ("sign in", "be recognized", "sign out", "take a seat", "keep a seat"), True
        )
    words = {
        "Nobody can sign in": {"sign in": False},
        "nobody who is signed in is recognized": {"be recognized": False},
        "whoever is in is still recognized": {"be recognized": True},
        "sign out": {"sign out": False},
        "take a seat": {"take a seat": False},
        "take a seat or keep one": {"keep a seat": False},
    }
    return {
        what: said for text, each in words.items() if text in effect for what, said in each.items()
    }


def test_every_table_has_its_effect() -> None:
    """A table that is added must say whom it concerns."""
    assert PARTS.keys() == set(TABLES)
    assert EFFECTS.keys() == set(PARTS.values())


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_concerns_whom_doctor_says(table: str, empty_sqlite: str) -> None:
    """Who is said to be concerned is, and nobody else: a frightened operator does harm."""
    with ward(empty_sqlite) as patient:
        patient.execute(f"DROP TABLE {table}")
        finding = patient.look()["schema.tables"].finding
        assert finding.verdict is Verdict.FAILURE
        assert finding.title == f"The table {table} is missing."
        if PARTS[table] not in CORE and OTHERS_WORK not in finding.means:
            return  # keys and repeated requests are a matter of the API
        said, seen = claimed(finding.means), who_is_concerned(patient)
        assert said, finding.means
        assert said.items() <= seen.items(), (table, finding.means, seen)


def test_where_somebody_waited_nobody_takes_a_seat_for_a_while(empty_sqlite: str) -> None:
    """The row of a pool says for how long its line is read: so long, doctor says, its acquires fail."""
    with ward(empty_sqlite) as patient:
        store = patient.store
        someone = Acquire(
            pool_id=POOL.id, user_id="New", client_id="new", lease_id="new", wait=True
        )
        [denied] = store.acquire([someone])
        assert isinstance(denied, Denied)
        assert denied.entry is not None
        last = patient.leases[-1]
        store.release([Release(lease_id=last.id, fence=last.fence, pool_id=POOL.id)])
        patient.execute("DROP TABLE sojourn_waiting")
        assert not who_is_concerned(patient)["take a seat"]
        until = patient.ask("SELECT max(line_until) FROM sojourn_pools")
        left = (until - store.now()) / SECOND
        said = patient.look()["schema.tables"].finding.means
        [longest] = re.findall(r"acquires fail for up to (\d+) seconds", said)
        assert int(longest) - 10 < left <= int(longest)
        assert works(lambda: store.load([token_hash(1)]))
        # And then they do not: nobody's line is read.
        patient.execute(f"UPDATE sojourn_pools SET line_until = {store.now()}")
        assert who_is_concerned(patient)["take a seat"]


@pytest.mark.parametrize("table", TABLES)
def test_what_does_not_read_a_missing_table_is_looked_at(table: str, empty_sqlite: str) -> None:
    """Checks that need it wait; no other does, and none falls over it. One run mends it."""
    with ward(empty_sqlite) as patient:
        before = patient.look()
        patient.execute(f"DROP TABLE {table}")
        seen = patient.look()
        waiting = [name for name, each in seen.items() if each.waits_for]
        assert len(seen) - len(waiting) >= min(LOOKED_AT_MIN, len(seen) - 5)
        if PARTS[table] not in CORE:
            assert len(waiting) <= 1, waiting
        for name, each in seen.items():
            assert "could not be answered" not in each.finding.title, each.finding
            if name not in {"schema.tables", *waiting}:
                assert each.finding.verdict is before[name].finding.verdict, (name, each.finding)
        assert list(patient.doctor.repair())
        assert {n for n, x in patient.wrong().items()} <= {
            n for n, x in before.items() if x.finding.verdict.rank
        }


def test_a_ledger_beside_redis_misses_no_session_table(empty_sqlite: str) -> None:
    """Its store is elsewhere: what the ledger's own tables of sessions lack concerns nobody."""
    with ward(empty_sqlite) as patient:
        patient.execute(f"DROP TABLE {schema.sessions.name}")
        ledger = stores.open_examiner(empty_sqlite, place="the ledger", ledger=True)
        assert ledger is not None
        check = next(x for x in ledger.checks() if x.id == "schema.ledger-tables")
        try:
            finding = check.look()
        finally:
            ledger.close()
    assert finding.effect.startswith("Nobody is concerned")
