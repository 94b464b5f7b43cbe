"""What a refusal says of the pool's line, and how the line is shown."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.lease import Denied, Waiting
from sojourn.license import split_pool_id
from sojourn.line import WAITING_FOR
from sojourn.service.operations import LineStatus, RefusedHolder
from sojourn.wire.bodies import Answer, Problem, rfc3339, seconds
from sojourn.wire.denials import seats_taken

RETRY_AFTER = SECOND
"""ms after which to ask again, with a place in the line: long before it is lost."""


class WaitingBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody in the line of a pool. `offered`: a free seat is held for them, for so many seconds."""

    id: str
    position: int
    user_id: str
    client_id: str
    priority: int = 0
    since: str
    waited: float  # seconds
    expires_in: float  # seconds, unless it asks again
    offered: float | None = None


class RefusedBody(Answer, frozen=True, kw_only=True):
    """Somebody who was refused lately without standing in the line, and has no seat since."""

    user_id: str
    client_id: str
    at: str
    times: int


class LineBody(Answer, frozen=True, kw_only=True):
    """Who wants a seat of a feature."""

    at: str
    license_id: str
    feature: str
    waiting: list[WaitingBody]  # in order; at most 1,000
    refused: list[RefusedBody]  # the latest first; at most 20


def line_body(line: LineStatus) -> LineBody:
    license_id, feature = split_pool_id(line.pool_id)
    return LineBody(
        at=rfc3339(line.at),
        license_id=license_id,
        feature=feature,
        waiting=line_bodies(line.entries, line.at),
        refused=refused_bodies(line.refused),
    )


def refused_bodies(refused: Sequence[RefusedHolder]) -> list[RefusedBody]:
    return [
        RefusedBody(
            user_id=each.user_id, client_id=each.client_id, at=rfc3339(each.at), times=each.times
        )
        for each in refused
    ]


def line_bodies(line: Sequence[Waiting], now: int) -> list[WaitingBody]:
    """Show a line, the first first."""
    return [
        WaitingBody(
            id=entry.id,
            position=place,
            user_id=entry.user_id,
            client_id=entry.client_id,
            priority=entry.priority,
            since=rfc3339(entry.since),
            waited=seconds(max(0, now - entry.since)),
            expires_in=seconds(entry.expires_at - now),
            offered=None
            if entry.offer_until is None or not entry.offered(now)
            else seconds(entry.offer_until - now),
        )
        for place, entry in enumerate(line, 1)
    ]


def with_line(document: Problem, denied: Denied) -> Problem:
    """Say in a refusal who waits, and what that means for who was refused."""
    if not denied.waiting:
        return document
    taken = seats_taken(denied)
    document = replace(document, waiting=denied.waiting)
    if denied.entry is not None:
        keep = seconds(WAITING_FOR)
        return replace(
            document,
            details=f"{taken} You are number {denied.position} of {denied.waiting} in the line. Ask again, "
            f"within {keep:.0f} s, to keep your place.",
            position=denied.position,
            estimate=None if denied.estimate is None else seconds(denied.estimate),
            keep_place=keep,
            retry_after=seconds(RETRY_AFTER),
        )
    if denied.line_full:
        return replace(document, details=f"{taken} The line is full: {denied.waiting} wait.")
    return replace(
        document,
        details=f"{taken} {denied.waiting} wait: ask with `wait` to stand in the line, too.",
    )
