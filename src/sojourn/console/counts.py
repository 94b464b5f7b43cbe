"""What the menu says beside pages: how many people wait, what is wrong, which webhooks are behind."""

from __future__ import annotations

from sojourn.clock import MINUTE
from sojourn.console.frame import Count
from sojourn.console.lookup import Lookup, Told
from sojourn.doctor.runs import Rounds
from sojourn.errors import StoreError
from sojourn.finding import Verdict
from sojourn.webhook_store import HookedLedger

LATE = MINUTE
"""A webhook whose oldest event has waited for so long is behind."""


class Counts:
    """Synchronous; safe from several threads. `read` asks the store, `known` nobody."""

    def __init__(self, lookup: Lookup, ledger: HookedLedger, rounds: Rounds) -> None:
        self._lookup = lookup
        self._ledger = ledger
        self._rounds = rounds
        self._late = Told(self._read_late)
        self._last: dict[str, Count] = {}

    def read(self) -> dict[str, Count]:
        """Count anew, where that is possible."""
        try:
            found = {}
            if people := len({each.user_id for each in self._lookup.waiting()}):
                title = "person waits" if people == 1 else "people wait"
                found["seats"] = Count(number=people, title=title, tone="bad")
            if late := len(self._late.get()):
                title = "is behind" if late == 1 else "are behind"
                found["webhooks"] = Count(number=late, title=title, tone="warn")
            self._last = found
        except StoreError:
            pass  # the page itself says so
        return self.known()

    def known(self) -> dict[str, Count]:
        """Return what was counted last, and what doctor knows."""
        verdicts = [each.seen.finding.verdict for each in self._rounds.latest().values()]
        wrong = sum(each in (Verdict.FAILURE, Verdict.WARNING) for each in verdicts)
        if not wrong:
            return self._last
        tone = "bad" if Verdict.FAILURE in verdicts else "warn"
        title = "finding" if wrong == 1 else "findings"
        return self._last | {"doctor": Count(number=wrong, title=title, tone=tone)}

    def _read_late(self) -> list[str]:
        now = self._ledger.now()
        book = self._ledger.webhooks
        old = {
            each.webhook_id
            for each in book.backlogs()
            if each.pending and now - each.oldest_at > LATE
        }
        return [each.id for each in book.all() if each.enabled and each.id in old] if old else []
