"""What the security page shows of somebody's sessions with scripts off: rows, questions, and the words of
each state, which are those of the web component."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from sojourn.people.sessions import Listing
from sojourn.people.translation import Isolated, Moment, Words
from sojourn.people.wire import ActiveSession, active_sessions
from sojourn.session import Session
from sojourn.text import isolated

HERE = "security"  # the page, as seen from itself
ALIKE = 8
"""Sessions of one device that are shown one by one."""


def address(**query: Any) -> str:
    """Write an address of the page; what is empty is left out."""
    said = urlencode({name: value for name, value in query.items() if value})
    return f"{HERE}?{said}" if said else HERE


class PanelRow(Struct, frozen=True, kw_only=True):
    """Somewhere one is signed in. `name`: the device, and what tells it from others of that name; `end`:
    the address that asks whether to sign it out; `rename`: the one that asks for a name, empty where none
    are kept."""

    name: Isolated
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
    go: str
    danger: bool = True
    field: str | None = None
    link: str = ""
    follow: str = ""
    back: str = HERE
    leave: str


def panel(listing: Listing, words: Words, *, after: str, said: str) -> Panel:
    """Show some of somebody's sessions. `after`: where they start; empty: the first."""
    page = active_sessions(listing, words)
    total = page.total
    data, sessions = page.data, listing.sessions
    pairs = sorted(zip(data, sessions, strict=True), key=lambda pair: not pair[0].is_current)
    now = listing.current.at
    names = _told_apart(pairs, words, now)
    rows = tuple(
        _row(name, *pair, words=words, now=now, after=after)
        for name, pair in zip(names, pairs, strict=True)
    )
    part = {"n": len(rows), "total": total}
    return Panel(
        summary=f"{words.text('count', n=total)}. {page.message or words.text('intro')}",
        said=said,
        rows=rows,
        shown=words.text("moreOf", **part)
        if after
        else words.text("shown", **part)
        if page.next
        else "",
        others=address(others=1, after=after) if total > 1 else "",
        older=address(after=page.next) if page.next else "",
        newest=HERE if after else "",
    )


def _told_apart(
    pairs: Sequence[tuple[ActiveSession, Session]], words: Words, now: int
) -> list[Isolated]:
    """Name sessions so that no two of a page are called the same: where needed with the place, the last
    use, the sign-in, and a number."""
    names = [isolated(shown.called) for shown, _ in pairs]
    more: tuple[Callable[[int, ActiveSession, Session], str], ...] = (
        lambda _, shown, _session: isolated(shown.location or shown.ip_address or ""),
        lambda _, _shown, session: _within(
            words.text("used", when=words.relative(session.last_used_at - now))
        ),
        lambda _, _shown, session: _within(
            words.text("begun", when=words.exact(session.created_at))
        ),
        lambda i, _shown, _session: str(i + 1),
    )
    for word in more:
        often = Counter(names)
        for i, pair in enumerate(pairs):
            if often[names[i]] > 1 and (said := word(i, *pair)):
                names[i] += f", {said}"
    return [Isolated(name) for name in names]


def _within(sentence: str) -> str:
    """Write a sentence as a part of another."""
    return sentence[:1].lower() + sentence[1:]


def _row(
    name: Isolated, shown: ActiveSession, session: Session, *, words: Words, now: int, after: str
) -> PanelRow:
    there = {"at": session.created_at, "after": after}
    return PanelRow(
        name=name,
        shown=shown,
        used=words.moment(session.last_used_at, now),
        begun=words.moment(session.created_at, now),
        ends=words.moment(session.expires_at, now),
        end=address(end=session.id, **there),
        rename=address(rename=session.id, **there),
    )


def about_one(row: PanelRow, words: Words, *, action: str, back: str) -> Card:
    """Ask whether to sign out a device, naming the effect."""
    shown = row.shown
    own = shown.is_current
    effect = words.text("askHereEffect" if own else "askEffect")
    if shown.seats:
        effect += f" {words.text('askSeats', n=shown.seats)}"
    used = words.text("now") if own else words.text("used", when=row.used.words)
    place = (shown.location, shown.ip_address, used)
    return Card(
        title=words.text("askHere") if own else words.text("ask", device=shown.called),
        words=effect,
        icon=shown.kind,
        detail=tuple(each for each in place if each),
        action=action,
        go=words.text("signOut"),
        back=back,
        leave=words.text("cancel"),
    )


def about_name(row: PanelRow, words: Words, *, action: str, back: str) -> Card:
    """Ask what a device is to be called."""
    shown = row.shown
    return Card(
        title=words.text("askName", device=shown.called),
        words=words.text("askNameEffect"),
        icon=shown.kind,
        detail=tuple(each for each in (shown.device, shown.location, shown.ip_address) if each),
        action=action,
        go=words.text("save"),
        danger=False,
        field=shown.name or "",
        back=back,
        leave=words.text("cancel"),
    )


def about_others(count: int, words: Words, *, action: str, back: str) -> Card:
    """Ask whether to sign out all others."""
    return Card(
        title=words.text("askOthers", n=count),
        words=words.text("askOthersEffect", n=count),
        icon="gone",
        action=action,
        go=words.text("signOut"),
        back=back,
        leave=words.text("cancel"),
    )
