"""Where settings come from on a command line, and that secrets stay secret."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from sojourn.cli import source
from sojourn.cli.main import main
from sojourn.cli.serve import check
from sojourn.cli.server import find
from sojourn.errors import SettingsError
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder, Remembered, write_private

GOOD = "tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings, and an environment without them."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.__struct_fields__:
        monkeypatch.delenv(f"SOJOURN_{name.upper()}", raising=False)
    return tmp_path


def settings_of(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, dict[str, object]]:
    assert main(["settings", "--json", *flags]) == 0
    said: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return said


def test_every_setting_has_a_flag() -> None:
    """Of `serve`, or of the commands that talk to it; none has two."""
    assert set(source.HELP) | set(source.CLIENT_FIELDS) == set(Settings.__struct_fields__)
    assert not set(source.HELP) & set(source.CLIENT_FIELDS)


def test_flags_beat_environment_beats_file(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "sojourn.toml").write_text("port = 1\nworkers = 2\nqueue_max = 3\n")
    monkeypatch.setenv("SOJOURN_PORT", "4")
    monkeypatch.setenv("SOJOURN_WORKERS", "5")
    said = settings_of(capsys, "--port", "6")
    assert (said["port"]["value"], said["port"]["from"]) == (6, "--port")
    assert (said["workers"]["value"], said["workers"]["from"]) == (5, "SOJOURN_WORKERS")
    assert (said["queue_max"]["value"], said["queue_max"]["from"]) == (3, "sojourn.toml")
    assert said["host"] == {
        "value": "127.0.0.1",
        "from": "default",
        "variable": "SOJOURN_HOST",
    }


def test_flags_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    issuers = '[{"issuer": "https://id.example.com", "jwks_file": "keys.json"}]'
    said = settings_of(
        capsys,
        *("--dev", "--no-show-holders", "--sweep-interval", "60"),
        *("--trusted-proxies", "10.0.0.1", "--trusted-proxies", "10.0.0.2"),
        *("--jwt-issuers", issuers),
    )
    assert said["dev"]["value"] is True
    assert said["show_holders"]["value"] is False
    assert said["sweep_interval"]["value"] == 60.0
    assert said["trusted_proxies"]["value"] == ["10.0.0.1", "10.0.0.2"]
    assert '"https://id.example.com"' in json.dumps(said["jwt_issuers"]["value"])


def test_secrets_are_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In both forms, whatever way they came in."""
    monkeypatch.setenv("SOJOURN_SECRET", GOOD)
    monkeypatch.setenv("SOJOURN_KEY", "sja_hush")
    monkeypatch.setenv("SOJOURN_STORE", "postgresql://me:hush@db/x")
    flags = ["--admin-key", GOOD[::-1]]
    for form in ([], ["--json"]):
        assert main(["settings", *form, *flags]) == 0
        text = capsys.readouterr().out
        assert not {GOOD, GOOD[::-1], "hush"} & set(text.replace('"', " ").split())
        assert "hush" not in text
        assert "postgresql://me:…@db/x" in text


def test_a_named_file_must_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--config", "nowhere.toml"]) == 2
    assert "nowhere.toml cannot be read" in capsys.readouterr().err


def test_a_shared_store_needs_a_good_secret(elsewhere: Path) -> None:
    """With the command that makes one."""
    settings = Settings(store="postgresql://db/x")
    with pytest.raises(SettingsError) as missing:
        check(settings, DataFolder(elsewhere))
    assert "sojourn secret new" in missing.value.hint
    for bad in ("short", "keyboard cat", "a" * 64):
        with pytest.raises(SettingsError) as refused:
            source.read({"store": "postgresql://db/x", "secret": [bad]})
        assert "sojourn secret new" in refused.value.hint
    given = Settings(store="postgresql://db/x", secret=(GOOD,))
    assert check(given, DataFolder(elsewhere)) == given


def test_an_embedded_store_keeps_its_own_secret(elsewhere: Path) -> None:
    """Made once, private, and good enough for any store."""
    folder = DataFolder(elsewhere / "data")
    folder.make()
    made = check(Settings(data=str(folder.path)), folder).secret
    assert made == (folder.secret(),)
    assert stat.S_IMODE(folder.secret_file.stat().st_mode) == 0o600
    assert check(Settings(secret=(GOOD,)), folder).secret == (GOOD,)


@pytest.mark.parametrize("store", ["", "memory:"])
def test_workers_need_a_shared_store(elsewhere: Path, store: str) -> None:
    with pytest.raises(SettingsError, match="need a shared store"):
        check(Settings(store=store, workers=2), DataFolder(elsewhere))


def test_a_misspelled_store_is_not_taken_for_a_missing_secret(elsewhere: Path) -> None:
    with pytest.raises(SettingsError, match="cannot begin with 'postgre:'"):
        check(Settings(store="postgre://db/x"), DataFolder(elsewhere))


def test_private_files_are_whole_and_private(elsewhere: Path) -> None:
    """And where a file must be the first, the second writer learns that it is not."""
    path = elsewhere / "file"
    write_private(path, "one", exclusive=True)
    with pytest.raises(FileExistsError):
        write_private(path, "two", exclusive=True)
    assert path.read_text() == "one"
    write_private(path, "three")
    assert path.read_text() == "three"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in elsewhere.iterdir()] == ["file"]


def test_a_stop_forgets_only_its_own_process(elsewhere: Path) -> None:
    folder = DataFolder(elsewhere)
    folder.remember(Remembered(url="http://a", key="k", pid=7))
    folder.forget_process(8)
    assert folder.recall().pid == 7
    folder.forget_process(7)
    assert folder.recall() == Remembered(url="http://a", key="k", pid=None)
    folder.server_file.write_text("not JSON")
    assert folder.recall() == Remembered()


def test_the_remembered_key_goes_to_the_remembered_server_alone(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming another address, by any way, sends it no key that was not named too."""
    folder = DataFolder(elsewhere / "sojourn-data")
    folder.make()
    folder.remember(Remembered(url="http://127.0.0.1:1", key="sja_local"))
    assert find(None, None, None).key == "sja_local"
    assert find("http://127.0.0.1:1/", None, None).key == "sja_local"
    assert find("http://evil.example.com", None, None).key == ""
    assert find("http://evil.example.com", "sja_other", None).key == "sja_other"
    monkeypatch.setenv("SOJOURN_ADMIN_KEY", GOOD)
    assert find("http://evil.example.com", None, None).key == ""
    monkeypatch.setenv("SOJOURN_URL", "http://evil.example.com")
    assert find(None, None, None).key == ""
    monkeypatch.setenv("SOJOURN_KEY", "sja_named")
    assert find(None, None, None).key == "sja_named"


def test_without_anything_the_default_address_is_tried() -> None:
    server = find(None, None, None)
    assert (server.url, server.key) == ("http://127.0.0.1:8700", "")
