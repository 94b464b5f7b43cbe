"""Which pages may use a license: what stands between the queue and the verbs of seats (ADR 40).

A request of a page elsewhere comes as `FromPage`. Where its license allows that origin, the outcome comes
back as `Shared`, so that whoever answers lets the page read it. Where the license allows others only, the
request is refused. A license that allows none carries out what it is asked, and shares it with no page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from sojourn.errors import Forbidden, SojournError, StoreError, StoreUnavailable
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.log import get_logger
from sojourn.origin import origin_allowed
from sojourn.service.seats import BeatCall, SeatCall
from sojourn.token import LeaseClaims

FRESH_FOR = 5.0
"""Seconds for which the origins of a license are remembered."""
LICENSES_MAX = 10_000
"""Licenses whose origins are remembered; for one more, all are forgotten."""
RETRY = 5.0
"""Seconds until the ledger is asked for the origins of licenses again, after it did not answer."""
KNOWN_FRESH_FOR = 10.0
"""Seconds for which the origins of all licenses are remembered."""
KNOWN_RETRY = 1.0
"""Seconds until the next look, after one that failed."""
KNOWN_MAX = 10_000
"""Origins that are remembered of all licenses. Where there are more, every origin counts as known."""

log = get_logger(__name__)

Verb = Callable[[Sequence[Any]], Sequence[Any]]


class FromPage(Struct, frozen=True):
    """What a page of another origin asks for: a call, and the origin as its browser says it."""

    origin: str
    call: SeatCall | BeatCall | LeaseClaims


class Shared(Struct, frozen=True):
    """The outcome of such a call, or its fault, which pages of that origin may read."""

    origin: str
    outcome: Any


def bare(outcome: Any) -> Any:
    """Return an outcome as it is to whoever is no page."""
    return outcome.outcome if type(outcome) is Shared else outcome


class AllowedOrigins:
    """Knows which origins licenses allow. Synchronous; safe from several threads."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._now = now
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # held by the thread that asks for those who do not wait
        self._of: dict[str, tuple[float, tuple[str, ...]]] = {}  # by license: until when, and which
        self._retry_at: float | None = None  # None: the ledger answered last
        self._known: frozenset[str] = frozenset()
        self._known_until = float("-inf")
        self._all_known = False

    def of(self, license_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return what licenses allow, at most `FRESH_FOR` old; nothing for those that are not there.
        Raises StoreError, without asking while the ledger did not answer less than `RETRY` ago."""
        now = self._now()
        with self._lock:
            found = {name: self._of[name] for name in license_ids if name in self._of}
        missing = [name for name in license_ids if name not in found or found[name][0] <= now]
        if missing:
            read = self._read(missing)
            fresh = {name: (now + FRESH_FOR, read.get(name, ())) for name in missing}
            found |= fresh
            with self._lock:
                if len(self._of) + len(fresh) > LICENSES_MAX:
                    self._of.clear()
                self._of.update(fresh)
        return {name: origins for name, (_, origins) in found.items()}

    def remembered(self, license_id: str) -> tuple[str, ...] | None:
        """Return what a license allows, at most `FRESH_FOR` old; None where only the ledger can say. Asks
        nobody."""
        with self._lock:
            until, origins = self._of.get(license_id, (float("-inf"), ()))
        return origins if until > self._now() else None

    def _read(self, license_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        if not self._may_ask():
            raise StoreUnavailable("The ledger does not answer, which says who may use a license.")
        try:
            read = self._ledger.license_origins(license_ids)
        except StoreError:
            with self._lock:
                self._retry_at = self._now() + RETRY
            raise
        with self._lock:
            self._retry_at = None
        return read

    def _may_ask(self) -> bool:
        """Tell whether to ask the ledger. After it did not answer one may at a time: the next ones are not
        to hang with it."""
        now = self._now()
        with self._lock:
            if self._retry_at is None:
                return True
            if now < self._retry_at:
                return False
            self._retry_at = now + RETRY
            return True

    def _of_or_before(self, license_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return what licenses allow, or allowed when the ledger answered last.

        The caller is held up by a ledger that hangs once: then another thread asks until it answers.
        """
        with self._lock:
            retry_at = self._retry_at
        if retry_at is None:
            try:
                return self.of(license_ids)
            except StoreError as fault:
                log.debug("origins_not_read", error=fault.message)
        elif retry_at <= self._now() and self._asking.acquire(blocking=False):
            thread = threading.Thread(
                target=self._ask_again, args=[license_ids], name="origins", daemon=True
            )
            try:
                thread.start()
            except (
                RuntimeError
            ) as fault:  # no more threads: memory answers, and the next call tries again
                self._asking.release()
                log.warning("origins_not_asked", error=str(fault))
        with self._lock:
            return {name: self._of[name][1] for name in license_ids if name in self._of}

    def _ask_again(self, license_ids: Sequence[str]) -> None:
        try:
            self.of(license_ids)
        except StoreError as fault:
            log.debug("origins_not_read", error=fault.message)
        finally:
            self._asking.release()

    def forget(self, license_id: str) -> None:
        """Note that a license may allow other origins than it did."""
        with self._lock:
            self._of.pop(license_id, None)
            self._known_until = float("-inf")

    def knows(self, origin: str) -> bool:
        """Tell whether any license allowed an origin, when `refresh` looked last. Asks nobody."""
        return self._all_known or origin_allowed(self._known, origin)

    @property
    def stale(self) -> bool:
        """Whether `refresh` is due."""
        return self._known_until <= self._now()

    def refresh(self) -> None:
        """Look which origins licenses allow. Raises StoreError."""
        until = self._now() + KNOWN_FRESH_FOR
        with self._lock:
            self._known_until = until
        try:
            found = self._ledger.allowed_origins(limit=KNOWN_MAX)
        except StoreError:
            self._known_until = self._now() + KNOWN_RETRY
            raise
        if len(found) > KNOWN_MAX and not self._all_known:
            log.warning("too_many_origins", most=KNOWN_MAX)
        self._all_known = len(found) > KNOWN_MAX
        self._known = frozenset(found)

    def guarding(self, verb: Verb, *, keeps: bool = False) -> Verb:
        """Return a verb of seats that takes calls of pages, too.

        `keeps`: while the ledger does not answer, what it said last counts, and where it never did, the call
        is carried out and shared with nobody: an outage of ours costs no page its seat.
        """

        def guarded(calls: Sequence[Any]) -> Sequence[Any]:
            pages = {i: call for i, call in enumerate(calls) if type(call) is FromPage}
            if not pages:
                return verb(calls)
            judged = self._judge(pages, keeps=keeps)
            bare = [call.call if type(call) is FromPage else call for call in calls]
            asked = [i for i in range(len(calls)) if not isinstance(judged.get(i), SojournError)]
            outcomes: list[Any] = [judged.get(i) for i in range(len(calls))]
            for i, outcome in zip(asked, verb([bare[i] for i in asked]), strict=True):
                shares = i in pages and outcomes[i] is True
                outcomes[i] = Shared(pages[i].origin, outcome) if shares else outcome
            return outcomes

        return guarded

    def _judge(
        self, pages: dict[int, FromPage], *, keeps: bool
    ) -> dict[int, bool | SojournError | None]:
        """Say of each call whether its page may read the outcome, or why it is refused. None: nobody
        knows its license, which is for the verb to say."""
        hashes = [h for page in pages.values() if (h := _key_hash(page.call)) is not None]
        by_key = dict(zip(hashes, self._ledger.licenses_by_key(hashes), strict=True))
        names = {name for page in pages.values() if (name := _license_id(page.call)) is not None}
        allowed = (self._of_or_before if keeps else self.of)(sorted(names))
        judged: dict[int, bool | SojournError | None] = {}
        for i, page in pages.items():
            license_ = by_key.get(_key_hash(page.call) or b"")
            named = allowed.get(_license_id(page.call) or "")
            origins = named if license_ is None else license_.allowed_origins
            judged[i] = None if origins is None else _judged(origins, page.origin)
        return judged


def _judged(license_origins: Sequence[str], origin: str) -> bool | SojournError:
    if not license_origins:
        return False
    if origin_allowed(license_origins, origin):
        return True
    return Forbidden(
        "This license is not for pages of this origin.",
        code="cross_origin",
        hint="Add the origin to those that the license allows.",
    )


def _key_hash(call: SeatCall | BeatCall | LeaseClaims) -> bytes | None:
    return call.key_hash if isinstance(call, SeatCall) else None


def _license_id(call: SeatCall | BeatCall | LeaseClaims) -> str | None:
    """Return the license that a call's proof names; None where that is a key."""
    claims = call if isinstance(call, LeaseClaims) else call.claims
    if claims is not None:
        return split_pool_id(claims.pool_id)[0]
    assert isinstance(call, SeatCall)
    return None if call.key_hash is not None else call.license_id
