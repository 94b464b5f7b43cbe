"""The JSON of one session of Express's, `req.session` as it is stored, and what it is as a Session.

Values that nobody changes are copied as they stand, undecoded: JavaScript's numbers, the order of keys
and odd escapes come back as they were.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from sojourn.adapters.express.options import Options
from sojourn.data import check_json
from sojourn.device import Device, moved_to
from sojourn.errors import InvalidInput
from sojourn.service.sessions import LIFETIME_MAX, Complete
from sojourn.session import DATA_MAX, IMPERSONATION_MAX, Begin, Check, Save, Session
from sojourn.signing_in import keeps_label

SAFE_INTEGER = 2**53 - 1
"""Number.MAX_SAFE_INTEGER: beyond it JavaScript rounds without a word."""
USER_MAX = 512
"""Characters of a user's id, as the trigger sees it too: an index entry has a limit."""
RESERVED = frozenset(
    (
        *("cookie", "req", "id", "touch", "save", "reload", "destroy", "regenerate"),
        *("resetMaxAge", "constructor", "hasOwnProperty", "isPrototypeOf", "toString", "valueOf"),
        *("propertyIsEnumerable", "toLocaleString", "__proto__", "__defineGetter__"),
        *("__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
    )
)
"""Keys that express-session drops when it loads a session, for its own members have these names."""

SID_BYTES = 24  # as express-session's own
Parts = dict[str, Raw]
_parts = msgspec.json.Decoder(Parts)
_any = msgspec.json.Decoder(Any)
_device = msgspec.json.Decoder(Device)
_encode = msgspec.json.Encoder().encode
_SPACE = re.compile(r"[ \t\r\n]*")
_COLON = re.compile(r"[ \t\r\n]*:?[ \t\r\n]*")
_INTEGER = re.compile(rb"-?[0-9]+\Z")


class SessionFacts(Struct, frozen=True, kw_only=True):
    """What we know of a session beyond what Express stores; all of it may be unknown."""

    created_at: int | None = None
    authenticated_at: int | None = None
    expires_at: int | None = None  # the end that no use puts off
    level: int = 1
    device: str | None = None  # JSON
    impersonator: str | None = None
    label: str | None = None
    last_device: str | None = None  # JSON


def public_id(sid: str) -> str:
    """Derive the id by which a session is listed and ended. Nobody finds the sid from it."""
    digest = hashlib.sha256(sid.encode()).digest()
    return "exp_" + base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def read(text: str) -> Parts | None:
    """Split a session into its top-level keys; None if it is no JSON object, and so nobody's."""
    try:
        return _parts.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        pass
    try:
        return _read_leniently(text)
    except (ValueError, IndexError, RecursionError):
        return None


def _read_leniently(text: str) -> Parts:
    """Do the same where msgspec sees half a surrogate pair: JavaScript writes it, and reads it again."""
    scanner, parts = json.JSONDecoder(), Parts()
    position = _SPACE.match(text, 0).end()  # type: ignore[union-attr]  # it matches nothing too
    if text[position] != "{":
        raise ValueError(text[position])
    while text[position] != "}":
        start = _SPACE.match(text, position + 1).end()  # type: ignore[union-attr]  # likewise
        if text[start] == "}" and not parts:
            break
        key, position = scanner.raw_decode(text, start)
        start = _COLON.match(text, position).end()  # type: ignore[union-attr]  # likewise
        _, position = scanner.raw_decode(text, start)
        parts[key] = Raw(text[start:position].encode(errors="surrogatepass"))
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]  # likewise
        if text[position] not in ",}":
            raise ValueError(text[position])
    return parts


def write(parts: Mapping[str, Raw | Any]) -> str:
    """Join the keys again. Raises InvalidInput when there is too much of it."""
    text = _encode(parts)
    if len(text) > DATA_MAX:
        raise InvalidInput(f"A session holds at most {DATA_MAX} bytes; this would be {len(text)}.")
    return text.decode()


def value_of(raw: Raw) -> Any:
    try:
        return _any.decode(raw)
    except msgspec.MsgspecError:
        # Half a surrogate pair: JavaScript writes it, and nothing here can hold it.
        text = json.dumps(json.loads(bytes(raw)), ensure_ascii=False)
        return json.loads(text.encode(errors="replace"))


