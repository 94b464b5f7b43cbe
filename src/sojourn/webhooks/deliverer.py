"""Brings events to their receivers, at least once each: side by side with other servers' deliverers.

Two steps, and the ledger between them. *Gathering* reads the store's stream from where a webhook has got
to and makes deliveries of what it wants, in one step with moving on: of several servers that read the
same stretch, one does. *Sending* claims a webhook, so that its deliveries go one after another, in the
order of the stream, on one thread of one server. Whoever is killed loses its claim after a while; what it
had sent and not yet written down is sent again, under the same id.

A receiver that hangs costs its own thread and nobody else anything.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby

from sojourn import webhook_signature as signature
from sojourn.clock import SECOND
from sojourn.errors import StoreError
from sojourn.event import Event
from sojourn.log import get_logger
from sojourn.store import Store
from sojourn.webhook import DeliveryState, Letter, Outcome, Webhook, judge
from sojourn.webhook_store import Backlog, Batch, Book, Claim
from sojourn.webhooks.reach import Reach
from sojourn.webhooks.sender import Line

log = get_logger(__name__)

PAGE = 500  # events read at once
PAGES_MAX = 10  # of each stretch, in one tick
AHEAD_MAX = 1_000
"""Deliveries of a webhook made ahead; what is more stays in the store's stream until there is room."""
PENDING_MAX = 5_000
"""With those that wait for another attempt, which do not keep the others from being made."""
CHUNK = 20  # deliveries claimed at once
WRITE_EVERY = 0.5  # seconds; successes are written down together, and as many may be sent twice
DESKS = 2
"""Connections to the ledger that senders take up at once: requests have the rest."""
CARE_EVERY = 10.0  # seconds between looks for what is old, and for a stream that has started over
TIDY_MAX = 500
TIDY_ROUNDS = 20
STOP_TIMEOUT = 3.0  # seconds


