"""Pools may reserve seats, and grant some above their capacity; leases say which groups were proved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, false, inspect

from sojourn.stores.sql.schema import JSON

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pools: list[Column[Any]] = [
        Column("overdraft", BigInteger, nullable=False, server_default="0"),
        Column("reservations", JSON),
    ]
    leases: list[Column[Any]] = [
        Column("overdraft", Boolean, nullable=False, server_default=false()),
        Column("member_of", JSON),
    ]
    _add("sojourn_pools", pools)
    if "sojourn_leases" in inspect(op.get_bind()).get_view_names():
        _add(
            "leases", leases
        )  # the table waits for its new name, and a view has that: see `names.mysql`
        op.execute("CREATE OR REPLACE VIEW sojourn_leases AS SELECT * FROM leases")
    else:
        _add("sojourn_leases", leases)


def _add(table: str, columns: Sequence[Column[Any]]) -> None:
    found = inspect(op.get_bind())
    if not found.has_table(table):
        return  # it was lost: the repair that follows makes it, with every column
    there = {column["name"] for column in found.get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)
