"""Exchanges that somebody would have go on for ever, break off half-way, or end in another process."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest
from tests.unit.client.test_client_http import Misbehaving, serving
from tests.unit.client.test_client_transport import CHUNKED, EchoServer, ask, reaching, says
from tests.unit.client.test_client_transport import no_proxies as no_proxies

from sojourn import exchange
from sojourn.client.transport import NoAnswer

FLOOD = 64 * 1_048_576  # bytes; more than all the buffers on the way hold
SIZES = [b"-1", b"+3", b"0x3", b"0_3", b" 3", b"3 ", b"", b"\xb2"]


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_has_a_size_in_hexadecimal_digits_and_no_other(size: bytes) -> None:
    """-1 would mean: all that comes, whatever the bound is."""
    whole: list[bool] = []

    def flood(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(CHUNKED + size + b"\r\n")
        with contextlib.suppress(OSError):
            for _ in range(FLOOD // 65_536):
                connection.sendall(b"x" * 65_536)
            whole.append(True)

    server = Misbehaving(flood)
    with serving(server) as url, reaching(url) as transport:
        with pytest.raises(NoAnswer, match="has no size") as broken:
            ask(transport)
        assert server.closed.acquire(timeout=60)
    assert (broken.value.sent, broken.value.slow) == (True, False)
    assert not whole


def test_chunks_as_servers_write_them() -> None:
    said = CHUNKED + b"00A;of=ten\r\n0123456789\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
    with serving(Misbehaving(says(said))) as url, reaching(url) as transport:
        assert ask(transport).body == b"0123456789" * 2


def test_a_fault_while_an_answer_is_read_does_not_mean_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("as of a file that is closed")

    server = EchoServer()
    with serving(server) as url, reaching(url) as transport:
        monkeypatch.setattr(exchange.FinalAnswer, "whole", fail)
        with pytest.raises(NoAnswer) as broken:
            ask(transport)
    assert len(server.asked) == 1
    assert (broken.value.sent, broken.value.slow) == (True, False)
