"""Operators at the console: they prove themselves with an API key once, and are known by a session of
ours afterwards, of the user `operator:<key id>`.

What the browser gets is `<key id>.<session token>.<MAC>`. The MAC is made with one of the server's secrets
and with the key's hash, which only the ledger has: so an application that shares the secret, and may begin
or rotate any session, still makes no operator. The key itself is asked for at every request: revoked, it
opens nothing any more. It is in no cookie, in no session and in no log.

While sessions cannot be kept at all (their table is missing: what doctor is for), a key still opens the
console, by a pass that is good for a quarter of an hour and names the key alone.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

from sojourn.clock import MINUTE
from sojourn.device import Device
from sojourn.errors import StoreError
from sojourn.ledger import ApiKey
from sojourn.log import get_logger
from sojourn.service.keys import Keys, Permission
from sojourn.service.sessions import SessionService
from sojourn.session import PRESETS, Begin, Begun, Check, End, Gone, GoneReason, Session
from sojourn.token import TokenKind, is_whole

log = get_logger(__name__)

USER = "operator:"
TIMEOUTS = PRESETS["office-day"]
SESSIONS_MAX = 20
"""Of one key at the same time; then the oldest ends."""
UNTIL = "until-"
PASS_LIFETIME = 15 * MINUTE
LABEL = b"sojourn console v1"
KEY_REVOKED = "key_revoked"

COOKIE_MAX = 512
"""Characters of a cookie's value that may be ours."""
REASONS_MAX = 1_024
_COOKIE = re.compile(
    rf"key_[0-9A-Za-z]+\.({UNTIL}[0-9]{{1,15}}|{TokenKind.SESSION}[0-9A-Za-z]+)\.[0-9A-Za-z_-]{{43}}"
)


class Operator(Struct, frozen=True, kw_only=True):
    """Who is at the console. Without a session, by a pass."""

    key: ApiKey
    session: Session | None = None

    @property
    def actor(self) -> str:
        """Name who acts, for the audit trail."""
        return f"key:{self.key.id}"


class _Shown(Struct, frozen=True):
    """A session's token, from a cookie that is ours."""

    key: ApiKey
    proof: str


class SignedIn(Struct, frozen=True, kw_only=True):
    """`value` is for a cookie that lives for `lifetime` ms; never show or log it."""

    operator: Operator
    value: str
    lifetime: int


