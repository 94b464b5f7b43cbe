"""Sessions of users over the API, as a backend lists and ends them; and that both clients can do the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.api_harness import Served, World, served
from tests.serving import free_port

from sojourn.client import (
    AsyncClient,
    AsyncSeat,
    AsyncSessionsClient,
    Client,
    Seat,
    SessionsClient,
)
from sojourn.client.sessions import RemoteSessions
from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.ledger import Role
from sojourn.session import Begin, Begun, Gone, GoneReason, Session
from sojourn.token import TokenKind, new_token


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(world: World) -> Iterator[Served]:
    with served(world) as running:
        yield running


def signed_in(world: World, server: Served, *users: str) -> list[Begun]:
    with closing(RemoteSessions(server.url, world.keys[Role.APP])) as sessions:
        answers = [sessions.begin([Begin(user_id=user)])[0] for user in users]
    begun = [each for each in answers if isinstance(each, Begun)]
    assert len(begun) == len(users)
    return begun


def test_listed_and_ended_for_a_user(world: World, server: Served) -> None:
    first, second, third, other = signed_in(world, server, "ada", "ada", "ada", "bob")
    with SessionsClient(server.url, world.keys[Role.APP]) as sessions:
        ids = {each.session.id for each in (third, second, first)}
        assert {each.id for each in sessions.list("ada")} == ids
        assert len(sessions.list("ada", limit=2)) == 2
        assert not sessions.end(other.session.id, user="ada")
        assert sessions.end(first.session.id, user="ada")
        assert not sessions.end(first.session.id)
        assert sessions.end_others("ada", keep=third.session.id) == [second.session.id]
        gone = sessions.check(second.token)
        assert isinstance(gone, Gone)
        assert gone.reason is GoneReason.ENDED
        kept = sessions.check(third.token, touch=False)
        assert isinstance(kept, Session)
        assert kept.id == third.session.id
        assert sessions.end_all("ada") == [third.session.id]
        assert sessions.list("ada") == []
        assert len(sessions.list("bob")) == 1


def test_the_same_awaited(world: World, server: Served) -> None:
    first, second, third = signed_in(world, server, "ada", "ada", "ada")

    async def story() -> None:
        async with AsyncSessionsClient(server.url, world.keys[Role.APP]) as sessions:
            assert len(await sessions.list("ada")) == 3
            assert await sessions.end(first.session.id)
            assert await sessions.end_others("ada", keep=third.session.id) == [second.session.id]
            assert isinstance(await sessions.check(third.token), Session)
            assert await sessions.end_all("ada") == [third.session.id]

    asyncio.run(story())


def test_faults_say_what_to_do(server: Served) -> None:
    with SessionsClient(server.url, new_token(TokenKind.API)) as sessions:
        with pytest.raises(StoreBroken) as refused:
            sessions.list("ada")
        assert "sojourn key create" in refused.value.hint
        with pytest.raises(StoreBroken):
            sessions.end("ses_1")
    with SessionsClient(f"http://127.0.0.1:{free_port()}", new_token(TokenKind.API)) as sessions:
        with pytest.raises(StoreUnavailable) as away:
            sessions.end_all("ada")
        assert "sojourn serve" in away.value.hint


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


def test_both_clients_can_do_the_same() -> None:
    only_for_threads = {"acquire_while"}
    assert public(Seat) - only_for_threads <= public(AsyncSeat)
    assert public(Client) - {"close"} <= public(AsyncClient)
    assert public(SessionsClient) - {"close"} <= public(AsyncSessionsClient)
    for name in public(SessionsClient) - {"close"}:
        plain = inspect.signature(getattr(SessionsClient, name))
        assert plain == inspect.signature(getattr(AsyncSessionsClient, name))
