"""docs/guide/in-your-database.md: an application's Alembic keeps off our tables, by the printed lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from tests.older import engine_of

from sojourn.stores import open as stores
from sojourn.stores.sql import schema

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "in-your-database.md").read_text()
LINES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODELS = """
from sqlalchemy import Column, Integer, MetaData, String, Table

metadata = MetaData()
Table("sessions", metadata, Column("id", Integer, primary_key=True), Column("song", String(80), index=True))
Table("events", metadata, Column("id", Integer, primary_key=True), Column("title", String(80)))
"""
ENV = """
from alembic import context
from sqlalchemy import create_engine
{models}
{lines}
engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata{with_lines})
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""


@pytest.fixture(params=["sqlite_url", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    stores.migrate(found)
    return found


def project(folder: Path, url: str, *, lines: bool) -> Config:
    """Make an application's Alembic folder, as `alembic init` does."""
    config = Config(str(folder / "alembic.ini"))
    engine = engine_of(url)
    shown = engine.url.render_as_string(hide_password=False)
    engine.dispose()
    config.set_main_option("script_location", str(folder / "alembic"))
    config.set_main_option("sqlalchemy.url", shown.replace("%", "%%"))
    command.init(config, str(folder / "alembic"))
    env = ENV.format(
        models=MODELS,
        lines=LINES[0] if lines else "",
        with_lines=", include_name=include_name" if lines else "",
    )
    (folder / "alembic" / "env.py").write_text(env)
    return config


def written(config: Config) -> str:
    """Let Alembic write a revision, and return its text."""
    command.revision(config, "what it finds", autogenerate=True)
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    assert head is not None
    return Path(script.get_revision(head).path).read_text()


def test_autogenerate_keeps_off_our_tables(url: str, tmp_path: Path) -> None:
    """It makes the application's tables, drops none of ours, and once more finds nothing left to do."""
    config = project(tmp_path, url, lines=True)
    text = written(config)
    assert "op.create_table('sessions'" in text
    assert "op.create_table('events'" in text
    assert "sojourn_" not in text
    command.upgrade(config, "head")
    assert "op." not in written(config)
    stores.migrate(url)
    engine = engine_of(url)
    there = set(inspect(engine).get_table_names())
    engine.dispose()
    assert there >= {*schema.metadata.tables, schema.VERSION_TABLE, "sessions", "events"}


def test_without_the_lines_it_would_drop_them(sqlite_url: str, tmp_path: Path) -> None:
    stores.migrate(sqlite_url)
    assert "op.drop_table('sojourn_sessions')" in written(
        project(tmp_path, sqlite_url, lines=False)
    )
