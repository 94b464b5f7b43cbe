"""Made-up people go all the way, on the real store: signed in, on a seat, and gone without a trace."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.errors import SettingsError
from sojourn.event import CANARY_LICENSE, CANARY_USER
from sojourn.finding import Area, Check, Finding, Fix, Part, failure, ok, skipped
from sojourn.lease import Acquire, Beat, Denied, Lease, Release, Renew, Renewal
from sojourn.license import Policy, Pool
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun, End, GoneReason, Rotate, Save, Session, Timeouts
from sojourn.session import Check as Look
from sojourn.store import Store
from sojourn.token import Keyring, LeaseClaims, new_id

PARALLEL = 8
"""Requests that write to one session at once."""
TIMEOUTS = Timeouts(60 * SECOND, 60 * SECOND)
"""A canary that doctor could not take away, because it was killed, is gone soon by itself."""
READS = frozenset(
    {Part.SESSIONS, Part.SESSION_USERS, Part.LEASES, Part.POOLS, Part.EVENTS, Part.MARKS}
)
"""What a canary touches of the store, from its sign-in to its being forgotten."""
EXPIRY_MAX = 5.0  # seconds to wait for what ends after one millisecond
POLICY = Policy(capacity=1, heartbeat_interval=10 * SECOND, lost_after=30 * SECOND, linger=SECOND)


class Astray(Exception):  # an answer that is not what it must be, on its way to a finding
    """A step's answer was not what it must be."""


class Canary(Struct):
    """A made-up user. `steps`: each step that succeeded, and how long it took."""

    user_id: str
    pool: Pool
    steps: list[str]
    sessions: list[str]

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except Astray as error:
            raise Astray(f"{what}: {error}") from None
        self.steps.append(f"{what}: {(time.perf_counter() - began) * 1000:.1f} ms")


def hatch() -> Canary:
    name = secrets.token_hex(6)
    pool = Pool(license_id=CANARY_LICENSE, feature=f"canary-{name}", policy=POLICY)
    return Canary(CANARY_USER + name, pool, [], [])


