"""What an authority's operators want of its relays, what these report, and the contract of what keeps it.

A command rides on the answers to its relay's beats until the relay says what it came to. `seq` grows for
each relay, over a restore of the authority too: a relay takes each up once, in order, however often and late
it is told of one. Durations are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import DAY
from sojourn.decoding import prepared
from sojourn.errors import InvalidInput
from sojourn.license import split_pool_id
from sojourn.text import check_id

PENDING_MAX = 100
"""Commands that wait for one relay; for more it has to be heard first."""
TOLD_MAX = 20
"""Commands in one answer to a beat; the others go with the next ones."""
ANSWERED_FOR = DAY
"""How long it is remembered what a command came to."""
PENDING_FOR = 31 * DAY
"""How long a command waits for its relay: as long as an allotment may live without a word, and a day."""
LEASES_MAX = 20
"""Leases that an answer names."""
NUMBER_MAX = 2**53 - 1
COUNTS_MAX = 2_000
"""Pools and days in one report."""
USES_KEPT = 400 * DAY
"""For how long it is kept what relays have reported of a day."""
ORDERS_MAX = 1_000
"""Pools of which an operator has said how many seats a relay is to have."""


class CommandVerb(StrEnum):
    CLEANUP = "cleanup_sessions"
    FORCE = "force_cleanup"
    DEBUG = "debug"


@prepared
class CommandScope(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a command is about; None does not restrict."""

    license_id: str | None = None
    user_id: str | None = None
    feature: str | None = None


@prepared
class RegionLease(Struct, frozen=True, kw_only=True, rename="camel"):
    """A live lease at a relay, as of when it looked."""

    lease_id: str
    license_id: str
    feature: str
    user_id: str
    client_id: str
    state: str
    silent_for: int
    expires_in: int


