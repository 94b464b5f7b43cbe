"""Where a request comes from: the client's address and scheme, as trusted proxies report them, and the
origin of the page that sends it. No I/O.

`X-Forwarded-For` and `X-Forwarded-Proto` are believed only as far as the chain of trusted hops reaches
(ASVS 5.0 4.1.3): from the right, every address is skipped that is itself trusted, and the first that
is not is the client's. Anybody can send these headers; a proxy that does not replace or append to them
must not be trusted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from msgspec import Struct

from sojourn.errors import InvalidInput, SettingsError

PRIVATE = (
    *("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    *("169.254.0.0/16", "fe80::/10", "100.64.0.0/10"),
)
"""What the word `private` stands for."""

ORIGINS_MAX = 50
"""Origins that a license allows."""
ORIGIN_MAX = 300
"""Characters of an origin."""
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    rf"(?P<host>(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
)
_LABELS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NO_ORIGIN = frozenset(("about", "blob", "data", "file", "javascript", "ws", "wss"))
"""Schemes whose pages browsers say no origin of, and those that are no pages'."""
ORIGIN = (
    r"^(https?|chrome-extension|moz-extension|app)://"
    r"[a-z0-9]{1,63}(\.[a-z0-9]{1,63}){0,3}(:[1-9][0-9]{0,3})?$"
)
"""Origins in an OpenAPI document: all of these are taken, and some more (see `check_origin`)."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def spelled_out(networks: Iterable[str]) -> list[str]:
    """Put the networks that `private` stands for in its place."""
    return [each for text in networks for each in (PRIVATE if text == "private" else (text,))]


class Origin(Struct, frozen=True):
    """Attributes: https: whether the browser spoke HTTPS; ip: its address, if known."""

    https: bool
    ip: str | None


class TrustedHops:
    """Networks whose forwarding headers are believed: addresses, CIDR, `private`, or `unix` for a peer
    without an address. Raises SettingsError for anything else."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._unix = False
        self._networks: list[Network] = []
        for text in networks:
            if text == "unix":
                self._unix = True
                continue
            try:
                found = [ipaddress.ip_network(each) for each in spelled_out([text])]
            except ValueError:
                raise SettingsError(
                    f"trusted_proxies: {text!r} is no address or network.",
                    hint="Write 10.0.0.0/8, 192.0.2.7, `private` or `unix`.",
                ) from None
            self._networks += found

    def origin(
        self, peer: str | None, scheme: str, forwarded_for: str = "", forwarded_proto: str = ""
    ) -> Origin:
        """Say where a request comes from.

        `peer` and `scheme` are the connection's own; the other two are header values, several headers
        of a name joined by commas.
        """
        https = scheme in ("https", "wss")
        if not self.trusts(peer):
            return Origin(https, peer or None)
        hops = [_address(part) for part in forwarded_for.split(",") if part.strip()]
        client, trusted = peer, 1
        for hop in reversed(hops):
            if hop is None:
                break  # garbled: whoever wrote it, what lies beyond cannot be believed
            client = hop
            if not self.trusts(hop):
                break
            trusted += 1
        schemes = [part.strip().lower() for part in forwarded_proto.split(",") if part.strip()]
        if schemes:
            https = schemes[max(0, len(schemes) - trusted)] in ("https", "wss")
        return Origin(https, client or None)

    def trusts(self, address: str | None) -> bool:
        """Tell whether what the headers of a request from this peer say of others is believed."""
        if not self._networks:
            return self._unix and not address
        if not address:
            return self._unix
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)


def is_elsewhere(*, host: str, site: str, sender: str, trusted: Collection[str] = ()) -> bool:
    """Tell whether a page of another origin sent a request, as far as browsers say so.

    The arguments are the headers Host, Sec-Fetch-Site and Origin. What has neither of the last two does
    not come from a page: no browser of ours sends a change, or opens a WebSocket, without.
    """
    if sender in trusted:
        return False
    if site:
        return site not in ("same-origin", "none")
    return bool(sender) and sender.partition("://")[2].lower() != host.lower()


def foreign_origin(*, host: str, site: str, sender: str) -> str | None:
    """Return the origin of a page elsewhere that sent a request; None if it is our own, or no page.

    The arguments are the headers Host, Sec-Fetch-Site and Origin. Unlike `is_elsewhere`, a browser's
    extension counts as elsewhere even where its permissions let it read everything.
    """
    if not sender or site == "same-origin":
        return None
    return None if sender.partition("://")[2].lower() == host.lower() else sender


def check_origin(text: str) -> str:
    """Return an origin as browsers write it in the header Origin. Raises InvalidInput.

    `https://*.example.com` stands for every subdomain of example.com, but not for itself. A wildcard
    takes HTTPS, and at least two labels after it. Whether strangers share that domain is for the API to
    say, which refuses `https://*.github.io` by a list of such domains.
    """
    found = _ORIGIN.fullmatch(text.lower()) if len(text) <= ORIGIN_MAX else None
    hint = "Write scheme, host and port as browsers do: https://app.example.com, no path, no slash."
    if found is None or found["scheme"] in _NO_ORIGIN or int(found["port"] or 1) > 65_535:
        raise InvalidInput(f"{text[:ORIGIN_MAX]!r} is no origin.", hint=hint)
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if host.startswith("*.") and (scheme != "https" or host.count(".") < 2):
        raise InvalidInput(
            f"{text!r} stands for too many origins.",
            hint="A wildcard takes https and a domain of one's own: https://*.example.com.",
        )
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


def check_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """Return origins as `check_origin` has them, each once. Raises InvalidInput, also for too many."""
    found = tuple(dict.fromkeys(map(check_origin, origins)))
    if len(found) > ORIGINS_MAX:
        raise InvalidInput(f"A license allows at most {ORIGINS_MAX} origins.")
    return found


def origin_allowed(license_origins: Collection[str], origin: str) -> bool:
    """Tell whether a license allows pages of an origin, as the header Origin says it.

    `license_origins` are as `check_origin` has them. None allow no page at all; `null`, which pages send
    that hide where they come from, is never allowed.
    """
    if "*" in origin or len(origin) > ORIGIN_MAX:
        return False
    if origin in license_origins:
        return True
    scheme, _, host = origin.partition("://")
    dot = host.find(".")
    while dot > 0:
        if f"{scheme}://*{host[dot:]}" in license_origins:
            return _LABELS.fullmatch(host[:dot]) is not None
        dot = host.find(".", dot + 1)
    return False


def _address(text: str) -> str | None:
    """Read one entry of X-Forwarded-For, with or without a port; None if it is no address."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))  # a zone means nothing elsewhere
    except ValueError:
        return None
