"""Where no request of ours goes, whoever asks for it and whatever is set.

Link-local addresses and those by which clouds tell a machine its secrets: nobody's application is there, and
who could make us ask would read the answer, or be believed because of us.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

NEVER = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local; AWS, Google, Azure, DigitalOcean, Hetzner, Oracle, Tencent, IBM
            "100.100.100.200/32",  # Alibaba
            "100.80.80.80/32",  # UCloud
            "100.88.222.5/32",  # Tencent
            "100.96.0.96/32",  # Volcengine
            "192.80.8.124/32",  # Equinix Metal
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
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
NAT64 = (
    *(IPv6Network("64:ff9b::/96"), LOCAL_NAT64),
    IPv6Network("::ffff:0:0:0/96"),  # translated without state (RFC 7915)
)

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
    candidates = [unwrapped(address)]
    if isinstance(address, IPv6Address):
        number = int(address)
        if address in LOCAL_NAT64:  # the place for it under 48 bits of prefix (RFC 6052, 2.2)
            candidates.append(IPv4Address((number >> 64 & 0xFFFF) << 16 | (number >> 40 & 0xFFFF)))
        if number >> 32 & 0xFDFFFFFF == 0x5EFE:  # ISATAP (RFC 5214, 6.1)
            candidates.append(IPv4Address(number & 0xFFFFFFFF))
    return any(real in net for real in candidates for net in NEVER if net.version == real.version)
