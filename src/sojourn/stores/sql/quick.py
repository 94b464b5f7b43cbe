"""A MariaDB or MySQL connection that is quick where PyMySQL takes its time: with TLS, and with long lists;
and that the server ends when it is silent in the middle of something.
"""

from __future__ import annotations

import functools
import re
import select
import ssl
import sys
from typing import Any

import pymysql

SILENT_MARIADB = """
SET SESSION idle_transaction_timeout = {0:d}, idle_write_transaction_timeout = {0:d},
    wait_timeout = {1}
"""
SILENT_MYSQL = "SET SESSION wait_timeout = {:d}"
UNKNOWN_VARIABLE = 1193

PLAIN = re.compile(r"[\w.:@ -]*", re.ASCII)
"""Text in which there is nothing to escape, in any character set and any mode."""


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
        if not self._ends_idle or self._sock is None:
            return False
        if sys.platform == "win32":
            return bool(select.select([self._sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

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
