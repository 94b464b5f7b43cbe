"""What relays and their authority send each other. Durations are milliseconds here, since both sides
decide by them."""

from __future__ import annotations

import base64
from typing import Annotated

from msgspec import Meta

from sojourn.relay_command import (
    PENDING_MAX,
    CommandAnswer,
    CommandScope,
    CommandVerb,
    RegionReport,
    RelayCommand,
)
from sojourn.relays.copies import SignedCopy
from sojourn.relays.messages import AllotmentGrant, AllotmentWish
from sojourn.wire.bodies import Answer, Name, Wire

NUMBER_MAX = 2**53 - 1
SEATS_MAX = 10_000_000
WISHES_MAX = 1_000
LICENSES_MAX = 1_000
"""Licenses that a relay serves."""
TERMS_MAX = 64
"""Licenses asked for in one question."""

PROOF_MAX = 128
"""Characters of what proves an allotment."""

Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Seats = Annotated[int, Meta(ge=0, le=SEATS_MAX)]
Digest = Annotated[str, Meta(max_length=64, pattern=r"\A[0-9a-f]*\Z")]
KeyHash = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"\A[0-9a-f]{64}\Z")]


class WishBody(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A pool in a beat: what the relay holds of it, and what it would like to."""

    pool_id: Name
    seats: Seats = 0
    fence: Number = 0
    held: Seats = 0
    want: Seats = 0  # that its region needs
    spare: Seats = 0  # that it could use besides, if nobody else needs them
    proof: Annotated[str, Meta(max_length=PROOF_MAX)] = ""  # of its seats, as an answer gave it


class ServedBody(Wire, frozen=True, kw_only=True):
    """A license that the relay serves; `digest` names the terms that it has."""

    license_id: Name
    digest: Digest = ""


class AnsweredBody(Wire, frozen=True, kw_only=True):
    """A command that the relay has carried out, and what it came to."""

    id: Name
    answer: CommandAnswer


class AllotmentsBody(Wire, frozen=True, kw_only=True):
    """A beat of a relay. Its name is that of its key. `now`: its wall clock."""

    protocol: Number
    life: Name
    number: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
    epoch: Number = 0
    now: int
    wishes: Annotated[tuple[WishBody, ...], Meta(max_length=WISHES_MAX)] = ()
    licenses: Annotated[tuple[ServedBody, ...], Meta(max_length=LICENSES_MAX)] = ()
    commands: Annotated[tuple[AnsweredBody, ...], Meta(max_length=PENDING_MAX)] = ()
    report: RegionReport | None = None


class GrantBody(Answer, frozen=True, kw_only=True):
    """A pool in an answer. `ttl` counts from the instant before the beat left; seats above `keep` are to be
    given back, if nobody sits there. `least`: so many are to be kept, though nobody needs them."""

    pool_id: str
    seats: int
    fence: int
    ttl: int
    proof: str
    keep: int | None = None
    least: int = 0


class CommandBody(Answer, frozen=True, kw_only=True):
    """A command for the relay, which takes up each `seq` once, in order."""

    id: str
    seq: int
    verb: CommandVerb
    scope: CommandScope
    actor: str

    @classmethod
    def of(cls, command: RelayCommand) -> CommandBody:
        return cls(
            id=command.id,
            seq=command.seq,
            verb=command.verb,
            scope=command.scope,
            actor=command.actor,
        )

    def command(self, relay: str) -> RelayCommand:
        return RelayCommand(
            id=self.id,
            relay=relay,
            seq=self.seq,
            verb=self.verb,
            scope=self.scope,
            actor=self.actor,
            asked_at=0,
        )


class SignedCopyBody(Answer, frozen=True, kw_only=True):
    """The terms of a license, signed for one relay. Both parts in base64."""

    document: str
    signature: str

    @classmethod
    def of(cls, signed: SignedCopy) -> SignedCopyBody:
        document, signature = (
            base64.b64encode(x).decode() for x in (signed.document, signed.signature)
        )
        return cls(document=document, signature=signature)

    def signed(self) -> SignedCopy:
        """Return it as bytes. Raises ValueError for what is no base64."""
        document = base64.b64decode(self.document, validate=True)
        return SignedCopy(document, base64.b64decode(self.signature, validate=True))


class AllotmentsDone(Answer, frozen=True, kw_only=True):
    """The answer to a beat.

    `licenses`: terms that have changed; `gone`: licenses of the beat that there are no more; `commands`: of
    operators, until the relay says what they came to; `reported`: up to which event of the relay's stream
    what happened was taken over.
    """

    relay: str
    epoch: int
    number: int
    grants: tuple[GrantBody, ...] = ()
    licenses: tuple[SignedCopyBody, ...] = ()
    gone: tuple[str, ...] = ()
    commands: tuple[CommandBody, ...] = ()
    reported: int = 0


class TermsBody(Wire, frozen=True, kw_only=True):
    """Which licenses a relay asks for: by hashes of their keys, or by their ids."""

    protocol: Number
    key_hashes: Annotated[tuple[KeyHash, ...], Meta(max_length=TERMS_MAX)] = ()
    license_ids: Annotated[tuple[Name, ...], Meta(max_length=TERMS_MAX)] = ()


class TermsDone(Answer, frozen=True, kw_only=True):
    """Those that there are."""

    licenses: tuple[SignedCopyBody, ...] = ()


def wish_body(wish: AllotmentWish, need: int, proof: str) -> WishBody:
    """`need`: how many of the seats that it wants its region needs."""
    return WishBody(
        pool_id=wish.pool_id,
        seats=wish.seats,
        fence=wish.fence,
        held=wish.held,
        want=need,
        spare=max(0, wish.want - need),
        proof=proof,
    )


def wish_of(body: WishBody) -> AllotmentWish:
    return AllotmentWish(body.pool_id, body.seats, body.fence, body.held, body.want)


def grant_body(grant: AllotmentGrant, proof: str, least: int = 0) -> GrantBody:
    return GrantBody(
        pool_id=grant.pool_id,
        seats=grant.seats,
        fence=grant.fence,
        ttl=grant.ttl,
        proof=proof,
        keep=grant.keep,
        least=least,
    )


def grant_of(body: GrantBody) -> AllotmentGrant:
    return AllotmentGrant(body.pool_id, body.seats, body.fence, body.ttl, body.keep)
