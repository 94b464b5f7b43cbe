"""Is the SQLite file whole? Its indexes can be made anew from the rows; the rows cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sojourn.finding import Area, Check, Finding, Fix, Step, failure, ok, skipped
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.job import FIX
from sojourn.stores.sql.doctor.source import Source

NAMED_MAX = 20
CHECK = f"PRAGMA integrity_check({NAMED_MAX})"
OF_INDEX = re.compile(
    r"(row \d+ missing from index|wrong # of entries in index|non-unique entry in index) (\w+)"
)


def checks(source: Source) -> Iterator[Check]:
    yield Check(
        id=source.id("store", "damage"),
        area=Area.STORE,
        title="Is the database file whole?",
        looked_at="every page of the file",
        look=lambda: look(source),
        repair=Reindex(source),
        needs=(source.id("store", "reachable"),),
    )


def look(source: Source) -> Finding:
    if source.db().dialect.backend is not Backend.SQLITE:
        return skipped("A database server looks after its own files.")
    said = source.db().read(_damage)
    if not said:
        return ok("The database file is whole.")
    indexes = _indexes(said)
    if indexes:
        return failure(
            f"Indexes of the database file are damaged: {', '.join(indexes)}.",
            evidence=said,
            means="Rows that are there are not found by them: people are not recognized.",
            fix=FIX,
        )
    return failure(
        "The database file is damaged.",
        evidence=said,
        means="What is on the damaged pages is not found, and may get worse with every write.",
        fix=Fix(
            text="Stop the server, keep a copy of the file, and restore a backup; without one, save what "
            "can be read.",
            command=f"sqlite3 '{source.path}' .recover | sqlite3 recovered.db",
        ),
    )


def _damage(tx: Tx) -> list[str]:
    said = [str(row[0]) for row in tx.rows(CHECK, {})]
    return [] if said == ["ok"] else said


def _indexes(said: Sequence[str]) -> list[str]:
    """Name the indexes, if nothing but indexes is damaged."""
    matches = [OF_INDEX.search(line) for line in said]
    if not matches or None in matches:
        return []
    return list(dict.fromkeys(match[2] for match in matches if match is not None))


class Reindex:
    """Makes damaged indexes anew from the rows."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        return [
            Step(
                what=f"Make the index {name} anew from the rows.",
                why="It does not say the same as the rows.",
                undo="Nothing to undo: no row is changed.",
            )
            for name in self._damaged()
        ]

    def apply(self) -> Iterator[Step]:
        steps = self.plan()
        for name, step in zip(self._damaged(), steps, strict=True):
            self._source.db().transaction(lambda tx, name=name: tx.do(f"REINDEX {name}"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            yield step

    def _damaged(self) -> list[str]:
        db = self._source.db()
        return _indexes(db.read(_damage)) if db.dialect.backend is Backend.SQLITE else []
