"""Are the tables as the code needs them? One check for each kind of flaw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sojourn.finding import Area, Check, Finding, Fix, Repair, failure, ok, warning
from sojourn.stores.sql import migrations
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.doctor import flaws, shape
from sojourn.stores.sql.doctor.flaws import Flaw, Kind
from sojourn.stores.sql.doctor.repairs import Migrate
from sojourn.stores.sql.doctor.source import Source

NAMED_MAX = 12
"""How many flaws are named in one finding."""
FIX = Fix(text="Let doctor mend it: it shows a plan first.", command="sojourn doctor --fix")


def checks(source: Source) -> Iterator[Check]:
    reachable = source.id("store", "reachable")

    def check(
        noun: str,
        title: str,
        looked_at: str,
        look: Callable[[], Finding],
        *,
        repair: Repair | None = None,
        quick: bool = False,
    ) -> Check:
        return Check(
            id=source.id("schema", noun),
            area=Area.SCHEMA,
            title=title,
            looked_at=looked_at,
            look=look,
            repair=repair,
            quick=quick,
            needs=(reachable,),
        )

    yield check(
        "tables",
        "Are all tables there?",
        "the database's catalog",
        lambda: _missing(source),
        repair=Migrate(source),
        quick=True,
    )
    yield check(
        "version",
        "Is the schema at the version that this program needs?",
        "the table sojourn_schema",
        lambda: version(source),
        repair=Migrate(source),
        quick=True,
    )
    yield check(
        "columns",
        "Does every table have its columns?",
        "the columns of every table",
        lambda: _of_kind(source, Kind.COLUMN, "Every column is there."),
        quick=True,
    )
    yield check(
        "collation",
        "Do ids compare byte by byte?",
        "the collation of every id",
        lambda: _of_kind(source, Kind.COLLATION, "Ids compare byte by byte."),
    )
    yield check(
        "indexes",
        "Is every index there, and valid?",
        "the indexes of every table",
        lambda: _of_kind(source, Kind.INDEX, "Every index is there, and valid."),
        repair=Migrate(source),
        quick=True,
    )


MEANS = {
    Kind.COLUMN: "What reads or writes the table fails.",
    Kind.COLLATION: "Ids that differ in case, accents or trailing spaces would count as the same person.",
    Kind.INDEX: "Everything works, but takes the longer, the more sessions there are.",
}
HARMLESS = frozenset({Kind.INDEX})
"""Kinds of which a flaw costs time only."""


def found(source: Source, kinds: Sequence[Kind]) -> list[Flaw]:
    """Look for flaws of these kinds."""
    db = source.db()

    def look(tx: Tx) -> list[Flaw]:
        seen = shape.read(tx)
        return flaws.find(seen, tx.connection.dialect, tx.dialect.backend)

    return [flaw for flaw in db.read(look) if flaw.kind in kinds]


def _of_kind(source: Source, kind: Kind, fine: str) -> Finding:
    return tell(found(source, [kind]), kind, fine)


def tell(told: Sequence[Flaw], kind: Kind, fine: str) -> Finding:
    if not told:
        return ok(fine)
    harmless = kind in HARMLESS or all(flaw.harmless for flaw in told)
    evidence = [flaw.what for flaw in told[:NAMED_MAX]]
    if len(told) > NAMED_MAX:
        evidence.append(f"and {len(told) - NAMED_MAX} more")
    title = told[0].what if len(told) == 1 else f"{told[0].what[:-1]}, and {len(told) - 1} more."
    make = warning if harmless else failure
    return make(title, evidence=evidence, means=MEANS[kind], fix=FIX)


def _missing(source: Source) -> Finding:
    missing = [flaw.table for flaw in found(source, [Kind.TABLE])]
    if not missing:
        return ok("All tables are there.", ", ".join(shape.NAMES))
    every = len(missing) == len(shape.NAMES)
    title = "None of the tables is there." if every else f"Missing: {', '.join(missing)}."
    return failure(
        title,
        means="Whatever they held is not found: nobody is signed in, or no seat is given."
        if not every
        else "Nothing works before they are made.",
        fix=Fix(text="Make them; what else is there stays as it is.", command="sojourn migrate"),
    )


def version(source: Source) -> Finding:
    there = source.db().read(migrations.version_of)
    head = migrations.head()
    if there == head:
        return ok("The schema is at the version that is needed.", f"version {there}")
    fix = Fix(text="Bring it up to date; data stays.", command="sojourn migrate")
    if there is None:
        return failure(
            "The schema says nothing of its version.", evidence=[f"needed: {head}"], fix=fix
        )
    if there in migrations.known():
        return failure(
            f"The schema is behind: it is at version {there}, and {head} is needed.",
            means="The server does not start on it.",
            fix=fix,
        )
    return warning(
        f"The schema, at version {there}, is newer than this program.",
        evidence=[f"this program knows {head}"],
        means="What is new in it stays unused here; a column that is new may be left empty.",
        fix=Fix(text="Update this program.", command="pip install --upgrade sojourn"),
    )
