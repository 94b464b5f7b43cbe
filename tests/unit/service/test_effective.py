"""Settings as operators are shown them: of secrets that servers share, what tells one from another."""

from __future__ import annotations

from sojourn.service.effective import COMPARED, effective
from sojourn.settings import Settings
from sojourn.token import Keyring


def test_of_what_people_choose_no_fingerprint_is_shown() -> None:
    """A short password has none, and could be guessed by one."""
    secret = "tz7-Rm2kPw9-vQx4Lc8-hNd3Fb6-yGs5Ju1"
    settings = Settings(secret=(secret,), metrics_key="prom-scrape-1")

    def fingerprint(value: str) -> str:
        return Keyring([value.encode()]).fingerprints("store")[0]

    found = {each.name: each for each in effective(settings, {}, fingerprint)}
    assert len(found[COMPARED].fingerprints) == 1
    assert found["metrics_key"].given
    assert [name for name, each in found.items() if each.fingerprints] == [COMPARED]
    assert "prom-scrape-1" not in repr(found)
    assert secret not in repr(found)
