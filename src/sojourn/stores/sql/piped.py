"""Transactions in few round trips: statements that wait for no answer are sent together.

BEGIN is sent with the first statement, a lock with what is read under it, and what is written with COMMIT:
an acquire takes two round trips instead of seven, and its pools are locked for as much less. The server runs
such statements one after the other, each on what those before it left; now is what its clock says when it
comes to one, so after a lock that it has waited for. None is run after the first that fails, COMMIT included.

PostgreSQL is sent them as a pipeline, MariaDB and MySQL as one message. See docs/adr/0059.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sojourn.clock import SECOND
from sojourn.errors import SojournError
from sojourn.stores.sql import lent
from sojourn.stores.sql.database import COMMIT, NOTHING, ROLLBACK, Again, Params, Rows, Tx
from sojourn.stores.sql.faults import of_driver
from sojourn.stores.sql.steady import SURE

LENT_SET = "sojourn.set"
"""Of what is known of a connection: what a transaction sets on one that is not our own, in one statement."""
UNSENT_MAX = 64
"""Statements that wait to be sent along with others."""
NULL_MYSQL = "error 1048"
SERVERS_OWN = 1000
"""Numbers of errors from here on are a server's, but for those of clients: 2000 to 2999."""
NOT_PREPARED = "26000"
"""SQLSTATE: the server knows no such statement. Something has made it forget."""


class Said(NamedTuple):
    """A statement, with its values, or with those of each row."""

    template: str
    params: Params | Sequence[Params] = NOTHING
    null: SojournError | None = None  # what it means if a value is null that must not be


class Piped(Tx):
    """Sends statements of a transaction together, unless somebody listens to SQLAlchemy's events. To be put
    before a class that knows the server."""

    _unsent: Sequence[Said] = ()
    _piping = False
    """In a transaction whose statements may wait."""
    _begun = False
    """And the server knows of it."""
    _opened = 0
    """How many statements begin it."""

    def _opening(self) -> list[Said]:
        """Return what begins a transaction; nothing where its statements cannot wait."""
        raise NotImplementedError

    def _exchange(self, said: Sequence[Said]) -> tuple[Sequence[Any], Exception | None]:
        """Run statements up to the first that fails; return the answers up to there, and why. Raise what
        the driver does where the line is lost, or a value cannot be sent."""
        raise NotImplementedError

    def _answered(self, error: Exception) -> bool:
        """Tell whether the server has said so itself."""
        raise NotImplementedError

    def begin(self) -> None:
        opening = [] if self._is_heard else self._opening()
        self._piping, self._begun = bool(opening), False
        self._unsent, self._opened = opening, len(opening)
        if not opening:
            super().begin()

    def finish(self, *, keep: bool) -> None:
        if not self._piping:
            super().finish(keep=keep)
        elif self._begun or len(self._unsent) > self._opened:
            self._ask(Said(COMMIT if keep else ROLLBACK))
        self._unsent, self._piping = (), False

    def undo(self) -> None:
        piping, self._piping, self._unsent = self._piping, False, ()
        if not piping:
            super().undo()
        elif self._begun and not (self._line.closed or self._line.invalidated):
            # Not by psycopg, which would then forget, here and there, what is prepared.
            try:
                self._ask(Said(ROLLBACK))
            except Exception:  # noqa: BLE001  # whatever it was, the first error is the one to tell
                with contextlib.suppress(Exception):
                    self._line.invalidate()

    def send(self) -> None:
        if self._unsent:
            self._ask()

    def later(self, template: str, params: Params = NOTHING) -> None:
        if not self._piping:
            super().later(template, params)
            return
        self._wait(Said(template, params))

    def later_rows(
        self, template: str, rows: list[dict[str, Any]], null: SojournError | None = None
    ) -> None:
        if not self._piping or not self.joins_rows:
            super().later_rows(template, rows, null)
        elif rows:
            self._wait(Said(template, rows, null))

    @property
    def joins(self) -> bool:
        return self._piping

    def _wait(self, said: Said) -> None:
        self._unsent = [*self._unsent, said]
        if len(self._unsent) >= UNSENT_MAX:
            self.send()

    def together(self, *asked: tuple[str, Params]) -> list[Rows]:
        return (
            self._ask(*(Said(*each) for each in asked))
            if self._piping
            else super().together(*asked)
        )

    def locking(self, lock: str, params: Params, then: str, given: Params) -> tuple[Rows, Rows]:
        if not self._piping or self.instant is not None:  # which would be of before the lock
            return super().locking(lock, params, then, given)
        began = time.monotonic()
        locked, found = self.together((lock, params), (then, {**given, "now": None}))
        if time.monotonic() - began > SURE / SECOND:
            # It waited, and so a clock that was set back meanwhile could pass for one that was not.
            found = self.rows(then, {**given, "now": self.instant})
        return locked, found

    def _execute(self, template: str, params: Params, outcome: Callable[[Any], Any]) -> Any:
        if not self._unsent:
            return super()._execute(template, params, outcome)
        return outcome(self._asked(Said(template, params))[-1])

    def _ask(self, *asked: Said) -> list[Rows]:
        """Send what is unsent, and these; return the rows of these."""
        answers = self._asked(*asked)
        return [each.fetchall() for each in answers[len(answers) - len(asked) :]]

    def _asked(self, *asked: Said) -> Sequence[Any]:
        said, self._unsent = [*self._unsent, *asked], ()
        self._begun = True
        self.asked_at = time.monotonic()
        try:
            answers, error = self._exchange(said)
            if error is not None:
                failed = said[len(answers)] if len(answers) < len(said) else said[-1]
                if failed is not said[-1] and self._answered(error):
                    self.committing = False  # the server had not come to COMMIT
                if failed.null is not None and of_driver(error).code == NULL_MYSQL:
                    raise failed.null
                raise error
        except (Again, SojournError):
            raise
        except Exception as error:  # noqa: BLE001  # it is raised again, as SQLAlchemy's
            self._line._handle_dbapi_exception(error, None, None, None, None)  # noqa: SLF001  # as in Tx
        return answers


