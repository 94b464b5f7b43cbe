"""One POST to a receiver, over before its deadline whatever the receiver does.

`http.client` on a socket of our own: it goes to the address that was judged, each wait on it is cut to
the time left, redirects are not followed, and of the answer only its status and Retry-After are kept.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sojourn import __version__
from sojourn.clock import SECOND
from sojourn.errors import SojournError
from sojourn.exchange import Target, TimedConnection, left
from sojourn.webhook import Attempt
from sojourn.webhooks.reach import Reach, addresses, check_url

ANSWER_MAX = 65_536
"""Bytes read of an answer, so that the connection can be used again; a longer one is cut off."""
ERROR_MAX = 200


class Line:
    """A connection to one receiver, kept open between deliveries. For one thread."""

    def __init__(self, url: str, *, reach: Reach, timeout: float) -> None:
        self._url = url
        self._reach = reach
        self._timeout = timeout
        self._connection: _Connection | None = None

    def post(self, headers: Mapping[str, str], body: bytes) -> Attempt:
        """Send; say what came of it. Raises nothing."""
        deadline = time.monotonic() + self._timeout
        used = self._connection is not None
        try:
            try:
                return self._post(headers, body, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                if not used:
                    raise
                self.close()  # a connection that had been idle: its end may have crossed our request
                return self._post(headers, body, deadline)
        except Exception as fault:  # noqa: BLE001  # whatever a receiver brings about is its failure
            self.close()
            return Attempt(error=_words(fault, self._timeout))

    def _post(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Attempt:
        if self._connection is None:
            self._connection = _Connection(check_url(self._url, self._reach), self._reach)
        connection = self._connection
        connection.deadline = deadline
        sent = _all(connection.target, headers)
        answer = connection.ask("POST", connection.target.path, sent, body)
        status, after = answer.status, _retry_after(answer.getheader("retry-after"))
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer.read(ANSWER_MAX)
        if answer.will_close or not answer.isclosed():
            self.close()
        return Attempt(status=status, retry_after=after)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _all(target: Target, headers: Mapping[str, str]) -> dict[str, str]:
    return {
        "host": target.authority,
        "content-type": "application/json",
        "user-agent": f"Sojourn/{__version__}",
        **headers,
    }


class _Connection(TimedConnection):
    """Connects to an address that was judged, and to nothing else."""

    def __init__(self, target: Target, reach: Reach) -> None:
        super().__init__(target)
        self._reach = reach

    def connect(self) -> None:
        fault: Exception | None = None
        for address in addresses(self.target, self._reach):
            try:
                place = (address, self.target.port)
                raw = socket.create_connection(place, left(self.deadline))
                self.sock: Any = self.secured(raw)
            except OSError as error:
                fault = error
            else:
                return
        raise fault or OSError("the name has no address")


def _retry_after(value: str | None) -> int | None:
    """Read a Retry-After, in seconds or as a date; None if there is none that can be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9]) * SECOND
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0, math.ceil((aware - datetime.now(UTC)).total_seconds() * SECOND))


def _words(fault: Exception, timeout: float) -> str:
    """Say in an operator's words why there was no answer."""
    if isinstance(fault, SojournError):
        return fault.message
    if isinstance(fault, TimeoutError):
        return f"No answer within {timeout:g} s."
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"The receiver's certificate is not trusted: {fault.verify_message}."
    if isinstance(fault, socket.gaierror):
        return f"The host's name is not known: {fault.strerror}."
    if isinstance(fault, UnicodeError):
        return "The host's name is none that can be looked up."
    if isinstance(fault, OSError):
        return f"The receiver cannot be reached: {fault.strerror or type(fault).__name__}."[
            :ERROR_MAX
        ]
    return f"What answered speaks no HTTP: {type(fault).__name__}."