class Operators:
    """Synchronous; safe from several threads."""

    def __init__(self, keys: Keys, sessions: SessionService, secrets: Sequence[bytes]) -> None:
        self._keys = keys
        self._sessions = sessions
        self._secrets = tuple(secrets)

    def sign_in(
        self, presented: str, device: Device | None = None, *, before: str | None = None
    ) -> SignedIn:
        """Begin a session for whoever has this key, in place of the one that the browser had (`before`:
        its cookie), whoever's that was. Raises Unauthenticated and its like where it is none,
        Forbidden where its role may not look, and StoreError where the ledger does not answer."""
        key = self._keys.authenticate(presented)
        self._keys.require(key, Permission.READ)
        key_hash = self._keys.recognize(presented)
        begin = Begin(user_id=USER + key.id, timeouts=TIMEOUTS, device=device, limit=SESSIONS_MAX)
        try:
            found = self.admit(before) if before is not None else None
            (begun,) = self._sessions.begin([begin])
            if isinstance(found, Operator):
                self.sign_out(found)
        except StoreError as fault:
            log.warning("console_without_sessions", key_id=key.id, error=fault.message)
            return self._pass(key, key_hash)
        assert isinstance(begun, Begun)  # at the limit the oldest ends
        session = begun.session
        return SignedIn(
            operator=Operator(key=key, session=session),
            value=self._write(key.id, begun.token, key_hash),
            lifetime=session.expires_at - session.at,
        )

    def admit(self, value: str, *, touch: bool = True) -> Operator | Gone:
        """Say who sends this cookie. Raises StoreError where that cannot be known now. `touch`: somebody
        uses the console, rather than a page that is open."""
        return self.admit_all([value], touch=touch)[0]

    def admit_all(self, values: Sequence[str], *, touch: bool) -> list[Operator | Gone]:
        """Say who sends each of these cookies: one question for their keys, and one for the sessions of
        those whose MAC is right. Raises StoreError where that cannot be known now."""
        parts = [value.split(".") if is_cookie(value) else None for value in values]
        keys = self._keys.known_by_id(sorted({each[0] for each in parts if each}))
        found = [
            FORGED if each is None else self._judge(keys.get(each[0]), *each) for each in parts
        ]
        open_ = [i for i, each in enumerate(found) if isinstance(each, _Shown)]
        checks = [Check(each.proof, touch) for each in found if isinstance(each, _Shown)]
        sessions = dict(zip(open_, self._sessions.check(checks) if checks else (), strict=True))
        return [
            _opened(each.key, sessions[i]) if isinstance(each, _Shown) else each
            for i, each in enumerate(found)
        ]

    def _judge(
        self, known: tuple[ApiKey, bytes, int] | None, key_id: str, proof: str, mac: str
    ) -> Operator | Gone | _Shown:
        """Say who sends a cookie of these parts, as far as its key tells."""
        if known is None:
            return FORGED
        key, key_hash, now = known
        if not self._signed(f"{key_id}.{proof}", mac, key_hash):
            return FORGED
        if not key.valid(now):
            return _KEY_REVOKED
        if not proof.startswith(UNTIL):
            return _Shown(key, proof)
        late = now >= int(proof.removeprefix(UNTIL))
        return Gone(reason=GoneReason.EXPIRED) if late else Operator(key=key)

    def sign_out(self, operator: Operator) -> None:
        if operator.session is not None:
            ids = (operator.session.id,)
            self._sessions.end([End(ids=ids, reason="signed_out", actor=operator.actor)])

    def dismiss(self, key_id: str, *, actor: str) -> None:
        """End the sessions of a key that was revoked. They are refused already, whether this succeeds
        or not."""
        try:
            self._sessions.end([End(user_id=USER + key_id, reason=KEY_REVOKED, actor=actor)])
        except StoreError as fault:
            log.warning("console_sessions_left", key_id=key_id, error=fault.message)

    def _pass(self, key: ApiKey, key_hash: bytes) -> SignedIn:
        proof = f"{UNTIL}{self._keys.now() + PASS_LIFETIME}"
        value = self._write(key.id, proof, key_hash)
        return SignedIn(operator=Operator(key=key), value=value, lifetime=PASS_LIFETIME)

    def _write(self, key_id: str, proof: str, key_hash: bytes) -> str:
        text = f"{key_id}.{proof}"
        return f"{text}.{_mac(self._secrets[0], key_hash, text)}"

    def _signed(self, text: str, mac: str, key_hash: bytes) -> bool:
        return any(
            hmac.compare_digest(mac, _mac(secret, key_hash, text)) for secret in self._secrets
        )


class Reasons:
    """Remembers why cookies that were good once are not any more, of the last `REASONS_MAX`. One thread
    notes; any may ask."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Gone] = OrderedDict()

    def note(self, values: Sequence[str], found: Sequence[Operator | Gone]) -> None:
        for value, each in zip(values, found, strict=True):
            if isinstance(each, Gone) and each != FORGED:
                self._known[value] = each
        while len(self._known) > REASONS_MAX:
            self._known.popitem(last=False)

    def of(self, value: str) -> Gone:
        return self._known.get(value, FORGED)


FORGED = Gone(reason=GoneReason.FORGED)
_KEY_REVOKED = Gone(reason=GoneReason.ENDED, end_reason=KEY_REVOKED)


def is_cookie(value: str) -> bool:
    """Tell whether a cookie is written as ours are. Asks nobody."""
    found = _COOKIE.fullmatch(value) if len(value) <= COOKIE_MAX else None
    return found is not None and (found[1].startswith(UNTIL) or is_whole(found[1]))


def _opened(key: ApiKey, session: Session | Gone) -> Operator | Gone:
    if isinstance(session, Gone):
        return session
    return Operator(key=key, session=session) if session.user_id == USER + key.id else FORGED


def _mac(secret: bytes, key_hash: bytes, text: str) -> str:
    key = hmac.digest(secret, LABEL + key_hash, "sha256")
    mac = hmac.digest(key, text.encode(), "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
