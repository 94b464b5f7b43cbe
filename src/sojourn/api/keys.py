"""API keys: who may call. Administrators only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from sojourn.api.call import OperatorCall, operator
from sojourn.errors import InvalidInput
from sojourn.ledger import ApiKey, Role
from sojourn.service.keys import Permission
from sojourn.service.operators import Operators
from sojourn.wire.bodies import (
    Answer,
    Done,
    Instant,
    Limit,
    Name,
    Page,
    Wire,
    instant,
    optional,
    rfc3339,
)
from sojourn.wire.paging import page_of


class CreateKeyBody(Wire, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]
    role: Role
    expires_at: Instant | None = None


class KeyBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    key_id: str
    name: str
    role: Role
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None  # within two minutes; absent: not seen in use
    key: str | None = None  # shown once, when it is made


class KeysQuery(Wire, frozen=True, kw_only=True):
    after: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    limit: Limit = 1_000


@operator("POST", "/api/keys", may=Permission.KEYS, status=201)
def create_key(ask: OperatorCall, body: CreateKeyBody) -> Done[KeyBody]:
    """Make an API key.

    The answer holds the key itself, this once: only its hash is kept.
    """
    expires_at = instant(body.expires_at)
    if expires_at is not None and expires_at <= ask.context.services.ledger.now():
        raise InvalidInput("expiresAt: lies in the past.")
    key, secret = ask.context.services.keys.create(
        body.name, body.role, expires_at=expires_at, actor=ask.actor
    )
    return Done(data=key_body(key, secret), message="Keep the key: it is shown only now.")


@operator("GET", "/api/keys", may=Permission.KEYS)
def list_keys(ask: OperatorCall, query: KeysQuery) -> Done[Page[KeyBody]]:
    """List API keys, the oldest first, revoked ones included."""
    keys = ask.context.services.keys
    used: dict[str, int] = {}

    def read(after: str | None, limit: int) -> Sequence[ApiKey]:
        found = keys.list(after=after, limit=limit)
        used.update(keys.last_used([key.id for key in found]))
        return found

    return Done(
        data=page_of(
            read,
            lambda key: key_body(key, used_at=used.get(key.id)),
            after=optional(query.after),
            limit=query.limit,
            cursor=lambda key: key.id,
            name=lambda key: key.id,
        )
    )


@operator("DELETE", "/api/keys/{keyId}", may=Permission.KEYS, problems=("key_unknown",))
def revoke_key(ask: OperatorCall, key_id: Name) -> Done[KeyBody]:
    """Revoke an API key. It is refused from now on, and whoever signed in to the console with it."""
    services = ask.context.services
    key = services.keys.revoke(key_id, actor=ask.actor)
    Operators(services.keys, services.sessions, ()).dismiss(key_id, actor=ask.actor)
    return Done(data=key_body(key), message="The key is refused from now on.")


def key_body(key: ApiKey, secret: str | None = None, *, used_at: int | None = None) -> KeyBody:
    return KeyBody(
        key_id=key.id,
        name=key.name,
        role=key.role,
        created_at=rfc3339(key.created_at),
        expires_at=None if key.expires_at is None else rfc3339(key.expires_at),
        revoked_at=None if key.revoked_at is None else rfc3339(key.revoked_at),
        last_used_at=None if used_at is None else rfc3339(used_at),
        key=secret,
    )


CALLS = (create_key, list_keys, revoke_key)
