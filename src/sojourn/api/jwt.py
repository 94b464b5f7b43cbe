"""Users' JWTs as proof: RFC 7519 by PyJWT, with everything left out that has ever been abused.

The settings say who may issue tokens, with which algorithms, and where their keys are. Nothing in a
token is believed about that: not its algorithm beyond the allow-list, no key and no address of a key
(`jwk`, `jku`, `x5c`, `x5u`). Keys are public keys only, so that none can double as a shared secret.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import jwt
import msgspec
from msgspec import Meta, Struct

from sojourn.api.limits import Blocking
from sojourn.errors import InvalidToken, SettingsError, SojournError, Unauthenticated
from sojourn.exchange import fetch, target_of
from sojourn.lease import PRIORITY_MAX
from sojourn.log import get_logger
from sojourn.settings import JwtIssuer
from sojourn.wire.bodies import Name, Priority

log = get_logger(__name__)

FAMILIES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""Algorithms that may be allowed, and the type of key each takes."""

TOKEN_MAX = 8_192
LEEWAY = 10.0  # seconds that an issuer's clock may differ from ours
CACHE = 600.0  # seconds for which fetched keys are fresh
RETRY = 30.0  # seconds between two fetches, whatever tokens ask for
STALE_MAX = 86_400.0  # seconds for which old keys serve while fetching fails
FETCH_TIMEOUT = 5.0
SET_MAX = 262_144  # bytes
RSA_BITS_MIN = 2_048
GROUPS_MAX = 64
_group_names = Annotated[list[Name], Meta(max_length=GROUPS_MAX)]
_in_line = Priority


class UserProof(Struct, frozen=True):
    """What a verified token says of its bearer."""

    user_id: str
    license_id: str
    groups: tuple[str, ...] = ()  # as many as GROUPS_MAX
    priority: int = 0  # the highest that it may have in a line


class _Key(Struct, frozen=True):
    kid: str | None
    family: str
    algorithm: str | None  # the only one it may be used with, if it says so
    key: Any


