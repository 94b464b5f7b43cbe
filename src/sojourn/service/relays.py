"""An authority's side of its relays: who may beat, what they are given, and the licenses that they serve.

What is given is decided by the store, in one step (`Store.allot`). Here is what comes before and after: a
beat that must not be heard is refused, terms that a relay does not have go with the answer, and seats that
somebody else needs are asked back from those who do not use them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sojourn.allotment import Authority, RelayAnswer, RelayBeat, RelayRefusal
from sojourn.clock import MINUTE, SECOND
from sojourn.errors import Conflict, InvalidInput
from sojourn.ledger import ApiKey, Ledger
from sojourn.license import CAPACITY_MAX, split_pool_id
from sojourn.log import get_logger
from sojourn.relay_command import CommandAnswer, RegionReport, RelayCommand
from sojourn.relays import orders
from sojourn.relays.copies import LicenseCopy, LicenseTerms, SignedCopy, digest_of, sign_copy
from sojourn.store import Store
from sojourn.token import Keyring

log = get_logger(__name__)

PROTOCOL = 1
"""Of the messages between a relay and its authority. Every other one is refused."""
CLOCK_OFF_MAX = 5 * MINUTE
"""How far a relay's wall clock may be from its authority's. The dates of licenses hang on both."""
TERMS_FRESH_FOR = 5.0
"""Seconds for which a license's terms are remembered here."""
TERMS_MAX = 10_000
"""Licenses whose terms are remembered; the first ones are forgotten for more."""
SHORT_FOR = 30.0
"""Seconds for which idle seats of a pool are asked back, after a relay has got fewer than it needs."""
SHORT_MAX = 10_000
REFUSALS_MAX = 500
"""Relays whose last refusal is remembered in this process."""

COPIES_MAX = 4_194_304
"""Bytes of the terms in one answer, but for the first; what is left goes with the next beat."""

NO_ANSWERS: Mapping[str, CommandAnswer] = {}
Served = Mapping[str, str]
"""By license: the digest of the terms that a relay has."""


