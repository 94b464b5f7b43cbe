"""Is what the tables hold in order?"""

from __future__ import annotations

from collections.abc import Iterator

from sojourn.finding import Area, Check, Finding, failure, ok
from sojourn.stores.sql.doctor.repairs import Marks, marks_wrong
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.doctor.tables import FIX


def checks(source: Source) -> Iterator[Check]:
    needs = (source.id("store", "reachable"), source.id("schema", "tables"))
    yield Check(
        id=source.id("schema", "marks"),
        area=Area.SCHEMA,
        title="Do new events get ids that are new?",
        looked_at="the table marks",
        look=lambda: marks(source),
        repair=Marks(source),
        quick=True,
        needs=needs,
    )


def marks(source: Source) -> Finding:
    wrong = source.db().read(marks_wrong)
    if not wrong:
        return ok("New events get new ids.")
    return failure(
        wrong[0][1],
        evidence=[why for _, why in wrong],
        means="Nobody can sign in or take a seat: each of these writes an event, which is refused.",
        fix=FIX,
    )
