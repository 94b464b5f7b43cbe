"""A PostgreSQL connection that asks several statements in one round trip: libpq's pipeline mode.

psycopg's own pipelines believe that a statement is prepared before the server has said so; where one before
it has failed, that is never true, and the connection fails for good. So statements are prepared here under
names of our own, and known as prepared once the server has answered.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import OperationalError, error_from_result
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.waiting import Ready, Wait

from sojourn.stores.sql.timeouts import ImpatientConnection

PREPARED_MAX = 64
"""Statements that a connection keeps prepared for pipelines; any other is planned each time."""
LEFT_MAX = 8
"""Results that are still read of a connection that is lost."""


class Answer(NamedTuple):
    """What a statement came to, asked for as one asks a cursor."""

    rows: list[tuple[Any, ...]]
    rowcount: int

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


class _Asked(NamedTuple):
    sql: bytes
    values: Sequence[Any]
    types: tuple[int, ...]
    formats: Sequence[Any]
    name: bytes = b""
    new: bool = False  # so it has to be prepared


_Key = tuple[bytes, tuple[int, ...]]


class PipelineConnection(ImpatientConnection):
    """Sends statements together."""

    _names: dict[_Key, bytes] | None = None
    _named = 0

    def ask(
        self, statements: Sequence[tuple[str, Sequence[Any]]]
    ) -> tuple[list[Answer], psycopg.Error | None]:
        """Run statements ($1 …, with their values) one after the other, up to the first that fails. Return
        the answers up to there, and why. A statement without values is never prepared.

        Raises what psycopg raises where a value cannot be sent, or the connection is lost.
        """
        reader = Transformer(self)
        asked = self._asked(reader, statements)
        with self.lock:
            try:
                results = self.wait(self._exchange(asked))
            except BaseException:
                self.pgconn.finish()  # in the middle of answers, which would be somebody else's
                raise
        return self._answers(reader, asked, results)

    def forget(self) -> None:
        """Take it that nothing is prepared: somebody else has seen to that."""
        self._names = None

    def _asked(self, writer: Any, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[_Asked]:
        names = self._names = {} if self._names is None else self._names
        asked: list[_Asked] = []
        new: dict[_Key, bytes] = {}
        for text, given in statements:
            sql = text.encode()
            values = writer.dump_sequence(given, [PyFormat.AUTO] * len(given)) if given else ()
            types, formats = (writer.types or (), writer.formats or ()) if given else ((), ())
            key = (sql, types)
            name = names.get(key) or new.get(key)
            first = name is None
            room = len(names) + len(new) < PREPARED_MAX
            if name is None and given and room and self.prepare_threshold is not None:
                self._named += 1
                name = new[key] = f"sojourn_{self._named}".encode()
            asked.append(
                _Asked(sql, values, types, formats, name or b"", first and name is not None)
            )
        return asked

    def _exchange(self, asked: Sequence[_Asked]) -> Generator[Any, Any, list[Any]]:
        """Send them all and read what comes back, until the server has done with them."""
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        for each in asked:
            if each.new:
                pgconn.send_prepare(each.name, each.sql, param_types=each.types)
            if each.name:
                pgconn.send_query_prepared(each.name, each.values, param_formats=each.formats)
            else:
                pgconn.send_query_params(
                    each.sql, each.values, param_types=each.types, param_formats=each.formats
                )
        pgconn.pipeline_sync()
        unsent = pgconn.flush()
        results: list[Any] = []
        ends = 0
        while True:
            while pgconn.is_busy():
                ready = yield Wait.RW if unsent else Wait.R
                try:
                    if ready & Ready.R:
                        pgconn.consume_input()
                    if unsent and ready & Ready.W:
                        unsent = pgconn.flush()
                except OperationalError:
                    if _told(pgconn, results):
                        return results  # the server has said why, before it hung up
                    raise
            result = pgconn.get_result()
            if result is None:  # the end of what one statement answers
                ends += 1
                if ends > 2 * len(asked):
                    raise OperationalError("the connection is lost")
            elif result.status == ExecStatus.PIPELINE_SYNC:
                pgconn.exit_pipeline_mode()
                return results
            else:
                results.append(result)

    def _answers(
        self, reader: Any, asked: Sequence[_Asked], results: Sequence[Any]
    ) -> tuple[list[Answer], psycopg.Error | None]:
        answers: list[Answer] = []
        assert self._names is not None
        for (each, prepares), result in zip(_expected(asked), results, strict=False):
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                return answers, error_from_result(result, encoding=self.info.encoding)
            if prepares:
                self._names[each.sql, each.types] = each.name
            else:
                reader.set_pgresult(result)
                rows = reader.load_rows(0, result.ntuples, tuple)
                answers.append(Answer(rows, result.command_tuples or 0))
        if len(answers) != len(asked):
            raise OperationalError("the server has not answered everything")
        return answers, None


def _told(pgconn: Any, results: list[Any]) -> bool:
    """Read what came before a connection was lost; tell whether the server gave an error of its own."""
    for _ in range(LEFT_MAX):
        result = pgconn.get_result()
        if result is None:
            break
        results.append(result)
    return any(each.error_field(DiagnosticField.SQLSTATE) is not None for each in results)


def _expected(asked: Sequence[_Asked]) -> Iterator[tuple[_Asked, bool]]:
    """Name what results are of, in their order, and whether they tell that it is prepared."""
    for each in asked:
        if each.new:
            yield each, True
        yield each, False