@prepared
class CommandAnswer(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a command came to at its relay.

    Attributes: ended: leases; remaining: live ones in the same scope afterwards; fault: a code, where it was
    not carried out, or it is not known how far; denials: of late, in the scope; leases: at most `LEASES_MAX`:
    those that it ended, or, of debug, those that are live.
    """

    ended: int = 0
    remaining: int = 0
    fault: str = ""
    denials: int = 0
    leases: tuple[RegionLease, ...] = ()

    def check(self) -> None:
        """Raise InvalidInput if it says what no relay would."""
        numbers = (self.ended, self.remaining, self.denials)
        if len(self.leases) > LEASES_MAX or not all(0 <= x <= NUMBER_MAX for x in numbers):
            raise InvalidInput(
                f"An answer to a command counts, and names {LEASES_MAX} leases at most."
            )
        if self.fault:
            check_id("fault", self.fault)
        for lease in self.leases:
            for name in ("lease_id", "license_id", "feature", "user_id", "client_id", "state"):
                check_id(name, getattr(lease, name))
            if not all(0 <= x <= NUMBER_MAX for x in (lease.silent_for, lease.expires_in)):
                raise InvalidInput("Durations of leases are not negative.")


class RelayCommand(Struct, frozen=True, kw_only=True):
    """A command for one relay. `answered_at` and `answer`: None while it is pending. Instants are the
    ledger's."""

    id: str
    relay: str
    seq: int
    verb: CommandVerb
    scope: CommandScope
    actor: str
    asked_at: int
    answered_at: int | None = None
    answer: CommandAnswer | None = None


class RelayOrder(Struct, frozen=True, kw_only=True):
    """How many seats of a pool an operator wants a relay to have, whatever its region needs.

    Attributes: pool_id: empty: of all pools; least: it is given so many, where there are; most: idle seats
    above are asked back, and no more are given; until: an instant by the ledger's clock, None: until it is
    taken back.
    """

    relay: str
    pool_id: str = ""
    least: int = 0
    most: int | None = None
    until: int | None = None
    actor: str = ""


@prepared
class RegionCount(Struct, frozen=True, kw_only=True, rename="camel"):
    """What happened to a pool at a relay on a day, which begins in UTC: seats that were granted or resumed,
    acquires that were refused for want of one, and leases that ended."""

    pool_id: str
    day: int
    granted: int = 0
    denied: int = 0
    ended: int = 0


@prepared
class RegionReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """What happened at a relay after one event of its stream, up to another. It counts if the authority has
    taken over exactly what lies before: so it counts once, however often it is sent."""

    after: int
    up_to: int
    counts: tuple[RegionCount, ...] = ()

    def check(self) -> None:
        """Raise InvalidInput if it says what no relay would."""
        if len(self.counts) > COUNTS_MAX:
            raise InvalidInput(f"A report has {COUNTS_MAX} counts at most.")
        numbers = [self.after, self.up_to]
        for each in self.counts:
            check_id("poolId", each.pool_id)
            numbers += [each.day, each.granted, each.denied, each.ended]
        if not all(0 <= x <= NUMBER_MAX for x in numbers):
            raise InvalidInput("Counts and ids in a report are not negative.")

    def within(self, licenses: Collection[str], now: int) -> RegionReport:
        """Return it without what is of other licenses, or of days that are not kept."""
        counts = tuple(
            each
            for each in self.counts
            if split_pool_id(each.pool_id)[0] in licenses
            and each.day % DAY == 0
            and now - USES_KEPT <= each.day <= now + DAY
        )
        return replace(self, counts=counts)


class RegionUse(Struct, frozen=True, kw_only=True):
    """What a relay has reported of a pool and a day."""

    relay: str
    pool_id: str
    day: int
    granted: int
    denied: int
    ended: int


def order_of(orders: Sequence[RelayOrder], pool_id: str) -> RelayOrder | None:
    """Return the order that counts for a pool: its own, within the one for all pools."""
    named = {order.pool_id: order for order in orders}
    own, every = named.get(pool_id), named.get("")
    if own is None or every is None or every.most is None:
        return own or every
    most = every.most if own.most is None else min(own.most, every.most)
    return replace(own, least=min(own.least, most), most=most)


class ForBeat(Struct, frozen=True):
    """What goes with the answer to a beat: the first commands that are pending, the orders in force, and up
    to which event of the relay's stream its reports were taken over."""

    commands: tuple[RelayCommand, ...] = ()
    orders: tuple[RelayOrder, ...] = ()
    taken: int = 0


class CommandKeeper(Protocol):
    """Synchronous; may be called from several threads. What an operator does is audited in the same
    transaction."""

    def send(self, command: RelayCommand) -> RelayCommand | None:
        """Write a command down, under the next `seq` and the ledger's now; return the one that is pending
        with the same verb and scope, if there is. None: `PENDING_MAX` wait for this relay already."""

    def for_beat(self, relay: str) -> ForBeat:
        """Return the commands that a relay is told of next, at most `TOLD_MAX`, and the orders in force."""

    def answered(self, relay: str, answers: Mapping[str, CommandAnswer]) -> None:
        """Write down what a relay says of its commands, by id. The first word counts."""

    def commands(
        self, *, relay: str | None = None, ids: Sequence[str] | None = None, limit: int = 100
    ) -> list[RelayCommand]:
        """Return the latest commands, newest first."""

    def order(self, orders: Sequence[RelayOrder], *, lasting: int | None = None) -> None:
        """Write orders down, each in the place of the one there is for its relay and pool; one that asks for
        nothing takes it away. `lasting`: ms for which they are in force. Raises Conflict when a relay has
        `ORDERS_MAX`."""

    def reported(self, relay: str, report: RegionReport) -> int:
        """Take a report over if it goes on where the last one ended; return up to which event that is now.
        Where it ends before it begins, the relay's stream was put back, and goes on from there."""

    def uses(
        self, *, since: int, relay: str | None = None, license_id: str | None = None
    ) -> list[RegionUse]:
        """Return what relays have reported of days from `since` on, the newest first, at most `LIST_MAX`."""

    def orders(self) -> list[RelayOrder]:
        """Return all orders in force, by relay and pool, at most `LIST_MAX`."""
