"""A ticker's task that fails: tried again, and told once."""

from __future__ import annotations

import logging
import threading

import pytest

from sojourn.service.ticker import Ticker

DEADLINE = 10.0


def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """However often the task fails meanwhile: one line when it begins to, one when it is over."""
    caplog.set_level(logging.INFO)
    faults: list[Exception | None] = [OSError("a"), OSError("b"), ValueError("c"), None, None]
    over = threading.Event()

    def task() -> None:
        fault = faults.pop(0) if faults else None
        if not faults:
            over.set()
        if fault is not None:
            raise fault

    ticker = Ticker("test", task, 0.001)
    ticker.start(at_once=True)
    assert over.wait(DEADLINE)
    ticker.stop(DEADLINE)
    told = [each.getMessage().split()[0] for each in caplog.records if "tick_" in each.getMessage()]
    assert told == ["tick_failed", "tick_failed", "tick_succeeds_again"]
