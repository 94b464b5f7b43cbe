"""What the demo looks like, and its cables."""

from __future__ import annotations

import io
import socket
from collections import deque
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from sojourn.cli.demo.director import BACK, STRUCK, Director, Line, View
from sojourn.cli.demo.network import Network
from sojourn.cli.demo.people import Fate
from sojourn.cli.demo.show import DOING, Show, conclude
from sojourn.cli.demo.tally import Summary
from sojourn.cli.output import Output

SUMMARY = Summary(
    acquires=12,
    denials=9,
    waits=5,
    ghosts=7,
    ghosts_reclaimed=5,
    longest_ghost_held=2.9,
    denials_past_time=0,
    over_grants=0,
)


def person(name: str, state: str, since: float = 0.0) -> Any:
    return SimpleNamespace(
        name=name, user=name.lower(), client=f"{name.lower()}-laptop", state=state, since=since
    )


def director(capacity: int = 5) -> Any:
    """A moment of a demo."""
    people = [
        person("Ada", "holding"),
        person("Ben", "crash", 18.0),
        person("Cho", "waiting", 15.0),
    ]
    lease = {"state": "active", "lastBeatAgo": 0.4, "expiresIn": 2.6, "fence": 7}
    silent = {"state": "suspect", "lastBeatAgo": 2.1, "expiresIn": 0.9, "fence": 3}
    leases = {("ada", "ada-laptop"): lease, ("ben", "ben-laptop"): silent}
    story = [
        Line(float(i), "denied", f"Cho is refused for the {i}th time. " * 3) for i in range(50)
    ]
    return SimpleNamespace(
        people=people,
        story=deque(story),
        so_far=SUMMARY,
        view=View(capacity=capacity, in_use=2, suspect=1, leases=leases),
        elapsed=20.0,
    )


@pytest.mark.parametrize("capacity", [1, 5, 60, 1_000])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 15)])
def test_a_frame_fits_the_terminal(width: int, height: int, capacity: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, highlight=False)
    shown: Director = director(capacity)
    console.print(Show(shown, 60.0))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= max(height, 17)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "40 s left" in text
    assert "2 of " in text
    assert "crashed for 2 s" in text
    assert "waiting in line" in text
    assert "49th time" in text  # the latest is never cut off
    assert "over-grants 0" in text


def test_the_summary_says_what_must_be_zero(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(Output(), SUMMARY, clients=8, capacity=5, took=60.0)
    told = capsys.readouterr().out
    assert "In 1 min, 8 people shared 5 seats." in told
    assert told.count("ok") == 2
    broken = msgspec.structs.replace(SUMMARY, over_grants=1)
    conclude(Output(), broken, clients=8, capacity=5, took=60.0)
    assert "must be 0" in capsys.readouterr().out


def test_every_fate_has_its_words() -> None:
    assert set(STRUCK) == set(BACK) == set(Fate)
    assert set(Fate) <= set(DOING)


def test_a_pulled_cable_holds_back_and_closes_nothing() -> None:
    """What was sent meanwhile arrives once it is plugged in again."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Network(*server.getsockname()[:2]) as network,
    ):
        cable = network.cable()
        host, port = cable.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"one")
            inside, _ = server.accept()
            with inside:
                inside.settimeout(10)
                assert inside.recv(10) == b"one"
                cable.pull()
                client.sendall(b"two")
                inside.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    inside.recv(10)
                inside.settimeout(10)
                cable.plug()
                assert inside.recv(10) == b"two"
                inside.sendall(b"three")
                assert client.recv(10) == b"three"
