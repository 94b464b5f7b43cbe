"""Who is believed about where a request comes from."""

from __future__ import annotations

import pytest

from sojourn.errors import SettingsError
from sojourn.origin import Origin, TrustedHops

CLIENT = "203.0.113.9"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "forwarded_proto", "found"),
    [
        # Nobody is trusted: headers are what anybody may write.
        ([], CLIENT, "198.51.100.1", "https", Origin(https=False, ip=CLIENT)),
        (["10.0.0.0/8"], CLIENT, "198.51.100.1", "https", Origin(https=False, ip=CLIENT)),
        # One trusted proxy.
        (["10.0.0.0/8"], "10.0.0.1", CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["private"], "192.168.1.1", CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", CLIENT, "http", Origin(https=False, ip=CLIENT)),
        # What the client wrote itself stands left of what the proxy appended.
        (["10.0.0.1"], "10.0.0.1", f"1.1.1.1, {CLIENT}", "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", CLIENT, "https, http", Origin(https=False, ip=CLIENT)),
        # Two trusted hops, each of which appends.
        (
            ["10.0.0.0/8"],
            "10.0.0.1",
            f"1.1.1.1, {CLIENT}, 10.0.0.2",
            "https, http",
            Origin(https=True, ip=CLIENT),
        ),
        # Every hop is trusted: the first is the client.
        (["10.0.0.0/8"], "10.0.0.1", "10.0.0.7", "", Origin(https=False, ip="10.0.0.7")),
        # Garbage ends what can be believed.
        (["10.0.0.1"], "10.0.0.1", f"{CLIENT}, unknown", "", Origin(https=False, ip="10.0.0.1")),
        # Forms of addresses.
        (["10.0.0.1"], "10.0.0.1", f"{CLIENT}:4711", "", Origin(https=False, ip=CLIENT)),
        (["10.0.0.1"], "10.0.0.1", '"[2001:db8::1]:80"', "", Origin(https=False, ip="2001:db8::1")),
        (["10.0.0.1"], "10.0.0.1", "fe80::1%<b>", "", Origin(https=False, ip="fe80::1")),
        (["10.0.0.1"], "::ffff:10.0.0.1", CLIENT, "", Origin(https=False, ip=CLIENT)),
        (["unix"], None, CLIENT, "https", Origin(https=True, ip=CLIENT)),
        (["10.0.0.1"], None, CLIENT, "https", Origin(https=False, ip=None)),
        (["10.0.0.1"], "testclient", CLIENT, "https", Origin(https=False, ip="testclient")),
    ],
)
def test_origins(
    trusted: list[str],
    peer: str | None,
    forwarded_for: str,
    forwarded_proto: str,
    found: Origin,
) -> None:
    assert TrustedHops(trusted).origin(peer, "http", forwarded_for, forwarded_proto) == found


def test_the_connection_itself_is_https() -> None:
    assert TrustedHops().origin(CLIENT, "https") == Origin(https=True, ip=CLIENT)
    assert TrustedHops().origin(CLIENT, "wss") == Origin(https=True, ip=CLIENT)


@pytest.mark.parametrize("word", ["*", "everybody", "10.0.0.0/99", ""])
def test_words_that_name_nobody(word: str) -> None:
    with pytest.raises(SettingsError):
        TrustedHops([word])
