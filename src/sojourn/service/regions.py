"""What the services of a relay need of the region that they serve; `sojourn.region` is what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from sojourn.relay_command import CommandAnswer, RelayCommand
from sojourn.service.seats import SeatGate


class RegionPool(Struct, frozen=True, kw_only=True):
    """What a relay may grant of a pool. `left`: ms until the last seat must be given up; below zero: over."""

    pool_id: str
    seats: int
    held: int
    want: int
    left: int
    granting: bool  # not past its stop line, nor over


class RegionStatus(Struct, frozen=True, kw_only=True):
    """How a relay stands with its authority. Durations in ms."""

    authority: str
    relay: str  # its name there; empty: never heard
    epoch: int
    heard_ago: int | None  # since the last answer; None: none in this process
    fault: str = ""  # why there was no answer to the last beat; empty: there was
    refused: str = ""  # the code by which the last beat was refused
    careful_for: int = 0  # only those get seats who had one
    notes: tuple[str, ...] = ()  # what this process had to mend, or could not believe
    pools: tuple[RegionPool, ...] = ()


class Region(Protocol):
    """A relay's side of the protocol. Safe from several threads, but for `ask`: that is for an event loop."""

    carry_out: Callable[[RelayCommand], CommandAnswer]
    """Does what an operator of the authority wants done here; not called before `prepare`."""

    @property
    def gate(self) -> SeatGate: ...

    def prepare(self) -> None:
        """Take up what was allotted before, before anybody is served. Raises SojournError."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...

    async def ask(self, pool_id: str) -> None:
        """Ask the authority for a seat, or for the terms of a license; return when it has answered, or has
        not within a moment."""

    def learn(self, key_hashes: Sequence[bytes]) -> None:
        """Ask the authority for licenses that are not known here. Raises StoreUnavailable where it does not
        answer."""

    def status(self) -> RegionStatus: ...
