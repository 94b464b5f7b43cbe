"""The parser that stands in for httptools: the same is told of the same bytes, however they are cut."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import httptools
import pytest
from tests.e2e.test_http_limits import MALFORMED

from sojourn.api import parser

Story = list[tuple[str, Any]]
POST = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
WELL_FORMED: dict[str, bytes] = {
    "get": b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    "no headers": b"GET / HTTP/1.0\r\n\r\n",
    "kept alive": b"GET / HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\n",
    "closed": b"GET / HTTP/1.1\r\nConnection: x , CLOSE\r\n\r\n",
    "odd values": b"GET * HTTP/1.1\r\nA:\r\nB:   b \t c\r\nC: \xff\xfe\r\n\r\n",
    "absolute": b"GET http://x:1/a?b#c HTTP/1.1\r\nHost: x\r\n\r\n",
    "body": POST + b"Content-Length: 5\r\n\r\nhello",
    "empty body": POST + b"Content-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"5\r\nhello\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"1\r\n\r\r\n0\r\nX: y\r\nZ: w\r\n\r\n",
    "a train": (POST + b"Content-Length: 2\r\n\r\n{}") * 3 + b"\r\n\r\n" + CHUNKED + b"0\r\n\r\n",
    "upgrade": b"GET /live HTTP/1.1\r\nUpgrade: websocket\r\nConnection: x, upgrade\r\n\r\nrest",
    "upgrade alone": b"GET /live HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
    "upgrade after another": b"GET / HTTP/1.1\r\n\r\n"
    b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nrest",
}


class Told:
    """Writes down what a parser tells."""

    def __init__(self, module: Any) -> None:
        self.story: Story = []
        self.parser = module.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.story.append(("begin", None))

    def on_url(self, url: bytes) -> None:
        self._more("url", url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.story.append(("header", (name.lower(), value)))

    def on_headers_complete(self) -> None:
        asked = self.parser
        facts = (asked.get_method(), asked.get_http_version())
        self.story.append(("head", (*facts, asked.should_keep_alive(), asked.should_upgrade())))

    def on_body(self, body: bytes) -> None:
        self._more("body", body)

    def on_message_complete(self) -> None:
        self.story.append(("end", None))

    def _more(self, what: str, data: bytes) -> None:
        """Pieces make one whole, wherever they were cut."""
        if self.story and self.story[-1][0] == what:
            data = self.story.pop()[1] + data
        self.story.append((what, data))


def read(module: Any, data: bytes, size: int) -> tuple[Story, str]:
    """Feed a parser in pieces of a size; return what it told, and how that ended."""
    told = Told(module)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        try:
            told.parser.feed_data(piece)
        except module.HttpParserUpgrade as offer:
            return told.story, f"upgrade before {data[at + offer.args[0] :]!r}"
        except module.HttpParserError:
            return told.story, "error"
    return told.story, ""


def meaning(story: Story) -> Story:
    """Leave out trailers, which nobody here listens to."""
    kept: Story = []
    body = False
    for what, said in story:
        body = (body or what == "head") and what != "end"
        if what != "header" or not body:
            kept.append((what, said))
    return kept


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_the_same_is_told(name: str, size: int) -> None:
    theirs, ended = read(httptools, WELL_FORMED[name], size)
    assert (meaning(theirs), ended) == read(parser, WELL_FORMED[name], size)


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("name", MALFORMED)
def test_no_nonsense_is_taken_for_a_request(name: str, size: int) -> None:
    """What they refuse is refused, if not at the same byte; what is no more than odd may be."""
    theirs, refused = read(httptools, MALFORMED[name], size)
    ours, ended = read(parser, MALFORMED[name], size)
    if refused == "error":
        assert ended == "error" or ("end", None) not in ours
    heads = [said for what, said in theirs if what == "head"]
    assert [said for what, said in ours if what == "head"] == heads[: len(ours)] or ended == "error"


def test_blanks_within_a_value_are_read_once() -> None:
    """Time that grows with the square of their number is for everybody else's requests."""

    def took(blanks: int) -> float:
        request = b"GET / HTTP/1.1\r\nHost: x\r\nX: a" + b" " * blanks + b"b\r\n\r\n"
        began = time.process_time()
        story, _ = read(parser, request, len(request))
        spent = time.process_time() - began
        assert ("header", (b"x", b"a" + b" " * blanks + b"b")) in story
        return spent

    assert took(64_000) < 1.0  # seconds of this process alone; squared, it would be eight


def test_a_head_is_weighed_before_it_is_read() -> None:
    class Weighing(Told):
        def on_head(self, size: int) -> None:
            raise OverflowError(size)

    told = Weighing(parser)
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with pytest.raises(parser.HttpParserCallbackError) as failed:
        told.parser.feed_data(request)
    assert isinstance(failed.value.__context__, OverflowError)
    assert failed.value.__context__.args == (len(request),)
    assert told.story == [("begin", None)]


@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_carriage_returns_alone_are_no_request(size: int) -> None:
    """Nothing would bound what waits for the rest of a request that has not begun."""
    story, ended = read(parser, b"\r" * 10_000, size)
    assert ended == "error"
    assert story == [("begin", None)]


@pytest.mark.parametrize("line", [b"X", b": y", b"X : y", b"X: y\r", b"X\xff: y"])
def test_what_is_no_header_is_refused(line: bytes) -> None:
    assert read(parser, b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n", 10_000)[1] == "error"


@pytest.mark.parametrize("url", [b"/", b"/a%20b?c=d?e#f", b"/a?", b"http://x:1/a?b", b"//a/b"])
def test_a_target_taken_apart(url: bytes) -> None:
    theirs, ours = httptools.parse_url(url), parser.parse_url(url)
    assert (ours.path or b"/", ours.query or None) == (theirs.path or b"/", theirs.query or None)


def test_a_callback_that_fails_is_the_context() -> None:
    told = Told(parser)
    told.on_url = lambda _: 1 / 0  # type: ignore[method-assign,assignment]  # fails
    with pytest.raises(parser.HttpParserCallbackError) as failed:
        told.parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(failed.value.__context__, ZeroDivisionError)
    with pytest.raises(parser.HttpParserError):
        told.parser.feed_data(b"GET / HTTP/1.1\r\n\r\n")


def test_a_server_is_set_up_without_httptools_and_uvloop() -> None:
    code = (
        "import sys; sys.modules.update(httptools=None, uvloop=None)\n"
        "from sojourn.api import parser, protocol, server\n"
        "from sojourn.settings import Settings\n"
        "assert protocol.httptools is parser, protocol.httptools\n"
        "assert server.server_config(Settings())['loop'] == 'asyncio'"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (0, "")
