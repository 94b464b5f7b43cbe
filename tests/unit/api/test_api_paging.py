"""Lists end their pages at a size, and read no more than they need, whatever was put into the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.api_harness import ADMIN, Answer, Api, World, api, served

from sojourn.api.wire_doctor import EVIDENCE_CHARACTERS, EVIDENCE_MAX, check_body
from sojourn.client.sessions import RemoteSessions
from sojourn.doctor.doctor import Examined
from sojourn.doctor.runs import Latest
from sojourn.finding import Area, Check, failure
from sojourn.ledger import Role
from sojourn.session import AtLimit, Begin, Begun
from sojourn.wire import paging
from sojourn.wire.paging import page_of

SMALL = 20_000
"""Bytes of a page, so that few rows fill one."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(paging, "PAGE_BYTES", SMALL)
    with api(capacity=200) as world:
        yield world


class Rows:
    """Numbers, each of which takes so many bytes; notes what was read of them."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size, self.read_of = count, size, 0

    def read(self, after: int, limit: int) -> list[int]:
        found = list(range(after + 1, min(after + limit, self.count) + 1))
        self.read_of += len(found)
        return found

    def page(self, after: int, limit: int) -> Any:
        return page_of(
            self.read,
            lambda row: {"n": row, "x": "y" * self.size},
            after=after,
            limit=limit,
            cursor=lambda row: row,
            name=str,
        )


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100, 1_000])
@pytest.mark.parametrize("size", [1, 1_000, 7_000, 30_000])
@pytest.mark.parametrize("limit", [1, 16, 50, 1_000])
def test_pages_tell_every_row_once(
    count: int, size: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within rows and bytes, but for a single row that is larger than a page."""
    monkeypatch.setattr(paging, "PAGE_BYTES", SMALL)
    rows = Rows(count, size)
    after, pages = 0, 0
    while True:
        rows.read_of = 0
        page = rows.page(after, limit)
        assert len(page.items) <= limit
        assert sum(map(len, page.items)) <= SMALL or len(page.items) == 1
        assert rows.read_of <= len(page.items) + paging.READ_FIRST
        pages += 1
        after += len(page.items)
        if page.next is None:
            break
        assert page.items
        assert page.next == str(after)
        assert pages <= count + 1
    assert after == count


def begin(world: World, count: int, *, size: int = 3_000, user: str = "ann") -> list[str]:
    """Begin sessions that hold so many bytes each; return their ids, the oldest first."""
    ids = []
    for n in range(count):
        (begun,) = world.services.sessions.begin(
            [Begin(user_id=user, data={"k": "x" * size, "n": n})]
        )
        assert isinstance(begun, Begun)
        ids.append(begun.session.id)
        world.clock.advance(milliseconds=1)
    return ids


def through(world: Api, path: str, key: str, bound: int = SMALL) -> tuple[list[Any], int]:
    """Read all pages of a list: its rows, and how many pages there were."""
    rows: list[Any] = []
    after, pages = "", 0
    while True:
        joint = "&" if "?" in path else "?"
        answer: Answer = world.call("GET", f"{path}{joint}limit=1000{after}", bearer=key)
        assert answer.status == 200, answer.body
        assert len(answer.body) < bound + 1_000
        pages += 1
        rows += answer.data["items"]
        if answer.data["next"] is None:
            return rows, pages
        after = f"&after={answer.data['next']}"
        assert pages < 100


@pytest.mark.parametrize("query", ["userId=ann", "userId=ann&newestFirst=true"])
def test_sessions_with_their_data(world: Api, query: str) -> None:
    ids = begin(world, 30)
    rows, pages = through(world, f"/api/sessions?{query}&data=true", world.keys[Role.APP])
    assert pages >= 5
    expected = ids[::-1] if "newest" in query else sorted(ids)
    assert [row["id"] for row in rows] == expected
    assert all(len(row["data"]["k"]) == 3_000 for row in rows)


def test_without_their_data_many_fit(world: Api) -> None:
    begin(world, 30)
    rows, pages = through(world, "/api/sessions", ADMIN)
    assert len(rows) == 30
    assert pages == 1
    assert all("data" not in row or not row["data"] for row in rows)


