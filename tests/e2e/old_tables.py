"""Session tables as other systems have them, to adopt from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text


def engine_of(url: str) -> Engine:
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    parsed = make_url(url)
    name = parsed.get_backend_name()
    return create_engine(parsed.set(drivername=driver.get(name, name)))


@contextlib.contextmanager
def executing(url: str) -> Iterator[Callable[..., Any]]:
    engine = engine_of(url)
    try:
        with engine.begin() as connection:
            yield lambda sql, rows=None: connection.execute(text(sql), rows or {})
    finally:
        engine.dispose()


def in_days(days: float) -> str:
    at = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=days)
    return at.isoformat(" ", "seconds")


TYPES = {
    "sqlite": ("INTEGER PRIMARY KEY", "TEXT", "TEXT", "BOOLEAN"),
    "postgresql": ("BIGINT PRIMARY KEY", "TEXT", "TIMESTAMPTZ", "BOOLEAN"),
    "mysql": ("BIGINT PRIMARY KEY", "VARCHAR(2000)", "DATETIME(3)", "BOOLEAN"),
}


def make_user_sessions(url: str) -> None:
    key, word, when, flag = TYPES[make_url(url).get_backend_name()]
    with executing(url) as execute:
        execute(
            f"CREATE TABLE user_sessions (id {key}, user_id {word}, session_token {word},"
            f" created_at {when}, last_used_at {when}, expires_at {when}, ip_address {word},"
            f" user_agent {word}, is_active {flag}, is_current {flag})"
        )


def add_user_sessions(url: str, rows: list[dict[str, Any]]) -> None:
    whole = [
        {"user": f"user-{each['id']}", "token": f"old-token-{each['id']:08}", "active": True}
        | {"expires": in_days(2), "created": in_days(-3), "used": in_days(-1)}
        | each
        for each in rows
    ]
    with executing(url) as execute:
        execute(
            "INSERT INTO user_sessions VALUES (:id, :user, :token, :created, :used, :expires,"
            " '10.0.0.1', 'Firefox', :active, false)",
            whole,
        )
