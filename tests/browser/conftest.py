"""A browser for the tests of this folder, and a stage for each.

| fixture  | is                                                                                    |
|----------|---------------------------------------------------------------------------------------|
| chromium | a running Chromium; missing, it is an error that says what to install                   |
| stages   | makes stages in it; afterwards, checks that none asked another host or filled the console |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.chromium import launched
from tests.browser.stage import DEADLINE, Stage

expect.set_options(timeout=DEADLINE)
Stages = Callable[..., Stage]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Ends with each module: Playwright keeps an event loop running in this thread, which tests of other
    folders must not meet. To start it takes less than a second."""
    with launched() as browser:
        yield browser


@pytest.fixture(autouse=True)
def no_stray_children(chromium: Browser) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture
def stages(chromium: Browser) -> Iterator[Stages]:
    made: list[Stage] = []

    def make(*args: object, **kwargs: object) -> Stage:
        made.append(Stage(chromium, *args, **kwargs))  # type: ignore[arg-type]  # as Stage takes them
        return made[-1]

    yield make
    for stage in made:
        stage.close()
    assert [said for stage in made for said in stage.said] == []
    assert [url for stage in made for url in stage.elsewhere] == []
