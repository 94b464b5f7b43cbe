"""What many pages ask for is read once for all of them, and anew after a change."""

from __future__ import annotations

import threading

from sojourn.console.lookup import Told

DEADLINE = 60.0
"""Seconds in which what must happen has happened, on any machine."""


def test_pages_that_ask_at_once_share_one_reading() -> None:
    """While one page reads, the others wait for what it finds: the store is asked once."""
    begun, go_on = threading.Event(), threading.Event()
    readings: list[int] = []

    def read() -> list[int]:
        readings.append(len(readings))
        begun.set()
        assert go_on.wait(DEADLINE)
        return [7]

    told = Told(read)
    told.fresh_for = DEADLINE * 10  # so that a machine that stalls reads no second time
    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(told.get()), daemon=True) for _ in range(4)
    ]
    threads[0].start()
    assert begun.wait(DEADLINE)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert (found, readings) == ([[7]] * 4, [0])


def test_what_was_read_before_a_change_is_not_told_after_it() -> None:
    """A change that comes while a page reads makes that reading old, however new it is."""
    begun, go_on = threading.Event(), threading.Event()
    rows = [1]

    def read() -> list[int]:
        found = list(rows)
        begun.set()
        assert go_on.wait(DEADLINE)
        return found

    told = Told(read)
    told.fresh_for = DEADLINE * 10
    first: list[list[int]] = []
    thread = threading.Thread(target=lambda: first.append(told.get()), daemon=True)
    thread.start()
    assert begun.wait(DEADLINE)
    rows.append(2)
    told.forget()
    go_on.set()
    thread.join(DEADLINE)
    assert first == [[1]]
    assert told.get() == [1, 2]
