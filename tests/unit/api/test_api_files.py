"""Sockets that stay open leave files for the others, however few the system allows."""

from __future__ import annotations

import resource

import pytest

from sojourn.api.files import OTHERS, allow_files, sockets_max
from sojourn.api.protocol import CONNECTIONS_MAX
from sojourn.api.sockets import SEATS_MAX

FREE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("allowed", "sockets"),
    [(FREE, SEATS_MAX), (1_048_576, SEATS_MAX), (20_000, 20_000 - OTHERS), (1_024, 256)],
)
def test_sockets_are_as_many_as_leave_room(
    allowed: int, sockets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    assert sockets_max() == sockets
    assert OTHERS > CONNECTIONS_MAX


@pytest.mark.parametrize(
    ("soft", "hard", "set_to"),
    [
        (1_024, FREE, OTHERS + SEATS_MAX),
        (1_024, 4_096, 4_096),
        (1_048_576, FREE, None),
        (FREE, FREE, None),
    ],
)
def test_a_process_takes_as_many_files_as_it_may(
    soft: int, hard: int, set_to: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    allow_files()
    assert done == ([] if set_to is None else [(set_to, hard)])
