"""What SQLAlchemy 2.0 lacks of 2.1: storage parameters of PostgreSQL's tables (`postgresql_with`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, __version__
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable


def _create(create: CreateTable, compiler: Any, **given: Any) -> str:
    made: str = compiler.visit_create_table(create, **given)
    wanted = create.element.dialect_options["postgresql"]["with"]
    if not wanted:
        return made
    said = ", ".join(f"{name} = {value}" for name, value in wanted.items())
    return f"{made.rstrip()} WITH ({said})"


def learn() -> None:
    """Teach it, if it has to be taught."""
    if tuple(map(int, __version__.split(".")[:2])) < (2, 1):
        Table.argument_for("postgresql", "with", None)
        compiles(CreateTable, "postgresql")(_create)
