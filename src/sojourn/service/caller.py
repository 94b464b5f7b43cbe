"""Who waits for an answer at the other end of a connection, and whether they still do.

A request whose sender has hung up is not carried out: its sender has given it up, and has perhaps
asked for something else since. The event loop learns of the end of a connection only when it comes to
read it, and it reads what was sent before that first; so right before requests are decided the system
is asked about all of their connections, in one call.
"""

from __future__ import annotations

import select
from collections.abc import Sequence

from sojourn.errors import SojournError

NO_FD = -1
# Where the system does not tell that the other end has said its last, it tells that both ends have.
ENDED = getattr(select, "POLLRDHUP", 0)
GONE = ENDED
for _name in ("POLLHUP", "POLLERR", "POLLNVAL"):
    GONE |= getattr(select, _name, 0)
HAS_POLL = hasattr(select, "poll")  # Windows has none


class Abandoned(SojournError):
    """The client has hung up. Nothing was done."""

    code = "client_gone"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the request was carried out.")


class Caller:
    """The other end of a connection. `gone` stays true once it is."""

    __slots__ = ("fd", "gone")

    def __init__(self, fd: int = NO_FD) -> None:
        self.fd = fd
        self.gone = False

    def hung_up(self) -> bool:
        """Ask the system, now. Safe from any thread."""
        return self.gone or look([self])


def look(callers: Sequence[Caller]) -> bool:
    """Find out who of these has hung up, in one system call that does not wait; tell whether anybody.

    Where the system has no such call, only those count of whom the event loop has learned.
    """
    if not HAS_POLL:
        return any(each.gone for each in callers)
    poll = select.poll()
    register = poll.register
    for each in callers:
        if each.fd != NO_FD:
            register(each.fd, ENDED)
    ended = {fd for fd, events in poll.poll(0) if events & GONE} if callers else ()
    if ended:
        for each in callers:
            each.gone = each.gone or each.fd in ended
    return any(each.gone for each in callers)
