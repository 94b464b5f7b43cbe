"""The page `/console/people`: why somebody was refused, and what can be done about it at once."""

from __future__ import annotations

from shlex import quote
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.console.licenses import license_link
from sojourn.console.lookup import Person, PoolUse, RefusedUser
from sojourn.console.seats import Heading, SeatRow, feature_of, pool_link, seat_row
from sojourn.console.stories import Story, stories
from sojourn.console.words import When, count, exact, when
from sojourn.license import split_pool_id
from sojourn.session import Session

STORIES_MAX = 40


class DeviceRow(Struct, frozen=True, kw_only=True):
    """A session, by its device."""

    session_id: str
    kind: str
    name: str
    place: str
    last_used: When
    began: When
    impersonator: str
    seats: int


class HeldRow(Struct, frozen=True, kw_only=True):
    """A seat of theirs."""

    seat: SeatRow
    feature: str
    license_name: str
    pool: str  # where to read of the pool


class RefusedRow(Struct, frozen=True, kw_only=True):
    """A pool that refused them. `silent`: whose seat could be freed for them, if anybody's."""

    feature: str
    pool: str
    license: str  # where its capacity is changed
    said: str
    silent: SeatRow | None
    lease_id: str


class PersonView(Struct, frozen=True, kw_only=True):
    user_id: str
    known: bool
    answer: Heading
    refused: tuple[RefusedRow, ...]
    held: tuple[HeldRow, ...]
    devices: tuple[DeviceRow, ...]
    devices_in_all: int
    stories: tuple[Story, ...]
    here: str
    command: str


def person_view(person: Person, seats: dict[str, int]) -> PersonView:
    """Show one person. `seats`: how many each of their sessions holds, by session id."""
    now = person.at
    live = [lease for lease in person.leases if lease.live(now)]
    held = tuple(
        HeldRow(
            seat=seat_row(lease, use.pool, now),
            feature=use.pool.feature,
            license_name=use.license_name,
            pool=pool_link(use.pool.license_id, use.pool.feature),
        )
        for lease in live
        if (use := person.pools.get(lease.pool_id)) is not None
    )
    return PersonView(
        user_id=person.user_id,
        known=person.known,
        answer=_verdict(person, len(live)),
        refused=tuple(_refused(person, each, now) for each in person.refused),
        held=held,
        devices=tuple(_device(each, seats, now) for each in person.sessions.sessions),
        devices_in_all=person.sessions.total,
        stories=tuple(stories(person.history[:STORIES_MAX], now)),
        here="people?" + urlencode({"user": person.user_id}),
        command=_command(person),
    )


def _verdict(person: Person, seats: int) -> Heading:
    name = person.user_id
    if not person.known:
        return Heading(f"Nobody called “{name}” has signed in or asked for a seat.")
    if person.refused:
        times = sum(each.times for each in person.refused)
        since = person.at - min(each.first_at for each in person.refused)
        pool = person.refused[0]
        again = "once" if times == 1 else f"{times} times"
        bad = f"was refused {again} in the last {exact(since)}." if times > 1 else "was refused."
        return Heading(name, bad, _why(pool, person.pools.get(pool.pool_id)))
    devices = person.sessions.total
    holds = f"holds {count(seats, 'seat')}" if seats else "holds no seat"
    signed_in = f"is signed in on {count(devices, 'device')}" if devices else "is not signed in"
    return Heading(f"{name} {signed_in} and {holds}.")


def _why(refused: RefusedUser, use: PoolUse | None) -> str:
    feature = feature_of(refused.pool_id)
    if use is None:
        return f"{feature} is not there any more."
    if use.free:
        return f"{feature} has {count(use.free, 'free seat')} by now: trying again works."
    if use.kept:
        return f"{feature} has {count(use.kept, 'free seat')}, reserved for others."
    suspect = f", {use.usage.suspect} of them by suspects" if use.usage.suspect else ""
    return f"{feature} is full: all {use.usage.capacity:,} seats are held{suspect}."


def _refused(person: Person, refused: RefusedUser, now: int) -> RefusedRow:
    license_id, feature = split_pool_id(refused.pool_id)
    use, silent = person.pools.get(refused.pool_id), person.silent.get(refused.pool_id)
    times = "once" if refused.times == 1 else f"{refused.times} times"
    return RefusedRow(
        feature=feature,
        pool=pool_link(license_id, feature),
        license=license_link(license_id, feature=feature),
        said=f"Refused {times}, last {exact(now - refused.last_at)} ago. {_why(refused, use)}",
        silent=seat_row(silent, use.pool, now) if silent and use else None,
        lease_id=silent.id if silent else "",
    )


def _device(session: Session, seats: dict[str, int], now: int) -> DeviceRow:
    device = session.device
    where = [x for x in (device.place, device.ip) if x] if device else []
    return DeviceRow(
        session_id=session.id,
        kind=(device.kind if device else None) or "unknown",
        name=(device.name if device else None) or "Unknown device",
        place=" · ".join(where),
        last_used=when(session.last_used_at, now),
        began=when(session.created_at, now),
        impersonator=session.impersonator or "",
        seats=seats.get(session.id, 0),
    )


def _command(person: Person) -> str:
    user = quote(person.user_id)
    if not person.refused:
        return f"sojourn sessions list --user {user}"
    feature = feature_of(person.refused[0].pool_id)
    return f"sojourn seats debug --user {user} --feature {quote(feature)}"
