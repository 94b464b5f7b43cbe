"""What mends connect-pg-simple's table: each in transactions that either happen or do not.

Rows that are taken out of the way are copied aside first, into a table named with the day; nothing here
drops a table. The triggers that note a sign-out are silent meanwhile: nobody signs out by a repair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from sojourn.adapters.express import payload
from sojourn.adapters.express.doctor.shape import SID_MIN, Shape, odd_rows, shape_of
from sojourn.adapters.express.options import Options
from sojourn.adapters.express.schema import (
    MADE,
    Names,
    find,
    install,
    lacking,
    make_express_table,
    quoted,
)
from sojourn.adapters.express.schema import TRIGGERS as ALL_TRIGGERS
from sojourn.finding import Step
from sojourn.stores.sql.database import Database, Tx

BATCH = 500
INSTALLED = re.compile(r"sojourn express \d+, user at (.+)\Z")
PRUNED_AFTER = 86_400
"""Seconds; longer than any two time zones are apart."""


COUNTS = """
SELECT count(*), count(*) FILTER (WHERE sid IS NULL), count(*) - count(DISTINCT sid)
    - count(*) FILTER (WHERE sid IS NULL) FROM {express}
"""
FREE_NAME = """
SELECT coalesce(min(n), 1) FROM generate_series(1, 1000) AS n
WHERE to_regclass(:base || CASE WHEN n = 1 THEN '"' ELSE '_' || n || '"' END) IS NULL
"""
TODAY = "SELECT to_char(current_date, 'YYYYMMDD')"
DOUBLES = """
DELETE FROM {express} AS e WHERE e.sid IS NULL OR EXISTS (SELECT FROM {express} AS o
WHERE o.sid = e.sid AND (o.expire, o.ctid) > (e.expire, e.ctid))
"""
TAKEN = """
SELECT to_regclass(:name) IS NOT NULL
"""
TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(:name) AND tgenabled IN ('O', 'A')
AND tgname LIKE 'sojourn!_%' ESCAPE '!'
"""
LOCK_ROWS = """
SELECT sid, sess::text, (extract(epoch FROM expire::timestamptz) * 1000)::bigint,
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM {express} WHERE sid = ANY(:sids) ORDER BY sid FOR UPDATE
"""
ELSEWHERE = "SELECT schemaname FROM pg_tables WHERE tablename = :table ORDER BY schemaname LIMIT 5"
COPY_ALL = "CREATE TABLE {aside} AS TABLE {express}"
COPY_SOME = "INSERT INTO {aside} SELECT * FROM {express} WHERE sid = ANY(:sids)"
DELETE_SOME = "DELETE FROM {express} WHERE sid = ANY(:sids)"
DRESS = "UPDATE {express} SET sess = CAST(:text AS {kind}) WHERE sid = :sid"
BACK_ALL = "INSERT INTO {express} SELECT * FROM {aside}"
BACK_BARE = "UPDATE {express} SET sess = (sess::jsonb - 'cookie')::json, for their sids"
PRUNABLE = (
    "SELECT count(*) FROM {express} WHERE expire < localtimestamp - :age * interval '1 second'"
)
PRUNE = """
DELETE FROM {express} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {express}
WHERE expire < localtimestamp - :age * interval '1 second' LIMIT :limit FOR UPDATE SKIP LOCKED))
"""


class Place:
    """The table, and the database it is in."""

    def __init__(self, db: Callable[[], Database], options: Options) -> None:
        self.db = db
        self.options = options

    def names(self) -> Names | None:
        return find(self.db(), self.options)

    def elsewhere(self) -> list[str]:
        """Name other schemas that have a table of this name."""
        params = {"table": self.options.table}
        return [str(row[0]) for row in self.db().read(lambda tx: tx.rows(ELSEWHERE, params))]

    def there(self) -> Names:
        """Return its names; a check that found it was there before."""
        names = self.names()
        assert names is not None
        return names

    def shape(self) -> Shape:
        names = self.there()
        return self.db().read(lambda tx: shape_of(tx, names))


