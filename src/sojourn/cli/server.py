"""The server, as operators' commands see it: an address, an API key, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec
import typer
from msgspec import Struct

from sojourn.cli import source
from sojourn.cli.failure import ExitCode, Failure
from sojourn.client.opening import open_transport, target_at
from sojourn.client.transport import (
    ANSWER_MAX,
    Answer,
    NoAnswer,
    Request,
    Transport,
    headers,
    with_query,
)
from sojourn.errors import InvalidInput
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder
from sojourn.token import Secret

TIMEOUT = 15.0  # seconds
PAGE = 500  # rows asked for at once
LATEST_MAX = 1_000  # rows that a list without pages tells at most

BY_STATUS = {
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    429: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
}

LOG = "See the server's log."
TODO = {
    "401": "Give a key with --key or SOJOURN_KEY; make one with `sojourn key create`.",
    "unauthenticated": "Give a key with --key or SOJOURN_KEY; make one with `sojourn key create`.",
    "forbidden": "Use a key with a role that may do this; see `sojourn key list`.",
    "license_unknown": "List licenses with `sojourn license list`.",
    "lease_unknown": "List seats with `sojourn seats list`.",
    "session_unknown": "List sessions with `sojourn sessions list`.",
    "webhook_unknown": "List webhooks with `sojourn webhook list`.",
    "key_unknown": "List keys with `sojourn key list`.",
}
"""What to do, in this program's words, where the server only knows HTTP."""


class Reply(Struct, frozen=True):
    """A success: the data, and what the server says of it in plain words."""

    data: Any
    message: str = ""


def tell_cut(limit: int) -> None:
    """Say that a list goes on: who counts its rows would count wrong."""
    typer.echo(f"There are more than the {limit:,} shown. Show more with --limit.", err=True)


class Server:
    """A server to ask. Connects at the first question."""

    def __init__(self, url: str, key: str, *, key_from: str = "--key") -> None:
        self.url = url.rstrip("/")
        self.key = key
        self.key_from = key_from

    @cached_property
    def transport(self) -> Transport:
        """How requests travel. Raises InvalidInput for an address that is none."""
        return open_transport(target_at(self.url))

    def get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", path, query=query).data

    def post(self, path: str, body: Any = None) -> Any:
        return self.ask("POST", path, body=body).data

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return the rows of a list that has one page only."""
        return list(self.get(path, **query)["items"])

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        timeout: float = TIMEOUT,
    ) -> Reply:
        """Return a successful answer. Raises Failure otherwise."""
        answer = self._send(method, path, query, body, timeout)
        if answer.success:
            said = self._decode(answer)
            return Reply(said.get("data"), str(said.get("message") or ""))
        raise self._refusal(answer)

    def pages(self, path: str, *, limit: int, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list, page by page, at most `limit`; say on stderr if there are more."""
        after: Any = None
        left = limit
        while left > 0:
            data = self.get(path, after=after, limit=min(left, PAGE), **query)
            yield from data["items"]
            left -= len(data["items"])
            after = data.get("next")
            if after is None or not data["items"]:
                return
        if self.get(path, after=after, limit=1, **query)["items"]:
            tell_cut(limit)

    def latest(self, path: str, *, limit: int, **query: Any) -> list[dict[str, Any]]:
        """Return the latest rows of a list that has no pages, at most `limit`, which is LATEST_MAX at most;
        say on stderr if there are more."""
        found: list[dict[str, Any]] = self.items(path, limit=min(limit + 1, LATEST_MAX), **query)
        if len(found) > limit:
            tell_cut(limit)
        return found[:limit]

    def close(self) -> None:
        if "transport" in self.__dict__:  # a cached property: only if something was asked
            self.transport.close()

    def _send(
        self, method: str, path: str, query: dict[str, Any] | None, body: Any, timeout: float
    ) -> Answer:
        if not self.key:
            raise Failure(
                "No API key was given.",
                why=f"{self.url} answers operators by key, and none is remembered here for it.",
                todo="Set SOJOURN_KEY or --key; on the server's own host, name its folder with --data.",
                exit_code=ExitCode.NOT_ALLOWED,
            )
        given = {k: _texts(v) for k, v in (query or {}).items() if v is not None}
        content = None if body is None else msgspec.json.encode(body)
        request = Request(
            method=method,
            path=with_query(path, given),
            headers=headers(Secret(self.key), body=content),
            body=content,
        )
        try:
            return self.transport.send(request, timeout=timeout, limit=ANSWER_MAX)
        except InvalidInput as fault:
            why = fault.message
        except NoAnswer as cause:
            why = (
                f"No answer within {timeout:.0f} s." if cause.slow else f"{str(cause).rstrip('.')}."
            )
        raise unreachable(self.url, why)

    def _decode(self, answer: Answer) -> dict[str, Any]:
        try:
            return msgspec.json.decode(answer.body or b"{}", type=dict[str, Any])
        except msgspec.DecodeError:
            raise Failure(
                f"What answers at {self.url} is not Sojourn.",
                why=f"It answered {answer.status} with something that is not its JSON.",
                todo="Check --url or SOJOURN_URL, and any proxy in between.",
            ) from None

    def _refusal(self, answer: Answer) -> Failure:
        problem = self._decode(answer)
        code = str(problem.get("code", ""))
        what = str(problem.get("error") or f"The server answered {answer.status}.")
        if answer.status == 401:
            what, why = "The server does not accept this key.", f"{what} (from {self.key_from})"
        else:
            why = f"{self.url} answered {answer.status} {code}".rstrip() + "."
        if answer.status >= 500 and problem.get("instance"):
            why += f" Its log names the request {problem['instance']}."
        todo = TODO.get(code) or str(problem.get("details") or TODO.get(str(answer.status)) or LOG)
        exit_code = BY_STATUS.get(answer.status, ExitCode.FAILED)
        if answer.status == 400:
            exit_code = ExitCode.USAGE
        return Failure(what, why=why, todo=todo, exit_code=exit_code)


def segment(text: str) -> str:
    """Quote one segment of a path: ids and names may hold anything."""
    return quote(text, safe="")


def _texts(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(v) for v in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def unreachable(url: str, why: str) -> Failure:
    return Failure(
        f"No server answers at {url}.",
        why=why,
        todo="Start it with `sojourn serve`, or name another with --url or SOJOURN_URL.",
        exit_code=ExitCode.UNAVAILABLE,
    )


def find(url: str | None, key: str | None, data: str | None) -> Server:
    """Find the server to talk to: flags, environment and file first, then the data folder.

    The remembered key goes to the remembered address alone: never to one that was named.
    """
    loaded = source.read({"url": url, "key": key, "data": data})
    settings, origins = loaded.settings, loaded.origins
    known = DataFolder(settings.data).recall()
    address = (settings.url or known.url or _default(settings)).rstrip("/")
    if settings.key:
        return Server(address, settings.key, key_from=origins["key"])
    if known.key and address == known.url:
        return Server(address, known.key, key_from=str(DataFolder(settings.data).server_file))
    return Server(address, "")


def _default(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"
