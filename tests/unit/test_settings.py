"""Settings: precedence, bounds, and secrets that stop the start."""

from __future__ import annotations

import base64
import random
import uuid
from pathlib import Path

import pytest

from sojourn.errors import SettingsError
from sojourn.settings import Settings, check_secret, listen_address, load


def test_flags_beat_environment_beats_file_beats_defaults() -> None:
    """Each value says where it came from."""
    loaded = load(
        flags={"port": 1, "host": None},
        environ={"SOJOURN_PORT": "2", "SOJOURN_WORKERS": "3", "SOJOURN_DEV": "true"},
        toml="port = 4\nworkers = 5\nqueue_max = 6\nsweep_interval = 60",
    )
    settings = loaded.settings
    assert (settings.port, settings.workers, settings.queue_max) == (1, 3, 6)
    assert settings.dev is True
    assert settings.sweep_interval == 60.0
    assert loaded.origins["port"] == "--port"
    assert loaded.origins["workers"] == "SOJOURN_WORKERS"
    assert loaded.origins["queue_max"] == "sojourn.toml"
    assert loaded.origins["host"] == "default"
    assert set(loaded.origins) == set(Settings.__struct_fields__)


def test_the_store_lies_in_the_data_folder_unless_named() -> None:
    """The ledger shares a SQL store's database."""
    assert load(flags={"data": "/d"}).settings.store_url == "sqlite:////d/sojourn.db"
    shared = load(environ={"SOJOURN_STORE": "postgresql://h/d"}).settings
    assert shared.ledger_url == "postgresql://h/d"
    assert not shared.embedded
    redis = load(environ={"SOJOURN_STORE": "redis://h"}).settings
    assert redis.ledger_url == "sqlite:///./sojourn-data/sojourn.db"


@pytest.mark.parametrize(
    ("environ", "toml"),
    [
        ({"SOJOURN_PORT": "many"}, ""),
        ({"SOJOURN_PORT": "70000"}, ""),
        ({"SOJOURN_PULSE_INTERVAL": "30"}, ""),
        ({"SOJOURN_JWT_ISSUERS": "{"}, ""),
        ({"SOJOURN_ADMIN_KEY": "short"}, ""),
        ({"SOJOURN_SECRET": "short"}, ""),
        ({"SOJOURN_SECRET": "keyboard cat"}, ""),
        ({}, "colour = 1"),
        ({}, "not toml"),
    ],
)
def test_what_is_wrong_stops_the_start(environ: dict[str, str], toml: str) -> None:
    """A value that cannot be right is refused with its origin."""
    with pytest.raises(SettingsError):
        load(environ=environ, toml=toml)


def test_what_is_wrong_is_told_to_who_only_looks() -> None:
    """Each fault by the setting's name, with its default in its place; what is right stays."""
    loaded = load(
        environ={
            "SOJOURN_ADMIN_KEY": "short",
            "SOJOURN_JWT_ISSUERS": "{",
            "SOJOURN_PULSE_INTERVAL": "30",
        },
        toml='secret = "short"\nport = "many"\nhost = "::1"\ncolour = 1\nworkers = 0',
        lenient=True,
    )
    wrong = {"admin_key", "jwt_issuers", "max_pause", "secret", "port", "colour", "workers"}
    assert loaded.faults.keys() == wrong
    assert loaded.faults["port"].message.startswith("sojourn.toml, port: ")
    settings = loaded.settings
    assert (settings.port, settings.workers, settings.host) == (8700, 1, "::1")
    assert (settings.admin_key, settings.secret) == ("", ("short",))
    assert (
        load(environ={"SOJOURN_SECRET": "short"}, lenient=True).faults == {}
    )  # told by doctor itself


def test_lists_and_issuers_come_from_the_environment() -> None:
    """Secrets are a comma-separated list, issuers are JSON."""
    first, second = "tz7Rm2kPw9vQx4Lc8hNd3Fb6yGs5Ju1aEe", "k5Wn8Zt3Hq6Xr1Vb9Jm4Cd7Fs2Lg0Ypoi"
    loaded = load(
        environ={
            "SOJOURN_SECRET": f"{first}, {second}",
            "SOJOURN_JWT_ISSUERS": '[{"issuer": "https://id", "jwks_file": "keys.json"}]',
        }
    )
    assert loaded.settings.secret == (first, second)
    assert loaded.settings.jwt_issuers[0].user_claim == "sub"