class Repairing:
    """A repair of the table: planned from what it is like now."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def plan(self) -> Sequence[Step]:
        raise NotImplementedError

    def apply(self) -> Iterator[Step]:
        raise NotImplementedError


class Make(Repairing):
    """Makes the table as connect-pg-simple's table.sql does."""

    def plan(self) -> Sequence[Step]:
        if self._place.names() is not None or self._place.elsewhere():
            return []  # where people's sessions are in another schema, an empty table helps nobody
        table = quoted(self._place.options.table)
        return [
            Step(
                what=f"Make the table {table}, as connect-pg-simple's table.sql does.",
                why="It is not there.",
                rows=0,
                undo=f"DROP TABLE {table}",
            )
        ]

    def apply(self) -> Iterator[Step]:
        steps = self.plan()
        make_express_table(self._place.db(), self._place.options)
        yield from steps


class Install(Repairing):
    """Brings back what Sojourn had installed beside the table: a drop of it takes the triggers along."""

    def plan(self) -> Sequence[Step]:
        if self._as_installed() is None:
            return []
        names = self._place.there()
        return [
            Step(
                what=f"Install Sojourn's table and triggers beside {names.express} again.",
                why="They are gone, off, or of an older version: sign-outs on one side are not seen on the"
                " other, or names of devices have no place.",
                undo="None is needed: Express works the same with them.",
            )
        ]

    def apply(self) -> Iterator[Step]:
        options, steps = self._as_installed(), self.plan()
        if options is not None:
            install(self._place.db(), options)
        yield from steps

    def _as_installed(self) -> Options | None:
        """Return the options that it was installed with; None where nothing is missing, or ever was there."""
        names = self._place.there()
        params = {"side": names.side, "express": names.express}
        db = self._place.db()
        said, triggers = db.read(lambda tx: tx.rows(MADE, params))[0]
        if said is None and not triggers:
            return None
        if set(triggers) == set(ALL_TRIGGERS) and not db.read(lambda tx: lacking(tx, names)):
            return None
        match = INSTALLED.match(said or "")
        if match is None:
            return self._place.options
        return replace(self._place.options, user_path=tuple(match[1].split(".")))


class Columns(Repairing):
    """Lets Express write: sids of any length, and no column that it knows nothing of."""

    def plan(self) -> Sequence[Step]:
        return [step for step, _ in self._todo()]

    def apply(self) -> Iterator[Step]:
        todo = self._todo()
        _in_one(self._place.db(), [sql for _, sql in todo])
        yield from (step for step, _ in todo)

    def _todo(self) -> list[tuple[Step, str]]:
        names, shape, todo = self._place.there(), self._place.shape(), []
        if shape.missing:
            return []  # not connect-pg-simple's: hands off
        sid = shape.columns.get("sid")
        if sid is not None and sid.length is not None and sid.length < SID_MIN:
            step = Step(
                what="Let sid be of any length.",
                why=f"It is {sid.whole}, and Express's sids have {SID_MIN} characters.",
                undo=f"ALTER TABLE {names.express} ALTER COLUMN sid TYPE {sid.whole}",
            )
            todo.append((step, f"ALTER TABLE {names.express} ALTER COLUMN sid TYPE varchar"))
        inside = () if shape.key is None else shape.key[1]
        for column in shape.columns.values():
            if column.demanded and column.name not in ("sid", "sess", "expire", *inside):
                name = quoted(column.name)
                step = Step(
                    what=f"Let the column {column.name} be empty.",
                    why="It must have a value, and Express gives it none.",
                    undo=f"ALTER TABLE {names.express} ALTER COLUMN {name} SET NOT NULL",
                )
                todo.append(
                    (step, f"ALTER TABLE {names.express} ALTER COLUMN {name} DROP NOT NULL")
                )
        return todo


