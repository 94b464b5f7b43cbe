"""The life of a session over HTTP, on a real server with SQLite: from a visitor to signed out everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving import TLS, Served, acquire, beat, new_client, served

from sojourn.client.sessions import RemoteSessions
from sojourn.errors import StoreUnavailable
from sojourn.session import Begin, Begun, Check, End, Gone, GoneReason, Save, Session

BASE = "/api/sessions"
CURRENT = BASE + "/current"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "data") as server:
        yield server


@pytest.fixture
def app_key(server: Served) -> str:
    with server.admin() as admin:
        made = admin.post("/api/keys", json={"name": "shop", "role": "app"})
    return str(made.json()["data"]["key"])


@pytest.fixture
def app(server: Served, app_key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {app_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30, verify=TLS) as app:
        yield app


def ask(app: httpx.Client, method: str, path: str, token: str, **body: Any) -> httpx.Response:
    headers = {"X-Session-Token": token}
    return app.request(method, path, headers=headers, json=body or None)


def data(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()["data"]


def test_from_a_visitor_to_signed_out_everywhere(server: Served, app: httpx.Client) -> None:
    visitor = data(app.post(BASE, json={"data": {"cart": ["book"]}}))["token"]

    # Signing in: a new token, the same cart, the old token dead.
    signed_in = data(ask(app, "POST", BASE, visitor, userId="ann", device={"browser": "Firefox"}))
    token, session = signed_in["token"], signed_in["session"]
    assert session["data"] == {"cart": ["book"]}
    assert ask(app, "GET", CURRENT, visitor).json()["code"] == "session_ended"

    # Twenty parallel requests, each with a key of its own: none is lost.
    def put(n: int) -> int:
        return ask(app, "PATCH", CURRENT, token, set={f"k{n}": n}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(put, range(20))) == {200}
    kept = data(ask(app, "GET", CURRENT, token))["session"]
    assert kept["data"] == {"cart": ["book"], **{f"k{n}": n for n in range(20)}}
    assert kept["revision"] == session["revision"] + 20

    # Step-up: the old token dies at once.
    stepped = data(ask(app, "POST", CURRENT + "/rotate", token, level=2, grace=0))
    assert ask(app, "GET", CURRENT, token).json()["code"] == "session_absent"
    token = stepped["token"]
    assert data(ask(app, "GET", CURRENT, token))["session"]["level"] == 2

    # The seat that belongs to the session goes with it.
    _, license_key = server.license(editor={"capacity": 1})
    with new_client() as http:
        seat = acquire(http, server.url, license_key, "editor", "ann", sessionId=session["id"])
        phone = data(app.post(BASE, json={"userId": "ann"}))["token"]
        assert data(ask(app, "POST", CURRENT + "/end-others", phone))["ended"] == 1
        lost = beat(http, server.url, seat.json()["data"]["token"])
        assert (lost.status_code, lost.json()["reason"]) == (410, "session_ended")
    gone = ask(app, "GET", CURRENT, token)
    assert (gone.status_code, gone.json()["code"]) == (401, "session_ended")
    assert gone.json()["endReason"] == "signed_out_elsewhere"

    # Signed out; twice does no harm.
    assert data(ask(app, "DELETE", CURRENT, phone))["ended"] == 1
    assert data(ask(app, "DELETE", CURRENT, phone))["ended"] == 0
    assert data(app.get(BASE, params={"userId": "ann"}))["items"] == []
    assert token[4:] not in server.log.read_text()


def test_a_restart_revives_nothing_and_loses_nothing(server: Served, app: httpx.Client) -> None:
    alive = data(app.post(BASE, json={"userId": "ann", "data": {"a": 1}}))
    dead = data(app.post(BASE, json={"userId": "bob"}))
    cut = data(app.post(BASE, json={"userId": "cy"}))
    assert data(ask(app, "DELETE", CURRENT, dead["token"]))["ended"] == 1
    assert app.delete(BASE, params={"userId": "cy"}).is_success
    server.kill()
    server.start()
    assert data(ask(app, "GET", CURRENT, alive["token"]))["session"]["data"] == {"a": 1}
    for token in (dead["token"], cut["token"]):
        assert ask(app, "GET", CURRENT, token).json()["code"] == "session_ended"
        assert ask(app, "PATCH", CURRENT, token, set={"a": 1}).json()["code"] == "session_ended"
        assert ask(app, "POST", CURRENT + "/rotate", token).json()["code"] == "session_ended"


def test_a_cutoff_leaves_its_traces_by_itself(server: Served, app: httpx.Client) -> None:
    """Refused at once; the events of a thousand sessions come without anybody's sweep."""
    with closing(RemoteSessions(server.url, app.headers["Authorization"][7:])) as sessions:
        begun = [x for x in sessions.begin([Begin(user_id="ann")] * 300) if isinstance(x, Begun)]
        assert app.delete(BASE, params={"userId": "ann"}).is_success
        found = sessions.check([Check(each.token) for each in begun])
        assert {x.reason for x in found if isinstance(x, Gone)} == {GoneReason.ENDED}
        assert len(found) == len(begun)
        with server.admin() as admin:
            query = {"kind": "session.ended", "limit": "1000"}
            for _ in range(1_000):  # until the sweep that was started has come round
                events = data(admin.get("/api/events", params=query))["items"]
                if len(events) == len(begun):
                    break
    assert {event["subject"] for event in events} == {each.session.id for each in begun}
    assert {event["data"]["reason"] for event in events} == {"revoked"}
    assert all(event["actor"].startswith("key:") for event in events)


def test_a_client_outlives_the_servers_crash(server: Served, app_key: str) -> None:
    with closing(RemoteSessions(server.url, app_key, timeout=10)) as sessions:
        (begun,) = sessions.begin([Begin(user_id="ann")])
        assert isinstance(begun, Begun)
        assert list(sessions.save([Save(id=begun.session.id, set={"a": 1})])) == [2]
        server.kill()
        with pytest.raises(StoreUnavailable, match=r"Cannot connect|broke"):
            sessions.check([Check(begun.token)])
        server.start()
        (found,) = sessions.check([Check(begun.token)])
        assert isinstance(found, Session)
        assert found.data == {"a": 1}
        assert sessions.end([End(ids=(begun.session.id,))]) == [[begun.session.id]]
