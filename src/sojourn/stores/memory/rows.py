"""The leases of one pool in memory: by holder, and found by user or client without a look at the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sojourn.lease import Lease
from sojourn.license import CountBy

Holder = tuple[str, str]


class LeaseRows:
    """Rows of a pool, one per holder, in the order in which their holders came first."""

    def __init__(self, leases: Iterable[Lease] = ()) -> None:
        self._rows: dict[Holder, Lease] = {}
        # The values are those of a set, in an order that is always the same.
        self._users: dict[str, dict[Holder, None]] = {}
        self._clients: dict[str, dict[Holder, None]] = {}
        for lease in leases:
            self.put(lease)

    def copy(self) -> LeaseRows:
        return LeaseRows(self._rows.values())

    def get(self, holder: Holder) -> Lease | None:
        return self._rows.get(holder)

    def values(self) -> Iterator[Lease]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, lease: Lease) -> Lease | None:
        """Write a row, and return the one that it takes the place of."""
        holder = lease.holder
        before = self._rows.get(holder)
        self._rows[holder] = lease
        if before is None:
            self._users.setdefault(holder[0], {})[holder] = None
            self._clients.setdefault(holder[1], {})[holder] = None
        return before

    def remove(self, holder: Holder) -> None:
        del self._rows[holder]
        for kin, name in ((self._users, holder[0]), (self._clients, holder[1])):
            del kin[name][holder]
            if not kin[name]:
                del kin[name]

    def of_user(self, user_id: str) -> list[Lease]:
        return [self._rows[holder] for holder in self._users.get(user_id, ())]

    def of_seat(self, count_by: CountBy, key: str) -> list[Lease]:
        """Return the leases that share a seat: of a user, or of a client."""
        kin = self._users if count_by is CountBy.USER else self._clients
        return [self._rows[holder] for holder in kin.get(key, ())]