class Key(Repairing):
    """Makes sid the primary key, whatever was one before, and of each sid keeps the freshest row."""

    def plan(self) -> Sequence[Step]:
        names = self._place.there()
        return self._place.db().read(lambda tx: self._steps(tx, names, shape_of(tx, names)))

    def apply(self) -> Iterator[Step]:
        names, steps = self._place.there(), list[Step]()

        def work(tx: Tx) -> None:
            steps.clear()
            tx.patiently(thinking=True)
            _ddl(tx, f"LOCK TABLE {names.express} IN ACCESS EXCLUSIVE MODE")
            shape = shape_of(tx, names)  # another doctor may have been faster
            steps.extend(self._steps(tx, names, shape))
            if not steps:
                return
            _, empty, doubles = _counts(tx, names)
            if empty or doubles:
                aside = _aside(tx, names, self._place)
                _ddl(tx, names.fill(COPY_ALL, aside=aside))
                _silently(tx, names, lambda: tx.do(names.fill(DOUBLES)))
            if shape.key is not None:
                _ddl(tx, f"ALTER TABLE {names.express} DROP CONSTRAINT {quoted(shape.key[0])}")
                for column in shape.key[1]:
                    if column not in ("sid", "sess", "expire") and shape.columns[column].demanded:
                        _ddl(
                            tx,
                            f"ALTER TABLE {names.express} ALTER COLUMN {quoted(column)} DROP NOT NULL",
                        )
            name = _key_name(tx, names, self._place)
            _ddl(tx, f"ALTER TABLE {names.express} ADD CONSTRAINT {quoted(name)} PRIMARY KEY (sid)")

        self._place.db().transaction(work)
        yield from steps

    def _steps(self, tx: Tx, names: Names, shape: Shape) -> list[Step]:
        if shape.unique:
            return []
        total, empty, doubles = _counts(tx, names)
        steps = []
        if empty or doubles:
            aside = _aside(tx, names, self._place)
            back = names.fill(BACK_ALL, aside=aside)
            steps = [
                Step(
                    what=f"Copy the table aside, as {aside}.",
                    why="Rows of it are taken out of the way.",
                    rows=total,
                    undo=f"DROP TABLE {aside}, when nobody misses anything.",
                ),
                Step(
                    what="Of rows with the same sid, keep the one that lives longest.",
                    why=f"{doubles} are double, {empty} have no sid: Express can load one of each at most.",
                    rows=doubles + empty,
                    undo=f"All of them are there; what is missed comes back with: {back}, by sid.",
                ),
            ]
        if shape.key is not None:
            columns = ", ".join(shape.key[1])
            steps.append(
                Step(
                    what=f"Drop the primary key on ({columns}).",
                    why="A table has one, and Express needs it on (sid).",
                    rows=0,
                    undo=f"ALTER TABLE {names.express} ADD UNIQUE ({columns})",
                )
            )
        steps.append(
            Step(
                what="Make sid the primary key.",
                why="Express saves with ON CONFLICT (sid), which PostgreSQL refuses without it.",
                rows=total - doubles - empty,
                undo=f"ALTER TABLE {names.express} DROP CONSTRAINT …; but then nobody can sign in.",
            )
        )
        return steps


class IndexExpire(Repairing):
    """Makes the index that pruning looks rows up by."""

    def plan(self) -> Sequence[Step]:
        if self._place.shape().indexed:
            return []
        names = self._place.there()
        return [
            Step(
                what="Make the index on expire.",
                why="Pruning reads the whole table without it, every quarter of an hour.",
                undo=f"DROP INDEX of {names.express} on expire",
            )
        ]

    def apply(self) -> Iterator[Step]:
        steps, names = self.plan(), self._place.there()
        if steps:
            _in_one(self._place.db(), [f"CREATE INDEX ON {names.express} (expire)"])
        yield from steps


class Rows(Repairing):
    """Gives a cookie to sessions that have none; takes those aside that nothing can read."""

    def plan(self) -> Sequence[Step]:
        names, db = self._place.there(), self._place.db()
        odd, steps = odd_rows(db, names), []
        if odd.bare:
            steps.append(
                Step(
                    what="Write a cookie into sessions that have none.",
                    why="Express answers 500 to whoever brings one; it ends when its row does.",
                    rows=len(odd.bare),
                    undo=names.fill(BACK_BARE),
                )
            )
        if odd.unreadable:
            aside = db.read(lambda tx: _aside(tx, names, self._place))
            steps.append(
                Step(
                    what=f"Move rows that nothing can read to {aside}.",
                    why="Express cannot load them, and fails or drops them one by one.",
                    rows=len(odd.unreadable),
                    undo=names.fill(BACK_ALL, aside=aside),
                )
            )
        return steps

    def apply(self) -> Iterator[Step]:
        names, db, steps = self._place.there(), self._place.db(), list(self.plan())
        odd = odd_rows(db, names)
        kind = self._place.shape().columns["sess"].kind
        for start in range(0, len(odd.bare), BATCH):
            sids = odd.bare[start : start + BATCH]
            db.transaction(lambda tx, sids=sids: self._dress(tx, names, sids, kind))  # type: ignore[misc]  # mypy does not infer defaults
        if odd.unreadable:
            db.transaction(lambda tx: self._move(tx, names, odd.unreadable))
        yield from steps

    def _dress(self, tx: Tx, names: Names, sids: Sequence[str], kind: str) -> None:
        rows = tx.rows(names.fill(LOCK_ROWS), {"sids": list(sids)})
        sql = names.fill(DRESS, kind=kind)
        for sid, text, expire, now in rows:
            parts = payload.read(text)
            if parts is None or payload.has_cookie(parts):
                continue  # somebody was faster
            cookie = self._place.options.cookie(max(0, int(expire) - int(now)), int(expire))
            dressed = {"cookie": msgspec.Raw(msgspec.json.encode(cookie)), **parts}
            dressed["cookie"] = msgspec.Raw(msgspec.json.encode(cookie))
            tx.do(sql, {"sid": sid, "text": payload.write(dressed)})

    def _move(self, tx: Tx, names: Names, sids: Sequence[str]) -> None:
        aside = _aside(tx, names, self._place)
        _ddl(tx, f"CREATE TABLE {aside} (LIKE {names.express})")
        params = {"sids": list(sids)}
        tx.do(names.fill(COPY_SOME, aside=aside), params)
        _silently(tx, names, lambda: tx.do(names.fill(DELETE_SOME), params))


