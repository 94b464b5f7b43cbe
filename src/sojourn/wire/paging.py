"""Pages of long lists, bounded by rows and by bytes: whatever rows hold, no answer takes much memory.

Rows are read a few at a time, so that what was read and does not fit any more is little, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from sojourn.wire.bodies import Page
from sojourn.wire.reply import encode

PAGE_BYTES = 4 * 1_048_576
"""Bytes of JSON that a page holds; one more row than fit, if a single one is larger."""
READ_FIRST = 16
"""Rows read at once while it is not known how large they are."""
READ_MAX = 500

Row = TypeVar("Row")
Cursor = TypeVar("Cursor")


def page_of(
    read: Callable[[Cursor, int], Sequence[Row]],
    body: Callable[[Row], Any],
    *,
    after: Cursor,
    limit: int,
    cursor: Callable[[Row], Cursor],
    name: Callable[[Row], str],
) -> Page[Any]:
    """Read a page of at most `limit` rows after a cursor.

    `read` returns at most so many rows after a cursor, and fewer if there are no more; `body` is what a row
    is on the wire. `cursor` tells where to read on after a row, and `name` the same as `next` has it.
    """
    items: list[Any] = []
    room, chunk = PAGE_BYTES, READ_FIRST
    last: Row | None = None
    while len(items) < limit:
        wanted = min(chunk, limit - len(items))
        found = read(after, wanted)
        for row in found:
            raw = encode(body(row))
            if last is not None and len(raw) > room:
                return Page(items=items, next=name(last))
            items.append(msgspec.Raw(raw))
            room -= len(raw)
            last = row
        if len(found) < wanted or last is None:
            return Page(items=items)
        after = cursor(last)
        each = max(1, (PAGE_BYTES - room) // len(items))
        chunk = max(1, min(READ_MAX, room // each))
    return Page(items=items, next=None if last is None else name(last))


def within_bytes(
    rows: Sequence[Row], body: Callable[[Row], Any], less: Callable[[Row], Any]
) -> list[Any]:
    """Write rows that belong together in full as far as they fit, and the rest of them in less."""
    items: list[Any] = []
    room = PAGE_BYTES
    for row in rows:
        raw = encode(body(row)) if room > 0 else b""
        room -= len(raw)
        items.append(msgspec.Raw(raw) if raw and room >= 0 else less(row))
    return items
