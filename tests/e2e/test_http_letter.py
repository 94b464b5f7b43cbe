"""HTTP to the letter, on every lane: byte by byte, and whatever bytes come."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest
from tests.api_harness import ADMIN, BEAT, FEATURE, SEATS
from tests.lanes import LANES, BatcherPerLoop, lanes

from sojourn.lease import Acquire
from sojourn.ledger import Role
from sojourn.license import pool_id
from sojourn.session import Begin, Begun
from sojourn.token import LeaseClaims

LIVE = "/api/user/active-sessions/live"
PATHS = {
    "a beat": ("POST", BEAT),
    "a check": ("GET", "/api/sessions/current"),
    "a session by its id": ("GET", "/api/sessions/ses_{id}"),
    "a list": ("GET", "/api/licenses"),
    "a person's list": ("GET", "/api/user/active-sessions"),
    "metrics": ("GET", "/metrics"),
    "life": ("GET", "/livez"),
    "the document": ("GET", "/openapi.json"),
    "a page": ("GET", "/account/security"),
    "the console": ("GET", "/console/sign-in"),
    "a file": ("GET", "/console/assets/console.css"),
    "nothing": ("GET", "/nothing"),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "a slash more before": lambda path: "/" + path,
    "a slash more behind": lambda path: path + "/",
    "two more behind": lambda path: path + "//",
    "a slash more within": lambda path: (
        path[:1] + path[1:].replace("/", "//", 1) if "/" in path[1:] else "//" + path[1:]
    ),
    "a dot": lambda path: "/." + path,
    "a way back": lambda path: "/x/.." + path,
    "a letter encoded": lambda path: path[:-1] + f"%{ord(path[-1]):02X}",
    "capital letters": lambda path: path.upper(),
    "a parameter": lambda path: path + ";a=b",
}


@pytest.fixture(scope="module")
def server() -> Iterator[BatcherPerLoop]:
    with lanes(request_timeout=0.5, capacity=10) as made:
        yield made


@pytest.fixture(scope="module")
def token(server: BatcherPerLoop) -> str:
    """The token of a seat that is held; the clock stands still, so it stays so."""
    world = server.world
    pool = pool_id(world.license_id, FEATURE)
    wish = Acquire(pool_id=pool, user_id="ann", client_id="tab", lease_id="lse_1")
    (lease,) = world.store.acquire([wish])
    claims = LeaseClaims(
        pool_id=pool,
        user_id="ann",
        client_id="tab",
        lease_id="lse_1",
        fence=lease.fence,  # type: ignore[union-attr]  # there are seats
        issued_at=0,
    )
    return world.keyring.sign(claims)


@pytest.fixture(scope="module")
def session(server: BatcherPerLoop) -> Begun:
    (begun,) = server.world.services.sessions.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    return begun


def head(method: str, path: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", *lines, "", ""]).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def first(answer: bytes) -> tuple[int, bytes]:
    """Return the status and the head of the first answer."""
    return status(answer), answer.partition(b"\r\n\r\n")[0].lower()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
class TestHead:
    @pytest.mark.parametrize(
        "lines",
        [
            (),
            ("Host: a", "Host: a"),
            ("Host: a", "Host: b"),
            ("Host:", "Host: a"),
            ("Host:",),
            ("Host: a b",),
            ("Host: a/b",),
            ("Host: me@a",),
            ("Host: a:b",),
            ("Host: a\u00fc",),
        ],
        ids=repr,
    )
    def test_a_host_that_is_none_or_two_is_refused(
        self, server: BatcherPerLoop, lane: str, path: tuple[str, str], lines: tuple[str, ...]
    ) -> None:
        said = server.answer(lane, head(*path, *lines))
        assert status(said) == 400
        assert said.count(b"HTTP/1.1 ") == 1  # and nothing after it

    @pytest.mark.parametrize("value", ["a", "a.example:8700", "127.0.0.1", "[::1]:80", "x_y"])
    def test_a_good_one_is_not(
        self, server: BatcherPerLoop, lane: str, path: tuple[str, str], value: str
    ) -> None:
        assert status(server.answer(lane, head(*path, f"Host: {value}"))) != 400

    @pytest.mark.parametrize(
        "lines",
        [
            ("Authorization:", "Authorization: Bearer x"),
            ("Authorization: Bearer x", "Authorization:"),
            ("Authorization:", "authorization:"),
            ("X-Session-Token: a", "X-Session-Token:"),
        ],
        ids=repr,
    )
    def test_a_proof_that_comes_twice_is_refused_even_if_one_is_empty(
        self, server: BatcherPerLoop, lane: str, path: tuple[str, str], lines: tuple[str, ...]
    ) -> None:
        assert status(server.answer(lane, head(*path, "Host: a", *lines))) == 400

    @pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",), ("Connection: close",)])
    def test_a_connection_of_1_0_ends_with_its_answer(
        self, server: BatcherPerLoop, lane: str, path: tuple[str, str], lines: tuple[str, ...]
    ) -> None:
        said = server.answer(lane, head(*path, *lines, version="1.0"))
        assert b"\r\nconnection: close" in first(said)[1]
        assert said.count(b"HTTP/1.1 ") == 1

    @pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
    def test_a_path_has_one_spelling(
        self, server: BatcherPerLoop, lane: str, path: tuple[str, str], spell: Callable[[str], str]
    ) -> None:
        method, right = path
        wrong = spell(right)
        if wrong.startswith("/api/licenses/sessions/") or "/api/sessions/" in wrong:
            allowed = {404, 405, 401}  # it names another thing, which nobody may see either
        else:
            allowed = {404}
        said = server.answer(lane, head(method, wrong, "Host: a"))
        if wrong.endswith("/") and "//" not in wrong and status(said) == 308:
            # It is told where the path is, below the address that it asked, and nobody has looked at more.
            (to,) = [
                line for line in first(said)[1].split(b"\r\n") if line.startswith(b"location:")
            ]
            assert to == b"location: ../" + right.rpartition("/")[2].lower().encode()
            return
        assert status(said) in allowed
        if "//" in wrong or wrong.endswith("/"):
            assert status(said) == 404


HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.mark.parametrize(
    ("path", "lines", "due"),
    [
        (LIVE, (), 400),
        (LIVE, ("Host: a", "Host: a"), 400),
        (LIVE, ("Host: a", "Authorization: Bearer x", "Authorization:"), 400),
        ("/" + LIVE, ("Host: a",), 404),
        (LIVE + "/", ("Host: a",), 404),
        ("/nothing", ("Host: a",), 404),
    ],
)
def test_a_handshake_is_held_to_the_same(
    server: BatcherPerLoop, path: str, lines: tuple[str, ...], due: int
) -> None:
    said = server.answer("direct", head("GET", path, *lines, *HANDSHAKE))
    code, headers = first(said)
    assert code == due
    assert b"\r\nx-content-type-options: nosniff" in headers
    assert b"application/problem+json" in headers


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    "path",
    ["/api/sessions/{sessionId}", "/api/sessions/%7BsessionId%7D", "/api/licenses/{licenseId}"],
)
def test_a_template_is_no_path(server: BatcherPerLoop, lane: str, path: str) -> None:
    said = server.answer(lane, head("GET", path, "Host: a", f"Authorization: Bearer {ADMIN}"))
    assert status(said) == 404


def corpus(server: BatcherPerLoop, token: str, session: Begun) -> list[bytes]:
    """Requests of every kind that leave everything as it is."""
    app = f"Authorization: Bearer {server.world.keys[Role.APP]}"
    admin, beat = f"Authorization: Bearer {ADMIN}", f"Authorization: Bearer {token}"
    own = f"X-Session-Token: {session.token}"
    json, host = "Content-Type: application/json", "Host: a"
    body = b'{"idleFor":3}'
    length = f"Content-Length: {len(body)}"
    wish = b'{"feature":"editor","userId":"bob","clientId":"c"}'
    return [
        head("POST", BEAT, host, beat),
        head("POST", BEAT, host, beat, json, length) + body,
        head("POST", BEAT, host, beat, json, "Transfer-Encoding: chunked")
        + b"d\r\n"
        + body
        + b"\r\n0\r\n\r\n",
        head("POST", BEAT, host, beat, json, "Content-Length: 3") + b"{{}",
        head("POST", BEAT, host, beat, "Content-Type: text/plain", length) + body,
        head("POST", BEAT, host, admin),
        head("POST", BEAT, host),
        head("GET", BEAT, host, beat),
        head(
            "POST",
            SEATS,
            host,
            "Authorization: Bearer sjk_nonsense",
            json,
            f"Content-Length: {len(wish)}",
        )
        + wish,
        head("GET", "/api/sessions/current", host, app, own),
        head("GET", "/api/sessions/current?a=b", host, app, own),
        head("GET", "/api/sessions/current", host, app),
        head("GET", "/api/sessions/current", host, own),
        head("HEAD", "/api/sessions/current", host, app, own),
        head("OPTIONS", "/api/sessions/current", host),
        head("GET", f"/api/sessions/{session.session.id}", host, app),
        head("GET", "/api/sessions/ses_nobody", host, app),
        head("PATCH", "/api/sessions/current", host, app, own, json, "Content-Length: 2") + b"[]",
        head("POST", "/api/sessions/current/rotate", host, app, "Idempotency-Key: \u00fc"),
        head("GET", "/api/licenses", host, admin),
        head("GET", "/livez", host),
    ]


def test_the_lanes_answer_the_same_bytes(
    server: BatcherPerLoop, token: str, session: Begun
) -> None:
    for request in corpus(server, token, session):
        for whole in (request, request.replace(b"HTTP/1.1", b"HTTP/1.0", 1)):
            said = {lane: server.answer(lane, whole) for lane in LANES}
            assert len(set(said.values())) == 1, (whole, said)


NOISE = (
    b"Host: b", b"Host:", b"Authorization:", b"Authorization: Basic eDp5", b"Connection: close",
    b"Connection: keep-alive", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1",
    b"Content-Length: 99999999999", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
    b"Expect: 100-continue", b"Upgrade: h2c", b"Cookie: sojourn=x", b"X-Forwarded-For: 1.2.3.4",
    b"X-Session-Token: sjs_x", b"Idempotency-Key: a", b"X:" + b"y" * 300, b" folded", b"No-Colon",
    b"Bad Name: x", b"X: \x00", b"X: \xff", b"Content-Type: application/json", b"Range: bytes=0-1",
)  # fmt: skip


def mutated(draw: random.Random, request: bytes) -> bytes:
    """Change a request at a few places, as nobody's library would."""
    for _ in range(draw.randint(1, 3)):
        lines = request.split(b"\r\n")
        at = draw.randrange(len(lines))
        match draw.randrange(9):
            case 0:
                lines.insert(max(1, at), draw.choice(NOISE))
            case 1:
                del lines[at]
            case 2:
                lines.insert(at, lines[at])
            case 3:
                lines[at] = lines[at].swapcase()
            case 4:
                lines[0] = lines[0].replace(b"/", draw.choice([b"//", b"/%2F", b"/./", b"\\"]), 1)
            case 5:
                lines[0] = lines[0].replace(
                    b"1.1", draw.choice([b"1.0", b"2.0", b"0.9", b"1.2", b""])
                )
            case 6:
                lines.insert(1, draw.choice(NOISE))
            case 7:
                place = draw.randrange(len(request) + 1)
                return request[:place] + bytes([draw.randrange(256)]) + request[place + 1 :]
            case _:
                return request[: draw.randrange(len(request) + 1)]
        request = b"\r\n".join(lines)
    return request