def data_of(parts: Parts) -> dict[str, Any]:
    return {key: value_of(raw) for key, raw in parts.items() if key != "cookie"}


def encoded(values: Mapping[str, Any]) -> Parts:
    """Encode what an application gives. Raises InvalidInput, naming the key, for what Express or
    JavaScript would lose, change or choke on."""
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidInput(f"A session's keys are strings; this one is {key!r}.")
        if key in RESERVED:
            raise InvalidInput(
                f"session[{key!r}] would be lost: in Express, req.session has a member of that name.",
                hint="Choose another key.",
            )
        check_json(key, [key, value])
        _check_javascript(key, value)
    return {key: Raw(_encode(value)) for key, value in values.items()}


def _check_javascript(key: str, value: Any) -> None:
    stack: list[Any] = [key, value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            if "\0" in each:
                raise InvalidInput(
                    f"session[{key!r}] holds the character U+0000, which PostgreSQL cannot read."
                )
        elif isinstance(each, dict):
            stack += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            stack += each
        elif isinstance(each, int) and abs(each) > SAFE_INTEGER:
            raise InvalidInput(
                f"session[{key!r}] holds {each}, which JavaScript would round.",
                hint="Store it as text.",
            )


def has_cookie(parts: Parts) -> bool:
    """Tell whether Express could load this session: without `cookie` it answers 500."""
    return "cookie" in parts and isinstance(value_of(parts["cookie"]), dict)


def idle_timeout(parts: Parts, options: Options) -> int:
    """Return, in ms, what Express puts the end off by at each use."""
    cookie = value_of(parts["cookie"]) if "cookie" in parts else None
    age = cookie.get("originalMaxAge") if isinstance(cookie, dict) else None
    usable = isinstance(age, int | float) and not isinstance(age, bool) and age >= 1
    return int(age) if usable and age is not None else options.ttl * 1000


def user_of(parts: Parts, path: Iterable[str]) -> str | None:
    """Return the user's id: text or a whole number, as the trigger reads it too."""
    first, *rest = path
    if first not in parts:
        return None
    raw = parts[first]
    if not rest and _INTEGER.match(bytes(raw)):
        return bytes(raw).decode()
    value = value_of(raw)
    for step in rest:
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    user = str(value)
    return user if 0 < len(user) <= USER_MAX and "\0" not in user else None


def with_user(parts: Parts, user_id: str, options: Options) -> Parts:
    """Sign a user in: put the id where Express looks for it, beside what else is there."""
    if not 0 < len(user_id) <= USER_MAX or "\0" in user_id:
        raise InvalidInput(f"A user's id has 1 to {USER_MAX} characters.")
    value: Any = user_id
    if options.user_number:
        if not _INTEGER.match(user_id.encode()) or abs(int(user_id)) > SAFE_INTEGER:
            raise InvalidInput(f"Express expects numbers as users' ids, and {user_id!r} is none.")
        value = int(user_id)
    first, *rest = options.user_path
    outer = value_of(parts[first]) if first in parts else None
    for step in reversed(rest):
        value = {step: value}
    if isinstance(outer, dict) and isinstance(value, dict):
        value = _under(outer, value)
    return parts | {first: Raw(_encode(value))}


def _under(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        below = old.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _under(below, value) if both else value  # type: ignore[arg-type]  # it is a dict
    return merged


def bounds(begin: Begin) -> tuple[int, int]:
    """Return how long a new session lives at most, and unused; in ms. Raises InvalidInput."""
    lifetime, idle = begin.timeouts.lifetime, begin.timeouts.idle_timeout
    if not (0 < lifetime <= LIFETIME_MAX and 0 < idle <= LIFETIME_MAX):
        raise InvalidInput("A session's timeouts lie between 1 ms and 400 days.")
    if begin.limit is not None and begin.limit < 1:
        raise InvalidInput("A user needs room for one session at least.")
    if begin.impersonator is not None:
        if begin.user_id is None:
            raise InvalidInput("Only a user can be impersonated.")
        lifetime = min(lifetime, IMPERSONATION_MAX)
    return lifetime, min(idle, lifetime)


def begun(begin: Begin, old: str | None, options: Options, *, cookie: dict[str, Any]) -> str:
    """Write a new session's JSON: the data that it inherits, its own, its user."""
    parts = {} if old is None else (read(old) or {})
    parts = {key: raw for key, raw in parts.items() if key != "cookie"} | encoded(begin.data)
    if begin.user_id is not None:
        parts = with_user(parts, begin.user_id, options)
    return write({"cookie": cookie, **parts})


def merged(text: str, save: Save, changes: Parts, cookie: dict[str, Any]) -> str:
    """Write a session's JSON with these changes, and with a `cookie` where there is none."""
    parts = read(text)
    assert parts is not None, "only what could be read is written again"
    for key in save.unset:
        if key != "cookie":
            parts.pop(key, None)
    if not has_cookie(parts):
        parts = {"cookie": Raw(_encode(cookie))} | {k: v for k, v in parts.items() if k != "cookie"}
    return write(parts | changes)


def device_json(device: Device | None) -> str | None:
    return None if device is None else _encode(device).decode()


def known_of(
    begin: Begin, old: Session | None, complete: Complete, *, now: int, lifetime: int
) -> SessionFacts:
    """Return what is known of a session that begins now, in the place of an old one or of none."""
    device = None if begin.device is None else complete(begin.device)
    return SessionFacts(
        created_at=now,
        authenticated_at=now,
        expires_at=now + lifetime,
        level=begin.level,
        device=device_json(device),
        impersonator=begin.impersonator,
        label=old.label if old is not None and keeps_label(begin, old) else None,
    )


def used_from(session: Session, check: Check, complete: Complete) -> Device | None:
    """Return what to note as what a session is used from, or None. Of one that Express began nothing is
    known before; else it is noted with its use."""
    if check.describe is None or not (session.touch_due or session.device is None):
        return None
    device = check.describe().tidy()
    return moved_to(session.last_device or session.device, complete(device) or device)


def seen_on(session: Session, device: Device) -> Session:
    """Show a session as it is once that is noted."""
    if session.device is None:
        return replace(session, device=device)
    return replace(session, last_device=device)


def revision(text: str) -> int:
    """Tell one content from another. Express does not count its writes, so this is no count either."""
    return zlib.crc32(text.encode(errors="replace"))


def seconds(instant: int) -> int:
    """Round an end up to whole seconds, as both stores of Express's do."""
    return -(-instant // 1000)


def session_of(
    session_id: str, text: str, *, expire: int, at: int, known: SessionFacts, options: Options
) -> Session | None:
    """Show what Express stores as a Session; None if it is no JSON object.

    Express knows one end, which use puts off. The last use follows from it, to the second.
    """
    parts = read(text)
    if parts is None:
        return None
    idle, cap = idle_timeout(parts, options), known.expires_at
    idle_at = expire if cap is None else min(expire, cap)
    last_used = at  # at the end of its life no use puts the end off any more
    if cap is None or idle_at < cap:
        last_used = max(known.created_at or 0, min(at, expire - idle))
    return Session(
        id=session_id,
        user_id=user_of(parts, options.user_path),
        data=data_of(parts),
        revision=revision(text),
        created_at=last_used if known.created_at is None else known.created_at,
        authenticated_at=known.authenticated_at or 0,
        last_used_at=last_used,
        idle_timeout=idle,
        idle_at=idle_at,
        expires_at=idle_at if cap is None else cap,
        device=None if known.device is None else _device.decode(known.device),
        level=known.level,
        impersonator=known.impersonator,
        label=known.label,
        last_device=None if known.last_device is None else _device.decode(known.last_device),
        at=at,
    )


def new_sid() -> str:
    return secrets.token_urlsafe(SID_BYTES)


def touched(session: Session, ahead: int) -> Session:
    """Show a session as a touch has left it, its end put off to `ahead`."""
    idle_at = max(session.idle_at, ahead)
    return replace(
        session,
        last_used_at=session.at,
        idle_at=idle_at,
        expires_at=max(session.expires_at, idle_at),
    )
