"""Plans of selective sweeps, and what became of their runs."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, MetaData, Table, Text, UniqueConstraint

from sojourn.stores.sql.migrations import ensure
from sojourn.stores.sql.schema import IN_MYSQL, INSTANT, JSON, Key

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

metadata = MetaData()

Table(
    "sojourn_sweep_plans",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("name", Key(128), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("schedule", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("created_by", Key(256), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("next_at", INSTANT),  # none: it is paused
    Column("closes_at", INSTANT),  # past that, its next run is too late
    UniqueConstraint("name", name="sojourn_sweep_plans_name"),
    **IN_MYSQL,
)

Table(
    "sojourn_sweep_runs",
    metadata,
    Column("id", Key(64), primary_key=True),
    Column("actor", Key(256), nullable=False),
    Column("scope", JSON, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("state", Key(16), nullable=False),
    Column("plan_id", Key(64)),  # none: by hand
    Column("plan_name", Key(128)),
    Column("due_at", INSTANT),
    Column("closes_at", INSTANT),
    Column("finished_at", INSTANT),
    Column("looked", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("noted", BigInteger, nullable=False),
    Column("taken_up", BigInteger, nullable=False),
    Column("last_id", Key(128)),
    Column("error", Text),
    Column("next_at", INSTANT),
    # Once for each time that a plan is due, whatever its servers believe.
    UniqueConstraint("plan_id", "due_at", name="sojourn_sweep_runs_due"),
    Index("sojourn_sweep_runs_started", "started_at", "id"),
    Index("sojourn_sweep_runs_state", "state"),
    **IN_MYSQL,
)


def upgrade() -> None:
    ensure(op.get_bind(), metadata)
