"""Who waits for an answer at the other end of a connection, and whether they still do.

A request whose sender has hung up is not carried out: its sender has given it up, and has perhaps
asked for something else since. The event loop learns of the end of a connection only when it comes to
read it, and it reads what was sent before that first; so right before requests are decided the system
is asked about all of their connections, in one call.
"""

from __future__ import annotations

import select
from collections.abc import Iterable

from sojourn.errors import SojournError

NO_FD = -1
# Where the system does not tell that the other end has said its last, it tells that both ends have.
ENDED = getattr(select, "POLLRDHUP", 0)
GONE = ENDED | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Abandoned(SojournError):
    """Whoever asked has hung up. Nothing was done."""

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
        """Ask the system, now. Safe from any thread while the connection is open."""
        look([self])
        return self.gone


def look(callers: Iterable[Caller]) -> None:
    """Find out who of these has hung up, in one system call that does not wait."""
    by_fd = {each.fd: each for each in callers if not each.gone and each.fd != NO_FD}
    if not by_fd:
        return
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, ENDED)
    for fd, events in poll.poll(0):
        if events & GONE:
            by_fd[fd].gone = True
