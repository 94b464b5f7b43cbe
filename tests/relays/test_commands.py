"""Commands of an authority's operators at its relays: each takes effect once, and is answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.relays.test_services import Sites, seated
from tests.relays.world import FEATURE, Center

from sojourn.clock import DAY, MINUTE
from sojourn.errors import InvalidInput
from sojourn.lease import Lease
from sojourn.relay_command import (
    ANSWERED_FOR,
    PENDING_FOR,
    PENDING_MAX,
    CommandAnswer,
    CommandScope,
    CommandVerb,
    RegionLease,
    RelayCommand,
)
from sojourn.service.commands import CommandState, CommandStatus


@pytest.fixture
def sites(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Sites]:
    with closing(Sites(tmp_path, migrated_sqlite)) as made:
        yield made


def forced(center: Center, user: str) -> list[CommandStatus]:
    """Have a user's seats ended everywhere."""
    scope = CommandScope(user_id=user, feature=FEATURE, license_id=center.license_id)
    return center.commands.send(CommandVerb.FORCE, scope, actor="op")


def states(center: Center) -> list[CommandState]:
    return [each.state for each in center.commands.latest()]


def the_answer(center: Center) -> CommandAnswer:
    [status] = center.commands.latest()
    assert status.command is not None
    assert status.command.answer is not None
    return status.command.answer


def test_a_command_reaches_the_relays_that_have_seats(sites: Sites) -> None:
    """It is pending until the beat after the one that brought it; what it ended is told with names."""
    seated(sites.east, "ann", "bob")
    sites.west.learn()
    sites.west.beat()
    [sent] = forced(sites.center, "ann")
    assert (sent.name, sent.state) == ("east", CommandState.PENDING)
    sites.east.beat()
    assert sites.east.held() == 1
    assert states(sites.center) == [CommandState.PENDING]
    sites.east.beat()
    assert states(sites.center) == [CommandState.DONE]
    answer = the_answer(sites.center)
    assert (answer.ended, answer.remaining) == (1, 0)
    assert [(x.user_id, x.feature) for x in answer.leases] == [("ann", FEATURE)]


def test_the_same_command_again_is_the_one_that_is_pending(sites: Sites) -> None:
    seated(sites.east, "ann")
    first, second = forced(sites.center, "ann"), forced(sites.center, "ann")
    assert first == second
    [other] = forced(sites.center, "bob")
    assert other.command != first[0].command
    sites.east.beat()
    sites.east.beat()
    assert forced(sites.center, "ann") != first


def test_who_comes_back_is_not_ended_again(sites: Sites) -> None:
    """Answers that are lost, doubled or late bring a command again: it has had its effect."""
    seated(sites.east, "ann")
    forced(sites.center, "ann")
    sites.east.beat()
    told = sites.east.wire.answered[-1]
    assert told.commands
    assert sites.east.held() == 0
    assert isinstance(sites.east.acquire("ann"), Lease)
    sites.east.wire.loses_answers = True
    sites.east.beat()  # the authority hears what it came to; the relay does not know that
    sites.east.wire.loses_answers = False
    assert states(sites.center) == [CommandState.DONE]
    sites.east.beat()
    # An answer that was on its way for long says the same once more.
    sites.east.wire.answer = replace(told, number=sites.east.holding.relay.number + 1)
    sites.east.beat()
    assert sites.east.held() == 1
    sites.east.beat()
    assert the_answer(sites.center).fault == ""
    assert the_answer(sites.center).ended == 1


def test_a_command_outlives_a_cut_and_a_restart(sites: Sites) -> None:
    seated(sites.east, "ann")
    sites.east.wire.cut = True
    forced(sites.center, "ann")
    sites.east.beat()
    assert sites.east.held() == 1
    sites.east.restart()
    sites.east.wire.cut = False
    sites.east.beat()
    assert sites.east.held() == 0
    sites.east.restart()  # before it could say so
    assert states(sites.center) == [CommandState.DONE]
    assert the_answer(sites.center).ended == 1


def test_what_was_cut_off_by_a_crash_is_not_done_again(sites: Sites) -> None:
    """It is said that it is not known how far it came."""
    seated(sites.east, "ann")
    forced(sites.center, "ann")

    def crash(_: RelayCommand) -> CommandAnswer:
        raise KeyboardInterrupt

    sites.east.region.carry_out = crash
    with pytest.raises(KeyboardInterrupt):
        sites.east.beat()
    sites.east.restart()
    sites.east.beat()
    assert sites.east.held() == 1
    assert states(sites.center) == [CommandState.UNCLEAR]
    assert the_answer(sites.center).fault == "interrupted"


def test_an_authority_that_was_put_back_repeats_nothing(sites: Sites) -> None:
    """It knows a command as pending that was carried out: the relay says so, and does it not again."""
    seated(sites.east, "ann")
    forced(sites.center, "ann")
    for _ in range(3):
        sites.east.beat()
    assert isinstance(sites.east.acquire("ann"), Lease)
    ledger: Any = sites.center.ledger
    undo = "UPDATE sojourn_relay_commands SET answered_at = NULL, answer = NULL"
    ledger._db.transaction(lambda tx: tx.do(undo, {}))
    assert states(sites.center) == [CommandState.PENDING]
    sites.east.beat()
    sites.east.beat()
    assert sites.east.held() == 1
    assert states(sites.center) == [CommandState.UNCLEAR]
    assert the_answer(sites.center).fault == "done_before"


