"""What the security page shows of somebody's sessions with scripts off: rows, questions, and the words of
each state, which are those of the web component."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.people.sessions import Listing
from sojourn.people.when import Moment, moment
from sojourn.people.wire import ActiveSession, active_sessions
from sojourn.session import Session
from sojourn.text import isolated

HERE = "security"  # the page, as seen from itself
ALIKE = 8
"""Sessions of one device that are shown one by one."""
INTRO = "Sign out any device that you don’t recognize."


def address(**query: Any) -> str:
    """Write an address of the page; what is empty is left out."""
    said = urlencode({name: value for name, value in query.items() if value})
    return f"{HERE}?{said}" if said else HERE


class PanelRow(Struct, frozen=True, kw_only=True):
    """Somewhere one is signed in. `name`: the device, and what tells it from others of that name; `end`:
    the address that asks whether to sign it out; `rename`: the one that asks for a name, empty where none
    are kept."""

    name: str
    shown: ActiveSession
    used: Moment
    begun: Moment
    ends: Moment
    end: str
    rename: str = ""


class Group(Struct, frozen=True, kw_only=True):
    """Sessions of devices that are called the same: more than ALIKE are shown as one that opens."""

    rows: tuple[PanelRow, ...]
    folded: bool

    @property
    def device(self) -> str:
        return self.rows[0].shown.called


class Panel(Struct, frozen=True, kw_only=True):
    """What stands in for the component, and is all there is without scripts.

    Attributes:
        summary: below the title.
        said: what was just done.
        rows: none where there is a state to tell of instead: its `title`, `words` and `icon`.
        others: the address that asks whether to sign out all others; empty: there are none.
        older, newest: addresses of other parts of a long list.
    """

    summary: str
    said: str = ""
    rows: tuple[PanelRow, ...] = ()
    shown: str = ""
    title: str = ""
    words: str = ""
    icon: str = ""
    again: str = ""
    others: str = ""
    older: str = ""
    newest: str = ""

    @property
    def groups(self) -> list[Group]:
        """Return the rows in their order, those of one device together where they are many."""
        kin: dict[str, list[PanelRow]] = {}
        for row in self.rows:
            key = row.shown.id if row.shown.is_current else f"device {row.shown.called}"
            kin.setdefault(key, []).append(row)
        many = {id(row): rows for rows in kin.values() if len(rows) > ALIKE for row in rows}
        found = []
        for row in self.rows:
            rows = many.get(id(row), [row])
            if rows[0] is row:
                found.append(Group(rows=tuple(rows), folded=len(rows) > ALIKE))
        return found


class Card(Struct, frozen=True, kw_only=True):
    """A question, or the answer to one, on a page of its own.

    Attributes:
        action: where the form goes that does it, and `go` what its button says; empty: no form.
        field: what stands in the field for a name at first; None: there is no field.
        link: an address, and `follow` what it says.
        back: the way back to the list.
    """

    title: str
    words: str
    icon: str
    detail: tuple[str, ...] = ()
    action: str = ""
    go: str = "Sign out"
    danger: bool = True
    field: str | None = None
    link: str = ""
    follow: str = ""
    back: str = HERE
    leave: str = "Cancel"


def panel(listing: Listing, *, after: str, said: str) -> Panel:
    """Show some of somebody's sessions. `after`: where they start; empty: the first."""
    page = active_sessions(listing)
    total = page.total
    data, sessions = page.data, listing.sessions
    pairs = sorted(zip(data, sessions, strict=True), key=lambda pair: not pair[0].is_current)
    now = listing.current.at
    names = _told_apart(pairs, now)
    rows = tuple(
        _row(name, *pair, now=now, after=after) for name, pair in zip(names, pairs, strict=True)
    )
    counted = f"{total:,} active session" + ("" if total == 1 else "s")
    part = f"{len(rows)} of {total:,}"
    return Panel(
        summary=f"{counted}. {page.message or INTRO}",
        said=said,
        rows=rows,
        shown=f"{len(rows)} more of {total:,}" if after else f"Showing {part}" if page.next else "",
        others=address(others=1, after=after) if total > 1 else "",
        older=address(after=page.next) if page.next else "",
        newest=HERE if after else "",
    )


def _told_apart(pairs: Sequence[tuple[ActiveSession, Session]], now: int) -> list[str]:
    """Name sessions so that no two of a page are called the same: where needed with the place, the last
    use, the sign-in, and a number."""
    names = [isolated(shown.called) for shown, _ in pairs]
    words: tuple[Callable[[int, ActiveSession, Session], str], ...] = (
        lambda _, shown, _session: isolated(shown.location or shown.ip_address or ""),
        lambda _, _shown, session: f"active {moment(session.last_used_at, now).words}",
        lambda _, _shown, session: f"signed in {moment(session.created_at, now).exact}",
        lambda i, _shown, _session: str(i + 1),
    )
    for word in words:
        often = Counter(names)
        for i, pair in enumerate(pairs):
            if often[names[i]] > 1 and (said := word(i, *pair)):
                names[i] += f", {said}"
    return names


def _row(name: str, shown: ActiveSession, session: Session, *, now: int, after: str) -> PanelRow:
    there = {"at": session.created_at, "after": after}
    return PanelRow(
        name=name,
        shown=shown,
        used=moment(session.last_used_at, now),
        begun=moment(session.created_at, now),
        ends=moment(session.expires_at, now),
        end=address(end=session.id, **there),
        rename=address(rename=session.id, **there),
    )


def about_one(row: PanelRow, *, action: str, back: str) -> Card:
    """Ask whether to sign out a device, naming the effect."""
    shown = row.shown
    own = shown.is_current
    effect = "You will need to sign in again here." if own else "It will need to sign in again."
    if shown.seats:
        held = "seat becomes" if shown.seats == 1 else f"{shown.seats} seats become"
        effect += f" Its {held} free."
    used = "Active now" if own else f"Active {row.used.words}"
    place = (shown.location, shown.ip_address, used)
    return Card(
        title="Sign out of this device?" if own else f"Sign out {isolated(shown.called)}?",
        words=effect,
        icon=shown.kind,
        detail=tuple(each for each in place if each),
        action=action,
        back=back,
    )


def about_name(row: PanelRow, *, action: str, back: str) -> Card:
    """Ask what a device is to be called."""
    shown = row.shown
    return Card(
        title=f"What do you call {isolated(shown.called)}?",
        words="Only you see the name. Leave it empty to show what the device says itself.",
        icon=shown.kind,
        detail=tuple(each for each in (shown.device, shown.location, shown.ip_address) if each),
        action=action,
        go="Save",
        danger=False,
        field=shown.name or "",
        back=back,
    )


def about_others(count: int, *, action: str, back: str) -> Card:
    """Ask whether to sign out all others."""
    one = count == 1
    return Card(
        title=f"Sign out {count:,} other device{'' if one else 's'}?",
        words="It will need to sign in again." if one else "They will need to sign in again.",
        icon="gone",
        action=action,
        back=back,
    )