class RoundTripExaminer:
    """Uses the store as applications and clients do."""

    def __init__(
        self,
        store: Callable[[], Store],
        keyring: Callable[[], Keyring],
        *,
        place: str,
        needs: tuple[str, ...] = (),
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._place = place
        self._needs = needs

    def checks(self) -> Sequence[Check]:
        asked = (
            ("session", "Does a session live as it must?", "A test session lived", _session),
            ("expiry", "Does a session end by itself?", "A test session ended by itself", _expiry),
            (
                "seat",
                "Is a seat taken, kept and given back as it must be?",
                "A test seat was taken, kept and given back",
                self._seat,
            ),
        )
        return [
            Check(
                id=f"round-trip.{name}",
                area=Area.ROUND_TRIP,
                title=title,
                looked_at=self._place,
                look=lambda way=way, what=what: self._fly(way, what),  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
                needs=self._needs,
                reads=READS,
            )
            for name, title, what, way in asked
        ]

    def close(self) -> None:
        """Does nothing: the caller owns the store."""

    def _fly(self, way: Callable[[Store, Canary], None], what: str) -> Finding:
        store, canary = self._store(), hatch()
        try:
            way(store, canary)
        except SettingsError:
            return skipped("There is no good secret to sign a token with: see secrets.set.")
        except Astray as error:
            return failure(
                f"{what} otherwise than it must: {error}.",
                evidence=canary.steps,
                means="What happens to a canary happens to people.",
                fix=Fix(
                    text="See the other findings; if they are well, this is a fault of Sojourn's."
                ),
            )
        finally:
            store.forget(canary.user_id, session_ids=canary.sessions, pool_ids=[canary.pool.id])
        return ok(f"{what} as it must, and left nothing behind.", *canary.steps)

    def _seat(self, store: Store, canary: Canary) -> None:
        keyring = self._keyring()
        store.define([canary.pool])
        with canary.step("acquire"):
            lease = _taken(store, canary, "first")
        with canary.step("its token"):
            claims = LeaseClaims(
                pool_id=lease.pool_id,
                user_id=lease.user_id,
                client_id=lease.client_id,
                lease_id=lease.id,
                fence=lease.fence,
                issued_at=lease.acquired_at,
            )
            _demand(
                keyring.verify(keyring.sign(claims)) == claims, "it does not say what was signed"
            )
        with canary.step("another one is refused"):
            denied = store.acquire([_request(canary, "second")])[0]
            _demand(isinstance(denied, Denied), "two were let in on one seat")
        with canary.step("beat"):
            _demand(_beat(store, lease) is not None, "a living holder was refused")
        with canary.step("linger"):
            said = _beat(store, lease, closing=True)
            short = said is not None and said.expires_in <= POLICY.linger
            _demand(short, "a goodbye did not shorten it")
            _demand(_beat(store, lease) is not None, "a beat after it did not bring it back")
        with canary.step("release"):
            gave = store.release(
                [Release(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)]
            )
            _demand(gave == [True], "it was not given back")
            _demand(_beat(store, lease) is None, "it still beats")
        with canary.step("the next one gets it"):
            _taken(store, canary, "second")


def _session(store: Store, canary: Canary) -> None:
    people = SessionService(store)
    with canary.step("create"):
        begun = _begun(people, canary, TIMEOUTS)
    token, session_id = begun.token, begun.session.id
    with canary.step("load"):
        _demand(_known(people, token) is not None, "it is not there")
    with canary.step(f"{PARALLEL} saves at once"):
        saves = [Save(id=session_id, set={f"key {n}": n}) for n in range(PARALLEL)]
        with ThreadPoolExecutor(PARALLEL) as threads:
            done = list(threads.map(lambda save: people.save([save])[0], saves))
        _demand(None not in done, "a save was refused")
        found = _known(people, token)
        kept = 0 if found is None else len([key for key in found.data if key.startswith("key ")])
        _demand(kept == PARALLEL, f"of {PARALLEL} keys, {PARALLEL - kept} were lost")
    with canary.step("touch"):
        _demand(people.touch([session_id]) == [True], "it was not noted")
    with canary.step("rotate"):
        rotated = people.rotate([Rotate(id=session_id, grace=0)])[0]
        _demand(rotated is not None, "it was refused")
        _demand(_known(people, token) is None, "the old token still works")
        token = "" if rotated is None else rotated.token
        _demand(_known(people, token) is not None, "the new token does not work")
    with canary.step("a seat of its own, end"):
        store.define([canary.pool])
        lease = _taken(store, canary, "of a session", session_id)
        people.end([End(ids=(session_id,), reason="doctor")])
        _demand(_known(people, token) is None, "it still works")
        _demand(_beat(store, lease) is None, "its seat is still held")
        _demand(people.save([Save(id=session_id, set={"late": 1})]) == [None], "a save revived it")


def _expiry(store: Store, canary: Canary) -> None:
    people = SessionService(store)
    with canary.step("expire"):
        begun = _begun(people, canary, Timeouts(1, 1))
        deadline = time.monotonic() + EXPIRY_MAX
        answer = people.check([Look(begun.token, touch=False)])[0]
        while isinstance(answer, Session):
            _demand(time.monotonic() < deadline, "the store's clock stands still")
            time.sleep(0.002)  # what it waits for is time itself
            answer = people.check([Look(begun.token, touch=False)])[0]
        _demand(answer.reason in (GoneReason.EXPIRED, GoneReason.IDLE), f"it is {answer.reason}")
        _demand(people.touch([begun.session.id]) == [False], "a touch revived it")


def _demand(held: bool, otherwise: str) -> None:
    if not held:
        raise Astray(otherwise)


def _begun(people: SessionService, canary: Canary, timeouts: Timeouts) -> Begun:
    begun = people.begin([Begin(user_id=canary.user_id, data={"doctor": True}, timeouts=timeouts)])[
        0
    ]
    if not isinstance(begun, Begun):
        raise Astray("it was refused")
    canary.sessions.append(begun.session.id)
    return begun


def _known(people: SessionService, token: str) -> Session | None:
    found = people.check([Look(token, touch=False)])[0]
    return found if isinstance(found, Session) else None


def _request(canary: Canary, client_id: str, session_id: str | None = None) -> Acquire:
    return Acquire(
        pool_id=canary.pool.id,
        user_id=canary.user_id,
        client_id=client_id,
        lease_id=new_id("lse_"),
        session_id=session_id,
    )


def _taken(store: Store, canary: Canary, client_id: str, session_id: str | None = None) -> Lease:
    lease = store.acquire([_request(canary, client_id, session_id)])[0]
    if isinstance(lease, Denied):
        raise Astray(f"it was refused: {lease.reason}")
    return lease


def _beat(store: Store, lease: Lease, *, closing: bool = False) -> Renewal | None:
    beat = Beat(closing=closing)
    return store.renew(
        [Renew(lease_id=lease.id, fence=lease.fence, beat=beat, pool_id=lease.pool_id)]
    )[0]
