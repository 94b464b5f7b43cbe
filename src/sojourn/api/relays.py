"""Relays: what they ask their authority for, and what operators see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sojourn.allotment import Authority, RelayBeat
from sojourn.api.call import OperatorCall, operator
from sojourn.api.limits import DATA_BODY_MAX
from sojourn.errors import Conflict, NotFound
from sojourn.license import split_pool_id
from sojourn.relay_command import RelayOrder, order_of
from sojourn.service.keys import Permission
from sojourn.service.regions import RegionStatus
from sojourn.service.relays import LastRefusal, Relays
from sojourn.store import Action
from sojourn.wire.bodies import (
    Answer,
    Done,
    Name,
    rfc3339,
    seconds,
)
from sojourn.wire.relays import (
    AllotmentsBody,
    AllotmentsDone,
    CommandBody,
    SignedCopyBody,
    TermsBody,
    TermsDone,
    grant_body,
    wish_of,
)

REFUSALS = ("relay_protocol", "not_authority")


class RelayPoolBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """Seats of a pool that a relay may grant, and what it said of them last. `expiresIn`: until they are
    taken back, unless the relay is heard before. `least` and `most`: that it is to have, by hand."""

    license_id: str
    license_name: str | None = None
    feature: str
    seats: int
    held: int
    want: int
    expires_in: float
    least: int = 0
    most: int | None = None


class RelayRefusedBody(Answer, frozen=True, kw_only=True):
    """The last beat that was refused by this process, if none was heard since."""

    code: str
    error: str
    at: str


class RelayBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """A relay. `awaited`: its authority was put back to an earlier state, and waits to hear of it;
    `draining`: it gets no seats, and gives back those that it has."""

    relay_id: str
    name: str
    heard_ago: float | None = None
    awaited: bool = False
    draining: bool = False
    pools: list[RelayPoolBody] = msgspec.field(default_factory=list)
    refused: RelayRefusedBody | None = None


class RegionPoolBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """Seats of a pool that this relay may grant. `endsIn`: until the last of them must be given up."""

    license_id: str
    license_name: str | None = None
    feature: str
    seats: int
    held: int
    want: int
    granting: bool
    ends_in: float = 0.0


class RegionBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """How this server, if it is a relay, stands with its authority. `fault`: why there was no answer to its
    last beat; `refused`: by which code; `carefulFor`: so long only those get seats who had one."""

    authority: str
    relay_id: str | None = None
    heard_ago: float | None = None
    fault: str = ""
    refused: str = ""
    careful_for: float = 0.0
    notes: list[str] = msgspec.field(default_factory=list)
    pools: list[RegionPoolBody] = msgspec.field(default_factory=list)


class RelaysBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """`doubtFor`: so long at most nothing is allotted, since this authority was put back to an earlier state
    and not all relays have spoken since."""

    epoch: int
    doubt_for: float = 0.0
    items: list[RelayBody] = msgspec.field(default_factory=list)
    region: RegionBody | None = None


def _relays(ask: OperatorCall) -> Relays:
    relays = ask.context.services.relays
    if relays is None:
        raise no_authority()
    return relays


def no_authority() -> Conflict:
    return Conflict(
        "This server is a relay, and no authority.",
        code="not_authority",
        hint="Ask the authority itself; a relay names it with --authority.",
    )


@operator(
    "POST",
    "/api/relays/allotments",
    may=Permission.RELAY,
    body_max=DATA_BODY_MAX,
    problems=(
        *REFUSALS,
        "relay_cloned",
        "relay_late",
        "relay_limit",
        "relay_clock",
        "allotment_foreign",
    ),
)
def beat_of_relay(ask: OperatorCall, body: AllotmentsBody) -> Done[AllotmentsDone]:
    """Hear a relay's beat: what it holds and could use of each pool, and which licenses it serves.

    The relay is named by its key. The answer says what it may grant from now on, and brings the terms of
    licenses that have changed. A beat whose number is not above that of an earlier one changes nothing. All
    durations are in milliseconds.
    """
    beat = RelayBeat(
        ask.key.id, body.life, body.number, body.epoch, tuple(map(wish_of, body.wishes))
    )
    heard = _relays(ask).hear(
        ask.key,
        beat,
        protocol=body.protocol,
        clock=body.now,
        served={each.license_id: each.digest for each in body.licenses},
        spare={each.pool_id: each.spare for each in body.wishes},
        proofs={each.pool_id: each.proof for each in body.wishes},
        answered={each.id: each.answer for each in body.commands},
        report=body.report,
    )
    return Done(
        data=AllotmentsDone(
            relay=ask.key.id,
            epoch=heard.answer.epoch,
            number=heard.answer.number,
            grants=tuple(
                grant_body(x, heard.proofs[x.pool_id], heard.least.get(x.pool_id, 0))
                for x in heard.answer.grants
            ),
            licenses=tuple(map(SignedCopyBody.of, heard.copies)),
            gone=heard.gone,
            commands=tuple(map(CommandBody.of, heard.commands)),
            reported=heard.reported,
        )
    )


@operator(
    "POST",
    "/api/relays/licenses",
    may=Permission.RELAY,
    problems=REFUSALS,
)
def terms_for_relay(ask: OperatorCall, body: TermsBody) -> Done[TermsDone]:
    """Give a relay the terms of licenses, by hashes (SHA-256, hex) of their keys or by their ids, signed for
    it alone."""
    relays = _relays(ask)
    relays.check_protocol(body.protocol)
    copies = relays.copies(
        ask.key,
        key_hashes=[bytes.fromhex(each) for each in body.key_hashes],
        license_ids=body.license_ids,
    )
    return Done(data=TermsDone(licenses=tuple(map(SignedCopyBody.of, copies))))


@operator("GET", "/api/relays", may=Permission.READ)
def list_relays(ask: OperatorCall) -> Done[RelaysBody]:
    """List relays, what they may grant, and when they were heard; at a relay, how it stands itself."""
    services = ask.context.services
    region = None if services.region is None else services.region.status()
    authority, now, refused = (
        (Authority(), 0, {}) if services.relays is None else services.relays.known()
    )
    names = _names(ask, authority, region)
    wanted: dict[str, list[RelayOrder]] = {}
    for order in services.ledger.relay_commands.orders():
        wanted.setdefault(order.relay, []).append(order)
    keys = services.keys.known_by_id([*authority.relays, *refused])
    items = [
        RelayBody(
            relay_id=name,
            name=keys[name][0].name if name in keys else name,
            heard_ago=seconds(now - known.heard_at)
            if (known := authority.relays.get(name))
            else None,
            awaited=authority.doubts(now) and name in authority.unheard,
            draining=any(not x.pool_id and x.most == 0 for x in wanted.get(name, ())),
            pools=_pools(authority, name, now, names, wanted.get(name, ())),
            refused=_refused(refused.get(name)),
        )
        for name in sorted({*authority.relays, *refused})
    ]
    doubt = authority.doubt_until - now if authority.doubts(now) else 0
    return Done(
        data=RelaysBody(
            epoch=authority.epoch,
            doubt_for=seconds(doubt),
            items=items,
            region=None if region is None else _region(region, names),
        )
    )


@operator(
    "DELETE",
    "/api/relays/{relayId}",
    may=Permission.LICENSES_WRITE,
    problems=("relay_unknown", "not_authority"),
)
def forget_relay(ask: OperatorCall, relay_id: Name) -> Done[None]:
    """Wait for a relay no more. What it may grant is counted until it is over: revoke its key as well."""
    _relays(ask)
    if not ask.context.services.store.forget_relay(
        relay_id, Action(actor=ask.actor, name="forget_relay")
    ):
        raise NotFound("There is no such relay.", code="relay_unknown")
    return Done(
        data=None, message="It is waited for no more. Revoke its key if it is not to return."
    )


def _names(
    ask: OperatorCall, authority: Authority, region: RegionStatus | None
) -> Mapping[str, str]:
    pools = {*authority.pools, *(() if region is None else (x.pool_id for x in region.pools))}
    ids = sorted({split_pool_id(name)[0] for name in pools})
    return ask.context.services.ledger.license_names(ids)


def _pools(
    authority: Authority,
    relay: str,
    now: int,
    names: Mapping[str, str],
    wanted: Sequence[RelayOrder],
) -> list[RelayPoolBody]:
    found = []
    for pool_id, pool in authority.pools.items():
        mine = pool.allotments.get(relay)
        if mine is None:
            continue
        license_id, feature = split_pool_id(pool_id)
        order = order_of(wanted, pool_id)
        found.append(
            RelayPoolBody(
                license_id=license_id,
                license_name=names.get(license_id),
                feature=feature,
                seats=mine.seats,
                held=mine.held,
                want=mine.want,
                expires_in=seconds(max(0, mine.expires_at - now)),
                least=0 if order is None else order.least,
                most=None if order is None else order.most,
            )
        )
    return found


def _refused(last: LastRefusal | None) -> RelayRefusedBody | None:
    if last is None:
        return None
    return RelayRefusedBody(code=last.code, error=last.words, at=rfc3339(last.at))


def _region(status: RegionStatus, names: Mapping[str, str]) -> RegionBody:
    pools = []
    for each in status.pools:
        license_id, feature = split_pool_id(each.pool_id)
        pools.append(
            RegionPoolBody(
                license_id=license_id,
                license_name=names.get(license_id),
                feature=feature,
                seats=each.seats,
                held=each.held,
                want=each.want,
                granting=each.granting,
                ends_in=seconds(max(0, each.left)),
            )
        )
    return RegionBody(
        authority=status.authority,
        relay_id=status.relay or None,
        heard_ago=None if status.heard_ago is None else seconds(status.heard_ago),
        fault=status.fault,
        refused=status.refused,
        careful_for=seconds(status.careful_for),
        notes=list(status.notes),
        pools=pools,
    )


CALLS = (
    beat_of_relay,
    terms_for_relay,
    list_relays,
    forget_relay,
)
