"""What operators want of relays: what became of commands, what was used, drains, and seats moved by hand."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from sojourn.api.call import OperatorCall, operator
from sojourn.api.relays import no_authority
from sojourn.clock import DAY, SECOND
from sojourn.license import pool_id, split_pool_id
from sojourn.relay_command import USES_KEPT
from sojourn.service.keys import Permission
from sojourn.service.orders import MOVED_FOR, MOVED_FOR_MAX, RelayOrders
from sojourn.store import LIST_MAX
from sojourn.wire.bodies import Answer, Done, Feature, Name, Page, Wire, optional, rfc3339
from sojourn.wire.relay_commands import RelayCommandBody, command_body
from sojourn.wire.relays import SEATS_MAX


class CommandsQuery(Wire, frozen=True, kw_only=True):
    relay_id: Name | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 100


@operator("GET", "/api/relays/commands", may=Permission.READ, problems=("not_authority",))
def list_relay_commands(ask: OperatorCall, query: CommandsQuery) -> Done[Page[RelayCommandBody]]:
    """List the latest commands for relays, newest first: which are pending, and what the others came to. What
    was answered is told for a day."""
    commands = ask.context.services.relay_commands
    if commands is None:
        raise no_authority()
    found = commands.latest(relay=optional(query.relay_id), limit=query.limit)
    return Done(data=Page(items=[command_body(each) for each in found]))


class RegionUseBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """What a relay has reported of a feature and a day (UTC): seats that were granted or resumed, acquires
    that were refused for want of one, leases that ended."""

    relay_id: str
    name: str
    license_id: str
    license_name: str | None = None
    feature: str
    day: str
    granted: int
    denied: int
    ended: int


class UsesQuery(Wire, frozen=True, kw_only=True):
    relay_id: Name | UnsetType = UNSET
    license_id: Name | UnsetType = UNSET
    days: Annotated[int, Meta(ge=1, le=USES_KEPT // DAY)] = 7


@operator("GET", "/api/relays/usage", may=Permission.READ, problems=("not_authority",))
def list_relay_usage(ask: OperatorCall, query: UsesQuery) -> Done[Page[RegionUseBody]]:
    """List what happened at relays, by day and feature, the newest day first. Each event counts once, however
    often a relay was cut off."""
    services = ask.context.services
    if services.relay_commands is None:
        raise no_authority()
    today = services.store.now() // DAY * DAY
    found = services.ledger.relay_commands.uses(
        since=today - (query.days - 1) * DAY,
        relay=optional(query.relay_id),
        license_id=optional(query.license_id),
    )
    names = services.relay_commands.names({each.relay for each in found})
    titles = services.ledger.license_names(
        sorted({split_pool_id(each.pool_id)[0] for each in found})
    )
    items = []
    for each in found:
        license_id, feature = split_pool_id(each.pool_id)
        items.append(
            RegionUseBody(
                relay_id=each.relay,
                name=names[each.relay],
                license_id=license_id,
                license_name=titles.get(license_id),
                feature=feature,
                day=rfc3339(each.day)[:10],
                granted=each.granted,
                denied=each.denied,
                ended=each.ended,
            )
        )
    return Done(data=Page(items=items))


@operator(
    "PUT",
    "/api/relays/{relayId}/drain",
    may=Permission.LICENSES_WRITE,
    problems=("relay_unknown", "not_authority"),
)
def drain_relay(ask: OperatorCall, relay_id: Name) -> Done[None]:
    """Give a relay no more seats, and ask back those that nobody sits on, until it is filled again. Nobody
    who sits there loses a seat."""
    seats = _orders(ask).drain(relay_id, actor=ask.actor)
    left = (
        "It has none." if not seats else f"It has {seats}, and gives them back as they come free."
    )
    return Done(data=None, message=f"It gets no more seats. {left}")


@operator(
    "DELETE",
    "/api/relays/{relayId}/drain",
    may=Permission.LICENSES_WRITE,
    problems=("relay_unknown", "not_authority"),
)
def fill_relay(ask: OperatorCall, relay_id: Name) -> Done[None]:
    """Take a drain back: the relay gets seats again as its region needs them."""
    _orders(ask).fill(relay_id, actor=ask.actor)
    return Done(data=None, message="It gets seats again with its next beats.")


class MoveBody(Wire, frozen=True, kw_only=True):
    """Seats to move. Where `from` or `to` is left out, it is the authority itself. `lasting`: seconds for
    which demand does not move them on; an hour, if left out."""

    license_id: Name
    feature: Feature
    seats: Annotated[int, Meta(ge=1, le=SEATS_MAX)]
    giver: Name | UnsetType = field(default=UNSET, name="from")
    taker: Name | UnsetType = field(default=UNSET, name="to")
    lasting: Annotated[float, Meta(gt=0, le=MOVED_FOR_MAX / SECOND)] = MOVED_FOR / SECOND


class MovedBody(Answer, frozen=True, kw_only=True, omit_defaults=True):
    """How many seats the one relay keeps at most, and the other is to have at least."""

    from_keeps: int | None = None
    to_has: int | None = None


@operator(
    "POST",
    "/api/relays/moves",
    may=Permission.LICENSES_WRITE,
    problems=("relay_unknown", "feature_unknown", "relay_seats", "not_authority"),
)
def move_seats(ask: OperatorCall, body: MoveBody) -> Done[MovedBody]:
    """Move seats of a feature from one relay to another. They go as they come free, with the relays' next
    beats; nobody who sits there loses one."""
    moved = _orders(ask).move(
        pool_id(body.license_id, body.feature),
        body.seats,
        giver=optional(body.giver),
        taker=optional(body.taker),
        lasting=round(body.lasting * SECOND),
        actor=ask.actor,
    )
    return Done(
        data=MovedBody(
            from_keeps=None if moved.giver is None else moved.giver.most,
            to_has=None if moved.taker is None else moved.taker.least,
        ),
        message="They go as they come free, with the relays' next beats.",
    )


def _orders(ask: OperatorCall) -> RelayOrders:
    orders_ = ask.context.services.relay_orders
    if orders_ is None:
        raise no_authority()
    return orders_


CALLS = (
    list_relay_commands,
    list_relay_usage,
    drain_relay,
    fill_relay,
    move_seats,
)
