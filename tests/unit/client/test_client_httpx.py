"""Requests over transports of httpx and httpx2, and over one of a program's own."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
from tests.unit.client.test_client_http import serving
from tests.unit.client.test_client_transport import EchoServer, ask, reaching

from sojourn.client.opening import open_transport, target_at
from sojourn.client.transport import Answer, NoAnswer, Request
from sojourn.token import Secret


@pytest.mark.parametrize("package", [httpx, httpx2])
def test_over_a_transport_of_httpx(package: Any) -> None:
    """Of whichever of the two: also one that reaches a server by itself."""
    server = EchoServer()
    with serving(server) as url, reaching(url, given=package.HTTPTransport()) as transport:
        body = Request(method="POST", path="/a?b=c", headers={"X-A": Secret("s")}, body=b"data")
        answer = ask(transport, body)
        assert (answer.status, answer.body, answer.headers["x-path"]) == (200, b"data", "/a?b=c")
        assert server.asked[0][1]["X-A"] == "s"
        with pytest.raises(NoAnswer) as long:
            ask(transport, body, limit=3)
        assert (long.value.sent, long.value.slow) == (True, False)
        transport.close()
        with pytest.raises(NoAnswer, match="closed"):
            ask(transport)


@pytest.mark.parametrize("package", [httpx, httpx2])
@pytest.mark.parametrize(
    ("name", "sent", "slow"),
    [
        ("ConnectError", False, False),
        ("ConnectTimeout", False, True),
        ("ReadTimeout", True, True),
        ("ReadError", True, False),
        ("RemoteProtocolError", True, False),
    ],
)
def test_what_goes_wrong_in_httpx(package: Any, name: str, sent: bool, slow: bool) -> None:
    def fail(request: Any) -> Any:
        raise getattr(package, name)("no", request=request)

    given = package.MockTransport(fail)
    with reaching("http://a.test", given=given) as transport, pytest.raises(NoAnswer) as failed:
        ask(transport)
    assert (failed.value.sent, failed.value.slow) == (sent, slow)


def test_over_a_transport_of_ones_own() -> None:
    class Own:
        def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
            return Answer(status=200, headers={}, body=request.path.encode())

        def close(self) -> None:
            """Nothing to end."""

    own = Own()
    assert open_transport(target_at("http://a.test"), given=own) is own
