"""A URL that somebody typed is no way into the network that the server stands in."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sojourn.destination import is_off_limits
from sojourn.exchange import Target
from sojourn.webhooks.reach import OutOfReach, Reach, addresses, check_url
from sojourn.webhooks.sender import Line

LOOPBACK = (
    *("http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "https://127.0.0.1/"),
    *("http://127.1:9/", "http://0x7f000001/", "http://2130706433/"),
    *("http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/"),
)
PRIVATE = (
    *("https://10.0.0.1/", "https://172.16.9.9/", "https://192.168.1.1/", "https://[fd00::1]/"),
    *("https://100.64.0.1/", "https://[::ffff:10.0.0.1]/", "https://[2002:a00:1::]/"),
)
NOWHERE = (
    *("https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/", "https://0.0.0.0/"),
    *("https://224.0.0.1/", "https://240.0.0.1/", "https://255.255.255.255/", "https://[::]/"),
    *("https://192.0.2.1/", "https://[ff02::1]/", "https://[64:ff9b::a9fe:a9fe]/"),
    *("https://[fec0::1]/", "https://[feff::1]/", "https://[::a9fe:a9fe]/"),
)
METADATA = (
    *("169.254.169.254", "169.254.170.2", "169.254.0.23", "169.254.42.42", "100.100.100.200"),
    *("100.80.80.80", "100.88.222.5", "100.96.0.96", "192.80.8.124"),
    *("::ffff:0:169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::", "2001:db8::5efe:169.254.169.254"),
    *("168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    *("fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd00:42::42", "fe80::a9fe:a9fe", "fe80::1%eth0"),
    *("::ffff:169.254.169.254", "::ffff:100.100.100.200", "64:ff9b::6464:64c8", "2002:a9fe:a9fe::"),
    *("64:ff9b:1::a9fe:a9fe", "::168.63.129.16", "fec0::1"),
)


def allowed(url: str, reach: Reach) -> bool:
    try:
        addresses(check_url(url, reach), reach)
    except OutOfReach:
        return False
    return True


@pytest.mark.parametrize("url", LOOPBACK)
def test_this_machine(url: str) -> None:
    assert not allowed(url, Reach.PUBLIC)
    assert allowed(url, Reach.LOOPBACK)


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks(url: str) -> None:
    assert not allowed(url, Reach.PUBLIC)
    assert not allowed(url, Reach.LOOPBACK)
    assert allowed(url, Reach.PRIVATE)


@pytest.mark.parametrize("url", NOWHERE)
def test_what_is_nobodys_host(url: str) -> None:
    """The metadata of clouds among them."""
    assert not any(allowed(url, reach) for reach in Reach)


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("reach", Reach)
def test_what_tells_a_machine_of_a_cloud_its_secrets(
    address: str, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the setting, and whether the address is written or what a name resolves to."""
    assert is_off_limits(address)
    bare = address.partition("%")[0]
    host = f"[{bare}]" if ":" in bare else bare
    for scheme in ("http", "https"):
        with pytest.raises(OutOfReach):
            check_url(f"{scheme}://{host}/", reach)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(OutOfReach):
        addresses(check_url("https://metadata.example/", reach), reach)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://",
        "https:///hook",
        "//a.example/",
        "https://user:pass@a.example/",
        "https://a.example/#part",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://[::1",
        "https://a.example/ b",
        "https://a.example/\r\nX: y",
        "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/",
        f"https://a.example/{'x' * 2_000}",
        "http://a.example/",
    ],
)
def test_what_is_no_url_for_a_webhook(url: str) -> None:
    with pytest.raises(OutOfReach, match="A webhook's URL"):
        check_url(url, Reach.PUBLIC)


def test_a_public_host() -> None:
    target = check_url("https://hooks.example:8443/a/b?c=d", Reach.PUBLIC)
    assert target == Target(host="hooks.example", port=8443, tls=True, path="/a/b?c=d")
    assert target.authority == "hooks.example:8443"
    assert check_url("https://[2606:4700::1]", Reach.PUBLIC).authority == "[2606:4700::1]"
    with pytest.raises(OutOfReach, match="public"):  # in the clear across the internet: never
        check_url("http://93.184.216.34/", Reach.PRIVATE)


def test_a_name_is_judged_by_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the connection goes to an address that was judged, whatever the name says by then."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    port = listener.getsockname()[1]
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        place = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    target = check_url(f"https://rebinding.example:{port}/", Reach.PUBLIC)
    assert addresses(target, Reach.PUBLIC) == ["93.184.216.34"]
    line = Line(f"https://rebinding.example:{port}/", reach=Reach.PUBLIC, timeout=2)
    attempt = line.post({}, b"{}")
    assert attempt.error == "A webhook's URL must not lead to this machine."
    assert asked == ["rebinding.example"] * 2
    with listener, pytest.raises(BlockingIOError):
        listener.accept()
