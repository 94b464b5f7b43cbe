"""Licenses and their features: the ledger first, then the store's working copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from msgspec.structs import replace

from sojourn.allotment import check_ttl
from sojourn.errors import Forbidden, InvalidInput, NotFound
from sojourn.ledger import Ledger, LicenseChange
from sojourn.license import License, LicenseStatus, Policy, Pool, check_feature, pool_id
from sojourn.origin import check_origins
from sojourn.service.working_copy import define
from sojourn.store import Action, Store
from sojourn.text import check_words
from sojourn.token import TokenKind, hash_token, new_id, new_token

FEATURES_MAX = 1_000
NAME_MAX = 200


class Licenses:
    """Synchronous; safe from several threads. A call that returns has changed ledger and store.

    `moved` is told of a license that has changed. `read_only`: the licenses are those of a relay's authority,
    and what changes one raises Forbidden.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        moved: Callable[[str], None] = lambda _: None,
        read_only: bool = False,
    ) -> None:
        self._read_only = read_only
        self._store = store
        self._ledger = ledger
        self._moved = moved

    def create(
        self,
        name: str,
        features: dict[str, Policy],
        *,
        valid_from: int | None = None,
        valid_until: int | None = None,
        allowed_origins: Sequence[str] = (),
        allotment_ttl: int | None = None,
        actor: str,
    ) -> tuple[License, str]:
        """Make a license; the key is returned this once, and only its hash is kept."""
        self._check_own()
        check_name(name)
        if len(features) > FEATURES_MAX:
            raise InvalidInput(f"A license has at most {FEATURES_MAX} features.")
        for feature, policy in features.items():
            check_feature(feature)
            policy.validate()
        check_dates(valid_from, valid_until)
        key = new_token(TokenKind.LICENSE)
        license_ = License(
            id=new_id("lic_"),
            name=name,
            valid_from=valid_from,
            valid_until=valid_until,
            allowed_origins=check_origins(allowed_origins),
            allotment_ttl=None if allotment_ttl is None else check_ttl(allotment_ttl),
        )
        license_ = self._ledger.create_license(license_, features, hash_token(key), actor=actor)
        self._define(license_.id)
        self._moved(license_.id)
        return license_, key

    def get(self, license_id: str) -> tuple[License, list[Pool]]:
        license_ = self._ledger.license(license_id)
        if license_ is None:
            raise unknown()
        return license_, self._ledger.pools(license_id)

    def list(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        status: LicenseStatus | None = None,
    ) -> list[tuple[License, list[Pool]]]:
        """List licenses by id, each with its pools."""
        licenses = self._ledger.licenses(after=after, limit=limit, status=status)
        return [(x, self._ledger.pools(x.id)) for x in licenses]

    def change(self, license_id: str, change: LicenseChange, *, actor: str) -> License:
        """Rename, suspend, resume or re-date a license. Suspending stops acquires and renewals at once."""
        self._check_own()
        if isinstance(change.name, str):
            check_name(change.name)
        if isinstance(change.allowed_origins, tuple):
            change = replace(change, allowed_origins=check_origins(change.allowed_origins))
        if isinstance(change.allotment_ttl, int):
            check_ttl(change.allotment_ttl)
        current, _ = self.get(license_id)
        valid_from = change.valid_from if _given(change.valid_from) else current.valid_from
        valid_until = change.valid_until if _given(change.valid_until) else current.valid_until
        check_dates(valid_from, valid_until)  # type: ignore[arg-type]  # UNSET was replaced above
        license_ = self._ledger.change_license(license_id, change, actor=actor)
        if license_ is None:
            raise unknown()
        self._define(license_id)
        self._moved(license_id)
        return license_

    def rotate_key(self, license_id: str, *, actor: str) -> tuple[License, str]:
        """Replace the license's key; the old one is refused from now on."""
        self._check_own()
        key = new_token(TokenKind.LICENSE)
        license_ = self._ledger.rotate_license_key(license_id, hash_token(key), actor=actor)
        if license_ is None:
            raise unknown()
        self._moved(license_id)
        return license_, key

    def delete(self, license_id: str, *, actor: str) -> None:
        """Delete a license; its live leases are revoked."""
        self._check_own()
        _, pools = self.get(license_id)
        self._ledger.delete_license(license_id, actor=actor)
        self._moved(license_id)
        self._store.drop([p.id for p in pools], Action(actor=actor, name="delete_license"))

    def set_feature(
        self,
        license_id: str,
        feature: str,
        policy: Policy,
        *,
        actor: str,
        instead_of: Policy | None = None,
    ) -> Pool:
        """Add a feature or replace its policy. Shrinking evicts nobody. Raises Conflict if the policy that
        it has is not `instead_of`, if that is given."""
        self._check_own()
        check_feature(feature)
        policy.validate()
        if not self._ledger.set_feature(
            license_id, feature, policy, actor=actor, instead_of=instead_of
        ):
            raise unknown()
        self._define(license_id)
        self._moved(license_id)
        return next(p for p in self._ledger.pools(license_id) if p.feature == feature)

    def remove_feature(self, license_id: str, feature: str, *, actor: str) -> None:
        """Remove a feature; its live leases are revoked."""
        self._check_own()
        if not self._ledger.remove_feature(license_id, feature, actor=actor):
            raise NotFound("The license has no such feature.", code="feature_unknown")
        self._moved(license_id)
        action = Action(actor=actor, name="remove_feature")
        self._store.drop([pool_id(license_id, feature)], action)

    def reconcile(self) -> int:
        """Define every pool of the ledger in the store: at start, so that a store that lost them, or
        a process that died between the two writes, is healed. Returns how many there are."""
        count = 0
        after: str | None = None
        while page := define(
            self._store, partial(self._ledger.pools, after=after), there=self._is_there
        ):
            count += len(page)
            after = page[-1].id
        return count

    def _check_own(self) -> None:
        if self._read_only:
            raise Forbidden(
                "This server is a relay: licenses are changed at its authority.",
                code="license_of_authority",
                hint="Ask there. The relay follows with its next beat.",
            )

    def _define(self, license_id: str) -> None:
        define(self._store, partial(self._ledger.pools, license_id))

    def _is_there(self, pool: Pool) -> bool:
        return any(each.id == pool.id for each in self._ledger.pools(pool.license_id))


def check_name(name: str) -> None:
    if not 1 <= len(name.strip()) <= NAME_MAX:
        raise InvalidInput(f"A name is 1 to {NAME_MAX} characters.")
    check_words("name", name, most=NAME_MAX)


def check_dates(valid_from: int | None, valid_until: int | None) -> None:
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise InvalidInput("valid_until must be after valid_from.")


def unknown() -> NotFound:
    return NotFound(
        "There is no such license.",
        code="license_unknown",
        hint="List licenses with `sojourn license list`.",
    )


def _given(value: object) -> bool:
    return value is None or isinstance(value, int)
