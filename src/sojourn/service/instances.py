"""This process, as the other servers and doctor see it: it registers itself in the ledger while it runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from sojourn import __version__
from sojourn.ledger import INSTANCE_ALIVE, Instance, Ledger
from sojourn.token import Keyring, new_id

REGISTER_INTERVAL = 20.0
"""Seconds between two notes that it still runs."""


class InstanceRegistry:
    """Registers this process, with fingerprints of its secrets."""

    def __init__(self, ledger: Ledger, keyring: Keyring) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._instance: Instance | None = None
        self.others = 0
        """How many other servers there were when this one last said that it runs."""

    @property
    def actor(self) -> str:
        """Who this process is in the stream."""
        return f"server:{self._instance.id if self._instance else ''}"

    def register(self) -> None:
        """Say that it runs. Raises StoreError."""
        if self._instance is None:
            self._instance = Instance(
                id=new_id("srv_"),
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                fingerprints=self._keyring.fingerprints(self._ledger.mark()[0]),
            )
        self._ledger.register(self._instance)
        alive = running(self._ledger.instances(), self._ledger.now())
        self.others = sum(each.id != self._instance.id for each in alive)

    def leave(self) -> None:
        """Say goodbye."""
        if self._instance is not None:
            self._ledger.register(self._instance, stopped=True)


def running(instances: Sequence[Instance], now: int) -> list[Instance]:
    """Return those that run, as far as can be told."""
    return [x for x in instances if x.stopped_at is None and now - x.seen_at < INSTANCE_ALIVE]
