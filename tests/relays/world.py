"""An authority and its relays as they are served: the real services over stores whose clocks a test moves.

Only the network is not real. `Wire` carries what an `HttpUplink` would, as bytes, and can lose a question,
lose an answer, hold one back and bring it later. A relay can be restarted, and put back to an earlier state.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from tests.databases import copied

from sojourn.allotment import RelayBeat
from sojourn.clock import ManualClock
from sojourn.errors import SojournError
from sojourn.lease import Acquire, Lease, LeaseFilter, Release, Renew, Renewal
from sojourn.ledger import ApiKey, Role
from sojourn.license import Policy, Pool, pool_id
from sojourn.region.gate import GatedStore
from sojourn.region.holding import Holding
from sojourn.region.region import Region
from sojourn.region.state import StateFile
from sojourn.region.uplink import CutOff, Refused
from sojourn.relays.elapsed import Instant
from sojourn.service.commands import CarryOut, RelayCommands
from sojourn.service.keys import Keys
from sojourn.service.licenses import Licenses
from sojourn.service.operations import Operations
from sojourn.service.relays import BeatRefused, Relays
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import open_ledger, open_store
from sojourn.token import Keyring, hash_token, new_id
from sojourn.wire.relays import (
    AllotmentsBody,
    AllotmentsDone,
    CommandBody,
    SignedCopyBody,
    TermsBody,
    grant_body,
    wish_of,
)

FEATURE = "seats"
TTL = 3_600_000
MAX_PAUSE = 10**12  # a moved clock is no outage
T = TypeVar("T")


def again(value: T) -> T:
    """Return a message as it is after it has travelled."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))


class Center:
    """The authority."""

    def __init__(self, clock: ManualClock, *, capacity: int = 5, ttl: int = TTL) -> None:
        self.clock = clock
        self.ttl = ttl
        self.store: Store = MemoryStore(clock, max_pause=MAX_PAUSE)
        self.ledger = open_ledger("memory:", clock=clock)
        self.relays = Relays(self.store, self.ledger, Keyring([b"a" * 32]), ttl=ttl)
        self.licenses = Licenses(self.store, self.ledger, moved=self.relays.forget)
        self.keys = Keys(self.ledger)
        self.commands = RelayCommands(self.store, self.ledger)
        policy = Policy(capacity=capacity)
        license_, self.key = self.licenses.create("Acme", {FEATURE: policy}, actor="test")
        self.license_id = license_.id
        self.pool_id = pool_id(license_.id, FEATURE)

    def resize(self, capacity: int) -> None:
        policy = Policy(capacity=capacity)
        self.licenses.set_feature(self.license_id, FEATURE, policy, actor="test")

    def forget_all(self) -> None:
        """Put the store back to what it was before any relay had spoken."""
        self.store = MemoryStore(self.clock, max_pause=MAX_PAUSE)
        self.relays = Relays(self.store, self.ledger, Keyring([b"a" * 32]), ttl=self.ttl)
        self.licenses = Licenses(self.store, self.ledger, moved=self.relays.forget)
        self.licenses.reconcile()

    def out(self) -> int:
        """Count the seats that are held here, and that relays may grant."""
        authority, _ = self.store.authority([self.pool_id])
        (usage,) = self.store.usage([self.pool_id])
        assert usage is not None
        return usage.in_use + authority.pools[self.pool_id].allotted

    def hear(self, key: ApiKey, body: AllotmentsBody) -> AllotmentsDone:
        """Do what the API does with a beat."""
        wishes = tuple(map(wish_of, body.wishes))
        heard = self.relays.hear(
            key,
            RelayBeat(key.id, body.life, body.number, body.epoch, wishes),
            protocol=body.protocol,
            clock=body.now,
            served={each.license_id: each.digest for each in body.licenses},
            spare={each.pool_id: each.spare for each in body.wishes},
            proofs={each.pool_id: each.proof for each in body.wishes},
            answered={each.id: each.answer for each in body.commands},
            report=body.report,
        )
        return AllotmentsDone(
            relay=key.id,
            epoch=heard.answer.epoch,
            number=heard.answer.number,
            grants=tuple(
                grant_body(x, heard.proofs[x.pool_id], heard.least.get(x.pool_id, 0))
                for x in heard.answer.grants
            ),
            licenses=tuple(map(SignedCopyBody.of, heard.copies)),
            gone=heard.gone,
            commands=tuple(map(CommandBody.of, heard.commands)),
            reported=heard.reported,
        )


class Wire:
    """The way from one relay to its authority."""

    def __init__(self, center: Center, key: ApiKey) -> None:
        self.center = center
        self.key = key
        self.cut = False
        self.loses_answers = False
        self.answer: AllotmentsDone | None = None  # what is answered instead, once
        self.sent: list[AllotmentsBody] = []
        self.answered: list[AllotmentsDone] = []

    def beat(self, body: AllotmentsBody, *, timeout: float) -> AllotmentsDone:
        self.sent.append(body)
        if self.answer is not None:
            told, self.answer = self.answer, None
            return told
        if self.cut:
            raise CutOff("cut")
        answer = self.carry(body)
        if self.loses_answers:
            raise CutOff("the answer is lost")
        return answer

    def carry(self, body: AllotmentsBody) -> AllotmentsDone:
        """Have the authority hear a beat, whenever it was sent."""
        try:
            answer = again(self.center.hear(self.key, again(body)))
        except BeatRefused as fault:
            raise Refused(fault.code, fault.message, fault.number) from None
        except SojournError as fault:
            raise Refused(fault.code, fault.message) from None
        self.answered.append(answer)
        return answer

    def terms(self, body: TermsBody, *, timeout: float) -> Sequence[SignedCopyBody]:
        if self.cut:
            raise CutOff("cut")
        copies = self.center.relays.copies(
            self.key,
            key_hashes=[bytes.fromhex(each) for each in body.key_hashes],
            license_ids=body.license_ids,
        )
        return [again(SignedCopyBody.of(each)) for each in copies]

    def close(self) -> None:
        self.cut = True


