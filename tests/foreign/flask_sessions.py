"""A pytest plugin of the campaign: every Flask application gets Sojourn's sessions with its first request,
when its configuration is complete."""

from __future__ import annotations

from typing import Any

import flask

from sojourn.adapters.desk import Desk, LazyDesk
from sojourn.adapters.flask import Sojourn, SojournSessions
from sojourn.adapters.flask_config import opener
from sojourn.cookie import SignedTokens
from sojourn.service.sessions import SessionService
from sojourn.stores.memory import MemoryStore

CODEC = SignedTokens([b"a secret of thirty-two bytes or more"])
original_init = flask.Flask.__init__
own_sessions = type(flask.Flask.session_interface)


class LateSessions(SojournSessions):
    """Reads the application's configuration when it opens the first session."""

    def __init__(self, config: flask.Config) -> None:
        def make() -> Desk:
            rules = opener(config).keywords["rules"]  # type: ignore[attr-defined]  # a partial's
            return Desk(SessionService(MemoryStore()), CODEC, rules=rules)

        super().__init__(LazyDesk(make))


def init(self: flask.Flask, *args: Any, **kwargs: Any) -> None:
    chosen = type(self).session_interface
    original_init(self, *args, **kwargs)
    if type(chosen) is own_sessions:  # a test that has a session interface of its own keeps it
        Sojourn(self, desk=Desk(SessionService(MemoryStore()), CODEC))
        self.session_interface = LateSessions(self.config)


flask.Flask.__init__ = init  # type: ignore[method-assign]  # in the whole of a foreign suite
