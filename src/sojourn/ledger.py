"""The contract of the ledger: the durable record, always SQL.

Licenses and their features, API keys, the audit trail, sweep runs. Every change writes its audit row in
the same transaction. The pools in the store are a working copy of the features here: the service
defines them again at every start, so a lost or restored store heals itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from msgspec import UNSET, Struct, UnsetType, field

from sojourn.clock import DAY, SECOND
from sojourn.event import Event
from sojourn.license import License, LicenseStatus, Policy, Pool
from sojourn.relay_command import CommandKeeper

INSTANCE_KEPT = 8 * DAY
"""As long as a session lives by default, and a day: so long it matters what a process signed with."""
INSTANCE_ALIVE = 75 * SECOND
"""A server that has said nothing for so long has crashed."""
INSTANCES_MAX = 200


class Role(StrEnum):
    ADMIN = "admin"  # everything, keys included
    OPERATOR = "operator"  # licenses, features, seats, sessions
    VIEWER = "viewer"  # reads
    APP = "app"  # an application's backend: sessions
    RELAY = "relay"  # a regional node


class ApiKey(Struct, frozen=True, kw_only=True):
    """The secret itself is stored only as its hash."""

    id: str
    name: str
    role: Role
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None

    def valid(self, now: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class Audit(Struct, frozen=True, kw_only=True):
    """Who did what to what. `id` and `at` are given by the ledger."""

    actor: str
    action: str
    subject: str
    data: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    at: int = 0


class LicenseChange(Struct, frozen=True, kw_only=True):
    """Fields left UNSET stay as they are."""

    name: str | UnsetType = UNSET
    status: LicenseStatus | UnsetType = UNSET
    valid_from: int | None | UnsetType = UNSET
    valid_until: int | None | UnsetType = UNSET
    allowed_origins: tuple[str, ...] | UnsetType = UNSET
    allotment_ttl: int | None | UnsetType = UNSET


class SweepRun(Struct, frozen=True, kw_only=True):
    """One pass of the sweeper. `id` is given by the ledger."""

    started_at: int
    took: int  # ms
    actor: str
    leases_expired: int = 0
    leases_removed: int = 0
    sessions_cut: int = 0  # ended by a cutoff, and noted by this sweep
    sessions_removed: int = 0
    events_removed: int = 0
    error: str | None = None
    id: int = 0


class Instance(Struct, frozen=True, kw_only=True):
    """A server process over this ledger: what it says of itself while it runs, and some days after.

    Fingerprints are keyed hashes of its secrets, in their order: they tell whether two are the same, and
    nothing else.
    """

    id: str
    host: str
    pid: int
    version: str
    fingerprints: tuple[str, ...]
    started_at: int = 0  # given by the ledger
    seen_at: int = 0  # likewise
    stopped_at: int | None = None  # likewise, when it said goodbye; a crash says none


class Ledger(Protocol):
    """Synchronous; may be called from several threads. Raises the same faults as a store."""

    @property
    def relay_commands(self) -> CommandKeeper:
        """What operators want of relays."""

    def create_license(
        self,
        license: License,
        features: dict[str, Policy],
        key_hash: bytes,
        *,
        actor: str,
    ) -> License:
        """Record a license with its features. Raises Conflict if the id or the key exists."""

    def license(self, license_id: str) -> License | None: ...

    def license_key_hash(self, license_id: str) -> bytes | None:
        """Return the hash of a license's key."""

    def licenses_by_key(self, key_hashes: Sequence[bytes]) -> list[License | None]:
        """Look licenses up by the hash of their key; hot, so a batch in one statement."""

    def licenses(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        status: LicenseStatus | None = None,
    ) -> list[License]:
        """List licenses by id."""

    def change_license(
        self, license_id: str, change: LicenseChange, *, actor: str
    ) -> License | None: ...

    def rotate_license_key(self, license_id: str, key_hash: bytes, *, actor: str) -> License | None:
        """Replace the key; the old one stops at once."""

    def delete_license(self, license_id: str, *, actor: str) -> bool: ...

    def set_feature(
        self,
        license_id: str,
        feature: str,
        policy: Policy,
        *,
        actor: str,
        instead_of: Policy | None = None,
    ) -> bool:
        """Add a feature or replace its policy. False if there is no such license. Raises Conflict if
        the policy that it has is not `instead_of`, if that is given; compared in the same transaction."""

    def remove_feature(self, license_id: str, feature: str, *, actor: str) -> bool: ...

    def pools(
        self,
        license_id: str | None = None,
        *,
        after: str | None = None,
        limit: int = 1_000,
    ) -> list[Pool]:
        """Return the pools that the licenses open, by pool id, after a pool id."""

    def features(self, license_id: str | None = None, *, limit: int = 100) -> list[str]:
        """Name the features of a license, or of all, each once, by name."""

    def license_names(self, license_ids: Sequence[str]) -> dict[str, str]:
        """Return the names of licenses; those that are not there are left out."""

    def license_origins(self, license_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the origins that licenses allow; those that are not there are left out."""

    def allowed_origins(self, *, limit: int) -> set[str]:
        """Return the origins that any license allows; of more than `limit`, about so many."""

    def create_key(self, key: ApiKey, key_hash: bytes, *, actor: str) -> ApiKey: ...

    def keys(
        self, *, after: str | None = None, limit: int = 1_000, newest: bool = False
    ) -> list[ApiKey]:
        """List keys, revoked ones included, the oldest first or the `newest`, after the key of an id."""

    def key_by_hash(self, key_hash: bytes) -> tuple[ApiKey, int] | None:
        """Look a key up, and the time of the ledger's clock with it."""

    def valid_keys(self, key_hashes: Sequence[bytes]) -> set[bytes]:
        """Return those hashes that valid keys have now; a batch in one statement."""

    def keys_by_id(self, key_ids: Sequence[str]) -> dict[str, tuple[ApiKey, bytes, int]]:
        """Look keys up by their ids, all in one statement: with their hashes, and the time of the ledger's
        clock. Those that are not there are left out."""

    def revoke_key(self, key_id: str, *, actor: str) -> ApiKey | None:
        """Revoke; idempotent. None if there is no such key."""

    def note_key_uses(self, uses: Mapping[str, int]) -> None:
        """Write down when keys were used, by their ids; an instant that is known never moves back."""

    def key_uses(self, key_ids: Sequence[str]) -> dict[str, int]:
        """Return when keys were used last, in one statement; those of which nothing is known are left out."""

    def record(self, audit: Audit) -> None:
        """Append to the audit trail."""

    def audits(self, *, after: int = 0, limit: int = 100) -> list[Audit]: ...

    def record_sweep(self, run: SweepRun) -> None: ...

    def sweeps(self, *, limit: int = 20) -> list[SweepRun]:
        """Return the latest sweeps, newest first."""

    def register(self, instance: Instance, *, stopped: bool = False) -> None:
        """Note that a server process runs, or has stopped, now. Forgets who was not seen for
        `INSTANCE_KEPT`."""

    def instances(self) -> list[Instance]:
        """Return the server processes that run or ran, the latest seen first."""

    def mark(self) -> tuple[str, int]:
        """Return this ledger's own name, and the id of the last event it has of its store."""

    def append(self, events: Sequence[Event], *, after: int) -> bool:
        """Write events of a store elsewhere, in one step, if `after` is the last one that is here.
        False if it is not: somebody else has written them."""

    def history(
        self, *, after: int = 0, limit: int = 1_000, pool_id: str | None = None
    ) -> list[Event]:
        """Read what was recorded, after an event id."""

    def now(self) -> int: ...

    def close(self) -> None: ...