class Site:
    """A relay: its machine, its disk, and the process that runs there now."""

    def __init__(self, center: Center, folder: Path, name: str, *, template: Path) -> None:
        self.center = center
        self.folder = folder
        self.folder.mkdir()
        copied(template, self.folder / "relay.db")
        self.name = name
        self.clock = ManualClock(center.clock.now())
        self.api_key, self.secret = center.keys.create(name, Role.RELAY, actor="test")
        self.wire = Wire(center, self.api_key)
        self.boot = "boot-1"
        self.booted_at = self.clock.now()
        self.wall_off = 0  # ms by which the wall clock is wrong
        self.start()

    def look(self) -> Instant:
        return Instant(self.boot, self.uptime(), self.clock.now() + self.wall_off)

    def uptime(self) -> int:
        return self.clock.now() - self.booted_at

    def start(self) -> None:
        """Start a process on what the disk has."""
        url = f"sqlite:///{self.folder}/relay.db"
        self.raw = open_store(url, clock=self.clock, max_pause=MAX_PAUSE)
        self.ledger = open_ledger(url, clock=self.clock)
        self.holding = Holding(
            self.raw,
            self.ledger,
            StateFile(self.folder),
            authority="test",
            max_pause=MAX_PAUSE,
            look=self.look,
            ticks=self.uptime,
        )
        self.region = Region(
            self.holding,
            self.wire,
            authority="test",
            key_hash=hash_token(self.secret),
            interval=3_600,
        )
        self.store = cast(Store, GatedStore(self.raw, self.region.gate))
        self.region.carry_out = CarryOut(self.raw, Operations(self.raw, self.ledger))
        self.raw.pulse()
        self.region.prepare()
        Licenses(self.raw, self.ledger).reconcile()

    def stop(self) -> None:
        self.raw.close()
        self.ledger.close()

    def restart(self, *, away: int = 0) -> None:
        """Restart the process; `away`: ms for which it was not there."""
        self.stop()
        if away:
            self.clock.advance(milliseconds=away)
        self.start()

    def reboot(self, *, away: int = 0, wall_off: int = 0) -> None:
        """Restart the machine; its wall clock is off by so much afterwards."""
        self.stop()
        self.clock.advance(milliseconds=away)
        self.boot += "'"
        self.booted_at = self.clock.now()
        self.wall_off = wall_off
        self.start()

    def snapshot(self) -> Path:
        """Copy what the disk has, as it is now; the process is stopped for that."""
        self.stop()
        copy = self.folder.with_name(f"{self.folder.name}-{new_id('')}")
        shutil.copytree(self.folder, copy)
        self.start()
        return copy

    def put_back(self, copy: Path, *, only: str = "") -> None:
        """Put a copy of the disk, or of one file of it, in the place of what there is."""
        self.stop()
        for file in sorted(self.folder.iterdir()):
            if not only or file.name.startswith(only):
                file.unlink()
        for file in sorted(copy.iterdir()):
            if not only or file.name.startswith(only):
                shutil.copy(file, self.folder / file.name)
        self.start()

    # What its clients do

    def learn(self) -> None:
        self.region.learn([hash_token(self.center.key)])

    def beat(self, *, asks: int = 0) -> None:
        """Beat, for so many who have found no seat."""
        self.region._beat({self.center.pool_id: asks})
        self.region._obey()

    def wish(self, user: str) -> Acquire:
        return Acquire(
            pool_id=self.center.pool_id, user_id=user, client_id="one", lease_id=new_id("lse_")
        )

    def acquire(self, user: str) -> Lease | Any:
        return self.store.acquire([self.wish(user)])[0]

    def held_up(self, user: str) -> Any:
        """Return what comes before the store, where the authority was asked already."""
        return self.region.gate.look(self.raw, [self.wish(user)], asked=[True])[0]

    def renew(self, lease: Lease) -> Renewal | None:
        wish = Renew(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)
        return self.store.renew([wish])[0]

    def release(self, lease: Lease) -> None:
        gone = Release(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)
        assert self.store.release([gone])[0]

    def held(self) -> int:
        leases, _ = self.raw.leases(LeaseFilter(license_id=self.center.license_id), limit=1_000)
        return len(leases)

    @property
    def seats(self) -> int:
        mine = self.holding.relay.shares.get(self.center.pool_id)
        return 0 if mine is None else mine.seats

    @property
    def pool(self) -> Pool:
        (found,) = self.raw.pools([self.center.pool_id])
        assert found is not None
        return found
