"""Chromium for tests: where it is, and how it is started."""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

FLAGS = (
    "--no-sandbox",  # tests run as root in containers, and visit nobody but us
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
)
LOOKS = ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light"))
"""Each state is shown in all four. Axe takes a second for each, and is asked in one, a quarter of the states
in the same; in all four by `make campaign-browser`."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ON_MAC = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)


def axe_looks() -> frozenset[tuple[int, str]]:
    """Say in which looks axe is asked about the state of the test that runs: always the same ones."""
    if os.environ.get("SOJOURN_CAMPAIGN"):
        return frozenset(LOOKS)
    test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    return frozenset({LOOKS[zlib.crc32(test.encode()) % len(LOOKS)]})


class MissingBrowser(RuntimeError):
    """No Chromium is installed. Tests that need one fail: they never skip in silence."""


def find() -> str:
    """Return the program: $CHROMIUM, on PATH, or where a Mac has it. Raises MissingBrowser."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for name in NAMES:
        if found := shutil.which(name):
            return found
    for path in ON_MAC:
        if path.exists():
            return str(path)
    raise MissingBrowser(
        "No Chromium was found.\n"
        "Run `sudo apt-get install chromium` on Debian, `brew install --cask chromium` on a Mac, or set "
        "CHROMIUM to the program. Playwright's own download is neither needed nor used."
    )


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Start a browser; end it, and Playwright's driver, afterwards.

    Playwright keeps an event loop running in this thread meanwhile, so nothing that lives beside it
    may start one of its own.
    """
    program = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=[*FLAGS, "--headless=new"], timeout=30_000
        )
        try:
            yield browser
        finally:
            browser.close()
