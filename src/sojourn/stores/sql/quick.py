"""A MariaDB or MySQL connection that is quick where PyMySQL takes its time: with TLS, and with long lists;
and that the server ends when it is silent in the middle of something.
"""

from __future__ import annotations

import functools
import re
import select
import ssl
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pymysql
from pymysql.constants import CLIENT

SILENT_MARIADB = """
SET SESSION idle_transaction_timeout = {0:d}, idle_write_transaction_timeout = {0:d},
    wait_timeout = {1}
"""
SILENT_MYSQL = "SET SESSION wait_timeout = {:d}"
UNKNOWN_VARIABLE = 1193

PLAIN = re.compile(r"[\w.:@ -]*", re.ASCII)
"""Text in which there is nothing to escape, in any character set and any mode."""


ROW = re.compile(r"\bVALUES\s*(\((?:[^()]|%\(\w+\)s)+\))")
"""The values of an INSERT of one row."""
CLIENT_FLAGS = int(CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS)
"""Several statements in one message; and a row that is written as it was counts, as SQLAlchemy has it."""


class Answer(NamedTuple):
    """What a statement came to, asked for as one asks a cursor."""

    rows: Sequence[tuple[Any, ...]]
    rowcount: int
    lastrowid: int

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        return self.rows


class QuickConnection(pymysql.connections.Connection):  # type: ignore[misc]  # it ships no types
    """Shares one TLS context where none is asked for.

    PyMySQL then uses TLS if the server offers it and believes any certificate, yet loads the system's
    hundreds of authorities for each connection: 25 ms that keep every other thread waiting.
    """

    _ends_idle = False

    def end_when_silent(self, seconds: int, *, always: bool = False) -> None:
        """Have the server end a transaction that says nothing for so long; with `always`, also what is
        done under a named lock, without one.

        MySQL, and MariaDB before 10.3, know of silent connections only. They end them a second later,
        also while nobody uses them: ask `was_cut` before that.
        """
        with self.cursor() as cursor:
            if "mariadb" in self.get_server_info().lower():
                wait = str(seconds) if always else "DEFAULT"
                try:
                    cursor.execute(SILENT_MARIADB.format(seconds, wait))
                except pymysql.err.OperationalError as error:
                    if error.args[0] != UNKNOWN_VARIABLE:
                        raise
                else:
                    return
            self._ends_idle = True
            cursor.execute(SILENT_MYSQL.format(seconds + 1))

    def was_cut(self) -> bool:
        """Tell whether the server may have hung up meanwhile: it then has said something unasked."""
        return self._ends_idle and self.is_over()

    def is_over(self) -> bool:
        """Tell whether the server has hung up by now, asked where it has nothing left to answer."""
        if self._sock is None:
            return False
        if sys.platform == "win32":
            return bool(select.select([self._sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def joins(self) -> bool:
        """Whether several statements may be sent in one message."""
        return bool(self.client_flag & CLIENT.MULTI_STATEMENTS)

    def ask(
        self, statements: Sequence[tuple[str, Any]]
    ) -> tuple[list[Answer], pymysql.err.Error | None]:
        """Run statements in one message, up to the first that fails. Each comes with its values, or with a
        list of those of many rows. Return the answers up to there, and why."""
        with self.cursor() as cursor:
            said = [
                _of_rows(cursor, sql, values)
                if isinstance(values, list)
                else cursor.mogrify(sql, values)
                for sql, values in statements
            ]
        answers: list[Answer] = []
        try:
            self.query(";".join(said))
            while True:
                result = self._result
                answers.append(
                    Answer(result.rows or (), result.affected_rows, result.insert_id or 0)
                )
                if not result.has_next:
                    return answers, None
                self.next_result()
        except pymysql.err.Error as error:
            return answers, error

    def _create_ssl_ctx(self, given: Any) -> ssl.SSLContext:
        if given:
            context: ssl.SSLContext = super()._create_ssl_ctx(given)
            return context
        return _believing()

    def escape(self, obj: Any, mapping: Any = None) -> str:
        """Write a value as SQL. A list of ids, of numbers or of (id, number)s in one go: an item at a
        time costs more than the statement. What might need escaping goes PyMySQL's way."""
        if type(obj) is list and obj:
            first = type(obj[0])
            if first is str and _plain(obj):
                return "('" + "','".join(obj) + "')"
            if first is int and all(type(each) is int for each in obj):
                return "(" + ",".join(map(str, obj)) + ")"
            if first is tuple and _numbered(obj) and _plain([text for text, _ in obj]):
                return "(" + ",".join([f"('{text}',{number})" for text, number in obj]) + ")"
        written: str = super().escape(obj, mapping)
        return written


def _of_rows(cursor: Any, sql: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write an INSERT of many rows as one statement."""
    head, row, tail = _parts(sql)
    written = ",".join([cursor.mogrify(row, values) for values in rows])
    return f"{head}{written}{tail}"


@functools.cache
def _parts(sql: str) -> tuple[str, str, str]:
    found = ROW.search(sql)
    assert found is not None, "an INSERT … VALUES (…)"
    return sql[: found.start(1)], found[1], sql[found.end(1) :]


def _plain(texts: list[str]) -> bool:
    try:
        return PLAIN.fullmatch("".join(texts)) is not None
    except TypeError:  # something else among them
        return False


def _numbered(pairs: list[Any]) -> bool:
    return all(type(each) is tuple and len(each) == 2 and type(each[1]) is int for each in pairs)


@functools.cache
def _believing() -> ssl.SSLContext:
    """Make what PyMySQL makes of no settings at all, without the authorities that it never asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
