"""`sojourn adopt` from an older license backend: its MySQL table, and its keys on Redis."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from tests.e2e.cli_harness import make_license, run, run_json, serving
from tests.e2e.old_tables import executing

from sojourn.adopt.seats import client_of
from sojourn.lease import LeaseFilter
from sojourn.stores.open import open_store
from sojourn.testing.redis_server import redis_server

TABLE = """
CREATE TABLE user_sessions (id BIGINT PRIMARY KEY, user_id VARCHAR(255), session_token VARCHAR(2000),
    feature VARCHAR(64), license_cache_id BIGINT, status VARCHAR(20), last_heartbeat DATETIME,
    ended_at DATETIME)
"""
INSERT = (
    "INSERT INTO user_sessions VALUES (:id, :user, :token, :feature, 17, :status, :beat, :ended)"
)
JWT = "eyJ." + "a" * 1_500


def ago(seconds: float) -> str:
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)
    return at.isoformat(" ", "seconds")


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "user": f"user-{number}",
        "token": f"old-seat-token-{number:08}",
        "feature": "editor",
        "status": "active",
        "beat": ago(5),
        "ended": None,
    } | more


def rows() -> list[dict[str, Any]]:
    return [
        row(1),
        row(2, token=JWT),
        row(3, status="ended"),
        row(4, ended="2026-01-02 00:00:00"),
        row(5, beat=ago(86_400)),  # a ghost: it still counts as active
        row(6, feature="render"),
        row(7, user=None),
        row(8, status="paused"),
    ]


SKIPPED = {"inactive": 2, "silent": 1, "no_feature": 1, "no_user": 1, "unclear_status": 1}


@pytest.fixture
def licensed(tmp_path: Path) -> str:
    """A license of ours, on a server that has been stopped; its id."""
    with serving(tmp_path):
        return make_license(tmp_path, "editor=3")[0]


def seats(folder: Path) -> set[tuple[str, str]]:
    with closing(open_store(f"sqlite:///{folder}/sojourn-data/sojourn.db")) as store:
        leases, _ = store.leases(LeaseFilter(), limit=100)
        return {(lease.user_id, lease.client_id) for lease in leases}


def skipped(report: dict[str, Any]) -> dict[str, int]:
    return {reason: each["count"] for reason, each in report["skipped"].items()}


@pytest.fixture(params=["sqlite", "mariadb"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/old.db"
    url: str = request.getfixturevalue("mariadb_url")
    return url


def test_the_living_keep_their_seats(old_url: str, licensed: str, tmp_path: Path) -> None:
    """Theirs become leases, whatever the length of their token; the dead are told of and left behind."""
    with executing(old_url) as execute:
        execute(TABLE)
        execute(INSERT, rows())
    would = run_json(tmp_path, "adopt", "--from", old_url)
    assert (would["taken"], skipped(would)) == (2, SKIPPED)
    assert seats(tmp_path) == set()
    done = run_json(tmp_path, "adopt", "--from", old_url, "--apply", "--license", f"17={licensed}")
    assert (done["read"], done["taken"], skipped(done)) == (8, 2, SKIPPED)
    held = {("user-1", client_of("old-seat-token-00000001")), ("user-2", client_of(JWT))}
    assert seats(tmp_path) == held
    run_json(tmp_path, "adopt", "--from", old_url, "--apply")
    assert seats(tmp_path) == held  # again: the same


def test_a_full_pool_gives_no_seat_twice(licensed: str, tmp_path: Path) -> None:
    """More living holders than seats: as many are taken over as there are, the others are told of."""
    old = f"sqlite:///{tmp_path}/old.db"
    with executing(old) as execute:
        execute(TABLE)
        execute(INSERT, [row(number) for number in range(5)])
    for flags in ((), ("--apply",)):
        report = run_json(tmp_path, "adopt", "--from", old, "--license", licensed, *flags)
        assert (report["taken"], skipped(report)) == (3, {"no_seat": 2})


def test_a_license_that_is_not_there_is_named_with_those_that_are(
    licensed: str, tmp_path: Path
) -> None:
    old = f"sqlite:///{tmp_path}/old.db"
    with executing(old) as execute:
        execute(TABLE)
    done = run(tmp_path, "adopt", "--from", old, "--license", "lic_nope", code=4)
    assert "There is no license 'lic_nope'." in done.stderr
    assert licensed in done.stderr


def test_seats_on_redis(licensed: str, tmp_path: Path) -> None:
    """Session keys, as hashes or JSON; a counter that disagrees with its sessions is told with figures."""
    with redis_server() as server:
        import redis  # noqa: PLC0415  # of this test alone

        client: Any = redis.Redis.from_url(server.url)
        seat: dict[str, Any] = {"user_id": "ann", "feature": "editor", "status": "active"}
        seat["license_cache_id"] = 17
        client.hset("session:token-of-ann-0001", mapping=dict(seat, last_heartbeat=ago(3)))
        bob = seat | {"user_id": "bob", "last_heartbeat": ago(4)}
        client.set("session:token-of-bob-0001", json.dumps(bob))
        ghost = seat | {"user_id": "eve", "last_heartbeat": ago(9_000)}
        client.hset("session:token-of-eve-0001", mapping=dict(ghost))
        client.sadd("user_sessions:ann", "token-of-ann-0001")
        client.set("feature:editor:count", 7)
        report = run_json(tmp_path, "adopt", "--from", server.url, "--apply")
        assert (report["taken"], skipped(report)) == (2, {"silent": 1})
        assert seats(tmp_path) == {
            ("ann", client_of("token-of-ann-0001")),
            ("bob", client_of("token-of-bob-0001")),
        }
        (counter,) = report["counters"]
        assert (counter["said"], counter["sessions"]) == (7, 3)
        said = run(tmp_path, "adopt", "--from", server.url).stdout
        assert (
            "The counter feature:editor:count says 7, and 3 sessions of editor are there." in said
        )
        assert "token-of-ann" not in said


def test_a_user_path_is_proposed(tmp_path: Path) -> None:
    """Where every row lacks a user, the report says where in the data one may be."""
    old = f"sqlite:///{tmp_path}/old.db"
    sess = json.dumps({"cookie": {"originalMaxAge": 1}, "account": {"id": 42}, "cart": [1]})
    with executing(old) as execute:
        execute("CREATE TABLE session (sid TEXT PRIMARY KEY, sess TEXT, expire TEXT)")
        rows = [
            {"sid": f"a-session-of-express-{n}", "sess": sess, "at": ago(-9_000)} for n in range(3)
        ]
        execute("INSERT INTO session VALUES (:sid, :sess, :at)", rows)
    said = run(tmp_path, "adopt", "--from", old, "--data", str(tmp_path / "data")).stderr
    assert "--user-path account.id" in said
    report = run_json(tmp_path, "adopt", "--from", old, "--user-path", "account.id")
    assert report["taken"] == 3


def test_times_without_a_zone_are_in_the_databases(
    postgres_url: str, licensed: str, tmp_path: Path
) -> None:
    """On PostgreSQL, which says what that is: nine hours ahead here."""
    with executing(postgres_url) as execute:
        name = make_url(postgres_url).database
        execute(f"ALTER DATABASE \"{name}\" SET TimeZone TO 'Asia/Tokyo'")
        execute(TABLE.replace("DATETIME", "TIMESTAMP"))
        execute(INSERT, [row(1, beat=ago(5 - 9 * 3_600)), row(2, beat=ago(9_000 - 9 * 3_600))])
    report = run_json(tmp_path, "adopt", "--from", postgres_url, "--license", licensed)
    assert (report["taken"], skipped(report)) == (1, {"silent": 1})
    assert report["source"]["timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize("flags", [(), ("--apply",)])
def test_another_zone_is_asked_for(licensed: str, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Read as UTC, the living would beat in two hours, and who fell silent then would have a seat."""
    old = f"sqlite:///{tmp_path}/old.db"
    ahead = [row(n, beat=ago(5 - 7_200)) for n in (1, 2)]
    with executing(old) as execute:
        execute(TABLE)
        execute(INSERT, [*ahead, row(3, beat=ago(5)), row(4, beat=ago(90_000))])
    given = ("adopt", "--from", old, "--license", licensed, *flags)
    done = run(tmp_path, *given, code=2)
    assert "2 heartbeats of the living would lie in the future" in done.stderr
    assert "--timezone" in done.stderr
    assert seats(tmp_path) == set()
    report = run_json(tmp_path, *given, "--timezone", "Etc/GMT-2")
    assert (report["taken"], skipped(report)) == (2, {"silent": 2})
