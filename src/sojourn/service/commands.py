"""Operators' commands that reach every relay: an authority sends them, a relay carries them out.

A clean-up at the authority ends what is there, and goes to each relay that may have leases in its scope. It
rides on the answer to the relay's next beat and is answered with the beat after that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.errors import NotFound, SojournError
from sojourn.lease import Lease, LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.log import get_logger
from sojourn.relay_command import (
    LEASES_MAX,
    CommandAnswer,
    CommandScope,
    CommandVerb,
    RegionLease,
    RelayCommand,
)
from sojourn.service.operations import Operations
from sojourn.store import LIST_MAX, Store
from sojourn.token import new_id

log = get_logger(__name__)

FRESH_FOR = MINUTE
"""For how long an answer to a debug counts for the next one that asks the same, in milliseconds."""
UNCLEAR = frozenset({"interrupted", "done_before"})
"""Faults of commands that were taken up, and of which it is not known how far they came."""
NOTHING_THERE = frozenset({"license_unknown", "feature_unknown"})
"""Faults of commands that had nothing to do: the relay serves no such license."""


class CommandState(StrEnum):
    PENDING = "pending"
    DONE = "done"
    UNCLEAR = "unclear"
    FAILED = "failed"
    REFUSED = "refused"
    """It was not sent: too many wait for this relay already."""


class CommandStatus(Struct, frozen=True, kw_only=True):
    """How it stands with a command at one relay. `command`: None where it was not sent."""

    relay: str
    name: str
    state: CommandState
    command: RelayCommand | None = None


class RegionSeats(Struct, frozen=True, kw_only=True):
    """A relay's seats of a pool. `heard_ago`: ms; None: it is waited for no more."""

    relay: str
    name: str
    seats: int
    held: int
    want: int
    heard_ago: int | None


class RelayCommands:
    """An authority's side. Synchronous; safe from several threads."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def send(self, verb: CommandVerb, scope: CommandScope, *, actor: str) -> list[CommandStatus]:
        """Send a command to each relay that may have leases in its scope. The same one again, while it is
        pending, is the one that there is."""
        sent = [(name, self._send(name, verb, scope, actor)) for name in self._concerned(scope)]
        return self._statuses(sent)

    def debug(self, scope: CommandScope, *, actor: str) -> list[CommandStatus]:
        """Ask relays about a user, but for those that have answered the same within `FRESH_FOR`."""
        names = self._concerned(scope)
        known: dict[str, RelayCommand] = {}
        fresh = self._store.now() - FRESH_FOR
        for each in self._ledger.relay_commands.commands(limit=LIST_MAX) if names else ():
            same = (each.verb, each.scope) == (CommandVerb.DEBUG, scope)
            if same and each.answered_at is not None and each.answered_at >= fresh:
                known.setdefault(each.relay, each)
        sent = [
            (name, known.get(name) or self._send(name, CommandVerb.DEBUG, scope, actor))
            for name in names
        ]
        return self._statuses(sent)

    def latest(self, *, relay: str | None = None, limit: int = 100) -> list[CommandStatus]:
        """Return the latest commands, newest first."""
        found = self._ledger.relay_commands.commands(relay=relay, limit=limit)
        return self._statuses([(each.relay, each) for each in found])

    def _send(
        self, relay: str, verb: CommandVerb, scope: CommandScope, actor: str
    ) -> RelayCommand | None:
        command = RelayCommand(
            id=new_id("cmd_"),
            relay=relay,
            seq=0,
            verb=verb,
            scope=scope,
            actor=actor,
            asked_at=0,
        )
        return self._ledger.relay_commands.send(command)

    def _concerned(self, scope: CommandScope) -> Sequence[str]:
        """Name the relays that may have leases in a scope: those with an allotment of it, and all that may
        hold what is not known here."""
        authority, now = self._store.authority()
        if not authority.relays:
            return ()
        if authority.doubts(now):
            return sorted(authority.relays)
        found: set[str] = set()
        for pool_id, pool in authority.pools.items():
            license_id, feature = split_pool_id(pool_id)
            if scope.license_id in (None, license_id) and scope.feature in (None, feature):
                found |= pool.allotments.keys()
        return sorted(found)

    def _statuses(self, sent: Sequence[tuple[str, RelayCommand | None]]) -> list[CommandStatus]:
        names = self.names({relay for relay, _ in sent})
        return [
            CommandStatus(relay=relay, name=names[relay], state=state_of(command), command=command)
            for relay, command in sent
        ]

    def seats(self, pool_ids: Sequence[str]) -> dict[str, list[RegionSeats]]:
        """Return what relays have of these pools, as they said last."""
        authority, now = self._store.authority(pool_ids)
        names = self.names({name for x in authority.pools.values() for name in x.allotments})
        heard = {name: now - known.heard_at for name, known in authority.relays.items()}
        return {
            pool_id: [
                RegionSeats(
                    relay=relay,
                    name=names[relay],
                    seats=mine.seats,
                    held=mine.held,
                    want=mine.want,
                    heard_ago=heard.get(relay),
                )
                for relay, mine in sorted(pool.allotments.items())
            ]
            for pool_id, pool in authority.pools.items()
        }

    def names(self, relays: Collection[str]) -> dict[str, str]:
        """Return the names of these relays' keys."""
        keys = self._ledger.keys_by_id(sorted(relays)) if relays else {}
        return {relay: keys[relay][0].name if relay in keys else relay for relay in relays}