class Deliverer:
    """`tick` it about once a second. Nothing runs before the first tick."""

    def __init__(
        self,
        store: Store,
        book: Book,
        write: Callable[[Event], Letter],
        *,
        reach: Reach = Reach.PUBLIC,
        timeout: float = 10.0,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._book = book
        self._write = write
        self.reach = reach
        self._timeout = timeout
        self._luck = luck
        self._owner = secrets.token_hex(8)
        self._lease = round((2 * timeout + 5) * SECOND)
        self._stopping = threading.Event()
        self._desks = threading.BoundedSemaphore(DESKS)
        self._busy: dict[str, threading.Thread] = {}  # by webhook; changed by `tick` only
        self._cared_at = -CARE_EVERY
        self._ailing = False
        self._lock = threading.Lock()
        self.delivered = 0  # of this process, for the metrics; likewise:
        self.failed = 0
        self.pending = 0  # of the ledger, as the last tick saw it; likewise:
        self.dead = 0
        self.lag = 0.0  # seconds that the oldest pending event has waited

    def tick(self) -> None:
        """Gather what has happened, see to it that what is due is sent. Does not wait for receivers.

        A store or ledger that is down is logged once, until both are there again.
        """
        fault = self._tried(self._gather)  # and what the ledger holds goes out without the store
        fault = self._tried(self._dispatch) or fault or self._tried(self._care)
        if fault is not None and not self._ailing:
            log.warning("webhooks_wait", error=fault.message, hint=fault.hint)
        elif fault is None and self._ailing:
            log.info("webhooks_go_on")
        self._ailing = fault is not None

    def _tried(self, work: Callable[[], None]) -> StoreError | None:
        try:
            work()
        except StoreError as fault:
            return fault
        return None

    def _care(self) -> None:
        if time.monotonic() - self._cared_at >= CARE_EVERY:
            self._cared_at = time.monotonic()
            for _ in range(TIDY_ROUNDS):
                if self._book.tidy(TIDY_MAX) < TIDY_MAX:
                    break
            self.dead = self._book.dead()

    def idle(self, timeout: float) -> bool:
        """Wait until no webhook is being sent to; tell whether that came about in time."""
        deadline = time.monotonic() + timeout
        for sending in list(self._busy.values()):
            sending.join(max(0, deadline - time.monotonic()))
        return not any(sending.is_alive() for sending in self._busy.values())

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send no more, but let what is under way end and be written down, if it does so in time.

        A receiver that hangs does not keep this process: its claim runs out, and it is sent to again.
        """
        self._stopping.set()
        self.idle(timeout)

    # Gathering

    def _gather(self) -> None:
        webhooks = [each for each in self._book.all() if each.enabled]
        if not webhooks:
            return
        room = {
            each.webhook_id: min(AHEAD_MAX - each.fresh, PENDING_MAX - each.pending)
            for each in self._book.backlogs()
        }
        waiting = [w for w in webhooks if room.get(w.id, AHEAD_MAX) > 0]
        care = time.monotonic() - self._cared_at >= CARE_EVERY
        for position, each in groupby(sorted(waiting, key=_position), key=_position):
            group = list(each)
            least = min(room.get(w.id, AHEAD_MAX) for w in group)
            self._read_on(position, group, room=least, care=care)

    def _read_on(
        self, position: int, webhooks: Sequence[Webhook], *, room: int, care: bool
    ) -> None:
        """Make deliveries for webhooks that have all got to the same position."""
        for page in range(PAGES_MAX):
            events = self._store.events(after=position, limit=PAGE)
            if not events:
                if care and page == 0:
                    self._look_for_a_new_stream(position, webhooks)
                return
            letters = [self._write(event) for event in events]
            batches = [
                Batch(
                    webhook_id=webhook.id,
                    position=position,
                    read_to=events[-1].id,
                    letters=tuple(x for x in letters if webhook.wants(x.kind)),
                )
                for webhook in webhooks
            ]
            self._book.enqueue(batches)
            position = events[-1].id
            room -= max(len(each.letters) for each in batches)
            if len(events) < PAGE or room <= 0:
                return  # what is left is for the next tick, which looks again who has room

    def _look_for_a_new_stream(self, position: int, webhooks: Sequence[Webhook]) -> None:
        """A store that was emptied counts its events from 1 again."""
        newest = self._store.events(limit=1, newest_first=True)
        if newest and newest[0].id < position:
            log.warning("event_stream_started_over", position=position, newest=newest[0].id)
            for webhook in webhooks:
                self._book.rewind(webhook.id, position)

    # Sending

    def _dispatch(self) -> None:
        backlogs = self._book.backlogs()
        self._note(backlogs)
        self._busy = {name: each for name, each in self._busy.items() if each.is_alive()}
        for webhook_id in (each.webhook_id for each in backlogs if each.due):
            if webhook_id not in self._busy and not self._stopping.is_set():
                sending = threading.Thread(
                    target=self._serve, args=(webhook_id,), name="sojourn-webhook", daemon=True
                )
                self._busy[webhook_id] = sending
                sending.start()

    def _note(self, backlogs: Sequence[Backlog]) -> None:
        self.pending = sum(each.pending for each in backlogs)
        oldest = min((each.oldest_at for each in backlogs if each.enabled), default=None)
        self.lag = 0.0 if oldest is None else max(0, self._store.now() - oldest) / SECOND

    def _serve(self, webhook_id: str) -> None:
        """Send what is due to one webhook, until nothing is, or it is not ours to send to."""
        line: Line | None = None
        url = ""
        try:
            while not self._stopping.is_set():
                with self._desks:
                    claim = self._book.claim(
                        webhook_id, self._owner, lease=self._lease, limit=CHUNK
                    )
                if claim is None:
                    return
                if line is None or url != claim.webhook.url:
                    if line is not None:
                        line.close()
                    url = claim.webhook.url
                    line = Line(url, reach=self.reach, timeout=self._timeout)
                if not self._send(claim, line):
                    return
        except Exception as fault:  # noqa: BLE001  # the claim runs out; whoever has it next goes on
            log.warning("webhook_failed", webhook=webhook_id, error=str(fault))
        finally:
            if line is not None:
                line.close()

    def _send(self, claim: Claim, line: Line) -> bool:
        """Make the deliveries of a claim in their order; tell whether there may be more to send."""
        began = written = time.monotonic()
        made: list[Outcome] = []
        signing = claim.webhook.signing(claim.at)
        for delivery in claim.deliveries:
            now = claim.at + round((time.monotonic() - began) * SECOND)
            body = delivery.body.encode()
            headers = signature.headers(signing, delivery.message_id, now // SECOND, body)
            outcome = judge(delivery, line.post(headers, body), self._luck)
            made.append(outcome)
            late = time.monotonic() - written > WRITE_EVERY
            if outcome.hold or outcome.gone or self._stopping.is_set():
                break
            if late:
                if not self._settle(claim, made, self._lease):
                    return False
                made, written = [], time.monotonic()
        return self._settle(claim, made, 0)

    def _settle(self, claim: Claim, made: Sequence[Outcome], lease: int) -> bool:
        with self._desks:
            ours = self._book.settle(claim, self._owner, made, lease=lease)
        accepted = sum(each.state is DeliveryState.DELIVERED for each in made)
        with self._lock:
            self.delivered += accepted
            self.failed += len(made) - accepted
        for outcome in made:
            if outcome.state is DeliveryState.DEAD:
                self.dead += 1
                log.warning(
                    "webhook_dead_letter",
                    webhook=claim.webhook.id,
                    delivery=outcome.seq,
                    error=outcome.error,
                    disabled=outcome.gone,
                )
        return ours


def _position(webhook: Webhook) -> int:
    return webhook.position
