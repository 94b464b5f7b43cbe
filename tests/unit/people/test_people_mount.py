"""Active sessions inside an application: a desk's `people`, on a store and on what has no pages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.devices import Devices
from sojourn.people.calls import BASE, asked
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun, Check, End, Gone, Rotate, Save, Session, TooMany
from sojourn.stores.memory import MemoryStore

CODEC = SignedTokens([b"a secret of the application, long enough"])
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/139.0.0.0 Safari/537.36"
)
PROXY = "10.0.0.1"


class Plain:
    """Sessions as `session.Sessions` asks for them and no more, as those beside Express are."""

    parallel = 1

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def check(self, checks: Sequence[Check]) -> Sequence[Session | Gone]:
        return self._service.check(checks)

    def begin(self, begins: Sequence[Begin]) -> Sequence[Begun | TooMany]:
        return self._service.begin(begins)

    def save(self, saves: Sequence[Save]) -> Sequence[int | None]:
        return self._service.save(saves)

    def rotate(self, rotations: Sequence[Rotate]) -> Sequence[Begun | None]:
        return self._service.rotate(rotations)

    def end(self, ends: Sequence[End]) -> Sequence[list[str]]:
        assert all((each.ids is None) != (each.user_id is None) for each in ends)
        return self._service.end(ends)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        return self._service.of(user_id, limit=limit)

    def close(self) -> None:
        self._service.close()


@pytest.fixture(params=["store", "plain"])
def desk(request: pytest.FixtureRequest) -> Desk:
    devices = Devices(geo_headers=("CF-IPCountry",), ip_shorten=True)
    service = SessionService(MemoryStore(ManualClock()), complete=devices.complete)
    sessions: Any = service if request.param == "store" else Plain(service)
    return Desk(sessions, CODEC, devices=devices, trusted_proxies=[PROXY])


def sign_in(desk: Desk, user: str, peer: str = PROXY, **headers: str) -> Begun:
    """Sign in as an adapter does, through a proxy that is believed or one that is not."""
    said = {"user-agent": AGENT} | {name.replace("_", "-"): v for name, v in headers.items()}
    visit = desk.visit(
        cookies="",
        path="/",
        peer=peer,
        scheme="https",
        forwarded_for="192.0.2.77",
        header=said.get,
    )
    desk.run(visit.begin(user))
    assert visit.session is not None
    assert visit.token is not None
    return Begun(token=visit.token, session=visit.session)


def call(desk: Desk, begun: Begun, method: str = "GET", path: str = "", query: str = "") -> Any:
    cookie = f"__Host-sojourn={CODEC.encode(begun.token)}"
    headers = {"cookie": cookie, "host": "app.example", "sec-fetch-site": "same-origin"}
    origin = desk.origin(PROXY, "https")
    request = asked(method, BASE + path, query, headers.get, origin)
    answer = desk.people.respond(request)
    if not path:
        assert asyncio.run(desk.people.respond_async(request)) == answer
    status, sent, body = answer
    return status, dict(sent), json.loads(body)


def test_an_application_mounts_what_a_server_serves(desk: Desk) -> None:
    first, *others = [sign_in(desk, "ann") for _ in range(4)]
    yours = sign_in(desk, "bob")
    status, headers, page = call(desk, first, query="limit=3")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (len(page["data"]), page["total"]) == (3, 4)
    _, _, rest = call(desk, first, query=f"limit=3&after={page['next']}")
    seen = [each["id"] for each in page["data"] + rest["data"]]
    assert sorted(seen) == sorted(x.session.id for x in (first, *others))
    assert call(desk, first, "DELETE", f"/{yours.session.id}")[0] == 404
    _, _, said = call(desk, first, "DELETE", f"/{others[0].session.id}")
    assert said["data"] == {"ended": 1, "seats": 0}
    _, _, said = call(desk, first, "POST", "/logout-others")
    assert said["data"] == {"ended": 2, "seats": 0}
    _, headers, _ = call(desk, first, "DELETE", f"/{first.session.id}")
    assert headers["set-cookie"].startswith("__Host-sojourn=;")
    assert call(desk, first)[2]["code"] == "session_ended"
    assert call(desk, yours)[0] == 200
    for method, path, expected in (
        ("PUT", "", 405),
        ("GET", "/logout-others", 405),
        ("DELETE", "/a/b", 404),
    ):
        assert call(desk, yours, method, path)[0] == expected


def test_a_sign_in_is_described_by_hints_and_trusted_proxies(desk: Desk) -> None:
    """What hints say wins; what a proxy says of the place counts from a trusted one alone."""
    brave = '"Not;A=Brand";v="99", "Brave";v="139", "Chromium";v="139"'
    for peer, place, ip in ((PROXY, "NO", "192.0.2.0"), ("198.51.100.9", None, "198.51.100.0")):
        begun = sign_in(desk, "ann", peer, sec_ch_ua=brave, cf_ipcountry="NO")
        _, _, page = call(desk, begun)
        (shown,) = [each for each in page["data"] if each["isCurrent"]]
        assert (shown["device"], shown["kind"]) == ("Brave on Windows", "desktop")
        assert (shown["location"], shown["ipAddress"]) == (place, ip)
