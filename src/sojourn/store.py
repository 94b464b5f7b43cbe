"""The contract of a store: live state, fast.

Every verb is one atomic decision. Hot verbs take a batch and answer in its order; what is decided for
one request never depends on whether its neighbors could be carried out. Outcomes are values; faults
are `StoreUnavailable` (try again; the outcome may be unknown) and `StoreBroken` (do not).

A request may have an `idempotency` key. Where one with the same key was decided within the last
`ANSWERS_KEPT`, nothing is done, and the answer is that first one, as `Replayed`: a lease as it was
granted, though it may be over by now; a session by its id, as it is by now; refusals without their
evidence. One that said something else is `KeyReused`. What changed nothing and will not (no such
session, no such pool) is decided each time. What is kept is written in the step that decided.

No verb takes `now`: a store asks its `Clock`, and where that answers None, its own database.
Stores are synchronous and may be called from several threads. What is answered is committed, and
durable unless the store was opened otherwise. `sojourn.testing` holds every store to this contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct, field

from sojourn.allotment import ALLOTMENT_TTL, Authority, RelayAnswer, RelayBeat
from sojourn.device import NO_DEVICES, Device
from sojourn.event import Event
from sojourn.finding import Finding
from sojourn.idempotency import IdempotencyKey, Repeated
from sojourn.lease import (
    Acquire,
    Denied,
    Doubt,
    EndReason,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Usage,
    Waiting,
)
from sojourn.license import Pool
from sojourn.session import Gone, NewSession, Save, Session, SessionPage, TooMany

LIST_MAX = 1_000
"""The most any list verb returns at once."""


NO_TTLS: Mapping[str, int] = {}


def bounded(limit: int) -> int:
    """Hold a list verb to the most it may return."""
    return max(0, min(limit, LIST_MAX))


class Swept(Struct, frozen=True, kw_only=True):
    """What one bounded sweep did. `more` says that its limit was reached."""

    leases_expired: int = 0  # silent past lost_after: noted as expired
    leases_removed: int = 0  # ended long enough ago to be forgotten
    sessions_cut: int = 0  # found behind a cutoff: ended, and their leases released
    sessions_removed: int = 0
    events_removed: int = 0
    ips_forgotten: int = 0  # of sessions begun longer ago than the store may remember addresses
    more: bool = False


class Outage(Struct, frozen=True, kw_only=True):
    """The service, or this store, was away; surviving leases were given the time back."""

    lasted: int  # ms
    extended: int  # leases


class Action(Struct, frozen=True, kw_only=True):
    """Who ends something, and in what words it is audited, in the same atomic step."""

    actor: str
    name: str = "revoke"
    data: dict[str, Any] = field(default_factory=dict)


class Attached(Struct, frozen=True):
    """Where a store stands whose events a ledger records."""

    name: str  # another one after it was emptied
    last_event_id: int
    epoch: int  # one more each time that it may have lost what it had answered
    doubtful_until: (
        int  # whom it does not know may come back until then, over the capacity if need be
    )
    intact_until: int = 0  # the last event before those that it may have lost
    settled: bool = True  # all that the ledger knows of them was told: see `Recorded.settle`


class Lag(Struct, frozen=True):
    """How far a ledger was behind its store when that was last looked at."""

    events: int = 0
    milliseconds: int = 0  # the age of the oldest event that it did not have


class Sizes(Struct, frozen=True):
    """How many bytes of memory one takes, with what finds it, by a sample; 0 where there is none."""

    lease: int = 0
    session: int = 0


class HeldLease(Struct, frozen=True):
    lease_id: str
    fence: int  # that it had last
    user_id: str
    client_id: str


class Held(Struct, frozen=True):
    """Leases of a pool that a ledger knows as held, and by whom."""

    pool_id: str
    lost_after: int
    fence: int  # the highest of the pool: every grant up to it is in the ledger
    leases: tuple[HeldLease, ...] = ()


class Known(Struct, frozen=True):
    """A lease as a ledger knows it: under the fence that it had last."""

    pool_id: str
    lease_id: str
    fence: int


class Ended(Struct, frozen=True):
    """A lease of which a ledger knows the end."""

    lease: Known
    reason: EndReason


class Allotments(Protocol):
    """Seats that relays grant by themselves: the verbs of an authority."""

    def allot(
        self,
        beats: Sequence[RelayBeat],
        *,
        ttl: int = ALLOTMENT_TTL,
        ttls: Mapping[str, int] = NO_TTLS,
    ) -> list[RelayAnswer]:
        """Hear relays' beats, in order: give, renew, shrink and take back allotments, each pool's under its
        lock; see `allotment.hear` for the rules.

        Seats in use here, and those allotted, never exceed a pool's capacity in any committed state by what
        is given; `acquire` sees the capacity less what is allotted. An allotment lives for `ttl` ms from now,
        or for what `ttls` says of its pool, and never for less than its relay was told before. Safe to
        repeat: a beat that is heard again is answered as it stands now, and one that is late, or a copy's,
        is refused and changes nothing. What a beat says of pools that are not there is passed over, but for
        what is still allotted of one that was dropped, which is asked back. Raises InvalidInput, and changes
        nothing, if one says what no relay would.
        """

    def authority(self, pool_ids: Sequence[str] | None = None) -> tuple[Authority, int]:
        """Return the relays that are known, the epoch, and these pools as far as they are there, and the
        store's now. None: those that anything was ever allotted of; the first `LIST_MAX` by id. What is over
        is left out, `own` counts seats in use, and `kept` and `ttl` are not told."""

    def begin_epoch(self, action: Action) -> int:
        """Say that this store was put back to an earlier state, so that relays may hold more than is known
        here; return the new epoch. Until all relays that are known have spoken in it, or the longest ttl has
        passed, nothing is allotted, and of pools that were ever allotted only who comes back gets a seat."""

    def forget_relay(self, relay: str, action: Action) -> bool:
        """Wait for a relay no more. What it holds is counted until it is over. False if it is not known."""


class Store(Allotments, Protocol):
    """Sessions, seats, and the events of both."""

    parallel: int
    """How many batches it takes at once to keep the store busy; 1 where it writes one at a time. Verbs
    may be called from any number of threads all the same."""

    # Sessions

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        """Create sessions. None where the id or the token hash exists already: nothing is overwritten.
        Raises InvalidInput, and creates none, if the data of one is no JSON or too much (`DATA_MAX`).

        What a new session replaces or makes room for is ended in the same step, after it was found
        possible: TooMany, like None, changes nothing. Ending to make room for the new one has the
        reason "session_limit" and the actor "system:limit"; being replaced, the reason "replaced" and
        no actor; being chosen (`ending`), the reason "made_room" and no actor. The oldest are those
        created first. However many sign in at once, nobody has more live sessions than `limit`.
        A user's sessions are counted whoever began them, but those of an impersonator are not, and
        neither limit nor end the user's own.

        Where none of the user's own sessions that the store still knows, tombstones included, has a
        device of this name and kind, a SESSION_NEW_DEVICE event follows that of the creation.
        """

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        """Look sessions up by token hash, changing nothing."""

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        """Merge top-level keys; return the new revision. None if the session is not live: never revives.

        Two saves of one session in a batch are applied in order. Raises InvalidInput, and saves nothing,
        if the data of one is no JSON, or would be too much (`DATA_MAX`).
        """

    def touch(
        self, ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES
    ) -> list[bool]:
        """Mark live sessions as used now: `last_used_at` and `idle_at` move forward only, `idle_at`
        never past `expires_at`. False where there is no live session.

        `last_devices`: what some of these were used from, by their ids, for `Session.last_device`; for
        the others that stays as it is. Its address is forgotten as a device's is, counted from the last
        use."""

    def rename(self, session_id: str, *, user_id: str, label: str | None) -> bool:
        """Call the device of a live session of this user so; None: as it says itself. False where there is
        no such session. Raises InvalidInput for a name that cannot be read: see `device.check_label`."""

    def rotate(
        self,
        session_id: str,
        new_token_hash: bytes,
        *,
        grace: int = 0,
        level: int | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session | Repeated | None:
        """Replace the token in one step. The old one works for `grace` ms more, then never again.

        With `level`, the user has just been authenticated again, at that level: `authenticated_at` is
        now. None if the session is not live. Raises Conflict if the new hash is in use.
        """

    def end(
        self,
        *,
        ids: Sequence[str] | None = None,
        user_id: str | None = None,
        keep: Sequence[str] = (),
        reason: str = "ended",
        actor: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> list[str] | Repeated:
        """End sessions by id, or all of a user's but `keep`, and release the leases that belong to them.

        Idempotent: returns the ids this call ended. With `ids` and `user_id` both, those of the ids that
        are this user's; one of the two is given at least.
        """

    def cut_off(
        self, user_id: str | None, *, reason: str = "cut_off", actor: str | None = None
    ) -> int:
        """End every session created up to now, of a user or (None) of everybody, in O(1); return that
        instant.

        They are gone at once for every verb, as ENDED with this reason and actor. `sweep` follows: it
        writes each one's tombstone and event, and releases its leases. A later cutoff of the same
        scope takes the place of an earlier one.
        """

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        """Return a user's live sessions, newest first."""

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        """Read a user's live sessions, newest first, after one that was created then under that id;
        and count them all."""

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        """Count the live leases that belong to these sessions, or to a user's live ones, by session.
        Those that hold none are left out. Exactly one of the two is given."""

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        """Say why sessions are gone, by their ids; None where one is live."""

    def sessions(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        """List live sessions by id, after an id; of a user, or of everybody."""

    # Seats

    def define(self, pools: Sequence[Pool]) -> None:
        """Create pools or replace their policy. Shrinking evicts nobody; the fence is kept. A time that
        is shorter than before counts for those who hold a seat, too: see `lease.Shortening`."""

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        """Remove pools, revoking their live leases first. Returns how many leases were live."""

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        """Look pools up."""

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        """Grant seats, under the pool's lock; see `seating` for the rules.

        Live leases never exceed a pool's capacity in any committed state. Several requests of one
        batch are decided in order. Denials are recorded as events, with their evidence. A session
        that is named must be live (SESSION_GONE otherwise), and ending it also ends what was granted
        meanwhile; for requests that name none, sessions are not looked at.

        With `wait`, who finds no seat has an entry in the pool's line, as its answer says, and keeps its
        place by asking again within `line.WAITING_FOR`: see `line`. Its beginning to wait is recorded
        (LEASE_WAITING), and asking again is not. Such an answer is never kept for a request's key.
        """

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        """Say what `acquire` would answer now, changing nothing and recording nothing."""

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        """Apply beats. None when the lease is not live, the fence is not the lease's present one, or
        the license is suspended or out of its dates. A later beat never shortens a lease."""

    def release(self, releases: Sequence[Release]) -> list[bool]:
        """End leases whose fence is the present one. False otherwise: a late release frees nobody
        else's seat."""

    def doubt(self, doubts: Sequence[Doubt], *, at_once: bool = False) -> list[bool]:
        """Make leases suspect from now on; never later than they are, and their expiry stays. With
        `at_once` they count as suspect for as long as their pool's linger: who needs a seat may take
        theirs at once. Any beat restores them. False, and unchanged, where the lease is not live, the
        fence is not its present one, or it has beaten within `silent_for`. No event tells of it."""

    def ask(self, pool_id: str, actor: str | None, data: dict[str, Any] | None = None) -> None:
        """Tell the stream, with a LEASE_ASKED event, that a pool's doubtful holders are to say whether
        they are there: for every server that has sockets of theirs. `data`: what came of it."""

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        """End every live lease that matches, with an OPERATOR_ACTED event in the same step, whether
        or not any matched. With `suspects_only`, those that keep beating stay. Idempotent. At most
        `LIST_MAX` at once: repeat while as many are returned."""

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        """List leases by id, after an id, and the store's now that they are to be judged by."""

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        """Count seats now."""

    def waiting(self, pool_id: str, *, limit: int = LIST_MAX) -> tuple[list[Waiting], int]:
        """List a pool's line, in its order, and the store's now. Who is dead in it is left out."""

    # Both

    def answered(self, keys: Sequence[IdempotencyKey]) -> list[Repeated | None]:
        """Say what was answered first to saves, rotations and ends with these keys; None where none was kept.
        For whoever cannot name the session any more, because the first copy has ended it, or has given it
        another token."""

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        kinds: Sequence[str] = (),
        pool_id: str | None = None,
        user_id: str | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        """Read the stream after an event id (before it, if newest first and `after` is not 0)."""

    def pulse(self) -> Outage | None:
        """Say that the service is alive. If the last pulse lies further back than the store's
        `max_pause`, the service or the store was away: every lease that was live when the pulse became
        stale (last pulse + `max_pause`: until then seats were given away as they came free), and has
        beaten since its last grace, lives on as if the clock had stood still (at most its `lost_after`
        from now, and never past `max_lease`). `acquire` does the same itself when it finds the pulse
        stale, before it decides, and `renew` before it turns a beat away. A store
        that never had a pulse extends nothing."""

    def sweep(
        self, *, limit: int = 500, which: LeaseFilter | None = None, cutoffs_only: bool = False
    ) -> Swept:
        """Note expired leases, forget old tombstones and events: housekeeping, never needed for a
        right answer. Bounded; safe to run twice at once, and beside everything else.

        `cutoffs_only`: end what cutoffs have ended, and do nothing else. It costs little where there is
        nothing of that, so that every server may do it often."""

    def forget(self, user_id: str, *, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
        """Remove every trace of a user who never was: these sessions of theirs, these pools and their
        leases, live or ended. For doctor's canaries alone, of whom no event tells: `event.of_canary`."""

    def check(self) -> list[Finding]:
        """Say what doctor's quick checks find here: schema, durability, clock. Raises what keeps it
        from looking."""

    def now(self) -> int:
        """Read the clock that decides."""

    def close(self) -> None:
        """Give everything back. Idempotent."""


@runtime_checkable
class Recorded(Protocol):
    """A store that is not in the ledger's database: a recorder carries its events there."""

    def attach(self, ledger: str, last_event_id: int) -> Attached:
        """Say to which ledger the events go, and how far it has them. Where it has more than this
        store knows of, the ids of new events go on from there, and the store is in doubt."""

    def recorded(self, last_event_id: int) -> None:
        """Let go of events up to here, when they are old."""

    def hold(self, held: Sequence[Held]) -> int:
        """Take in what a ledger knows of pools: a lease that lives here under an earlier fence is given
        the one it had last, and, while in doubt, seats are kept for those that are not here, for as
        long as their holders may live. Return for how many."""

    def end_again(self, ended: Sequence[Ended], action: Action) -> int:
        """End those of these leases that live here under the fence they ended with, or an earlier one;
        one that was resumed since is not touched. Return how many, with one OPERATOR_ACTED event."""

    def note_lost(self, leases: Sequence[Known], *, actor: str) -> int:
        """Tell of those of these leases that are not known here under that fence, or a later one, that
        they are over; one that lives under an earlier fence is given it. Return how many."""

    def settle(self, epoch: int) -> None:
        """Say that the ledger has told all that it knows of what was lost. Until then what hangs on it
        (acquire, renew, release, and sessions' load, save, touch and rotate) is unavailable, for some
        seconds at most: a token that was refused before the loss must not count after it."""

    def sizes(self) -> Sizes:
        """Look at a few leases and sessions."""


class Recorder(Protocol):
    """Carries the events of such a store into a ledger."""

    @property
    def lag(self) -> Lag: ...

    @property
    def sizes(self) -> Sizes:
        """What they were when that was last looked at, within the last minute."""

    def run(self) -> int:
        """Carry what there is, each event once, and make good what the store has lost since the
        ledger last looked. Return how many events. Safe side by side."""


__all__ = [
    "LIST_MAX",
    "Acquire",
    "Action",
    "Attached",
    "Denied",
    "Doubt",
    "EndReason",
    "Ended",
    "Event",
    "Held",
    "HeldLease",
    "Known",
    "Lag",
    "Lease",
    "LeaseFilter",
    "Outage",
    "Pool",
    "Recorded",
    "Recorder",
    "Release",
    "Renew",
    "Renewal",
    "Sizes",
    "Store",
    "Swept",
    "Usage",
    "Waiting",
]
