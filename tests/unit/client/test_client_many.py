"""Many seats of one process, at a server that takes its time."""

from __future__ import annotations

import threading
from collections import Counter

from tests.unit.client.client_fakes import KEY
from tests.waiting import DEADLINE

from sojourn.client import Client
from sojourn.client.http import BEATING
from sojourn.client.transport import Answer, Request

GRANTED = (
    b'{"success":true,"data":{"leaseId":"lse_%d","token":"sjl_%d","fence":1,"heartbeatInterval":1,'
    b'"lostAfter":600,"expiresIn":600,"resumed":false}}'
)
BEATEN = b'{"success":true,"data":{"expiresIn":600,"state":"active","released":true}}'
PAUSE = 2.0  # seconds that one answer takes while nobody else asks


class Slow:
    """A server that answers a beat, or a release, when a second one is there; or after PAUSE."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.several = {"POST": threading.Event(), "DELETE": threading.Event()}
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.granted = 0
        self.released: list[str] = []

    def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
        method = request.method
        if method == "POST" and not request.path.endswith("heartbeat"):
            with self.lock:
                self.granted += 1
                return Answer(status=201, headers={}, body=GRANTED % (self.granted, self.granted))
        with self.lock:
            self.under_way[method] += 1
            self.most[method] = max(self.most[method], self.under_way[method])
            if self.under_way[method] > 1:
                self.several[method].set()
        self.several[method].wait(PAUSE)
        with self.lock:
            self.under_way[method] -= 1
            if method == "DELETE":
                self.released.append(str(request.headers["Authorization"].reveal()))  # type: ignore[union-attr]  # a Secret
        return Answer(status=200, headers={}, body=BEATEN)

    def close(self) -> None:
        """Nothing is open."""


def test_late_beats_get_help_and_all_seats_are_given_back() -> None:
    server = Slow()
    client = Client("http://127.0.0.1:1", license_key=KEY, transport=server)
    seats = [client.seat("render", user=f"u{n}").acquire() for n in range(40)]
    assert server.several["POST"].wait(DEADLINE)  # one thread alone never has two under way
    assert all(seat.held for seat in seats)
    assert client.close(timeout=DEADLINE) == 0
    assert server.several["DELETE"].is_set()
    assert len(set(server.released)) == len(seats)
    assert server.most["POST"] <= BEATING
    for thread in threading.enumerate():
        if thread.name.startswith("sojourn-heartbeats"):
            thread.join(DEADLINE)
            assert not thread.is_alive()
