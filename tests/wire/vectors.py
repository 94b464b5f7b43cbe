"""The vectors of spec/wire, which the tests of all clients read, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "spec" / "wire"


def read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


REQUESTS: list[dict[str, Any]] = read("requests")
ANSWERS: dict[str, dict[str, Any]] = read("answers")
SOCKET: dict[str, Any] = read("socket")
TOKENS: dict[str, dict[str, str]] = read("tokens")
