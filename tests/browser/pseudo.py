"""A language that nobody speaks: English with accents, a third longer, in brackets. What is not in it was not
translated, and what is cut off or overflows in it will be in others."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sojourn.people.translation import CATALOGS, Words

OPEN, CLOSE = "⟦", "⟧"
ACCENTS = str.maketrans("aceinosuyACEINOSUY", "áçéíñóšúýÁÇÉÍÑÓŠÚÝ")
LONGER = " ~~~~~"
_PARTS = re.compile(r"({\w+})")


def pseudo(said: Any) -> Any:
    """Return a sentence, or all of a catalog, in that language."""
    if isinstance(said, dict):
        return {name: pseudo(each) for name, each in said.items()}
    parts = [x if x.startswith("{") else x.translate(ACCENTS) for x in _PARTS.split(said)]
    text = "".join(parts)
    return f"{OPEN}{text}{LONGER * (len(text) // 18)}{CLOSE}"


class PseudoWords(Words):
    """English as far as numbers and times go. The component is told its strings, as it is those of others."""

    def __init__(self) -> None:
        catalog = msgspec.json.decode((CATALOGS / "en.json").read_bytes())
        formats = msgspec.json.decode((CATALOGS / "formats.json").read_bytes())
        self._pseudo = pseudo(catalog)
        super().__init__("en", self._pseudo, formats["languages"]["en"])

    @property
    def strings(self) -> str:
        return msgspec.json.encode(self._pseudo["component"]).decode()
