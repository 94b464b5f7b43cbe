"""Is connect-pg-simple's table fit for Express, and do Express and we mean the same by it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sojourn.adapters.express.doctor.mending import (
    Columns,
    IndexExpire,
    Install,
    Key,
    Make,
    Place,
    Prune,
    Rows,
    prunable,
)
from sojourn.adapters.express.doctor.shape import odd_rows
from sojourn.adapters.express.options import Options
from sojourn.adapters.express.schema import MADE, TRIGGERS, comment, lacking, quoted
from sojourn.adapters.express.zone import SAMPLE, ZONE_HINT, require_zone, shift_of
from sojourn.errors import SettingsError
from sojourn.finding import Area, Check, Finding, Fix, Repair, failure, ok, skipped, warning
from sojourn.stores.sql.database import Database

KINDS = {
    "sid": ("character varying", "text", "character"),
    "sess": ("json", "jsonb"),
    "expire": ("timestamp without time zone", "timestamp with time zone"),
}
PATH = "SELECT current_database(), array_to_string(current_schemas(false), ', ')"
LAG_MIN = 100
"""Rows that have ended a day ago; fewer are no sign that pruning has stopped."""
MULTIPLE = 'table.sql, run again, says: multiple primary keys for table "{table}" are not allowed.'
NEWEST = """
SELECT sess::text, extract(epoch FROM expire::timestamptz)::float8 FROM {express}
ORDER BY expire DESC LIMIT :limit
"""
TABLE = "schema.express"
KEY = "schema.express-key"


class ExpressExaminer:
    """Looks at the table of an unmodified Express application, in PostgreSQL."""

    def __init__(self, opener: Callable[[], Database], options: Options, *, place: str) -> None:
        self._opener = opener
        self._db: Database | None = None
        self._where = place
        self._place = Place(self._open, options)
        self._options = options

    def checks(self) -> Sequence[Check]:
        place, there = self._place, (TABLE,)
        keyed = (TABLE, "schema.express-columns", KEY)
        asked: list[tuple[str, str, Callable[[], Finding], Repair | None, tuple[str, ...]]] = [
            (
                "schema.express",
                "Is Express's table where Express looks?",
                self._table,
                Make(place),
                (),
            ),
            (
                "schema.express-columns",
                "Can Express write its table?",
                self._columns,
                Columns(place),
                there,
            ),
            (KEY, "Is each sid in Express's table once?", self._key, Key(place), keyed[:2]),
            (
                "schema.express-index",
                "Can Express prune its table quickly?",
                self._index,
                IndexExpire(place),
                keyed[:2],
            ),
            (
                "schema.express-rows",
                "Can Express load each of its rows?",
                self._rows,
                Rows(place),
                keyed,
            ),
            (
                "schema.express-prune",
                "Does Express prune its table?",
                self._prune,
                Prune(place),
                keyed[:2],
            ),
            (
                "schema.express-installed",
                "Is what Sojourn installed beside Express whole?",
                self._installed,
                Install(place),
                keyed,
            ),
            (
                "store.express-zone",
                "Do Express and Sojourn mean the same instant?",
                self._zone,
                None,
                keyed,
            ),
        ]
        return [
            Check(
                id=name,
                area=Area(name.partition(".")[0]),
                title=title,
                looked_at=self._where,
                look=look,
                repair=repair,
                needs=needs,
            )
            for name, title, look, repair, needs in asked
        ]

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def _open(self) -> Database:
        if self._db is None:
            self._db = self._opener()
        return self._db

    def _table(self) -> Finding:
        db, table = self._open(), self._options.table
        if (names := self._place.names()) is not None:
            return ok(f"Express's table is where Express looks: {names.express}.")
        database, path = db.read(lambda tx: tx.rows(PATH, {}))[0]
        found = self._place.elsewhere()
        means = f'Express says: relation "{table}" does not exist. Nobody can sign in.'
        if found:
            return failure(
                f"The table {table} is in the schema {found[0]}, where Express does not look.",
                evidence=[f"It looks in {path} of the database {database}."],
                means=means,
                fix=Fix(
                    text="Tell connect-pg-simple its schemaName; or let the role look there.",
                    sql=f"ALTER ROLE CURRENT_USER SET search_path = {quoted(found[0])}, public",
                ),
            )
        return failure(
            f"There is no table {table} in this database.",
            evidence=[f"Looked in {path} of the database {database}."],
            means=means,
            fix=Fix(
                text="Make it; or correct the database in Express's or this URL, if it is elsewhere.",
                command="sojourn doctor --fix",
            ),
        )

    def _columns(self) -> Finding:
        shape, table = self._place.shape(), self._place.there().express
        wrong = [f"{name} is missing." for name in shape.missing]
        wrong += [
            f"{name} is {shape.columns[name].kind}."
            for name, kinds in KINDS.items()
            if name in shape.columns and shape.columns[name].kind not in kinds
        ]
        means = "Every request that changes a session fails."
        if wrong:
            text = "Rename it, and let `sojourn express install` make a new one."
            return failure(
                f"{table} is not connect-pg-simple's.",
                evidence=wrong,
                means=means,
                fix=Fix(text=text),
            )
        steps = Columns(self._place).plan()
        if steps:
            return failure(
                "Express cannot write into this table.",
                evidence=[step.why for step in steps],
                means=means,
                fix=Fix(text=" ".join(step.what for step in steps), command="sojourn doctor --fix"),
            )
        length = shape.columns["sid"].length
        return ok(
            "Express can write its table.",
            "sid of any length" if length is None else f"sid up to {length}",
        )

    def _key(self) -> Finding:
        shape, table = self._place.shape(), self._place.there().express
        if shape.unique:
            return ok("The key of Express's table is sid.")
        sql = f'ALTER TABLE {table} ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid")'
        seen = [f"{step.what} {step.why}" for step in Key(self._place).plan()]
        means = (
            "Express saves with ON CONFLICT (sid), which PostgreSQL refuses: nobody can sign in, and "
            "what is changed in a session is lost."
        )
        if shape.key is not None:
            name, columns = shape.key
            return failure(
                f"The primary key {name} is on ({', '.join(columns)}), not on sid.",
                evidence=[MULTIPLE.replace("{table}", self._options.table), *seen],
                means=means,
                fix=Fix(
                    text="Drop that key, and make sid the key.",
                    command="sojourn doctor --fix",
                    sql=f"ALTER TABLE {table} DROP CONSTRAINT {quoted(name)}; {sql}",
                ),
            )
        return failure(
            "Express's table has no primary key.",
            evidence=seen,
            means=means,
            fix=Fix(text="Make sid the key.", command="sojourn doctor --fix", sql=sql),
        )

    def _index(self) -> Finding:
        if self._place.shape().indexed:
            return ok("Express's table has an index on expire.")
        return warning(
            "Express's table has no index on expire.",
            means="Pruning reads the whole table, every quarter of an hour: the database is busy then.",
            fix=Fix(
                text="Make it.",
                sql='CREATE INDEX CONCURRENTLY "IDX_session_expire" ON '
                f"{self._place.there().express} (expire)",
            ),
        )

    def _rows(self) -> Finding:
        odd = odd_rows(self._open(), self._place.there())
        if not odd.bare and not odd.unreadable:
            return ok(f"Express can load each of its rows: {odd.total:,}.")
        evidence = [f"{len(odd.bare):,} of {odd.total:,} rows have no cookie."] if odd.bare else []
        if odd.unreadable:
            evidence.append(f"{len(odd.unreadable):,} of {odd.total:,} rows cannot be read at all.")
        return failure(
            "There are sessions that Express cannot load.",
            evidence=evidence,
            means="Whoever brings one is answered 500: Cannot read properties of undefined.",
            fix=Fix(
                text="Write a cookie into those that lack one; move the others aside.",
                command="sojourn doctor --fix",
            ),
        )

    def _prune(self) -> Finding:
        count = prunable(self._open(), self._place.there())
        if count < LAG_MIN:
            return ok(
                "Express prunes its table.", f"{count:,} rows have ended more than a day ago."
            )
        return warning(
            f"{count:,} rows of Express's table ended more than a day ago, and are still there.",
            means="The table grows; its index with it.",
            fix=Fix(
                text="Delete them in pieces. Then see why Express does not prune: pruneSessionInterval "
                "is false, or its log says `Failed to prune sessions`.",
                command="sojourn doctor --fix",
            ),
        )

    def _installed(self) -> Finding:
        names = self._place.there()
        params = {"side": names.side, "express": names.express}
        said, triggers = self._open().read(lambda tx: tx.rows(MADE, params))[0]
        if said is None and not triggers:
            return skipped("Nothing of Sojourn's is installed beside Express's table.")
        older = self._open().read(lambda tx: lacking(tx, names))
        if said == comment(self._options) and set(triggers) == set(TRIGGERS) and not older:
            return ok("What Sojourn installed beside Express's table is whole.")
        missing = sorted(set(TRIGGERS) - set(triggers))
        return failure(
            "What Sojourn installed beside Express's table is not whole.",
            evidence=[f"The trigger {name} is missing or off." for name in missing]
            + [f"Its table lacks the column {name} of this version." for name in older]
            or [f"It says {said!r}, not {comment(self._options)!r}."],
            means="Who signs out in Express may stay signed in here, or the other way round."
            if missing or not older
            else "Python applications of this version do not start beside Express.",
            fix=Fix(
                text="Install it again: that is safe while both run. Where it is whole, and says another"
                " `user_path` than this URL, correct the one that is wrong.",
                command="sojourn doctor --fix",
            ),
        )

    def _zone(self) -> Finding:
        names, means = (
            self._place.there(),
            (
                "Sessions end hours too early or too late: people are signed out at once, or stay signed in."
            ),
        )
        fix = Fix(text=ZONE_HINT, sql="ALTER ROLE CURRENT_USER SET timezone = 'UTC'")
        db, limit = self._open(), {"limit": SAMPLE}
        if not db.read(lambda tx: tx.rows(MADE, {"side": names.side, "express": names.express}))[0][
            0
        ]:
            rows = db.read(lambda tx: tx.rows(names.fill(NEWEST), limit))
            shift = shift_of([(row[0], row[1]) for row in rows])
            if not shift:
                return ok(
                    "Express and Sojourn mean the same instant.",
                    f"{len(rows)} rows were compared with the end in their cookie.",
                )
            title = f"The ends of Express's sessions are {shift / 3600:+g} h off for us."
            return failure(title, means=means, fix=fix)
        try:
            require_zone(db, names)
        except SettingsError as error:
            return failure(error.message, means=means, fix=fix)
        return ok("Express and Sojourn mean the same instant.")
