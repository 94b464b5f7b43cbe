"""Are the tables as the code needs them? One check for each kind of flaw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sojourn.finding import Area, Check, Finding, Fix, Repair, failure, ok, warning
from sojourn.stores.sql import migrations
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import flaws, shape
from sojourn.stores.sql.doctor.flaws import Flaw, Kind
from sojourn.stores.sql.doctor.job import COPY, FIX
from sojourn.stores.sql.doctor.parts import CORE, effects_of, parts_of
from sojourn.stores.sql.doctor.rebuild import Rebuild
from sojourn.stores.sql.doctor.repairs import Indexes, Migrate, OldNames
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.names import change, facts
from sojourn.stores.sql.schema import VERSION_TABLE

NAMED_MAX = 12
"""How many flaws are named in one finding."""


def checks(source: Source) -> Iterator[Check]:
    reachable, place = source.id("store", "reachable"), source.id("schema", "place")

    def check(
        noun: str,
        title: str,
        looked_at: str,
        look: Callable[[], Finding],
        *,
        repair: Repair | None = None,
        quick: bool = True,
    ) -> Check:
        return Check(
            id=source.id("schema", noun),
            area=Area.SCHEMA,
            title=title,
            looked_at=looked_at,
            look=look,
            repair=repair,
            quick=quick,
            # Tables that are elsewhere must not be made here: everybody would be signed out.
            needs=(reachable,) if noun == "place" else (reachable, place),
        )

    def of_kind(kind: Kind, noun: str, title: str, looked_at: str, fine: str) -> Check:
        repair = Indexes(source) if kind is Kind.INDEX else Rebuild(source, kind)
        return check(
            noun,
            title,
            looked_at,
            lambda: tell(source, kind, fine, repair),
            repair=repair,
        )

    yield check(
        "place",
        "Are we connected to the database and schema that hold the tables?",
        "every schema that this user may see",
        lambda: place_of(source),
    )
    yield check(
        "tables",
        "Are all tables there?",
        "the database's catalog",
        lambda: missing(source),
        repair=Migrate(source),
    )
    yield check(
        "version",
        "Is the schema at the version that this program needs?",
        f"the table {VERSION_TABLE}",
        lambda: version(source),
        repair=Migrate(source),
    )
    yield check(
        "names",
        "Do the tables go by their own names alone?",
        "names that the tables had before version 0006",
        lambda: names(source),
        repair=OldNames(source),
    )
    for kind, words in WORDS.items():
        yield of_kind(kind, *words)
    yield check(
        "copies",
        "Are there copies that a repair left behind long ago?",
        "tables named like ours, with a day",
        lambda: copies(source),
        quick=False,
    )


WORDS = {
    Kind.COLUMN: (
        "columns",
        "Does every table have its columns?",
        "the columns of every table",
        "Every column is there.",
    ),
    Kind.TYPE: (
        "types",
        "Can every column hold what belongs into it?",
        "the type of every column",
        "Every column is of the type that it must be.",
    ),
    Kind.KEY: (
        "keys",
        "Does a primary key keep every id unique?",
        "primary keys and unique constraints",
        "Every key is there.",
    ),
    Kind.COLLATION: (
        "collation",
        "Do ids compare byte by byte?",
        "the collation of every id",
        "Ids compare byte by byte.",
    ),
    Kind.STORAGE: (
        "storage",
        "Do the tables themselves survive a crash?",
        "what keeps every table",
        "Every table survives a crash.",
    ),
    Kind.INDEX: (
        "indexes",
        "Is every index there, and valid?",
        "the indexes of every table",
        "Every index is there, and valid.",
    ),
}
MEANS = {
    Kind.COLUMN: "What reads or writes the table fails: people cannot sign in, or are not recognized.",
    Kind.TYPE: "Values are refused, cut off or changed: people are signed out, or cannot sign in.",
    Kind.KEY: "The same id may be in twice: sessions that were ended may come back, seats are counted"
    " twice, and what relies on the key fails.",
    Kind.COLLATION: "Ids that differ in case, accents or trailing spaces would count as the same person.",
    Kind.STORAGE: "After a crash everybody is signed out, or seats are given twice.",
    Kind.INDEX: "Everything works, but takes the longer, the more sessions there are.",
}
BACKUP = Fix(
    text="Nothing tells what was there: restore the table from a backup, or what it lacks by hand."
)
HARMLESS = frozenset({Kind.INDEX})
"""Kinds of which a flaw costs time only."""
ELSEWHERE = {
    Backend.POSTGRES: """
        SELECT n.nspname, count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relname = ANY(:names) AND n.nspname <> current_schema()
        GROUP BY n.nspname HAVING count(*) >= :many ORDER BY 2 DESC
    """,
    Backend.MYSQL: """
        SELECT table_schema, count(*) FROM information_schema.tables
        WHERE table_name IN :names AND table_schema <> database()
        GROUP BY table_schema HAVING count(*) >= :many ORDER BY 2 DESC
    """,
}
HERE = {
    Backend.POSTGRES: "SELECT current_schema(), current_setting('search_path'), current_database()",
    Backend.MYSQL: "SELECT database(), '', database()",
}
COPIES_KEPT = 30  # days


def found(source: Source, kinds: Sequence[Kind]) -> list[Flaw]:
    """Look for flaws of these kinds."""
    db = source.db()

    def look(tx: Tx) -> list[Flaw]:
        seen = shape.read(tx)
        return flaws.find(seen, tx.connection.dialect, tx.dialect.backend)

    return [flaw for flaw in db.read(look) if flaw.kind in kinds]


def tell(source: Source, kind: Kind, fine: str, repair: Repair) -> Finding:
    told = found(source, [kind])
    if not told:
        return ok(fine)
    harmless = kind in HARMLESS or all(flaw.harmless for flaw in told)
    evidence = [flaw.what for flaw in told[:NAMED_MAX]]
    if len(told) > NAMED_MAX:
        evidence.append(f"and {len(told) - NAMED_MAX} more")
    title = told[0].what if len(told) == 1 else f"{told[0].what[:-1]}, and {len(told) - 1} more."
    fix = FIX if repair.plan() else BACKUP
    parts = parts_of([flaw.table for flaw in told])
    means = MEANS[kind]
    if kind not in HARMLESS and CORE.isdisjoint(parts):
        effects = effects_of(parts, of_ledger=bool(source.prefix))
        means = f"It may come to this: {effects[0].lower()}{effects[1:]}"
    if harmless:
        return warning(title, evidence=evidence, means=means, fix=fix)
    return failure(title, evidence=evidence, means=means, fix=fix, parts=parts)


def missing(source: Source) -> Finding:
    wrong = found(source, [Kind.TABLE, Kind.FOREIGN])
    foreign = [flaw for flaw in wrong if flaw.kind is Kind.FOREIGN]
    if foreign:
        return failure(
            foreign[0].what,
            evidence=[flaw.what for flaw in foreign],
            means="What Sojourn keeps in a table of this name is not found, and nothing is changed here.",
            fix=Fix(
                text="Give Sojourn a database or schema of its own; a table that nobody needs may be renamed."
            ),
        )
    lost = [flaw.table for flaw in wrong]
    if not lost:
        return ok("All tables are there.", ", ".join(shape.NAMES))
    old = source.db().read(lambda tx: facts.read(tx).tables & set(facts.NOUNS))
    if len(lost) == len(shape.NAMES) and facts.PREFIX + "marks" in lost and "marks" in old:
        return failure(
            "The tables still have the names of an older version.",
            evidence=sorted(old),
            means="Programs of this version do not find them; those of the older one go on.",
            fix=Fix(text="Rename them; no row is copied or lost.", command="sojourn migrate"),
        )
    if len(lost) == len(shape.NAMES):
        title, means, parts = (
            "None of the tables is there.",
            "Nothing works before they are made.",
            [],
        )
    else:
        parts = parts_of(lost)
        means = effects_of(parts, of_ledger=bool(source.prefix))
        title = f"The table {lost[0]} is missing."
        if len(lost) > 1:
            title = f"The tables {', '.join(lost[:-1])} and {lost[-1]} are missing."
    text = (
        "Make what is missing; what else is there stays as it is. What a lost table held is in a backup"
        " only."
    )
    return failure(title, means=means, fix=Fix(text=text, command="sojourn migrate"), parts=parts)


def place_of(source: Source) -> Finding:
    """Look for the tables elsewhere, if none of them is here."""
    db = source.db()
    backend = db.dialect.backend
    if backend is Backend.SQLITE:
        return ok("The tables are where we are connected to: a file is one place.", source.place)
    names = [*shape.NAMES, *facts.NOUNS, VERSION_TABLE]
    there = db.read(lambda tx: len(shape.read(tx, names)))
    if there > 1:  # a lost table is another matter
        return ok("The tables are where we are connected to.")

    def look(tx: Tx) -> tuple[shape.Rows, shape.Rows]:
        given = {"names": tx.dialect.keys(names), "many": len(shape.NAMES) // 2}
        return tx.rows(HERE[backend], {}), tx.rows(ELSEWHERE[backend], given)

    here, elsewhere = db.read(look)
    current, path, database = here[0]
    evidence = [f"we are in {current or 'no schema'} of the database {database}"]
    if path:
        evidence.append(f"search_path = {path}")
    if backend is Backend.POSTGRES and current is None:
        return failure(
            "Of the search_path no schema exists, or may be used.",
            evidence=evidence,
            means="No table is found, and none can be made.",
            fix=Fix(text="Correct it.", sql="ALTER ROLE CURRENT_USER SET search_path = public;"),
        )
    if not elsewhere:
        return ok("The tables are nowhere else.", *evidence)
    where = [str(row[0]) for row in elsewhere]
    fix = (
        Fix(
            text="Let our connections look there first, or name it in the store's URL.",
            sql=f'ALTER ROLE CURRENT_USER SET search_path = "{where[0]}";',
            setting=f"postgresql://…/{database}?options=-csearch_path%3D{where[0]}",
        )
        if backend is Backend.POSTGRES
        else Fix(text="Name that database in the store's URL.", setting=f"mysql://…/{where[0]}")
    )
    return failure(
        f"The tables are in {where[0]}, and we are connected to {current}.",
        evidence=[*evidence, f"tables of ours are in: {', '.join(where)}"],
        means="Nobody is recognized, although every session is still there.",
        fix=fix,
    )


def copies(source: Source) -> Finding:
    def look(tx: Tx) -> tuple[list[str], int]:
        return sorted(shape.tables(tx)), tx.now()

    names, now = source.db().read(look)
    left = {name: match[2] for name in names if (match := COPY.fullmatch(name))}
    if not left:
        return ok("A repair has left no copy behind.")
    until = datetime.fromtimestamp(now / 1_000, UTC) - timedelta(days=COPIES_KEPT)
    old = [name for name, day in left.items() if day < until.strftime("%Y%m%d")]
    if not old:
        return ok("Copies that a repair left behind are still young.", *left)
    return warning(
        f"Copies that a repair left behind are older than {COPIES_KEPT} days.",
        evidence=old,
        means="They hold what people's sessions held, for longer than it is needed.",
        fix=Fix(
            text="When nothing is missed, drop them.",
            sql="\n".join(f"DROP TABLE {name};" for name in old),
        ),
    )


def names(source: Source) -> Finding:
    left = source.db().read(change.look)
    if not (left.views or left.waiting):
        return ok("The tables go by their own names alone.")
    evidence = [
        *left.programs,
        *(f"{noun} waits to become {facts.PREFIX}{noun}" for noun in left.waiting),
        *([f"by their old names too: {', '.join(left.views)}"] if left.views else []),
    ]
    if left.needed:
        until = datetime.fromtimestamp(left.until / 1_000, UTC).isoformat(timespec="seconds")
        return ok(
            "The tables go by their old names too, for programs of an older version.",
            *evidence,
            f"until {until}, and as long as such programs run",
        )
    return warning(
        "The tables still go by their old names too, and no program of an older version runs.",
        evidence=evidence,
        means="An application that shares the database cannot make tables of these names.",
        fix=FIX,
    )


def version(source: Source) -> Finding:
    versions = source.db().read(migrations.versions_of)
    head = migrations.head()
    if versions == [head]:
        return ok("The schema is at the version that is needed.", f"version {head}")
    fix = Fix(text="Bring it up to date; data stays.", command="sojourn migrate")
    unknown = [each for each in versions if each not in migrations.known()]
    if unknown:
        return warning(
            f"The schema, at version {unknown[0]}, is newer than this program.",
            evidence=[f"this program knows {head}"],
            means="What is new in it stays unused here; a column that is new may be left empty.",
            fix=Fix(text="Update this program.", command="pip install --upgrade sojourn"),
        )
    if not versions:
        title = "The schema says nothing of its version."
        means = "The server does not start on it."
        return failure(title, evidence=[f"needed: {head}"], means=means, fix=fix)
    if len(versions) > 1:
        return failure(
            "A migration was cut off half way: the schema says it is at several versions.",
            evidence=versions,
            means="The server does not start on it, and no migration can go on.",
            fix=FIX,
        )
    return failure(
        f"The schema is behind: it is at version {versions[0]}, and {head} is needed.",
        means="The server does not start on it.",
        fix=fix,
    )
