"""Are relays heard of, and do no more seats stand with them than there are?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sojourn.clock import MINUTE, SECOND
from sojourn.finding import Area, Check, Finding, Fix, Part, ok, warning
from sojourn.ledger import Ledger
from sojourn.store import Store

LATE = MINUTE
"""A relay that was not heard for so long is late: its beats come every few seconds."""
SHOWN_MAX = 10


class RelayExaminer:
    """Looks at what an authority has allotted, by the contract of its store."""

    def __init__(
        self,
        store: Callable[[], Store],
        ledger: Callable[[], Ledger],
        *,
        place: str,
        needs: tuple[str, ...] = (),
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._place = place
        self._needs = needs

    def checks(self) -> Sequence[Check]:
        asked: tuple[tuple[str, str, Callable[[], Finding]], ...] = (
            ("relays", "Are all relays heard of?", self._relays),
            ("allotments", "Do relays have no more seats than there are?", self._allotments),
        )
        return [
            Check(
                id=f"seats.{name}",
                area=Area.SEATS,
                title=title,
                looked_at=self._place,
                look=look,
                quick=name == "relays",
                needs=self._needs,
                reads=frozenset({Part.POOLS, Part.LEASES, Part.API_KEYS}),
            )
            for name, title, look in asked
        ]

    def close(self) -> None:
        """Does nothing: the caller owns both."""

    def _relays(self) -> Finding:
        authority, now = self._store().authority()
        if not authority.relays:
            return ok("There are no relays.")
        late = {x: now - known.heard_at for x, known in authority.relays.items()}
        late = {x: ago for x, ago in late.items() if ago > LATE}
        if not late:
            return ok(f"All {len(authority.relays):,} relays were heard of within a minute.")
        keys = self._ledger().keys_by_id(list(late))
        return warning(
            f"{len(late):,} of {len(authority.relays):,} relays are late.",
            evidence=[
                f"{keys[x][0].name if x in keys else x}: last heard {ago // SECOND} s ago"
                for x, ago in sorted(late.items(), key=lambda each: -each[1])[:SHOWN_MAX]
            ],
            means="They go on granting what was allotted to them. Nobody else gets those seats until they "
            "are heard of, or their time is over.",
            fix=Fix(
                text="Ask at the relay why it is not heard; one that is no more is to be forgotten.",
                command="sojourn relays list",
            ),
        )

    def _allotments(self) -> Finding:
        authority, _ = self._store().authority()
        over = {name: pool for name, pool in authority.pools.items() if pool.over}
        if not over:
            return ok("All seats that are held or allotted fit into the pools.")
        return warning(
            f"{len(over):,} pools have more seats held and allotted than there are.",
            evidence=[
                f"{name}: {pool.own} held here and {pool.allotted} allotted of {pool.capacity}"
                for name, pool in list(over.items())[:SHOWN_MAX]
            ],
            means="Nobody who is in loses a seat, and relays are asked for what they do not use: the "
            "capacity was lowered, or this server was put back to an earlier state.",
            fix=Fix(text="Wait, or raise the capacity.", command="sojourn relays list"),
        )
