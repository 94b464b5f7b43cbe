"""Histories written by hand, for the checker to judge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.promises.checker import check
from tests.promises.history import Facts, Pool, Record, Window

POOL = Pool(capacity=1, lost_after=8.0, suspect_after=5.0, linger=1.0, heartbeat=1.0)
LATENCY = 0.01


class History:
    """Writes records as clients would. Instants are seconds from the start."""

    def __init__(self, pool: Pool = POOL, **facts: Any) -> None:
        self.facts = Facts(pools={"p": pool}, **facts)
        self.records: list[Record] = []

    def add(
        self, op: str, at: float, status: int, ask: dict[str, Any], said: dict[str, Any]
    ) -> Record:
        done = None if status == 0 else at + LATENCY
        closed = at + 2.0 if done is None else done
        record = Record(1, op, 0, at, done, closed, status, ask, said)
        self.records.append(record)
        return record

    def acquire(self, at: float, who: str, fence: int, **ask: Any) -> Record:
        said = {"l": f"lse_{who}", "f": fence, "r": False, "in": 8.0}
        return self.add("acquire", at, 201, {"p": "p", "h": who} | ask, said)

    def deny(self, at: float, who: str, used: int = 1, **ask: Any) -> Record:
        said = {"code": "seat_limit", "used": used, "limit": 1}
        return self.add("acquire", at, 409, {"p": "p", "h": who} | ask, said)

    def unanswered(self, op: str, at: float, who: str, **ask: Any) -> Record:
        return self.add(op, at, 0, {"p": "p", "h": who} | ask, {"x": "timeout"})

    def beat(self, at: float, who: str, fence: int, status: int = 200, **ask: Any) -> Record:
        said = {"in": 8.0, "st": "active"} if status == 200 else {"code": "lease_lost"}
        about = {"p": "p", "h": who, "l": f"lse_{who}", "f": fence}
        return self.add("beat", at, status, about | ask, said)

    def release(self, at: float, who: str, fence: int, *, given: bool = True) -> Record:
        about = {"p": "p", "h": who, "l": f"lse_{who}", "f": fence}
        return self.add("release", at, 200, about, {"rel": given})

    def begin(self, at: float, session: str, user: str = "ada") -> Record:
        return self.add("begin", at, 201, {"u": user, "d": {"k": 0}}, {"id": session, "u": user})

    def use(
        self, op: str, at: float, session: str, status: int = 200, turn: int = 0, **said: Any
    ) -> Record:
        ask = {"id": session, "u": "ada", "t": turn}
        facts = {"id": session, "u": "ada"} if op in ("check", "rotate") else {}
        return self.add(op, at, status, ask, facts | said if status == 200 else {"code": "c"})

    def save(self, at: float, session: str, value: int, status: int = 200) -> Record:
        ask = {"id": session, "u": "ada", "t": 0, "k": "k", "v": value}
        said = {"rev": value} if status == 200 else {"x": "abandoned"}
        return self.add("save", at, status, ask, said)

    def found(self, *windows: Window) -> set[str]:
        facts = replace(self.facts, windows=list(windows))
        return set(check(facts, self.records).counts)
