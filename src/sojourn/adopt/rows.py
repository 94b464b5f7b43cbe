"""Moving in: the rows of another session table become sessions of ours, so that nobody is signed out.

Pure: rows come in as mappings, and what becomes of each is counted. A row has `name` (what a report may
call it), `token`, and, as far as the table has them, `user data created used expires ip agent`, and what says
whether the session is over: `active` and `over`, lists of values of which one false, or one true, says so;
`status`, a word.
Whatever its kind, a row is taken, or is there already, or is skipped for a reason; never lost.

A session keeps its times and ends when the old system would have ended it. When its user proved who
they are is not known unless the table says when it began; so that nobody passes for freshly
authenticated because of the move, that is then as long ago as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import chain, islice
from math import ceil, isfinite, isnan
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field

from sojourn.adopt.formats import DECODERS, Kind, Reason, Stored, Unreadable
from sojourn.clock import MINUTE
from sojourn.data import check_json
from sojourn.device import Device
from sojourn.ending import Ending, ending_of
from sojourn.errors import InvalidInput
from sojourn.service.adopted import public_id
from sojourn.service.sessions import LIFETIME_MAX, is_foreign
from sojourn.session import DATA_MAX, IDLE_TIMEOUT, LIFETIME, Session
from sojourn.text import hidden, plain
from sojourn.token import hash_token

TOKEN_MIN = 16
"""Characters; what is shorter can be guessed."""
USER_MAX = 256
AGENT_MAX = 512
EXAMPLES = 5
USER_WORDS = frozenset({"userid", "uid", "user", "accountid", "memberid", "username", "sub"})
PROPOSED_FROM, DEPTH_MAX, KEYS_MAX = 200, 4, 100
"""Rows, and of each so deep and so many keys, in which a user's id is looked for."""
FAR = datetime(9999, 12, 31, tzinfo=UTC)
QUARTER = 15 * MINUTE  # time zones lie this far apart
TOLERANCE = 2_000  # ms
UNITS = (1e11, 1_000), (1e14, 1), (1e17, 1e-3), (float("inf"), 1e-6)
"""Numbers up to so many are instants in s, ms, µs or ns: times so many, ms."""


class Terms(Struct, frozen=True, kw_only=True):
    """How rows are read.

    Attributes:
        zone: of times that name none.
        user_path: where in the data the user is; None: where this kind of system keeps it.
        secrets: what Django signs with, one after the other.
        prefix: of Flask-Session's keys.
        visitors: take sessions without a user too.
        rolling: the old system put a session's end off with every use: that becomes the idle timeout,
            and the session lives for so long from now, in ms.
    """

    kind: Kind
    zone: tzinfo = UTC
    user_path: tuple[str, ...] | None = None
    secrets: tuple[str, ...] = ()
    prefix: str = "session:"
    visitors: bool = False
    rolling: int | None = None


class Adopted(Struct, frozen=True, kw_only=True):
    """A session of ours, made of a row; `remarks` say what could not be kept as it was."""

    name: str
    token_hash: bytes
    session: Session
    remarks: tuple[str, ...] = ()


class Count(Struct, kw_only=True):
    """How many rows, and the names of a few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)


class Tally(Struct, kw_only=True):
    """What became of the rows: read = taken + already_there + all that were skipped."""

    read: int = 0
    taken: int = 0
    already_there: int = 0
    skipped: dict[str, Count] = field(default_factory=dict)
    remarks: dict[str, Count] = field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        self.skipped.setdefault(reason, Count()).add(name)


Pairs = Sequence[tuple[bytes, Session]]


class SessionTarget(Protocol):
    """Where sessions are written: by token hash, each in full."""

    def now(self) -> int:
        """Return the store's now."""

    def put(self, pairs: Pairs, *, write: bool) -> list[bool | None]:
        """Write sessions that are not there yet, all in one step; or, not writing, say what would be.

        True: written. False: there already, live or ended. None: its user has been signed out here
        since it began, and it would be dead at once. Raises InvalidInput for what cannot be stored.
        """


