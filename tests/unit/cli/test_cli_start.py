"""What a start does to a database, and whom it tells the first admin key."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sojourn.cli import database, listen, serve, wiring
from sojourn.cli.failure import ExitCode, Failure
from sojourn.cli.output import Output
from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.service.services import Services
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder, Remembered

SECRET = "tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1"
SHARED = Settings(store="postgresql://me:hush@db/x", secret=(SECRET,))
EMBEDDED = Settings(store="memory:", secret=(SECRET,))


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Whose tables were brought up to date."""
    asked: list[Settings] = []
    monkeypatch.setattr(serve, "bring_up_to_date", asked.append)
    monkeypatch.setattr(wiring, "build_services", lambda _: None)
    return asked


@pytest.mark.parametrize(
    ("settings", "wanted", "fresh", "done"),
    [
        (EMBEDDED, False, False, True),
        (SHARED, False, False, False),
        (SHARED, False, True, True),
        (SHARED, True, False, True),
    ],
)
def test_tables_of_a_shared_store_change_on_request_only(
    settings: Settings,
    wanted: bool,
    fresh: bool,
    done: bool,
    migrated: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other servers may run on them; where there are none yet, nobody can."""
    monkeypatch.setattr(serve, "is_fresh", lambda _: fresh)
    serve.prepare(settings, migrate=wanted)
    assert bool(migrated) is done


def test_a_database_without_our_tables_is_fresh(tmp_path: Path) -> None:
    settings = Settings(store=f"sqlite:///{tmp_path}/x.db")
    assert database.is_fresh(settings)
    database.bring_up_to_date(settings)
    assert not database.is_fresh(settings)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StoreUnavailable("No route."), ExitCode.UNAVAILABLE, "Check that the database runs"),
        (StoreBroken("Too old."), ExitCode.FAILED, "sojourn migrate"),
    ],
)
def test_a_store_that_fails_a_start(
    error: Exception, code: ExitCode, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Settings) -> None:
        raise error

    monkeypatch.setattr(serve, "is_fresh", fail)
    with pytest.raises(Failure) as failed:
        serve.prepare(SHARED, migrate=False)
    assert failed.value.exit_code is code
    assert said in failed.value.todo
    assert "postgresql://me:…@db/x" in failed.value.what


@pytest.fixture
def services() -> Services:
    return wiring.build_services(EMBEDDED)


def test_a_key_of_another_store_is_forgotten(tmp_path: Path, services: Services) -> None:
    """A data folder may have served another database before."""
    folder = DataFolder(tmp_path)
    assert folder.claim()
    folder.remember(Remembered(url="http://before", key="sja_of-another-store"))
    made = serve.first_key(services, EMBEDDED, folder, "http://now")
    assert made is not None
    assert folder.recall().key == made
    assert serve.first_key(services, EMBEDDED, folder, "http://now") is None
    assert folder.recall().key == made
    folder.remember(Remembered(key="sja_of-another-store"))
    serve.first_key(services, EMBEDDED, folder, "http://now")
    assert folder.recall().key == ""
    folder.give_up()


@pytest.mark.parametrize("width", ["40", "58", "80", "200"])
def test_a_shown_key_is_whole_at_any_width(
    width: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("FORCE_COLOR", "1")
    key = "sja_" + "x" * 49
    serve.show_key(Output(), key, DataFolder(tmp_path))
    assert key in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bound", "url"),
    [
        (("127.0.0.1", 80), "http://127.0.0.1:80"),
        (("0.0.0.0", 80), "http://127.0.0.1:80"),
        (("::", 80, 0, 0), "http://[::1]:80"),
        (("::1", 80, 0, 0), "http://[::1]:80"),
    ],
)
def test_the_address_is_one_that_this_host_reaches(
    bound: tuple[object, ...], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:
        monkeypatch.setattr(socket.socket, "getsockname", lambda _: bound)
        assert listen.address(listener) == url


def test_an_address_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure) as refused:
        listen.bind(Settings(host="192.0.2.1", port=0))
    assert refused.value.exit_code is ExitCode.USAGE

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Failure, match="no address"):
        listen.bind(Settings(host="nowhere", port=0))
