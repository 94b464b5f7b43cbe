"""The licenses that a relay serves, in its own ledger: as its authority has them, but for the seats.

A pool's capacity in the relay's ledger and store is what the relay may grant. Seats above the capacity, and
seats that are reserved, stay with the authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace

from sojourn.ledger import Ledger, LicenseChange
from sojourn.license import License, Policy, Pool, pool_id
from sojourn.relays.copies import LicenseTerms
from sojourn.service.working_copy import define
from sojourn.store import Action, Store

ACTOR = "system:relay"


class LicenseCopies:
    """For one thread at a time."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self.policies: dict[str, Policy] = {}
        """By pool: the policy that counts here."""

    def all(self) -> dict[str, License]:
        """Read every license of the ledger, and what is in force of each."""
        found: dict[str, License] = {}
        after: str | None = None
        while page := self._ledger.licenses(after=after, limit=1_000):
            found |= {each.id: each for each in page}
            after = page[-1].id
        self.policies = {}
        after = None
        while pools := self._ledger.pools(after=after):
            self.policies |= {pool.id: pool.policy for pool in pools}
            after = pools[-1].id
        return found

    def of(self, license_id: str) -> list[str]:
        """Name the pools of a license."""
        return [name for name in self.policies if name.partition(":")[0] == license_id]

    def limit(self, seats: Mapping[str, int], *, in_store: bool = True) -> None:
        """Have pools grant so many seats. `in_store` False: the caller defines the store's pools anyway."""
        for name, count in seats.items():
            policy = self.policies[name]
            if policy.capacity == count:
                continue
            license_id, _, feature = name.partition(":")
            policy = replace(policy, capacity=count)
            self._ledger.set_feature(license_id, feature, policy, actor=ACTOR)
            if in_store:
                self._define(license_id)
            self.policies[name] = policy

    def take(self, terms: LicenseTerms) -> None:
        """Take terms over. Pools that are new grant nothing yet; those that are gone are dropped, and their
        leases are revoked."""
        license_ = terms.license
        there = self._ledger.license(license_.id)
        features = {
            feature: self._policy(pool_id(license_.id, feature), policy)
            for feature, policy in terms.features.items()
        }
        if there is None:
            self._ledger.create_license(license_, features, terms.key_hash, actor=ACTOR)
        else:
            self._change(there, terms)
            self._set_features(license_.id, features)
        self._define(license_.id)
        for name in self.of(license_.id):
            self.policies.pop(name)
        self.policies |= {pool_id(license_.id, name): policy for name, policy in features.items()}

    def drop(self, license_id: str) -> None:
        """Forget a license that there is no more; its leases are revoked."""
        names = self.of(license_id)
        self._ledger.delete_license(license_id, actor=ACTOR)
        self._store.drop(names, Action(actor=ACTOR, name="delete_license"))
        for name in names:
            del self.policies[name]

    def _policy(self, name: str, policy: Policy) -> Policy:
        known = self.policies.get(name)
        seats = 0 if known is None else known.capacity
        return replace(policy, capacity=seats, overdraft=0, reservations=())

    def _change(self, there: License, terms: LicenseTerms) -> None:
        new = replace(terms.license, created_at=there.created_at)
        if new != there:
            change = LicenseChange(
                name=new.name,
                status=new.status,
                valid_from=new.valid_from,
                valid_until=new.valid_until,
                allowed_origins=new.allowed_origins,
                allotment_ttl=new.allotment_ttl,
            )
            self._ledger.change_license(new.id, change, actor=ACTOR)
        (by_key,) = self._ledger.licenses_by_key([terms.key_hash])
        if by_key is None:
            self._ledger.rotate_license_key(new.id, terms.key_hash, actor=ACTOR)

    def _set_features(self, license_id: str, features: Mapping[str, Policy]) -> None:
        for feature, policy in features.items():
            if self.policies.get(pool_id(license_id, feature)) != policy:
                self._ledger.set_feature(license_id, feature, policy, actor=ACTOR)
        for name in self.of(license_id):
            feature = name.partition(":")[2]
            if feature not in features:
                self._ledger.remove_feature(license_id, feature, actor=ACTOR)
                self._store.drop([name], Action(actor=ACTOR, name="remove_feature"))

    def _define(self, license_id: str) -> None:
        define(self._store, partial(self._pools, license_id))

    def _pools(self, license_id: str) -> list[Pool]:
        return self._ledger.pools(license_id)
