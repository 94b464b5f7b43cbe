"""The pages `/console/overview` and `/console/seats`: pools and their holders, as words and figures."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.console.lookup import Holders, PoolUse, RefusedUser
from sojourn.console.words import brief, count, exact, initials
from sojourn.lease import Lease, LeaseState, Waiting
from sojourn.license import Pool, Reservation, split_pool_id
from sojourn.room import reservation_of

MAP_MAX = 60
"""Seats that are drawn one by one; of more, a bar says as much."""
POOLS_SHOWN = 200
LINE_SHOWN = 20
NAMED = 3
"""Those of a line that a page names; and names in a sentence, before it says how many more there are."""

LEAVING = "leaving"
FILTERS = ("all", LeaseState.SUSPECT.value, LEAVING)


class Heading(Struct, frozen=True):
    """A page's heading: what is so, and the half of it that somebody should do something about."""

    good: str
    bad: str = ""
    rest: str = ""


class PoolRow(Struct, frozen=True, kw_only=True):
    """A line of the list of pools. Shares are percentages of the capacity."""

    feature: str
    license_name: str
    link: str
    in_use: int
    suspect: int
    capacity: int
    refused: int
    active_share: float
    suspect_share: float
    note: str = ""  # of reservations and of the overdraft


class RoomRow(Struct, frozen=True, kw_only=True):
    """A reservation of a pool: for whom it keeps seats, and how many of them are in use."""

    name: str
    who: str
    seats: int
    in_use: int
    share: float


class SeatRow(Struct, frozen=True, kw_only=True):
    """A holder. `left`: how much of the time until the seat is free by itself is left, in percent. `room`:
    the reservation that it counts into; `above`: it was granted above the capacity."""

    lease_id: str
    user_id: str
    client: str
    letters: str
    state: str  # active, suspect or leaving
    word: str
    held: str
    beat: str
    free_in: str
    left: float
    person: str
    ask: str
    asked: bool = False
    room: str = ""
    above: bool = False


class WaitingRow(Struct, frozen=True, kw_only=True):
    user_id: str
    person: str
    said: str


class PoolView(Struct, frozen=True, kw_only=True):
    """One pool. `empty`, `kept` and `spare`: how many seats the map draws that are free, free and reserved,
    and may be granted above the capacity; `rows` are those that the filter lets through."""

    feature: str
    license_id: str
    license_name: str
    answer: Heading
    row: PoolRow
    rows: tuple[SeatRow, ...]
    map: tuple[SeatRow, ...]
    empty: int
    kept: int
    spare: int
    free: dict[str, int]  # the same, whether the map is drawn or not
    rooms: tuple[RoomRow, ...]
    overdraft: str
    counts: dict[str, int]
    shown: str
    more: bool
    waiting: tuple[WaitingRow, ...]
    waiting_in_all: int
    command: str
    here: str


def pool_link(license_id: str, feature: str, **more: str) -> str:
    return "seats?" + urlencode({"license": license_id, "feature": feature} | more)


def person_link(user_id: str) -> str:
    return "people?" + urlencode({"user": user_id})


def pool_row(use: PoolUse) -> PoolRow:
    capacity = max(use.usage.capacity, use.usage.in_use, 1)
    suspect = min(use.usage.suspect, use.usage.in_use)
    return PoolRow(
        feature=use.pool.feature,
        license_name=use.license_name,
        link=pool_link(use.pool.license_id, use.pool.feature),
        in_use=use.usage.in_use,
        suspect=suspect,
        capacity=use.usage.capacity,
        refused=use.refused,
        active_share=round(100 * (use.usage.in_use - suspect) / capacity, 2),
        suspect_share=round(100 * suspect / capacity, 2),
        note=_note(use),
    )


def _note(use: PoolUse) -> str:
    """Say what reservations keep, and what goes above the capacity."""
    said = []
    if use.pool.policy.reserved:
        said.append(f"{use.kept:,} of {use.pool.policy.reserved:,} reserved free")
    if use.usage.overdraft or use.usage.overdrawn:
        said.append(f"{use.usage.overdrawn:,} of {use.usage.overdraft:,} above capacity")
    return " · ".join(said)


