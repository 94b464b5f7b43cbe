"""Whoever pastes an error into the search of the documentation finds its cause there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sojourn import address, settings
from sojourn.errors import SettingsError
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder, with_secret
from sojourn.wire.bodies import TITLES

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "symptoms.md").read_text()


@pytest.mark.parametrize(
    "pasted",
    [
        "Failed to fetch active sessions",
        'relation "sessions" does not exist',
        'relation "session" does not exist',
        "no such table: sojourn_sessions",
        'multiple primary keys for table "session" are not allowed',
    ],
)
def test_what_others_say_is_on_the_page(pasted: str) -> None:
    assert pasted in PAGE


def test_what_we_say_is_on_the_page_word_by_word(tmp_path: Path) -> None:
    """Taken from where it is said, so that the page follows when the words change."""
    said = [TITLES["seat_limit"]]
    with pytest.raises(SettingsError) as known:
        settings.check_secret("keyboard cat")
    with pytest.raises(SettingsError) as missing:
        with_secret(Settings(store="postgresql://db/x"), DataFolder(str(tmp_path)))
    with pytest.raises(SettingsError) as path:
        address.spelled("/var/lib/x.db")
    said += [known.value.message, missing.value.message, path.value.message]
    for text in said:
        assert text in PAGE


@pytest.mark.parametrize(
    "code",
    [*("seat_limit", "lease_lost", "session_gone"), *("store_unavailable", "overloaded")],
)
def test_codes_are_on_the_page(code: str) -> None:
    assert f"`{code}`" in PAGE
