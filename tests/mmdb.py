"""Writes small databases in MaxMind's format, of which no writer is maintained for Python.

https://maxmind.github.io/MaxMind-DB/: a binary tree of bits, then a section of data, then metadata.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"
RECORD_SIZE = 24
IPV4_PREFIX = 96  # IPv4 lives in ::/96

Tree = list[Any]


def write_mmdb(path: Path, places: Mapping[str, tuple[str, str]]) -> None:
    """Write a database of networks and their (city, country)."""
    nodes: list[Tree] = [[None, None]]
    data = bytearray()
    for network, (city, country) in places.items():
        record: dict[str, Any] = {"country": {"names": {"en": country}}}
        if city:
            record["city"] = {"names": {"en": city}}
        _insert(nodes, network, ("data", len(data)))
        data += _encode(record)
    tree = bytearray()
    for node in nodes:
        for leaf in node:
            tree += _pointer(leaf, len(nodes)).to_bytes(3, "big")
    metadata = {
        "node_count": len(nodes),
        "record_size": RECORD_SIZE,
        "ip_version": 6,
        "database_type": "Test",
        "languages": ["en"],
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_700_000_000,
        "description": {"en": "for tests"},
    }
    path.write_bytes(bytes(tree) + b"\0" * 16 + bytes(data) + MARKER + _encode(metadata))


def _insert(nodes: list[Tree], text: str, leaf: Any) -> None:
    network = ipaddress.ip_network(text)
    number = int(network.network_address)
    length = network.prefixlen + (IPV4_PREFIX if network.version == 4 else 0)
    bits = f"{number:0128b}"[:length]
    at = 0
    for bit in bits[:-1]:
        following = nodes[at][int(bit)]
        if following is None:
            nodes.append([None, None])
            following = nodes[at][int(bit)] = len(nodes) - 1
        at = following
    nodes[at][int(bits[-1])] = leaf


def _pointer(leaf: Any, count: int) -> int:
    if leaf is None:
        return count
    return int(leaf) if isinstance(leaf, int) else count + 16 + int(leaf[1])


def _encode(value: Any) -> bytes:
    if isinstance(value, dict):
        pairs = b"".join(_encode(k) + _encode(v) for k, v in value.items())
        return _control(7, len(value)) + pairs
    if isinstance(value, list):
        return _control(11, len(value)) + b"".join(_encode(each) for each in value)
    if isinstance(value, int):
        raw = value.to_bytes(8, "big").lstrip(b"\0")
        return _control(9, len(raw)) + raw  # uint64, which any width may be
    raw = str(value).encode()
    return _control(2, len(raw)) + raw


def _control(kind: int, size: int) -> bytes:
    assert size < 29
    return bytes([size, kind - 7]) if kind > 7 else bytes([kind << 5 | size])
