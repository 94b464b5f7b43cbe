"""What stands in the tables of pages that are one table."""

from __future__ import annotations

from msgspec import Struct


class Cell(Struct, frozen=True, kw_only=True):
    """What stands in one place of a table. `tone`: of a word that names a state."""

    text: str
    under: str = ""
    link: str = ""
    tone: str = ""
