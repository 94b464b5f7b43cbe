"""Rows of other session systems become sessions, or are told why not."""

from __future__ import annotations

import pickle
import secrets
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from sojourn.adopt.formats import Kind, Reason, Unreadable
from sojourn.adopt.rows import Pairs, Tally, Terms, adopt, read, zone_of
from sojourn.clock import DAY, HOUR
from sojourn.errors import InvalidInput
from sojourn.service.sessions import LIFETIME_MAX
from sojourn.session import DATA_MAX, LIFETIME, Session
from sojourn.stores.sql.foreign import SHAPES
from sojourn.token import hash_token

NOW = 1_800_000_000_000
TOKEN = "a-token-of-the-old-system"


class Kept:
    """A target in memory. Refuses users called `poison`."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}

    def now(self) -> int:
        return NOW

    def put(self, pairs: Pairs, *, write: bool) -> list[bool | None]:
        if any(session.user_id == "poison" for _, session in pairs):
            raise InvalidInput("no")
        new: list[bool | None] = [h not in self.sessions for h, _ in pairs]
        if write:
            self.sessions |= {h: s for h, s in pairs if h not in self.sessions}
        return new


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def row(**values: Any) -> dict[str, Any]:
    full = {"name": "id 1", "token": TOKEN, "user": "ann", "expires": iso(NOW + DAY)}
    return full | values


def one(row: Mapping[str, Any], kind: Kind = Kind.USER_SESSIONS, **terms: Any) -> Session:
    return read(row, Terms(kind=kind, **terms), NOW).session


def why(row: Mapping[str, Any], kind: Kind = Kind.USER_SESSIONS, **terms: Any) -> Reason:
    with pytest.raises(Unreadable) as caught:
        one(row, kind, **terms)
    return caught.value.reason


def test_the_kinds_are_those_whose_tables_are_known() -> None:
    assert set(SHAPES) == {kind.value for kind in Kind}


def test_times_token_and_device_are_kept() -> None:
    """A row becomes a session that began, was used and ends when the old one did."""
    adopted = read(
        row(
            created=iso(NOW - 3 * DAY),
            used=iso(NOW - HOUR),
            ip="10.0.0.7/32",
            agent="Firefox\0\n",
            active=[True],
        ),
        Terms(kind=Kind.USER_SESSIONS),
        NOW,
    )
    session = adopted.session
    assert adopted.token_hash == hash_token(TOKEN)
    assert (session.created_at, session.last_used_at) == (NOW - 3 * DAY, NOW - HOUR)
    assert (session.expires_at, session.idle_at) == (NOW + DAY, NOW + DAY)
    assert session.authenticated_at == session.created_at
    assert session.device is not None
    assert (session.device.ip, session.device.user_agent) == ("10.0.0.7", "Firefox")


def test_the_id_follows_from_the_token() -> None:
    """Adopting twice makes the same session, and its id does not give the token away."""
    assert one(row()).id == one(row(user="eve")).id != one(row(token=TOKEN + "x")).id
    assert one(row()).id.startswith("ses_")
    assert TOKEN not in one(row()).id


def test_nobody_is_freshly_authenticated_by_the_move() -> None:
    assert one(row()).authenticated_at == 0


@pytest.mark.parametrize(
    "value",
    [
        NOW // 1000,
        NOW,
        NOW * 1000,
        NOW * 1_000_000,
        str(NOW // 1000),
        NOW / 1000,
        "2027-01-15T08:00:00Z",
        "2027-01-15 08:00:00+00",
        "2027-01-15 08:00:00",
        "2027-01-15 10:00:00.000+02:00",
    ],
)
def test_instants_in_any_writing(value: Any) -> None:
    assert one(row(created=value)).created_at == NOW


def test_a_zone_is_that_of_times_that_name_none() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    assert one(row(created="2027-01-15 17:00:00"), zone=tokyo).created_at == NOW


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", Reason.BAD_DATE),
        ("nan", Reason.BAD_DATE),
        ("2027-99-99 00:00:00", Reason.BAD_DATE),
        ("-infinity", Reason.EXPIRED),
        ("0044-03-15 00:00:00 BC", Reason.EXPIRED),
        ("0001-01-01 00:00:00", Reason.EXPIRED),
        (-5, Reason.EXPIRED),
        (0, Reason.EXPIRED),
    ],
)
def test_ends_that_cannot_be(value: Any, reason: Reason) -> None:
    assert why(row(expires=value)) is reason


@pytest.mark.parametrize("value", ["infinity", "20000-01-01 00:00:00", "9999-12-31", 1e300])
def test_an_end_too_far_away_is_brought_near(value: Any) -> None:
    adopted = read(row(expires=value), Terms(kind=Kind.USER_SESSIONS), NOW)
    assert adopted.session.expires_at == NOW + LIFETIME_MAX
    assert adopted.remarks == ("expiry_capped",)


@pytest.mark.parametrize("value", [None, "", "0000-00-00 00:00:00"])
def test_no_end(value: Any) -> None:
    adopted = read(row(expires=value), Terms(kind=Kind.USER_SESSIONS), NOW)
    assert adopted.session.expires_at == NOW + LIFETIME
    assert adopted.remarks == ("no_expiry",)


def test_a_beginning_that_cannot_be_signs_nobody_out() -> None:
    for value in ("garbage", "20000-01-01", -1):
        adopted = read(row(created=value, used=value), Terms(kind=Kind.USER_SESSIONS), NOW)
        assert adopted.session.created_at == NOW
        assert adopted.remarks == ("date_ignored",)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"active": [False]}, Reason.INACTIVE),
        ({"active": [True, 0]}, Reason.INACTIVE),
        ({"active": ["f"]}, Reason.INACTIVE),
        ({"active": [b"\0"]}, Reason.INACTIVE),
        ({"over": [None, "2026-01-02 00:00:00"]}, Reason.INACTIVE),
        ({"over": [1_700_000_000]}, Reason.INACTIVE),
        ({"over": ["true"]}, Reason.INACTIVE),
        ({"over": [b"\1"]}, Reason.INACTIVE),
        ({"status": "ended"}, Reason.INACTIVE),
        ({"status": " Logged-Out"}, Reason.INACTIVE),
        ({"status": 0}, Reason.INACTIVE),
        ({"status": "pending"}, Reason.UNCLEAR),
        ({"token": None}, Reason.NO_TOKEN),
        ({"token": "short"}, Reason.SHORT_TOKEN),
        ({"token": "x" * 8_193}, Reason.BAD_TOKEN),
        ({"token": "with\0a-nothing-inside"}, Reason.BAD_TOKEN),
        ({"token": "half-\udcff-a-character"}, Reason.BAD_TOKEN),
        ({"token": "sjs_" + "0" * 49}, Reason.BAD_TOKEN),
        ({"user": None}, Reason.NO_USER),
        ({"user": ""}, Reason.NO_USER),
        ({"user": "u" * 257}, Reason.BAD_USER),
        ({"user": "a\0b"}, Reason.BAD_USER),
        ({"user": True}, Reason.BAD_USER),
        ({"user": 1.5}, Reason.BAD_USER),
    ],
)
def test_rows_that_are_not_taken(values: dict[str, Any], reason: Reason) -> None:
    assert why(row(**values)) is reason


def express(expires_in: int = DAY, user: Any = "7", **more: Any) -> bytes:
    cookie = {"originalMaxAge": 2 * DAY, "expires": iso(NOW + expires_in), "path": "/"}
    return msgspec.json.encode({"cookie": cookie, "passport": {"user": user}, **more})


def test_express() -> None:
    """The user is Passport's, the cookie's options are not data, and maxAge tells the last use."""
    session = one(row(user=None, data=express(cart=[1])), Kind.CONNECT_PG)
    assert (session.user_id, session.data) == ("7", {"passport": {"user": "7"}, "cart": [1]})
    assert (session.last_used_at, session.expires_at) == (NOW - DAY, NOW + DAY)
    assert one(row(user=None, data=express(user=7)), Kind.CONNECT_PG).user_id == "7"
    deep = express(account={"who": {"id": "bob"}})
    path = ("account", "who", "id")
    assert one(row(user=None, data=deep), Kind.CONNECT_PG, user_path=path).user_id == "bob"


def test_rolling_ends_become_idle_timeouts() -> None:
    session = one(row(user=None, data=express()), Kind.CONNECT_PG, rolling=LIFETIME)
    assert (session.idle_at, session.idle_timeout) == (NOW + DAY, 2 * DAY)
    assert session.expires_at == NOW + LIFETIME


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, Reason.BAD_DATA),
        ("", Reason.BAD_DATA),
        ("{", Reason.BAD_DATA),
        ("[1]", Reason.BAD_DATA),
        ('{"a":"\\ud800"}', Reason.BAD_DATA),
        ("[" * 100_000, Reason.BAD_DATA),
        ('{"a":' * 100_000, Reason.BAD_DATA),
        ('{"a":"' + "x" * DATA_MAX + '"}', Reason.TOO_LARGE),
        ("{}", Reason.NO_USER),
        (express(user="\0"), Reason.BAD_USER),
        (express(user={"id": 1}), Reason.BAD_USER),
        (express(user=None), Reason.NO_USER),
    ],
)
def test_damaged_express_rows(data: Any, reason: Reason) -> None:
    assert why(row(user=None, data=data), Kind.CONNECT_PG) is reason


def test_data_with_a_null_character_is_kept() -> None:
    session = one(row(user=None, data=express(note="a\0b")), Kind.CONNECT_PG)
    assert session.data["note"] == "a\0b"


def test_visitors_are_taken_if_asked() -> None:
    assert one(row(user=None, data="{}"), Kind.CONNECT_PG, visitors=True).user_id is None
    assert why(row(user=None), visitors=True) is Reason.NO_USER


def test_flask_values() -> None:
    """msgpack or JSON; what JSON has no word for becomes text, and is remarked on; never pickle."""
    terms = Terms(kind=Kind.FLASK)
    flask = row(token="session:" + TOKEN, user=None)
    values = {"_permanent": True, "_user_id": "5", "at": datetime(2026, 1, 1, tzinfo=UTC)}
    adopted = read(flask | {"data": msgspec.msgpack.encode(values)}, terms, NOW)
    assert (adopted.session.user_id, adopted.token_hash) == ("5", hash_token(TOKEN))
    assert adopted.session.data["at"] == "2026-01-01T00:00:00Z"
    assert adopted.remarks == ("data_converted",)
    assert one(flask | {"data": b'{"_user_id":"5"}'}, Kind.FLASK).user_id == "5"
    for data, reason in (
        (pickle.dumps(values), Reason.PICKLED),
        (b"\xc1", Reason.BAD_DATA),
        (msgspec.msgpack.encode([1]), Reason.BAD_DATA),
        (b"\x91" * 100_000, Reason.BAD_DATA),
    ):
        assert why(flask | {"data": data}, Kind.FLASK) is reason
    assert why(row(token="other:" + TOKEN, data=b"{}"), Kind.FLASK) is Reason.OTHER_PREFIX


def test_damaged_django_rows() -> None:
    from sojourn.adopt.formats import _base64, _signed  # noqa: PLC0415 - inside

    assert not _signed("a:b", "c", ["secret"])
    assert _base64("YQ") == b"a"
    for data in ("", "garbage", "a:b:c", "é:é:é", ":::", "." + "A" * 100 + ":1:x"):
        reason = why(row(user=None, data=data), Kind.DJANGO, secrets=("s",))
        assert reason in (Reason.BAD_SIGNATURE, Reason.BAD_DATA)


def test_django_bombs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What inflates without an end is too large, and is not inflated to see by how much."""
    from base64 import urlsafe_b64encode  # noqa: PLC0415 - for this alone

    monkeypatch.setattr("sojourn.adopt.formats._signed", lambda *_: True)
    bomb = urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode().rstrip("=")
    assert why(row(user=None, data=f".{bomb}:1:x"), Kind.DJANGO) is Reason.TOO_LARGE


