"""How much of an address is kept."""

from __future__ import annotations

import ipaddress

IPV4_KEPT = 24
IPV6_KEPT = 48
"""Bits of an address that stay when it is shortened: a street, so to speak, and not a door."""


def shortened(ip: str) -> str:
    """Return an address without what tells one household from the next; of what is none, nothing."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    kept = IPV4_KEPT if address.version == 4 else IPV6_KEPT
    return str(ipaddress.ip_network((address, kept), strict=False).network_address)
