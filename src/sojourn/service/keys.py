"""API keys: who may call, and what each role may do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from enum import StrEnum

from sojourn.errors import Conflict, Forbidden, InvalidToken, NotFound, Unauthenticated
from sojourn.ledger import ApiKey, Ledger, Role
from sojourn.service.key_uses import KeyUses
from sojourn.service.licenses import check_name
from sojourn.token import TokenKind, check_token, hash_token, new_id, new_token


class Permission(StrEnum):
    READ = "read"  # licenses, seats, events, statistics
    SEATS_END = "seats:end"
    LICENSES_WRITE = "licenses:write"
    KEYS = "keys"
    SESSIONS = "sessions"  # an application's backend: begins and checks them, reads their data
    SESSIONS_READ = "sessions:read"
    SESSIONS_END = "sessions:end"
    SESSIONS_CUTOFF = "sessions:cutoff"  # everybody's at once
    WEBHOOKS = "webhooks"
    DOCTOR_REPAIR = "doctor:repair"
    RELAY = "relay"


GRANTS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.OPERATOR: frozenset(
        {
            Permission.READ,
            Permission.SEATS_END,
            Permission.LICENSES_WRITE,
            Permission.SESSIONS_READ,
            Permission.SESSIONS_END,
            Permission.WEBHOOKS,
            Permission.DOCTOR_REPAIR,
        }
    ),
    Role.VIEWER: frozenset({Permission.READ, Permission.SESSIONS_READ}),
    Role.APP: frozenset({Permission.SESSIONS, Permission.SESSIONS_READ, Permission.SESSIONS_END}),
    Role.RELAY: frozenset({Permission.RELAY}),
}


_ORDER = (Role.APP, Role.RELAY, Role.VIEWER, Role.OPERATOR, Role.ADMIN)
_API = TokenKind.API.value
_OURS = frozenset(kind.value for kind in TokenKind)


def _any_of(permission: Permission) -> str:
    """Name the roles that may do something: viewer, operator or admin."""
    roles = [each.value for each in _ORDER if permission in GRANTS[each]]
    return " or ".join(filter(None, (", ".join(roles[:-1]), roles[-1])))


def unknown_key() -> Unauthenticated:
    return Unauthenticated(
        "This API key is not known, or no longer valid.",
        hint="Make one with `sojourn key create`.",
    )


class Keys:
    """Synchronous; safe from several threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.uses = KeyUses(ledger)
        self._ledger = ledger

    def authenticate(self, presented: str) -> ApiKey:
        """Return whose key this is; see `recognize` and `known`."""
        return self.known(self.recognize(presented))

    def recognize(self, presented: str) -> bytes:
        """Return the hash to look a key up by. Asks nobody; raises InvalidToken for what is no key.

        A key set by hand (SOJOURN_ADMIN_KEY) has no prefix; one that claims to be ours must be whole.
        """
        if presented[:4] == _API:
            check_token(presented, TokenKind.API)
        elif presented[:4] in _OURS:
            raise InvalidToken("This call needs an API key (sja_…).", code="token_wrong_kind")
        return hash_token(presented)

    def known(self, key_hash: bytes) -> ApiKey:
        """Return whose key has this hash. Asks the ledger every time, so a revoked key stops at once."""
        found = self._ledger.key_by_hash(key_hash)
        if found is None or not found[0].valid(found[1]):
            raise unknown_key()
        self.uses.note(found[0].id, found[1])
        return found[0]

    def valid(self, key_hashes: Sequence[bytes]) -> list[bool]:
        """Tell which of these are hashes of valid keys: one question for all."""
        valid = self._ledger.valid_keys(key_hashes)
        return [key_hash in valid for key_hash in key_hashes]

    def known_by_id(self, key_ids: Sequence[str]) -> dict[str, tuple[ApiKey, bytes, int]]:
        """Look keys up by their ids, valid or not, in one question: with their hashes, and the ledger's
        now."""
        return self._ledger.keys_by_id(key_ids)

    def last_used(self, key_ids: Sequence[str]) -> dict[str, int]:
        """Return when keys were used last, as far as that is known; see `KeyUses.last`."""
        return self.uses.last(key_ids)

    def now(self) -> int:
        return self._ledger.now()

    def grants(self, key: ApiKey, permission: Permission) -> bool:
        return permission in GRANTS[key.role]

    def require(self, key: ApiKey, permission: Permission) -> None:
        """Raise Forbidden unless the key's role grants the permission."""
        if not self.grants(key, permission):
            raise Forbidden(
                f"A key of role {key.role.value} may not do this.",
                hint=f"It takes a key of role {_any_of(permission)}.",
            )

    def create(
        self, name: str, role: Role, *, expires_at: int | None = None, actor: str
    ) -> tuple[ApiKey, str]:
        """Make a key; the secret is returned this once."""
        return self._create(name, role, new_token(TokenKind.API), expires_at, actor)

    def list(
        self, *, after: str | None = None, limit: int = 1_000, newest: bool = False
    ) -> list[ApiKey]:
        return self._ledger.keys(after=after, limit=limit, newest=newest)

    def _all(self) -> Iterator[ApiKey]:
        after: str | None = None
        while found := self._ledger.keys(after=after):
            yield from found
            after = found[-1].id

    def revoke(self, key_id: str, *, actor: str) -> ApiKey:
        key = self._ledger.revoke_key(key_id, actor=actor)
        if key is None:
            raise NotFound("There is no such key.", code="key_unknown")
        return key

    def ensure_admin(self, secret: str | None = None) -> str | None:
        """See to a first admin key.

        With a secret: make sure it is one. Without: if there is no valid admin key at all, make one
        and return its secret, to be printed once; else return None.
        """
        if secret is not None:
            if self._ledger.key_by_hash(hash_token(secret)) is None:
                with contextlib.suppress(Conflict):  # another server, started at once, was faster
                    self._create("SOJOURN_ADMIN_KEY", Role.ADMIN, secret, None, "system:start")
            return None
        now = self._ledger.now()
        if any(k.role is Role.ADMIN and k.valid(now) for k in self._all()):
            return None
        return self._create(
            "first admin", Role.ADMIN, new_token(TokenKind.API), None, "system:start"
        )[1]

    def _create(
        self, name: str, role: Role, secret: str, expires_at: int | None, actor: str
    ) -> tuple[ApiKey, str]:
        check_name(name)
        key = ApiKey(id=new_id("key_"), name=name, role=role, expires_at=expires_at)
        return self._ledger.create_key(key, hash_token(secret), actor=actor), secret
