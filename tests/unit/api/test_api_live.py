"""Live news for open pages: who is told what, and how many may listen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api_harness import Served, World, served
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sojourn.cookie import SignedTokens
from sojourn.people import live
from sojourn.service import watch
from sojourn.session import Begin, Begun

SECRET = "people are known by what this signs 0123"
PATIENCE = 10.0
CHANGED = {"type": "changed"}


@pytest.fixture
def server() -> Iterator[Served]:
    with served(World(secret=(SECRET,), capacity=5)) as server:
        yield server


def sign_in(server: Served, user: str | None = "ann", **more: Any) -> Begun:
    (begun,) = server.world.services.sessions.begin([Begin(user_id=user, **more)])
    assert isinstance(begun, Begun)
    return begun


def listen(server: Served, begun: Begun | None, **headers: str) -> ClientConnection:
    if begun is not None:
        headers.setdefault("Authorization", f"Bearer {begun.token}")
    return connect(
        f"ws://127.0.0.1:{server.port}/api/user/active-sessions/live",
        additional_headers=headers,
        proxy=None,
    )


def heard(page: ClientConnection) -> Any:
    return json.loads(page.recv(timeout=PATIENCE))


def close_code(page: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        page.recv(timeout=PATIENCE)
    return page.close_code


def end(server: Served, begun: Begun) -> None:
    server.world.store.end(ids=[begun.session.id], reason="signed_out_elsewhere")


class TestNews:
    def test_what_concerns_a_person_is_told_to_them_alone(self, server: Served) -> None:
        """Sessions begun and ended, seats taken; and nothing of anybody else's."""
        mine, other = sign_in(server), sign_in(server)
        with listen(server, mine) as page, listen(server, sign_in(server, "bob")) as bobs:
            assert heard(page) == heard(bobs) == CHANGED
            sign_in(server)
            assert heard(page) == CHANGED
            end(server, other)
            assert heard(page) == CHANGED
            with pytest.raises(TimeoutError):
                bobs.recv(timeout=0.1)

    def test_the_end_of_its_session_is_told_and_closes_it(self, server: Served) -> None:
        mine = sign_in(server)
        with listen(server, mine) as page:
            assert heard(page) == CHANGED
            end(server, mine)
            assert heard(page) == {"type": "signedOut", "reason": "signed_out_elsewhere"}
            assert close_code(page) == 4401

    def test_idleness_and_cutoffs_are_ends_too(self, server: Served) -> None:
        """No event tells of them: the sessions themselves are looked at."""
        world = server.world
        mine, bobs = sign_in(server), sign_in(server, "bob")
        with listen(server, bobs) as cut, listen(server, mine) as idle:
            assert heard(cut) == heard(idle) == CHANGED
            world.store.cut_off("bob", reason="stolen")
            assert heard(cut) == {"type": "signedOut", "reason": "stolen"}
            world.clock.advance(seconds=86_401)
            assert heard(idle) == {"type": "signedOut", "reason": "idle"}

    def test_an_end_in_this_process_is_told_at_once(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without waiting for the next look."""
        monkeypatch.setattr(watch, "POLL", PATIENCE * 10)
        mine = sign_in(server)
        with listen(server, mine) as page:
            assert heard(page) == CHANGED
            server.world.services.cut_off("ann", reason="revoked", actor="key:ops")
            assert heard(page)["type"] == "signedOut"


class TestWhoMayListen:
    def test_nobody_signed_in_is_told_so(self, server: Served) -> None:
        over = sign_in(server)
        end(server, over)
        for begun, reason in (
            (None, "absent"),
            (sign_in(server, None), "absent"),
            (over, "signed_out_elsewhere"),
        ):
            with listen(server, begun) as page:
                assert heard(page) == {"type": "signedOut", "reason": reason}
                assert close_code(page) == 4401

    @pytest.mark.parametrize(("sender", "status"), [("http://evil.example", 403), ("", 101)])
    def test_a_cookie_counts_on_pages_of_our_own(
        self, server: Served, sender: str, status: int
    ) -> None:
        """Browsers let any site open a socket, and send our cookie along (ASVS 5.0 4.4.2)."""
        mine = sign_in(server)
        signed = SignedTokens([SECRET.encode()]).encode(mine.token)
        headers = {
            "Cookie": f"sojourn={signed}",
            "Origin": sender or f"http://127.0.0.1:{server.port}",
        }
        if status == 101:
            with listen(server, None, **headers) as page:
                assert heard(page) == CHANGED
            return
        with pytest.raises(InvalidStatus) as refused:
            listen(server, None, **headers)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["code"] == "cross_origin"

    def test_there_is_a_bound_for_each_person(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Too many are told to come later, and a socket that closes makes room."""
        monkeypatch.setattr(live, "SOCKETS_EACH_MAX", 1)
        mine = sign_in(server)
        with listen(server, mine) as page:
            assert heard(page) == CHANGED
            with listen(server, mine) as refused:
                assert close_code(refused) == 1013
            with listen(server, sign_in(server, "bob")) as bobs:
                assert heard(bobs) == CHANGED

    def test_a_page_that_talks_too_much_is_closed(self, server: Served) -> None:
        with listen(server, sign_in(server)) as page:
            assert heard(page) == CHANGED
            page.send("x" * 20_000)
            assert close_code(page) == 1009
        with listen(server, sign_in(server)) as page:
            assert heard(page) == CHANGED
            for _ in range(live.MESSAGES_MAX):
                page.send("x")
            assert close_code(page) == 1008

    def test_other_paths_take_no_socket(self, server: Served) -> None:
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{server.port}/api/sessions", proxy=None)
        assert refused.value.response.status_code == 404


class TestLife:
    def test_what_is_silent_is_kept_alive(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "KEEP_ALIVE", 0.05)
        with listen(server, sign_in(server)) as page:
            told = [heard(page) for _ in range(3)]
        assert {"type": "alive"} in told

    def test_a_server_that_stops_says_goodbye(self, server: Served) -> None:
        """And it does not wait for pages that stay open."""
        with listen(server, sign_in(server)) as page:
            assert heard(page) == CHANGED
            server.server.should_exit = True
            assert close_code(page) == 1012

    def test_nobody_looks_while_nobody_listens(self, server: Served) -> None:
        asked = threading.Event()
        sessions = server.world.services.sessions
        with listen(server, sign_in(server)) as page:
            assert heard(page) == CHANGED
        hub = server.world.app.context.live
        watching = hub._watch._task
        assert watching is not None
        hub.wake()
        watching.add_done_callback(lambda _: asked.set())
        sessions.end([])
        assert asked.wait(PATIENCE)
        assert hub.open == 0
