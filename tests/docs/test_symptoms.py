"""Whoever pastes an error into the search of the documentation finds its cause there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sojourn import address, settings
from sojourn.errors import SettingsError
from sojourn.settings import Settings
from sojourn.stores.folder import DataFolder, with_secret
from sojourn.wire.bodies import TITLES

GUIDES = Path(__file__).parents[2] / "docs" / "guide"
PAGE = (GUIDES / "symptoms.md").read_text()
CHECKS = set(re.findall(r"^### (\S+)$", (GUIDES / "doctor.md").read_text(), re.MULTILINE))
"""Ids of doctor's checks: `test_doctor_guide` holds these headings to the code."""


@pytest.mark.parametrize(
    "pasted",
    [
        "Failed to fetch active sessions",
        'relation "sessions" does not exist',
        'relation "session" does not exist',
        "no such table: sojourn_sessions",
        'multiple primary keys for table "session" are not allowed',
        "`connect.sid` is gone",
        'prepared statement "_pg3_0" does not exist',
        "MemoryStore is not designed for a production environment",
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


def symptoms() -> list[tuple[str, str]]:
    """Return each symptom, and what the page says of it."""
    pieces = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    split = (piece.partition("\n") for piece in pieces)
    return [(name, text.partition("\n## ")[0]) for name, _, text in split]


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in symptoms()])
def test_each_symptom_says_which_check_tells(name: str, text: str) -> None:
    """By its id, with a link to what doctor's guide says of it; or that there is none."""
    _, told, ends = text.partition("**Doctor:**")
    assert told, name
    named = re.findall(r"\[([a-z]+\.[a-z-]+)\]\(doctor\.md#([\w-]+)\)", ends)
    assert named or "none of its checks" in ends or "[all checks]" in ends, name
    for check, anchor in named:
        assert check in CHECKS
        assert anchor == check.replace(".", ""), "as code hosts make it"
