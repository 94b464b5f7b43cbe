"""What goes over the wire when people look after their own sessions, and the words they read.

Ids are no tokens; no token is in any answer.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from sojourn.decoding import prepared
from sojourn.device import LABEL_MAX, UNKNOWN, Device
from sojourn.devices import recognize
from sojourn.errors import (
    Overloaded,
    SojournError,
    StoreBroken,
    StoreError,
    StoreUnavailable,
)
from sojourn.people.sessions import After, Ending, Listing
from sojourn.people.translation import ENGLISH, Words
from sojourn.session import Session
from sojourn.text import plain
from sojourn.wire.bodies import Answer, Wire, optional, rfc3339

PAGE = 50
PAGE_MAX = 200
INSTANT_DIGITS = 15
CURSOR = rf"\A[0-9]{{1,{INSTANT_DIGITS}}}~[^\x00-\x1f\x7f]*\Z"


@prepared
class ActiveSessionsQuery(Wire, frozen=True, kw_only=True):
    """`after`: what the page before said in `next`."""

    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE
    after: Annotated[str, Meta(max_length=300, pattern=CURSOR)] | UnsetType = UNSET

    @property
    def cursor(self) -> After | None:
        said = optional(self.after)
        if said is None:
            return None
        at, _, session_id = said.partition("~")
        return int(at), session_id


class ActiveSession(Answer, frozen=True, kw_only=True):
    """Somewhere a person is signed in. `seats`: how many seats on licenses it holds now.

    `name`: what the person calls the device. `lastDevice`, `lastIpAddress`, `lastLocation`: what it was last
    used from, null where that is what it began on."""

    id: str
    name: str | None
    device: str
    browser: str | None
    os: str | None
    kind: str
    ip_address: str | None
    location: str | None
    last_device: str | None
    last_ip_address: str | None
    last_location: str | None
    created_at: str
    last_used_at: str
    expires_at: str
    is_current: bool
    seats: int

    @property
    def called(self) -> str:
        """What people read: the name that they gave the device, or what it says itself."""
        return self.name or self.device

    @property
    def last_from(self) -> str:
        """Where it was last used from, if elsewhere than it began."""
        return self.last_location or self.last_ip_address or ""


class ActiveSessions(Answer, frozen=True, kw_only=True):
    """A page of them, newest first. `total` counts all; `next` goes into `after`, null: this was all.
    `canRename`: whether devices can be named here, now."""

    success: bool = True
    data: list[ActiveSession]
    total: int
    next: str | None
    message: str | None
    can_rename: bool = False


@prepared
class DeviceName(Wire, frozen=True, kw_only=True):
    """What a person calls a device. null, or only spaces: as it says itself."""

    name: (
        Annotated[
            str, Meta(max_length=LABEL_MAX, extra_json_schema={"pattern": r"^[^\x00-\x1f\x7f]*$"})
        ]
        | None
    )

    @property
    def label(self) -> str | None:
        return (self.name or "").strip() or None


class Renamed(Answer, frozen=True, kw_only=True):
    """What the device of a session is called now; null: as it says itself."""

    id: str
    name: str | None


class SignedOut(Answer, frozen=True, kw_only=True):
    """How many sessions were ended, and how many seats came free with them."""

    ended: int
    seats: int


def active_sessions(listing: Listing, words: Words = ENGLISH) -> ActiveSessions:
    following = None if listing.next is None else f"{listing.next[0]}~{listing.next[1]}"
    return ActiveSessions(
        data=[_shown(each, listing, words) for each in listing.sessions],
        total=listing.total,
        next=following,
        message=words.text("onlyHere") if listing.total <= 1 else None,
        can_rename=True,
    )


def _shown(session: Session, listing: Listing, words: Words) -> ActiveSession:
    device = _named(session.device or Device())
    name = plain(device.name)
    if name is None or name == UNKNOWN:
        name = words.text("unknownDevice")
    last = device if session.last_device is None else _named(session.last_device)
    moved = last.ip != device.ip or last.place != device.place
    return ActiveSession(
        id=session.id,
        name=plain(session.label),
        device=name if session.impersonator is None else words.text("acting", device=name),
        browser=plain(device.browser),
        os=plain(device.os),
        kind=device.kind or "unknown",
        ip_address=plain(device.ip),
        location=plain(device.place),
        last_device=plain(last.name) if last.name != device.name else None,
        last_ip_address=plain(last.ip) if moved else None,
        last_location=plain(last.place) if moved else None,
        created_at=rfc3339(session.created_at),
        last_used_at=rfc3339(session.last_used_at),
        expires_at=rfc3339(session.expires_at),
        is_current=session.id == listing.current.id,
        seats=listing.seats.get(session.id, 0),
    )


def _named(device: Device) -> Device:
    """Name a device of a session that was begun before devices were named, or without."""
    if device.name is not None:
        return device
    return replace(recognize(device.user_agent or ""), ip=device.ip, place=device.place)


def nothing_set_up() -> ActiveSessions:
    """Answer while the table is missing: an empty list, and why."""
    return ActiveSessions(data=[], total=0, next=None, message=ENGLISH.text("notSetUp"))


def words_of_naming(label: str | None, *, device: str, words: Words = ENGLISH) -> str:
    if label is None:
        return words.text("unnamed", device=device)
    return words.text("named", device=device, name=label)


def words_of_ending(
    ending: Ending, *, others: bool, device: str = "That device", words: Words = ENGLISH
) -> str:
    if ending.own:
        said = words.text("selfOut")
    elif not others:
        said = words.text("done", device=device)
    elif not ending.ended:
        said = words.text("nowhere")
    else:
        said = words.text("doneOthers", n=ending.ended)
    if ending.seats:
        said += f" {words.text('freed', n=ending.seats)}"
    return said


def for_people(fault: SojournError, *, ending: bool) -> SojournError:
    """Say a fault of the store's in words for the person before the screen: what happened, and what to
    do. What exactly is wrong is for the log."""
    if not isinstance(fault, StoreError | Overloaded):
        return fault
    what = (
        "We cannot say whether this was carried out."
        if ending
        else "Your active sessions cannot be shown right now. You are not signed out by it."
    )
    if isinstance(fault, StoreBroken):
        return StoreBroken(what, hint="The site's operators have been told; try again later.")
    again = (
        "It is safe to try again, in a few seconds." if ending else "Try again in a few seconds."
    )
    if isinstance(fault, Overloaded):
        return Overloaded(what, retry_after=fault.retry_after)
    return StoreUnavailable(what, hint=again)
