"""`sojourn health`: is the server ready? For health checks of containers, and for scripts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from sojourn.cli.command import Data, Json, Url
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Output
from sojourn.cli.server import find, unreachable
from sojourn.client.opening import open_transport, target_at
from sojourn.client.transport import Answer, NoAnswer, Request
from sojourn.errors import InvalidInput

ANSWER_MAX = 65_536
"""Bytes of an answer that are read: /readyz answers with a few hundred."""

Live = Annotated[
    bool,
    typer.Option(
        "--live",
        help="Ask only whether the process answers, not whether its store does.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=60, metavar="SECONDS", help="How long to wait."),
]


def health(
    live: Live = False,
    timeout: Timeout = 5.0,
    url: Url = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask the server whether it can serve requests.

    Ends with 0 if it can, and with 6 if it cannot or does not answer. Asks /readyz, with --live
    /livez; needs no key. `sojourn doctor` says what is wrong.
    """
    server = find(url, None, data)
    answer = _ask(server.url, "/livez" if live else "/readyz", timeout)
    said = _decoded(answer)
    if not answer.success or "status" not in said:
        raise Failure(
            f"The server at {server.url} is not ready.",
            why=str(said.get("error") or f"It answered {answer.status}."),
            todo="Run `sojourn doctor` on its host, or look at its log.",
            exit_code=ExitCode.UNAVAILABLE,
        )
    out = Output(as_json=as_json)
    if as_json:
        out.json({"url": server.url, **said})
        return
    degraded = [str(each) for each in said.get("degraded") or ()]
    out.say(f"{server.url} is {said['status']}.")
    if degraded:
        out.say(f"Degraded: {', '.join(degraded)}. `sojourn doctor` says more.")


def _ask(url: str, path: str, timeout: float) -> Answer:
    """Send one GET. Raises Failure where nobody answers within `timeout` seconds."""
    request = Request(method="GET", path=path, headers={"Accept": "application/json"}, body=None)
    try:
        transport = open_transport(target_at(url))
        try:
            return transport.send(request, timeout=timeout, limit=ANSWER_MAX)
        finally:
            transport.close()
    except InvalidInput as fault:
        why = fault.message
    except NoAnswer as cause:
        why = f"No answer within {timeout:g} s." if cause.slow else f"{str(cause).rstrip('.')}."
    raise unreachable(url, why)


def _decoded(answer: Answer) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.body or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {"error": f"It answered {answer.status} with something that is not Sojourn's."}
