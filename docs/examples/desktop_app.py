"""A desktop program that needs a seat while a document is open.

    SOJOURN_URL=http://127.0.0.1:8700 SOJOURN_LICENSE_KEY=sjk_… python desktop_app.py ada

It is a program of the terminal, so that it runs everywhere. Its shape is that of one with windows: one thread
that shows things (`Window`), which nothing of the network may hold up, and callbacks that only put news into
its queue.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from sojourn.client import Change, Client, SeatDenied, SeatLost, SeatState, Waiting
from sojourn.errors import SojournError

PATIENCE = 600  # seconds to wait in the line before the person is asked what to do


class Window:
    """What the person sees and does. Everything here happens on the main thread."""

    def __init__(self, client: Client, user: str) -> None:
        self.news: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.text = ""
        self.seat = client.seat(
            "editor", user=user, wait=PATIENCE, on_change=self.changed, on_wait=self.waits
        )

    # Callbacks run on threads of the client: hand over, and do nothing else.

    def changed(self, change: Change) -> None:
        self.news.put(("seat", change))

    def waits(self, waiting: Waiting) -> None:
        self.news.put(("line", waiting))

    def acquire(self) -> None:
        """Take the seat, on a thread: it may take as long as the line is."""
        try:
            self.seat.acquire()
        except SeatLost:
            pass  # the window was closed meanwhile, which released the seat
        except SojournError as fault:
            self.news.put(("refused", fault))

    def run(self) -> None:
        threading.Thread(target=self.acquire, daemon=True).start()
        threading.Thread(target=self.read_commands, daemon=True).start()
        while True:
            kind, what = self.news.get()
            if kind == "quit":
                return
            getattr(self, f"show_{kind}")(what)

    def show_seat(self, change: Change) -> None:
        if change.state is SeatState.SAFE and change.resumed:
            self.show("Your seat is back. Look at what you did last before you go on.")
        elif change.state is SeatState.SAFE:
            self.show("You can edit.")
        elif change.state is SeatState.JEOPARDY:
            self.show("The license server does not answer. You can go on for now.")
        elif change.state is SeatState.LOST:
            self.show(f"Read only: {SeatLost(change.reason).message}")

    def show_line(self, waiting: Waiting) -> None:
        if waiting.position is not None:
            self.show(f"All seats are in use. You are number {waiting.position} in the line.")

    def show_refused(self, fault: SojournError) -> None:
        if isinstance(fault, SeatDenied) and fault.mine:
            device = fault.mine[0].device
            where = device.name if device and device.name else "another device"
            self.show(f"Your seat is in use on {where}. Type `here` to take it over.")
        else:
            self.show(f"{fault.message} {fault.hint}")

    def show_command(self, command: str) -> None:
        if command == "save":
            try:
                self.seat.check()  # before everything that only a holder of a seat may do
            except SeatLost as lost:
                self.show(f"Not saved: {lost.message}")
            else:
                self.show("Saved.")
        elif command == "here":
            threading.Thread(target=self.take_over, daemon=True).start()

    def take_over(self) -> None:
        try:
            self.seat.acquire(takeover=True)
        except SojournError as fault:
            self.news.put(("refused", fault))

    def show(self, text: str) -> None:
        print(text, flush=True)

    def read_commands(self) -> None:
        for line in sys.stdin:
            self.news.put(("command", line.strip()))
        self.news.put(("quit", None))


def main() -> None:
    url, key = os.environ["SOJOURN_URL"], os.environ["SOJOURN_LICENSE_KEY"]
    with Client(url, license_key=key, sockets=True) as client:
        Window(client, sys.argv[1]).run()


if __name__ == "__main__":
    main()