class Prune(Repairing):
    """Deletes what ended more than a day ago, in small pieces, as Express itself would."""

    def plan(self) -> Sequence[Step]:
        names = self._place.there()
        count = prunable(self._place.db(), names)
        if not count:
            return []
        return [
            Step(
                what="Delete rows whose session ended more than a day ago.",
                why="Nobody can use them; Express deletes them, when its pruning runs.",
                rows=count,
                undo="None: they are what Express's own pruning deletes.",
            )
        ]

    def apply(self) -> Iterator[Step]:
        steps, names, db = self.plan(), self._place.there(), self._place.db()
        params = {"age": PRUNED_AFTER, "limit": BATCH}
        while db.write(lambda tx: tx.do(names.fill(PRUNE), params)):
            pass
        yield from steps


def prunable(db: Database, names: Names) -> int:
    """Count the rows whose session ended more than a day ago."""
    rows = db.read(lambda tx: tx.rows(names.fill(PRUNABLE), {"age": PRUNED_AFTER}))
    return int(rows[0][0])


def _counts(tx: Tx, names: Names) -> tuple[int, int, int]:
    row = tx.rows(names.fill(COUNTS), {})[0]
    return int(row[0]), int(row[1]), int(row[2])


def _aside(tx: Tx, names: Names, place: Place) -> str:
    """Return a name that is free, with the day in it."""
    schema = names.express.rpartition(".")[0]
    day = tx.rows(TODAY, {})[0][0]
    table = f"{place.options.table}_aside_{day}"
    base = f"{schema}.{quoted(table)[:-1]}"
    number = tx.rows(FREE_NAME, {"base": base})[0][0]
    return f"{schema}.{quoted(table if number == 1 else f'{table}_{number}')}"


def _key_name(tx: Tx, names: Names, place: Place) -> str:
    """Name it as table.sql does, unless something else is called that."""
    schema = names.express.rpartition(".")[0]
    usual = "session_pkey"
    taken = tx.rows(TAKEN, {"name": f"{schema}.{quoted(usual)}"})[0][0]
    return f"{place.options.table}_sid_pkey" if taken else usual


def _silently(tx: Tx, names: Names, work: Callable[[], Any]) -> None:
    """Do it without our triggers, in a transaction that holds the table or those rows."""
    triggers = [quoted(row[0]) for row in tx.rows(TRIGGERS, {"name": names.express})]
    for trigger in triggers:
        _ddl(tx, f"ALTER TABLE {names.express} DISABLE TRIGGER {trigger}")
    work()
    for trigger in triggers:
        _ddl(tx, f"ALTER TABLE {names.express} ENABLE TRIGGER {trigger}")


def _in_one(db: Database, statements: Sequence[str]) -> None:
    def all_of_it(tx: Tx) -> None:
        tx.patiently(thinking=True)
        for each in statements:
            _ddl(tx, each)

    db.transaction(all_of_it)


def _ddl(tx: Tx, text: str) -> None:
    tx.connection.exec_driver_sql(text.replace("%", "%%"))
