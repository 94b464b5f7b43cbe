"""An application's backend and the people who are signed in to it, over the API in this process."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api_harness import Answer, Api

from sojourn.event import EventKind
from sojourn.ledger import Role

BASE = "/api/sessions"
CURRENT = BASE + "/current"


class Backend:
    """An application's backend: it has a key, and is shown people's tokens."""

    def __init__(self, world: Api) -> None:
        self.world = world
        self.key = world.keys[Role.APP]

    def call(self, method: str, path: str, token: str | None = None, **request: Any) -> Answer:
        headers = [*request.pop("headers", ()), *([("X-Session-Token", token)] if token else [])]
        return self.world.call(method, path, bearer=self.key, headers=headers, **request)

    def begin(self, user: str | None = "ann", token: str | None = None, **more: Any) -> Any:
        answer = self.call("POST", BASE, token, json={"userId": user, **more})
        assert answer.status == 201, answer.body
        return answer.data

    def check(self, token: str, query: str = "") -> Answer:
        return self.call("GET", CURRENT + query, token)

    def events(self, kind: EventKind = EventKind.SESSION_ENDED) -> list[Any]:
        return self.world.store.events(kinds=[kind], limit=1_000)


def counted(world: Api, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every call of a verb of the store about sessions."""
    asked: list[str] = []

    def counting(name: str) -> Any:
        verb = getattr(world.store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return verb(*args, **kwargs)

        return call

    for name in ("create", "load", "save", "touch", "rotate", "end", "of", "sessions", "cut_off"):
        monkeypatch.setattr(world.store, name, counting(name))
    return asked
