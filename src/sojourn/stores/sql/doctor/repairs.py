"""What mends a schema that lacks parts, without touching what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Index
from sqlalchemy.schema import CreateIndex

from sojourn.errors import StoreBroken
from sojourn.finding import Step
from sojourn.store import LIST_MAX
from sojourn.stores.sql import events, maintenance, migrations, schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import flaws, shape
from sojourn.stores.sql.doctor.flaws import Kind
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.names import change, facts

MAX_PAUSE = 10_000
EVERY_EVENT = 1 << 50
"""How long events are kept is the server's setting: here, all are."""
PATIENT = """
SELECT set_config('statement_timeout', :timeout, false), set_config('lock_timeout', :timeout, false)
"""
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
    noted = migrations.versions_of(tx)
    if not migrations.known().issuperset(noted):
        return []  # of a newer program: not ours to change
    found = flaws.find(shape.read(tx), tx.connection.dialect, tx.dialect.backend)
    if any(flaw.kind is Kind.FOREIGN for flaw in found):
        return []  # nothing is made beside a table of somebody else's that has a name of ours
    renamed = {facts.PREFIX + noun: noun for noun in _due(tx, begun=bool(noted))}
    steps = []
    if noted != [migrations.head()]:
        steps.append(
            Step(
                what=f"Bring the schema from version {' and '.join(noted) or 'none'} to {migrations.head()}.",
                why="This program needs it.",
                undo="Restore the database from a backup; older programs refuse this version.",
            )
        )
    for new, old in renamed.items():
        undo = f"ALTER TABLE {new} RENAME TO {old}"
        steps.append(
            Step(what=f"Rename the table {old} to {new}.", why="It is called so now.", undo=undo)
        )
    for flaw in found:
        if flaw.kind is Kind.TABLE and flaw.table not in renamed:
            what = f"Make the table {flaw.table}."
            steps.append(Step(what=what, why=flaw.what, rows=0, undo=f"DROP TABLE {flaw.table}"))
        if flaw.kind is Kind.INDEX:
            what = f"Make the index {flaw.name}."
            steps.append(Step(what=what, why=flaw.what, undo=f"DROP INDEX {flaw.name}"))
    return steps


def _due(tx: Tx, *, begun: bool) -> list[str]:
    with contextlib.suppress(StoreBroken):  # both names have rows: `migrate` refuses, and says so
        return facts.due(tx, facts.read(tx), begun=begun)
    return []


class OldNames:
    """Takes away the old names of tables, which programs before version 0006 go by, where none is left."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        left = self._source.db().read(change.look)
        if left.needed:
            return []
        return [
            *(_renaming(noun) for noun in left.waiting),
            *(
                Step(
                    what=f"Drop the view {noun}.",
                    why=f"It leads to {facts.PREFIX}{noun}, for programs of an older version; none runs.",
                    undo=facts.view(noun, facts.PREFIX + noun),
                )
                for noun in left.views
            ),
        ]

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        steps = self.plan()
        if steps:
            migrations.migrate(db)
        yield from steps


def _renaming(noun: str) -> Step:
    return Step(
        what=f"Rename the table {noun} to {facts.PREFIX}{noun}.",
        why="It has waited for programs of an older version to end.",
        undo=f"RENAME TABLE {facts.PREFIX}{noun} TO {noun}",
    )


class Indexes:
    """Makes indexes that are missing, and those anew that are invalid or on other columns."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        return [step for _, step in self._source.db().read(_indexes)]

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        for index, step in db.read(_indexes):
            db.write(lambda tx, index=index: _make(tx, index))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            yield step


def _indexes(tx: Tx) -> list[tuple[Index, Step]]:
    found = []
    for flaw in flaws.find(shape.read(tx), tx.connection.dialect, tx.dialect.backend):
        if flaw.kind is not Kind.INDEX:
            continue
        index = next(x for x in schema.metadata.tables[flaw.table].indexes if x.name == flaw.name)
        step = Step(
            what=f"Make the index {flaw.name}.",
            why=flaw.what,
            undo=f"Nothing is lost by it; to be rid of it: DROP INDEX {flaw.name}",
        )
        found.append((index, step))
    return found


def _make(tx: Tx, index: Index) -> None:
    """Make an index without keeping anybody from writing; on PostgreSQL that may leave an invalid one
    behind, which is dropped first the next time."""
    assert index.table is not None
    there = shape.read(tx, [str(index.table.name)])[str(index.table.name)].indexes
    if tx.dialect.backend is Backend.POSTGRES:
        try:
            if not tx.lent:  # where nothing is set, nothing ends a statement
                tx.rows(PATIENT, {"timeout": "600s"})
            tx.connection.connection.driver_connection.reply_timeout = None  # type: ignore[union-attr]  # psycopg's, with patience
            if index.name in there:
                tx.do(f"DROP INDEX CONCURRENTLY {index.name}")
            made = str(CreateIndex(index).compile(dialect=tx.connection.dialect))
            tx.do(made.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))
        finally:
            tx.connection.invalidate()  # with its patience
        return
    with tx.transaction():
        tx.patiently(thinking=True)
        if index.name in there:
            index.drop(tx.connection)
        index.create(tx.connection)


class Prune:
    """Clears away what ended long ago, as the sweeper does, in small batches."""

    def __init__(self, source: Source, due: Mapping[str, str], after: int) -> None:
        self._source = source
        self._due = due
        self._after = after

    def plan(self) -> Sequence[Step]:
        return self._source.db().read(self._steps)

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        steps = db.read(self._steps)
        while (
            steps
            and maintenance.sweep(
                db, limit=LIST_MAX, which=None, max_pause=MAX_PAUSE, event_retention=EVERY_EVENT
            ).more
        ):
            pass
        yield from steps

    def _steps(self, tx: Tx) -> list[Step]:
        until = {"until": tx.now() - self._after}
        due = {name: int(tx.rows(sql, until)[0][0]) for name, sql in self._due.items()}
        return [
            Step(
                what=f"Clear away {name} that ended more than a day ago.",
                why="They let nobody in, and cost time.",
                rows=number,
                undo="None: they had ended, and are kept as events.",
            )
            for name, number in due.items()
            if number
        ]


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
    there = {row[0]: row[1] for row in tx.rows("SELECT name, value FROM sojourn_marks", {})}
    wrong = []
    for name, table in events.MARKS.items():
        if name not in there:
            wrong.append((name, f"The row '{name}' of the table sojourn_marks is missing."))
        elif table is not None:
            last = int(tx.rows(LAST.replace("{table}", table), {})[0][0])
            if (there[name] or 0) < last:
                why = f"sojourn_marks says {there[name]}, and the last id of {table} is {last}."
                wrong.append((name, why))
    return wrong
