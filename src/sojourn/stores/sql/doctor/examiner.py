"""Everything there is to look at in one database."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.finding import Check, Finding, unmet
from sojourn.stores.sql.database import Database
from sojourn.stores.sql.doctor import (
    access,
    between,
    content,
    damage,
    reach,
    settings,
    tables,
)
from sojourn.stores.sql.doctor.source import Source


class SqlExaminer:
    """Examines a database with Sojourn's tables; implements `finding.Examiner`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def checks(self) -> Sequence[Check]:
        parts = (reach, tables, content, settings, between, access, damage)
        return [check for part in parts for check in part.checks(self._source)]

    def close(self) -> None:
        self._source.close()


def quick(db: Database) -> list[Finding]:
    """Say what the quick checks find in a database that is open."""
    findings: dict[str, Finding] = {}
    for check in SqlExaminer(Source(lambda: db, place="the store")).checks():
        if check.quick and unmet(check, findings) is None:
            findings[check.id] = check.look()
    return list(findings.values())
