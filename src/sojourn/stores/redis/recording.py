"""What a recorder asks of the store: see `store.Recorded`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from msgspec.structs import astuple

from sojourn.store import LIST_MAX, Action, Attached, Ended, Held, Known
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import to_json
from sojourn.stores.redis.connection import Verbs


class Recording(Verbs):
    """Implements `store.Recorded`."""

    def attach(self, ledger: str, last_event_id: int) -> Attached:
        asked = [ledger, last_event_id, secrets.token_hex(8)]
        name, last, epoch, doubt, intact, settled = self._db.run(scripts.LEDGER, ["attach", asked])
        self._db.ledger = ledger
        return Attached(name.decode(), last, epoch, doubt, intact, bool(settled))

    def recorded(self, last_event_id: int) -> None:
        self._db.run(scripts.LEDGER, ["recorded", [last_event_id]])

    def hold(self, held: Sequence[Held]) -> int:
        kept = 0
        for each in held:
            for start in range(0, max(1, len(each.leases)), LIST_MAX):
                part = each.leases[start : start + LIST_MAX]
                piece = [said for lease in part for said in astuple(lease)]
                asked = (each.pool_id, each.lost_after, each.fence, piece)
                kept += int(self._db.run(scripts.LEDGER, ["hold", [asked]]))
        return kept

    def end_again(self, ended: Sequence[Ended], action: Action) -> int:
        data = to_json({**action.data, "name": action.name}).decode()
        done = 0
        for start in range(0, len(ended), LIST_MAX):
            piece = [
                (x.lease.pool_id, x.lease.lease_id, x.lease.fence, x.reason.value)
                for x in ended[start : start + LIST_MAX]
            ]
            done += int(self._db.run(scripts.LEDGER, ["end_again", [action.actor, data, *piece]]))
        return done

    def note_lost(self, leases: Sequence[Known], *, actor: str) -> int:
        asked = [(x.pool_id, x.lease_id, x.fence) for x in leases]
        return int(self._db.run(scripts.LEDGER, ["note_lost", [actor, *asked]]))

    def settle(self, epoch: int) -> None:
        self._db.run(scripts.LEDGER, ["settle", [epoch]])
