"""What a relay may grant, in its store, on its disk and in its gate: kept alike, in the order that is safe.

What is given up is closed in the store first, then counted, then written, then said. What was given is
written first, then granted. So a crash between any two steps leaves the relay with less than its authority
counts for it, never with more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from sojourn.clock import uptime
from sojourn.errors import SettingsError
from sojourn.lease import LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.log import get_logger
from sojourn.region.copies import ACTOR, LicenseCopies
from sojourn.region.gate import Gate, Limit, stop_of
from sojourn.region.reports import report_since
from sojourn.region.state import Look, RegionState, StateFile, look
from sojourn.relay_command import CommandAnswer, RegionReport
from sojourn.relays import share
from sojourn.relays.demand import Demand
from sojourn.relays.elapsed import Witness, go_on
from sojourn.relays.share import Relay, Share
from sojourn.store import LIST_MAX, Action, Store
from sojourn.token import new_id
from sojourn.wire.relays import WISHES_MAX

log = get_logger(__name__)

COUNTS = 3
"""Tries to count held seats between two pulses of the store, before nothing is given back this time."""
NOTES_MAX = 20
"""Things that the status tells of."""


class Holding:
    """The seats of one relay. All but `now` and what the gate calls is for who holds `lock`, which nobody
    does while the authority is asked. `max_pause`: ms, as the store was opened with."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        file: StateFile,
        *,
        authority: str,
        max_pause: int,
        look: Look = look,
        ticks: Callable[[], int] = uptime,
    ) -> None:
        self._store = store
        self._file = file
        self._authority = authority
        self._max_pause = max_pause
        self.look = look
        self._ticks = ticks
        self.copies = LicenseCopies(store, ledger)
        self.lock = threading.RLock()
        self._time, self._since = 0, ticks()
        self._witness: Witness | None = None
        self.relay = Relay("", new_id("lif_"))
        self.proofs: dict[str, str] = {}
        self.licenses: dict[str, str] = {}
        """Those that are served, with the digest of their terms."""
        self.demand: dict[str, Demand] = {}
        self.held: dict[str, int] = {}
        self.least: dict[str, int] = {}
        """By pool: seats that are kept though nobody needs them, as an operator wishes."""
        self.command_seq = 0
        self.commands: dict[str, CommandAnswer | None] = {}
        """What commands came to, by id, until the authority has heard of it. None: it is under way."""
        self._careful_from: int | None = None
        self.careful_until = 0
        self.notes: list[str] = []
        self.gate = Gate(self.now, self._close)

    def now(self) -> int:
        """Return the relay's own time, in ms: nobody sets it, and it goes on over restarts."""
        return self._time + self._ticks() - self._since

    def prepare(self) -> None:
        """Take up what was allotted before. The store has had its pulse by now. Raises SettingsError where
        the ledger is not a relay's."""
        with self.lock:
            licenses = self.copies.all()
            found = self._file.read()
            if found.state is None and not found.put_back and licenses:
                raise SettingsError(
                    "This data folder has licenses of its own, so it cannot be a relay's.",
                    hint="Give the relay a folder of its own: --data DIR.",
                )
            state = found.state or RegionState(authority=self._authority)
            witness, believed = go_on(state.witness, self.look())
            self._witness, self._time, self._since = witness, witness.time, self._ticks()
            # Whatever the ledger has may be older than what was taken last: all terms come anew.
            self.licenses = dict.fromkeys(licenses, "")
            shares, self.proofs = dict(state.shares), dict(state.proofs)
            self.command_seq = state.command_seq
            cut_off = CommandAnswer(fault="interrupted")
            self.commands = {name: x or cut_off for name, x in state.commands.items()}
            self.relay = replace(self.relay, number=state.number, epoch=state.epoch, shares=shares)
            if found.put_back:
                self.forgot(
                    "The relay's file was put back: it holds nothing until its authority answers."
                )
            elif self._last_event() < state.last_event_id:
                self.be_careful("The relay's store was put back, or has lost what it had written.")
            elif found.state is not None and not believed:
                self.note("The clock went back over a restart: what was allotted is over.")
                for name in shares:
                    self.end_all(name)
                self.relay = replace(self.relay, shares={})
            self.expire()
            self.limit_all(in_store=False)
            self.commit()

    def _last_event(self) -> int:
        latest = self._store.events(limit=1, newest_first=True)
        return latest[0].id if latest else 0

    def forgot(self, why: str) -> None:
        """Go on without what was allotted: something else may have been said since."""
        self.relay = replace(self.relay, shares={})
        self.be_careful(why)

    def report(self, after: int) -> RegionReport | None:
        """Say what has happened after an event of this relay's stream."""
        return report_since(self._store, after)

    def be_careful(self, why: str) -> None:
        """For as long as a client believes in a seat, let those alone come who prove that they had one."""
        self._careful_from = self.now()
        self.stay_careful()
        self.note(why)

    def stay_careful(self) -> None:
        """See to it that this lasts for as long as it takes by the policies that are known now."""
        if self._careful_from is None:
            return
        longest = max((x.lost_after for x in self.copies.policies.values()), default=0)
        self.careful_until = max(self.careful_until, self._careful_from + longest)
        self.gate.be_careful(self.careful_until)

    def note(self, what: str) -> None:
        log.warning("relay_noted", what=what)
        self.notes = [*self.notes, what][-NOTES_MAX:]

    def count(self, asks: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """Count what is held; return what is needed of each pool, and what to want."""
        names = list(self.copies.policies)[:WISHES_MAX]
        now = self.now()
        needs: dict[str, int] = {}
        wants: dict[str, int] = {}
        free: dict[str, int] = {}
        for name, usage in zip(names, self._store.usage(names), strict=True):
            held = 0 if usage is None else usage.in_use
            asked = asks.get(name, 0)
            if 0 < self.copies.policies[name].capacity <= held:  # who waits here asks no more
                line, _ = self._store.waiting(name, limit=LIST_MAX)
                asked = max(asked, len(line))
            demand = self.demand.get(name, Demand()).seen(held + asked, now)
            self.demand[name], self.held[name] = demand, held
            needs[name] = held + asked
            wants[name] = max(demand.low(now), needs[name])
            free[name] = self.copies.policies[name].capacity - held
            mine = self.relay.shares.get(name)
            if mine is not None:
                self._put(name, replace(mine, held=held))
        self.gate.count(free)
        return needs, wants

    def _put(self, name: str, mine: Share) -> None:
        self.relay = replace(self.relay, shares={**self.relay.shares, name: mine})

    def give_back_idle(self) -> None:
        """Give up seats far above what is needed; the next beat says so."""
        now = self.now()
        for name, mine in list(self.relay.shares.items()):
            demand = self.demand.get(name)
            least = self.least.get(name, 0)
            if demand is not None and mine.seats > max(demand.high(now), mine.held, least):
                low = max(demand.low(now), least)
                self.lower(name, max(low, mine.held))
                lowered = self.relay.shares[name]
                self._put(name, share.give_back(lowered, max(low, lowered.held)))

    def lower(self, name: str, seats: int) -> None:
        """Have the store grant no more than so many seats, then count who sits there. What is counted is
        right for good: nobody comes back to a seat that was not counted.

        A store gives holders grace after an outage, and may find it when it is asked next: so it has its
        pulse first, and what was counted too long after it is counted again.
        """
        mine = self.relay.shares.get(name, Share())
        self.copies.limit({name: min(seats, self.copies.policies[name].capacity)})
        for _ in range(COUNTS):
            began = self._ticks()
            self._store.pulse()
            (usage,) = self._store.usage([name])
            if self._ticks() - began < self._max_pause // 2:
                self._put(name, replace(mine, held=0 if usage is None else usage.in_use))
                return
        self._put(name, replace(mine, held=max(mine.seats, mine.held)))  # nothing goes back

    def expire(self) -> None:
        """Let go of what is over: nobody holds a seat of it any more."""
        now = self.now()
        for name, mine in self.relay.shares.items():
            if now >= mine.deadline and (mine.seats or mine.held):
                self.end_all(name)
        self.relay = share.expire(self.relay, now)

    def end_all(self, name: str) -> None:
        """End every lease of a pool whose allotment is over, and grant no more."""
        if name not in self.copies.policies:
            return
        self.copies.limit({name: 0})
        self._store.pulse()  # or grace could bring one back
        license_id, feature = split_pool_id(name)
        which = LeaseFilter(license_id=license_id, feature=feature)
        action = Action(actor=ACTOR, name="allotment_over", data={"pool": name})
        ended = 0
        while found := self._store.revoke(which, action):
            ended += len(found)
            if len(found) < LIST_MAX:
                break
        if ended:
            self.note(f"The allotment of {name} is over: {ended} of its leases have ended with it.")

    def limit_all(self, *, in_store: bool = True) -> None:
        """Bring ledger, store and gate to what may be granted now."""
        now = self.now()
        limits: dict[str, Limit] = {}
        seats: dict[str, int] = {}
        for name, policy in self.copies.policies.items():
            mine = self.relay.shares.get(name, Share())
            stop = stop_of(policy)
            seats[name] = mine.seats if now < mine.deadline - stop else 0
            if now < mine.deadline:
                limits[name] = Limit(seats[name], mine.deadline, stop)
        lower = {x: n for x, n in seats.items() if n < self.copies.policies[x].capacity}
        self.copies.limit(lower, in_store=in_store)
        self.gate.limit(limits)  # before more is granted than before: its deadline comes first
        self.copies.limit(seats, in_store=in_store)

    def _close(self, name: str, over: bool) -> None:
        """Close a pool at its stop line, or end it at its deadline: for the gate."""
        with self.lock:
            mine = self.relay.shares.get(name)
            if mine is None or name not in self.copies.policies:
                return
            if over:
                self.expire()
                self.commit()
            self.limit_all()

    def commit(self) -> None:
        """Write what must not be forgotten, before anybody relies on it."""
        self._witness = go_on(self._witness, self.look())[0]
        self._file.write(
            RegionState(
                authority=self._authority,
                number=self.relay.number,
                epoch=self.relay.epoch,
                shares=dict(self.relay.shares),
                proofs={x: proof for x, proof in self.proofs.items() if x in self.relay.shares},
                witness=self._witness,
                last_event_id=self._last_event(),
                command_seq=self.command_seq,
                commands=dict(self.commands),
            )
        )
