"""What mends a schema that lacks parts, without touching what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sojourn.finding import Step
from sojourn.stores.sql import events, migrations
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.doctor import flaws, shape
from sojourn.stores.sql.doctor.flaws import Kind
from sojourn.stores.sql.doctor.source import Source

LAST = "SELECT coalesce(max(id), 0) FROM {table}"


class Migrate:
    """Makes missing tables and indexes, and takes the steps to this program's version."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        return self._source.db().read(_steps)

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        steps = db.read(_steps)
        migrations.migrate(db)
        yield from steps


def _steps(tx: Tx) -> list[Step]:
    there = migrations.version_of(tx)
    if there not in (None, *migrations.known()):
        return []  # of a newer program: not ours to change
    steps = []
    if there != migrations.head():
        steps.append(
            Step(
                what=f"Bring the schema from version {there or 'none'} to {migrations.head()}.",
                why="This program needs it.",
                undo="Restore the database from a backup; older programs refuse this version.",
            )
        )
    for flaw in flaws.find(shape.read(tx), tx.connection.dialect, tx.dialect.backend):
        if flaw.kind is Kind.TABLE:
            what = f"Make the table {flaw.table}."
            steps.append(Step(what=what, why=flaw.what, rows=0, undo=f"DROP TABLE {flaw.table}"))
        if flaw.kind is Kind.INDEX:
            what = f"Make the index {flaw.name}."
            steps.append(Step(what=what, why=flaw.what, undo=f"DROP INDEX {flaw.name}"))
    return steps


class Marks:
    """Puts back the rows that ids are counted in."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        return [
            Step(
                what=f"Set the mark '{name}' to the last id that was given.",
                why=why,
                rows=1,
                undo="Nothing to undo: no id is given twice.",
            )
            for name, why in self._source.db().read(marks_wrong)
        ]

    def apply(self) -> Iterator[Step]:
        steps = self.plan()
        self._source.db().transaction(migrations.restore_marks)
        yield from steps


def marks_wrong(tx: Tx) -> list[tuple[str, str]]:
    """Name the marks that are missing or behind, and why that is wrong."""
    there = {row[0]: row[1] for row in tx.rows("SELECT name, value FROM marks", {})}
    wrong = []
    for name, table in events.MARKS.items():
        if name not in there:
            wrong.append((name, f"The row '{name}' of the table marks is missing."))
        elif table is not None:
            last = int(tx.rows(LAST.replace("{table}", table), {})[0][0])
            if (there[name] or 0) < last:
                why = f"marks says {there[name]}, and the last id of {table} is {last}."
                wrong.append((name, why))
    return wrong
