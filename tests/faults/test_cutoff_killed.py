"""A server killed as soon as it has answered a cutoff: seats of the ended sessions go all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.serving import acquire, beat, new_client, served

from sojourn.stores.open import open_store
from sojourn.testing.processes import wait_until
from sojourn.testing.redis_server import redis_server

PATIENCE = 20.0  # seconds; the sweep by the clock would come after 900
STORES = ("sqlite", "postgres", "mariadb", "valkey")


@contextmanager
def place(store: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the URL of an empty store."""
    if store == "sqlite":
        yield f"sqlite:///{folder}/data/sojourn.db"
    elif store == "valkey":
        with redis_server() as server:
            yield server.url
    else:
        yield str(request.getfixturevalue(f"empty_{store}"))


def data(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize("store", STORES)
def test_seats_of_ended_sessions_are_free_after_the_next_start(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with place(store, tmp_path, request) as url, served(tmp_path / "data", store=url) as server:
        _, key = server.license(editor={"capacity": 2})
        with server.admin() as admin, new_client() as http:
            app = data(admin.post("/api/keys", json={"name": "shop", "role": "app"}))["key"]
            proof = {"Authorization": f"Bearer {app}"}
            begin = http.post(f"{server.url}/api/sessions", headers=proof, json={"userId": "ann"})
            session = data(begin)["session"]["id"]
            seat = data(acquire(http, server.url, key, "editor", "ann", sessionId=session))
            other = data(acquire(http, server.url, key, "editor", "bob"))
        server.kill()
        with closing(open_store(url)) as direct:  # all that it did before it died
            direct.cut_off("ann", reason="stolen", actor="key:ops")
        server.start()
        with new_client() as http:
            answers: list[httpx.Response] = []

            def turned_away() -> bool:
                answers.append(beat(http, server.url, seat["token"]))
                return answers[-1].status_code == 410

            assert wait_until(turned_away, PATIENCE), answers[-1].text
            assert answers[-1].json()["reason"] == "session_ended"
            assert beat(http, server.url, other["token"]).status_code == 200


def test_another_server_frees_them_where_that_one_stays_away(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It has looked for such cutoffs when it was started, long before."""
    with (
        place("postgres", tmp_path, request) as url,
        served(tmp_path / "data", store=url) as server,
    ):
        _, key = server.license(editor={"capacity": 2})
        with server.admin() as admin, new_client() as http, closing(open_store(url)) as killed:
            app = data(admin.post("/api/keys", json={"name": "shop", "role": "app"}))["key"]
            proof = {"Authorization": f"Bearer {app}"}
            begin = http.post(f"{server.url}/api/sessions", headers=proof, json={"userId": "ann"})
            session = data(begin)["session"]["id"]
            seat = data(acquire(http, server.url, key, "editor", "ann", sessionId=session))
            other = data(acquire(http, server.url, key, "editor", "bob"))
            killed.cut_off("ann", reason="stolen", actor="key:ops")

            def turned_away() -> bool:
                return beat(http, server.url, seat["token"]).status_code == 410

            assert wait_until(turned_away, 4 * PATIENCE)
            assert beat(http, server.url, other["token"]).status_code == 200
