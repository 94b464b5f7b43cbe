"""A person's program: a real client in a process of its own, told by its stdin what its person does.

    take      acquire, waiting in line for as long as it takes
    idle      the person does nothing from now on; heartbeats go on
    active    the person is back
    goodbye   the tab is closed: say so, and end
    leave     give the seat back

What becomes of it is said on stdout, one JSON object a line. When stdin closes, it gives up its seat
and ends.
"""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
from typing import Any

import msgspec

from sojourn.cli.demo.tether import tie
from sojourn.client import Change, Client, Seat, SeatLost, Waiting
from sojourn.errors import SojournError

TIMEOUT = 2.0  # seconds for one request: the demo's leases are short


def say(**what: Any) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


def changed(change: Change) -> None:
    say(said=str(change.state), reason=change.reason, resumed=change.resumed)


def waits(waiting: Waiting) -> None:
    say(said="waiting", next_in=waiting.next_in)


def listen(orders: queue.SimpleQueue[str], client: Client) -> None:
    """Read orders until there are no more; then end, whatever the other thread is waiting for."""
    for line in sys.stdin:
        orders.put(line.strip())
    client.close(timeout=1.0)
    os._exit(0)


def obey(seat: Seat, order: str) -> None:
    if order == "take":
        seat.idle(None)
        seat.acquire()
    elif order == "idle":
        seat.idle(0.0)
    elif order == "active":
        seat.idle(None)
    elif order == "goodbye":
        say(said="goodbye" if seat.closing() else "unheard")
    elif order == "leave":
        seat.release()


def main() -> None:
    tie()
    url, feature, user, client_id = sys.argv[1:]
    client = Client(url, license_key=os.environ["SOJOURN_LICENSE_KEY"], timeout=TIMEOUT)
    seat = client.seat(
        feature, user=user, client_id=client_id, wait=math.inf, on_change=changed, on_wait=waits
    )
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(orders, client), daemon=True).start()
    while True:
        order = orders.get()
        try:
            obey(seat, order)
        except SeatLost:
            continue  # told by `changed` already
        except SojournError as error:
            say(said="failed", error=error.message)


if __name__ == "__main__":
    main()
