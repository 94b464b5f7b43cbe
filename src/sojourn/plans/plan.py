"""What a selective sweep may end, a plan of such sweeps, and what became of a run.

A sweep ends leases that are suspect: whose holders are silent for longer than their pool's policy finds
usual. One that keeps beating is ended only where the scope says `living`.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct

from sojourn.clock import DAY
from sojourn.device import Device
from sojourn.errors import InvalidInput
from sojourn.lease import Lease, LeaseFilter
from sojourn.license import check_feature, split_pool_id
from sojourn.plans.schedule import Schedule
from sojourn.text import check_id, check_words

PLANS_MAX = 200
NAME_MAX = 100
SPAN_MAX = 365 * DAY
SCOPE_EXAMPLE = 'Such as {"feature": "editor", "silentFor": 60}.'


class SweepScope(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which leases; fields that are None do not restrict. Durations in milliseconds."""

    license_id: str | None = None
    feature: str | None = None
    user_id: str | None = None
    kind: str | None = None  # of device
    network: str | None = None  # of the device's address: "10.1.0.0/16"
    client_version: str | None = None  # a piece of the device's browser or User-Agent
    older_than: int | None = None  # since it was acquired
    silent_for: int | None = None  # since its last beat
    suspicion: float | None = None  # the share of the silence it is allowed that has passed, 0 to 1
    living: bool = False  # those that keep beating, too

    @property
    def filter(self) -> LeaseFilter:
        """Return what of it a store can look for."""
        return LeaseFilter(license_id=self.license_id, feature=self.feature, user_id=self.user_id)

    @property
    def restricts(self) -> bool:
        """Tell whether it names anything but `living`."""
        return any(getattr(self, x) is not None for x in self.__struct_fields__ if x != "living")

    @property
    def coarse(self) -> bool:
        """Tell whether a store's filter says all of it: then it may note what has expired there."""
        return self.restricts and all(
            getattr(self, x) is None
            for x in ("kind", "network", "client_version", "older_than", "silent_for", "suspicion")
        )

    def check(self) -> SweepScope:
        """Return it, or raise InvalidInput, naming the field."""
        for name in ("license_id", "user_id"):
            if (value := getattr(self, name)) is not None:
                check_id(name, value)
        if self.feature is not None:
            check_feature(self.feature)
        for name in ("kind", "client_version"):
            if (value := getattr(self, name)) is not None:
                check_words(name, value)
        for name in ("older_than", "silent_for"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= SPAN_MAX:
                raise InvalidInput(f"{name} must lie between 0 and 365 days.", hint=SCOPE_EXAMPLE)
        if self.suspicion is not None and not 0 <= self.suspicion <= 1:
            raise InvalidInput("suspicion must lie between 0 and 1.", hint=SCOPE_EXAMPLE)
        if self.network is not None:
            network_of(self.network)
        return self


def network_of(text: str) -> IPv4Network | IPv6Network:
    """Read a range of addresses. Raises InvalidInput."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput(
            f"network: {text[:64]!r} is no range of addresses.", hint="Such as 10.1.0.0/16."
        ) from None


def why(scope: SweepScope, lease: Lease, now: int) -> tuple[str, ...] | None:
    """Say why a lease is within a scope, one reason for each of its fields; None if it is not, or does
    not hold a seat."""
    suspect = lease.suspect_at <= now
    if not lease.live(now) or not (suspect or scope.living):
        return None
    license_id, feature = split_pool_id(lease.pool_id)
    device = lease.device or Device()
    held, silent = now - lease.acquired_at, now - lease.last_beat_at
    suspicion = suspicion_of(lease, now)
    rules = (
        (scope.license_id, license_id == scope.license_id, f"license {license_id}"),
        (scope.feature, feature == scope.feature, f"feature {feature}"),
        (scope.user_id, lease.user_id == scope.user_id, f"user {lease.user_id}"),
        (scope.kind, device.kind == scope.kind, f"device {device.kind}"),
        (scope.network, _in_network(device, scope.network), f"address in {scope.network}"),
        (
            scope.client_version,
            _says(device, scope.client_version),
            f"client {scope.client_version}",
        ),
        (scope.older_than, held >= (scope.older_than or 0), f"held for {_span(held)}"),
        (scope.silent_for, silent >= (scope.silent_for or 0), f"silent for {_span(silent)}"),
        (scope.suspicion, suspicion >= (scope.suspicion or 0), f"suspicion {suspicion:.2f}"),
    )
    if not all(wanted is None or fits for wanted, fits, _ in rules):
        return None
    first = f"suspect for {_span(now - lease.suspect_at)}" if suspect else "still beats"
    return (first, *(words for wanted, _, words in rules if wanted is not None))


def suspicion_of(lease: Lease, now: int) -> float:
    """Return which share of the silence that a lease is allowed has passed since its last beat, 0 to 1."""
    allowed = lease.expires_at - lease.last_beat_at
    return 1.0 if allowed <= 0 else min(1.0, max(0.0, (now - lease.last_beat_at) / allowed))


def _in_network(device: Device, network: str | None) -> bool:
    try:
        return network is None or ip_address(device.ip or "") in network_of(network)
    except ValueError:  # none is known, or it is kept as a network: see the setting ip_shorten
        return False


def _says(device: Device, text: str | None) -> bool:
    said = f"{device.browser or ''}\n{device.user_agent or ''}"
    return text is None or text.lower() in said.lower()


def _span(ms: int) -> str:
    return f"{ms / 1_000:,.1f} s".replace(".0 s", " s")


class SweepPlan(Struct, frozen=True, kw_only=True):
    """Attributes: next_at: None while it is paused; closes_at: past that, its next run is too late."""

    id: str
    name: str
    scope: SweepScope
    schedule: Schedule
    paused: bool = False
    created_at: int = 0  # given by the ledger
    created_by: str = ""
    revision: int = 1
    next_at: int | None = None
    closes_at: int | None = None

    def check(self) -> SweepPlan:
        """Return it, or raise InvalidInput. The schedule is checked where a clock is at hand."""
        if not 1 <= len(self.name.strip()) <= NAME_MAX:
            raise InvalidInput(f"A name is 1 to {NAME_MAX} characters.")
        check_words("name", self.name, most=NAME_MAX)
        if not self.scope.check().restricts:
            raise InvalidInput("The scope restricts nothing.", hint=SCOPE_EXAMPLE)
        return self


class RunState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # before its end: paused, out of its window, or its server was lost
    MISSED = "missed"  # no server ran while its window was open


class SelectiveRun(Struct, frozen=True, kw_only=True):
    """One run of a plan, or of a selective sweep by hand (`plan_id` None)."""

    id: str
    actor: str
    scope: SweepScope
    started_at: int
    state: RunState = RunState.RUNNING
    plan_id: str | None = None
    plan_name: str | None = None
    due_at: int | None = None
    closes_at: int | None = None
    finished_at: int | None = None
    looked: int = 0  # leases that were looked at
    ended: int = 0
    noted: int = 0  # as expired
    taken_up: int = 0  # times that another server went on with it
    last_id: str | None = None  # the last lease that was looked at
    error: str | None = None
    next_at: int | None = None  # when its plan runs next
