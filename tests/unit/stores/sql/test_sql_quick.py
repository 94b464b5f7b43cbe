"""Values in MariaDB's statements: quick where nothing needs escaping, and PyMySQL's where something may."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymysql.connections import Connection
from pymysql.constants import SERVER_STATUS

from sojourn.stores.sql.quick import QuickConnection

LISTS = st.one_of(
    st.lists(st.text() | st.sampled_from(["lse_0", "a-b", "lic:feature", "O'Hara", "\\", "a\x00"])),
    st.lists(st.tuples(st.text(alphabet="abc'\\%_:\u20ac"), st.integers())),
    st.lists(st.integers() | st.booleans()),
    st.lists(st.text() | st.integers() | st.none() | st.binary()),
)


def connection(kind: type[Connection], *, backslashes: bool = True) -> Any:
    """Make one that is not connected, and knows its server's mode nevertheless."""
    made = kind(defer_connect=True)
    made.server_status = 0 if backslashes else SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES
    return made


def texts(written: str) -> str:
    return written.replace(" ", "")


@settings(max_examples=40)
@given(LISTS, st.booleans())
def test_writes_what_pymysql_writes(values: list[Any], backslashes: bool) -> None:  # drawn
    quick = connection(QuickConnection, backslashes=backslashes)
    plain = connection(Connection, backslashes=backslashes)
    assert texts(quick.escape(values)) == texts(plain.escape(values))


@pytest.mark.parametrize(
    "values",
    [
        ["x", "') OR 1=1 -- "],
        ["\\"],
        ["a", "\x00"],
        [("a", 1), ("'", 2)],
        [("a", "1) OR (1=1")],
        [("a", True)],
    ],
)
def test_leaves_what_may_need_escaping_to_pymysql(values: list[Any]) -> None:
    assert connection(QuickConnection).escape(values) == connection(Connection).escape(values)