def adopt(
    batches: Iterable[Sequence[Mapping[str, Any]]],
    target: SessionTarget,
    terms: Terms,
    tally: Tally,
    *,
    write: bool,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Take sessions over, a batch in each step. Safe to end at any point, and to run again."""
    for rows in batches:
        now = target.now()
        batch: dict[bytes, Adopted] = {}
        for row in rows:
            tally.read += 1
            try:
                each = read(row, terms, now)
            except Unreadable as error:
                tally.skip(error.reason, str(row["name"]))
                continue
            if each.token_hash in batch:
                tally.already_there += 1
            else:
                batch[each.token_hash] = each
        _put(list(batch.values()), target, tally, write=write)
        progress()


def _put(batch: Sequence[Adopted], target: SessionTarget, tally: Tally, *, write: bool) -> None:
    if not batch:
        return
    try:
        outcomes = target.put([(each.token_hash, each.session) for each in batch], write=write)
    except InvalidInput:  # one of them: the others are not to suffer for it
        if len(batch) == 1:
            tally.skip(Reason.REFUSED, batch[0].name)
        else:
            for each in batch:
                _put([each], target, tally, write=write)
        return
    for each, outcome in zip(batch, outcomes, strict=True):
        if outcome is None:
            tally.skip(Reason.SIGNED_OUT, each.name)
        elif outcome:
            tally.taken += 1
            for remark in each.remarks:
                tally.remarks.setdefault(remark, Count()).add(each.name)
        else:
            tally.already_there += 1


def read(row: Mapping[str, Any], terms: Terms, now: int) -> Adopted:
    """Make a session of a row. Raises Unreadable."""
    require_live(row)
    expires = instant(row.get("expires"), terms.zone, Reason.BAD_DATE)
    if expires is not None and expires <= now:
        raise Unreadable(Reason.EXPIRED)
    token = _token(row.get("token"), terms)
    stored = DECODERS[terms.kind](row.get("data"), terms.secrets)
    remarks: list[str] = []
    user_id = _user(row, stored, terms)
    data = _plain(stored.data, remarks)
    token_hash = hash_token(token)
    times: dict[str, Any] = _times(row, stored, expires, terms=terms, now=now, remarks=remarks)
    session = Session(
        id=public_id(token_hash),
        user_id=user_id,
        data=data,
        revision=1,
        device=_device(row),
        **times,
    )
    return Adopted(name=row["name"], token_hash=token_hash, session=session, remarks=tuple(remarks))


def _token(value: Any, terms: Terms) -> str:
    if value is None or value == "":
        raise Unreadable(Reason.NO_TOKEN)
    token = str(value)
    if terms.kind is Kind.FLASK:
        if not token.startswith(terms.prefix):
            raise Unreadable(Reason.OTHER_PREFIX)
        token = token.removeprefix(terms.prefix)
    if len(token) < TOKEN_MIN:
        raise Unreadable(Reason.SHORT_TOKEN)
    if not is_foreign(token):
        raise Unreadable(Reason.BAD_TOKEN)
    return token


def _user(row: Mapping[str, Any], stored: Stored, terms: Terms) -> str | None:
    value = row.get("user")
    for path in stored.user_paths if terms.user_path is None else (terms.user_path,):
        found: Any = stored.data
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        value = found if value is None else value
    if value is None or value == "":
        if terms.visitors and terms.kind is not Kind.USER_SESSIONS:
            return None
        raise Unreadable(Reason.NO_USER)
    return user_of(value)


def user_of(value: Any) -> str:
    """Return the id that a value is. Raises Unreadable for what is no plain one."""
    text = str(value)
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    if not plain or len(text) > USER_MAX or hidden(text):
        raise Unreadable(Reason.BAD_USER)
    return text


def _plain(data: dict[Any, Any], remarks: list[str]) -> dict[str, Any]:
    """Return data as JSON holds it, and remark on what turned into something else."""
    try:
        try:
            check_json("", data)
        except InvalidInput:
            data = msgspec.json.decode(msgspec.json.encode(data), type=dict[str, Any])
            check_json("", data)
            remarks.append("data_converted")
        if len(msgspec.json.encode(data)) > DATA_MAX:
            raise Unreadable(Reason.TOO_LARGE)
    except (InvalidInput, TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise Unreadable(Reason.BAD_DATA) from None
    return data


def _device(row: Mapping[str, Any]) -> Device | None:
    def text(name: str, most: int) -> str | None:
        value = row.get(name)
        return None if value is None else plain(str(value), most=most)

    ip = text("ip", 64)  # PostgreSQL's inet names the network too
    ip = None if ip is None else ip.removesuffix("/32").removesuffix("/128")
    agent = text("agent", AGENT_MAX)
    return None if ip is None and agent is None else Device(ip=ip, user_agent=agent)


def _times(
    row: Mapping[str, Any],
    stored: Stored,
    expires: int | None,
    *,
    terms: Terms,
    now: int,
    remarks: list[str],
) -> dict[str, int]:
    if expires is None:
        remarks.append("no_expiry")
        expires = now + LIFETIME
    elif expires > now + LIFETIME_MAX:
        remarks.append("expiry_capped")
        expires = now + LIFETIME_MAX
    begun = _past(row.get("created"), terms, now, remarks)
    used = _past(row.get("used"), terms, now, remarks) or stored.used_at
    if used is None and stored.max_age is not None:  # put off with every use
        used = expires - stored.max_age
    used = min(now, max(used if used is not None else begun or now, begun or 0, 0))
    left = min(max(expires - used, 1), LIFETIME_MAX)
    idle_at, idle_timeout = expires, left
    if terms.rolling is not None:
        idle_timeout = min(stored.max_age or (left if used < now else IDLE_TIMEOUT), LIFETIME_MAX)
        expires = max(expires, now + terms.rolling)
    return {
        "created_at": used if begun is None else begun,
        "authenticated_at": 0 if begun is None else begun,
        "last_used_at": used,
        "idle_timeout": max(idle_timeout, MINUTE),
        "idle_at": idle_at,
        "expires_at": expires,
    }


def _past(value: Any, terms: Terms, now: int, remarks: list[str]) -> int | None:
    """Parse a timestamp in the past. An implausible one ends no session."""
    try:
        at = instant(value, terms.zone, Reason.BAD_DATE)
        if (
            at is None or 0 <= at <= now + 24 * 60 * MINUTE
        ):  # or a clock or a zone that is a bit off
            return None if at is None else min(at, now)
    except Unreadable:
        pass
    if "date_ignored" not in remarks:
        remarks.append("date_ignored")
    return None


def require_live(row: Mapping[str, Any]) -> None:
    """Raise Unreadable for what the old system has ended: nobody's ended session lives again by a move."""
    ending = ending_of(row)
    if ending is Ending.OVER:
        raise Unreadable(Reason.INACTIVE)
    if ending is Ending.UNCLEAR:  # it may mean either: its row is told of, not revived
        raise Unreadable(Reason.UNCLEAR)


def instant(value: Any, zone: tzinfo, reason: Reason) -> int | None:
    """Read an instant, whatever a database or an application writes for one."""
    if value is None or value == "" or str(value).startswith("0000-00-00"):  # MySQL's nothing
        return None
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return _dated(text, zone, reason)
    if isnan(number):
        raise Unreadable(reason)
    if not isfinite(number):
        return _ms(FAR) if number > 0 else 0
    unit = next(unit for most, unit in UNITS if abs(number) < most)
    return max(min(int(number * unit), _ms(FAR)), -1)


def _dated(text: str, zone: tzinfo, reason: Reason) -> int:
    if text.endswith(" BC"):
        return 0
    year, _, rest = text.removeprefix("+").partition("-")
    if rest and year.isdigit() and len(year) > 4:
        return _ms(FAR)
    try:
        when = datetime.fromisoformat(text)
        return _ms(when if when.tzinfo is not None else when.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise Unreadable(reason) from None


def _ms(when: datetime) -> int:
    return ceil((when - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def likely_user_paths(
    batches: Iterable[Sequence[Mapping[str, Any]]], kind: Kind, *, most: int = 3
) -> list[str]:
    """Name the places in the data of some rows that look like a user's id, the most frequent first."""
    votes: dict[str, int] = {}
    for row in islice(chain.from_iterable(batches), PROPOSED_FROM):
        try:
            data = DECODERS[kind](row.get("data"), ()).data
        except Unreadable:
            continue
        for path in _user_like(data, ()):
            votes[path] = votes.get(path, 0) + 1
    return sorted(votes, key=lambda path: (-votes[path], len(path)))[:most]


def _user_like(data: Any, path: tuple[str, ...]) -> Iterable[str]:
    if not isinstance(data, dict) or len(path) >= DEPTH_MAX:
        return
    for key, value in list(data.items())[:KEYS_MAX]:
        here = (*path, str(key))
        word = str(key).lower().replace("_", "").replace("-", "")
        inside = any(name in each.lower() for each in path for name in ("user", "account", "auth"))
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            if word in USER_WORDS or (inside and word in ("id", "sub", "email", "name")):
                yield ".".join(here)
        else:
            yield from _user_like(value, here)


def zone_of(rows: Iterable[Mapping[str, Any]], assumed: tzinfo) -> tuple[tzinfo, int]:
    """Find the time zone in which connect-pg-simple wrote its column `expire`, which names none.

    The cookie inside a row knows the same instant in UTC, until the first touch puts the column off.
    So a distance of some quarters of an hour, in many rows, is that of two zones. Returns the zone,
    and how many rows speak for it; `assumed` and 0 if none tells.
    """
    votes: dict[int, int] = {}
    offset = timedelta(0)
    seen = 0
    for row in rows:
        try:
            naive = datetime.fromisoformat(str(row.get("expires")))
            cookie = msgspec.json.decode(row["data"])["cookie"]["expires"]
            told = instant(cookie, UTC, Reason.BAD_DATE)
            away = _ms(naive.replace(tzinfo=assumed)) - ceil((told or 0) / 1000) * 1000
        except (ValueError, TypeError, KeyError, OverflowError, Unreadable, msgspec.MsgspecError):
            continue
        seen += 1
        steps = round(away / QUARTER)
        if told is not None and abs(away - steps * QUARTER) <= TOLERANCE and abs(steps) <= 4 * 26:
            votes[steps] = votes.get(steps, 0) + 1
            offset = assumed.utcoffset(naive) or timedelta(0)
    if not votes:
        return assumed, 0
    steps, count = max(votes.items(), key=lambda each: each[1])
    # Touches fall on a quarter of an hour by chance, too: once in two hundred.
    if count * 20 < seen:
        return assumed, 0
    shifted = offset + timedelta(milliseconds=steps * QUARTER)
    if steps == 0 or abs(shifted) >= timedelta(hours=24):
        return assumed, count
    return timezone(shifted), count
