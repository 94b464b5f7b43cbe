"""Who waits for a seat, and until when somebody may wait in a pool's line."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, MetaData, PrimaryKeyConstraint, Table, inspect, text

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, Key

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_waiting",
    metadata,
    Column("pool_id", Key(200), nullable=False),
    Column("user_id", Key(256), nullable=False),
    Column("client_id", Key(256), nullable=False),
    Column("id", Key(128), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("since", INSTANT, nullable=False),
    Column("expires_at", INSTANT, nullable=False),
    Column("offer_until", INSTANT),
    Column("reservation", Key(64)),
    PrimaryKeyConstraint("pool_id", "client_id", "user_id", name="sojourn_waiting_pkey"),
    **IN_MYSQL,
    postgresql_with={"fillfactor": 40},
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
    found = inspect(op.get_bind())
    if not found.has_table("sojourn_pools"):
        return  # it was lost: the repair that follows makes it, with every column
    if "line_until" not in {column["name"] for column in found.get_columns("sojourn_pools")}:
        until = Column("line_until", INSTANT, nullable=False, server_default=text("0"))
        op.add_column("sojourn_pools", until)
