"""`sojourn sessions`: who is signed in, and signing them out, as people and scripts run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cli_harness import run, run_json, serving

from sojourn.client.sessions import RemoteSessions
from sojourn.device import Device
from sojourn.session import Begin, Begun, Check, Gone, Session

SignIn = Callable[..., Begun]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sessions")
    with serving(folder) as (server, url):
        (folder / "url").write_text(url)
        yield folder
        assert server.end() == 0


@pytest.fixture(scope="module")
def sessions(folder: Path) -> Iterator[RemoteSessions]:
    key = run_json(folder, "key", "create", "shop", "--role", "app")["key"]
    with closing(RemoteSessions((folder / "url").read_text(), key)) as sessions:
        yield sessions


@pytest.fixture
def sign_in(sessions: RemoteSessions) -> SignIn:
    def sign_in(user: str, **fields: Any) -> Begun:
        (begun,) = sessions.begin([Begin(user_id=user, **fields)])
        assert isinstance(begun, Begun)
        return begun

    return sign_in


def ended(sessions: RemoteSessions, *begun: Begun) -> list[bool]:
    found: list[Session | Gone] = list(sessions.check([Check(each.token) for each in begun]))
    return [isinstance(each, Gone) for each in found]


def test_list_and_show_name_people_and_devices_and_no_token(folder: Path, sign_in: SignIn) -> None:
    device = Device(browser="Firefox", os="Linux", ip="192.0.2.7", user_agent="Mozilla/5.0")
    ann = sign_in("ann", device=device, data={"cart": "private"}, level=2)
    sign_in("bob", impersonator="root")
    listed = run(folder, "sessions", "list").stdout
    assert "2 sessions of 2 users." in listed
    assert "Firefox on Linux" in listed
    assert "bob (really root)" in listed
    one = run_json(folder, "sessions", "list", "--user", "ann")
    assert [each["id"] for each in one] == [ann.session.id]
    assert "data" not in one[0]
    shown = run(folder, "sessions", "show", ann.session.id).stdout
    assert "192.0.2.7" in shown
    assert "level 2" in shown
    assert run_json(folder, "sessions", "show", ann.session.id)["userId"] == "ann"
    assert ann.token[4:] not in listed + shown + str(one)
    assert "private" not in listed + shown + str(one)
    assert "is not signed in" in run(folder, "sessions", "list", "-u", "nobody").stdout
    run(folder, "sessions", "show", "ses_unknown", code=4)


def test_end_one_or_the_others(folder: Path, sessions: RemoteSessions, sign_in: SignIn) -> None:
    mine, *others = [sign_in("cy") for _ in range(4)]
    assert "over" in run(folder, "sessions", "end", others[0].session.id).stdout
    assert ended(sessions, mine, *others) == [False, True, False, False]
    run(folder, "sessions", "end", mine.session.id, "--others", code=2)  # nobody to ask
    said = run(folder, "sessions", "end", mine.session.id, "--others", "--yes").stdout
    assert "Ended 2 other sessions of cy." in said
    assert ended(sessions, mine, *others) == [False, True, True, True]
    (gone,) = sessions.check([Check(others[1].token)])
    assert isinstance(gone, Gone)
    assert (gone.end_reason, str(gone.ended_by)[:4]) == ("revoked", "key:")
    assert run_json(folder, "sessions", "end", "ses_unknown") == {"ended": 0}


def test_end_all_of_a_user_or_of_everybody(
    folder: Path, sessions: RemoteSessions, sign_in: SignIn
) -> None:
    dan, eve = [sign_in("dan") for _ in range(2)], sign_in("eve")
    run(folder, "sessions", "end", "--user", "dan", code=2)  # nobody to ask
    assert ended(sessions, *dan, eve) == [False, False, False]
    said = run(folder, "sessions", "end", "--user", "dan", "--yes").stdout
    assert "Every session of user dan begun up to now is over." in said
    assert ended(sessions, *dan, eve) == [True, True, False]
    run(folder, "sessions", "end", "--everybody", code=2)
    assert run_json(folder, "sessions", "end", "--everybody", "-y")["at"].endswith("Z")
    assert ended(sessions, eve) == [True]
    assert "Nobody is signed in." in run(folder, "sessions", "list").stdout


def test_roles_and_wrong_usage(folder: Path, sign_in: SignIn) -> None:
    fay = sign_in("fay").session.id
    viewer = run_json(folder, "key", "create", "screen", "--role", "viewer")["key"]
    operator = run_json(folder, "key", "create", "desk", "--role", "operator")["key"]
    run(folder, "sessions", "list", env={"SOJOURN_KEY": viewer})
    run(folder, "sessions", "end", fay, code=5, env={"SOJOURN_KEY": viewer})
    run(folder, "sessions", "end", "--everybody", "-y", code=5, env={"SOJOURN_KEY": operator})
    run(folder, "sessions", "end", fay, "--others", "-y", env={"SOJOURN_KEY": operator})
    for wrong in ((), ("--others",), (fay, "--user", "fay"), ("--user", "x", "--everybody")):
        run(folder, "sessions", "end", *wrong, "--yes", code=2)


def test_a_device_cannot_steer_the_terminal(folder: Path, sign_in: SignIn) -> None:
    """What a browser says of itself is text, whatever it holds."""
    begun = sign_in("gil", device=Device(user_agent="Moz\u202eilla [bold]x[/bold]"))
    shown = run(folder, "sessions", "show", begun.session.id).stdout
    assert "Mozilla [bold]x[/bold]" in shown


def test_a_server_for_people_makes_no_samples(folder: Path, tmp_path: Path) -> None:
    said = run(folder, "sample-sessions", code=5).stderr
    assert "this one is not" in said
    assert "sojourn serve --dev" in said
    run(folder, "sample-sessions", "--remove")
    url = (folder / "url").read_text()
    assert "SOJOURN_KEY" in run(tmp_path, "sample-sessions", "--url", url, code=5).stderr
