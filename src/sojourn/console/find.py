"""The page `/console/find`, and what ⌘K shows: a person, seat, license, session or id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from sojourn.console.licenses import license_link
from sojourn.console.lookup import Lookup, PoolUse, Told
from sojourn.console.seats import feature_of, person_link, pool_link
from sojourn.lease import LeaseFilter
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.store import Store

HITS_MAX = 8
"""Hits of one kind."""
EVENTS_LOOKED_AT = 1_000
"""Latest events whose people are found by a part of their user id; others by the whole of it."""
_ID = re.compile(r"[a-z]{3}_[0-9A-Za-z_]{6,40}")


class Hit(Struct, frozen=True, kw_only=True):
    """Something that was found. `exact`: it is called precisely so."""

    kind: str
    sign: str  # an icon's name
    text: str
    under: str
    link: str
    exact: bool = False


class Finder:
    """Looks for what somebody typed. Reads only, bounded lists; synchronous, safe from several threads."""

    def __init__(self, lookup: Lookup, store: Store, ledger: Ledger) -> None:
        self._lookup = lookup
        self._store = store
        self._ledger = ledger
        self._pools = Told(lookup.pools)
        self._users = Told(self._lately)

    def find(self, words: str, pages: Sequence[tuple[str, str, str]]) -> list[Hit]:
        """Return what is called so, exact ones first. `pages`: address, title and icon of those that may be
        opened."""
        wanted = words.strip()
        if not wanted:
            return [*self._waiting(), *_pages(pages, "")]
        found = [
            *self._by_id(wanted),
            *self.people(wanted),
            *self._licenses(wanted),
            *self._features(wanted),
            *_pages(pages, wanted),
        ]
        return sorted(found, key=lambda hit: not hit.exact)

    def people(self, words: str) -> list[Hit]:
        """Return the person who is called so, and others of late whose user ids have these words in them."""
        found = [_person(words, exact=True)] if self._known(words) else []
        wanted = words.casefold()
        alike = [user for user in self._users.get() if wanted in user.casefold() and user != words]
        alike.sort(key=lambda user: (not user.casefold().startswith(wanted), len(user), user))
        return found + [_person(user) for user in alike[:HITS_MAX]]

    def _known(self, user: str) -> bool:
        held = LeaseFilter(user_id=user, include_ended=True)
        return bool(
            self._store.leases(held, limit=1)[0]
            or self._store.sessions(user_id=user, limit=1)
            or self._store.events(user_id=user, limit=1)
        )

    def _lately(self) -> list[str]:
        events = self._lookup.feed(limit=EVENTS_LOOKED_AT)
        users = (event.user_id for event in events if event.user_id)
        return [user for user in dict.fromkeys(users) if not user.startswith("operator:")]

    def _waiting(self) -> list[Hit]:
        users = dict.fromkeys(each.user_id for each in self._lookup.waiting())
        return [_person(user, under="waits for a seat") for user in list(users)[:HITS_MAX]]

    def _by_id(self, wanted: str) -> Iterator[Hit]:
        if _ID.fullmatch(wanted) is None:
            return
        if wanted.startswith("ses_"):
            for session in self._store.sessions(after=wanted[:-1], limit=1):
                if session.id == wanted and session.user_id:
                    yield Hit(
                        kind="Session",
                        sign="devices",
                        text=f"Session of {session.user_id}",
                        under=wanted,
                        link=person_link(session.user_id),
                        exact=True,
                    )
        elif wanted.startswith("lic_"):
            license_ = self._ledger.license(wanted)
            if license_ is not None:
                yield _license(license_.id, license_.name, exact=True)
        else:
            which = LeaseFilter(ids=(wanted,), include_ended=True)
            for lease in self._store.leases(which, limit=1)[0]:
                license_id, feature = split_pool_id(lease.pool_id)
                over = lease.ended_at is not None
                yield Hit(
                    kind="Seat",
                    sign="seat",
                    text=f"{feature_of(lease.pool_id)} seat of {lease.user_id}",
                    under=f"{wanted}{', which has ended' if over else ''}",
                    link=person_link(lease.user_id)
                    if over
                    else pool_link(license_id, feature, ask=wanted) + "#asked",
                    exact=True,
                )

    def _licenses(self, wanted: str) -> list[Hit]:
        names = {use.pool.license_id: use.license_name for use in self._pools.get()}
        return [
            _license(license_id, name, exact=name.casefold() == wanted.casefold())
            for license_id, name in names.items()
            if wanted.casefold() in name.casefold()
        ][:HITS_MAX]

    def _features(self, wanted: str) -> list[Hit]:
        asked = wanted.casefold().split()
        return [
            _pool(use, exact=use.pool.feature.casefold() == wanted.casefold())
            for use in self._pools.get()
            if all(word in f"{use.pool.feature} {use.license_name}".casefold() for word in asked)
            and any(word in use.pool.feature.casefold() for word in asked)
        ][:HITS_MAX]


def _person(user: str, *, exact: bool = False, under: str = "") -> Hit:
    return Hit(
        kind="Person", sign="people", text=user, under=under, link=person_link(user), exact=exact
    )


def _license(license_id: str, name: str, *, exact: bool) -> Hit:
    return Hit(
        kind="License",
        sign="ticket",
        text=name,
        under=license_id,
        link=license_link(license_id),
        exact=exact,
    )


def _pool(use: PoolUse, *, exact: bool) -> Hit:
    usage = use.usage
    return Hit(
        kind="Seats",
        sign="seat",
        text=use.pool.feature,
        under=f"{use.license_name} · {usage.in_use:,} of {usage.capacity:,} in use",
        link=pool_link(use.pool.license_id, use.pool.feature),
        exact=exact,
    )


def _pages(pages: Sequence[tuple[str, str, str]], wanted: str) -> list[Hit]:
    return [
        Hit(
            kind="Page",
            sign=sign,
            text=title,
            under="",
            link=name,
            exact=title.casefold() == wanted.casefold(),
        )
        for name, title, sign in pages
        if title.casefold().startswith(wanted.casefold())
    ]
