"""The page `/console/licenses`: is it enough, until when, and by which rules are seats given?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from sojourn.clock import DAY
from sojourn.console.lookup import PoolUse
from sojourn.console.seats import (
    Heading,
    PoolRow,
    RoomRow,
    overdraft_text,
    pool_link,
    pool_row,
    rooms,
    seats_text,
)
from sojourn.console.words import When, count, exact, span, when
from sojourn.license import CountBy, License, LicenseStatus, Policy, WhenFull

ENDS_SOON = 14 * DAY
"""For so long before a license ends its page says so in the heading."""

_COUNTED = {
    CountBy.USER: "A person uses one seat, on however many devices.",
    CountBy.CLIENT: "A device uses one seat, whoever is on it.",
    CountBy.LEASE: "A person uses one seat on each device.",
}


class FeatureView(Struct, frozen=True, kw_only=True):
    """A feature of a license. `policy`: its rules, in sentences."""

    feature: str
    row: PoolRow
    link: str
    policy: tuple[str, ...]
    rooms: tuple[RoomRow, ...]
    overdraft: str
    command: str


class LicenseView(Struct, frozen=True, kw_only=True):
    license_id: str
    name: str
    answer: Heading
    state: str
    tone: str
    until: When | None
    made: When
    origins: tuple[str, ...]
    features: tuple[FeatureView, ...]
    suspended: bool
    here: str
    command: str


class Change(Struct, frozen=True, kw_only=True):
    """A capacity that somebody thinks of: what it means, before it is saved. `replayed`: what would have
    happened last week with it, as far as that is known. `drawn`: for which policy that is said."""

    feature: str
    drawn: str
    before: int
    after: int
    effect: str
    replayed: str = ""


def license_link(license_id: str, **more: str) -> str:
    return "licenses?" + urlencode({"license": license_id} | more)


def license_view(license_: License, uses: Sequence[PoolUse], now: int) -> LicenseView:
    """Show one license, with those of its features that are used most first."""
    state, tone = state_of(license_, now)
    until = license_.valid_until
    return LicenseView(
        license_id=license_.id,
        name=license_.name,
        answer=_answer(license_, uses, now),
        state=state,
        tone=tone,
        until=when(until, now) if until is not None else None,
        made=when(license_.created_at, now),
        origins=license_.allowed_origins,
        features=tuple(_feature(use) for use in uses),
        suspended=license_.status is LicenseStatus.SUSPENDED,
        here=license_link(license_.id),
        command=f"sojourn license show {license_.id}",
    )


def state_of(license_: License, now: int) -> tuple[str, str]:
    """Return how a license is, in words, and the tone to say it in."""
    if license_.status is LicenseStatus.SUSPENDED:
        return "Suspended", "bad"
    if license_.valid_from is not None and now < license_.valid_from:
        return f"Begins in {exact(license_.valid_from - now)}", "suspect"
    if license_.valid_until is None:
        return "Active", "active"
    left = license_.valid_until - now
    if left <= 0:
        return "Over", "bad"
    return f"Active, ends in {exact(left)}", "suspect" if left <= ENDS_SOON else "active"


def _answer(license_: License, uses: Sequence[PoolUse], now: int) -> Heading:
    good = seats_text(uses) if uses else "This license has no feature yet."
    state, tone = state_of(license_, now)
    full = [use.pool.feature for use in uses if not use.free and use.usage.capacity]
    waiting = sum(use.refused for use in uses)
    if tone == "bad":
        bad = f"It is {state.lower()}: nobody gets a seat."
    elif waiting:
        bad = "1 person is waiting." if waiting == 1 else f"{waiting:,} people are waiting."
    elif tone == "suspect":
        bad = f"It {state[:1].lower()}{state[1:]}.".replace("active, ", "")
    else:
        bad = ""
    rest = f"{', '.join(full[:3])} {'is' if len(full) == 1 else 'are'} full." if full else ""
    return Heading(good, bad, rest)


def _feature(use: PoolUse) -> FeatureView:
    pool = use.pool
    return FeatureView(
        feature=pool.feature,
        row=pool_row(use),
        link=pool_link(pool.license_id, pool.feature),
        policy=policy_words(pool.policy),
        rooms=rooms(use),
        overdraft=overdraft_text(use),
        command=f"sojourn feature set {pool.license_id} {pool.feature} "
        f"--capacity {pool.policy.capacity}",
    )


def policy_words(policy: Policy) -> tuple[str, ...]:
    """Say a policy in sentences, the ones that matter to most people first."""
    suspect, lost = span(policy.suspect_after_ms), span(policy.lost_after)
    said = [
        _COUNTED[policy.count_by],
        (
            f"Programs beat every {span(policy.heartbeat_interval)}. Who is silent for {suspect} is "
            f"suspect; who is silent for {lost} has lost the seat."
        ),
        _when_full(policy),
    ]
    if policy.overdraft:
        said.append(
            f"{count(policy.overdraft, 'seat')} above the capacity may be granted: marked, and reported."
        )
    if policy.reserved:
        said.append(f"{policy.reserved:,} of the seats are reserved.")
    if policy.max_lease is not None:
        said.append(f"Nobody holds a seat for longer than {span(policy.max_lease)}.")
    said.append(
        f"A page that is closed keeps its seat for {span(policy.linger)}, and who was lost may come "
        f"back to a free seat within {span(policy.resume_window)}."
    )
    return tuple(said)


def _when_full(policy: Policy) -> str:
    if policy.when_full is WhenFull.DENY:
        return "When all seats are held, whoever asks is refused."
    if policy.when_full is WhenFull.EVICT_IDLE and policy.idle_after is not None:
        return (
            "When all seats are held, suspects lose theirs to whoever asks; then who has been idle for "
            f"{span(policy.idle_after)}."
        )
    return "When all seats are held, suspects lose theirs to whoever asks."


def change_of(use: PoolUse, after: int) -> Change:
    """Say what another capacity means just now."""
    policy, held = use.pool.policy, use.usage.in_use
    before = policy.capacity
    if after == before:
        effect = "That is what it has already."
    elif after > before:
        waiting = f" {use.refused} who wait get them first." if use.refused else ""
        effect = f"{count(after - before, 'more seat')} can be taken at once.{waiting}"
    elif after < policy.reserved:
        effect = f"{policy.reserved:,} seats are reserved: give up reservations first."
    elif held > after:
        effect = (
            f"Nobody loses a seat: {held:,} are held, so nobody gets one until {held - after + 1:,} "
            "have come back."
        )
    else:
        effect = f"Nobody loses a seat: {held:,} {'is' if held == 1 else 'are'} held just now."
    return Change(
        feature=use.pool.feature,
        drawn=drawn_for(policy),
        before=before,
        after=after,
        effect=effect,
    )


def drawn_for(policy: Policy) -> str:
    """Return what a form brings back of the policy that its page showed: 16 hex digits of its hash."""
    return hashlib.sha256(msgspec.json.encode(policy)).hexdigest()[:16]
