"""Repairs outside Sojourn's own tables, killed before any of their steps, and run again: nobody lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.adapters.express.pg import express_set, rows
from tests.doctor.test_express import FAULTS, PEOPLE, TABLE, Fault
from tests.doctor.test_express import Ward as Express
from tests.doctor.test_sql_repair import LONG, mend

from sojourn.adapters.express import install

RUNS_MAX = 3
MENDED = {fault.name: fault for fault in FAULTS if fault.mended}
AT_ONCE = ("multiple primary keys", "no cookie", "unreadable", "no index", "not pruned")


def killed_at(steps: int) -> Iterator[int]:
    """Say before which steps to die: every one in the campaign, else the second and the last."""
    yield from range(1, steps + 1) if LONG else sorted({min(2, steps), steps})


def steps_of(url: str) -> int:
    whole = mend(url, 0)
    assert whole.returncode == 0, whole.stderr
    return int(whole.stdout.split()[-1])


def damaged(ward: Express, *faults: Fault) -> set[str]:
    """Make the table anew, with people; break it; return the sids that were in it."""
    asides = rows(ward.database, "SELECT tablename FROM pg_tables WHERE tablename ~ '_aside_'")
    ward.execute(*(f'DROP TABLE "{name}"' for (name,) in asides), 'DROP TABLE IF EXISTS "session"')
    ward.execute(TABLE)
    install(f"express+{ward.url}")
    ward.people()
    for fault in faults:
        ward.execute(*fault.plant)
    return {sid for (sid,) in rows(ward.database, 'SELECT sid FROM "session" WHERE expire > now()')}


def healed(ward: Express, before: set[str], lost: set[str]) -> None:
    """Doctor runs again, and all is well: everybody is signed in, what nobody could read is kept."""
    runs = 0
    while list(ward.doctor.repair()):
        runs += 1
        assert runs <= RUNS_MAX
    assert ward.wrong() == {}
    there = ward.signed_in()
    assert set(there) == before - lost
    for n in range(PEOPLE):
        assert there[f"sid {n}"] == {"passport": {"user": f"{n}"}, "cart": [n]}
    asides = rows(ward.database, "SELECT tablename FROM pg_tables WHERE tablename ~ '_aside_'")
    kept = {
        sid for (name,) in asides for (sid,) in rows(ward.database, f'SELECT sid FROM "{name}"')
    }
    assert lost <= kept
    express_set(ward.database, "sid 1", {"cookie": {}, **there["sid 1"]}, 4_000_000_000)


@pytest.mark.parametrize("names", [AT_ONCE, *((name,) for name in MENDED if LONG)], ids="+".join)
def test_express_killed_at_every_step(names: tuple[str, ...], postgres_url: str) -> None:
    ward, faults = Express(postgres_url), [MENDED[name] for name in names]
    lost = {sid for fault in faults for sid in fault.lost}
    with closing(ward.database), closing(ward.doctor):
        before = damaged(ward, *faults)
        steps = steps_of(f"express+{ward.url}")
        assert steps > 0
        healed(ward, before, lost)
        for last in killed_at(steps):
            assert damaged(ward, *faults) == before
            dead = mend(f"express+{ward.url}", last)
            assert dead.returncode == -signal.SIGKILL, (last, dead.stderr)
            healed(ward, before, lost)
