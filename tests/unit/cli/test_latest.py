"""Lists of the latest rows that have no pages."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.cli.server import LATEST_MAX, Server


@pytest.mark.parametrize(
    ("there", "limit", "shown", "told"),
    [
        (3, 5, 3, False),
        (5, 5, 5, False),
        (6, 5, 5, True),
        (LATEST_MAX, LATEST_MAX, LATEST_MAX, False),
    ],
)
def test_what_is_left_out_is_told(
    there: int,
    limit: int,
    shown: int,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = Server("http://127.0.0.1:1", "key")

    def items(path: str, *, limit: int, **query: Any) -> list[dict[str, Any]]:
        assert (path, query) == ("/api/sweeps", {"plan": "nightly"})
        assert limit <= LATEST_MAX
        return [{"n": n} for n in range(min(there, limit))]

    monkeypatch.setattr(server, "items", items)
    assert len(server.latest("/api/sweeps", limit=limit, plan="nightly")) == shown
    assert ("There are more" in capsys.readouterr().err) is told