def test_what_was_answered_is_forgotten_in_the_end(sites: Sites) -> None:
    seated(sites.east, "ann")
    forced(sites.center, "ann")
    sites.east.beat()
    sites.east.beat()
    sites.advance(ANSWERED_FOR + 1)
    seated(sites.west, "bob")
    forced(sites.center, "bob")
    assert [each.name for each in sites.center.commands.latest()] == ["west"]


def test_a_queue_is_bounded(sites: Sites) -> None:
    seated(sites.east, "ann")
    for number in range(PENDING_MAX):
        [sent] = forced(sites.center, f"u{number}")
        assert sent.state is CommandState.PENDING
    [refused] = forced(sites.center, "one more")
    assert (refused.state, refused.command) == (CommandState.REFUSED, None)
    for _ in range(PENDING_MAX):
        sites.east.beat()
    assert set(states(sites.center)) == {CommandState.DONE}


def test_a_command_is_forgotten_when_its_relay_does_not_come_back(sites: Sites) -> None:
    seated(sites.east, "ann")
    forced(sites.center, "ann")
    sites.advance(PENDING_FOR + DAY)
    seated(sites.west, "bob")
    forced(sites.center, "bob")
    assert [each.name for each in sites.center.commands.latest()] == ["west"]


def test_silent_holders_are_cleaned_up(sites: Sites) -> None:
    """The living stay."""
    [ann, bob] = seated(sites.east, "ann", "bob")
    for site in (sites.center.clock, sites.east.clock):
        site.advance(milliseconds=75_000)
    assert sites.east.renew(bob) is not None
    scope = CommandScope(license_id=sites.center.license_id)
    sites.center.commands.send(CommandVerb.CLEANUP, scope, actor="op")
    sites.east.beat()
    sites.east.beat()
    answer = the_answer(sites.center)
    assert (answer.ended, answer.remaining) == (1, 1)
    assert [x.lease_id for x in answer.leases] == [ann.id]


def test_debug_is_asked_once_a_minute(sites: Sites) -> None:
    seated(sites.east, "ann")
    scope = CommandScope(user_id="ann", feature=FEATURE)

    def asked() -> Any:
        [status] = sites.center.commands.debug(scope, actor="op")
        return status

    assert asked().state is CommandState.PENDING
    sites.east.beat()
    sites.east.beat()
    seen = asked()
    assert seen.state is CommandState.DONE
    assert [(x.user_id, x.state) for x in seen.command.answer.leases] == [("ann", "active")]
    sites.advance(MINUTE + 1)
    assert asked().state is CommandState.PENDING


def test_a_license_that_a_relay_does_not_serve_has_nothing_to_end(sites: Sites) -> None:
    seated(sites.east, "ann")
    policy = sites.center.store.pools([sites.center.pool_id])[0]
    assert policy is not None
    scope = CommandScope(license_id="lic_other", user_id="ann", feature=FEATURE)
    command = RelayCommand(
        id="cmd_x", relay=sites.east.api_key.id, seq=0, verb=CommandVerb.FORCE, scope=scope,
        actor="op", asked_at=0,
    )  # fmt: skip
    sites.center.ledger.relay_commands.send(command)
    sites.east.beat()
    sites.east.beat()
    assert states(sites.center) == [CommandState.DONE]
    assert the_answer(sites.center).ended == 0


def test_a_foreign_relay_cannot_answer(sites: Sites) -> None:
    """Only the relay that a command is for says what it came to."""
    seated(sites.east, "ann")
    [sent] = forced(sites.center, "ann")
    assert sent.command is not None
    sites.center.ledger.relay_commands.answered(
        sites.west.api_key.id, {sent.command.id: CommandAnswer(ended=9)}
    )
    assert states(sites.center) == [CommandState.PENDING]


LEASE = RegionLease(
    lease_id="lse_1",
    license_id="lic_1",
    feature="seats",
    user_id="ann",
    client_id="one",
    state="active",
    silent_for=0,
    expires_in=1,
)


@pytest.mark.parametrize(
    "answer",
    [
        CommandAnswer(ended=-1),
        CommandAnswer(remaining=2**60),
        CommandAnswer(fault="\x1b[2J"),
        CommandAnswer(leases=(LEASE,) * 21),
        CommandAnswer(leases=(replace(LEASE, user_id="a\nb"),)),
        CommandAnswer(leases=(replace(LEASE, silent_for=-1),)),
    ],
)
def test_an_answer_that_no_relay_gives(answer: CommandAnswer) -> None:
    """A relay's key may be stolen: what is shown to operators is held to what names may be."""
    CommandAnswer(ended=1, leases=(LEASE,) * 20).check()
    with pytest.raises(InvalidInput):
        answer.check()


def test_numbers_grow_over_a_restore(sites: Sites) -> None:
    """A ledger that was put back gives no number twice, or a relay would pass commands over."""
    commands = sites.center.ledger.relay_commands
    for name in ("one", "two"):
        scope = CommandScope(user_id=name, feature=FEATURE)
        command = RelayCommand(
            id=f"cmd_{name}", relay="r", seq=0, verb=CommandVerb.FORCE, scope=scope, actor="op",
            asked_at=0,
        )  # fmt: skip
        assert commands.send(command) is not None
    [two, one] = sorted(commands.commands(relay="r"), key=lambda x: -x.seq)
    assert two.seq == one.seq + 1
    assert one.seq >= sites.center.clock.now()
