"""Frames of a WebSocket as a client reads and writes them; what a lease is trusted for by what it hears."""

from __future__ import annotations

import base64
import hashlib
import math
import socket
import threading
import time
from collections.abc import Callable

import pytest
from tests.unit.client.client_fakes import START, Scene, scene
from tests.waiting import DEADLINE, ended

from sojourn.client import SeatState
from sojourn.client.http import Secret
from sojourn.client.live import LIVE, Line, Live
from sojourn.client.websocket import (
    CLOSE,
    GUID,
    MESSAGE_MAX,
    PING,
    TEXT,
    Frame,
    Garbled,
    NotOpened,
    Reader,
    open_socket,
    written,
)
from sojourn.client.world import Join, World
from sojourn.exchange import target_of


def frame(first: int, payload: bytes, *, masked: bool = False) -> bytes:
    """Write a frame as a server does."""
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        return bytes((first, bit | len(payload))) + payload
    if len(payload) < 65_536:
        return bytes((first, bit | 126)) + len(payload).to_bytes(2, "big") + payload
    return bytes((first, bit | 127)) + len(payload).to_bytes(8, "big") + payload


def read(data: bytes, step: int) -> list[Frame]:
    reader = Reader()
    return [x for at in range(0, len(data), step) for x in reader.feed(data[at : at + step])]


@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_frames_are_put_together_from_any_pieces(step: int) -> None:
    data = (
        frame(0x80 | TEXT, b"one")
        + frame(0x80 | PING, b"beat")
        + frame(TEXT, b"in ")
        + frame(0x80 | PING, b"")
        + frame(0x80, b"two parts")
        + frame(0x80 | TEXT, b"x" * 60_000)
        + frame(0x80 | CLOSE, b"\x03\xe8bye")
    )
    assert read(data, step) == [
        Frame(TEXT, b"one"),
        Frame(PING, b"beat"),
        Frame(PING, b""),
        Frame(TEXT, b"in two parts"),
        Frame(TEXT, b"x" * 60_000),
        Frame(CLOSE, b"\x03\xe8bye"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        frame(0x80 | TEXT, b"masked", masked=True),
        frame(0xC0 | TEXT, b"compressed"),
        frame(PING, b"in parts"),
        frame(0x80 | PING, b"x" * 126),
        frame(TEXT, b"one") + frame(TEXT, b"within another"),
        frame(0x80, b"goes on from nothing"),
        frame(0x80 | TEXT, b"x" * (MESSAGE_MAX + 1)),
        frame(TEXT, b"x" * MESSAGE_MAX) + frame(0x80, b"x"),
        bytes((0x80 | TEXT, 127)) + b"\xff" * 8,
    ],
)
def test_what_keeps_to_no_protocol_is_not_read(data: bytes) -> None:
    with pytest.raises(Garbled):
        read(data, 100_000)


def test_a_frame_is_masked_as_a_clients_must_be() -> None:
    data = written(TEXT, b'{"type":"here"}')
    assert data[0] == 0x80 | TEXT
    assert data[1] == 0x80 | 15
    mask, hidden = data[2:6], data[6:]
    assert bytes(b ^ mask[i % 4] for i, b in enumerate(hidden)) == b'{"type":"here"}'


def accepted(request: bytes) -> bytes:
    key = next(x for x in request.split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key"))
    digest = hashlib.sha1(key.partition(b": ")[2] + GUID, usedforsecurity=False).digest()
    return b"Sec-WebSocket-Accept: " + base64.b64encode(digest)


def opened(answer: Callable[[bytes], bytes], seconds: float = DEADLINE) -> tuple[bytes, bytes]:
    """Open a socket at a server that answers so; return the request, and what came with the answer."""
    asked: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65_536))
                connection.sendall(answer(asked[0]))
                over.wait(DEADLINE)

        thread = threading.Thread(target=serve)
        thread.start()
        target = target_of(f"http://127.0.0.1:{listener.getsockname()[1]}/below")
        try:
            found, rest = open_socket(
                target,
                LIVE,
                Secret("sjl_x"),
                context=None,
                proxy=None,
                deadline=time.monotonic() + seconds,
            )
            found.close()
        finally:
            over.set()
            thread.join()
    return asked[0], rest


def test_a_handshake_proves_the_lease_and_loses_no_byte() -> None:
    request, rest = opened(
        lambda asked: b"HTTP/1.1 101 Switching\r\n" + accepted(asked) + b"\r\n\r\n\x81\x02{}"
    )
    assert request.startswith(b"GET /below/api/licenses/sessions/live HTTP/1.1\r\n")
    assert b"Authorization: Bearer sjl_x\r\n" in request
    assert rest == b"\x81\x02{}"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 410 Gone\r\n\r\n", 410),
        (b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: other\r\n\r\n", 0),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 0),
        (b"x" * 100_000, 0),
    ],
)
def test_whoever_answers_otherwise_opens_nothing(answer: bytes, status: int) -> None:
    with pytest.raises(NotOpened) as caught:
        opened(lambda _: answer)
    assert caught.value.status == status


def test_a_handshake_that_is_not_answered_ends() -> None:
    with pytest.raises(NotOpened):
        ended(lambda: opened(lambda _: b"HTTP/1.1 101 Swit", seconds=0.2))


# What is trusted


def live(s: Scene) -> Live:
    beats = s.client._beats
    target = target_of("http://127.0.0.1:1")
    return Live(target, None, world=s.world, lock=beats.lock, replan=beats._replan)


