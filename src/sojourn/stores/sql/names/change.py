"""Giving our tables their names of today, and taking the old ones away once nobody needs them."""

from __future__ import annotations

import contextlib

from msgspec import Struct

from sojourn.errors import StoreUnavailable
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.names import facts, mysql, postgres, sqlite
from sojourn.stores.sql.names.facts import NOUNS, PREFIX, VIEWS_KEPT


def take_over(tx: Tx, *, begun: bool) -> None:
    """Rename the tables of ours that have their old names; what was cut off goes on. The first step of a
    migration: those that follow know the new names alone. Raises StoreBroken, StoreUnavailable."""
    there = facts.read(tx)
    nouns = facts.due(tx, there, begun=begun)
    backend = tx.dialect.backend
    if backend is Backend.MYSQL:
        mysql.clear(tx)
        if nouns:
            running = facts.programs(tx, there)
            wait = bool(running) or not facts.is_registry_used(tx, there)
            mysql.rename(tx, nouns, there, programs=running, wait=wait)
        mysql.rename_indexes(tx, facts.read(tx))
    elif nouns:
        (postgres if backend is Backend.POSTGRES else sqlite).rename(tx, nouns)
    if "marks" in nouns:
        tx.do(facts.TELL_ANEW, {"absent": facts.ABSENT, "missing": facts.MISSING})


class Left(Struct, frozen=True):
    """What is left of the old names.

    Attributes:
        views: old names that lead to our tables.
        waiting: tables that still have their old name, with a view by the new one.
        programs: who needs them, as far as can be told.
        until: the instant until which they stay in any case.
        now: the database's.
        registered: servers of this database register in it, so that `programs` names all of them.
    """

    views: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    until: int = 0
    now: int = 0
    registered: bool = False

    @property
    def needed(self) -> bool:
        return bool(self.programs) or self.now < self.until


def look(tx: Tx) -> Left:
    """Say what is left of the old names."""
    if tx.dialect.backend is Backend.SQLITE:
        return Left()
    there = facts.read(tx)
    waiting = tuple(x for x in NOUNS if x in there.tables and PREFIX + x in there.views)
    named = [x for x in NOUNS if x in there.views]
    views = tuple((postgres if _is_postgres(tx) else mysql).views(tx, named)) if named else ()
    if not (views or waiting):
        return Left()
    now, since = facts.now(tx), facts.renamed_at(tx, there)
    return Left(
        views=views,
        waiting=waiting,
        programs=tuple(facts.programs(tx, there)),
        until=(now if since is None else since) + VIEWS_KEPT,
        now=now,
        registered=facts.is_registry_used(tx, there),
    )


def finish(tx: Tx) -> None:
    """Take the old names away if nobody needs them; else note since when they are there."""
    left = look(tx)
    if not (left.views or left.waiting):
        return
    with contextlib.suppress(StoreUnavailable):  # somebody uses them just now: the next one does it
        # Servers alone name its indexes; the library's old programs go by the view.
        if left.waiting and not left.programs and (left.registered or not left.needed):
            mysql.take_hinted(tx)
            mysql.rename_indexes(tx, facts.read(tx))
            left = look(tx)
        if left.needed:
            facts.note(tx)
            return
        if _is_postgres(tx):
            postgres.drop(tx, postgres.views(tx, left.views))
        elif left.views:
            mysql.drop(tx, left.views)
        tx.do(facts.FORGET)


def _is_postgres(tx: Tx) -> bool:
    return tx.dialect.backend is Backend.POSTGRES
