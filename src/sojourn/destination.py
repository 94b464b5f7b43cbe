"""Where no request of ours goes, whoever asks for it and whatever is set.

Link-local addresses and those by which clouds tell a machine its secrets: nobody's application is there, and
who could make us ask would read the answer, or be believed because of us.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

NEVER = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local; AWS, Google, Azure, DigitalOcean, Hetzner, Oracle, Tencent, IBM
            "100.100.100.200/32",  # Alibaba
            "168.63.129.16/32",  # Azure's wire server
            "192.0.0.192/32",  # Oracle's classic cloud
            "fe80::/10",  # link-local; OpenStack
            "fec0::/10",  # what was site-local, and is routed by some still
            "fd00:ec2::/32",  # AWS
            "fd20:ce::254/128",  # Google
            "fd00:c1::a9fe:a9fe/128",  # Oracle
            "fd00:a9fe:a9fe::/48",  # Akamai
            "fd00:42::42/128",  # Scaleway
        ),
    )
)
NAT64 = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48")))

Address = IPv4Address | IPv6Address


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one, where routers would."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if inner is None and any(address in network for network in NAT64):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is None and not int(address) >> 32 and int(address) > 1:  # IPv4-compatible: ::a.b.c.d
        inner = IPv4Address(int(address))
    return inner or address


def is_off_limits(address: Address | str) -> bool:
    """Tell whether no request goes to an address, whatever is set."""
    if isinstance(address, str):
        address = ip_address(address.partition("%")[0])
    real = unwrapped(address)
    return any(real in network for network in NEVER if network.version == real.version)