def test_what_is_heard_counts_from_before_the_ping_that_it_follows() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        hold = seat._hold
        assert hold.grant is not None
        token = hold.grant.token
        s.world.time += 15
        live(s).heard(hold, token, 80.0, START + 10)
        assert hold.safe_until == pytest.approx(START + 10 + 80 * 0.98)
        assert hold.due == pytest.approx(START + 15 + 30)
        assert s.server.times("beat") == []


def test_an_old_message_revives_nothing() -> None:
    """It lay in a buffer while the machine slept."""
    with scene() as s:
        seat = s.seat(resume=False).acquire()
        hold = seat._hold
        assert hold.grant is not None
        token = hold.grant.token
        s.world.sleep(200)
        live(s).heard(hold, token, 90.0, START + 1)
        assert not seat.held
        s.world.settle()
        assert seat.state is SeatState.LOST
        live(s).heard(hold, token, 90.0, s.world.time)
        assert seat.state is SeatState.LOST  # whoever wanted no resume gets none


def test_no_message_makes_a_lease_longer_than_it_is() -> None:
    with scene() as s:
        hold = s.seat().acquire()._hold
        assert hold.grant is not None
        live(s).heard(hold, hold.grant.token, 1e9, START)
        assert hold.safe_until == pytest.approx(START + 90 * 0.98)
        assert hold.due < math.inf


def test_where_sockets_say_too_little_heartbeats_go_on() -> None:
    """With a lease of 3 s, a word every 20 s keeps nothing."""
    with scene(server={"interval": 1.0, "lost_after": 3.0}) as s:
        hold = s.seat().acquire()._hold
        assert hold.grant is not None
        due = hold.due
        s.world.time += 0.9
        live(s).heard(hold, hold.grant.token, 2.1, START)
        assert hold.due == due


def test_news_of_another_lease_is_none() -> None:
    with scene() as s:
        seat = s.seat().acquire()
        hold, before = seat._hold, seat._hold.due
        live(s).stirred(hold, Secret("sjl_other"))
        live(s).adapted(hold, Secret("sjl_other"), 1.0, 2.0)
        assert hold.due == before
        assert hold.grant is not None
        live(s).adapted(hold, hold.grant.token, 10.0, 30.0)
        s.world.settle()
        assert s.server.times("beat") == [0]
        assert seat.heartbeat_interval == 10.0


def test_a_shorter_policy_counts_at_once_and_a_longer_one_promises_nothing() -> None:
    with scene() as s:
        hold = s.seat().acquire()._hold
        assert hold.grant is not None
        for lost_after in (30.0, 90.0):
            live(s).adapted(hold, hold.grant.token, lost_after / 3, lost_after)
            assert hold.safe_until == pytest.approx(START + 30 * 0.98)


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), RuntimeError("no thread")])
def test_where_no_socket_can_be_had_heartbeats_keep_the_seat(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise fault

    with scene() as s:
        lives = live(s)
        monkeypatch.setattr(lives, "attend", refuse)
        monkeypatch.setattr(s.client._beats, "_live", lives)
        seat = s.seat().acquire()
        s.world.advance(200)
        assert seat.state is SeatState.SAFE
        assert len(s.server.times("beat")) >= 5


class Joined(World):
    """Counts the threads that are waited for."""

    joins = 0

    def start(self, target: Callable[[], None], name: str) -> Join:
        join = super().start(target, name)

        def counted(timeout: float) -> None:
            self.joins += 1
            join(timeout)

        return counted


def test_threads_that_have_ended_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One opens a socket all the time, while others come and go beside it."""
    stuck, begun = threading.Event(), threading.Semaphore(0)

    def open_none(target: object, path: str, token: Secret, **_: object) -> None:
        begun.release()
        if token.reveal() == "stuck":
            stuck.wait(DEADLINE)
        raise NotOpened("it is a test")

    monkeypatch.setattr("sojourn.client.live.open_socket", open_none)
    monkeypatch.setattr("sojourn.client.live.DIALER_IDLE", 0.01)
    with scene() as s:
        world, lock = Joined(), s.client._beats.lock
        lives = Live(
            target_of("http://127.0.0.1:1"), None, world=world, lock=lock, replan=lambda _: None
        )
        hold = s.seat()._hold
        before = set(threading.enumerate())
        for token in ("stuck", "one", "two", "three"):
            lives._dial(Line(hold, Secret(token)))
            assert begun.acquire(timeout=DEADLINE)
            for thread in set(threading.enumerate()) - before:
                if token == "stuck":
                    before.add(thread)
                else:
                    thread.join(DEADLINE)
                    assert not thread.is_alive()
        stuck.set()
        lives.close(DEADLINE)
        assert world.joins <= 1


class Meanwhile(threading.Condition):
    """Lets something happen at the first moment at which the lock is free and `met` is so."""

    def __init__(self, met: Callable[[], bool], then: Callable[[], object]) -> None:
        super().__init__()
        self.met, self.then, self.happened = met, then, False

    def __exit__(self, *raised: object) -> None:
        super().__exit__(None, None, None)
        if not self.happened and self.met():
            self.happened = True
            self.then()


@pytest.mark.parametrize("end", ["release", "let_go", "closing"])
def test_who_ends_a_lease_leaves_the_socket_of_the_next_one_alone(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread acquires as soon as the seat is not held any more."""
    with scene() as s:
        seat = s.seat()
        lock = Meanwhile(lambda: seat._hold.state is SeatState.RELEASED, seat.acquire)
        monkeypatch.setattr(s.client._beats, "lock", lock)
        lives = live(s)
        monkeypatch.setattr(s.client._beats, "_live", lives)
        seat.acquire()
        getattr(seat, end)()
        assert lock.happened
        grant = seat._hold.grant
        assert grant is not None
        assert [line.token for line in lives._lines.values()] == [grant.token]
        s.client.close()
        lives.run()  # closes its sockets