def state_of(command: RelayCommand | None) -> CommandState:
    """Say how it stands with a command; None: it was not sent."""
    if command is None:
        return CommandState.REFUSED
    if command.answer is None:
        return CommandState.PENDING
    fault = command.answer.fault
    if not fault or fault in NOTHING_THERE:
        return CommandState.DONE
    return CommandState.UNCLEAR if fault in UNCLEAR else CommandState.FAILED


class CarryOut:
    """A relay's side: carries a command out in its own store."""

    def __init__(self, store: Store, operations: Operations) -> None:
        self._store = store
        self._operations = operations

    def __call__(self, command: RelayCommand) -> CommandAnswer:
        """Return what it came to, be it a fault."""
        try:
            return self._carry_out(command.verb, command.scope, command.actor)
        except NotFound as fault:
            return CommandAnswer(fault=fault.code)
        except SojournError as fault:
            log.warning("relay_command_failed", command=command.id, error=fault.message)
            return CommandAnswer(fault=fault.code)

    def _carry_out(self, verb: CommandVerb, scope: CommandScope, actor: str) -> CommandAnswer:
        if verb is CommandVerb.DEBUG:
            return self._look(scope)
        if verb is CommandVerb.FORCE:
            assert scope.user_id is not None
            assert scope.feature is not None
            done = self._operations.force_cleanup(
                scope.user_id, scope.feature, license_id=scope.license_id, actor=actor
            )
        else:
            assert scope.license_id is not None
            done = self._operations.cleanup(
                scope.license_id, user_id=scope.user_id, feature=scope.feature, actor=actor
            )
        return CommandAnswer(
            ended=done.ended_count, remaining=done.remaining, leases=_named(done.ended, done.at)
        )

    def _look(self, scope: CommandScope) -> CommandAnswer:
        assert scope.user_id is not None
        assert scope.feature is not None
        found = self._operations.debug(scope.user_id, scope.feature, license_id=scope.license_id)
        which = LeaseFilter(
            license_id=scope.license_id, feature=scope.feature, user_id=scope.user_id
        )
        live, now = self._store.leases(which, limit=LIST_MAX)
        return CommandAnswer(
            remaining=len(live), denials=len(found.denials), leases=_named(live, now)
        )


def _named(leases: Sequence[Lease], now: int) -> tuple[RegionLease, ...]:
    found = []
    for lease in leases[:LEASES_MAX]:
        license_id, feature = split_pool_id(lease.pool_id)
        found.append(
            RegionLease(
                lease_id=lease.id,
                license_id=license_id,
                feature=feature,
                user_id=lease.user_id,
                client_id=lease.client_id,
                state=lease.state(now).value,
                silent_for=max(0, now - lease.last_beat_at),
                expires_in=max(0, lease.expires_at - now),
            )
        )
    return tuple(found)
