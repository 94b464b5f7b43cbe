"""What a relay keeps on disk, `<data>/relay.json`, so that it goes on after a restart as if there was none.

The file is written before each beat leaves and before what an answer gave is granted. It names its own
inode, and the last event of the store: a file that was copied back, or a store that was, is told by that.
Then the relay believes in nothing until its authority has answered, and lets those come back first whom it
may have forgotten.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct, field

from sojourn.clock import host_now, uptime
from sojourn.decoding import prepared
from sojourn.errors import StoreUnavailable
from sojourn.log import get_logger
from sojourn.relay_command import CommandAnswer
from sojourn.relays.elapsed import Instant, Witness
from sojourn.relays.share import Share
from sojourn.stores.folder import RELAY_FILE

log = get_logger(__name__)

STATE_MAX = 67_108_864
"""Bytes of a file that is read: 10,000 pools take less than a twentieth of it."""
BOOT = Path("/proc/sys/kernel/random/boot_id")


@prepared
class RegionState(Struct, frozen=True, kw_only=True):
    """What a relay has committed.

    Attributes: authority: its address; number: of the latest beat; epoch: of the authority, as last heard;
    shares: by pool; proofs: of these, as the authority gave them; witness: the clocks when this was written;
    last_event_id: of the store by then; inode: of the file that this is in; command_seq: of the latest
    command that was taken up; commands: what those came to that the authority has not heard of yet, None:
    under way.
    """

    authority: str
    number: int = 0
    epoch: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    witness: Witness | None = None
    last_event_id: int = 0
    inode: int = 0
    command_seq: int = 0
    commands: dict[str, CommandAnswer | None] = field(default_factory=dict)


class Found(Struct, frozen=True):
    """What a start finds. `put_back`: this is not the file that was written last. `state`: None: none is."""

    state: RegionState | None = None
    put_back: bool = False


class StateFile:
    """The file of one relay. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RELAY_FILE

    def read(self) -> Found:
        """Read what was written last. A file that cannot be read counts as put back."""
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                content = file.read(STATE_MAX)
        except FileNotFoundError:
            return Found()
        except OSError as fault:
            raise StoreUnavailable(
                f"{self.path} cannot be read: {fault.strerror}.",
                hint="See that the server's user owns its data folder.",
            ) from None
        try:
            state = msgspec.json.decode(content, type=RegionState)
        except msgspec.MsgspecError as fault:
            log.warning("relay_state_unreadable", file=str(self.path), error=str(fault))
            return Found(None, put_back=True)
        return Found(state, put_back=state.inode != inode)

    def write(self, state: RegionState) -> RegionState:
        """Write, all or nothing, and have it on the disk when this returns. Raises StoreUnavailable."""
        beside = self.path.with_name(f".{RELAY_FILE}.{os.getpid()}")
        try:
            opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(opened, "wb") as file:
                state = msgspec.structs.replace(state, inode=os.fstat(opened).st_ino)
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(opened)
            beside.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as fault:
            raise StoreUnavailable(
                f"{self.path} cannot be written: {fault.strerror}.",
                hint="A relay gives nothing that it could forget. Look at the disk.",
            ) from None
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        return state


def _sync_folder(folder: Path) -> None:
    """Have a new name on the disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def look() -> Instant:
    """Look at this machine's clocks. Without a name for its boot each process counts as one of its own."""
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = f"process {os.getpid()} {_STARTED}"
    return Instant(boot, uptime(), host_now())


_STARTED = host_now()
Look = Callable[[], Instant]
