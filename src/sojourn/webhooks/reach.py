"""Which addresses a webhook may go to: a URL that somebody typed must not become a way into the network
that this server stands in.

A name is resolved here, each address it has is judged, and the connection goes to an address that was
judged: what the name says a moment later changes nothing. Proxies of the environment are not used.
"""

from __future__ import annotations

import socket
from enum import StrEnum
from ipaddress import IPv4Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from sojourn.destination import Address, is_off_limits, unwrapped
from sojourn.errors import InvalidInput
from sojourn.exchange import Target

URL_MAX = 2_000
PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""Networks of one's own. What `destination` forbids is none of them, whatever is set."""


class Reach(StrEnum):
    """How far webhooks go, besides to public addresses by HTTPS."""

    PUBLIC = "public"
    LOOPBACK = "loopback"  # this machine too, by plain HTTP if need be
    PRIVATE = "private"  # networks of one's own too, likewise


class OutOfReach(InvalidInput):
    """The webhook may not go there."""

    hint = "Use an https:// URL of a public host; `webhook_reach` allows more."


def check_url(url: str, reach: Reach) -> Target:
    """Take a URL apart. Raises OutOfReach for what this server would never send to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("cannot be read") from None
    if len(url) > URL_MAX or not (url.isascii() and url.isprintable() and " " not in url):
        raise _refused(f"is at most {URL_MAX} printable characters of ASCII")
    host = _host(parts)
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise _refused("begins with https:// and names a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _refused("holds no user, no password and no fragment")
    tls = parts.scheme == "https"
    if not tls and reach is Reach.PUBLIC:
        raise _refused("begins with https://")
    literal = _literal(host)
    if literal is not None:
        _judge(literal, reach, tls=tls)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host=host, port=port or (443 if tls else 80), tls=tls, path=path)


def addresses(target: Target, reach: Reach) -> list[str]:
    """Resolve a target; return the addresses that may be connected to. Raises OutOfReach when there is
    none, and OSError when the name means nothing."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    refusal: OutOfReach | None = None
    allowed: list[str] = []
    for *_, place in found:
        try:
            _judge(ip_address(str(place[0]).partition("%")[0]), reach, tls=target.tls)
        except OutOfReach as fault:
            refusal = fault
        else:
            allowed.append(str(place[0]))
    if not allowed:
        raise refusal or OSError("the name has no address")
    return allowed


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").removesuffix(".")


def _literal(host: str) -> Address | None:
    """Read a host that is an address, also as the system's resolver would: 127.1, 0x7f000001."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _judge(address: Address, reach: Reach, *, tls: bool) -> None:
    """Raise OutOfReach unless a webhook may be sent to this address."""
    real = unwrapped(address)
    if is_off_limits(real):
        raise _refused("must lead to a public host")
    if real.is_loopback:
        if reach is Reach.PUBLIC:
            raise _refused("must not lead to this machine")
        return
    if any(real in network for network in PRIVATE if network.version == real.version):
        if reach is not Reach.PRIVATE:
            raise _refused("must not lead into a private network")
        return
    if not real.is_global or real.is_multicast or real.is_reserved or real.is_unspecified:
        raise _refused("must lead to a public host")
    if not tls:
        raise _refused("begins with https:// if its host is a public one")


def _refused(why: str) -> OutOfReach:
    return OutOfReach(f"A webhook's URL {why}.")
