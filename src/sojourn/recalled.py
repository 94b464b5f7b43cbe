"""What was found out about secrets that come again and again, so that it need not be found out each time."""

from __future__ import annotations

import hmac
from typing import AnyStr, Generic, TypeVar

V = TypeVar("V")


class Recalled(Generic[AnyStr, V]):
    """Values by secret: about the last `most` that were used, and twice as many at most. Safe from several
    threads.

    Two generations: what is used goes into the younger one, and when that is full the older one is dropped.
    A secret is looked for by its hash, which is salted anew by each process, and then compared in constant
    time. It must be ASCII, as text and as bytes, as all of ours are: others are not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[int, tuple[AnyStr, V]] = {}
        self._old: dict[int, tuple[AnyStr, V]] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, secret: AnyStr) -> V | None:
        place = hash(secret)
        known = self._young.get(place)
        if known is None:
            known = self._old.pop(place, None)
            if known is None:
                return None
            self._put(place, known)
        same = secret.isascii() and hmac.compare_digest(known[0], secret)
        return known[1] if same else None

    def put(self, secret: AnyStr, value: V) -> None:
        if secret.isascii():
            self._put(hash(secret), (secret, value))

    def _put(self, place: int, known: tuple[AnyStr, V]) -> None:
        if len(self._young) >= self._most:
            self._young, self._old = {}, self._young
        self._young[place] = known

    def forget(self, secret: AnyStr) -> None:
        place = hash(secret)
        self._young.pop(place, None)
        self._old.pop(place, None)