def test_every_row_is_accounted_for() -> None:
    """read = taken + already there + skipped, also where the store refuses one row of a batch."""
    rows = [row(name=f"id {i}", token=secrets.token_hex(16)) for i in range(10)]
    rows += [rows[0], row(name="id p", token="poison-" * 4, user="poison"), row(user=None)]
    target, tally = Kept(), Tally()
    adopt([rows], target, Terms(kind=Kind.USER_SESSIONS), tally, write=True)
    skipped = {reason: each.count for reason, each in tally.skipped.items()}
    assert (tally.read, tally.taken, tally.already_there) == (13, 10, 1)
    assert skipped == {"no_user": 1, "refused": 1}
    assert tally.skipped["refused"].examples == ["id p"]
    again = Tally()
    adopt([rows], target, Terms(kind=Kind.USER_SESSIONS), again, write=True)
    assert (again.taken, again.already_there, len(target.sessions)) == (0, 11, 10)


@pytest.mark.parametrize("hours", [-8, 0, 5.75, 9])
def test_the_writers_zone_is_told_by_the_rows(hours: float) -> None:
    """connect-pg-simple's column names no zone, but most rows know the instant in their cookie too."""
    written = timezone(timedelta(hours=hours))
    rows: list[dict[str, Any]] = []
    for i in range(40):
        expires = NOW + DAY + i * 61_337
        shown = expires + (i % 3) * 77_000  # some were touched since
        naive = datetime.fromtimestamp(-(-shown // 1000), written).replace(tzinfo=None)
        rows.append({"expires": str(naive), "data": express(DAY + i * 61_337)})
    rows += [{"expires": "x", "data": "{}"}, {"expires": None, "data": None}]
    zone, votes = zone_of(rows, UTC)
    assert votes >= 14
    assert zone.utcoffset(datetime(2026, 1, 1)) == timedelta(hours=hours)  # noqa: DTZ001 - naive


def test_no_row_tells_the_zone() -> None:
    tokyo = ZoneInfo("Asia/Tokyo")
    assert zone_of([{"expires": "2027-01-01 00:00:00", "data": "{}"}], tokyo) == (tokyo, 0)
