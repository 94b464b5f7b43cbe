"""Faults that are really made, one after the other in one database: found, mended, nobody lost.

    for fault in FAULTS:
        ward.suffers(fault)

A `Ward` is a database with people signed in and on their seats, whose store was opened, and used, before
anything went wrong: it must work again once the fault is mended, without being opened anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import text

from sojourn.doctor.doctor import Doctor, Examined
from sojourn.finding import Examiner, Finding, Verdict
from sojourn.lease import Acquire, Lease, Renew
from sojourn.session import NewSession, Session
from sojourn.stores import open as stores
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import pool

PEOPLE = 40
POOL = pool(capacity=PEOPLE, lost_after=3_600_000)

Plant: TypeAlias = "Sequence[str] | Callable[[Ward], object]"


class Planted(Struct, frozen=True, kw_only=True):
    """A fault.

    Attributes:
        check: the check that is to find it.
        plant: statements that make it; or what does.
        mended: doctor repairs it; otherwise `cure` is what its fix says.
        also: checks that may find something of it, too.
    """

    name: str
    check: str
    plant: Plant
    verdict: Verdict = Verdict.FAILURE
    mended: bool = True
    cure: Plant = ()
    also: frozenset[str] = frozenset()
    names: str = ""  # a word that the finding's title or evidence must have


def token_hash(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


class Ward:
    """A database that suffers; its people, and the doctor."""

    def __init__(self, url: str, examiner: Examiner | None = None) -> None:
        self.url = url
        store = stores.open_store(url, migrate=True)
        assert isinstance(store, SqlStore)
        self.store = store
        found = examiner or stores.open_examiner(url, place="the ward")
        assert found is not None
        self.doctor = Doctor([found], lambda: stores.repair_lock(url))
        store.define([POOL])
        self._sign_in()
        for _ in range(8):  # so often that drivers have prepared what they say
            self.check_on_everybody()

    def _sign_in(self) -> None:
        people = [
            NewSession(
                id=f"s{n}",
                token_hash=token_hash(n),
                user_id=f"Person {n}",
                data={"n": n, "ä": "ß€"},
            )
            for n in range(PEOPLE)
        ]
        created = self.store.create(people)
        assert all(isinstance(session, Session) for session in created)
        requests = [
            Acquire(pool_id=POOL.id, user_id=f"Person {n}", client_id=f"tab {n}", lease_id=f"l{n}")
            for n in range(PEOPLE)
        ]
        taken = self.store.acquire(requests)
        self.leases = [lease for lease in taken if isinstance(lease, Lease)]
        assert len(self.leases) == PEOPLE
        self.store.end(ids=["s0"])  # and must stay so

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def concat(self, *parts: str) -> str:
        return f"concat({', '.join(parts)})" if self.kind == "mysql" else " || ".join(parts)

    def execute(self, *statements: str) -> None:
        with self.store._db.writing() as tx:
            for statement in statements:
                tx.core(text(statement.replace(":", r"\:")))

    def ask(self, statement: str) -> Any:
        with self.store._db.writing() as tx:
            return tx.core(text(statement)).scalar()

    def do(self, what: Plant) -> None:
        if callable(what):
            what(self)
        else:
            self.execute(*what)

    def look(self) -> dict[str, Examined]:
        return {seen.check.id: seen for seen in self.doctor.examine()}

    def wrong(self) -> dict[str, Examined]:
        return {name: seen for name, seen in self.look().items() if seen.finding.verdict.rank}

    def check_on_everybody(self) -> None:
        """The same people are signed in, with what they had; and on their seats."""
        loaded = self.store.load([token_hash(n) for n in range(PEOPLE)])
        signed_in = {s.user_id: s.data for s in loaded if isinstance(s, Session)}
        assert signed_in == {f"Person {n}": {"n": n, "ä": "ß€"} for n in range(1, PEOPLE)}
        beats = self.store.renew([Renew(lease_id=x.id, fence=x.fence) for x in self.leases])
        assert None not in beats

    def newcomer(self, number: int) -> None:
        """Somebody new can sign in, and take a seat."""
        new = NewSession(id=f"new{number}", token_hash=token_hash(10_000 + number), user_id="New")
        [session] = self.store.create([new])
        assert isinstance(session, Session)
        self.store.end(ids=[session.id])

    def suffers(self, fault: Planted) -> Finding:
        """Plant a fault; see that it is found, and mended, and that nobody has noticed more of it."""
        self.do(fault.plant)
        wrong = self.wrong()
        assert fault.check in wrong, (fault.name, list(wrong))
        assert wrong.keys() <= {fault.check, *fault.also}, (fault.name, list(wrong))
        seen = wrong[fault.check]
        assert seen.finding.verdict is fault.verdict, (fault.name, seen.finding)
        assert seen.finding.fix is not None, fault.name
        said = " ".join([seen.finding.title, *seen.finding.evidence])
        assert fault.names.lower() in said.lower(), (fault.name, said)
        if fault.mended:
            assert seen.steps, (fault.name, "no plan")
            assert list(self.doctor.repair()), fault.name
        else:
            assert not seen.steps, (fault.name, seen.steps)
            self.do(fault.cure)
        left = self.wrong()
        assert not left, (fault.name, {name: each.finding for name, each in left.items()})
        assert not list(self.doctor.repair()), f"{fault.name}: mended twice"
        self.check_on_everybody()
        return seen.finding

    def close(self) -> None:
        self.doctor.close()
        self.store.close()


@contextlib.contextmanager
def ward(url: str) -> Iterator[Ward]:
    with closing(Ward(url)) as opened:
        yield opened
