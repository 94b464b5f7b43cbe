"""What `sojourn hold` says, without a server."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest

from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.hold import Keeper, _patience, next_beat, refusal
from sojourn.cli.output import Output
from sojourn.client import Change, SeatDenied, SeatState, Waiting
from sojourn.client.errors import Holder, SeatProblem
from sojourn.errors import StoreUnavailable


def seat(**facts: Any) -> Any:
    """A seat as it shows itself."""
    shown = {
        "state": SeatState.SAFE,
        "held": True,
        "fence": 7,
        "lease_id": "lse_x",
        "client_id": "laptop",
        "lost_after": 3.0,
        "heartbeat_interval": 1.0,
        "expires_in": 2.4,
    }
    return SimpleNamespace(**{**shown, **facts})


def denied() -> SeatDenied:
    holders = (
        Holder(user_id="ada", state="suspect", held_for=90.0, last_beat_ago=2.1, expires_in=0.9),
        Holder(user_id="ben", state="active", held_for=5.0, last_beat_ago=0.3, expires_in=2.7),
    )
    problem = SeatProblem(code="seat_limit", limit=2, in_use=2, suspect=1, holders=holders)
    return SeatDenied(problem, retry_after=0.9)


def test_the_live_line_says_what_is_true_now() -> None:
    keeper = Keeper(Output(), "editor", "cho")
    assert keeper.line(seat()).plain == (
        "SAFE      editor for cho · fence 7 · next beat in 0.4 s · expires in 2.4 s"
    )
    late = seat(state=SeatState.JEOPARDY, expires_in=1.2)
    assert keeper.line(late).plain.startswith(
        "JEOPARDY  editor for cho · fence 7 · next beat in 0.0"
    )
    lost = keeper.line(seat(state=SeatState.LOST, held=False)).plain
    assert lost == "LOST      editor for cho · trying to get it back"
    assert keeper.line(seat(state=SeatState.NEW, held=False)).plain.endswith("cho: asking")


def test_waiting_says_who_holds_the_seats_and_when_it_asks_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    keeper = Keeper(Output(), "editor", "cho")
    keeper._waits(Waiting(seat=seat(), error=denied(), tries=1, waited=0.0, next_in=0.9))
    said = capsys.readouterr().out
    assert said == "WAITING  2 seats, all in use; next try in 0.9 s; held by ada, ben\n"
    away = Waiting(seat=seat(), error=StoreUnavailable("It is away."), tries=2, waited=1, next_in=2)
    keeper._waits(away)
    assert "It is away; next try in 2 s" in capsys.readouterr().out


def test_a_denial_names_the_most_silent_holder(capsys: pytest.CaptureFixture[str]) -> None:
    """In three lines, under a table of who holds the seats."""
    failure = Keeper(Output(), "editor", "cho")._denied(denied())
    assert failure.exit_code is ExitCode.DENIED
    assert failure.what == (
        "Maximum user limit reached: 2 of 2 seats on editor in use, 1 of them suspect."
    )
    assert "ada, beat 2.1 s ago" in failure.why
    assert "--wait" in failure.todo
    table = capsys.readouterr().err
    assert {"ada", "ben", "suspect"} <= set(table.split())


def test_machines_get_the_whole_denial(capsys: pytest.CaptureFixture[str]) -> None:
    Keeper(Output(as_json=True), "editor", "cho")._denied(denied())
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "denied"
    assert (said["limit"], said["inUse"], said["suspect"], said["retryAfter"]) == (2, 2, 1, 0.9)
    assert [h["userId"] for h in said["holders"]] == ["ada", "ben"]
    assert set(refusal(StoreUnavailable("x"))) == {"code", "error"}


def test_each_change_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Stable names, and nothing else on stdout."""
    keeper = Keeper(Output(as_json=True), "editor", "cho")
    change = Change(
        seat=seat(), before=SeatState.NEW, state=SeatState.SAFE, reason="granted", resumed=False
    )
    keeper._changed(change)
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said.pop("at").endswith("Z")
    assert said == {
        "state": "safe",
        "before": "new",
        "reason": "granted",
        "resumed": False,
        "feature": "editor",
        "userId": "cho",
        "clientId": "laptop",
        "leaseId": "lse_x",
        "fence": 7,
        "expiresIn": 2.4,
    }


def test_how_long_to_wait() -> None:
    assert _patience(None) is None
    assert _patience("forever") == math.inf
    assert _patience("5m") == 300.0
    with pytest.raises(Failure):
        _patience("a while")


def test_the_next_beat_is_never_in_the_past() -> None:
    assert next_beat(seat(expires_in=0.1)) == 0.0
    assert next_beat(seat(expires_in=3.0)) == 1.0