class BeatRefused(Conflict):
    """A beat that was answered with nothing. `number`: of the latest beat that is known of the relay."""

    def __init__(
        self, message: str, *, code: str, hint: str = "", number: int | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.number = number


class Heard(Struct, frozen=True):
    """What a beat is answered. `proofs`: of the allotments, by pool; `gone`: licenses that it spoke of, and
    that there are no more; `least`: by pool: seats that it is to keep though nobody needs them; `reported`:
    up to which event of its stream."""

    answer: RelayAnswer
    proofs: Mapping[str, str]
    copies: tuple[SignedCopy, ...] = ()
    gone: tuple[str, ...] = ()
    commands: tuple[RelayCommand, ...] = ()
    least: Mapping[str, int] = {}
    reported: int = 0


class LastRefusal(Struct, frozen=True):
    """The last beat of a relay that was refused in this process. `at`: by the store's clock."""

    code: str
    words: str
    at: int


class Relays:
    """Synchronous; safe from several threads. `ttl`: ms, of what is allotted."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        keyring: Keyring,
        *,
        ttl: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._keyring = keyring
        self._ttl = ttl
        self._now = now
        self._lock = threading.Lock()
        self._terms: OrderedDict[str, tuple[float, LicenseTerms | None]] = OrderedDict()
        self._short: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._refused: OrderedDict[str, LastRefusal] = OrderedDict()

    def hear(
        self,
        key: ApiKey,
        beat: RelayBeat,
        *,
        protocol: int,
        clock: int,
        served: Served,
        spare: Mapping[str, int],
        proofs: Mapping[str, str],
        answered: Mapping[str, CommandAnswer] = NO_ANSWERS,
        report: RegionReport | None = None,
    ) -> Heard:
        """Answer a beat of the relay whose key this is.

        `clock`: its wall clock; `spare`: by pool, seats that it could use besides those it wants, which it
        needs; `proofs`: of what it holds; `answered`: what commands came to, by id. Raises BeatRefused or
        InvalidInput, and then nothing was given.
        """
        try:
            self.check_protocol(protocol)
            self._check(beat, clock, served)
            for each in (*answered.values(), *(() if report is None else (report,))):
                each.check()
            self._check_proofs(beat, proofs)
            wanted = self._ledger.relay_commands.for_beat(key.id)
            beat = self._with_spare(beat, spare)
            beat = orders.asked_for(beat, wanted.orders)
            terms = {name: self.terms(name) for name in served}
            (answer,) = self._store.allot([beat], ttl=self._ttl, ttls=self._ttls(beat, terms))
            if answer.refused is not None:
                raise _refusal(answer.refused, answer.number)
        except (BeatRefused, InvalidInput) as fault:
            self._note_refusal(key, fault)
            raise
        with self._lock:
            self._refused.pop(key.id, None)
        changed = [x for name, x in terms.items() if x is not None and digest_of(x) != served[name]]
        gone = tuple(name for name, x in terms.items() if x is None)
        answer = orders.asked_back(self._asking_back(beat, answer), wanted.orders)
        self._ledger.relay_commands.answered(key.id, answered)
        reported = wanted.taken
        if report is not None:
            report = report.within(served, self._store.now())
            reported = self._ledger.relay_commands.reported(key.id, report)
        given = {
            x.pool_id: self._proof(beat.relay, x.pool_id, x.fence, x.seats) for x in answer.grants
        }
        return Heard(
            answer,
            given,
            self._signed(key, changed),
            gone,
            tuple(each for each in wanted.commands if each.id not in answered),
            orders.least(answer, wanted.orders),
            reported,
        )

    def check_protocol(self, protocol: int) -> None:
        """Raise InvalidInput for messages of another version."""
        if protocol != PROTOCOL:
            raise InvalidInput(
                f"The relay speaks version {protocol} of the protocol, this authority version {PROTOCOL}.",
                code="relay_protocol",
                hint="Run the same version of Sojourn at both ends.",
            )

    def copies(
        self, key: ApiKey, *, key_hashes: Sequence[bytes], license_ids: Sequence[str]
    ) -> tuple[SignedCopy, ...]:
        """Return the terms of licenses, by hashes of their keys or by their ids, signed for a relay."""
        by_key = self._ledger.licenses_by_key(key_hashes)
        names = {x.id for x in by_key if x is not None} | set(license_ids)
        with self._lock:
            for name in names:
                self._terms.pop(name, None)  # somebody waits for what is there now
        found = [self.terms(name) for name in sorted(names)]
        return self._signed(key, [x for x in found if x is not None])

    def terms(self, license_id: str) -> LicenseTerms | None:
        """Return a license with its features, at most `TERMS_FRESH_FOR` old. None: there is none."""
        with self._lock:
            until, known = self._terms.get(license_id, (float("-inf"), None))
        if until > self._now():
            return known
        license_ = self._ledger.license(license_id)
        key_hash = self._ledger.license_key_hash(license_id)
        found = None
        if license_ is not None and key_hash is not None:
            pools = self._ledger.pools(license_id)
            features = {pool.feature: pool.policy for pool in pools}
            found = LicenseTerms(license=license_, key_hash=key_hash, features=features)
        with self._lock:
            self._terms[license_id] = self._now() + TERMS_FRESH_FOR, found
            while len(self._terms) > TERMS_MAX:
                self._terms.popitem(last=False)
        return found

    def forget(self, license_id: str) -> None:
        """Note that a license has changed here: the next beat of each relay that serves it hears of it."""
        with self._lock:
            self._terms.pop(license_id, None)

    def known(self) -> tuple[Authority, int, dict[str, LastRefusal]]:
        """Return what the store knows of relays and their allotments, its now, and who was refused last."""
        authority, now = self._store.authority()
        with self._lock:
            return authority, now, dict(self._refused)

    def _ttls(self, beat: RelayBeat, terms: Mapping[str, LicenseTerms | None]) -> dict[str, int]:
        """Return how long what is allotted lives, by pool, where its license says so."""
        found = {}
        for wish in beat.wishes:
            known = terms[split_pool_id(wish.pool_id)[0]]
            if known is not None and known.license.allotment_ttl is not None:
                found[wish.pool_id] = known.license.allotment_ttl
        return found

    def _check(self, beat: RelayBeat, clock: int, served: Served) -> None:
        off = clock - self._store.now()
        if abs(off) > CLOCK_OFF_MAX:
            raise BeatRefused(
                f"The relay's clock is {abs(off) // SECOND} s {'ahead' if off > 0 else 'behind'}.",
                code="relay_clock",
                hint="Set it right, by NTP: the dates of licenses hang on it.",
            )
        for wish in beat.wishes:
            if split_pool_id(wish.pool_id)[0] not in served:
                raise BeatRefused(
                    f"The relay asks for {wish.pool_id}, and does not serve that license.",
                    code="allotment_foreign",
                    hint="A relay names each license that it serves.",
                )

    def _check_proofs(self, beat: RelayBeat, proofs: Mapping[str, str]) -> None:
        """Refuse a beat that speaks of seats that it was not given: the store believes what is said of before
        a restore."""
        for wish in beat.wishes:
            if not wish.seats:
                continue
            count, _, signature = proofs.get(wish.pool_id, "").partition(".")
            said = int(count) if count.isascii() and count.isdigit() else -1
            what = _allotted(beat.relay, wish.pool_id, wish.fence, said)
            if said < wish.seats or not self._keyring.proves_allotment(what, signature):
                raise BeatRefused(
                    f"The relay speaks of seats of {wish.pool_id} that it was not given.",
                    code="allotment_foreign",
                    hint="What it was given is over at its deadline, and then it may ask anew.",
                )

    def _proof(self, relay: str, pool_id: str, fence: int, seats: int) -> str:
        return f"{seats}.{self._keyring.sign_allotment(_allotted(relay, pool_id, fence, seats))}"

    def _note_refusal(self, key: ApiKey, fault: BeatRefused | InvalidInput) -> None:
        at = self._store.now()
        with self._lock:
            before = self._refused.get(key.id)
            self._refused[key.id] = LastRefusal(fault.code, fault.message, at)
            self._refused.move_to_end(key.id)
            while len(self._refused) > REFUSALS_MAX:
                self._refused.popitem(last=False)
        if before is None or before.code != fault.code:
            log.warning("relay_refused", relay=key.id, code=fault.code, why=fault.message)

    def _with_spare(self, beat: RelayBeat, spare: Mapping[str, int]) -> RelayBeat:
        """Have a relay want spare seats, too, of pools of which nobody else needs more."""
        short = self._short_for_others(beat)
        wishes = tuple(
            wish
            if wish.pool_id in short
            else replace(wish, want=min(CAPACITY_MAX, wish.want + spare.get(wish.pool_id, 0)))
            for wish in beat.wishes
        )
        return replace(beat, wishes=wishes)

    def _short_for_others(self, beat: RelayBeat) -> set[str]:
        """Name the pools of a beat of which another relay has got fewer than it needs."""
        now = self._now()
        with self._lock:
            found = {wish.pool_id: self._short.get(wish.pool_id) for wish in beat.wishes}
        return {
            name for name, x in found.items() if x is not None and x[0] > now and x[1] != beat.relay
        }

    def _asking_back(self, beat: RelayBeat, answer: RelayAnswer) -> RelayAnswer:
        """Ask idle seats back of pools of which another relay has got fewer than it needs."""
        now = self._now()
        wishes = {wish.pool_id: wish for wish in beat.wishes}
        given = {grant.pool_id: grant.seats for grant in answer.grants}
        short = self._short_for_others(beat)
        with self._lock:
            for name, wish in wishes.items():
                if given.get(name, 0) < wish.want and name not in short:
                    self._short[name] = now + SHORT_FOR, beat.relay
                    self._short.move_to_end(name)
            while len(self._short) > SHORT_MAX:
                self._short.popitem(last=False)
        grants = []
        for grant in answer.grants:
            wish, keep = wishes[grant.pool_id], grant.keep
            needed = max(wish.held, wish.want)
            if grant.pool_id in short and grant.seats > needed:
                keep = needed if keep is None else min(keep, needed)
            grants.append(replace(grant, keep=keep))
        return replace(answer, grants=tuple(grants))

    def _signed(self, key: ApiKey, terms: Sequence[LicenseTerms]) -> tuple[SignedCopy, ...]:
        if not terms:
            return ()
        _, key_hash, now = self._ledger.keys_by_id([key.id])[key.id]
        signed: list[SignedCopy] = []
        size = 0
        for each in terms:
            ttl = each.license.allotment_ttl or self._ttl
            copy = LicenseCopy(relay=key.id, terms=each, issued_at=now, fresh_for=ttl)
            one = sign_copy(copy, key_hash)
            size += len(one.document)
            if signed and size > COPIES_MAX:
                break
            signed.append(one)
        return tuple(signed)


def _allotted(relay: str, pool_id: str, fence: int, seats: int) -> bytes:
    return msgspec.json.encode((relay, pool_id, fence, seats))


def _refusal(refused: RelayRefusal, number: int) -> BeatRefused:
    words = {
        RelayRefusal.CLONED: (
            "Another process beats with this relay's key, and has begun later.",
            "Stop one of them, or give each a key of its own.",
        ),
        RelayRefusal.LATE: (
            "A later beat of this relay was heard before this one.",
            "Nothing is to be done: the next beat counts.",
        ),
        RelayRefusal.LIMIT: (
            "This authority knows as many relays as it can.",
            "Forget those that are no more with `sojourn relays forget`.",
        ),
    }
    message, hint = words[refused]
    return BeatRefused(message, code=refused.value, hint=hint, number=number)
