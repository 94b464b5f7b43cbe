"""A relay's side of the protocol as it runs: beats, what their answers give, and what comes of silence."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from sojourn.errors import InvalidToken, Overloaded, StoreError, StoreUnavailable
from sojourn.license import split_pool_id
from sojourn.log import get_logger
from sojourn.region.gate import stop_of
from sojourn.region.holding import Holding
from sojourn.region.uplink import CutOff, Refused, Uplink
from sojourn.relay_command import PENDING_MAX, TOLD_MAX, CommandAnswer, RelayCommand
from sojourn.relays import share
from sojourn.relays.copies import LicenseTerms, digest_of, read_copy
from sojourn.relays.demand import Demand
from sojourn.relays.messages import RelayAnswer, RelayBeat
from sojourn.relays.share import Share
from sojourn.service.regions import RegionPool, RegionStatus
from sojourn.service.relays import PROTOCOL
from sojourn.service.ticker import Ticker
from sojourn.wire.relays import (
    LICENSES_MAX,
    TERMS_MAX,
    AllotmentsBody,
    AllotmentsDone,
    AnsweredBody,
    ServedBody,
    SignedCopyBody,
    TermsBody,
    grant_of,
    wish_body,
)

log = get_logger(__name__)

BEAT_TIMEOUT = 5.0
"""Seconds for an answer to a beat."""
ASK_TIMEOUT = 1.0
"""Seconds for which somebody who found no seat waits for the authority."""
CUT_OFF_FOR = 1.0
"""Seconds after a beat without an answer in which nobody waits for one."""
GAP = 0.1
"""Seconds between the beginnings of two beats: those who come meanwhile are asked for in the second."""
ASKS_MAX = 10_000
"""People who wait for the authority at once; for more the relay decides alone."""


class Region:
    """See `service.regions.Region`. `key_hash`: of the relay's key; `interval`: seconds between beats."""

    def __init__(
        self, holding: Holding, uplink: Uplink, *, authority: str, key_hash: bytes, interval: float
    ) -> None:
        self._holding = holding
        self._uplink = uplink
        self._authority = authority
        self._key_hash = key_hash
        self._beating = threading.Lock()
        self._asking = threading.Lock()  # around `_asks`; held for moments: the event loop takes it
        self._asks: dict[str, list[asyncio.Future[None]]] = {}
        self._stopping = threading.Event()
        self._accepted = False  # a beat of this process was
        self._heard_at: int | None = None
        self._failed_at = self._began = float("-inf")  # by time.monotonic
        self._fault = self._refused = self._name = ""
        self.gate = holding.gate
        self._reported: int | None = None  # up to which event; None: the authority has not said yet
        self.carry_out: Callable[[RelayCommand], CommandAnswer] = _not_ready
        self._commands: list[
            RelayCommand
        ] = []  # taken up, and to be carried out once the beat is over
        self._ticker = Ticker("relay", self._tick, interval)

    def prepare(self) -> None:
        """Take up what was allotted before, and have the authority hear of this process. Raises StoreError,
        or SettingsError where the ledger is not a relay's."""
        with self._holding.lock:
            self._holding.prepare()
        try:
            self.beat()
        except StoreError as fault:
            log.warning("relay_beat_failed", error=fault.message)

    def start(self) -> None:
        self._ticker.start()

    def stop(self) -> None:
        self._stopping.set()
        self._ticker.stop(timeout=BEAT_TIMEOUT)
        self._answer_asks(self._take_asks())

    def close(self) -> None:
        self._uplink.close()

    # A beat

    def _tick(self) -> None:
        self._stopping.wait(max(0.0, self._began + GAP - time.monotonic()))
        self._began = time.monotonic()
        self.beat()

    def beat(self) -> None:
        """Tell the authority what is held and wanted, and take its answer over. Whoever asked for a seat
        before this is answered after it. Raises StoreError."""
        with self._beating:
            asks = self._take_asks()
            try:
                again = self._beat({name: len(x) for name, x in asks.items()})
                if again:
                    self._beat({name: len(x) for name, x in asks.items()})
            finally:
                self._answer_asks(asks)
            self._obey()

    def _beat(self, asks: Mapping[str, int]) -> bool:
        """Beat once. True: beat again, the authority has told this process its number."""
        with self._holding.lock:
            if self._holding.relay.replaced:
                return False
            self._holding.expire()
            needs, wants = self._holding.count(asks)
            if not self._fault:  # while it is cut off it would get nothing back for them
                self._holding.give_back_idle()
            relay, beat = share.speak(self._holding.relay, wants, self._holding.now())
            self._holding.relay = relay
            self._holding.commit()
            self._holding.limit_all()
            body = self._body(beat, needs)
        try:
            done = self._uplink.beat(body, timeout=BEAT_TIMEOUT)
        except CutOff as fault:
            self._cut_off(str(fault))
            return False
        except Refused as fault:
            return self._be_refused(fault)
        with self._holding.lock:
            self._fault = self._refused = ""
            self._hear(body, done)
        return False

    def _body(self, beat: RelayBeat, needs: Mapping[str, int]) -> AllotmentsBody:
        proofs = self._holding.proofs
        served = [ServedBody(license_id=x, digest=d) for x, d in self._holding.licenses.items()]
        return AllotmentsBody(
            protocol=PROTOCOL,
            life=beat.life,
            number=beat.number,
            epoch=beat.epoch,
            now=self._holding.look().wall,
            wishes=tuple(
                wish_body(x, needs[x.pool_id], proofs.get(x.pool_id, "")) for x in beat.wishes
            ),
            licenses=tuple(served),
            commands=tuple(
                AnsweredBody(id=name, answer=answer)
                for name, answer in list(self._holding.commands.items())[:PENDING_MAX]
                if answer is not None
            ),
            report=None if self._reported is None else self._holding.report(self._reported),
        )

    def _cut_off(self, why: str) -> None:
        with self._holding.lock:
            if not self._fault:
                log.warning("relay_cut_off", why=why)
            self._fault, self._failed_at = why, time.monotonic()

    def _be_refused(self, fault: Refused) -> bool:
        with self._holding.lock:
            if self._refused != fault.code:
                log.warning("relay_refused", code=fault.code, why=fault.words)
            self._fault, self._refused = fault.words, fault.code
            self._failed_at = time.monotonic()
            if fault.code != "relay_cloned":
                return False
            if self._accepted or fault.number is None:
                self._holding.note(
                    "Another process has taken this relay's name: this one grants no more."
                )
                self._holding.relay = replace(self._holding.relay, replaced=True)
                for name in list(self._holding.relay.shares):
                    self._holding.end_all(name)
                self._holding.relay = replace(self._holding.relay, shares={})
                self._holding.limit_all()
                self._holding.commit()
                return False
            # This process has just begun: its file was put back, or is new.
            self._holding.forgot(
                "The authority has heard later beats of this relay than it remembers."
            )
            self._holding.relay = replace(self._holding.relay, number=fault.number, sent={})
            self._accepted = True  # once: who is refused again is the one that was replaced
            self._holding.limit_all()
            return True

    def _hear(self, body: AllotmentsBody, done: AllotmentsDone) -> None:
        """Take an answer over, with the lock held."""
        asked = {wish.pool_id for wish in body.wishes}
        served = {each.license_id for each in body.licenses}
        foreign = {grant.pool_id for grant in done.grants} - asked or set(done.gone) - served
        if foreign or done.number != body.number:
            self._refused = "answer_foreign"
            self._fault = "The answer speaks of what this relay did not ask for."
            self._holding.note(f"{self._fault} Nothing of it was taken.")
            return
        self._accepted, self._heard_at, self._name = True, self._holding.now(), done.relay
        self._reported = done.reported
        self._take_up(body, done)
        self._take_copies(done.licenses, served)
        for license_id in done.gone:
            self._forget(license_id)
        known = self._holding.copies.policies
        grants = tuple(grant_of(each) for each in done.grants if each.pool_id in known)
        for grant in grants:
            mine = self._holding.relay.shares.get(grant.pool_id, Share())
            if grant.keep is not None and grant.keep < max(mine.seats, grant.seats):
                self._holding.lower(grant.pool_id, grant.keep)
        answer = RelayAnswer(done.epoch, done.number, grants)
        self._holding.relay = share.listen(self._holding.relay, answer, self._holding.now())
        self._holding.least = {x.pool_id: x.least for x in done.grants if x.least}
        for each in done.grants:
            taken = self._holding.relay.shares.get(each.pool_id, Share())
            if taken.fence == each.fence:
                self._holding.proofs[each.pool_id] = each.proof
        self._holding.commit()
        self._holding.limit_all()

    # Commands of the authority's operators

    def _take_up(self, body: AllotmentsBody, done: AllotmentsDone) -> None:
        """Forget what the authority has heard of, and take up what is new: each once, in order. It is on the
        disk before anything is done, so that no restart does it again."""
        known = self._holding.commands
        for heard in body.commands:
            known.pop(heard.id, None)
        for each in sorted(done.commands[:TOLD_MAX], key=lambda x: x.seq):
            if each.id in known:
                continue
            if each.seq <= self._holding.command_seq:
                known[each.id] = CommandAnswer(fault="done_before")
                continue
            self._holding.command_seq = each.seq
            known[each.id] = None
            self._commands.append(each.command(self._name))

    def _obey(self) -> None:
        """Carry out what was taken up, and say soon what it came to."""
        taken, self._commands = self._commands, []
        for command in taken:
            answer = self.carry_out(command)
            with self._holding.lock:
                self._holding.commands[command.id] = answer
                self._holding.commit()
        if taken:
            self._ticker.wake()

    # Licenses

    def learn(self, key_hashes: Sequence[bytes]) -> None:
        """Ask the authority for licenses by hashes of their keys. Raises StoreUnavailable."""
        for i in range(0, len(key_hashes), TERMS_MAX):
            some = tuple(each.hex() for each in key_hashes[i : i + TERMS_MAX])
            self._learn(TermsBody(protocol=PROTOCOL, key_hashes=some))

    def _learn(self, body: TermsBody) -> None:
        if len(self._holding.licenses) >= LICENSES_MAX:
            raise Overloaded(f"This relay serves {LICENSES_MAX} licenses already.")
        try:
            copies = self._uplink.terms(body, timeout=BEAT_TIMEOUT)
        except (CutOff, Refused) as fault:
            why = str(fault)
        else:
            with self._holding.lock:
                self._take_copies(copies, None, asked=body)
                self._holding.commit()
                self._holding.limit_all()
            return
        raise StoreUnavailable(
            "This region does not know the license, and its authority cannot be asked.",
            code="authority_unreachable",
            hint=f"Ask again in a moment. {why}",
        )

    def _take_copies(
        self,
        copies: Sequence[SignedCopyBody],
        served: set[str] | None,
        *,
        asked: TermsBody | None = None,
    ) -> None:
        for each in copies:
            try:
                terms = read_copy(each.signed(), self._key_hash).terms
            except (InvalidToken, ValueError) as fault:
                self._refused = "copy_forged"
                self._holding.note(f"A copy of a license was refused: {fault}")
                continue
            if not _was_asked(terms, served, asked):
                self._refused = "answer_foreign"
                self._holding.note(
                    "A copy of a license came that nobody had asked for. It was not taken."
                )
                continue
            self._holding.copies.take(terms)
            self._holding.licenses[terms.license.id] = digest_of(terms)
        self._holding.stay_careful()

    def _forget(self, license_id: str) -> None:
        names = set(self._holding.copies.of(license_id))
        self._holding.copies.drop(license_id)
        self._holding.licenses.pop(license_id, None)
        shares = {x: mine for x, mine in self._holding.relay.shares.items() if x not in names}
        self._holding.relay = replace(self._holding.relay, shares=shares)
        for name in names:
            self._holding.demand.pop(name, None)
            self._holding.held.pop(name, None)

    # Asking before anybody is denied

    async def ask(self, pool_id: str) -> None:
        """Have the next beat ask for a seat, and wait for its answer."""
        license_id, _ = split_pool_id(pool_id)
        if license_id not in self._holding.licenses:
            body = TermsBody(protocol=PROTOCOL, license_ids=(license_id,))
            with contextlib.suppress(StoreUnavailable):
                await asyncio.to_thread(self._learn, body)
        if pool_id not in self._holding.copies.policies:
            return
        answered = asyncio.get_running_loop().create_future()
        with self._asking:
            cut_off = time.monotonic() - self._failed_at < CUT_OFF_FOR
            if cut_off or sum(map(len, self._asks.values())) >= ASKS_MAX:
                return
            self._asks.setdefault(pool_id, []).append(answered)
        self._ticker.wake()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered, ASK_TIMEOUT)

    def _take_asks(self) -> dict[str, list[asyncio.Future[None]]]:
        with self._asking:
            asks, self._asks = self._asks, {}
        return asks

    def _answer_asks(self, asks: Mapping[str, Sequence[asyncio.Future[None]]]) -> None:
        for answered in (each for some in asks.values() for each in some):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                answered.get_loop().call_soon_threadsafe(_settle, answered)

    def status(self) -> RegionStatus:
        with self._holding.lock:
            now = self._holding.now()
            pools = []
            for name, policy in self._holding.copies.policies.items():
                mine = self._holding.relay.shares.get(name, Share())
                pools.append(
                    RegionPool(
                        pool_id=name,
                        seats=mine.seats,
                        held=self._holding.held.get(name, 0),
                        want=self._holding.demand.get(name, Demand()).low(now),
                        left=mine.deadline - now,
                        granting=mine.seats > 0 and now < mine.deadline - stop_of(policy),
                    )
                )
            return RegionStatus(
                authority=self._authority,
                relay=self._name,
                epoch=self._holding.relay.epoch,
                heard_ago=None if self._heard_at is None else now - self._heard_at,
                fault=self._fault,
                refused=self._refused,
                careful_for=max(0, self._holding.careful_until - now),
                notes=tuple(self._holding.notes),
                pools=tuple(pools),
            )


def _not_ready(_: RelayCommand) -> CommandAnswer:
    return CommandAnswer(fault="not_ready")


def _settle(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)


def _was_asked(terms: LicenseTerms, served: set[str] | None, asked: TermsBody | None) -> bool:
    if asked is None:
        return served is not None and terms.license.id in served
    return terms.license.id in asked.license_ids or terms.key_hash.hex() in asked.key_hashes
