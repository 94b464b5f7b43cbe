"""From a server's URL to a way of sending there.

What opens sockets and speaks TLS is imported here, by the first client that is made: who makes none does
not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sojourn.client.transport import HttpxTransport, Transport
from sojourn.errors import InvalidInput
from sojourn.log import sentences

if TYPE_CHECKING:
    import ssl

    from sojourn.exchange import Target

CONNECTIONS = 100  # to one server at once

_log = sentences("sojourn.client")


def target_at(url: str) -> Target:
    """Read a server's URL; its user, its password and its query are left out. Raises InvalidInput."""
    from sojourn.exchange import target_of

    try:
        return target_of(url.partition("#")[0].partition("?")[0])
    except ValueError:
        raise InvalidInput(
            "The server's URL must start with http:// or https:// and name a host.",
            hint="For a server on this machine: http://127.0.0.1:8700",
        ) from None


def warn_where_exposed(target: Target, what: str) -> None:
    """Say so where others can read on the way what is sent."""
    if target.exposed:
        _log.warning("%s go to %s unencrypted: use https.", what, target.url)


def open_transport(
    target: Target,
    *,
    given: Transport | HttpxTransport | None = None,
    connections: int = CONNECTIONS,
    verify: ssl.SSLContext | bool = True,
    proxies: bool = False,
) -> Transport:
    """Get ready to send to a server, over what was given or over connections of our own.

    Args:
        target: the server.
        given: how requests travel instead, if it matters.
        connections: how many there are at once; a request waits for one of them.
        verify: False or an SSLContext to check the server's certificate differently.
        proxies: whether to go by the proxies that the environment names. They are for the internet: a server
            of one's own, named outright, is asked directly.
    """
    if given is None:
        from sojourn.client.sockets import KeptConnections

        return KeptConnections(target, most=connections, verify=verify, proxies=proxies)
    if not hasattr(given, "handle_request"):
        return given
    from sojourn.client.httpx import OverHttpx

    return OverHttpx(target, cast(HttpxTransport, given))
