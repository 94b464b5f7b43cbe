"""What one seat knows of itself: its state, what it may trust, when it must speak next.

Pure: no I/O, no clock, no lock. Whoever calls holds the lock and brings the time (`now`, this
machine's count of seconds, sleep included) and the chance (0…1) that spreads clients out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.client.errors import FINAL
from sojourn.client.http import Grant, Pulse, new_key
from sojourn.device import Device
from sojourn.log import sentences
from sojourn.token import Secret

MARGIN = 0.02  # of a lease, not trusted: clocks drift, and a check takes time
JITTER = 0.1  # of the heartbeat interval, either way
BACKOFF_BASE = 0.5  # seconds
BACKOFF_MAX = 30.0
DOUBT = 60.0  # seconds; no server keeps a request for longer
_log = sentences("sojourn.client")
IDLE_MAX = 31_536_000.0  # seconds; what a server accepts


class SeatState(StrEnum):
    """Where a seat stands, as this process can know it.

        NEW ──acquire──► SAFE ◄────────────any beat that counts────────────┐
                         │  ▲ ▲                                            │
           a beat failed │  │ └── resumed: the lease came back ──┐         │
           or is overdue ▼  │                                    │         │
                     JEOPARDY ──the lease ran out unrenewed──► LOST ───────┘
                         │       or the server took it back      │
                         └───────────────┬───────────────────────┘
                                  release, closing
                                         ▼
                                      RELEASED ──acquire──► SAFE

    The seat is held in SAFE and JEOPARDY, and in no other state. A lease is trusted for as long as
    the server said, counted from before the request left, less a margin: so LOST comes no later
    here than at the server, whatever the network did and however long the machine slept.
    """

    NEW = "new"
    SAFE = "safe"
    JEOPARDY = "jeopardy"
    LOST = "lost"
    RELEASED = "released"


HELD = frozenset({SeatState.SAFE, SeatState.JEOPARDY})


class Wish(Struct, frozen=True, kw_only=True):
    """Which seat, for whom."""

    feature: str
    user: str | None
    client_id: str = ""  # known when it is acquired
    license_id: str | None = None
    session_id: str | None = None
    device: Device | None = None

    def resume_body(self, *, wait: float) -> dict[str, Any]:
        """Return the body of a resume: the lease token says everything else."""
        return self._device_body() | ({"wait": wait} if wait else {})

    def _device_body(self) -> dict[str, Any]:
        if self.device is None:
            return {}
        names = ("name", "browser", "os", "kind")
        told = {name: value for name in names if (value := getattr(self.device, name))}
        return {"device": told} if told else {}

    def body(self, *, takeover: bool, wait: float) -> dict[str, Any]:
        """Return the body of an acquire. `wait`: seconds in the line; 0: not at all."""
        fields = {
            "feature": self.feature,
            "userId": self.user,
            "clientId": self.client_id,
            "licenseId": self.license_id,
            "sessionId": self.session_id,
            "takeover": takeover or None,
            "wait": wait or None,
        }
        told = {name: value for name, value in fields.items() if value is not None}
        return told | self._device_body()


class Asked(Struct, frozen=True, kw_only=True):
    """An acquire whose answer has not arrived. Under its key, the server tells it again."""

    proof: Secret
    body: dict[str, Any]
    key: str


Tell = Callable[[SeatState, SeatState, str, bool], None]
"""Called with (before, after, reason, resumed) under the lock: hand on, do not act."""


class Hold:
    """The state machine of one seat."""

    def __init__(self, wish: Wish, *, resume: bool, tell: Tell) -> None:
        self.wish = wish
        self.state = SeatState.NEW  # as last told; `seen` is what is true now
        self.reason = "new"
        self.grant: Grant | None = None
        self.safe_until = -math.inf
        self.due = math.inf  # when to beat, or to try to get the seat back
        self.wake = math.inf  # when the agenda looks at it again
        self.turn = 0  # answers to requests of an earlier turn are void
        self.busy = False  # a request that can change the lease is under way
        self.gone = False  # the server said so: a beat is of no use, only a new acquire
        self.resumable = False
        self.failures = 0
        self.unanswered: tuple[Any, str] | None = None  # the last acquire, and its key
        self.asked: Asked | None = None  # what may have been granted, as far as is known here
        self.owner: object = None  # the call that is acquiring
        self.in_doubt = False  # an acquire of unknown outcome may still arrive at the server
        self.doubt_until = -math.inf
        self.idle: Callable[[], float | None] | None = None
        self._resume = resume
        self._tell = tell

    def named(self, client_id: str) -> None:
        """Note as whom it is acquired: in a forked process, as another."""
        self.wish = replace(self.wish, client_id=client_id)

    def key_for(self, body: Any) -> str:
        """Return the key of an acquire: a new one, unless the same one has not been answered yet."""
        if self.unanswered is None or self.unanswered[0] != body:
            self.unanswered = (body, new_key())
        return self.unanswered[1]

    def forget(self) -> None:
        """Leave the last acquire to whoever gives back what was granted to it. The next one has a key of its
        own, and so a higher fence, which giving back the old lease does not touch."""
        self.unanswered = self.asked = None
        self.in_doubt = True

    def doubted(self, now: float) -> None:
        """Note that an earlier acquire may have arrived at the server after the one that was granted."""
        self.in_doubt |= self.busy
        self.doubt_until = now + DOUBT
        if self.due < math.inf:
            self.due = min(self.due, now)

    def seen(self, now: float) -> SeatState:
        """Return the state as of now, whether or not anybody has been told yet."""
        if self.state not in HELD:
            return self.state
        if now >= self.safe_until:
            return SeatState.LOST
        return SeatState.JEOPARDY if now >= self.overdue_at else self.state

    def held(self, now: float) -> bool:
        return self.state in HELD and now < self.safe_until

    def why(self) -> str:
        """Say why the seat is not held."""
        return self.reason if self.state not in HELD or self.gone else "unreachable"

    @property
    def overdue_at(self) -> float:
        slack = 0.0 if self.grant is None else self.grant.heartbeat_interval / 2
        return self.due + slack

    @property
    def floor(self) -> float:
        """Return the shortest pause between two tries, in seconds."""
        return 1.0 if self.grant is None else min(1.0, max(0.1, self.grant.lost_after / 90))

    def next_turn(self) -> float:
        """Return when there is something to do or to notice."""
        return min(self.due, self.safe_until) if self.state in HELD else self.due

    def review(self, now: float) -> None:
        """Notice what time alone has changed."""
        state = self.seen(now)
        if state is SeatState.LOST and self.state is not SeatState.LOST:
            self._lose("unreachable")
        elif state is not self.state:
            self._become(state, "overdue")

    def granted(self, grant: Grant, *, chance: float, resumed: bool) -> None:
        self.grant = grant
        self.gone = False
        if self.in_doubt:
            self.doubt_until = grant.sent_at + DOUBT
        self.in_doubt = False
        self._extend(grant.expires_in, grant.sent_at, chance)
        self._become(SeatState.SAFE, "resumed" if resumed else "granted", resumed=resumed)

    def renewed(self, pulse: Pulse, *, chance: float) -> None:
        self._extend(pulse.expires_in, pulse.sent_at, chance)
        self._become(SeatState.SAFE, "renewed")

    def confirmed(self, expires_in: float, sent_at: float, now: float, *, chance: float) -> None:
        """Note that the server has said, after `sent_at` and without being asked, that it keeps the lease."""
        if self.grant is None or self.gone or (self.state not in HELD and not self._resume):
            return
        until = sent_at + min(expires_in, self.grant.lost_after) * (1 - MARGIN)
        if until <= now:
            return
        self.safe_until = max(self.safe_until, until)
        interval = self.grant.heartbeat_interval * (1 + JITTER * (2 * chance - 1))
        if until - now > 1.5 * interval:  # time enough for a heartbeat, should it say no more
            self.failures = 0
            self.due = max(self.due if self.due < math.inf else 0.0, now + interval)
        self._become(SeatState.SAFE, "renewed")

    def adapted(self, interval: float, lost_after: float, now: float) -> None:
        """Note that the policy has changed: what was promised under a longer one is void."""
        if self.grant is not None:
            self.grant = replace(self.grant, heartbeat_interval=interval, lost_after=lost_after)
            self.safe_until = min(self.safe_until, now + lost_after * (1 - MARGIN))

    def failed(self, now: float, reason: str, *, chance: float, wait: float = 0.0) -> None:
        """Note a request that did not get through, or was not worth sending."""
        self.failures += 1
        self.due = now + self.pause(now, chance=chance, wait=wait)
        if self.held(now):
            self._become(SeatState.JEOPARDY, reason)
        elif self.state in HELD:
            self._lose(self.why())

    def pause(self, now: float, *, chance: float, wait: float = 0.0) -> float:
        """Return how long to wait after a failure: less and less as the lease runs out.

        Never more than the heartbeat interval: the server was made for as many beats as that.
        """
        left = self.safe_until - now
        usual = BACKOFF_MAX if self.grant is None else max(1.0, self.grant.heartbeat_interval)
        cap = min(BACKOFF_MAX, usual, left / 3 if self.held(now) else math.inf)
        return max(self.floor, backoff(self.failures, chance, cap), min(wait, cap))

    def put_off(self, now: float, seconds: float, reason: str) -> None:
        """Note that a beat is not worth sending yet, though it is due."""
        self.due = now + seconds
        if self.held(now):
            self._become(SeatState.JEOPARDY, reason)

    def denied(self, now: float, seconds: float, reason: str) -> None:
        """Note that the server does not give the seat back, for now."""
        self._lose(reason)
        if self._resume:
            self.due = now + max(self.floor, seconds)

    def refused(self, now: float, reason: str, *, resumable: bool) -> bool:
        """Note that the server no longer knows the lease; tell whether to try to get it back."""
        self.safe_until = min(self.safe_until, now)
        self.gone, self.resumable, self.reason = True, resumable, reason
        if reason == "taken_over" and now < self.doubt_until:
            # Most likely by ourselves: an acquire given up for lost arrived after its retry.
            self.doubt_until = -math.inf
            return True
        if reason in FINAL or not self._resume:
            turned = self.state is SeatState.LOST and self.due < math.inf
            self._become(SeatState.LOST, reason, again=turned)
            self.due = math.inf
            return False
        return True

    def unproven(self) -> bool:
        """Note that the server does not take the lease token; tell whether to acquire again."""
        if self._resume:
            self.gone, self.resumable, self.reason = True, False, "unproven"
        return self._resume

    def ended(self, reason: str = "released") -> Grant | None:
        """Stop: whatever is under way is void. Returns what there is to give back."""
        if self.reason == "forked":
            return None
        grant, self.grant = None if self.gone else self.grant, None
        self.turn += 1
        self.due = math.inf
        if self.state is not SeatState.NEW:
            self._become(SeatState.RELEASED, reason)
        return grant

    def forked(self) -> None:
        """Let go without a word: the seat is the parent process's."""
        self.grant, self.due, self.busy = None, math.inf, False
        self.turn += 1
        self.state, self.reason = SeatState.LOST, "forked"

    def _extend(self, expires_in: float, sent_at: float, chance: float) -> None:
        assert self.grant is not None
        self.failures = 0
        # No beat makes a lease longer than that. A server whose clock was set back may say so.
        expires_in = min(expires_in, self.grant.lost_after)
        self.safe_until = sent_at + expires_in * (1 - MARGIN)
        interval = self.grant.heartbeat_interval * (1 + JITTER * (2 * chance - 1))
        self.due = sent_at + max(self.floor, min(interval, expires_in / 2))

    def _lose(self, reason: str) -> None:
        self._become(SeatState.LOST, reason)
        if not self._resume:
            self.due = math.inf

    def _become(
        self, state: SeatState, reason: str, *, resumed: bool = False, again: bool = False
    ) -> None:
        """Tell of another state; of the same one if it was `resumed`, or has changed its meaning."""
        before, self.state, self.reason = self.state, state, reason
        if before is not state or resumed or again:
            self._tell(before, state, reason, resumed)


def idleness(hold: Hold) -> dict[str, float]:
    """Return what a beat says of the person's idleness."""
    if hold.idle is None:
        return {}
    try:
        idle = hold.idle()
        return {} if idle is None else {"idleFor": min(max(0.0, float(idle)), IDLE_MAX)}
    except Exception:  # noqa: BLE001  # the application's code may raise anything, and return it
        _log.exception("The callback that tells a seat's idleness failed")
        return {}


def backoff(failures: int, chance: float, cap: float) -> float:
    """Return a pause with full jitter: anything up to a bound that doubles with each failure."""
    return chance * min(cap, BACKOFF_BASE * 2.0 ** min(failures - 1, 16))