@pytest.mark.parametrize(
    "secret",
    [
        "a" * 64,
        "ab" * 32,
        "0123456789abcdef" * 2,
        "9876543210" * 4,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "My_Secret_Key-My_Secret_Key-My_Secret_Key",
        "change.this.in.production-0123456789",
        "Password123Password123Password123Password123",
        "qwertyuiopasdfghjklzxcvbnm123456",
        "thisisasupersecretkeythatis32char",
        "MySuperSecretKeyForSessions123456",
        "please-change-this-secret-in-prod!!",
        "default-secret-key-for-sojourn-app",
        "your_jwt_secret_key_here_change_it",
        "replace-with-32-characters-or-more",
        "1q2w3e4r5t6y7u8i9o0p1q2w3e4r5t6y",
        "lorem ipsum dolor sit amet consectetur",
        "production-secret-key-1234567890ab",
        "flask-session-cookie-signing-secret",
        "x9Qf x9Qf x9Qf x9Qf x9Qf x9Qf x9Qf x9Qf",
        "django-insecure-k3$w9z!q7r@m2v^x8t&b5n*c1p(d4f)g6h",
    ],
)
def test_a_guessable_secret_is_refused(secret: str) -> None:
    """Judged by what it says: to be long is not to be unknown."""
    with pytest.raises(SettingsError, match="could guess"):
        check_secret(secret)
    with pytest.raises(SettingsError, match="could guess"):
        load(environ={"SOJOURN_ADMIN_KEY": secret})


def test_a_good_secret_passes() -> None:
    """As generators make them, and where a word stands before it that says what it is for."""
    chance = random.Random(4)
    for _ in range(300):
        for made in (
            chance.randbytes(32).hex(),
            chance.randbytes(16).hex(),
            base64.urlsafe_b64encode(chance.randbytes(32)).decode(),
            "my-secret-key-" + chance.randbytes(16).hex(),
            str(uuid.UUID(bytes=chance.randbytes(16))),
        ):
            assert check_secret(made) == made
    made_by_django = "django-insecure-k3$w9z!q7r@m2v^x8t&b5n*c1p(d4f)g6h"
    assert check_secret(made_by_django, development=True)


def test_a_value_may_be_in_a_file_that_a_variable_names(tmp_path: Path) -> None:
    """As containers hand secrets over: each setting, lists by lines, and the origin says so."""
    one, other = (random.Random(seed).randbytes(24).hex() for seed in (1, 2))
    (tmp_path / "secret").write_text(f"{one}\n{other}\n")
    (tmp_path / "key").write_text("an-admin-key-of-more-than-32-characters\n")
    (tmp_path / "store").write_text("postgresql://me:pw@db/x\n")
    environ = {
        "SOJOURN_SECRET_FILE": f"{tmp_path}/secret",
        "SOJOURN_ADMIN_KEY_FILE": f"{tmp_path}/key",
        "SOJOURN_STORE_FILE": f"{tmp_path}/store",
    }
    loaded = load(environ=environ)
    assert loaded.settings.secret == (one, other)
    assert loaded.settings.admin_key == "an-admin-key-of-more-than-32-characters"
    assert loaded.settings.ledger_url == "postgresql://me:pw@db/x"
    assert loaded.origins["secret"] == "SOJOURN_SECRET_FILE"
    assert load(flags={"store": "memory:"}, environ=environ).settings.store == "memory:"


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (b"", {}, "is empty"),
        (b" \n", {}, "is empty"),
        (b"\xff\xfe", {}, "cannot be read"),
        (b"x" * 70_000, {}, "larger than"),
        (None, {}, "cannot be read"),
        (b"hush-hush-hush", {"SOJOURN_SECRET": "another"}, "Both"),
        (b"hush-hush", {}, "guess"),
    ],
)
def test_a_file_that_is_no_good_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None, more: dict[str, str], says: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=says) as refused:
        load(environ={"SOJOURN_SECRET_FILE": str(file), **more})
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["9464", "localhost", ":9464", "::1:9464", "[::1]", "h:x", "h:70000", "h:-1"]
)
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(SettingsError, match="metrics_listen"):
        load(flags={"metrics_listen": text})


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9464", ("::1", 9464)), ("host:1", ("host", 1))],
)
def test_an_address_to_listen_on(text: str, found: tuple[str, int]) -> None:
    assert listen_address(load(flags={"metrics_listen": text}).settings.metrics_listen) == found


def test_metrics_do_not_listen_where_the_server_does() -> None:
    with pytest.raises(SettingsError, match="must not be the server's own"):
        load(flags={"metrics_listen": "127.0.0.1:8700"})
