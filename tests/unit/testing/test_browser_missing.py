"""A machine without a browser is told what to install."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser import chromium


def test_no_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "ON_MAC", ())
    with pytest.raises(chromium.MissingBrowser, match="apt-get install chromium"):
        chromium.find()
    monkeypatch.setenv("CHROMIUM", "/opt/chromium")
    assert chromium.find() == "/opt/chromium"
