"""Requests that come twice: a proxy's copy, or a client's own retry after an answer that was lost.

A caller names a request with a key (the HTTP header `Idempotency-Key`, draft-ietf-httpapi-
idempotency-key-header). A store keeps the first answer to it, in the same atomic step as what was
decided, and gives it again for `ANSWERS_KEPT`. Two copies may arrive at different servers at once: one
is decided, the other gets its answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.errors import InvalidInput

ANSWERS_KEPT = 10 * MINUTE
"""How long a first answer is kept, in ms. Proxies and clients send a request again within a minute or
two; each kept answer is a row, or a few hundred bytes of memory."""
KEY_MAX = 255
"""Characters of a key."""
_KEY = re.compile(
    rb"[!-~]{1,%d}" % KEY_MAX
)  # visible ASCII; the quotes of an sf-string belong to it
DIGEST_SIZE = 16
"""Bytes of a digest: 128 bits, which nobody finds a second value for."""


class Presented(Struct, frozen=True, gc=False):
    """A key as its caller sent it, and a digest of everything else that the request says."""

    value: bytes
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"Presented({self.fingerprint.hex()})"


class IdempotencyKey(Struct, frozen=True, kw_only=True, gc=False):
    """A key as a store knows it.

    Attributes:
        digest: of the caller, the verb and the key's value: no other caller's key can be the same.
        fingerprint: of the request; another one under the same key is refused.
        note: kept with the answer and given back with it; it means nothing to a store.
        seed: never stored; tokens that may have to be made again are derived from it.
    """

    digest: bytes
    fingerprint: bytes
    note: str = ""
    seed: bytes = b""

    def __repr__(self) -> str:
        return f"IdempotencyKey({self.digest.hex()})"  # the seed is nobody's to see


class Replayed(Struct, frozen=True, kw_only=True):
    """The first answer to a request that came again, and the store's now."""

    answer: Any
    at: int
    note: str = ""


class KeyReused(Struct, frozen=True):
    """The key was used before, for a request that said something else. Nothing was done."""


Repeated: TypeAlias = Any
"""`Replayed | KeyReused`. Only requests with a key are answered so: for all others a verb's answers are what
they were, and whoever sends no key need not look for these."""


class Kept(Struct, frozen=True):
    """A first answer as a store has it."""

    fingerprint: bytes
    answer: Any
    note: str

    def again(self, key: IdempotencyKey, now: int) -> Repeated:
        """Answer a request under the same key."""
        if key.fingerprint != self.fingerprint:
            return KeyReused()
        return Replayed(answer=self.answer, at=now, note=self.note)


def presented(value: bytes, *said: bytes) -> Presented:
    """Read a key of the header of that name, which came with a request that says this, part by part. Raises
    InvalidInput."""
    if _KEY.fullmatch(value) is None:
        raise InvalidInput(
            f"Idempotency-Key: 1 to {KEY_MAX} visible ASCII characters.",
            hint="Send a UUID of its own with each request.",
        )
    return Presented(value, fingerprint_of(*said))


def fingerprint_of(*parts: bytes) -> bytes:
    """Digest what a request says, part by part."""
    return _digest(parts)[:DIGEST_SIZE]


def key_of(scope: str, verb: str, presented: Presented | None) -> IdempotencyKey | None:
    """Return the key under which a store knows a caller's request; None if the caller named none."""
    if presented is None:
        return None
    digest = _digest((scope.encode(), verb.encode(), presented.value))
    return IdempotencyKey(
        digest=digest[:DIGEST_SIZE],
        fingerprint=presented.fingerprint,
        seed=digest[DIGEST_SIZE:],
    )


def _digest(parts: Sequence[bytes]) -> bytes:
    """Digest parts of any length; where one ends and the next begins is told, too."""
    said = hashlib.sha256()
    for part in parts:
        said.update(len(part).to_bytes(8))
        said.update(part)
    return said.digest()


def answer_once(
    keys: Sequence[IdempotencyKey | None],
    known: Mapping[bytes, Kept],
    decide: Callable[[list[int]], Sequence[Any]],
    *,
    now: int,
    keeps: Callable[[Any], bool],
) -> tuple[list[Any], dict[bytes, Kept]]:
    """Answer a batch. `decide` is called once, with the places of the requests that come for the first
    time; the others get what was answered first, be it earlier or in this batch.

    Returns the answers, and those to keep, by digest. `keeps` says which are worth keeping.
    """
    answers: list[Any] = [None] * len(keys)
    first: dict[bytes, int] = {}
    fresh: list[int] = []
    copies: list[tuple[int, IdempotencyKey]] = []
    for i, key in enumerate(keys):
        kept = None if key is None else known.get(key.digest)
        if key is not None and kept is not None:
            answers[i] = kept.again(key, now)
        elif key is not None and key.digest in first:
            copies.append((i, key))
        else:
            fresh.append(i)
            if key is not None:
                first[key.digest] = i
    for i, answer in zip(fresh, decide(fresh) if fresh else (), strict=True):
        answers[i] = answer
    new: dict[bytes, Kept] = {}
    for digest, i in first.items():
        key = keys[i]
        if key is not None and keeps(answers[i]):
            new[digest] = Kept(key.fingerprint, answers[i], key.note)
    for i, key in copies:
        place = first[key.digest]
        kept = new.get(key.digest)
        if kept is not None:
            answers[i] = kept.again(key, now)
        else:
            same = (one := keys[place]) is not None and one.fingerprint == key.fingerprint
            answers[i] = answers[place] if same else KeyReused()
    return answers, new


def reused() -> InvalidInput:
    """Say that a key was used before, for another request."""
    return InvalidInput(
        "This Idempotency-Key was used before, for a request that said something else.",
        code="idempotency_key_reused",
        hint="Use a new key for each request, and the same one only to send the same request again.",
    )
