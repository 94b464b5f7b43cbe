"""What operators read of commands at relays, and of relays' seats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from sojourn.relay_command import RegionLease
from sojourn.service.commands import CommandState, CommandStatus, RegionSeats
from sojourn.text import isolated
from sojourn.wire.bodies import Answer, CleanupAnswer, rfc3339, seconds


class RegionLeaseBody(Answer, frozen=True, kw_only=True):
    """A lease at a relay, as of when that looked."""

    lease_id: str
    license_id: str
    feature: str
    user_id: str
    client_id: str
    state: str
    last_beat_ago: float
    expires_in: float


class RelayCommandBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """How it stands with a command at one relay.

    `state`: pending, until the relay's next beats; done; unclear, if it was taken up and it is not known how
    far it came; failed, for `fault`; or refused, as too many wait for that relay. `leases` names at most 20:
    those that it ended, or, of debug, those that are live.
    """

    relay_id: str
    name: str
    state: CommandState
    command_id: str | None = None
    verb: str | None = None
    license_id: str | None = None
    user_id: str | None = None
    feature: str | None = None
    actor: str | None = None
    asked_at: str | None = None
    answered_at: str | None = None
    ended: int | None = None
    remaining: int | None = None
    denials: int | None = None
    fault: str | None = None
    leases: list[RegionLeaseBody] = msgspec.field(default_factory=list)


class RegionsCleanupAnswer(CleanupAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """What a clean-up did here, and how it stands with it at relays."""

    relays: list[RelayCommandBody] = msgspec.field(default_factory=list)


class RegionSeatsBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A relay's seats of a feature, as it said last."""

    relay_id: str
    name: str
    seats: int
    held: int
    want: int
    heard_ago: float | None = None


def region_seats_body(seats: RegionSeats) -> RegionSeatsBody:
    return RegionSeatsBody(
        relay_id=seats.relay,
        name=seats.name,
        seats=seats.seats,
        held=seats.held,
        want=seats.want,
        heard_ago=None if seats.heard_ago is None else seconds(seats.heard_ago),
    )


def command_body(status: CommandStatus) -> RelayCommandBody:
    command = status.command
    if command is None:
        return RelayCommandBody(relay_id=status.relay, name=status.name, state=status.state)
    answer, scope = command.answer, command.scope
    return RelayCommandBody(
        relay_id=status.relay,
        name=status.name,
        state=status.state,
        command_id=command.id,
        verb=command.verb.value,
        license_id=scope.license_id,
        user_id=scope.user_id,
        feature=scope.feature,
        actor=command.actor,
        asked_at=rfc3339(command.asked_at),
        answered_at=None if command.answered_at is None else rfc3339(command.answered_at),
        ended=None if answer is None else answer.ended,
        remaining=None if answer is None else answer.remaining,
        denials=None if answer is None else answer.denials,
        fault=None if answer is None else answer.fault or None,
        leases=[] if answer is None else [_lease_body(each) for each in answer.leases],
    )


def _lease_body(lease: RegionLease) -> RegionLeaseBody:
    return RegionLeaseBody(
        lease_id=lease.lease_id,
        license_id=lease.license_id,
        feature=lease.feature,
        user_id=lease.user_id,
        client_id=lease.client_id,
        state=lease.state,
        last_beat_ago=seconds(lease.silent_for),
        expires_in=seconds(lease.expires_in),
    )


def at_relays(statuses: Sequence[CommandStatus]) -> str:
    """Say how it stands with a command at relays; empty where there are none."""
    if not statuses:
        return ""
    if len(statuses) == 1:
        return f" At relay {isolated(statuses[0].name)} it is {statuses[0].state}."
    counted = Counter(status.state for status in statuses)
    said = ", ".join(f"{counted[state]} {state}" for state in CommandState if counted[state])
    return f" At {len(statuses)} relays: {said}."
