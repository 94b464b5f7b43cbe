"""Which seats of a pool relays may grant by themselves, and which relays there are."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, MetaData, Table, inspect

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_relays",
    metadata,
    Column("name", Key(256), primary_key=True),
    Column("life", Key(256), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("heard_at", INSTANT, nullable=False),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_pools"):
        return  # it was lost: the repair that follows makes it, with every column
    if "allotments" not in {column["name"] for column in found.get_columns("sojourn_pools")}:
        op.add_column("sojourn_pools", Column("allotments", JSON))