class Issuers:
    """Verifies tokens of the issuers that the settings name. On the event loop only."""

    def __init__(
        self,
        issuers: Sequence[JwtIssuer],
        blocking: Blocking,
        *,
        dev: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        for issuer in issuers:
            _check(issuer, dev=dev)
        self._issuers = {
            issuer.issuer: (issuer, KeySet(issuer, blocking, now)) for issuer in issuers
        }

    def __bool__(self) -> bool:
        return bool(self._issuers)

    async def verify(self, token: str) -> UserProof:
        """Return whose token this is. Raises InvalidToken or Unauthenticated."""
        header, claims = _read(token)
        issuer, keys = self._issuers.get(claims.get("iss", ""), (None, None))
        if issuer is None or keys is None:
            raise Unauthenticated(
                "The token's issuer is not one this server trusts.",
                hint="Name it in the setting jwt_issuers.",
            )
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise _forged("The token's algorithm is not one this server allows for its issuer.")
        key = await keys.find(header.get("kid"), algorithm)
        if key is None:
            raise _forged("The token was signed with a key that its issuer does not publish.")
        return _proof(issuer, _verify(token, key, algorithm, issuer))


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what a token says of itself, to find out whom to ask; nothing of it is believed yet."""
    try:
        if len(token) > TOKEN_MAX:
            raise InvalidToken("The token is too long.")
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken("The token is neither one of ours nor a JWT.") from None
    header, claims = read["header"], read["payload"]
    if "crit" in header:
        raise _forged("The token demands an extension that this server does not know.")
    if not isinstance(claims.get("iss", ""), str):
        raise InvalidToken("The token's issuer is not text.")
    return header, claims


def _verify(token: str, key: _Key, algorithm: str, issuer: JwtIssuer) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=LEEWAY,
            options={
                "require": ["exp", "iss"],
                "verify_aud": issuer.audience is not None,
                "verify_sub": False,  # the claim that counts is checked below, whatever its name
            },
        )
    except jwt.ExpiredSignatureError:
        raise InvalidToken(
            "The token has expired.", code="token_expired", hint="Get a new one from its issuer."
        ) from None
    except jwt.ImmatureSignatureError:
        raise Unauthenticated("The token is not valid yet.") from None
    except jwt.InvalidAudienceError:
        raise Unauthenticated("The token is meant for somebody else.") from None
    except jwt.MissingRequiredClaimError as fault:
        raise Unauthenticated(f"The token lacks the claim {fault.claim!r}.") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise _forged("The token's signature is not its issuer's.") from None
    if issuer.audience is None and "aud" in claims:
        # RFC 7519, 4.1.3: who is not named in it must refuse it; and nothing here says that we are.
        raise Unauthenticated(
            "The token is meant for somebody else.",
            hint="If it is meant for this server, name its `aud` as `audience` in jwt_issuers.",
        )
    return claims


def _proof(issuer: JwtIssuer, claims: dict[str, Any]) -> UserProof:
    user_id = _claim(claims, issuer.user_claim)
    license_id = issuer.license_id or _claim(claims, issuer.license_claim)
    groups = _groups(claims, issuer.group_claim)
    return UserProof(user_id, license_id, groups, _priority(claims, issuer.priority_claim))


def _groups(claims: dict[str, Any], name: str | None) -> tuple[str, ...]:
    """Return the groups that a claim names: a text, or a list of them; none if it is not there.

    Raises Unauthenticated for anything else: a group that is misread would open or close a reservation."""
    value = None if name is None else claims.get(name)
    if value is None:
        return ()
    try:
        groups = msgspec.convert([value] if isinstance(value, str) else value, _group_names)
    except msgspec.ValidationError:
        raise Unauthenticated(
            f"The token's claim {name!r} is no list of at most {GROUPS_MAX} groups of 1 to 256 characters.",
            hint="Let the issuer put fewer groups into it, or name another claim as group_claim.",
        ) from None
    return tuple(dict.fromkeys(groups))


def _priority(claims: dict[str, Any], name: str | None) -> int:
    """Return the priority that a claim gives, 0 if it is not there.

    Raises Unauthenticated for anything else."""
    value = 0 if name is None else claims.get(name, 0)
    try:
        return msgspec.convert(value, _in_line)
    except msgspec.ValidationError:
        raise Unauthenticated(
            f"The token's claim {name!r} is no whole number from 0 to {PRIORITY_MAX}.",
            hint="Let the issuer put one there, or name another claim as priority_claim.",
        ) from None


def _claim(claims: dict[str, Any], name: str) -> str:
    try:
        return msgspec.convert(claims.get(name), Name)
    except msgspec.ValidationError:
        raise Unauthenticated(
            f"The token's claim {name!r} is missing, or is not 1 to 256 characters of text."
        ) from None


def _forged(message: str) -> InvalidToken:
    return InvalidToken(message, code="token_forged")


class KeySet:
    """The keys of an issuer: fetched when needed, off the loop, by one caller for all."""

    def __init__(self, issuer: JwtIssuer, blocking: Blocking, now: Callable[[], float]) -> None:
        self._issuer = issuer
        self._blocking = blocking
        self._now = now
        self._keys: tuple[_Key, ...] = ()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> _Key | None:
        """Return the key of this id, or, without an id, the only one that fits.

        Old keys are answered with at once, and replaced behind the caller's back. Only an unknown key
        is worth waiting for. Raises SojournError if there are no keys at all.
        """
        key = self._pick(kid, algorithm)
        if key is None or self._age() > CACHE:
            fetch = self._refresh()
            if key is None and fetch is not None:
                await asyncio.shield(fetch)
                key = self._pick(kid, algorithm)
        if key is None and self._age() > STALE_MAX:
            raise SojournError(
                "The keys of the token's issuer cannot be fetched.",
                code="issuer_unavailable",
                hint="Try again in half a minute, or acquire with the license key.",
            )
        return key

    def _age(self) -> float:
        return self._now() - self._fetched_at

    def _pick(self, kid: str | None, algorithm: str) -> _Key | None:
        if self._age() > STALE_MAX:
            return None
        fitting = [
            key
            for key in self._keys
            if key.family == FAMILIES[algorithm]
            and key.algorithm in (None, algorithm)
            and (kid is None or key.kid == kid)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def _refresh(self) -> asyncio.Task[None] | None:
        """Return the fetch under way, or a new one if the last lies back far enough."""
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        if self._now() - self._tried_at < RETRY:
            return None
        self._tried_at = self._now()
        self._fetch = asyncio.get_running_loop().create_task(self._load())
        return self._fetch

    async def _load(self) -> None:
        try:
            keys = await self._blocking.run(2 * FETCH_TIMEOUT, _load, self._issuer)
        except Exception as fault:  # noqa: BLE001 - whatever it is, old keys go on serving
            log.warning("jwks_failed", issuer=self._issuer.issuer, error=str(fault))
            return
        self._keys, self._fetched_at = keys, self._now()


def _load(issuer: JwtIssuer) -> tuple[_Key, ...]:
    """Fetch or read an issuer's keys; those of kinds we do not use are left out."""
    text = _download(issuer.jwks_url) if issuer.jwks_url else _file(issuer.jwks_file or "")
    published = msgspec.json.decode(text)
    keys = [key for jwk in published["keys"] if (key := _public_key(jwk)) is not None]
    if not keys:
        raise ValueError("no key in the set can be used")
    return tuple(keys)


def _download(url: str) -> bytes:
    status, content = fetch(url, timeout=FETCH_TIMEOUT, limit=SET_MAX)
    if status != 200:
        raise ValueError(f"the key server answered {status}")
    return content


def _file(path: str) -> bytes:
    return Path(path).read_bytes()


def _public_key(jwk: Any) -> _Key | None:
    family = jwk.get("kty")
    signs = jwk.get("use", "sig") == "sig" and "verify" in jwk.get("key_ops", ["verify"])
    if family not in FAMILIES.values() or not signs or "d" in jwk:
        return None  # a shared secret, a key for something else, or one that should not be here
    try:
        key = jwt.PyJWK(jwk).key
    except jwt.PyJWTError:
        return None
    if family == "RSA" and key.key_size < RSA_BITS_MIN:
        return None
    return _Key(jwk.get("kid"), family, jwk.get("alg"), key)


def _check(issuer: JwtIssuer, *, dev: bool) -> None:
    """Refuse settings that could not work, or would not be safe."""
    where = f"jwt_issuers, {issuer.issuer!r}"
    if (issuer.jwks_url is None) == (issuer.jwks_file is None):
        raise SettingsError(f"{where}: name one of jwks_url and jwks_file.")
    if unusable := [name for name in issuer.algorithms if name not in FAMILIES]:
        raise SettingsError(
            f"{where}: {', '.join(unusable)} cannot be used.",
            hint=f"Signatures by key pairs can be: {', '.join(FAMILIES)}.",
        )
    if issuer.jwks_url is None:
        return
    try:
        target = target_of(issuer.jwks_url)
    except ValueError as fault:
        raise SettingsError(
            f"{where}: jwks_url cannot be used: {fault}.",
            hint="In a user and a password, write / as %2F, @ as %40 and : as %3A.",
        ) from None
    if not (dev or target.tls or _loopback(target.host)):
        raise SettingsError(
            f"{where}: jwks_url must be https.",
            hint="Whoever can change the answer on its way could sign tokens.",
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