def rooms(use: PoolUse) -> tuple[RoomRow, ...]:
    """Show the reservations of a pool, in their order, which decides who counts into which."""
    used = (*use.usage.reserved, *(0 for _ in use.pool.policy.reservations))
    return tuple(
        RoomRow(
            name=each.name,
            who=counted(each),
            seats=each.seats,
            in_use=in_use,
            share=round(100 * min(in_use, each.seats) / each.seats, 2),
        )
        for each, in_use in zip(use.pool.policy.reservations, used, strict=False)
    )


def counted(reservation: Reservation) -> str:
    """Say who counts into a reservation."""
    said = []
    for one, several, names in (
        ("user", "users", reservation.users),
        ("group", "groups", reservation.groups),
        ("kind of device", "kinds of device", reservation.kinds),
    ):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            said.append(f"{one if len(names) == 1 else several} {', '.join(names[:NAMED])}{more}")
    return "; ".join(said)


def overdraft_text(use: PoolUse) -> str:
    """Say how many seats are held or kept above the capacity; empty where none may be."""
    most, used = use.usage.overdraft, use.usage.overdrawn
    if not most and not used:
        return ""
    said = (
        f"{used:,} of {count(most, 'seat')} above the capacity {'is' if used == 1 else 'are'} used."
    )
    return f"{said} Each is marked, reported and counted." if used else said


def seats_text(uses: Sequence[PoolUse]) -> str:
    used, all_ = sum(x.usage.in_use for x in uses), sum(x.usage.capacity for x in uses)
    return f"{used:,} of {count(all_, 'seat')} in use."


def seats_answer(uses: Sequence[PoolUse], waiting: Sequence[RefusedUser]) -> Heading:
    """Say how many seats are in use, and how many people wait."""
    if not uses:
        return Heading("There is no license yet.")
    good = seats_text(uses)
    full = [x.pool.feature for x in uses if not x.free and x.usage.capacity]
    if people := len({each.user_id for each in waiting}):
        return Heading(good, _wait(people))
    if full:
        named = ", ".join(full[:NAMED]) + (f" and {len(full) - NAMED} more" if full[NAMED:] else "")
        return Heading(
            good, rest=f"{named} {'is' if len(full) == 1 else 'are'} full. Nobody waits."
        )
    return Heading(good, rest="Nobody waits.")


def _wait(people: int) -> str:
    return "1 person is waiting." if people == 1 else f"{people:,} people are waiting."


def found(uses: Sequence[PoolUse], words: str) -> list[PoolUse]:
    """Return the pools whose feature or license has all these words in its name."""
    wanted = words.casefold().split()
    return [
        use
        for use in uses
        if all(
            word in f"{use.pool.feature} {use.license_name} {use.pool.license_id}".casefold()
            for word in wanted
        )
    ]


def seat_row(lease: Lease, pool: Pool, now: int, asked: Sequence[str] = ()) -> SeatRow:
    """Tell of one holder at the store's `now`."""
    policy = pool.policy
    leaving = lease.suspect_at <= lease.last_beat_at
    suspect = lease.suspect_at <= now
    state = LEAVING if leaving else (LeaseState.SUSPECT if suspect else LeaseState.ACTIVE).value
    left = max(0, lease.expires_at - now)
    whole = policy.linger if leaving else policy.lost_after
    device = lease.device.name if lease.device and lease.device.name else ""
    place = reservation_of(policy, lease)
    return SeatRow(
        lease_id=lease.id,
        user_id=lease.user_id,
        client=device or lease.client_id,
        letters=initials(lease.user_id),
        state=state,
        word=state.capitalize(),
        held=exact(now - lease.acquired_at),
        beat="said goodbye" if leaving else f"{brief(now - lease.last_beat_at)} ago",
        free_in=brief(left),
        left=round(min(100.0, 100 * left / max(1, whole)), 1),
        person=person_link(lease.user_id),
        ask=pool_link(pool.license_id, pool.feature, ask=lease.id),
        asked=lease.id in asked,
        room="" if place is None else policy.reservations[place].name,
        above=lease.overdraft,
    )


