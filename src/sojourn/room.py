"""Which seats of a pool are free for whom: reservations within the capacity, an overdraft above it. Pure.

A reservation keeps seats for the holders who count into it: by their user, by a group that was proved, or
by the kind of their device. A holder counts into the first reservation that names it; a seat that holders
share, into that of whoever has held it for the longest among those who count into one. So who joins a seat
takes it from no reservation. Nothing is counted along: who uses which seats follows from the live leases and
the policy, so a policy that changes is right for those who hold seats already.

The rules:
1. Holders who count into a reservation use its seats first, then those that are common. So a reservation of
   three seats guarantees three to its holders, whoever came first, and never three more.
2. Others get a common seat: one that no reservation has kept and not yet used.
3. When there is none, suspects past their linger lose their seat as long as that helps: a reserved seat
   that comes free is of no use to others.
4. Then a seat is granted above the capacity, up to the overdraft. Seats that reservations keep, used or not,
   stay within `capacity + overdraft`, so that an overdraft never takes what is reserved.
5. Then idle holders lose theirs (when_full = evict_idle): a living person only when nothing else is left.

See docs/adr/0037.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy

from msgspec import Struct

from sojourn.lease import Acquire, Lease
from sojourn.license import Policy


class Victim(Struct, frozen=True):
    """A seat that may be taken: into which reservation it counts, and whether its holders are suspects."""

    reservation: int | None
    suspect: bool


def reservation_of(policy: Policy, holder: Lease | Acquire) -> int | None:
    """Return the place of the reservation that a holder counts into, or None."""
    for place, reservation in enumerate(policy.reservations):
        if holder.user_id in reservation.users:
            return place
        if any(group in reservation.groups for group in holder.member_of):
            return place
        if holder.device is not None and holder.device.kind in reservation.kinds:
            return place
    return None


def seniority(lease: Lease) -> tuple[int, int]:
    """Return what orders the leases of a seat by how long they have been held, the longest first."""
    return lease.acquired_at, lease.fence


class Room:
    """The seats of a pool while a batch is decided.

    `in_use` counts seats, whoever holds them; `members` are the live leases that count into a reservation,
    and need not be read where the policy has none. `allotted` seats are relays': none of them is free here.
    """

    def __init__(
        self, policy: Policy, in_use: int, members: Iterable[Lease] = (), allotted: int = 0
    ) -> None:
        self.policy = policy
        self.in_use = in_use
        self.allotted = allotted
        self.used = [0] * len(policy.reservations)  # seats, by reservation
        # By seat and holder: since when it has been held, and for which reservation.
        self._seats: dict[str, dict[tuple[str, str], tuple[int, int, int]]] = {}
        for lease in members:
            self.enter(lease)

    def enter(self, lease: Lease) -> None:
        """Take note of a live lease, or of what a holder has become; seats in use do not change."""
        if self.used:
            self._place(lease, reservation_of(self.policy, lease))

    def leave(self, lease: Lease) -> None:
        """Take note that a lease is not live any more; likewise."""
        if self.used:
            self._place(lease, None)

    def _place(self, lease: Lease, place: int | None) -> None:
        key = lease.seat_key(self.policy.count_by)
        before = self.reservation_of_seat(key)
        holders = self._seats.setdefault(key, {})
        holders.pop(lease.holder, None)
        if place is not None:
            holders[lease.holder] = (*seniority(lease), place)
        elif not holders:
            del self._seats[key]
        after = self.reservation_of_seat(key)
        if before is not None:
            self.used[before] -= 1
        if after is not None:
            self.used[after] += 1

    def reservation_of_seat(self, key: str) -> int | None:
        """Return the place of the reservation that a seat counts into, or None."""
        first = min(self._seats.get(key, {}).values(), default=None)
        return None if first is None else first[-1]

    def free(self, place: int | None, *, overdraft: bool = False) -> int:
        """Count the seats that are free for who counts into this reservation; none or less: it is full.

        `overdraft`: with the seats above the capacity.
        """
        left = self._left(overdraft=overdraft)
        if not self.used:
            return left
        # Where seats were reserved over the heads of their holders, fewer are left than are kept.
        return min(left, self._entitled(place, left))

    def _left(self, *, overdraft: bool) -> int:
        most = self.policy.most if overdraft else self.policy.capacity
        return most - self.in_use - self.allotted

    def _entitled(self, place: int | None, left: int) -> int:
        """Count, of so many seats that are left, those that are not kept from who counts into this."""
        if not self.used:
            return max(0, left)
        unused = self._unused()
        return (0 if place is None else unused[place]) + max(0, left - sum(unused))

    def _unused(self) -> list[int]:
        """Count the seats of each reservation that nobody uses."""
        kept = zip(self.policy.reservations, self.used, strict=True)
        return [max(0, reservation.seats - used) for reservation, used in kept]

    def overdraws(self, place: int | None) -> bool:
        """Tell whether a seat for this reservation would be one above the capacity: not where it is kept."""
        return self._entitled(place, self._left(overdraft=False)) <= 0

    def kept_from(self, place: int | None) -> int:
        """Count the seats that nobody uses, and that are kept for reservations other than this one."""
        return (
            sum(seats for i, seats in enumerate(self._unused()) if i != place) if self.used else 0
        )

    @property
    def overdrawn(self) -> int:
        """Count the seats that are held, allotted or kept for reservations above the capacity."""
        out = self.in_use + self.allotted + sum(self._unused())
        return max(0, out - self.policy.capacity)

    def to_end(self, place: int | None, victims: Sequence[Victim]) -> list[int]:
        """Choose whom to end, by their places in the order of taking, for one more seat.

        Suspects as long as that brings a seat within the capacity nearer, though it may not be enough.
        Then, if there is no seat with the overdraft either, idle holders, but none in vain: with them the
        suspects whose seats are some use only once an idle one's is free.
        """
        trial = self.copy()
        suspects = [i for i, victim in enumerate(victims) if victim.suspect]
        ended = trial._end(place, victims, suspects, overdraft=False)  # noqa: SLF001  # a copy of ourselves
        if trial.free(place, overdraft=True) > 0:
            return ended
        idle = [i for i, victim in enumerate(victims) if not victim.suspect]
        more = trial._end(place, victims, suspects + idle, overdraft=True)  # noqa: SLF001  # likewise
        if trial.free(place, overdraft=True) <= 0:
            return ended
        suspects = [i for i in suspects if i not in more]
        more += trial._end(place, victims, suspects, overdraft=False)  # noqa: SLF001  # likewise
        return ended + more

    def _end(
        self, place: int | None, victims: Sequence[Victim], left: list[int], *, overdraft: bool
    ) -> list[int]:
        """End those of the victims that are left, and bring a seat nearer, until there is one."""
        ended: list[int] = []
        while self.free(place, overdraft=overdraft) <= 0:
            spare = self._entitled(place, self._left(overdraft=overdraft)) > 0
            helping = (i for i in left if spare or self._helps(place, victims[i].reservation))
            if (chosen := next(helping, None)) is None:
                break
            left.remove(chosen)
            ended.append(chosen)
            self.give_up(victims[chosen].reservation)
        return ended

    def _helps(self, place: int | None, reservation: int | None) -> bool:
        """Tell whether a seat that is given up is not kept from who counts into `place`."""
        if reservation is None or reservation == place:
            return True
        return self.used[reservation] > self.policy.reservations[reservation].seats

    def moves(self, place: int | None, reservation: int | None) -> bool:
        """Tell whether ending one seat, which counts into `reservation`, leaves a free one for `place`."""
        trial = self.copy()
        trial.give_up(reservation)
        return trial.free(place, overdraft=True) > 0

    def take(self, reservation: int | None) -> None:
        """Count one seat more, for a reservation."""
        self.in_use += 1
        if reservation is not None:
            self.used[reservation] += 1

    def give_up(self, reservation: int | None) -> None:
        """Count one seat less."""
        self.in_use -= 1
        if reservation is not None:
            self.used[reservation] -= 1

    def copy(self) -> Room:
        """Return one to try with, of which only the counts may change."""
        trial = copy(self)
        trial.used = list(self.used)
        return trial
