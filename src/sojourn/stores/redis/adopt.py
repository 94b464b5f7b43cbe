"""Flask-Session's keys on Redis or Valkey: found with SCAN, read in pieces, never written.

SCAN finds every key that is there all the while, and some of them twice; those are told as there
already. What has more than we take is cut off one byte past that by the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from sojourn.clock import host_now
from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.stores.redis import old_seats

BATCH = 250
DATA_READ = 1_048_577
TIMEOUT = 10  # seconds
MASKED_FROM = 16
SPECIAL = "\\*?[]^-"


class RedisSource:
    """The keys that begin with a prefix."""

    def __init__(self, url: str, prefix: str) -> None:
        for ours, theirs in (("valkeys:", "rediss:"), ("valkey:", "redis:")):
            if url.startswith(ours):
                url = theirs + url.removeprefix(ours)
        self._client = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=False
        )
        self._prefix = prefix

    def open(self) -> None:
        """Connect. Raises StoreUnavailable and StoreBroken."""
        with _reading():
            self._client.ping()

    def has_seats(self) -> bool:
        """Tell whether an older license backend keeps its sessions here."""
        with _reading():
            return next(old_seats.seats(self._client), None) is not None

    def seats(self) -> Iterator[list[dict[str, Any]]]:
        """Read the sessions that name a feature; see `adopt.seats`."""
        with _reading():
            yield from old_seats.seats(self._client)

    def counters(self) -> list[old_seats.CounterSeen]:
        """Hold each feature's counter against its sessions that are not over."""
        with _reading():
            return old_seats.counters(self._client)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        pattern = "".join(f"\\{c}" if c in SPECIAL else c for c in self._prefix) + "*"
        cursor = 0
        keys: list[bytes] = []
        while True:
            with _reading():
                cursor, found = self._client.scan(cursor, match=pattern, count=BATCH)
            keys += [each for each in found if isinstance(each, bytes)]
            while len(keys) >= BATCH or (keys and not cursor):
                batch, keys = keys[:BATCH], keys[BATCH:]
                yield self._rows(batch)
            if not cursor:
                return

    def _rows(self, keys: list[bytes]) -> list[dict[str, Any]]:
        with _reading(), self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.getrange(key, 0, DATA_READ - 1)
                pipe.pttl(key)
            answers = pipe.execute(raise_on_error=False)
        now = host_now()
        rows = []
        for key, data, left in zip(keys, answers[::2], answers[1::2], strict=True):
            for answer in (data, left):
                if isinstance(answer, RedisError) and not isinstance(answer, ResponseError):
                    raise StoreUnavailable(f"The old sessions: Redis failed: {answer}.")
            token = key.decode(errors="surrogateescape")
            row: dict[str, Any] = {"name": self._name(token), "token": token}
            row["data"] = data if isinstance(data, bytes) else None  # another type of key
            if isinstance(left, int) and left != -1:  # -1: never; -2: gone by now
                row["expires"] = now + left
            rows.append(row)
        return rows

    def _name(self, key: str) -> str:
        token = key.removeprefix(self._prefix)
        shown = token[:4] if len(token) >= MASKED_FROM and token.isprintable() else ""
        return f"key {self._prefix}{shown}…"

    def close(self) -> None:
        with contextlib.suppress(RedisError):
            self._client.close()


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (AuthenticationError, ResponseError) as error:
        raise StoreBroken(
            f"The old sessions: Redis refuses: {error}.",
            hint="Check --from: the address, the user and the password.",
        ) from error
    except RedisError as error:
        raise StoreUnavailable(
            f"The old sessions: Redis is not available ({type(error).__name__}).",
            hint="Check that it runs, and --from.",
        ) from error