def pool_view(
    holders: Holders, *, shown: str = "all", words: str = "", asked: Sequence[str] = ()
) -> PoolView:
    """Show one pool. `shown` is one of FILTERS; `words` are looked for in users and clients."""
    use, pool = holders.use, holders.use.pool
    rows = [seat_row(x, pool, holders.at, asked) for x in holders.leases if x.live(holders.at)]
    counts = {"all": len(rows)} | {
        name: sum(row.state == name for row in rows) for name in (*FILTERS[1:], "active")
    }
    wanted = words.casefold().split()
    passed = [
        row
        for row in rows
        if (shown in ("all", row.state))
        and all(word in f"{row.user_id} {row.client}".casefold() for word in wanted)
    ]
    # Holders who share a seat are more than there are seats to draw.
    drawn = use.usage.capacity <= MAP_MAX >= len(rows) and use.usage.leases == use.usage.in_use
    if holders.more or use.usage.leases != use.usage.in_use:
        silent = max(0, use.usage.suspect - counts[LEAVING])
        counts |= {"suspect": silent, "active": use.usage.in_use - use.usage.suspect}
        counts["all"] = use.usage.leases
    within = max(0, min(use.free, use.usage.capacity - use.usage.in_use - use.kept))
    free = {"empty": within, "kept": use.kept, "spare": use.free - within}
    return PoolView(
        feature=pool.feature,
        license_id=pool.license_id,
        license_name=use.license_name,
        answer=_pool_answer(use, holders, rows),
        row=pool_row(use),
        rows=tuple(passed),
        map=tuple(rows) if drawn else (),
        **(free if drawn else dict.fromkeys(free, 0)),
        free=free,
        rooms=rooms(use),
        overdraft=overdraft_text(use),
        counts=counts,
        shown=shown,
        more=holders.more,
        waiting=(
            *(line_row(entry, holders.at) for entry in holders.line[:LINE_SHOWN]),
            *(waiting_row(x, holders.at) for x in holders.refused),
        ),
        waiting_in_all=len(holders.line) + len(holders.refused),
        command=f"sojourn seats list --license {pool.license_id} --feature {pool.feature}",
        here=pool_link(pool.license_id, pool.feature),
    )


SILENT_TOGETHER = 3
"""Where so many holders are silent, and nobody else is there, it is rather the network than they."""


def _pool_answer(use: PoolUse, holders: Holders, rows: Sequence[SeatRow]) -> Heading:
    name, capacity, used = use.pool.feature, use.usage.capacity, use.usage.in_use
    if not capacity:
        return Heading(f"{name} has no seats.", rest="Change its capacity to grant some.")
    suspects = [row for row in rows if row.state == LeaseState.SUSPECT]
    rest = ""
    if suspects:
        soonest = min(
            (x.expires_at for x in holders.leases if x.suspect_at <= holders.at), default=0
        )
        rest = f"{len(suspects)} suspect: the next one is free in {exact(soonest - holders.at)} by itself."
    waiting = len({x.user_id for x in holders.line} | {x.user_id for x in holders.refused})
    bad = _wait(waiting) if waiting else ""
    if used >= SILENT_TOGETHER and use.usage.suspect == used:
        together = f"All {used:,} holders have fallen silent: look at the network first."
        bad = f"{bad} {together}".lstrip()
    if used < capacity:
        if use.kept and not use.free:
            are = "is" if use.kept == 1 else "are"
            rest = f"{count(use.kept, 'free seat')} {are} reserved for others. {rest}".rstrip()
        said = f"{used:,} of {count(capacity, f'{name} seat')} in use."
        return Heading(said, bad, rest or ("" if bad else "Nobody waits."))
    above = f", and {used - capacity:,} above them" if used > capacity else ""
    good = (
        f"The only {name} seat is in use{above.replace('them', 'it')}."
        if capacity == 1
        else f"All {capacity:,} {name} seats are in use{above}."
    )
    if use.free:
        rest = f"{count(use.free, 'seat')} may still be granted above them. {rest}".rstrip()
    return Heading(good, bad, rest or ("" if bad else "Nobody waits."))


def line_row(entry: Waiting, now: int) -> WaitingRow:
    said = f"in line for {exact(now - entry.since)}"
    if entry.priority:
        said += f" · priority {entry.priority}"
    if entry.reservation:
        said += f" · counts into {entry.reservation}"
    if entry.offered(now):
        said += f" · a seat is held for {brief((entry.offer_until or now) - now)}"
    return WaitingRow(user_id=entry.user_id, person=person_link(entry.user_id), said=said)


def waiting_row(refused: RefusedUser, now: int) -> WaitingRow:
    times = "asked once" if refused.times == 1 else f"asked {refused.times} times"
    return WaitingRow(
        user_id=refused.user_id,
        person=person_link(refused.user_id),
        said=f"refused for {exact(now - refused.first_at)} · {times}",
    )


def feature_of(pool_id: str) -> str:
    return split_pool_id(pool_id)[1]
