"""Bugs planted in what a store remembers of requests: the suite finds each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.testing.planted import outcomes
from tests.unit.testing.test_suite_catches import interrupted

from sojourn.idempotency import ANSWERS_KEPT, IdempotencyKey, Kept
from sojourn.lease import Acquire, Denied, Lease
from sojourn.session import Save
from sojourn.stores.memory import MemoryStore

pytest_plugins = ("pytester",)


class Forgetful(MemoryStore):
    """Decides each copy anew."""

    def _known(self, keys: Iterable[IdempotencyKey], now: int) -> dict[bytes, Kept]:
        return {}


class SeesNoCopyInItsBatch(MemoryStore):
    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return [
            super(SeesNoCopyInItsBatch, self).acquire([request])[0] for request in requests[:1]
        ] + [
            super(SeesNoCopyInItsBatch, self).acquire([replace(request, idempotency=None)])[0]
            for request in requests[1:]
        ]


class TakesAnyBody(MemoryStore):
    """Answers another request under the same key as if it were the first."""

    def _known(self, keys: Iterable[IdempotencyKey], now: int) -> dict[bytes, Kept]:
        asked = {key.digest: key.fingerprint for key in keys}
        known = super()._known(list(keys), now)
        return {i: Kept(asked[i], kept.answer, kept.note) for i, kept in known.items()}


class NeverForgets(MemoryStore):
    def _known(self, keys: Iterable[IdempotencyKey], now: int) -> dict[bytes, Kept]:
        return super()._known(keys, min(now, ANSWERS_KEPT))


class KeepsNoDenial(MemoryStore):
    def _once(
        self,
        keys: Sequence[IdempotencyKey | None],
        decide: Callable[[list[int]], Sequence[Any]],
        now: int,
    ) -> list[Any]:
        answers = super()._once(keys, decide, now)
        for key, answer in zip(keys, answers, strict=True):
            if key is not None and isinstance(answer, Denied):
                self._firsts.pop(key.digest)
        return answers


class LooksFirst(MemoryStore):
    """Looks for what is kept in one step, and decides in another."""

    def save(self, saves: Sequence[Save]) -> list[int | Any | None]:
        keys = [save.idempotency for save in saves if save.idempotency is not None]
        with self._lock:
            if self._known(keys, self.now()):
                return super().save(saves)
        interrupted()
        with self._lock:
            for key in keys:
                self._firsts.pop(key.digest, None)
            return super().save(saves)


BUGS: dict[type[MemoryStore], str] = {
    Forgetful: "test_repeated_acquire_is_granted_once",
    SeesNoCopyInItsBatch: "test_repeated_in_one_batch",
    TakesAnyBody: "test_key_repeated_for_something_else",
    NeverForgets: "test_repeated_when_forgotten",
    KeepsNoDenial: "test_repeated_denial_is_told_again",
    LooksFirst: "test_repeated_saves_at_once",
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_suite_finds(bug: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The test that is there for this bug fails on a store that has it."""
    assert outcomes(pytester, bug, [BUGS[bug]])[1] > 0
