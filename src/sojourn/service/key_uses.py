"""When each API key was used last: noted in memory as calls come, written down once a minute."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sojourn.ledger import Ledger

NOTED_MAX = 10_000
"""Keys whose use is noted between two writes; uses of others are noted after the next."""
WRITE_INTERVAL = 60.0
"""Seconds between two writes: a process that dies forgets the uses of as long."""


class KeyUses:
    """Synchronous; safe from several threads. Instants are those of the ledger's clock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}

    def note(self, key_id: str, at: int) -> None:
        """Remember that a key was used. Asks nobody."""
        with self._lock:
            if key_id in self._noted or len(self._noted) < NOTED_MAX:
                self._noted[key_id] = max(at, self._noted.get(key_id, 0))

    def write(self) -> int:
        """Write down what was noted since; return of how many keys. What cannot be written stays noted."""
        with self._lock:
            taken, self._noted = self._noted, {}
        if not taken:
            return 0
        try:
            self._ledger.note_key_uses(taken)
        except BaseException:
            for key_id, at in taken.items():
                self.note(key_id, at)
            raise
        return len(taken)

    def last(self, key_ids: Sequence[str]) -> dict[str, int]:
        """Return when keys were used last, as far as that is known: by any server that has written it down,
        or by this one."""
        found = self._ledger.key_uses(key_ids)
        with self._lock:
            here = {key_id: self._noted[key_id] for key_id in key_ids if key_id in self._noted}
        return found | {key_id: max(at, found.get(key_id, 0)) for key_id, at in here.items()}