def alone(answers: bytes) -> bytes:
    """Return the first of a few answers, without what it says of its connection: whether that ends depends
    on how much of what follows has arrived by then, and been found to be nonsense."""
    top, _, rest = answers.partition(b"\r\n\r\n")
    lines = [each for each in top.split(b"\r\n") if not each.lower().startswith(b"connection:")]
    length = next((int(x[15:]) for x in lines if x.lower().startswith(b"content-length:")), 0)
    return b"\r\n".join([*lines, b"", rest[:length]])


def test_whatever_bytes_come_all_lanes_say_the_same_and_none_fails(
    server: BatcherPerLoop, token: str, session: Begun
) -> None:
    """`make campaign-attack` tries very many more."""
    seed = int(os.environ.get("SOJOURN_SEED", "16"))
    draw, requests = random.Random(seed), corpus(server, token, session)
    for number in range(int(os.environ.get("SOJOURN_FUZZ", "60"))):
        sent = mutated(draw, draw.choice(requests))
        said = {lane: server.answer(lane, sent) for lane in LANES}
        where = f"seed {seed}, request {number}: {sent!r}"
        assert len(set(map(alone, said.values()))) == 1, (where, said)
        assert b"HTTP/1.1 500" not in said["direct"], where
    assert status(server.answer("direct", requests[0])) == 200