class PostgresPiped(Piped):
    """By libpq's pipeline mode."""

    def _opening(self) -> list[Said]:
        if self.lent:
            return [Said(lent.BEGIN), Said(self._line.info[LENT_SET])]
        return [Said(self.dialect.begin)]

    def _exchange(self, said: Sequence[Said]) -> tuple[Sequence[Any], Exception | None]:
        statements = []
        for template, params, _ in said:
            sql, names = self.dialect.numbered(template)
            assert isinstance(params, Mapping)
            statements.append((sql, [params[name] for name in names]))
        raw: Any = self._line.connection.driver_connection
        answers, error = raw.ask(statements)
        if error is not None and error.sqlstate == NOT_PREPARED:
            raw.forget()
            self.committing = False  # which is never prepared
            raise Again
        return answers, error

    def _answered(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) is not None


class MysqlPiped(Piped):
    """By several statements in one message."""

    joins_rows = True

    def _opening(self) -> list[Said]:
        raw: Any = self._line.connection.driver_connection
        return [Said(self.dialect.begin)] if raw.joins and not self.lent else []

    def _exchange(self, said: Sequence[Said]) -> tuple[Sequence[Any], Exception | None]:
        raw: Any = self._line.connection.driver_connection
        if raw.is_over():  # nothing of it has reached anybody
            self.committing = False
        render = self.dialect.render
        answers, error = raw.ask([(render(each.template), each.params) for each in said])
        return answers, error

    def _answered(self, error: Exception) -> bool:
        number = error.args[0] if error.args else 0
        return isinstance(number, int) and number >= SERVERS_OWN and not 2000 <= number < 3000
