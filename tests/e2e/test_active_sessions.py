"""Active sessions on real servers: a table that is dropped and comes back, a store that dies, two servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text
from tests.receiver import receiving
from tests.serving import TLS, Served, served
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sojourn.service.watch import POLL
from sojourn.stores import open as stores
from sojourn.testing.servers import Server, fresh_database

BASE = "/api/user/active-sessions"
JSON_LOGS = {"SOJOURN_LOG_FORMAT": "json"}
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}


def sign_in(server: Served, user: str, name: str = "Chrome on Windows") -> tuple[str, str]:
    """Sign somebody in as an application does; return (token, id)."""
    with server.admin() as http:
        answer = http.post("/api/sessions", json={"userId": user, "device": {"name": name}})
    assert answer.status_code == 201, answer.text
    data = answer.json()["data"]
    return data["token"], data["session"]["id"]


def ask(server: Served, token: str, method: str = "GET", path: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, server.url + BASE + path, headers=headers, verify=TLS, timeout=30)


def logged(server: Served) -> list[str]:
    """List what the log says of sessions, in order."""
    found = []
    for line in server.log.read_text().splitlines():
        if line.startswith("{"):
            event = str(json.loads(line).get("message"))
            if event.startswith("sessions_"):
                found.append(event)
    return found


def drop_sessions(url: str) -> None:
    parsed = make_url(url)
    parsed = parsed.set(drivername=DRIVERS.get(parsed.drivername, parsed.drivername))
    engine = create_engine(parsed)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE sojourn_sessions"))
    engine.dispose()


@pytest.fixture
def store_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.mark.parametrize("store_url", ["sqlite_url", "postgres_url", "mariadb_url"], indirect=True)
def test_a_dropped_table_is_told_and_heals(store_url: str, tmp_path: Path) -> None:
    """People read that nothing has been set up yet; the log and the stream tell it once; no restart
    is needed."""
    stores.migrate(store_url)
    environ = JSON_LOGS | {"SOJOURN_WEBHOOK_REACH": "loopback", "SOJOURN_WEBHOOK_INTERVAL": "0.1"}
    with (
        receiving() as receiver,
        served(tmp_path / "data", store=store_url, environ=environ) as server,
    ):
        with server.admin() as http:
            kinds = ["store.table_missing", "store.table_back"]
            made = http.post("/api/webhooks", json={"url": receiver.url, "kinds": kinds})
        assert made.status_code == 201, made.text
        tokens: list[str] = []
        for round_ in (1, 2):
            token, _ = sign_in(server, f"ann {len(tokens)}")
            tokens.append(token)
            assert ask(server, token).json()["total"] == 1
            drop_sessions(store_url)
            for _ in range(3):
                answer = ask(server, token)
                assert answer.status_code == 200
                said = answer.json()
                assert (said["success"], said["data"], said["total"]) == (True, [], 0)
                assert "have not been set up" in said["message"]
            refused = ask(server, token, "POST", "/logout-others")
            assert refused.status_code == 503
            assert refused.json()["code"] == "store_broken"
            assert int(refused.headers["retry-after"]) > 0
            for said_so in (answer, refused):
                assert not any(
                    x in said_so.text for x in ("SELECT", "Traceback", "sqlite", "psycopg")
                )
            assert logged(server).count("sessions_table_missing") == round_
            stores.migrate(store_url)
            token, _ = sign_in(server, f"ann {len(tokens)}")
            tokens.append(token)
            assert ask(server, token).json()["total"] == 1
            receiver.wait_for(2 * round_)  # that it is over is told without anybody asking
        assert logged(server) == ["sessions_table_missing", "sessions_available_again"] * 2
        received = [each.json for each in receiver.wait_for(4)]
        assert [each["type"] for each in received] == [
            "store.table_missing",
            "store.table_back",
        ] * 2
        assert received[0]["data"]["data"] == {"tables": ["sojourn_sessions"]}
        assert 0 <= received[1]["data"]["data"]["lasted"] < 60
        log = server.log.read_text()
        assert not any(token in log for token in tokens)


@pytest.fixture
def own_store(own_postgres: Server) -> Iterator[str]:
    with fresh_database(own_postgres) as url:
        stores.migrate(url)
        yield url
        own_postgres.start()  # or it could not be dropped


def test_two_servers_and_a_store_that_dies(
    own_postgres: Server, own_store: str, tmp_path: Path
) -> None:
    """What one server ends, the other tells at its next look; what no server can know, it says."""
    assert POLL < 1.0  # of seconds: so that it is told within one, as promised
    with (
        served(tmp_path / "one", store=own_store, environ=JSON_LOGS) as one,
        served(tmp_path / "two", store=own_store, environ=JSON_LOGS) as two,
    ):
        mine, _ = sign_in(one, "ann")
        other, _ = sign_in(two, "ann", "Safari on iPhone")
        with connect(
            one.url.replace("http", "ws") + BASE + "/live",
            additional_headers={"Authorization": f"Bearer {other}"},
            proxy=None,
        ) as page:
            assert json.loads(page.recv(timeout=10)) == {"type": "changed"}
            assert ask(two, mine, "POST", "/logout-others").json()["data"] == {
                "ended": 1,
                "seats": 0,
            }
            told: Any = json.loads(page.recv(timeout=10))
            assert told == {"type": "signedOut", "reason": "signed_out_elsewhere"}
            with pytest.raises(ConnectionClosed):
                page.recv(timeout=10)
            assert page.close_code == 4401
        assert ask(one, other).json()["code"] == "session_ended"

        own_postgres.kill()
        for _ in range(3):
            answer = ask(one, mine)
            assert answer.status_code == 503
            said = answer.json()
            assert said["code"] == "store_unavailable"
            assert "not signed out" in said["error"]
            assert "again" in said["details"]
            assert int(answer.headers["retry-after"]) > 0
        assert logged(one).count("sessions_unavailable") == 1
        own_postgres.start()
        with one.admin() as http:  # until it answers, as /readyz says
            deadline = time.monotonic() + 30
            while http.get("/readyz").status_code != 200 and time.monotonic() < deadline:
                pass
        assert ask(one, mine).status_code == 200
        assert logged(one)[-1] == "sessions_available_again"
