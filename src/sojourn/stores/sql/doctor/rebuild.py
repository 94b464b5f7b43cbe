"""The repair of damaged tables: a plan, then one table after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from sojourn.finding import Step
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import anew, flaws, in_place, shape
from sojourn.stores.sql.doctor.flaws import Flaw, Kind
from sojourn.stores.sql.doctor.job import Job, Rebuilt, count, filled, new_name
from sojourn.stores.sql.doctor.source import Source

KINDS = (Kind.COLUMN, Kind.TYPE, Kind.KEY, Kind.COLLATION, Kind.STORAGE)
"""What a rebuilding mends; all of it at once, whichever of it was asked for."""
FEW, ASIDE_SHARE = 10, 0.5
ADVICE = "When you are sure that nothing is missed: DROP TABLE {copy}"


class Planned(Struct, frozen=True):
    job: Job
    step: Step


class Rebuild:
    """Rebuilds every table that has a flaw of these kinds, and can be rebuilt."""

    def __init__(self, source: Source, *kinds: Kind) -> None:
        self._source = source
        self._kinds = kinds

    def plan(self) -> Sequence[Step]:
        return [planned.step for planned in self._source.db().read(self._planned)]

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        for planned in db.read(self._planned):
            job = planned.job
            if db.dialect.backend is Backend.MYSQL:
                done = self._by_steps(job)
            else:
                rebuild = (
                    in_place.postgres if db.dialect.backend is Backend.POSTGRES else anew.sqlite
                )
                done = db.transaction(lambda tx, job=job, go=rebuild: go(tx, job))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            yield _told(planned.step, job, done)

    def _by_steps(self, job: Job) -> Rebuilt:
        def work(tx: Tx) -> Rebuilt:
            try:
                return in_place.mysql(tx, job)
            finally:
                tx.connection.invalidate()  # with its locks, and its patience

        return self._source.db().write(work)

    def _planned(self, tx: Tx) -> list[Planned]:
        compiler, backend = tx.connection.dialect, tx.dialect.backend
        seen = shape.read(tx)
        found = flaws.find(seen, compiler, backend)
        planned = []
        for name in dict.fromkeys(flaw.table for flaw in found if flaw.kind in self._kinds):
            job = Job(
                schema.metadata.tables[name],
                seen[name],
                [flaw for flaw in found if flaw.table == name and flaw.kind in KINDS],
                copy=new_name(tx, name, "before"),
                compiler=compiler,
                backend=backend,
            )
            if not job.lost() and _is_worth_it(tx, job):
                planned.append(Planned(job, _step(tx, job)))
        return planned


def _is_worth_it(tx: Tx, job: Job) -> bool:
    """Tell whether most rows can be read. Where they cannot, it is we who do not understand them."""
    unreadable = job.unreadable()
    if not unreadable:
        return True
    sql = filled("SELECT count(*) FROM {table} WHERE {which}", table=job.name, which=unreadable)
    aside, rows = int(tx.rows(sql, {})[0][0]), count(tx, job.name)
    return aside <= max(FEW, rows * ASIDE_SHARE)


def _step(tx: Tx, job: Job) -> Step:
    rows = count(tx, job.name)
    return Step(
        what=f"Copy {job.name} to {job.copy}, then rebuild {job.name} with every row that can be read.",
        why=" ".join(_words(job.flaws)),
        rows=rows,
        undo=f"{job.copy} keeps every row as it is now. " + filled(ADVICE, copy=job.copy),
    )


def _words(found: Sequence[Flaw]) -> list[str]:
    most = 4
    words = [flaw.what for flaw in found[:most]]
    return [*words, f"And {len(found) - most} more."] if len(found) > most else words


def _told(step: Step, job: Job, done: Rebuilt) -> Step:
    aside = f", {done.aside:,} set aside in {job.copy}" if done.aside else ""
    return Step(
        what=f"Rebuilt {job.name}: {done.rows:,} rows are in it{aside}.",
        why=step.why,
        rows=done.rows,
        undo=step.undo,
    )
