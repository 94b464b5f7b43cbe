"""What happens, told to open pages while it happens: one look at the stream serves all pages of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from sojourn.console.render import render
from sojourn.console.stories import Story, stories
from sojourn.errors import Overloaded, StoreError
from sojourn.event import Event, EventKind
from sojourn.service.watch import Watch

SHOWN = 6
KEPT = 40
"""Latest events of a choice that are kept while a page shows it; fewer are shown, since not each is told."""
PAGES_MAX = 200
"""Open pages of a process that are told; and of one API key:"""
PAGES_EACH_MAX = 20

CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("Everything", ()),
    "refused": (
        "Refusals",
        (EventKind.LEASE_DENIED.value, EventKind.LEASE_WAITING.value),
    ),
    "lost": (
        "Seats that were lost",
        (
            EventKind.LEASE_EXPIRED.value,
            EventKind.LEASE_EVICTED.value,
            EventKind.LEASE_REVOKED.value,
        ),
    ),
    "seats": (
        "Seats",
        tuple(kind.value for kind in EventKind if kind.value.startswith("lease.")),
    ),
    "sessions": (
        "Sessions",
        tuple(kind.value for kind in EventKind if kind.value.startswith("session.")),
    ),
    "operators": ("Operators", (EventKind.OPERATOR_ACTED.value,)),
}
"""What a page may choose to be told: its title, and the kinds of events; none are all."""

OnThread = Callable[..., Awaitable[Any]]


class Stream(Protocol):
    """A store, as far as it is needed here."""

    @property
    def events(self) -> Callable[..., list[Event]]: ...

    @property
    def now(self) -> Callable[[], int]: ...


def latest(stream: Stream, kinds: Sequence[str]) -> list[Event]:
    """Return the latest events of some kinds, newest first."""
    return stream.events(kinds=kinds, limit=KEPT, newest_first=True)


def written(events: Sequence[Event], now: int) -> list[Story]:
    """Tell the latest of these events, as many as a page shows."""
    return stories(events[:KEPT], now)[:SHOWN]


class OpenPage:
    """A page that is told. It has the latest list alone: a slow one skips what is old by then."""

    def __init__(self, choice: str, key_id: str) -> None:
        self.choice = choice
        self.key_id = key_id
        self.fresh = True  # nothing was told since it came
        self.news: bytes | None = None
        self.wake = asyncio.Event()

    def tell(self, news: bytes) -> None:
        self.fresh, self.news = False, news
        self.wake.set()


class Feed:
    """Belongs to one event loop; the stream is read, and lists are written, on threads. `troubled` is told
    why a look failed; the next one tells what was missed."""

    def __init__(
        self,
        stream: Stream,
        *,
        on_thread: OnThread,
        troubled: Callable[[StoreError | Overloaded], None],
    ) -> None:
        self._stream = stream
        self._on_thread = on_thread
        self._pages: set[OpenPage] = set()
        self._latest: dict[str, list[Event]] = {}
        self._told: dict[str, bytes] = {}
        self._watch = Watch(
            stream,
            self._look,
            kinds=(),
            wanted=lambda: bool(self._pages),
            on_thread=on_thread,
            troubled=troubled,
        )

    @property
    def open(self) -> int:
        """How many pages are told."""
        return len(self._pages)

    def has_room(self, key_id: str) -> bool:
        each = Counter(page.key_id for page in self._pages)
        return len(self._pages) < PAGES_MAX and each[key_id] < PAGES_EACH_MAX

    @contextlib.contextmanager
    def listen(self, choice: str, key_id: str) -> Iterator[OpenPage]:
        """Have a page told: at first the latest, then each change, until the block is left."""
        page = OpenPage(choice, key_id)
        self._pages.add(page)
        self._watch.begin()
        try:
            yield page
        finally:
            self._pages.discard(page)

    async def stop(self) -> None:
        await self._watch.stop()

    async def _look(self, events: Sequence[Event], missed: bool) -> None:
        choices = {page.choice for page in self._pages}
        for choice in set(self._latest) - choices:
            del self._latest[choice], self._told[choice]
        changed = set()
        for choice in choices:
            if await self._on_thread(self._renew, choice, events, missed):
                changed.add(choice)
        for page in list(self._pages):
            if page.choice in self._told and (page.fresh or page.choice in changed):
                page.tell(self._told[page.choice])

    def _renew(self, choice: str, events: Sequence[Event], missed: bool) -> bool:
        """Bring a choice's list up to date, on a thread. Returns whether it has changed."""
        kinds = CHOICES[choice][1]
        known = self._latest.get(choice)
        if known is None or missed:
            found = latest(self._stream, kinds)
        else:
            after = known[0].id if known else 0
            new = [e for e in events if e.id > after and (not kinds or e.kind.value in kinds)]
            if not new:
                return False
            found = [*reversed(new), *known][:KEPT]
        feed = written(found, self._stream.now())
        self._latest[choice], self._told[choice] = found, render("_feed.html", feed=feed)
        return True
