"""uvicorn's insides that the protocol stands on, each by its name: they may move with any version.

Which names those are is read from our own code. If one fails after an upgrade, look at what uvicorn does in
its place now, then move the upper bound in pyproject.toml.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from sojourn.api import protocol
from sojourn.api.protocol import GuardedProtocol


def its_own() -> list[str]:
    """List what GuardedProtocol uses of itself and does not define."""
    tree = ast.parse(Path(protocol.__file__).read_text())
    (body,) = (x for x in tree.body if isinstance(x, ast.ClassDef) and x.name == "GuardedProtocol")
    used = {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Call)
        and ast.unparse(node.value) in ("self", "super()")
    }
    made = {each for each in used if each.startswith("_")} | set(_assigned(body))
    return sorted(used - made - {"__init__"})


def _assigned(body: ast.ClassDef) -> list[str]:
    """List what it makes of its own, where it is made."""
    (init,) = (x for x in body.body if isinstance(x, ast.FunctionDef) and x.name == "__init__")
    targets = [target for x in init.body if isinstance(x, ast.Assign) for target in x.targets]
    return [target.attr for target in targets if isinstance(target, ast.Attribute)]


@pytest.fixture(scope="module")
def begun() -> Any:
    """Make uvicorn's own protocol, in the middle of a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    async def make() -> HttpToolsProtocol:
        config = uvicorn.Config(app, interface="asgi3", ws="none", lifespan="off")
        config.load()
        made = HttpToolsProtocol(config, ServerState(), {})
        made.on_message_begin()
        made.on_url(b"/")
        return made

    return asyncio.run(make())


@pytest.mark.parametrize("name", its_own())
def test_the_protocol_still_has(name: str, begun: HttpToolsProtocol) -> None:
    assert hasattr(begun, name)


OVERRIDDEN = [
    (HttpToolsProtocol, "__init__", ["config", "server_state", "app_state", "_loop"]),
    (HttpToolsProtocol, "connection_made", ["transport"]),
    (HttpToolsProtocol, "connection_lost", ["exc"]),
    (HttpToolsProtocol, "data_received", ["data"]),
    (HttpToolsProtocol, "eof_received", []),
    (HttpToolsProtocol, "shutdown", []),
    (HttpToolsProtocol, "on_message_begin", []),
    (HttpToolsProtocol, "on_header", ["name", "value"]),
    (HttpToolsProtocol, "on_headers_complete", []),
    (HttpToolsProtocol, "on_body", ["body"]),
    (HttpToolsProtocol, "on_message_complete", []),
    (HttpToolsProtocol, "on_response_complete", []),
    (HttpToolsProtocol, "_start_asgi_task", ["cycle", "app"]),
    (uvicorn.Server, "startup", ["sockets"]),
    (uvicorn.Server, "shutdown", ["sockets"]),
    (Multiprocess, "init_processes", []),
]


@pytest.mark.parametrize(("kind", "name", "takes"), OVERRIDDEN, ids=str)
def test_what_is_overridden_takes_what_it_took(kind: type, name: str, takes: list[str]) -> None:
    own = list(inspect.signature(getattr(kind, name)).parameters)
    assert own[1:] == takes


def test_every_hook_of_the_parser_is_watched() -> None:
    """What httptools calls and we override is in the list above."""
    hooks = {name for name in vars(GuardedProtocol) if name in vars(HttpToolsProtocol)}
    listed = {name for kind, name, _ in OVERRIDDEN if kind is HttpToolsProtocol}
    assert {name for name in hooks if not name.startswith("__")} <= listed


def test_a_cycle_is_what_it_was() -> None:
    takes = set(inspect.signature(RequestResponseCycle.__init__).parameters)
    assert {"scope", "transport", "flow", "on_response", "keep_alive"} <= takes
    assert {"run_asgi", "send", "receive"} <= set(dir(RequestResponseCycle))
