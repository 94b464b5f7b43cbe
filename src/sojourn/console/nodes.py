"""The page `/console/nodes`: which servers and relays there are, whether they agree, and who lags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from sojourn.allotment import Authority
from sojourn.clock import MINUTE, SECOND
from sojourn.console.seats import Heading, pool_link
from sojourn.console.words import When, count, exact, when
from sojourn.ledger import INSTANCE_ALIVE, Instance
from sojourn.license import split_pool_id
from sojourn.relay_command import RegionUse
from sojourn.service.instances import REGISTER_INTERVAL
from sojourn.service.regions import RegionStatus
from sojourn.service.relays import LastRefusal

LATE = MINUTE
"""A relay that was not heard for so long is late."""
LAGS = 2 * round(REGISTER_INTERVAL * SECOND)
"""A server that has not said for so long that it runs has missed a beat or two."""
POOLS_SHOWN = 50
"""Pools of a relay that are listed, those with the most seats."""


class ServerRow(Struct, frozen=True, kw_only=True):
    """A server process. `other_version`, `other_secrets`: it does not agree with most of them."""

    name: str
    instance_id: str
    state: str
    tone: str
    heard: When
    version: str
    other_version: bool
    started: When
    secrets: tuple[str, ...]
    other_secrets: bool


class ShareRow(Struct, frozen=True, kw_only=True):
    """Seats of a pool that a relay may grant. `free`: that nobody holds; `asked`: how many it wants;
    `refused`: acquires there that found no seat today (UTC), as far as the relay has reported."""

    feature: str
    license_name: str
    link: str
    seats: int
    held: int
    free: int
    asked: int
    refused: int
    ends: str
    held_share: float


class RelayRow(Struct, frozen=True, kw_only=True):
    """A relay. `refused`: why its last beat was refused, and when, if none was heard since."""

    name: str
    relay_id: str
    state: str
    tone: str
    heard: str
    refused: str
    pools: tuple[ShareRow, ...]
    more: int


class RegionView(Struct, frozen=True, kw_only=True):
    """How this server stands with its authority, if it is a relay."""

    authority: str
    heard: str
    fault: str
    careful: str
    notes: tuple[str, ...]
    pools: tuple[ShareRow, ...]


class NodesView(Struct, frozen=True, kw_only=True):
    answer: Heading
    servers: tuple[ServerRow, ...]
    hidden: int
    relays: tuple[RelayRow, ...]
    doubt: str
    region: RegionView | None


def runs(instance: Instance, now: int) -> bool:
    return instance.stopped_at is None and now - instance.seen_at < INSTANCE_ALIVE


def server_rows(instances: Sequence[Instance], now: int) -> list[ServerRow]:
    """Show servers; one differs if most of those that run have another version, or other secrets."""
    running = [each for each in instances if runs(each, now)]
    versions = Counter(each.version for each in running)
    secrets = Counter(each.fingerprints for each in running)
    common_version = versions.most_common(1)[0][0] if versions else ""
    common_secrets = secrets.most_common(1)[0][0] if secrets else ()
    rows = []
    for each in instances:
        alive, silent = runs(each, now), now - each.seen_at
        state, tone = ("Runs", "active") if alive else ("Silent", "bad")
        if alive and silent > LAGS:
            state, tone = "Lags", "suspect"
        if each.stopped_at is not None:
            state, tone = "Stopped", "leaving"
        rows.append(
            ServerRow(
                name=f"{each.host}, process {each.pid}",
                instance_id=each.id,
                state=state,
                tone=tone,
                heard=when(each.seen_at, now),
                version=each.version,
                other_version=alive and each.version != common_version,
                started=when(each.started_at, now),
                secrets=each.fingerprints,
                other_secrets=alive and each.fingerprints != common_secrets,
            )
        )
    return rows


def relay_rows(
    authority: Authority,
    refused: Mapping[str, LastRefusal],
    keys: Mapping[str, str],
    names: Mapping[str, str],
    now: int,
    *,
    draining: Collection[str] = (),
    uses: Sequence[RegionUse] = (),
) -> list[RelayRow]:
    """Show relays, those that need somebody first. `keys`: what their keys are called; `names`: licenses';
    `draining`: which get no seats; `uses`: what they have reported of today."""
    denied = {(use.relay, use.pool_id): use.denied for use in uses}
    rows = []
    for relay in {*authority.relays, *refused}:
        known, last = authority.relays.get(relay), refused.get(relay)
        silent = None if known is None else now - known.heard_at
        state, tone = "Heard", "active"
        if last is not None:
            state, tone = "Refused", "bad"
        elif silent is None or silent > LATE:
            state, tone = "Late", "bad"
        elif authority.doubts(now) and relay in authority.unheard:
            state, tone = "Awaited", "suspect"
        elif relay in draining:
            state, tone = "Draining", "leaving"
        pools = _shares(authority, relay, names, denied, now)
        rows.append(
            RelayRow(
                name=keys.get(relay, relay),
                relay_id=relay,
                state=state,
                tone=tone,
                heard="never heard" if silent is None else f"heard {exact(silent)} ago",
                refused="" if last is None else f"{last.words} ({when(last.at, now).ago})",
                pools=tuple(pools[:POOLS_SHOWN]),
                more=max(0, len(pools) - POOLS_SHOWN),
            )
        )
    return sorted(rows, key=lambda row: (row.tone == "active", row.name, row.relay_id))


def _shares(
    authority: Authority,
    relay: str,
    names: Mapping[str, str],
    denied: Mapping[tuple[str, str], int],
    now: int,
) -> list[ShareRow]:
    found = []
    for pool_id, shares in authority.pools.items():
        mine = shares.allotments.get(relay)
        if mine is not None:
            left = mine.expires_at - now
            ends = f"in {exact(left)}" if left > 0 else "over"
            found.append(
                share_row(
                    pool_id,
                    names,
                    seats=mine.seats,
                    held=mine.held,
                    asked=mine.want,
                    refused=denied.get((relay, pool_id), 0),
                    ends=ends,
                )
            )
    return sorted(found, key=lambda row: (-row.seats, row.feature))


def share_row(
    pool_id: str,
    names: Mapping[str, str],
    *,
    seats: int,
    held: int,
    asked: int,
    ends: str,
    refused: int = 0,
) -> ShareRow:
    license_id, feature = split_pool_id(pool_id)
    return ShareRow(
        feature=feature,
        license_name=names.get(license_id, license_id),
        link=pool_link(license_id, feature),
        seats=seats,
        held=held,
        free=max(0, seats - held),
        asked=asked,
        refused=refused,
        ends=ends,
        held_share=round(min(100.0, 100 * held / seats), 2) if seats else 0.0,
    )


def region_view(status: RegionStatus, names: Mapping[str, str]) -> RegionView:
    heard = "not heard yet" if status.heard_ago is None else f"heard {exact(status.heard_ago)} ago"
    pools = [
        share_row(
            each.pool_id,
            names,
            seats=each.seats,
            held=each.held,
            asked=each.want,
            ends=f"in {exact(each.left)}" if each.left > 0 else "over",
        )
        for each in status.pools
    ]
    careful = f"For {exact(status.careful_for)} only those get seats who had one."
    return RegionView(
        authority=status.authority,
        heard=heard,
        fault=status.fault or (f"refused: {status.refused}" if status.refused else ""),
        careful=careful if status.careful_for > 0 else "",
        notes=status.notes,
        pools=tuple(sorted(pools, key=lambda row: (-row.seats, row.feature))[:POOLS_SHOWN]),
    )


def nodes_answer(
    servers: Sequence[ServerRow], relays: Sequence[RelayRow], region: RegionView | None
) -> Heading:
    """Say how many run, and what they do not agree on."""
    alive = [row for row in servers if row.state in ("Runs", "Lags")]
    said = f"{len(alive)} server {'process runs' if len(alive) == 1 else 'processes run'}"
    said += f", and {count(len(relays), 'relay')}." if relays else "."
    bad = []
    if (versions := len({row.version for row in alive})) > 1:
        bad.append(f"They run {versions} versions.")
    if len({row.secrets for row in alive}) > 1:
        bad.append("They do not have the same secrets.")
    if lags := sum(row.state == "Lags" for row in alive):
        bad.append(f"{count(lags, 'server')} {'lags' if lags == 1 else 'lag'}.")
    if wrong := sum(row.tone == "bad" for row in relays):
        bad.append(f"{count(wrong, 'relay')} {'is' if wrong == 1 else 'are'} late or refused.")
    if region is not None and region.fault:
        bad.append("The authority gave no answer.")
    rest = "This server is a relay." if region is not None else ""
    return Heading(said, " ".join(bad), rest)
