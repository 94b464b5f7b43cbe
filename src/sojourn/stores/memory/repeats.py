"""Answers kept in memory for requests that come again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from sojourn.clock import Clock
from sojourn.idempotency import ANSWERS_KEPT, IdempotencyKey, Kept, Repeated, answer_once
from sojourn.session import Session
from sojourn.stores.answers import KEPT_MAX, FirstAnswer, answer_of, keeps, kept_of, sessions_in
from sojourn.stores.memory.stream import MemoryStream


class _First(Struct, frozen=True):
    at: int
    fingerprint: bytes
    note: str
    answer: FirstAnswer


class MemoryRepeats(MemoryStream):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._firsts: dict[bytes, _First] = {}  # by the key's digest, oldest first

    def answered(self, keys: Sequence[IdempotencyKey]) -> list[Repeated | None]:
        with self._lock:
            now = self.now()
            known = self._known(keys, now)
            found = [known.get(key.digest) for key in keys]
            return [
                None if kept is None else kept.again(key, now)
                for kept, key in zip(found, keys, strict=True)
            ]

    def _once(
        self,
        keys: Sequence[IdempotencyKey | None],
        decide: Callable[[list[int]], Sequence[Any]],
        now: int,
    ) -> list[Any]:
        """Decide requests that come for the first time, and keep the answers of those with a key."""
        known = self._known([key for key in keys if key is not None], now)
        answers, new = answer_once(keys, known, decide, now=now, keeps=keeps)
        for digest, kept in new.items():
            self._firsts.pop(digest, None)  # the newest come last
            self._firsts[digest] = _First(now, kept.fingerprint, kept.note, kept_of(kept.answer))
        while len(self._firsts) > KEPT_MAX:
            del self._firsts[next(iter(self._firsts))]
        return answers

    def _known(self, keys: Iterable[IdempotencyKey], now: int) -> dict[bytes, Kept]:
        firsts = {
            key.digest: self._firsts[key.digest] for key in keys if key.digest in self._firsts
        }
        fresh = {i: x for i, x in firsts.items() if x.at > now - ANSWERS_KEPT}
        sessions = self._shown(sessions_in(x.answer for x in fresh.values()), now)
        told = {i: (x, answer_of(x.answer, sessions)) for i, x in fresh.items()}
        return {i: Kept(x.fingerprint, y, x.note) for i, (x, y) in told.items() if y is not None}

    def _shown(self, ids: Iterable[str], now: int) -> dict[str, Session]:
        raise NotImplementedError  # the store knows, which holds sessions

    def _forget_answers(self, until: int, limit: int) -> int:
        old = [digest for digest, first in self._firsts.items() if first.at <= until][:limit]
        for digest in old:
            del self._firsts[digest]
        return len(old)