def test_one_that_is_larger_than_a_page_is_a_page(world: Api) -> None:
    begin(world, 3, size=2 * SMALL)
    rows, pages = through(
        world, "/api/sessions?userId=ann&data=true", world.keys[Role.APP], 3 * SMALL
    )
    assert (len(rows), pages) == (3, 3)


def test_events_leases_and_licenses(world: Api) -> None:
    """Denials hold evidence, and leases what their devices say: of lengths that strangers choose."""
    long = {"name": "n" * 256, "browser": "b" * 256, "os": "o" * 256, "kind": "k" * 256}
    for n in range(40):
        world.seat(clientId=f"tab-{n}", device=long)
    for _ in range(3):
        world.call("POST", "/api/licenses", bearer=ADMIN, json={"name": "l" * 200, "features": {}})
    leases, pages = through(world, "/api/licenses/sessions", ADMIN)
    assert len({row["leaseId"] for row in leases}) == 40
    assert pages >= 3
    events, _ = through(world, "/api/events", ADMIN)
    newest, _ = through(world, "/api/events?newestFirst=true", ADMIN)
    assert [row["id"] for row in events] == [row["id"] for row in newest][::-1]
    assert len(events) >= 40
    licenses, _ = through(world, "/api/licenses", ADMIN)
    assert len(licenses) == 4


def test_keys(world: Api) -> None:
    """As many as were ever made, revoked ones too, in the order in which they were."""
    for n in range(70):
        world.services.keys.create(f"{n:04} " + "n" * 190, Role.VIEWER, actor="test")
        if n % 3:
            world.clock.advance(milliseconds=1)  # else two were made in one instant
    rows, pages = through(world, "/api/keys", ADMIN)
    assert pages >= 2
    assert len({row["keyId"] for row in rows}) == len(rows) == len(world.ledger.keys())
    made = [row["createdAt"] for row in rows]
    assert made == sorted(made)
    few = world.admin("GET", "/api/keys?limit=3").data
    assert (len(few["items"]), few["next"]) == (3, rows[2]["keyId"])
    assert world.admin("GET", "/api/keys?after=key_none").data["items"] == []


@pytest.mark.parametrize("after", ["x", "~x", "1", "-1~x", "²~x", "9999999999999999~x"])
def test_a_cursor_that_is_none(world: Api, after: str) -> None:
    answer = world.call(
        "GET", f"/api/sessions?userId=ann&newestFirst=true&after={after}", bearer=ADMIN
    )
    assert (answer.status, answer.code) == (400, "invalid_request")


def test_a_refusal_that_shows_sessions_holds_as_much_of_their_data_as_fits(world: Api) -> None:
    ids = begin(world, 20)
    body = {"userId": "ann", "limit": 20, "atLimit": AtLimit.ASK.value}
    answer = world.call("POST", "/api/sessions", bearer=world.keys[Role.APP], json=body)
    assert answer.code == "session_limit"
    assert len(answer.body) < 2 * SMALL
    shown = answer.json["sessions"]
    assert {each["id"] for each in shown} == set(ids)
    assert 0 < sum(1 for each in shown if each.get("data")) < 20


def test_backends_read_on() -> None:
    """`RemoteSessions.of` returns what was asked for, however many pages that takes."""
    world = World()
    with (
        served(world) as server,
        closing(RemoteSessions(server.url, world.keys[Role.APP])) as remote,
    ):
        ids = begin(world, 12, size=900_000)
        found = remote.of("ann", limit=10)
    assert len(found) == 10
    assert {each.id for each in found} <= set(ids)
    assert all(len(each.data["k"]) == 900_000 for each in found)


def test_doctors_evidence() -> None:
    check = Check(id="a.b", area=Area.STORE, title="?", looked_at="it", look=lambda: finding)
    finding = failure("Wrong.", evidence=["x" * 100_000] * 1_000, means="It is.")
    body = check_body(Latest(Examined(check=check, finding=finding, milliseconds=1), 0))
    assert len(body.evidence) == EVIDENCE_MAX
    assert max(map(len, body.evidence)) <= EVIDENCE_CHARACTERS + 2
