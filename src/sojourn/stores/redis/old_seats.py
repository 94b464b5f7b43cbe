"""Seats that an older license backend keeps on Redis or Valkey: read in pieces, never written.

It keeps a key for each session (a hash, or JSON), a set of sessions for each user, and a counter for each
feature. What a counter says and what its sessions are may differ: nothing took the count back when a
session fell silent.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import redis
from msgspec import Struct

from sojourn.ending import Ending, ending_of

SESSIONS = ("session:*", "sessions:*", "sess:*")
SETS = ("user_sessions:*", "user:*:sessions", "sessions:user:*", "user:sessions:*")
COUNTERS = (
    "feature:*:count",
    "feature_count:*",
    "feature:*:active",
    "license:*:count",
    "seats:*:count",
)


def _matcher(*patterns: str) -> Callable[[bytes], object]:
    return re.compile("|".join(map(fnmatch.translate, patterns)).encode()).match


IS_SESSION, IS_SET, IS_COUNTER = _matcher(*SESSIONS), _matcher(*SETS), _matcher(*COUNTERS)
ANY = _matcher(*SESSIONS, *SETS, *COUNTERS)

PAGE = 250
KEYS_MAX = 2_000_000
FIELDS = {
    "token": ("session_token", "token"),
    "user": ("user_id", "userId", "user"),
    "feature": ("feature", "feature_name", "featureName"),
    "license": ("license_cache_id", "licenseCacheId", "license_id"),
    "beat": ("last_heartbeat", "lastHeartbeat", "last_heartbeat_at", "heartbeat_at"),
    "status": ("status", "state"),
}
ENDED = ("ended_at", "endedAt", "revoked_at", "deleted_at", "logged_out_at", "is_revoked")
ACTIVE = ("is_active", "active", "is_valid")
VALUE_MAX = 65_536
"""Bytes of a session's value; what is longer is no seat."""


class CounterSeen(Struct, frozen=True):
    """What a feature's counter says, and how many of its sessions are there and not over."""

    key: str
    feature: str
    said: int
    sessions: int


@contextlib.contextmanager
def untouched(client: Any) -> Iterator[Any]:
    """Lend a client whose reading leaves no trace: how long a key was idle stays told. Where the server
    knows no such thing (before Redis 7.2), None."""
    own = client.client()
    try:
        try:
            own.execute_command("CLIENT", "NO-TOUCH", "ON")
        except redis.ResponseError:
            yield None
            return
        try:
            yield own
        finally:
            own.execute_command("CLIENT", "NO-TOUCH", "OFF")
    finally:
        own.close()


def seats(client: Any, ours: str = "") -> Iterator[list[dict[str, Any]]]:
    """Yield the sessions that name a feature, as `adopt.seats` reads them. `ours`: what no key of theirs has
    in its name. Raises redis.RedisError."""
    told: set[bytes] = set()
    for page in pages(client, IS_SESSION, ours):
        rows = [row for key in page if key not in told and (row := _row(client, key)) is not None]
        told.update(page)
        if rows:
            yield rows


def pages(client: Any, wanted: Callable[[bytes], object], ours: str) -> Iterator[list[bytes]]:
    """Yield the keys that have such a name, some at a time."""
    cursor, seen = -1, 0
    while cursor and seen < KEYS_MAX:
        cursor, keys = client.scan(max(cursor, 0), count=PAGE)
        seen += len(keys)
        named = [key for key in dict.fromkeys(keys) if wanted(key)]
        found = [key for key in named if not ours or ours.encode() not in key]
        if found:
            yield found


def _row(client: Any, key: bytes) -> dict[str, Any] | None:
    """Read one session; None if it is of another make."""
    values = _values(client, key)
    if values is None:
        return None
    row: dict[str, Any] = {
        role: next((values[name] for name in names if values.get(name) not in (None, "")), None)
        for role, names in FIELDS.items()
    }
    if row["feature"] is None or row["user"] is None:
        return None
    text = key.decode(errors="surrogateescape")
    row["token"] = row["token"] or _named(text)
    row["over"] = [values[name] for name in ENDED if name in values]
    row["active"] = [values[name] for name in ACTIVE if name in values]
    row["name"] = f"key {text[: text.find(':') + 5]}…"  # the rest may be the token
    return row


def _values(client: Any, key: bytes) -> Mapping[str, Any] | None:
    kind = client.type(key)
    if kind == b"hash":
        fields: Mapping[bytes, bytes] = client.hgetall(key)
        return {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in fields.items()
        }
    if kind != b"string":
        return None
    raw = client.getrange(key, 0, VALUE_MAX)
    try:
        values = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
    return values if isinstance(values, dict) else None


def _named(key: str) -> str:
    """Return a session's name without what all of them begin with."""
    heads = [pattern[:-1] for pattern in SESSIONS]
    return next((key.removeprefix(head) for head in heads if key.startswith(head)), key)


def feature_of(key: str) -> str | None:
    """Return the feature that a counter counts; None if its name does not tell."""
    for pattern in COUNTERS:
        match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), key)
        if match is not None:
            return match[1]
    return None


def counters(client: Any, ours: str = "") -> list[CounterSeen]:
    """Hold each feature's counter against its sessions that are not over. Raises redis.RedisError."""
    living = Counter(
        str(row["feature"])
        for page in seats(client, ours)
        for row in page
        if ending_of(row) is not Ending.OVER
    )
    if not living:  # sessions do not say which feature they are of
        return []
    found: dict[str, CounterSeen] = {}
    for page in pages(client, IS_COUNTER, ours):
        for key in page:
            text = key.decode(errors="replace")
            feature = feature_of(text)
            if feature is None or client.type(key) != b"string":
                continue
            try:
                said = int(client.get(key) or 0)
            except (ValueError, redis.ResponseError):
                continue
            found[text] = CounterSeen(text, feature, said, living[feature])
    return [found[name] for name in sorted(found)]
