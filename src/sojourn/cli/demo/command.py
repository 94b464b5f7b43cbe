"""`sojourn demo`: the show."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from sojourn.cli.command import Json, Key, Url
from sojourn.cli.failure import ENDS, ExitCode, Failure
from sojourn.cli.options import given
from sojourn.cli.output import Output
from sojourn.cli.server import Server, find

if TYPE_CHECKING:
    from sojourn.cli.demo.director import Director
    from sojourn.cli.demo.tally import Summary

REFRESH = 8  # times a second


def demo(
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", metavar="N", help="How long it plays.")
    ] = 60.0,
    clients: Annotated[
        int, typer.Option("--clients", "-c", metavar="N", help="People who want a seat.")
    ] = 8,
    capacity: Annotated[int, typer.Option("--capacity", metavar="N", help="Seats they share.")] = 5,
    seed: Annotated[
        int | None,
        given("--seed", "N", "Play the same again."),
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Watch people share seats while everything that can go wrong goes wrong.

    Starts a server of its own on a free port, and a real client process for each person: they crash,
    lose their network, close the lid or the tab, go idle, leave, and come back. Seats left behind go
    to whoever waits, within seconds; no seat is ever given twice. Ctrl-C ends it early. With --url,
    plays on a running server, and removes its license afterwards.

    Ends with a summary; with --json that is all it prints. Exits with 1 if a count that must be 0 is
    not.
    """
    from sojourn.cli.demo.stage import check_plan

    check_plan(clients, capacity, seconds)
    out = Output(as_json=as_json)
    seed = random.randrange(10_000) if seed is None else seed  # noqa: S311 - a play, not a secret
    with _catching(_interrupt), _server(url, key, out) as server:
        summary, took = play(out, server, seconds, clients=clients, capacity=capacity, seed=seed)
    if as_json:
        plan = {"seconds": round(took, 1), "clients": clients, "capacity": capacity, "seed": seed}
        out.json({**plan, **msgspec.to_builtins(summary)})
    else:
        from sojourn.cli.demo.show import conclude

        conclude(out, summary, clients=clients, capacity=capacity, took=took)
        out.say(f"Play the same again: sojourn demo --seed {seed}", style="dim")
    if summary.over_grants or summary.denials_past_time:
        raise Failure(
            "A promise was broken: see the counts that must be 0.",
            why=f"{summary.over_grants} over-grants, "
            f"{summary.denials_past_time} refusals while a ghost overstayed.",
            todo=f"Report it with `sojourn demo --seed {seed} --json` and the server's log.",
        )


@contextlib.contextmanager
def _server(url: str | None, key: str | None, out: Output) -> Iterator[Server]:
    """Find the server to play on; start one unless one was named."""
    if url is not None:
        yield find(url, key, None)
        return
    from sojourn.cli.demo.stage import own_server

    with contextlib.ExitStack() as stack:
        with out.waiting("Starting a server"):
            server = stack.enter_context(own_server())
        yield server


def play(out: Output, server: Server, seconds: float, **plan: Any) -> tuple[Summary, float]:
    """Play, and count. Whatever happens, every program this started has ended afterwards."""
    from sojourn.cli.demo.director import Director
    from sojourn.cli.demo.network import Network
    from sojourn.cli.demo.stage import license_on

    parts = urlsplit(server.url)
    if parts.scheme != "http":
        raise Failure(
            "The demo plays over plain HTTP only.",
            why="It puts a cable that can be cut between each client and the server.",
            todo="Name the server's own http:// address, or leave --url out.",
            exit_code=ExitCode.USAGE,
        )
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    with license_on(server, plan["capacity"]) as stage, Network(host, port) as network:
        director = Director(stage, network, **plan)
        try:
            with _stop_early() as stopped:
                _perform(out, director, seconds, stopped)
            took = director.elapsed
            with out.waiting("Sending everybody home"):
                return director.finish(), took
        finally:
            director.abandon()


def _perform(out: Output, director: Director, seconds: float, stopped: list[int]) -> None:
    from sojourn.cli.demo.director import TICK
    from sojourn.cli.demo.show import Show, story_line

    live = out.console.is_terminal and not out.as_json
    with contextlib.ExitStack() as stack:
        if live:
            from rich.live import Live

            show = Show(director, seconds)
            stack.enter_context(Live(show, console=out.console, refresh_per_second=REFRESH))
        while director.elapsed < seconds and not stopped:
            for line in director.tick():
                if not live and not out.as_json:
                    out.say(story_line(line))
            time.sleep(TICK)


@contextlib.contextmanager
def _stop_early() -> Iterator[list[int]]:
    """Let Ctrl-C and its like end the play, not the program: the summary is still to come."""
    stopped: list[int] = []
    with _catching(lambda number, _: stopped.append(number)):
        yield stopped


def _interrupt(*_: object) -> None:
    """Unwind, so that whatever was started is ended and its folder removed."""
    raise KeyboardInterrupt


@contextlib.contextmanager
def _catching(handler: Callable[[int, Any], object]) -> Iterator[None]:
    """Handle Ctrl-C, SIGTERM and a closed terminal."""
    previous = {number: signal.signal(number, handler) for number in ENDS}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
